//! Guarantee 12: "Every terminal path removes mirror and match routes; a mirror never answers a user."
//!
//! Checked on the VirtualServices that carry a Rollout's stamp: while nothing of it is in flight, there is no route of
//! ours (`sluice-<namespace>/<rollout>/<route>`) and no mirror to a predictor of it that nobody else has put there and left; and while a step mirrors only, its canary has neither weight nor match. A canary that has no traffic for
//! want of an endpoint counts as none in flight.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Found, Guarantee, Lasting, Seen};
use crate::invariants::{
    objects::{self, Name, Predictor, text},
    world::{Rollout, World, key},
};

#[derive(Default)]
pub(super) struct Leftovers {
    lasting: Lasting,
    /// The hosts that others mirror to, by VirtualService.
    users: BTreeMap<Name, BTreeSet<String>>,
}

impl Guarantee for Leftovers {
    fn commit(&mut self, seen: &Seen<'_>, _: &mut Found<'_>) {
        if seen.plural() == "virtualservices"
            && !seen.by_controller
            && let Some(after) = &seen.commit.after
        {
            // Who leaves one there that the controller has put there does not make it theirs.
            let known = self.users.remove(&seen.name()).unwrap_or_default();
            let before: BTreeSet<&str> = seen.commit.before.iter().flat_map(|it| mirrors(it)).collect();
            let theirs = mirrors(after).filter(|host| known.contains(*host) || !before.contains(host));
            self.users.insert(seen.name(), theirs.map(str::to_owned).collect());
        }
    }

    fn time(&mut self, world: &World<'_>, now: DateTime<Utc>, found: &mut Found<'_>) {
        let mut left = BTreeMap::new();
        for (name, object) in &world.virtual_services {
            for rollout in objects::stamps(object).keys().filter_map(|key| key.split_once('/')) {
                let rollout = (rollout.0.to_owned(), rollout.1.to_owned());
                let status = world.rollout(&rollout).map_or(&Value::Null, Rollout::status);
                for what in self.leftovers(world, &rollout, status, name, object) {
                    let what =
                        format!("VirtualService {}/{}: {what} of Rollout {}", name.0, name.1, key(&rollout));
                    left.insert(what, rollout.clone());
                }
            }
        }
        let limit = world.limits().reconcile;
        for (what, rollout, waited) in self.lasting.overdue(world, now, limit, &left) {
            found.add(
                Some(&rollout),
                format!("{what} has been there for {}, expected to be gone", super::seconds(waited)),
            );
        }
    }
}

impl Leftovers {
    fn leftovers(
        &self,
        world: &World<'_>,
        rollout: &Name,
        status: &Value,
        name: &Name,
        object: &Value,
    ) -> Vec<String> {
        let mut left = Vec::new();
        let own = objects::list(&object["spec"]["http"]).filter(|route| objects::is_own(route, &rollout.1));
        let in_flight = objects::canary_in_flight(status).filter(|_| !objects::is_withdrawn(status));
        if let Some(canary) = in_flight {
            let steps = objects::planned(&status["pinned"]);
            let step = objects::step_index(status).and_then(|index| steps.get(usize::try_from(index).ok()?));
            let weight = objects::most(&name.0, object, &[], &rollout.1, &canary);
            if step.is_some_and(|step| step.shadow) && weight > 0 {
                left.push(format!("a share for {canary}, which a mirror only copies to, "));
            }
            return left;
        }
        left.extend(own.map(|route| format!("the route {}", text(&route["name"]))));
        let managed = world.managed(rollout, &[object]);
        let ours = |host: &&str| {
            let service = objects::service_of(host, &name.0);
            let is_managed = |predictor: &Predictor| Some(predictor.name()) == service;
            managed.iter().any(is_managed) && !self.users.get(name).is_some_and(|hosts| hosts.contains(*host))
        };
        left.extend(mirrors(object).filter(ours).map(|host| format!("the mirror to {host}")));
        left
    }
}

/// The hosts that a VirtualService mirrors to.
fn mirrors(object: &Value) -> impl Iterator<Item = &str> {
    objects::list(&object["spec"]["http"]).flat_map(|route| {
        let several = objects::list(&route["mirrors"]).map(|mirror| text(&mirror["destination"]["host"]));
        several.chain(std::iter::once(text(&route["mirror"]["host"]))).filter(|host| !host.is_empty())
    })
}
