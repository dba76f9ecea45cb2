//! What checks would have said of recorded history.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sluice_core::{
    api::{CheckRecord, GoDuration},
    judge::Verdict,
    plan::MetricsPlan,
    replay::{Outcome, Replayed, Summary},
};

use super::{
    Screen,
    checks::{arm, mark},
    detail::{indented, title},
    text::{Paint, pad, plain, thousands, width, wrap},
};
use crate::cli::replay::Told;

/// So many changes are shown to people; programs get all.
const MOST_CHANGES: usize = 200;

/// A time as it is given on a command line.
pub fn instant(at: DateTime<Utc>) -> String {
    let form = if at.timestamp_subsec_millis() == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
    at.to_rfc3339_opts(form, true)
}

/// The name of a profile, as manifests have it.
pub fn profile(metrics: &MetricsPlan) -> String {
    let (MetricsPlan::Source { profile, .. } | MetricsPlan::Scrape { profile, .. }) = metrics;
    serde_json::to_value(profile).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// For people.
pub(in crate::cli) fn replay(told: &Told, screen: &Screen) -> String {
    let heading = format!(
        "{}, replayed from {} to {}, a look every {}",
        plain(&told.name),
        instant(told.from),
        instant(told.interrupted.unwrap_or(told.until)),
        GoDuration(told.every)
    );
    let mut lines = vec![Paint::Bold.on(screen.colour, &heading)];
    let arms = format!(
        "stable {}, canary {}, metrics of profile {}",
        plain(&told.pair.stable.to_string()),
        plain(&told.pair.canary.to_string()),
        told.profile
    );
    lines.extend(indented(&arms, 2, screen).into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
    lines.push(String::new());
    lines.extend(changes(&told.found, screen));
    lines.push(String::new());
    lines.extend(summary(&told.found, screen));
    lines.push(String::new());
    for remark in &told.remarks {
        lines.extend(wrap(&plain(remark), screen.width));
    }
    lines.extend(wrap(&ended(told), screen.width));
    lines.join("\n") + "\n"
}

fn changes(found: &Replayed, screen: &Screen) -> Vec<String> {
    let mut lines =
        vec![title("VERDICTS", "each time one changed: what was seen of the canary, and of stable", screen)];
    let shown = &found.changes[..found.changes.len().min(MOST_CHANGES)];
    let column = |cell: &dyn Fn(&CheckRecord) -> String| {
        shown.iter().map(|(_, record)| width(&cell(record))).max().unwrap_or(0)
    };
    let canary =
        |record: &CheckRecord| record.value.map_or_else(|| arm(record.canary), |value| value.to_string());
    let widths = [
        column(&|record| plain(&record.name)),
        column(&|record| record.verdict.to_string()),
        column(&canary),
    ];
    for (at, record) in shown {
        let (mark, paint) = mark(record.verdict);
        let line = format!(
            "  {}  {} {}  {}  {}  {}",
            instant(*at),
            paint.on(screen.colour, mark),
            pad(&plain(&record.name), widths[0]),
            pad(&record.verdict.to_string(), widths[1]),
            pad(&canary(record), widths[2]),
            if record.stable.is_some() { arm(record.stable) } else { String::new() }
        );
        lines.push(line.trim_end().to_owned());
        if record.verdict != Verdict::Pass {
            let why = indented(&plain(&record.message), 4, screen);
            lines.extend(why.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
        }
    }
    let more = found.more_changes + (found.changes.len() - shown.len()) as u64;
    if more > 0 {
        lines.push(format!("  and {} more: -o json has them", thousands(more)));
    }
    lines
}

fn summary(found: &Replayed, screen: &Screen) -> Vec<String> {
    let silent = match found.silent {
        0 => String::new(),
        silent => format!(", {} of them without a new sample", thousands(silent)),
    };
    let mut lines = vec![title("CHECKS", &format!("{} looks{silent}", thousands(found.looks)), screen)];
    let titles = ["CHECK", "PASS", "INCONCLUSIVE", "FAIL", "FIRST FAIL"].map(str::to_owned);
    let row = |check: &Summary| {
        let [pass, unknown, fail] = check.said.map(thousands);
        let first = check.first_fail.as_ref().map_or_else(|| "-".to_owned(), |(at, _)| instant(*at));
        let name = if check.advisory { format!("{} (advisory)", check.name) } else { check.name.clone() };
        [plain(&name), pass, unknown, fail, first]
    };
    let rows: Vec<[String; 5]> = found.checks.iter().map(row).collect();
    let all: Vec<&[String; 5]> = [&titles].into_iter().chain(&rows).collect();
    let column = |index: usize| all.iter().map(|row| width(&row[index])).max().unwrap_or(0);
    for (number, row) in all.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().enumerate().map(|(index, cell)| pad(cell, column(index))).collect();
        let line = format!("    {}", cells.join("  ").trim_end());
        lines.push(if number == 0 { Paint::Dim.on(screen.colour, &line) } else { line });
    }
    lines
}

fn ended(told: &Told) -> String {
    match (&told.found.stopped, told.found.outcome()) {
        (Some((at, by)), _) => {
            let by: Vec<String> =
                by.iter().map(|record| format!("{}: {}", record.name, record.message)).collect();
            plain(&format!("A rollout would have been rolled back at {}: {}.", instant(*at), by.join("; ")))
        }
        (None, Outcome::Unknown) => {
            "No check failed, and after the last look some lacked evidence: a step would not have ended."
                .to_owned()
        }
        (None, Outcome::Passed | Outcome::RolledBack) => {
            "No check failed, and after the last look none lacked evidence: a step could have ended."
                .to_owned()
        }
    }
}

/// For programs.
pub(in crate::cli) fn replayed(told: &Told) -> Value {
    let found = &told.found;
    let when = |(at, record): &(DateTime<Utc>, CheckRecord)| json!({"at": instant(*at), "check": record});
    let check = |check: &Summary| {
        let [pass, inconclusive, fail] = check.said;
        json!({
            "name": check.name, "advisory": check.advisory,
            "pass": pass, "inconclusive": inconclusive, "fail": fail,
            "firstFail": check.first_fail.as_ref().map(when),
        })
    };
    json!({
        "rollout": told.name, "from": instant(told.from), "to": instant(told.until),
        "every": GoDuration(told.every), "interruptedAt": told.interrupted.map(instant),
        "stable": told.pair.stable.revision(), "canary": told.pair.canary.revision(), "profile": told.profile,
        "outcome": format!("{:?}", found.outcome()), "looks": found.looks, "silentLooks": found.silent,
        "rolledBack": found.stopped.as_ref().map(|(at, by)| json!({"at": instant(*at), "checks": by})),
        "requests": {
            "canary": {"all": found.canary.requests, "failed": found.canary.errors},
            "stable": {"all": found.stable.requests, "failed": found.stable.errors},
        },
        "checks": found.checks.iter().map(check).collect::<Vec<_>>(),
        "changes": found.changes.iter().map(when).collect::<Vec<_>>(), "moreChanges": found.more_changes,
        "remarks": told.remarks,
    })
}
