//! Guarantee 10: "Never roll back onto a stable that has no ready endpoint: hold, say so loudly."
//!
//! Checked where a decision takes traffic from the canary, in the status or (where its record failed) in the stamp, while
//! stable has had no endpoint for longer than news take; a person's abort and a deletion go before. Said loudly is a status
//! that is `Stalled` with the reason `StableNotReady` while a breach of the canary is visible. Putting drift back is no
//! rollback.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Found, Guarantee, Lasting, Seen, g03_breach::is_breached, seconds};
use crate::invariants::{
    objects::{self, Given, Predictor, text},
    world::{World, key},
};

#[derive(Default)]
pub(super) struct Hold(Lasting);

/// What goes before.
const FORCED: [&str; 2] = ["Aborted", "Deleted"];

impl Guarantee for Hold {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        if let Some(change) = seen.status() {
            let stable = Predictor::of(&change.before["stable"]);
            let Some(stable) = stable.filter(|stable| seen.world.is_known_unready(stable, seen.commit.at))
            else {
                return;
            };
            let takes = |d: &&&serde_json::Value| {
                let [from, to] = [Given::before(d), Given::after(d)];
                from.has_users() && to.is_less_than(&from) && !FORCED.contains(&text(&d["reason"]))
            };
            for decision in change.news.iter().filter(takes) {
                // What a crash kept from being recorded was decided at another time.
                let what = format!(
                    "decision {} ({}) goes back to {stable}, which has no ready endpoint",
                    decision["seq"], decision["kind"]
                );
                found.add(Some(&change.name), what);
            }
        }
        for change in seen.routes() {
            unrecorded(seen, &change, found);
        }
    }

    fn time(&mut self, world: &World<'_>, now: DateTime<Utc>, found: &mut Found<'_>) {
        let mut silent = BTreeMap::new();
        for (name, rollout, _) in world.existing() {
            let status = rollout.status();
            let Some(canary) = objects::canary_in_flight(status) else { continue };
            let Some(stable) = Predictor::of(&status["stable"]) else { continue };
            let dead = world.ready_of(&stable) == 0;
            let loud = status["phase"] == "Stalled" && status["reason"] == "StableNotReady";
            let holds = Given::after(status).has_users();
            if dead && holds && !loud && is_breached(world, &canary, now) {
                silent.insert(format!("Rollout {}", key(name)), name.clone());
            }
        }
        let limit = world.limits().breach;
        for (what, rollout, waited) in self.0.overdue(world, now, limit, &silent) {
            let waited = seconds(waited);
            let what = format!(
                "{what} cannot roll back a breach onto a stable without endpoints and has not said so for {waited}"
            );
            found.add(Some(&rollout), what);
        }
    }
}

/// A decrease that was acted on though it could not be recorded.
fn unrecorded(seen: &Seen<'_>, change: &super::RouteChange<'_>, found: &mut Found<'_>) {
    let Some(stamp) = &change.stamp else { return };
    let seq = stamp["seq"].as_u64().unwrap_or(0);
    let is_recorded =
        seen.world.rollout(&change.rollout).is_some_and(|rollout| rollout.recorded.contains_key(&seq));
    let before = change.stamp_before.as_ref();
    let lower = before.is_some_and(|before| {
        let [from, to] = [before, stamp].map(Given::stamped);
        from.has_users() && to.is_less_than(&from)
    });
    let Some(stable) = Predictor::parse(text(&stamp["stable"])) else { return };
    let outcome = &stamp["outcomes"][text(&stamp["revision"])];
    let forced = outcome == "Aborted" || outcome == "Released";
    if lower && !is_recorded && !forced && seen.world.is_known_unready(&stable, seen.commit.at) {
        let what = format!(
            "the routes go back to {stable}, which has no ready endpoint, for decision {seq}, which is not recorded"
        );
        found.add(Some(&change.rollout), what);
    }
}
