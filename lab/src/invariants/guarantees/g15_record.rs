//! Guarantee 15: "Each decision is recorded before traffic grows, exactly once."
//!
//! In the status that a controller writes: what was recorded stays, but for the oldest of 20, and where all would be longer
//! than 96 KiB but for the numbers of the oldest, and them; a number that grows is that of
//! a decision that is recorded in the same commit, one more than the one before it, or of a stamp that was taken over
//! (decided when the record failed); more weight needs a decision that says from what to what. In the VirtualService: the
//! canary grows only with the number of a decision that was recorded before.

use serde_json::Value;

use super::{Found, Guarantee, Seen, StatusChange};
use crate::invariants::{
    objects::{self, Given, Predictor, text},
    world::key,
};

pub(super) struct Record;

/// How many decisions a status keeps.
const KEPT: usize = 20;
/// How many bytes of JSON it keeps of them. The checker's JSON may be a little longer or shorter than the controller's.
const ROOM: usize = 90 * 1024;

impl Guarantee for Record {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        if let Some(change) = seen.status() {
            for what in status(seen, &change) {
                found.add(Some(&change.name), what);
            }
        }
        let namespace = &seen.commit.namespace;
        for change in seen.routes() {
            let Some(canary) = change.stamp.as_ref().and_then(|s| Predictor::parse(text(&s["revision"])))
            else {
                continue;
            };
            let own = |object| objects::own_routes(namespace, object, &change.rollout.1, &canary);
            let old = own(change.before);
            let grows = own(change.after).iter().any(|route| !old.contains(route))
                || change.moved().into_iter().any(|(_, before, after)| {
                    objects::weight(namespace, after, &canary) > objects::weight(namespace, before, &canary)
                        || objects::mirrored(namespace, after, &canary)
                            > objects::mirrored(namespace, before, &canary)
                });
            let is_stable = change.stamp.as_ref().is_some_and(|stamp| stamp["stable"] == stamp["revision"]);
            let seq = change.stamped("seq").unwrap_or(0);
            let rollout = seen.world.rollout(&change.rollout);
            if grows && !is_stable && !rollout.is_some_and(|rollout| rollout.recorded.contains_key(&seq)) {
                let what = format!("{canary} gets more by decision {seq}, which was not recorded before");
                found.add(Some(&change.rollout), what);
            }
        }
    }
}

fn status(seen: &Seen<'_>, change: &StatusChange<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let old: Vec<&Value> = objects::decisions(change.before).collect();
    let new: Vec<&Value> = objects::decisions(change.after).collect();
    let numbers: Vec<u64> = new.iter().map(|d| d["seq"].as_u64().unwrap_or(0)).collect();
    for pair in numbers.windows(2) {
        if pair[1] <= pair[0] {
            found.push(format!("decision {} is recorded after {}", pair[1], pair[0]));
        }
    }
    // Of what was there only the oldest may be gone, and only where the list is full.
    let gone = if new.len() < KEPT { 0 } else { (old.len() + 1).saturating_sub(KEPT) + change.news.len() };
    let all = old.iter().chain(&change.news);
    let no_room = all.map(|decision| decision.to_string().len()).sum::<usize>() > ROOM;
    for decision in old.iter().skip(gone) {
        let is_cut = || {
            no_room && (is_abridged(decision, &new) || numbers.first() > decision["seq"].as_u64().as_ref())
        };
        if !new.contains(decision) && !is_cut() {
            found.push(format!("decision {} is not on record any more, or another one", decision["seq"]));
        }
    }
    let [before, after] = [change.before, change.after].map(|status| status["seq"].as_u64().unwrap_or(0));
    if after > before {
        let recorded = numbers.last() == Some(&after);
        if !recorded && !is_stamped(seen, change, after) {
            found.push(format!("decision {after} was made and is not recorded"));
        }
        // One at a time, from what was recorded or from what was stamped.
        if after > before + 1
            && before > 0
            && !is_stamped(seen, change, after)
            && !is_stamped(seen, change, after - 1)
        {
            found.push(format!(
                "from decision {before} to {after}: what was between is neither recorded nor stamped"
            ));
        }
    }
    if let Some(seq) = numbers.last().filter(|seq| **seq > after) {
        found.push(format!("decision {seq} is recorded in a status that is at {after}"));
    }
    let [from, to] = [change.before, change.after].map(Given::after);
    let says = |decision: &&Value| Given::before(decision) == from && Given::after(decision) == to;
    if !from.covers(&to) && !change.news.last().is_some_and(says) {
        found.push(format!("the setting grows from {from} to {to} without a decision that says so"));
    }
    found
}

/// Whether one of `new` is `decision` without what it was decided on and what it wrote, and says so.
fn is_abridged(decision: &Value, new: &[&Value]) -> bool {
    let mut short = decision.clone();
    if let Some(fields) = short.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "checks" | "writes" | "moreWrites"));
        fields.insert("abridged".to_owned(), true.into());
    }
    new.contains(&&short)
}

/// Whether a VirtualService shows the number, or a SeldonDeployment whose operator owns the routes.
fn is_stamped(seen: &Seen<'_>, change: &StatusChange<'_>, seq: u64) -> bool {
    let key = key(&change.name);
    seen.world.stamped().any(|object| {
        objects::stamps(object).get(&key).is_some_and(|stamp| stamp["seq"].as_u64() == Some(seq))
    })
}
