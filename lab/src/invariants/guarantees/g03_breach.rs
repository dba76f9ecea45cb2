//! Guarantee 3: "A visible breach ends at no traffic for the canary, also across a crash of the controller at any
//! instruction; at the latest when the next leader has its lease (15 s) and has looked. 10 goes before this; a person's
//! abort or deletion goes before 10."
//!
//! A breach is a [`Mark::Breach`] of the Service of a canary that has traffic; from then on it may have it for
//! `Limits::breach`. Objects do not show breaches: what no mark tells is not seen. The clock stands still while stable has
//! no ready endpoint.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Found, Guarantee, Lasting, seconds};
use crate::invariants::{
    objects::{self, Name, Predictor},
    run::Mark,
    world::{World, key},
};

#[derive(Default)]
pub(super) struct Breach(Lasting);

impl Guarantee for Breach {
    fn time(&mut self, world: &World<'_>, now: DateTime<Utc>, found: &mut Found<'_>) {
        let mut breaching = BTreeMap::new();
        for (name, rollout, object) in world.existing() {
            let Some(canary) = Predictor::of(&rollout.status()["canary"]).or_else(|| {
                // One that became stable meanwhile did not end at no traffic.
                Predictor::of(&rollout.status()["stable"]).filter(|stable| self.0.has(&told(stable, name)))
            }) else {
                continue;
            };
            let stable = Predictor::of(&rollout.status()["stable"]).filter(|stable| *stable != canary);
            let dead = stable.is_some_and(|stable| world.ready_of(&stable) == 0);
            let routes = objects::routes(object, &name.0);
            let has_traffic = routes.iter().any(|(route, names)| {
                let virtual_service = world.virtual_services.get(route);
                virtual_service.is_some_and(|v| objects::most(&route.0, v, names, &name.1, &canary) > 0)
            });
            if has_traffic && !dead && is_breached(world, &canary, now) {
                breaching.insert(told(&canary, name), name.clone());
            }
        }
        let limit = world.limits().breach;
        for (what, rollout, waited) in self.0.overdue(world, now, limit, &breaching) {
            let what = format!(
                "{what} still has traffic {} after its breach was visible, expected none after {}",
                seconds(waited),
                seconds(limit)
            );
            found.add(Some(&rollout), what);
        }
    }
}

fn told(canary: &Predictor, rollout: &Name) -> String {
    format!("{canary} of Rollout {}", key(rollout))
}

/// Whether a mark says so.
pub(super) fn is_breached(world: &World<'_>, canary: &Predictor, now: DateTime<Utc>) -> bool {
    world.run.marks.iter().any(|mark| match mark {
        Mark::Breach { namespace, service, from, to } => {
            *namespace == canary.namespace
                && *service == canary.service
                && *from <= now
                && to.is_none_or(|to| now < to)
        }
        Mark::Outage { .. } | Mark::Away { .. } | Mark::Rest { .. } => false,
    })
}
