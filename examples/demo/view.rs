//! The live view of a moment, as lines: pure, so that it can be tested without a terminal.

use std::time::Duration;

use sluice_core::{api::Phase, judge::Verdict};

use crate::{
    moment::{Arm, Moment, NUMBERS_TIME, Place, Point},
    text::{Line, Paint},
};

/// Rows of the graph.
const GRAPH_ROWS: usize = 4;
/// Lines of the view without the graph, and a few above it for what was decided.
const ROWS_WITHOUT_GRAPH: usize = 18;
/// A view is never wider than this: bars that are too long are no easier to read.
const WIDEST: usize = 110;

/// The view on a terminal of this size, with or without colours.
pub fn view(moment: &Moment, columns: usize, rows: usize, colour: bool) -> Vec<Line> {
    let columns = columns.min(WIDEST);
    let mut lines = vec![title(moment, columns), Line::new(), standing(moment), steps(moment), Line::new()];
    lines.extend(bars(moment, columns, colour));
    lines.push(Line::new());
    lines.extend(table(moment));
    if rows > ROWS_WITHOUT_GRAPH + GRAPH_ROWS + 1 {
        lines.push(Line::new());
        lines.extend(graph(&moment.history, columns));
    }
    lines.push(Line::new());
    lines.extend(checks(moment));
    lines
}

/// A moment in one line, for logs.
pub fn in_short(moment: &Moment) -> Line {
    let arm = |arm: &Arm| {
        format!(
            "{} intended {}% observed {} failed {} of {} p99 {}",
            arm.name,
            arm.intended,
            percent(arm.observed),
            arm.seen.failed,
            arm.seen.requests,
            millis(arm.seen.p99)
        )
    };
    let canary =
        moment.canary.as_ref().map_or_else(String::new, |canary| format!(" | canary {}", arm(canary)));
    Line::of(Paint::Plain, format!("{}  stable {}{canary}", clock(moment.elapsed), arm(&moment.stable)))
}

/// Minutes, seconds and tenths.
pub fn clock(elapsed: Duration) -> String {
    let tenths = elapsed.as_millis() / 100;
    format!("{}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

fn title(moment: &Moment, columns: usize) -> Line {
    let seconds = moment.elapsed.as_secs();
    let time = format!(" {}:{:02} ──", seconds / 60, seconds % 60);
    let name = " sluice · Rollout models/iris ";
    let between = columns.saturating_sub(2 + name.chars().count() + time.chars().count());
    Line::of(Paint::Dim, "──")
        .and(Paint::Bold, name)
        .and(Paint::Dim, "─".repeat(between))
        .and(Paint::Dim, time)
}

fn standing(moment: &Moment) -> Line {
    let paint = match moment.phase {
        Phase::Healthy => Paint::Green,
        Phase::RolledBack | Phase::Stalled => Paint::Red,
        Phase::Progressing | Phase::Promoting => Paint::Yellow,
        Phase::Pending | Phase::Waiting | Phase::Unknown => Paint::Bold,
    };
    label("phase").and(paint, moment.phase.to_string()).and(Paint::Dim, format!("  {}", moment.message))
}

fn steps(moment: &Moment) -> Line {
    let mut line = label("steps");
    for (index, (weight, place)) in moment.steps.iter().enumerate() {
        if index > 0 {
            line = line.and(Paint::Dim, " ── ");
        }
        let last = index + 1 == moment.steps.len();
        let name = if last { "promotion".to_owned() } else { format!("{weight}%") };
        line = match place {
            Place::Done => line.and(Paint::Green, format!("✓ {name}")),
            Place::Current => line.and(Paint::Yellow, format!("▸ {name}")),
            Place::ToCome => line.and(Paint::Dim, format!("· {name}")),
            Place::Failed => line.and(Paint::Red, format!("✗ {name}")),
        };
    }
    line
}

/// The pair's shares, intended and observed, as bars of one length.
fn bars(moment: &Moment, columns: usize, colour: bool) -> [Line; 2] {
    let intended = f64::from(moment.canary.as_ref().map_or(0, |canary| canary.intended)) / 100.0;
    let observed = moment.canary.as_ref().map_or(Some(0.0), |canary| canary.observed);
    let tail = 16;
    let width = columns.saturating_sub(LABEL + tail);
    let bar = |name: &str, canary: Option<f64>, tail: String| {
        let canary = canary.unwrap_or_default();
        let right = scaled(canary, width).max(usize::from(canary > 0.0)).min(width);
        label(name)
            .and(Paint::Cyan, "▇".repeat(width - right))
            .and(Paint::Yellow, if colour { "▇" } else { "░" }.repeat(right))
            .plain(format!("  {tail}"))
    };
    let whole = (intended * 100.0).round();
    [
        bar("intended", Some(intended), format!("{:>4} : {whole}", 100.0 - whole)),
        bar("observed", observed, observed.map_or_else(String::new, in_two)),
    ]
}

fn in_two(canary: f64) -> String {
    let canary = (canary * 1000.0).round() / 10.0;
    format!("{:>4} : {canary}", ((100.0 - canary) * 10.0).round() / 10.0)
}

fn table(moment: &Moment) -> Vec<Line> {
    let head = |line: Line, name: &str, end: usize| {
        let start = end.saturating_sub(name.chars().count());
        line.to(start).and(Paint::Dim, name)
    };
    let mut titles = label(&format!("last {} s", NUMBERS_TIME.as_secs()));
    for (name, end) in ["intended", "observed", "requests", "failed", "", "p50", "p99"].iter().zip(ENDS) {
        titles = head(titles, name, end);
    }
    let mut lines = vec![titles, row("stable", Paint::Cyan, Some(&moment.stable))];
    lines.push(row("canary", Paint::Yellow, moment.canary.as_ref()));
    lines
}

/// Where the columns of the table end.
const ENDS: [usize; 7] = [30, 40, 50, 58, 65, 71, 77];
/// Width of what begins a line.
const LABEL: usize = 11;

fn label(text: &str) -> Line {
    Line::of(Paint::Dim, format!(" {text}")).to(LABEL)
}

fn row(role: &str, paint: Paint, arm: Option<&Arm>) -> Line {
    let Some(arm) = arm else { return label(role).and(Paint::Dim, "none") };
    let failing = if arm.seen.failed > 0 { Paint::Red } else { Paint::Plain };
    let cells = [
        (Paint::Bold, format!("{}%", arm.intended)),
        (Paint::Bold, percent(arm.observed)),
        (Paint::Plain, arm.seen.requests.to_string()),
        (failing, arm.seen.failed.to_string()),
        (failing, percent(ratio(arm.seen.failed, arm.seen.requests))),
        (Paint::Plain, if arm.seen.requests > 0 { millis(arm.seen.p50) } else { "–".into() }),
        (Paint::Plain, if arm.seen.requests > 0 { millis(arm.seen.p99) } else { "–".into() }),
    ];
    let mut line = label(role).and(paint, arm.name.clone());
    for ((paint, text), end) in cells.into_iter().zip(ENDS) {
        line = line.to(end.saturating_sub(text.chars().count())).and(paint, text);
    }
    line
}

/// The target's share over time, a column each half second, red while it failed requests.
fn graph(history: &[Point], columns: usize) -> Vec<Line> {
    let width = columns.saturating_sub(LABEL + 1);
    let shown = &history[history.len().saturating_sub(width)..];
    let mut lines = Vec::new();
    for row in (0..GRAPH_ROWS).rev() {
        let label = match row {
            0 => "0%",
            1 => "share",
            2 => "target's",
            _ => "100%",
        };
        let mut line = self::label(label);
        for point in shown {
            let eighths = scaled(point.share, GRAPH_ROWS * 8).max(usize::from(point.share > 0.0));
            let here = eighths.saturating_sub(row * 8).min(8);
            let paint = match (point.failing, point.stable) {
                (true, _) => Paint::Red,
                (false, true) => Paint::Cyan,
                (false, false) => Paint::Yellow,
            };
            let level = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'].get(here).copied().unwrap_or(' ');
            line = if here == 0 && row == 0 {
                line.and(Paint::Dim, "·")
            } else {
                line.and(paint, level.to_string())
            };
        }
        lines.push(line);
    }
    lines
}

fn checks(moment: &Moment) -> Vec<Line> {
    let begin = |index: usize| label(if index == 0 { "checks" } else { "" });
    let mut lines = Vec::new();
    if moment.checks.is_empty() {
        for (index, (name, rule)) in moment.rules.iter().enumerate() {
            lines.push(begin(index).and(Paint::Dim, format!("· {name:<8}{rule}")));
        }
    }
    for (index, check) in moment.checks.iter().enumerate() {
        let (paint, sign) = match check.verdict {
            Verdict::Pass => (Paint::Green, '✓'),
            Verdict::Inconclusive if check.failures == 0 => (Paint::Dim, '?'),
            Verdict::Inconclusive => (Paint::Yellow, '!'),
            Verdict::Fail => (Paint::Red, '✗'),
        };
        let name = format!("{sign} {:<8}", check.name);
        lines.push(begin(index).and(paint, name).plain(check.message.clone()));
    }
    lines
}

#[allow(clippy::cast_precision_loss)]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of a small width
fn scaled(share: f64, width: usize) -> usize {
    (share.clamp(0.0, 1.0) * width as f64).round() as usize
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}%", share * 100.0))
}

fn millis(took: Duration) -> String {
    format!("{}ms", took.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::Seen;

    fn moment() -> Moment {
        let arm = |name: &str, intended, observed, failed| Arm {
            name: name.into(),
            intended,
            observed: Some(observed),
            seen: Seen {
                requests: 180,
                failed,
                p50: Duration::from_millis(9),
                p99: Duration::from_millis(12),
            },
        };
        Moment {
            elapsed: Duration::from_millis(65_430),
            phase: Phase::Progressing,
            message: "step 2: weight 25% for 3s".into(),
            steps: vec![(5, Place::Done), (25, Place::Failed), (100, Place::ToCome)],
            stable: arm("iris-v2", 75, 0.754, 0),
            canary: Some(arm("iris-v3", 25, 0.246, 36)),
            rules: vec![("errors".into(), "at most 1% may fail".into()); 2],
            history: vec![Point { share: 0.25, failing: true, stable: false }; 300],
            ..Moment::default()
        }
    }

    fn shown(columns: usize, rows: usize) -> Vec<String> {
        view(&moment(), columns, rows, false).iter().map(|line| line.show(None, false)).collect()
    }

    #[test]
    fn both_shares_and_both_arms_stand_beside_each_other() {
        let lines = shown(80, 24);
        let line = |start: &str| lines.iter().find(|line| line.starts_with(start)).unwrap().clone();
        assert!(line(" intended").ends_with("  75 : 25"), "{}", line(" intended"));
        assert!(line(" observed").ends_with("75.4 : 24.6"));
        let cells: Vec<String> = line(" canary").split_whitespace().map(str::to_owned).collect();
        assert_eq!(cells, ["canary", "iris-v3", "25%", "24.6%", "180", "36", "20.0%", "9ms", "12ms"]);
        assert_eq!(line(" steps"), " steps     ✓ 5% ── ✗ 25% ── · promotion");
        assert!(lines[0].ends_with("1:05 ──"));
    }

    #[test]
    fn nothing_is_wider_than_80_columns_and_the_graph_needs_room() {
        for (rows, graph) in [(24, true), (20, false)] {
            let lines = shown(80, rows);
            assert!(lines.len() < rows, "what was decided needs a line, too");
            assert_eq!(lines.iter().any(|line| line.starts_with(" 100%")), graph);
            for line in lines {
                assert!(line.chars().count() <= 80, "{line:?}");
            }
        }
    }

    #[test]
    fn a_small_share_is_still_seen() {
        let mut moment = moment();
        moment.history = vec![Point { share: 0.005, failing: false, stable: false }];
        let graph = graph(&moment.history, 80);
        assert!(graph[GRAPH_ROWS - 1].show(None, false).ends_with('▁'));
    }

    #[test]
    fn times_are_minutes_seconds_and_tenths() {
        for (millis, text) in [(0, "0:00.0"), (5_199, "0:05.1"), (61_050, "1:01.0")] {
            assert_eq!(clock(Duration::from_millis(millis)), text);
        }
    }
}
