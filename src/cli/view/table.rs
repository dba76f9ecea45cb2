//! Many Rollouts, a line each, fitted to the screen.
//!
//! The one column that wants more room than there is says why a Rollout stands where it stands. Where it does not
//! fit beside the others, it goes into a line of its own below them: half a reason helps nobody.

use chrono::{DateTime, Utc};
use sluice_core::api::{ConditionStatus, ConditionType, Phase, Rollout, RolloutStatus};

use super::{
    Listed, Screen, age,
    text::{Paint, cut_end, cut_middle, pad, plain, width, wrap},
};

/// Spaces between columns.
const GAP: usize = 2;
/// As much room suffices for a reason beside the other columns, its end left out.
const ENOUGH: usize = 40;
/// Names are not cut below this to make room for a reason beside them.
const SHORT_NAME: usize = 16;
/// Names are not cut below this at all.
const SHORTEST_NAME: usize = 8;
/// What stands where there is nothing.
const NOTHING: &str = "-";

/// Which columns a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The namespace first.
    pub namespace: bool,
    /// All there are, and nothing is cut.
    pub wide: bool,
}

/// A table whose columns were fitted to what it began with; later rows line up with these.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Columns,
    screen: Screen,
    titles: Vec<Title>,
    widths: Vec<usize>,
    /// Room for the reason beside the other columns; none where it goes below them.
    beside: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Title {
    text: &'static str,
    /// Whether the middle may be left out.
    is_name: bool,
}

/// A row: its cells but the last, and why.
struct Row {
    cells: Vec<(String, Paint)>,
    why: String,
    /// Whether the reason says more than the phase.
    why_matters: bool,
}

/// The whole table: titles and a row for each Rollout.
pub fn rollouts(listed: &[Listed], columns: Columns, now: DateTime<Utc>, screen: &Screen) -> String {
    let table = Table::fit(listed, columns, now, screen);
    let rows: String = listed.iter().map(|one| table.row(one, now)).collect();
    table.header() + &rows
}

impl Table {
    /// A table with columns as wide as `listed` needs and the screen allows.
    pub fn fit(listed: &[Listed], columns: Columns, now: DateTime<Utc>, screen: &Screen) -> Self {
        let titles = titles(columns);
        let rows: Vec<Row> = listed.iter().map(|one| cells(one, columns, now)).collect();
        let natural: Vec<usize> = titles
            .iter()
            .enumerate()
            .map(|(index, title)| {
                let cells = rows.iter().map(|row| width(&row.cells[index].0));
                cells.max().unwrap_or(0).max(width(title.text))
            })
            .collect();
        let mut table =
            Self { columns, screen: screen.clone(), titles, widths: natural, beside: Some(usize::MAX) };
        let Some(screen_width) = screen.width.filter(|_| !columns.wide) else {
            return table;
        };
        let longest = rows.iter().filter(|row| row.why_matters).map(|row| width(&row.why)).max().unwrap_or(0);
        let wanted = longest.clamp(width("WHY"), ENOUGH);
        let fitted = table.shrunk(screen_width.saturating_sub(wanted + GAP), SHORT_NAME);
        let room = screen_width.saturating_sub(total(&fitted) + GAP);
        if room >= wanted {
            (table.widths, table.beside) = (fitted, Some(room));
        } else {
            (table.widths, table.beside) = (table.shrunk(screen_width, SHORTEST_NAME), None);
        }
        table
    }

    /// The widths after names were cut, the widest first, until all is within `limit` or no name is longer than `shortest`.
    fn shrunk(&self, limit: usize, shortest: usize) -> Vec<usize> {
        let mut widths = self.widths.clone();
        while total(&widths) > limit {
            let names = self.titles.iter().zip(&mut widths).filter(|(title, _)| title.is_name);
            match names.map(|(_, width)| width).max_by_key(|width| **width) {
                Some(widest) if *widest > shortest => *widest -= 1,
                Some(_) | None => break,
            }
        }
        widths
    }

    /// Makes room for what later rows may hold, so that they line up where nothing can be taken back.
    pub fn widen(&mut self, listed: &Listed, now: DateTime<Utc>) {
        let cells = cells(listed, self.columns, now).cells;
        for ((title, widest), (cell, _)) in self.titles.iter().zip(&mut self.widths).zip(&cells) {
            let phases = Phase::ALL.iter().map(|phase| width(&phase.to_string())).max();
            let least = if title.text == "PHASE" { phases.unwrap_or(0) } else { 0 };
            *widest = (*widest).max(width(cell)).max(least);
        }
    }

    /// The titles.
    pub fn header(&self) -> String {
        let titles = self.titles.iter().map(|title| (title.text.to_owned(), Paint::Bold));
        let why = if self.beside.is_some() { "WHY" } else { "" };
        self.line(titles, (why, Paint::Bold))
    }

    /// The row of one Rollout.
    pub fn row(&self, listed: &Listed, now: DateTime<Utc>) -> String {
        let Row { cells, why, why_matters } = cells(listed, self.columns, now);
        let Some(room) = self.beside else {
            let mut text = self.line(cells.into_iter(), ("", Paint::Plain));
            if why_matters && !why.is_empty() {
                let indent = " ".repeat(GAP);
                for line in wrap(&why, self.screen.width.map(|width| width.saturating_sub(GAP))) {
                    text += &format!("{indent}{}\n", Paint::Dim.on(self.screen.colour, &line));
                }
            }
            return text;
        };
        self.line(cells.into_iter(), (&cut_end(&why, room), Paint::Plain))
    }

    fn line(&self, cells: impl Iterator<Item = (String, Paint)>, why: (&str, Paint)) -> String {
        let colour = self.screen.colour;
        let mut line = String::new();
        for ((cell, paint), (title, width)) in cells.zip(self.titles.iter().zip(&self.widths)) {
            let cell = if title.is_name && self.screen.width.is_some() && !self.columns.wide {
                cut_middle(&cell, *width)
            } else {
                cell
            };
            line += &paint.on(colour, &pad(&cell, *width));
            line += &" ".repeat(GAP);
        }
        line += &why.1.on(colour, why.0);
        format!("{}\n", line.trim_end())
    }
}

/// Columns of all cells with the gaps between them.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

fn titles(columns: Columns) -> Vec<Title> {
    let name = |text| Title { text, is_name: true };
    let word = |text| Title { text, is_name: false };
    let mut titles = vec![
        name("NAME"),
        word("PHASE"),
        word("STEP"),
        word("WEIGHT"),
        name("STABLE"),
        name("CANARY"),
        word("AGE"),
    ];
    if columns.namespace {
        titles.insert(0, name("NAMESPACE"));
    }
    if columns.wide {
        titles.extend([word("DECIDED"), word("REASON")]);
    }
    titles
}

fn cells(listed: &Listed, columns: Columns, now: DateTime<Utc>) -> Row {
    let created = listed.created().map_or_else(|| NOTHING.to_owned(), |created| age(created, now));
    let mut row = match listed {
        Listed::Readable(rollout) => readable(rollout, columns, created, now),
        Listed::Unreadable(unreadable) => {
            let nothing = || (NOTHING.to_owned(), Paint::Dim);
            let mut cells = vec![
                (unreadable.name.clone(), Paint::Plain),
                ("?".to_owned(), Paint::Red),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                (created, Paint::Plain),
            ];
            if columns.wide {
                cells.extend([nothing(), nothing()]);
            }
            let why = format!("cannot be read: {}", plain(&unreadable.cause));
            Row { cells, why, why_matters: true }
        }
    };
    if columns.namespace {
        row.cells.insert(0, (listed.namespace(), Paint::Plain));
    }
    debug_assert_eq!(row.cells.len(), titles(columns).len(), "{}", listed.name());
    row
}

fn readable(rollout: &Rollout, columns: Columns, age_of_it: String, now: DateTime<Utc>) -> Row {
    let status = rollout.status.as_ref();
    let or_nothing = |text: Option<String>| match text.filter(|text| !text.is_empty()) {
        Some(text) => (plain(&text), Paint::Plain),
        None => (NOTHING.to_owned(), Paint::Dim),
    };
    let predictor = |predictor: &sluice_core::Predictor| {
        if columns.wide { predictor.revision() } else { predictor.short() }
    };
    let phase = status.map(|status| status.phase).unwrap_or_default();
    let canary = status.and_then(|status| status.canary.as_ref());
    let mut cells = vec![
        (rollout.metadata.name.clone().unwrap_or_default(), Paint::Plain),
        (phase.to_string(), paint_of(phase)),
        or_nothing(status.and_then(|status| status.step.clone())),
        or_nothing(canary.and(status).map(|status| format!("{}%", status.weight))),
        or_nothing(status.and_then(|status| status.stable.as_ref()).map(predictor)),
        or_nothing(canary.map(predictor)),
        (age_of_it, Paint::Plain),
    ];
    if columns.wide {
        let last = status.and_then(|status| status.decisions.last());
        cells.push(or_nothing(last.map(|decision| age(decision.at, now))));
        cells.push(or_nothing(status.and_then(|status| status.reason).map(|reason| reason.to_string())));
    }
    let why = match status {
        None => "the controller has not looked at it yet".to_owned(),
        Some(status) if status.message.is_empty() => {
            status.reason.map_or_else(String::new, |reason| reason.to_string())
        }
        Some(status) => plain(&status.message),
    };
    // At rest nobody looks closer, unless the line says so.
    let unguarded = status.filter(|_| phase == Phase::Healthy).and_then(unguarded);
    let why_matters = phase != Phase::Healthy || unguarded.is_some();
    Row { cells, why: unguarded.unwrap_or(why), why_matters }
}

/// What is said of a stable that was changed past every check.
fn unguarded(status: &RolloutStatus) -> Option<String> {
    let mut conditions = status.conditions.iter();
    let said = conditions.find(|condition| condition.kind == ConditionType::Guarded)?;
    (said.status == ConditionStatus::False).then(|| format!("not guarded: {}", plain(&said.message)))
}

/// Green is well, red and yellow are for a person to look at.
pub(super) fn paint_of(phase: Phase) -> Paint {
    match phase {
        Phase::Pending | Phase::Unknown => Paint::Dim,
        Phase::Healthy => Paint::Green,
        Phase::Progressing | Phase::Promoting => Paint::Cyan,
        Phase::Waiting => Paint::Yellow,
        Phase::RolledBack | Phase::Stalled => Paint::Red,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::cli::view::{
        Unreadable,
        fixtures::{ago, healthy, listed, new, now, rolled_back, screen, unguarded, waiting},
    };

    fn some() -> Vec<Listed> {
        vec![
            listed(healthy("churn")),
            listed(waiting("iris")),
            listed(new("mnist")),
            listed(rolled_back("wine")),
            Listed::Unreadable(Unreadable {
                namespace: "models".into(),
                name: "zoo".into(),
                created: Some(ago(90)),
                cause: "unknown variant `Flying`".into(),
            }),
        ]
    }

    fn long() -> Vec<Listed> {
        let name = "fraud-detector-for-card-payments-in-europe";
        vec![listed(waiting(name)), listed(healthy("iris"))]
    }

    #[test]
    fn short_names_leave_room_for_the_reason_at_120_columns() {
        assert_snapshot!(rollouts(&some(), Columns::default(), now(), &screen(120)));
    }

    #[test]
    fn at_80_columns_the_reason_goes_below() {
        assert_snapshot!(rollouts(&some(), Columns::default(), now(), &screen(80)));
    }

    #[test]
    fn long_names_lose_their_middle_at_80_columns() {
        let columns = Columns { namespace: true, wide: false };
        assert_snapshot!(rollouts(&long(), columns, now(), &screen(80)));
    }

    #[test]
    fn nothing_is_cut_where_there_is_no_terminal() {
        assert_snapshot!(rollouts(&long(), Columns::default(), now(), &screen(None)));
    }

    #[test]
    fn a_stable_that_was_changed_in_place_is_said_in_its_line() {
        let all = [listed(unguarded("churn")), listed(healthy("iris"))];
        let text = rollouts(&all, Columns::default(), now(), &screen(None));
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("not guarded: predictor main was")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("churn"), "{text}");
    }

    #[test]
    fn a_wide_table_shows_whole_revisions() {
        assert_snapshot!(rollouts(&some(), Columns { namespace: true, wide: true }, now(), &screen(80)));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let all: Vec<Listed> = some().into_iter().chain(long()).collect();
        for width in 80..160 {
            for namespace in [false, true] {
                let text = rollouts(&all, Columns { namespace, wide: false }, now(), &screen(width));
                for line in text.lines() {
                    assert!(super::width(line) <= width, "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let coloured = Screen { colour: true, ..screen(80) };
        let text = rollouts(&some(), Columns::default(), now(), &coloured);
        assert!(text.contains("\u{1b}[31mRolledBack"), "{text:?}");
        let mut bare = String::new();
        let mut parts = text.split('\u{1b}');
        bare.push_str(parts.next().unwrap());
        parts.for_each(|part| bare.push_str(part.split_once('m').unwrap().1));
        let trimmed: Vec<_> = bare.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n") + "\n", rollouts(&some(), Columns::default(), now(), &screen(80)));
    }
}
