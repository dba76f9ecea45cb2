//! Guarantee 4: "Step k > 0 is entered only with step k−1's recorded Pass (or a person's recorded action) for this
//! revision, step 0 only when the canary is ready. Canary traffic that was taken away comes back only up to the setting
//! of the recorded decision."
//!
//! In the status: a step that is entered has a decision with a Pass of every check of the pinned spec, whose recorded
//! numbers are reckoned again, not earlier than the step before lasts; or a RolloutAction that asked for it and was
//! answered in the same commit. In the VirtualService: the canary never gets more than was recorded under the number in
//! the stamp, and matches and copies lead to it only where some were recorded under that number, and by a hash no more than the weight. Not seen: what the metrics said beside what was recorded, and time that passed without being observed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Found, Guarantee, RouteChange, Seen, StatusChange, seconds};
use crate::invariants::{
    hashed,
    objects::{self, Given, Planned, Predictor, text},
    world::World,
};

pub(super) struct Entry;

impl Guarantee for Entry {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        if let Some(change) = seen.status() {
            for what in status(seen, &change) {
                found.add(Some(&change.name), what);
            }
        }
        routes(seen, found);
    }
}

// === the status ===

fn status(seen: &Seen<'_>, change: &StatusChange<'_>) -> Vec<String> {
    let (from, to) = (objects::step_index(change.before), objects::step_index(change.after));
    let mut found = recorded_setting(change).into_iter().collect::<Vec<_>>();
    let (Some(from), Some(to)) = (from, to) else { return found };
    let Some(canary) = objects::canary_in_flight(change.after) else { return found };
    let began = objects::is_withdrawn(change.before) && !objects::is_withdrawn(change.after);
    if began && seen.world.is_known_unready(&canary, seen.commit.at) {
        found.push(format!("{canary} enters step {} and has no ready endpoint", to + 1));
    }
    if to <= from {
        return found;
    }
    let Some(decision) = change.decided(&["Entered", "Promoting"]) else {
        found.push(format!("step {} is entered without a decision to do so", to + 1));
        return found;
    };
    if text(&decision["revision"]) != canary.to_string() {
        found.push(format!("step {} of {canary} is entered on what {} did", to + 1, decision["revision"]));
    }
    if decision["by"].is_null() {
        found.extend(passed(seen, change, decision, from, to));
    } else if !is_asked(seen.world, change, &canary, from, to) {
        found.push(format!("step {} is entered for {}, who asked for no such thing", to + 1, decision["by"]));
    }
    found
}

/// What the status says of the canary is what the pinned spec says of the step.
fn recorded_setting(change: &StatusChange<'_>) -> Option<String> {
    let pinned = objects::planned(&change.after["pinned"]);
    let all = Planned { weight: 100, ..Planned::default() };
    let expected = match objects::step_index(change.after) {
        Some(_) if objects::is_withdrawn(change.after) => Planned::default(),
        Some(index) if change.after["pinned"].is_object() => {
            usize::try_from(index).ok().and_then(|index| pinned.get(index).cloned()).unwrap_or(all)
        }
        Some(_) | None => Planned::default(),
    };
    let said = Given::after(change.after);
    let Planned { weight, matches, mirror, .. } = expected;
    (said.weight > weight || said.matches.len() > matches || said.mirror > mirror).then(|| {
        format!("the status says {said} for the canary, expected the {weight}%, {matches} matches and copies of {mirror}% of its step")
    })
}

fn passed(seen: &Seen<'_>, change: &StatusChange<'_>, decision: &Value, from: u64, to: u64) -> Vec<String> {
    let mut found = Vec::new();
    if to != from + 1 {
        found.push(format!("from step {} to step {}: one was left out", from + 1, to + 1));
    }
    if objects::is_withdrawn(change.before) {
        found.push(format!("step {} is entered, and step {} had no traffic", to + 1, from + 1));
    }
    let pinned = &change.before["pinned"];
    let steps = objects::planned(pinned);
    let Some(step) = usize::try_from(from).ok().and_then(|from| steps.get(from)) else { return found };
    // Whoever wrote the decision that entered it: it cannot have lasted longer than since then.
    let entered = change.rollout.last(|d| matches!(text(&d["kind"]), "Entered" | "Started"));
    if let Some(entered) = entered {
        let lasted = seen.commit.at - entered.at;
        if lasted + seen.world.limits().clock < step.lasts {
            let (lasted, lasts) = (seconds(lasted), seconds(step.lasts));
            found.push(format!("step {} ends after {lasted}, expected at least {lasts}", from + 1));
        }
    }
    for check in objects::list(&pinned["checks"]).filter(|check| is_for(check, from)) {
        let record = objects::list(&decision["checks"]).find(|record| record["name"] == check["name"]);
        if let Err(why) = is_pass(check, record) {
            let name = &check["name"];
            found.push(format!("step {} is entered, and check {name} of step {} {why}", to + 1, from + 1));
        }
    }
    found
}

/// Whether a check counts in every step; of those for some steps the names would have to be known.
fn is_for(check: &Value, _step: u64) -> bool {
    check["advisory"] != true && objects::list(&check["steps"]).next().is_none()
}

fn is_pass(check: &Value, record: Option<&Value>) -> Result<(), String> {
    let Some(record) = record else { return Err("has no record".to_owned()) };
    if record["verdict"] != "Pass" {
        return Err(format!("said {}", record["verdict"]));
    }
    let rule = &check["errors"];
    let Some(max) = rule["max"].as_str().and_then(objects::share) else { return Ok(()) };
    let least = rule["minRequests"].as_u64().unwrap_or(50);
    let [requests, bad] = ["requests", "bad"].map(|field| record["canary"][field].as_u64().unwrap_or(0));
    #[allow(clippy::cast_precision_loss, reason = "requests are far from 2^53")]
    let too_many = bad as f64 > max * requests as f64 + 1e-9;
    if requests < least {
        Err(format!("passed on {requests} requests, expected at least {least}"))
    } else if too_many {
        Err(format!("passed with {bad} errors in {requests} requests"))
    } else {
        Ok(())
    }
}

/// Whether a person asked to enter this step, and is answered in this commit.
fn is_asked(world: &World<'_>, change: &StatusChange<'_>, canary: &Predictor, from: u64, to: u64) -> bool {
    change.done(world).iter().any(|action| {
        let spec = &action["spec"];
        let reaches = match text(&spec["do"]) {
            "Promote" | "DecideCanary" => to == from + 1 && spec["step"].as_u64() == Some(from + 1),
            "PromoteFull" => true,
            _ => false,
        };
        reaches && text(&spec["revision"]) == canary.to_string()
    })
}

// === the VirtualService ===

fn routes(seen: &Seen<'_>, found: &mut Found<'_>) {
    let namespace = &seen.commit.namespace;
    for change in seen.routes() {
        let stable = change.stamp.as_ref().and_then(|stamp| Predictor::parse(text(&stamp["stable"])));
        let canary = change.stamp.as_ref().and_then(|stamp| Predictor::parse(text(&stamp["revision"])));
        let managed = seen.world.managed(&change.rollout, &[change.before, change.after]);
        let recorded = change.stamped("seq").and_then(|seq| {
            let rollout = seen.world.rollout(&change.rollout)?;
            rollout.weight_of(seq)
        });
        beside(seen, &change, canary.as_ref(), found);
        for (at, before, after) in change.moved() {
            let share: u64 =
                managed.iter().map(|predictor| objects::weight(namespace, after, predictor)).sum();
            for predictor in managed.iter().filter(|predictor| stable.as_ref() != Some(predictor)) {
                let [old, new] = [before, after].map(|route| objects::weight(namespace, route, predictor));
                if new <= old {
                    continue;
                }
                if canary.as_ref() != Some(predictor) {
                    let what = format!("spec.http[{at}]: {predictor} gets {new} and is nobody's canary");
                    found.add(Some(&change.rollout), what);
                } else if let Some(weight) = recorded.filter(|weight| new > share * weight / 100) {
                    let seq = change.stamped("seq").unwrap_or(0);
                    let what = format!(
                        "spec.http[{at}]: {predictor} gets {new} of {share}, expected at most the {weight}% that decision {seq} recorded"
                    );
                    found.add(Some(&change.rollout), what);
                }
            }
        }
    }
}

/// Own routes and copies that are new, and lead to somebody else than the canary or were not recorded.
fn beside(seen: &Seen<'_>, change: &RouteChange<'_>, canary: Option<&Predictor>, found: &mut Found<'_>) {
    let namespace = &seen.commit.namespace;
    let rollout = seen.world.rollout(&change.rollout);
    let recorded = change.stamped("seq").and_then(|seq| rollout?.given_by(seq));
    let stable = change.stamp.as_ref().and_then(|stamp| Predictor::parse(text(&stamp["stable"])));
    let managed = seen.world.managed(&change.rollout, &[change.before, change.after]);
    for predictor in managed.iter().filter(|predictor| stable.as_ref() != Some(predictor)) {
        let own = |object| objects::own_routes(namespace, object, &change.rollout.1, predictor);
        let old = own(change.before);
        let new: Vec<&Value> = own(change.after).into_iter().filter(|route| !old.contains(route)).collect();
        let copies = change.moved().into_iter().map(|(_, before, after)| {
            (objects::mirrored(namespace, before, predictor), objects::mirrored(namespace, after, predictor))
        });
        let copies =
            copies.filter(|(before, after)| after > before).map(|(_, after)| after).fold(0.0, f64::max);
        if canary != Some(predictor) && (!new.is_empty() || copies > 0.0) {
            found.add(
                Some(&change.rollout),
                format!("{predictor} gets matches or copies and is nobody's canary"),
            );
            continue;
        }
        let Some(recorded) = &recorded else { continue };
        let matched = new.iter().any(|route| !objects::is_sticky(route));
        let marked = new.iter().any(|route| objects::is_sticky(route));
        if matched && recorded.iter().all(|given| given.matches.is_empty())
            || marked && recorded.iter().all(|given| given.weight == 0)
            || recorded.iter().all(|given| given.mirror < copies)
        {
            let seq = change.stamped("seq").unwrap_or(0);
            let what = format!("{predictor} gets matches or copies that decision {seq} did not record");
            found.add(Some(&change.rollout), what);
        }
        let weight = recorded.iter().map(|given| given.weight).max().unwrap_or(0);
        let pinned = rollout.map(|rollout| objects::planned(&rollout.status()["pinned"]));
        let headers: BTreeSet<String> = pinned.into_iter().flatten().filter_map(|step| step.hash).collect();
        for header in &headers {
            for number in new.iter().filter_map(|route| hashed::beyond(route, header, weight)) {
                let what =
                    format!("{predictor} gets the hash {number:04x} in {header}, which is beyond {weight}%");
                found.add(Some(&change.rollout), what);
            }
        }
    }
}
