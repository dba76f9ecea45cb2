//! What the checks said when they were last written down, with both arms' numbers.

use chrono::{DateTime, Utc};
use sluice_core::{
    api::{ArmRecord, CheckRecord, Rollout, RolloutStatus},
    judge::Verdict,
    plan::PlannedCheck,
};

use super::{
    Screen, age,
    detail::{indented, title},
    steps::{in_flight, plan},
    text::{Paint, pad, plain, share, thousands, width},
};

pub(super) fn section(
    rollout: &Rollout,
    status: &RolloutStatus,
    now: DateTime<Utc>,
    screen: &Screen,
) -> Vec<String> {
    let judged = status.decisions.iter().rev().find(|decision| !decision.checks.is_empty());
    let (remark, checks) = match (status.checks.is_empty(), judged) {
        (false, _) => ("of the step in flight".to_owned(), &status.checks),
        (true, Some(decision)) if in_flight(status).is_none() => {
            (format!("at decision {}, {} ago", decision.seq, age(decision.at, now)), &decision.checks)
        }
        (true, _) => return rules(rollout, status, screen),
    };
    let mut lines = vec![title("CHECKS", &remark, screen)];
    lines.extend(table(checks, screen));
    lines
}

/// What will be checked, where nothing was yet.
fn rules(rollout: &Rollout, status: &RolloutStatus, screen: &Screen) -> Vec<String> {
    let Ok(plan) = plan(rollout, status) else { return Vec::new() };
    if plan.checks.is_empty() {
        return Vec::new();
    }
    let longest = plan.checks.iter().map(|check| width(&check.name)).max().unwrap_or(0);
    let mut lines = vec![title("CHECKS", "no verdict yet", screen)];
    lines.extend(
        plan.checks.iter().map(|check| format!("    {}  {}", pad(&plain(&check.name), longest), rule(check))),
    );
    lines
}

/// What a check is for, in words.
pub(super) fn rule(check: &PlannedCheck) -> String {
    check.in_words()
}

/// A line for each check, and below it why where it does not pass.
fn table(checks: &[CheckRecord], screen: &Screen) -> Vec<String> {
    let rows: Vec<[String; 4]> = checks
        .iter()
        .map(|check| {
            let canary = check.value.map_or_else(|| arm(check.canary), |value| value.to_string());
            [plain(&check.name), check.verdict.to_string(), canary, arm(check.stable)]
        })
        .collect();
    let titles = ["CHECK", "VERDICT", "CANARY", "STABLE"];
    let column =
        |index: usize| rows.iter().map(|row| width(&row[index])).max().unwrap_or(0).max(width(titles[index]));
    let widths = [column(0), column(1), column(2)];
    let joined = |cells: [&str; 4]| {
        let [name, verdict, canary, stable] = cells;
        let [first, second, third] = widths;
        format!("{}  {}  {}  {stable}", pad(name, first), pad(verdict, second), pad(canary, third))
            .trim_end()
            .to_owned()
    };
    let mut lines = vec![format!("    {}", Paint::Dim.on(screen.colour, &joined(titles)))];
    for (check, row) in checks.iter().zip(&rows) {
        let (mark, paint) = mark(check.verdict);
        let cells = [row[0].as_str(), &row[1], &row[2], &row[3]];
        lines.push(format!("  {} {}", paint.on(screen.colour, mark), joined(cells)));
        if check.verdict != Verdict::Pass {
            let why = indented(&plain(&check.message), 4, screen);
            lines.extend(why.into_iter().map(|line| paint.on(screen.colour, &line)));
        }
    }
    lines
}

pub(super) fn mark(verdict: Verdict) -> (&'static str, Paint) {
    match verdict {
        Verdict::Pass => ("✓", Paint::Green),
        Verdict::Inconclusive => ("?", Paint::Yellow),
        Verdict::Fail => ("✗", Paint::Red),
    }
}

/// Bad requests of all, and their share.
pub(super) fn arm(arm: Option<ArmRecord>) -> String {
    match arm {
        None => "-".to_owned(),
        Some(ArmRecord { requests: 0, .. }) => "no requests".to_owned(),
        Some(ArmRecord { requests, bad }) => {
            format!("{} of {} ({})", thousands(bad), thousands(requests), share(bad, requests))
        }
    }
}
