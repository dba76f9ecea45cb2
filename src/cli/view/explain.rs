//! One decision, in sentences.

use chrono::{DateTime, SecondsFormat, Utc};
use kube::ResourceExt;
use sluice_core::{
    api::{CheckRecord, Decision, DecisionKind, EffectRecord, Rollout, RolloutStatus, WriteRecord},
    judge::Verdict,
};

use super::{
    Screen, age,
    checks::{arm, mark},
    detail::{indented, title},
    text::{Paint, plain, wrap},
};

/// Why `decision` was made, of the Rollout whose `status` it is in.
pub fn explanation(
    rollout: &Rollout,
    status: &RolloutStatus,
    decision: &Decision,
    now: DateTime<Utc>,
    screen: &Screen,
) -> String {
    let sections = [
        head(rollout, decision, now, screen),
        checks(decision, screen),
        written(decision, screen),
        meanwhile(status, decision, screen),
    ];
    let shown: Vec<String> =
        sections.into_iter().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n")).collect();
    shown.join("\n\n") + "\n"
}

fn head(rollout: &Rollout, decision: &Decision, now: DateTime<Utc>, screen: &Screen) -> Vec<String> {
    let name = format!("{}/{}", rollout.namespace().unwrap_or_default(), rollout.name_any());
    let at = decision.at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut lines = vec![Paint::Bold.on(screen.colour, &format!("{name}  decision {}", decision.seq))];
    let about =
        decision.revision.as_deref().map_or_else(String::new, |revision| format!(" {}", plain(revision)));
    let by = decision.by.as_deref().map_or_else(
        || "The controller decided by itself".to_owned(),
        |by| format!("{} asked for it", plain(by)),
    );
    let told = format!("{}{about}. {by}, {at} ({} ago).", told(decision.kind), age(decision.at, now));
    lines.extend(wrap(&told, screen.width));
    let why = format!("Why: {} ({})", plain(&decision.message), decision.reason);
    lines.extend(wrap(&why, screen.width));
    lines
}

/// What was decided, as the beginning of a sentence about a revision.
fn told(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::Adopted => "Stable was found:",
        DecisionKind::Started => "A rollout was started, of",
        DecisionKind::Entered => "A step was entered, with",
        DecisionKind::Approved => "A gate was opened for",
        DecisionKind::Paused => "Increases were stopped of",
        DecisionKind::Resumed => "Increases go on of",
        DecisionKind::Withdrawn => "Taken out of traffic until it is ready:",
        DecisionKind::Overdue => "Not ready in time:",
        DecisionKind::RolledBack => "Rolled back:",
        DecisionKind::Superseded => "Another revision was wanted than",
        DecisionKind::Cancelled => "Stable was wanted again in place of",
        DecisionKind::Lost => "A person decided for stable, against",
        DecisionKind::Observed => "Observed to the end, and not promoted:",
        DecisionKind::Promoting => "All traffic was given to",
        DecisionKind::Promoted => "Promoted, and stable now:",
        DecisionKind::Retired => "Out of the route now:",
        DecisionKind::Retried => "To be tried again:",
        DecisionKind::Recovered => "The status was lost, stable keeps all:",
        DecisionKind::Released => "The routes were given back:",
        DecisionKind::Unknown => "Decided by another version, about",
    }
}

fn checks(decision: &Decision, screen: &Screen) -> Vec<String> {
    let mut lines = vec![title("WHAT THE CHECKS SAID", "", screen)];
    if decision.abridged {
        let gone = "It is not on record any more, nor is what was written: the status has room for that of the newest decisions. \
                    The log of the controller has it.";
        lines.extend(indented(gone, 2, screen));
        return lines;
    }
    if decision.checks.is_empty() {
        return Vec::new();
    }
    for check in &decision.checks {
        let (mark, paint) = mark(check.verdict);
        let advisory = if check.advisory { ", advisory" } else { "" };
        let line = format!("{mark} {}: {}{advisory}", plain(&check.name), check.verdict);
        lines.push(format!("  {}", paint.on(screen.colour, &line)));
        for sentence in sentences(check) {
            lines.extend(indented(&sentence, 4, screen));
        }
    }
    lines
}

fn sentences(check: &CheckRecord) -> Vec<String> {
    let mut sentences = vec![plain(&check.message)];
    if !check.rule.is_empty() {
        sentences.push(format!("The rule: {}.", plain(&check.rule)));
    }
    if check.canary.is_some() && check.stable.is_some() {
        sentences.push(format!("Counted: canary {}, stable {}.", arm(check.canary), arm(check.stable)));
    }
    if let Some(value) = check.value {
        sentences.push(format!("The query answered {value}."));
    }
    if let Some(effect) = &check.effect {
        sentences.push(compared(effect));
    }
    if check.failures > 0 {
        sentences.push(format!("Looks in a row that breached it: {}.", check.failures));
    }
    if check.verdict == Verdict::Inconclusive && check.suffices {
        sentences.push(
            "That holds no step up: there is no evidence of harm, and no proof was asked for.".to_owned(),
        );
    }
    sentences
}

/// An end of an interval: 1/1.05 has more digits than anybody wants.
fn rounded(end: f64) -> String {
    ((end * 1000.0).round() / 1000.0).to_string()
}

fn compared(effect: &EffectRecord) -> String {
    let EffectRecord { from, to, worse, better, needed, max_ratio, clear_ratio, more_is_better, .. } = effect;
    let (bad, good) = if *more_is_better {
        (format!("below {:.2}", 1.0 / max_ratio), format!("above {:.2}", 1.0 / clear_ratio))
    } else {
        (format!("above {max_ratio}"), format!("below {clear_ratio}"))
    };
    let ratio =
        effect.ratio.map_or_else(|| "unknown, stable gave none".to_owned(), |ratio| format!("{ratio:.2}"));
    let to = to.map_or_else(|| "no known end".to_owned(), rounded);
    format!(
        "Compared with stable: ratio {ratio}, between {} and {to}. Evidence {} that it is {bad}, {} that it \
         is {good}; a verdict needs {needed:.0}.",
        rounded(*from),
        evidence(*worse),
        evidence(*better)
    )
}

/// More than a thousand is as good as any number.
fn evidence(evidence: f64) -> String {
    if evidence > 1000.0 { "over 1,000".to_owned() } else { format!("{evidence:.1}") }
}

fn written(decision: &Decision, screen: &Screen) -> Vec<String> {
    let step = decision.step.map_or_else(String::new, |step| format!(", step {step}"));
    let (from, to) = (decision.from_given(), decision.given());
    let change = if decision.kind == DecisionKind::Promoted {
        format!("The new stable keeps {}% of the pair's traffic.", decision.from_weight)
    } else if !from.beside.is_nothing() || !to.beside.is_nothing() {
        let [from, to] = [from, to].map(|given| plain(&given.to_string()));
        format!("What the canary gets: {from} before; {to} after{step}.")
    } else if from == to {
        format!("The canary's weight stays {}%{step}.", decision.weight)
    } else {
        format!("The canary's weight: {}% before, {}% after{step}.", decision.from_weight, decision.weight)
    };
    let mut lines = vec![title("WHAT WAS WRITTEN", "", screen)];
    lines.extend(indented(&change, 2, screen));
    lines.extend(decision.writes.iter().flat_map(|write| object(write, screen)));
    if decision.more_writes > 0 {
        lines.extend(indented(&format!("And {} more objects.", decision.more_writes), 2, screen));
    }
    let record = format!(
        "It was put down as decision {} of the status before it was written, and is on the stamp of what shows it.",
        decision.seq
    );
    lines.extend(indented(&record, 2, screen));
    lines
}

/// What is written into one object.
fn object(write: &WriteRecord, screen: &Screen) -> Vec<String> {
    let what = plain(&write.to_string());
    let what = match (write.created, write.changes.is_empty()) {
        (true, true) => format!("{what} is created."),
        (true, false) => format!("{what} is created, with"),
        (false, true) => format!("{what}: the stamp and nothing else."),
        (false, false) => format!("{what}:"),
    };
    let mut lines = indented(&what, 2, screen);
    for change in &write.changes {
        lines.extend(indented(&plain(&change.to_string()), 4, screen));
    }
    if write.more_changes > 0 {
        lines.extend(indented(&format!("and {} more fields", write.more_changes), 4, screen));
    }
    lines
}

/// What has become of it, where it was not the last one.
fn meanwhile(status: &RolloutStatus, decision: &Decision, screen: &Screen) -> Vec<String> {
    let later = status.decisions.iter().filter(|other| other.seq > decision.seq).count();
    let mut lines = vec![title("SINCE THEN", "", screen)];
    let reason = status.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let decided = match later {
        0 => "Nothing else was decided".to_owned(),
        1 => "1 more decision was made".to_owned(),
        more => format!("{more} more decisions were made"),
    };
    let stands = format!("{decided}. It is {} now{reason}: {}", status.phase, plain(&status.message));
    lines.extend(indented(&stands, 2, screen));
    lines
}

#[cfg(test)]
mod tests {
    use sluice_core::api::WrittenKind;

    use super::*;
    use crate::cli::view::fixtures::{beside, explained, now, screen};

    #[test]
    fn a_rollback_is_told_with_its_numbers() {
        let rollout = explained();
        let status = rollout.status.clone().unwrap();
        let last = status.decisions.last().unwrap();
        insta::assert_snapshot!(explanation(&rollout, &status, last, now(), &screen(80)));
    }

    #[test]
    fn matches_and_copies_are_told_with_the_weight() {
        let rollout = beside("iris");
        let status = rollout.status.clone().unwrap();
        let last = status.decisions.last().unwrap();
        insta::assert_snapshot!(explanation(&rollout, &status, last, now(), &screen(80)));
    }

    #[test]
    fn a_decision_that_was_abridged_says_so() {
        let mut rollout = explained();
        let status = rollout.status.as_mut().unwrap();
        let first = &mut status.decisions[0];
        (first.abridged, first.checks) = (true, Vec::new());
        let status = status.clone();
        let text = explanation(&rollout, &status, &status.decisions[0], now(), &screen(None));
        assert!(text.contains("not on record any more"), "{text}");
    }

    #[test]
    fn what_is_created_and_what_there_is_no_room_for_is_told() {
        let mut rollout = explained();
        let status = rollout.status.as_mut().unwrap();
        let last = status.decisions.last_mut().unwrap();
        let mut rule =
            WriteRecord { kind: WrittenKind::DestinationRule, created: true, ..last.writes[0].clone() };
        rule.changes.clear();
        let stamped = WriteRecord { changes: Vec::new(), ..last.writes[0].clone() };
        last.writes[0].more_changes = 3;
        last.writes.extend([rule, stamped]);
        last.more_writes = 2;
        let status = status.clone();
        let text = explanation(&rollout, &status, status.decisions.last().unwrap(), now(), &screen(None));
        for line in [
            "    and 3 more fields",
            "  DestinationRule models/iris is created.",
            "  VirtualService models/iris: the stamp and nothing else.",
            "  And 2 more objects.",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn an_earlier_decision_says_how_many_came_after() {
        let rollout = explained();
        let status = rollout.status.clone().unwrap();
        let text = explanation(&rollout, &status, &status.decisions[0], now(), &screen(None));
        assert!(text.contains("more decision"), "{text}");
        assert!(!text.contains("WHAT THE CHECKS SAID"), "{text}");
    }
}
