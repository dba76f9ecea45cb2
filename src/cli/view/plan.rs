//! What a Rollout would do.

use std::time::Duration;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use sluice_core::{
    api::{Finish, GoDuration, Reason, Share},
    carrier::ObjectName,
    judge::{Indicator, LOOKS_AT_STABLE},
    machine::Outcome,
    plan::{Load, Plan, PlannedCheck, PlannedStep, Rule},
    simulate::{Ending, Timeline},
};

use super::{
    Screen,
    checks::rule,
    decisions::in_short,
    detail::{indented, title},
    rehearsal::time,
    text::{Paint, pad, plain, thousands, width},
};

/// Lines around a change that are shown, too.
const CONTEXT: usize = 2;
/// Who has to wait longer, in seconds, is not told how long: 30 days.
const LONGEST: f64 = 30.0 * 24.0 * 3600.0;

/// What a canary with so many errors would cost.
pub struct BadCanary {
    /// The share of its answers that are errors.
    pub share: Share,
    /// What became of it where nobody had to be waited for.
    pub timeline: Timeline,
}

/// The VirtualServices of a plan at a step.
pub struct Changed {
    /// Name of the step.
    pub step: String,
    /// Each of them that changes.
    pub objects: Vec<ChangedObject>,
}

/// An object at a step.
pub struct ChangedObject {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace and name.
    pub name: ObjectName,
    /// As it is; null where it is not there.
    pub before: Value,
    /// As it would be.
    pub after: Value,
}

/// All of it.
pub fn plan(
    name: &str,
    plan: &Plan,
    load: Load,
    bad: &[BadCanary],
    changed: &[Changed],
    screen: &Screen,
) -> String {
    let sections = [
        steps(name, plan, load, screen),
        checks(plan, load, screen),
        costs(plan, bad, load, screen),
        objects(changed, screen),
    ];
    let shown: Vec<String> =
        sections.into_iter().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n")).collect();
    shown.join("\n\n") + "\n"
}

fn steps(name: &str, plan: &Plan, load: Load, screen: &Screen) -> Vec<String> {
    let total: Duration = plan.steps.iter().map(|step| least(plan, step)).sum();
    let remark = format!("{} at least, at {} requests/s", GoDuration(total + plan.settle), load.rate);
    let mut lines = vec![title(&format!("{}: STEPS", plain(name)), &remark, screen)];
    let cells: Vec<[String; 3]> = plan
        .steps
        .iter()
        .map(|step| [plain(&step.name), in_short(&step.given()), GoDuration(least(plan, step)).to_string()])
        .chain([["promotion".to_owned(), "100%".to_owned(), GoDuration(plan.settle).to_string()]])
        .collect();
    let column = |index: usize| cells.iter().map(|row| width(&row[index])).max().unwrap_or(0);
    let widths = [column(0), column(1), column(2)];
    let rows: Vec<(Option<&PlannedStep>, String, String)> = cells
        .iter()
        .zip(plan.steps.iter().map(Some).chain([None]))
        .map(|([name, given, lasts], step)| {
            let line = [pad(name, widths[0]), pad(given, widths[1]), pad(lasts, widths[2])].join("  ");
            let notes = step.map(|step| notes(plan, step, load)).unwrap_or_default();
            (step, format!("  {}", line.trim_end()), notes)
        })
        .collect();
    // Behind every step or below every step: they are read one after the other.
    let ends = widths.iter().sum::<usize>() + 8;
    let fit = |notes: &str| screen.width.is_none_or(|columns| ends + width(notes) <= columns);
    let beside = rows.iter().all(|(_, _, notes)| fit(notes));
    for (step, line, notes) in rows {
        if beside {
            lines.push(format!("{}  {notes}", pad(&line, ends - 2)).trim_end().to_owned());
        } else {
            lines.push(line);
            lines.extend(indented(&notes, 6, screen).into_iter().filter(|line| !line.trim().is_empty()));
        }
        for words in step.iter().flat_map(|step| &step.beside.matches) {
            let words = indented(&format!("requests: {}", plain(words)), 6, screen);
            lines.extend(words.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
        }
    }
    lines
}

/// How long a step lasts at least: its `for`, and until a look counts.
fn least(plan: &Plan, step: &PlannedStep) -> Duration {
    let looks = if plan.metrics.is_some() { plan.interval } else { Duration::ZERO };
    step.lasts.max(plan.settle + looks)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate times a time
fn notes(plan: &Plan, step: &PlannedStep, load: Load) -> String {
    let mut notes = Vec::new();
    let users = load.divided(&step.given()).canary * least(plan, step).as_secs_f64();
    if step.given().has_users() {
        notes.push(format!("{} users' requests", thousands(users as u64)));
    }
    if step.min_requests > 0 {
        notes.push(format!("needs {} requests", thousands(step.min_requests)));
    }
    if let Some(sticky) = &step.sticky {
        notes.push(format!("sticky by {}", plain(&sticky.to_string())));
    }
    if step.approve {
        notes.push("waits for a person".to_owned());
    }
    notes.join(", ")
}

fn checks(plan: &Plan, load: Load, screen: &Screen) -> Vec<String> {
    if plan.checks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![title("CHECKS", "", screen)];
    for check in &plan.checks {
        lines.extend(indented(&format!("{}: {}", plain(&check.name), rule(check)), 2, screen));
        for needs in needs(plan, check, load) {
            let needs = indented(&format!("needs {needs}"), 4, screen);
            lines.extend(needs.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
        }
    }
    lines
}

/// What a check has to see before it says anything.
fn needs(plan: &Plan, check: &PlannedCheck, load: Load) -> Vec<String> {
    let mut needs = Vec::new();
    let first = plan.steps.iter().find(|step| check.is_for(&step.name, step.weight));
    if let Some(step) = first.filter(|_| check.min_requests > 0) {
        // Copies are seen as well as what users send.
        let seconds = float(check.min_requests) / load.divided(&step.given()).seen_of_canary();
        let (needed, step) = (thousands(check.min_requests), plain(&step.name));
        needs.push(if seconds <= LONGEST {
            let takes = time(Duration::from_secs_f64(seconds));
            format!("{needed} requests of the canary: {takes} of step {step}")
        } else if seconds.is_finite() {
            format!("{needed} requests of the canary: more than 720h of step {step}")
        } else {
            format!("{needed} requests of the canary, which it never gets in step {step} at this load")
        });
    }
    match check.comparison() {
        Some((_, Indicator::Scores(..))) => {
            needs.push("a number of 0 or more about both predictors at each look".to_owned());
        }
        Some((_, Indicator::Errors | Indicator::Latency | Indicator::Shares(_))) => needs.push(format!(
            "{LOOKS_AT_STABLE} looks at stable with requests: {}, or as much of its history",
            time(plan.interval * LOOKS_AT_STABLE)
        )),
        None => {}
    }
    match check.rule {
        Rule::Latency { max: Some(max), .. } => {
            let limit = GoDuration(Duration::from_micros(max.0));
            needs.push(format!("a histogram with a bucket at {limit}, or on both sides of it"));
        }
        Rule::Latency { max: None, .. } => {
            needs.push("histograms of both predictors with bounds in common".to_owned());
        }
        Rule::Query { .. } if check.has_limit() => {
            needs.push("one number from the query at each look".to_owned());
        }
        Rule::Query { .. } | Rule::Errors { .. } => {}
    }
    if !check.lag.is_zero() {
        needs.push(format!("numbers of this step's load, which come {} later", GoDuration(check.lag)));
    }
    needs
}

#[allow(clippy::cast_precision_loss)] // a number of requests that somebody wrote down
fn float(count: u64) -> f64 {
    count as f64
}

fn costs(plan: &Plan, bad: &[BadCanary], load: Load, screen: &Screen) -> Vec<String> {
    if bad.is_empty() {
        return Vec::new();
    }
    let Load { rate, matching } = load;
    let matched = plan.steps.iter().any(|step| !step.matches.is_empty());
    let matched = if matched { format!(", {matching} meet a match") } else { String::new() };
    let gates = if plan.steps.iter().any(|step| step.approve) { ", gates opened at once" } else { "" };
    let mut lines = vec![title(
        "A BAD CANARY",
        &format!("rehearsed at {rate} requests/s{matched}, stable without errors{gates}"),
        screen,
    )];
    for BadCanary { share, timeline } in bad {
        let told = format!("{share} errors: {}", became(plan, timeline));
        lines.extend(indented(&told, 2, screen));
    }
    lines
}

/// What became of a bad canary: only what a check did counts as stopped.
fn became(plan: &Plan, timeline: &Timeline) -> String {
    let (at, errors) = (time(timeline.at), thousands(timeline.users.errors));
    let passed = match &timeline.ending {
        // A pause would keep it where it is, so what users get goes on until somebody comes.
        Ending::Over { reason: Reason::Inconclusive, .. } => {
            return format!(
                "no check stops it, and after {at} evidence is missing; users get {errors} bad answers until then"
            );
        }
        Ending::Over { outcome: Outcome::RolledBack, .. } => {
            return format!("stopped after {at}; users get {errors} bad answers until then");
        }
        Ending::Promoted => "promoted",
        Ending::Over { .. } if plan.finish == Finish::Wait => "a person decides",
        Ending::Over { .. } => "ended",
        Ending::Held(_) => "not ended",
    };
    format!("not stopped: {passed} after {at}, and users get {errors} bad answers until then")
}

fn objects(changed: &[Changed], screen: &Screen) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before: Vec<((&str, &ObjectName), String)> = Vec::new();
    for Changed { step, objects } in changed {
        for ChangedObject { kind, name, before: original, after } in objects {
            let of_it = (*kind, name);
            let known = before.iter().find(|(known, _)| *known == of_it).map(|(_, text)| text.clone());
            let old = known.unwrap_or_else(|| yaml(original));
            let new = yaml(after);
            let against = if old.is_empty() { "created" } else { "against what was there before" };
            let remark = format!("{kind} {}/{}, {against}", plain(&name.0), plain(&name.1));
            if old != new {
                lines.push(title(&format!("AT STEP {}", plain(step)), &remark, screen));
                lines.extend(difference(&old, &new, screen));
            }
            before.retain(|(known, _)| *known != of_it);
            before.push((of_it, new));
        }
    }
    lines
}

fn yaml(object: &Value) -> String {
    if object.is_null() {
        return String::new();
    }
    serde_saphyr::to_string(&json!({ "spec": object["spec"] })).unwrap_or_default()
}

fn difference(old: &str, new: &str, screen: &Screen) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for (number, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if number > 0 {
            lines.push("      ⋮".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, paint) = match change.tag() {
                ChangeTag::Equal => (" ", Paint::Dim),
                ChangeTag::Delete => ("-", Paint::Red),
                ChangeTag::Insert => ("+", Paint::Green),
            };
            lines.push(
                paint.on(screen.colour, format!("    {sign} {}", change.value().trim_end()).trim_end()),
            );
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use sluice_core::simulate::Users;

    use super::*;
    use crate::cli::view::fixtures::{beside, screen};

    fn shown(width: impl Into<Option<usize>>) -> String {
        let rollout = beside("iris");
        let planned = Plan::named(&rollout.spec, "models", "iris").unwrap();
        let load = Load { rate: 20.0, matching: "10%".parse().unwrap() };
        let stopped = over(Outcome::RolledBack, Reason::CheckFailed);
        let bad = BadCanary { share: "5%".parse().unwrap(), timeline: timeline(stopped) };
        plan("iris", &planned, load, &[bad], &[], &screen(width))
    }

    fn over(outcome: Outcome, reason: Reason) -> Ending {
        Ending::Over { outcome, reason, at: Duration::from_mins(41) }
    }

    fn timeline(ending: Ending) -> Timeline {
        let users = Users { errors: 1204, ..Users::default() };
        Timeline { decisions: Vec::new(), ending, at: Duration::from_mins(41), users, replies: Vec::new() }
    }

    #[test]
    fn matches_copies_and_who_stays_are_planned_at_80_columns() {
        let text = shown(80);
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        assert_snapshot!(text);
    }

    #[test]
    fn only_what_a_check_did_is_called_stopped() {
        let mut planned = Plan::new(&beside("iris").spec, "models").unwrap();
        let mut told = |finish, ending| {
            planned.finish = finish;
            became(&planned, &timeline(ending))
        };
        let observed = || over(Outcome::Observed, Reason::Observed);
        for (finish, ending, expected) in [
            (Finish::Promote, over(Outcome::RolledBack, Reason::CheckFailed), "stopped after 41m;"),
            (
                Finish::Promote,
                over(Outcome::RolledBack, Reason::Inconclusive),
                "no check stops it, and after 41m evidence is missing;",
            ),
            (Finish::Promote, Ending::Promoted, "not stopped: promoted after 41m, and"),
            (Finish::KeepStable, observed(), "not stopped: ended after 41m, and"),
            (Finish::Wait, observed(), "not stopped: a person decides after 41m, and"),
        ] {
            let told = told(finish, ending);
            assert_eq!(told, format!("{expected} users get 1,204 bad answers until then"));
        }
    }

    #[test]
    fn requests_that_a_check_needs_are_counted_as_it_sees_them() {
        let planned = Plan::named(&beside("iris").spec, "models", "iris").unwrap();
        let needs = |rate, matching: &str| {
            let load = Load { rate, matching: matching.parse().unwrap() };
            needs(&planned, &planned.checks[0], load).remove(0)
        };
        // An eighth of the requests is copied.
        assert_eq!(needs(20.0, "10%"), "50 requests of the canary: 20s of step shadow");
        assert_eq!(needs(1e-5, "10%"), "50 requests of the canary: more than 720h of step shadow");
        let never = "50 requests of the canary, which it never gets in step";
        assert_eq!(needs(0.0, "10%"), format!("{never} shadow at this load"));
        let mut matched = planned.clone();
        matched.checks[0].steps = vec!["2".to_owned()];
        let load = Load { rate: 20.0, matching: "0%".parse().unwrap() };
        let told = super::needs(&matched, &matched.checks[0], load).remove(0);
        assert_eq!(told, format!("{never} 2 at this load"));
    }

    #[test]
    fn where_there_is_room_notes_stay_in_their_line() {
        let text = shown(None);
        assert!(text.contains("users' requests, sticky by header x-user-hash\n"), "{text}");
    }
}
