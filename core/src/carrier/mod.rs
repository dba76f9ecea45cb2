//! Where weights are written: VirtualServices of the user, one that is generated, or a
//! SeldonDeployment's traffic.
//!
//! [`see`] reads from them what the machine needs to know, [`accept`] says what keeps a rollout from starting on
//! them, and [`effects`] is the difference between them and what is desired, at most one write per object.

mod accept;
mod effects;
mod expose;
mod permit;
mod rules;
mod see;
mod slots;
mod written;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use accept::{Claim, accept, may_see, pair};
pub use effects::{Effect, Outlook, effects};
pub use expose::{
    Generated, Kind, Write, accept_delegated, accept_generated, delegates_to, is_ours, no_gateway,
    required_gateways, required_subset,
};
pub use permit::permit;
pub use rules::{accept_rules, accept_subset, generated_labels, rule_names, rules, subset_labels};
pub use see::see;
use serde_json::Value;
pub use slots::{accept_slots, as_route, deployment_of, lowered, not_carried_out, written_back};
pub use written::{changed, created};

use crate::{
    plan::{Plan, PlannedRoute},
    traffic::{Cluster, Selection},
};

/// Namespace and name of a VirtualService.
pub type ObjectName = (String, String);

/// The objects that routes live in, as read.
pub struct World<'a> {
    /// Namespace of the Rollout.
    pub namespace: &'a str,
    /// Name of the Rollout.
    pub name: &'a str,
    /// The VirtualServices of the plan that exist.
    pub virtual_services: BTreeMap<ObjectName, &'a Value>,
    /// Resolves hosts and ports.
    pub cluster: Cluster<'a>,
}

impl World<'_> {
    /// `namespace/name` of the Rollout: its key in stamps.
    pub fn rollout(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn get(&self, route: &PlannedRoute) -> Option<&Value> {
        self.virtual_services.get(&route.object()).copied()
    }
}

fn selection(world: &World<'_>, route: &PlannedRoute) -> Selection {
    Selection {
        http: route.http.clone(),
        tcp: route.tcp.clone(),
        tls: route.tls.clone(),
        ..Selection::every_http(&route.namespace, &route.name, world.rollout())
    }
}

/// Who controls an object, as its owner references say.
fn controllers(object: &Value) -> impl Iterator<Item = &Value> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().filter(|owner| owner["controller"] == true)
}

/// All that a plan moves of one object: its http routes at once, so that no part of the plan takes away what another one
/// added, and its connections.
fn whole(world: &World<'_>, plan: &Plan, object: &ObjectName) -> Vec<Selection> {
    let nothing = || Selection::every_http(&object.0, &object.1, world.rollout());
    let of_object = plan.routes.iter().filter(|route| route.namespace == object.0 && route.name == object.1);
    let (mut requests, mut connections) = (nothing(), nothing());
    let (mut some, mut all) = (false, false);
    for route in of_object {
        some |= route.has_http();
        all |= route.has_all_http();
        requests.http.extend(route.http.iter().cloned());
        connections.tcp.extend(&route.tcp);
        connections.tls.extend(route.tls.iter().cloned());
    }
    if all {
        requests.http.clear();
    }
    let moves_connections = !connections.is_every_http();
    let requests = some.then_some(requests);
    requests.into_iter().chain(moves_connections.then_some(connections)).collect()
}

/// The VirtualServices of a plan, each once.
fn objects(plan: &Plan) -> Vec<ObjectName> {
    let mut names: Vec<ObjectName> = plan.routes.iter().map(PlannedRoute::object).collect();
    names.sort();
    names.dedup();
    names
}
