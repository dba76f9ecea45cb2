//! What a Rollout would do.

use std::time::Duration;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use sluice_core::{
    api::{GoDuration, Share},
    carrier::ObjectName,
    plan::{Plan, PlannedStep},
    simulate::Users,
};

use super::{
    Screen,
    checks::rule,
    detail::{indented, title},
    rehearsal::time,
    text::{Paint, pad, plain, thousands, width},
};

/// Lines around a change that are shown, too.
const CONTEXT: usize = 2;

/// What users send.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Requests a second.
    pub rate: f64,
    /// The share of them that a step's match meets.
    pub matching: Share,
}

impl Traffic {
    /// The share of them that the canary answers in a step.
    fn of_canary(self, step: &PlannedStep) -> f64 {
        let given = step.given();
        let matched = if given.beside.matches.is_empty() { 0.0 } else { self.matching.fraction() };
        matched + (1.0 - matched) * f64::from(given.weight) / 100.0
    }
}

/// What a canary with so many errors would cost.
pub struct BadCanary {
    /// The share of its answers that are errors.
    pub share: Share,
    /// When it is stopped; nothing where it is not.
    pub stopped: Option<Duration>,
    /// What users get of it until then.
    pub users: Users,
}

/// The VirtualServices of a plan at a step.
pub struct Changed {
    /// Name of the step.
    pub step: String,
    /// Each as it is, and as it would be.
    pub objects: Vec<(ObjectName, Value, Value)>,
}

/// All of it.
pub fn plan(
    name: &str,
    plan: &Plan,
    traffic: Traffic,
    bad: &[BadCanary],
    changed: &[Changed],
    screen: &Screen,
) -> String {
    let sections = [
        steps(name, plan, traffic, screen),
        checks(plan, traffic, screen),
        costs(plan, bad, traffic, screen),
        objects(changed, screen),
    ];
    let shown: Vec<String> =
        sections.into_iter().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n")).collect();
    shown.join("\n\n") + "\n"
}

fn steps(name: &str, plan: &Plan, traffic: Traffic, screen: &Screen) -> Vec<String> {
    let total: Duration = plan.steps.iter().map(|step| least(plan, step)).sum();
    let remark = format!("{} at least, at {} requests/s", GoDuration(total + plan.settle), traffic.rate);
    let mut lines = vec![title(&format!("{name}: STEPS"), &remark, screen)];
    let cells: Vec<[String; 3]> = plan
        .steps
        .iter()
        .map(|step| {
            [plain(&step.name), plain(&step.given().to_string()), GoDuration(least(plan, step)).to_string()]
        })
        .chain([["promotion".to_owned(), "weight 100%".to_owned(), GoDuration(plan.settle).to_string()]])
        .collect();
    let column = |index: usize| cells.iter().map(|row| width(&row[index])).max().unwrap_or(0);
    let widths = [column(0), column(1), column(2)];
    for (row, step) in cells.iter().zip(plan.steps.iter().map(Some).chain([None])) {
        let [name, given, lasts] = row;
        let notes = step.map(|step| notes(plan, step, traffic)).unwrap_or_default();
        let line = format!(
            "  {}  {}  {}  {notes}",
            pad(name, widths[0]),
            pad(given, widths[1]),
            pad(lasts, widths[2])
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// How long a step lasts at least: its `for`, and until a look counts.
fn least(plan: &Plan, step: &PlannedStep) -> Duration {
    let looks = if plan.metrics.is_some() { plan.interval } else { Duration::ZERO };
    step.lasts.max(plan.settle + looks)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate times a time
fn notes(plan: &Plan, step: &PlannedStep, traffic: Traffic) -> String {
    let mut notes = Vec::new();
    let users = traffic.rate * traffic.of_canary(step) * least(plan, step).as_secs_f64();
    if step.given().has_users() {
        notes.push(format!("{} users' requests", thousands(users as u64)));
    }
    if step.min_requests > 0 {
        notes.push(format!("needs {} requests", thousands(step.min_requests)));
    }
    if step.approve {
        notes.push("waits for a person".to_owned());
    }
    notes.join(", ")
}

fn checks(plan: &Plan, traffic: Traffic, screen: &Screen) -> Vec<String> {
    if plan.checks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![title("CHECKS", "", screen)];
    for check in &plan.checks {
        lines.extend(indented(&format!("{}: {}", plain(&check.name), rule(check)), 2, screen));
        let first =
            plan.steps.iter().find(|step| check.is_for(&step.name, step.weight) && step.given().has_users());
        let needs = first.filter(|_| check.min_requests > 0 && traffic.rate > 0.0).map(|step| {
            let a_second = traffic.rate * traffic.of_canary(step);
            let seconds = float(check.min_requests) / a_second;
            let time = time(Duration::from_secs_f64(seconds.min(1e9)));
            format!(
                "needs {} requests of the canary: {time} of step {}",
                thousands(check.min_requests),
                plain(&step.name)
            )
        });
        lines.extend(needs.map(|needs| Paint::Dim.on(screen.colour, &format!("    {needs}"))));
    }
    lines
}

#[allow(clippy::cast_precision_loss)] // a number of requests that somebody wrote down
fn float(count: u64) -> f64 {
    count as f64
}

fn costs(plan: &Plan, bad: &[BadCanary], traffic: Traffic, screen: &Screen) -> Vec<String> {
    let Traffic { rate, matching } = traffic;
    let matched = plan.steps.iter().any(|step| !step.matches.is_empty());
    let matched = if matched { format!(", {matching} meet a match") } else { String::new() };
    let mut lines = vec![title(
        "A BAD CANARY",
        &format!("rehearsed at {rate} requests/s{matched}, stable without errors"),
        screen,
    )];
    for BadCanary { share, stopped, users } in bad {
        let told = match stopped {
            Some(at) => format!(
                "{share} errors: stopped after {}; users get {} bad answers",
                time(*at),
                thousands(users.errors)
            ),
            None => format!(
                "{share} errors: not stopped; users get {} bad answers on the way",
                thousands(users.errors)
            ),
        };
        lines.extend(indented(&told, 2, screen));
    }
    lines
}

fn objects(changed: &[Changed], screen: &Screen) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before: Vec<(ObjectName, String)> = Vec::new();
    for Changed { step, objects } in changed {
        for (name, original, after) in objects {
            let known = before.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone());
            let old = known.unwrap_or_else(|| yaml(original));
            let new = yaml(after);
            let remark = format!("{}/{}, against what was there before", name.0, name.1);
            lines.push(title(&format!("AT STEP {}", plain(step)), &remark, screen));
            lines.extend(difference(&old, &new, screen));
            before.retain(|(known, _)| known != name);
            before.push((name.clone(), new));
        }
    }
    lines
}

fn yaml(object: &Value) -> String {
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
