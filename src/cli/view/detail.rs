//! Everything about one Rollout: where it stands and why, both arms, the steps, the checks, what was decided, and
//! what a person can do about it.

use chrono::{DateTime, Utc};
use kube::ResourceExt;
use sluice_core::{
    Predictor,
    api::{ConditionStatus, ConditionType, Rollout, RolloutStatus},
};

use super::{
    Screen, age, checks, decisions,
    listed::created,
    next, steps,
    table::paint_of,
    text::{Paint, pad, plain, width, wrap},
};

/// Columns of a bar that stands for all requests.
const BAR: usize = 24;

/// Everything about one Rollout.
pub fn rollout(rollout: &Rollout, now: DateTime<Utc>, screen: &Screen) -> String {
    let status = rollout.status.clone().unwrap_or_default();
    let sections = [
        head(rollout, &status, now, screen),
        arms(&status, screen),
        steps::section(rollout, &status, screen),
        checks::section(rollout, &status, now, screen),
        conditions(&status, now, screen),
        decisions::section(&status, now, screen),
        next::section(rollout, &status, screen),
    ];
    let shown: Vec<String> =
        sections.into_iter().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n")).collect();
    shown.join("\n\n") + "\n"
}

fn head(rollout: &Rollout, status: &RolloutStatus, now: DateTime<Utc>, screen: &Screen) -> Vec<String> {
    let name = format!("{}/{}", rollout.namespace().unwrap_or_default(), rollout.name_any());
    let phase = status.phase.to_string();
    let reason = status.reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let age = created(rollout).map_or_else(String::new, |created| format!("  ({} old)", age(created, now)));
    let stands = format!(
        "{}{reason}{}",
        paint_of(status.phase).on(screen.colour, &phase),
        Paint::Dim.on(screen.colour, &age)
    );
    let fits = screen.width.is_none_or(|columns| width(&format!("{name}  {phase}{reason}{age}")) <= columns);
    let name = Paint::Bold.on(screen.colour, &name);
    let mut lines = if fits { vec![format!("{name}  {stands}")] } else { vec![name, stands] };
    let message = plain(&status.message);
    if rollout.status.is_none() {
        let remark =
            "The controller has not looked at it yet: is it running, and does it watch this namespace?";
        lines.extend(wrap(remark, screen.width));
    } else if !message.is_empty() {
        lines.extend(wrap(&message, screen.width));
    }
    lines.extend(remarks(rollout, status).into_iter().flat_map(|remark| {
        wrap(&remark, screen.width).into_iter().map(|line| Paint::Yellow.on(screen.colour, &line))
    }));
    lines
}

/// What a person may be puzzled by.
fn remarks(rollout: &Rollout, status: &RolloutStatus) -> Vec<String> {
    let mut remarks = Vec::new();
    if rollout.metadata.deletion_timestamp.is_some() {
        remarks.push("It is being deleted.".to_owned());
    }
    match (rollout.metadata.generation, status.observed_generation) {
        (Some(current), Some(observed)) if observed < current => {
            remarks.push("The last edit of the spec was not looked at yet.".to_owned());
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    if let Some(pinned) = status.pinned.as_deref().filter(|_| steps::in_flight(status).is_some()) {
        let mut spec = pinned.clone();
        spec.target.clone_from(&rollout.spec.target);
        spec.paused = rollout.spec.paused;
        if spec != rollout.spec {
            remarks.push(
                "The spec was edited since this rollout started: the edit counts for the next one.".into(),
            );
        }
    }
    remarks
}

fn arms(status: &RolloutStatus, screen: &Screen) -> Vec<String> {
    let canary =
        status.canary.as_ref().map(|canary| ("canary", canary, status.weight.clamp(0, 100), Paint::Cyan));
    let of_stable = 100 - canary.map_or(0, |(_, _, weight, _)| weight);
    let stable = status.stable.as_ref().map(|stable| ("stable", stable, of_stable, Paint::Green));
    let names: Vec<String> = [stable, canary].iter().flatten().map(|arm| arm.1.revision()).collect();
    let longest = names.iter().map(|name| width(name)).max().unwrap_or(0);
    // What does not fit in one line, `stable  NAME  100%  BAR`, goes without the bar.
    let fits = screen.width.is_none_or(|columns| 8 + longest + 2 + 4 + 2 + BAR <= columns);
    let mut lines: Vec<String> = [stable, canary]
        .into_iter()
        .flatten()
        .zip(names)
        .map(|((role, _, weight, paint), name)| {
            let line = format!("{role}  {}  {weight:>3}%", pad(&name, longest));
            if fits { format!("{line}  {}", bar(weight, paint, screen)) } else { line }
        })
        .collect();
    let beside =
        status.beside.matches.iter().map(|words| format!("requests to the canary: {}", plain(words)));
    let copies = (!status.beside.mirror.is_nothing())
        .then(|| format!("copies to the canary, whose answers nobody sees: {}", status.beside.mirror));
    lines.extend(beside.chain(copies).flat_map(|line| wrap(&line, screen.width)));
    if !status.retiring.is_empty() {
        let leaving: Vec<String> =
            status.retiring.iter().map(|retiring| Predictor::short(&retiring.predictor)).collect();
        lines.push(format!("leaving the route with weight 0: {}", leaving.join(", ")));
    }
    lines
}

fn bar(percent: i32, paint: Paint, screen: &Screen) -> String {
    let percent = usize::try_from(percent).unwrap_or(0);
    // A little traffic is not none, and nearly all is not all.
    let full = match percent {
        0 => 0,
        100.. => BAR,
        some => (BAR * some / 100).clamp(1, BAR - 1),
    };
    format!(
        "{}{}",
        paint.on(screen.colour, &"█".repeat(full)),
        Paint::Dim.on(screen.colour, &"░".repeat(BAR - full))
    )
}

/// Conditions that say something that the head does not.
fn conditions(status: &RolloutStatus, now: DateTime<Utc>, screen: &Screen) -> Vec<String> {
    let bad = status.conditions.iter().filter(|condition| match condition.kind {
        ConditionType::Accepted | ConditionType::MetricsAvailable | ConditionType::Guarded => {
            condition.status != ConditionStatus::True
        }
        ConditionType::Stalled => condition.status == ConditionStatus::True,
        ConditionType::Ready | ConditionType::Reconciling => false,
    });
    let mut lines = Vec::new();
    for condition in bad.filter(|condition| condition.message != status.message) {
        if lines.is_empty() {
            lines.push(title("CONDITIONS", "", screen));
        }
        let since = age(condition.last_transition_time, now);
        let head =
            format!("{:?} is {:?}: {} ({since} ago)", condition.kind, condition.status, condition.reason);
        lines.push(format!("  {}", Paint::Red.on(screen.colour, &head)));
        lines.extend(indented(&plain(&condition.message), 4, screen));
    }
    lines
}

/// The title of a section, with a remark behind it, or below it where there is no room.
pub(super) fn title(text: &str, remark: &str, screen: &Screen) -> String {
    let title = Paint::Bold.on(screen.colour, text);
    if remark.is_empty() {
        return title;
    }
    let fits = screen.width.is_none_or(|columns| width(text) + 2 + width(remark) <= columns);
    let below = || indented(remark, 2, screen).join("\n");
    let (between, remark) = if fits { ("  ", remark.to_owned()) } else { ("\n", below()) };
    format!("{title}{between}{}", Paint::Dim.on(screen.colour, &remark))
}

/// `text` in lines that begin with `indent` spaces and fit the screen.
pub(super) fn indented(text: &str, indent: usize, screen: &Screen) -> Vec<String> {
    let room = screen.width.map(|columns| columns.saturating_sub(indent));
    wrap(text, room).into_iter().map(|line| format!("{}{line}", " ".repeat(indent))).collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::cli::view::fixtures::{
        beside, edited, healthy, new, now, refused, rolled_back, screen, unguarded, waiting, without_metrics,
    };

    #[test]
    fn a_gate_says_who_can_open_it_and_how() {
        assert_snapshot!(rollout(&waiting("iris"), now(), &screen(80)));
    }

    #[test]
    fn at_120_columns_reasons_stay_in_one_line() {
        assert_snapshot!(rollout(&waiting("iris"), now(), &screen(120)));
    }

    #[test]
    fn a_rollback_shows_the_numbers_that_caused_it() {
        assert_snapshot!(rollout(&rolled_back("wine"), now(), &screen(80)));
    }

    #[test]
    fn at_rest_there_is_nothing_to_do() {
        assert_snapshot!(rollout(&healthy("churn"), now(), &screen(None)));
    }

    #[test]
    fn an_edit_in_flight_counts_for_the_next_rollout() {
        assert_snapshot!(rollout(&edited("iris"), now(), &screen(80)));
    }

    #[test]
    fn a_wrong_spec_is_shown_with_all_its_mistakes() {
        assert_snapshot!(rollout(&refused("iris"), now(), &screen(80)));
    }

    #[test]
    fn a_source_that_refuses_is_shown_with_what_came_of_it() {
        assert_snapshot!(rollout(&without_metrics("iris"), now(), &screen(80)));
    }

    #[test]
    fn matches_and_copies_stand_beside_their_steps() {
        assert_snapshot!(rollout(&beside("iris"), now(), &screen(80)));
    }

    #[test]
    fn a_stable_that_was_changed_in_place_is_shown() {
        assert_snapshot!(rollout(&unguarded("churn"), now(), &screen(80)));
    }

    #[test]
    fn a_rollout_that_nobody_looked_at_asks_for_the_controller() {
        assert_snapshot!(rollout(&new("mnist"), now(), &screen(80)));
    }

    #[test]
    fn no_line_is_wider_than_the_screen_even_with_long_names() {
        let name = "fraud-detector-for-card-payments-in-europe";
        let all = [waiting, rolled_back, edited, refused, healthy, new, beside];
        for one in all.map(|fixture| fixture(name)) {
            for columns in [80, 100, 120] {
                for line in rollout(&one, now(), &screen(columns)).lines() {
                    assert!(width(line) <= columns, "{columns}: {line}");
                }
            }
        }
    }
}
