//! What was decided lately: when, what, by whom and why.

use chrono::{DateTime, Utc};
use sluice_core::api::{Decision, DecisionKind, Given, RolloutStatus};

use super::{
    Screen, age,
    detail::{indented, title},
    text::{Paint, pad, plain, width},
};

/// How many are shown.
const SHOWN: usize = 5;

pub(super) fn section(status: &RolloutStatus, now: DateTime<Utc>, screen: &Screen) -> Vec<String> {
    if status.decisions.is_empty() {
        return Vec::new();
    }
    let newest: Vec<&Decision> = status.decisions.iter().rev().take(SHOWN).collect();
    let mut lines = vec![title("DECISIONS", "newest first", screen)];
    let column = |cell: fn(&Decision) -> String| {
        newest.iter().map(|decision| width(&cell(decision))).max().unwrap_or(0)
    };
    let (numbers, kinds, weights) = (column(number), column(kind), column(weight));
    let ages = newest.iter().map(|decision| age(decision.at, now).len()).max().unwrap_or(0);
    for decision in newest {
        let when = format!("{:>ages$} ago", age(decision.at, now));
        let what = pad(&kind(decision), kinds);
        let line = format!(
            "  {}  {when}  {}  {}{}",
            pad(&number(decision), numbers),
            paint(decision.kind).on(screen.colour, &what),
            pad(&weight(decision), weights),
            decision.by.as_deref().map_or_else(String::new, |by| format!("  by {}", plain(by))),
        );
        lines.push(line.trim_end().to_owned());
        let why = indented(&plain(&decision.message), 4, screen);
        lines.extend(why.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
    }
    lines
}

/// One decision as a line of a log.
pub(super) fn log_line(decision: &Decision) -> String {
    let by = decision.by.as_deref().map_or_else(String::new, |by| format!(" by {}", plain(by)));
    format!(
        "{}  {}  {}  {}{by}: {}",
        decision.at.format("%Y-%m-%dT%H:%M:%SZ"),
        number(decision),
        kind(decision),
        weight(decision),
        plain(&decision.message)
    )
}

fn kind(decision: &Decision) -> String {
    format!("{:?}", decision.kind)
}

fn number(decision: &Decision) -> String {
    format!("#{}", decision.seq)
}

fn weight(decision: &Decision) -> String {
    let [from, to] = [decision.from_given(), decision.given()].map(|given| in_short(&given));
    // After a promotion there is no canary, and its 0% would read as a loss.
    if decision.kind == DecisionKind::Promoted || from == to { from } else { format!("{from} → {to}") }
}

/// What a canary gets, as far as a column has room for it: which requests a match takes stands beside its step.
pub(super) fn in_short(given: &Given) -> String {
    let mut parts = Vec::new();
    if given.weight > 0 || given.beside.is_nothing() {
        parts.push(format!("{}%", given.weight));
    }
    if !given.beside.matches.is_empty() {
        parts.push("match".to_owned());
    }
    if !given.beside.mirror.is_nothing() {
        parts.push(format!("mirror {}", given.beside.mirror));
    }
    parts.join("+")
}

fn paint(kind: DecisionKind) -> Paint {
    match kind {
        DecisionKind::Promoting | DecisionKind::Promoted => Paint::Green,
        DecisionKind::Withdrawn
        | DecisionKind::Overdue
        | DecisionKind::RolledBack
        | DecisionKind::Recovered => Paint::Red,
        DecisionKind::Approved | DecisionKind::Paused | DecisionKind::Resumed | DecisionKind::Retried => {
            Paint::Yellow
        }
        DecisionKind::Adopted
        | DecisionKind::Started
        | DecisionKind::Entered
        | DecisionKind::Superseded
        | DecisionKind::Cancelled
        | DecisionKind::Observed
        | DecisionKind::Lost
        | DecisionKind::Retired
        | DecisionKind::Released
        | DecisionKind::Unknown => Paint::Cyan,
    }
}
