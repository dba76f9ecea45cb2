//! Guarantee 14: "Paused or unapproved: the setting does not grow (putting a drifted weight back is no growth); abort always
//! works."
//!
//! Checked where a status that a controller writes has more for the canary than the one it replaced: neither the spec nor the
//! status that was replaced is paused (both are written under the version that was read, so nobody could be surprised), no
//! RolloutAction that asks for a pause has been waiting for longer than news take, and the step that is left was approved,
//! by a RolloutAction that was answered, where the pinned spec asks for that. An abort of the revision in flight is heard
//! within `Limits::reconcile`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Found, Guarantee, Lasting, Seen, StatusChange, seconds};
use crate::invariants::{
    objects::{self, Given, text},
    world::World,
};

#[derive(Default)]
pub(super) struct Pause {
    aborts: Lasting,
    pauses: Lasting,
}

impl Guarantee for Pause {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        let Some(change) = seen.status() else { return };
        let [old, new] = [change.before, change.after].map(Given::after);
        if !old.covers(&new) {
            for why in self.forbids(seen, &change) {
                found.add(Some(&change.name), format!("the setting grows from {old} to {new}, and {why}"));
            }
        }
    }

    fn time(&mut self, world: &World<'_>, now: DateTime<Utc>, found: &mut Found<'_>) {
        let limits = *world.limits();
        self.pauses.overdue(world, now, limits.news, &open(world, "Pause"));
        for (what, rollout, waited) in
            self.aborts.overdue(world, now, limits.reconcile, &open(world, "Abort"))
        {
            found.add(Some(&rollout), format!("{what} was not heard for {}", seconds(waited)));
        }
    }
}

impl Pause {
    fn forbids(&self, seen: &Seen<'_>, change: &StatusChange<'_>) -> Vec<String> {
        let mut why = Vec::new();
        if change.object["spec"]["paused"] == true {
            why.push("spec.paused is true".to_owned());
        }
        if !change.before["pause"].is_null() {
            why.push(format!("it is paused: {}", change.before["pause"]));
        }
        let asked = open(seen.world, "Pause").into_iter().filter(|(_, rollout)| *rollout == change.name);
        let long_ago = |what: &String| self.pauses.since.get(what).is_some_and(|(_, long_ago)| *long_ago);
        why.extend(
            asked.map(|(what, _)| what).filter(long_ago).map(|what| format!("{what} waits to be heard")),
        );
        let (from, to) = (objects::step_index(change.before), objects::step_index(change.after));
        let steps = objects::planned(&change.before["pinned"]);
        let left =
            from.filter(|from| to > Some(*from)).and_then(|from| steps.get(usize::try_from(from).ok()?));
        if left.is_some_and(|step| step.approve) && !is_let_through(seen.world, change, from.unwrap_or(0)) {
            why.push(format!("nobody approved step {}", from.unwrap_or(0) + 1));
        }
        why
    }
}

/// Whether a person approved the step, or passed it.
fn is_let_through(world: &World<'_>, change: &StatusChange<'_>, step: u64) -> bool {
    let Some(canary) = objects::canary_in_flight(change.before) else { return false };
    let done = objects::list(&change.after["handled"]).filter(|handled| handled["phase"] == "Done");
    let mut actions = done.filter_map(|handled| world.action(&change.name.0, text(&handled["uid"])));
    actions.any(|action| {
        let spec = &action["spec"];
        let about_it = text(&spec["revision"]) == canary.to_string();
        match text(&spec["do"]) {
            "Approve" | "Promote" | "DecideCanary" => about_it && spec["step"].as_u64() == Some(step + 1),
            "PromoteFull" => about_it,
            _ => false,
        }
    })
}

/// Actions of one kind that are about what is in flight and were not handled.
fn open(world: &World<'_>, what: &str) -> BTreeMap<String, super::Name> {
    let mut open = BTreeMap::new();
    for (name, rollout, object) in world.existing() {
        let Some(canary) = objects::canary_in_flight(rollout.status()) else { continue };
        for action in world.all("rolloutactions", &name.0) {
            let spec = &action["spec"];
            let about_it = spec["rollout"] == name.1.as_str()
                && spec["do"] == what
                && (spec["revision"].is_null() || text(&spec["revision"]) == canary.to_string());
            let uid = &action["metadata"]["uid"];
            let handled = objects::list(&rollout.status()["handled"]).any(|handled| handled["uid"] == *uid);
            let older = text(&action["metadata"]["creationTimestamp"])
                < text(&object["metadata"]["creationTimestamp"]);
            if about_it && !handled && !older && action["status"].is_null() {
                open.insert(format!("{what} {}", text(&action["metadata"]["name"])), name.clone());
            }
        }
    }
    open
}
