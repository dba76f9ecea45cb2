//! Guarantee 1: "Weights of the managed pair are 0..100 and add up to the share the user gave the pair; other destinations
//! keep theirs."
//!
//! Checked at every write of a controller: the managed destinations have together what they had before, and the canary
//! no more of it than the stamped setting, rounded down. What people write need not add up to anything. A generated route
//! is the Rollout's alone: the pair has all of it, whatever a hand put there.

use super::{Found, Guarantee, RouteChange, Seen};
use crate::invariants::objects::{self, Destination, Predictor};

pub(super) struct Share;

impl Guarantee for Share {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        for change in seen.routes() {
            let managed = seen.world.managed(&change.rollout, &[change.before, change.after]);
            let managed: Vec<&Predictor> = managed.iter().collect();
            for (at, before, after) in change.moved() {
                let place = format!("spec.http[{at}] ({})", after["name"]);
                let mut wrong = route(&seen.commit.namespace, &change, &managed, before, after);
                if is_generated(change.after) {
                    wrong = generated(&seen.commit.namespace, &managed, after);
                    wrong.extend(too_much(&seen.commit.namespace, &change, after, 100));
                }
                for what in wrong {
                    found.add(Some(&change.rollout), format!("{place}: {what}"));
                }
            }
        }
    }
}

fn is_generated(object: &serde_json::Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.into_iter().any(|owner| owner["kind"] == "Rollout" && owner["controller"] == true)
}

fn generated(namespace: &str, managed: &[&Predictor], after: &serde_json::Value) -> Vec<String> {
    let all = objects::destinations(namespace, after);
    let foreign = all.iter().find(|destination| !destination.is_any(managed.iter().copied()));
    let sum: u64 = all.iter().map(|destination| destination.weight).sum();
    let foreign = foreign.map(|other| format!("{} is on a generated route", other.host()));
    foreign
        .into_iter()
        .chain((sum != 100).then(|| format!("the pair has {sum} together, expected 100")))
        .collect()
}

fn route(
    namespace: &str,
    change: &RouteChange<'_>,
    managed: &[&Predictor],
    before: &serde_json::Value,
    after: &serde_json::Value,
) -> Vec<String> {
    let mut found = Vec::new();
    if before == after {
        return found;
    }
    let [old, new] = [before, after].map(|route| objects::destinations(namespace, route));
    for destination in &new {
        let weight = &destination.entry["weight"];
        if !weight.is_null() && weight.as_u64().is_none_or(|weight| weight > 100) {
            found.push(format!("the weight of {} is {weight}, expected 0..100", destination.host()));
        }
    }
    let is_managed = |destination: &&Destination<'_>| destination.is_any(managed.iter().copied());
    let sum = |all: &[Destination<'_>]| all.iter().filter(is_managed).map(|d| d.weight).sum::<u64>();
    let nobody = old.iter().all(|destination| destination.weight == 0);
    // Where nobody has anything, which Istio refuses, the pair gets all.
    let (share, now) = (if nobody { 100 } else { sum(&old) }, sum(&new));
    if share != now {
        found.push(format!("the pair has {now} together, expected the {share} that it had"));
    }
    let others = |all: &[Destination<'_>]| -> Vec<(String, u64)> {
        let foreign = all.iter().filter(|destination| !is_managed(destination));
        foreign.map(|destination| (destination.host().to_owned(), destination.weight)).collect()
    };
    if others(&old) != others(&new) {
        found.push(format!("others have {:?}, expected the {:?} that they had", others(&new), others(&old)));
    }
    found.extend(too_much(namespace, change, after, share));
    found
}

fn too_much(
    namespace: &str,
    change: &RouteChange<'_>,
    after: &serde_json::Value,
    share: u64,
) -> Option<String> {
    let canary = Predictor::parse(objects::text(&change.stamp.as_ref()?["revision"]))?;
    let setting = change.stamped("setting")?;
    let (weight, most) = (objects::weight(namespace, after, &canary), share * setting / 100);
    (weight > most)
        .then(|| format!("the canary {canary} has {weight}, expected {setting}% of {share}, {most}"))
}
