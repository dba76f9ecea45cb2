//! Guarantee 2: "No traffic, by weight or by match, to a predictor with no ready endpoint for longer than one reconcile."
//!
//! Checked for whoever is not stable, on the routes that a Rollout moves, while stable could answer in its place (10 goes
//! before). Ready is what the EndpointSlices say, of a subset those of its pods; `Limits::reconcile` says how long a reconcile is. Stable itself stays:
//! there is nobody else who earned its traffic. Not seen: a VirtualService that the Rollout does not move.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Found, Guarantee, Lasting, seconds};
use crate::invariants::{
    objects::{self, Predictor},
    world::World,
};

#[derive(Default)]
pub(super) struct Ready(Lasting);

impl Guarantee for Ready {
    fn time(&mut self, world: &World<'_>, now: DateTime<Utc>, found: &mut Found<'_>) {
        let mut dead = BTreeMap::new();
        for (name, rollout, object) in world.existing() {
            let Some(stable) = Predictor::of(&rollout.status()["stable"]) else { continue };
            if world.ready_of(&stable) == 0 || objects::is_pending(rollout.status()) {
                continue;
            }
            for (route, names) in objects::routes(object, &name.0) {
                let Some(virtual_service) = world.virtual_services.get(&route) else { continue };
                for predictor in world.managed(name, &[virtual_service]).iter().filter(|p| **p != stable) {
                    let weight = objects::most(&route.0, virtual_service, &names, &name.1, predictor);
                    if weight > 0 && world.ready_of(predictor) == 0 {
                        let what = format!("{predictor} on VirtualService {}/{}", route.0, route.1);
                        dead.insert(what, name.clone());
                    }
                }
            }
        }
        let limit = world.limits().reconcile;
        for (what, rollout, waited) in self.0.overdue(world, now, limit, &dead) {
            let what = format!(
                "{what} has traffic and no ready endpoint for {}, expected at most {}",
                seconds(waited),
                seconds(limit)
            );
            found.add(Some(&rollout), what);
        }
    }
}
