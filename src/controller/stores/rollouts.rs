//! What each Rollout is about: the VirtualServices that it moves, or waits for, the Services that it asks about, and
//! what it claims. Read once per version of it, so that a change of anything finds its Rollouts, and a Rollout its
//! neighbours, without asking all of them.

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde::Deserialize;
use sluice_core::{
    Predictor,
    api::RolloutSpec,
    carrier::Claim,
    plan::{Plan, PlannedRoute},
    target::seldon::service_name,
};

use super::cache::{Entry, Name, name};
use crate::controller::subject::{RolloutObject, created};

/// What a Rollout can be about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Thing {
    VirtualService(Name),
    Service(Name),
    SeldonDeployment(Name),
}

impl Thing {
    pub(super) fn of_route(route: &PlannedRoute) -> Self {
        Self::VirtualService(name(&route.namespace, &route.name))
    }
}

/// What a Rollout is about.
#[derive(Debug, PartialEq)]
pub(super) struct Concern {
    things: Box<[Thing]>,
    pub(super) uid: Box<str>,
    /// The routes that it is moving, or would move.
    pub(super) claim: Option<Claim>,
}

/// The part of a status that names things.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    stable: Option<Predictor>,
    canary: Option<Predictor>,
    retiring: Vec<Leaving>,
    pinned: Option<Box<RolloutSpec>>,
}

#[derive(Deserialize)]
struct Leaving {
    predictor: Predictor,
}

impl Concern {
    /// A part that cannot be read names nothing: its Rollout is refused until it is another one.
    pub(super) fn of(rollout: &RolloutObject) -> Self {
        let namespace = rollout.namespace().unwrap_or_default();
        let (spec, status) = rollout.texts();
        let spec: Option<RolloutSpec> = spec.and_then(|spec| serde_json::from_str(&spec).ok());
        let named: Named = status.and_then(|status| serde_json::from_str(&status).ok()).unwrap_or_default();
        let plan = |spec: &RolloutSpec| Plan::named(spec, &namespace, &rollout.name_any()).ok();
        let (pinned, current) = (named.pinned.as_deref().and_then(plan), spec.as_ref().and_then(plan));

        let mut things = BTreeSet::new();
        for plan in pinned.iter().chain(&current) {
            things.extend(plan.routes.iter().map(Thing::of_route));
        }
        let target = spec.as_ref().and_then(|spec| spec.target.service.as_ref());
        things.extend(target.map(|target| Thing::Service(name(&namespace, &target.name))));
        let seldon = spec.as_ref().and_then(|spec| spec.target.seldon_deployment.as_ref());
        things.extend(seldon.map(|target| Thing::SeldonDeployment(name(&namespace, &target.name))));
        let of_wanted = seldon.map(|target| service_name(&target.name, &target.predictor));
        things.extend(of_wanted.map(|service| Thing::Service(name(&namespace, &service))));
        let leaving = named.retiring.iter().map(|leaving| &leaving.predictor);
        let predictors = named.stable.iter().chain(&named.canary).chain(leaving);
        things.extend(predictors.map(|it| Thing::Service(name(&it.namespace, &it.service))));

        // A pinned spec that makes no plan claims nothing in place of the current one.
        let claims = if named.pinned.is_some() { pinned } else { current };
        let claim = claims.map(|plan| Claim {
            rollout: rollout.display(),
            since: created(rollout),
            routes: plan.routes,
        });
        let uid = rollout.uid().unwrap_or_default().into();
        Self { things: things.into_iter().collect(), uid, claim }
    }
}

impl Entry for Concern {
    type Group = Thing;

    fn groups(&self) -> Vec<Thing> {
        self.things.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn concern(spec: &Value, status: &Value) -> Concern {
        let metadata = json!({ "name": "iris", "namespace": "models", "uid": "1" });
        let object = json!({ "metadata": metadata, "spec": spec, "status": status });
        Concern::of(&serde_json::from_str(&object.to_string()).unwrap())
    }

    fn spec(virtual_service: &str) -> Value {
        json!({
            "target": { "service": { "name": "iris-v2", "port": 8000 } },
            "routes": [{ "virtualService": virtual_service }],
            "steps": [{ "weight": 10, "for": "1m" }],
            "metrics": { "source": "default" },
        })
    }

    fn predictor(service: &str) -> Value {
        json!({ "namespace": "models", "service": service, "port": 8000 })
    }

    fn things(concern: &Concern) -> Vec<String> {
        let text = |thing: &Thing| match thing {
            Thing::VirtualService(name) => format!("route {name}"),
            Thing::Service(name) => format!("service {name}"),
            Thing::SeldonDeployment(name) => format!("deployment {name}"),
        };
        concern.things.iter().map(text).collect()
    }

    fn claimed(concern: &Concern) -> Vec<&str> {
        let routes = concern.claim.iter().flat_map(|claim| &claim.routes);
        routes.map(|route| route.name.as_str()).collect()
    }

    #[test]
    fn a_rollout_is_about_its_target_and_its_routes() {
        let concern = concern(&spec("iris"), &Value::Null);
        assert_eq!(things(&concern), ["route models/iris", "service models/iris-v2"]);
        assert_eq!(claimed(&concern), ["iris"]);
    }

    #[test]
    fn in_flight_it_is_about_what_is_pinned_too_and_claims_only_that() {
        let status = json!({
            "stable": predictor("iris-v0"),
            "canary": predictor("iris-v1"),
            "retiring": [{ "predictor": predictor("iris-old"), "waited": "3s" }],
            "pinned": spec("pinned"),
        });
        let concern = concern(&spec("iris"), &status);
        assert_eq!(
            things(&concern),
            [
                "route models/iris",
                "route models/pinned",
                "service models/iris-old",
                "service models/iris-v0",
                "service models/iris-v1",
                "service models/iris-v2",
            ]
        );
        assert_eq!(claimed(&concern), ["pinned"]);
    }

    #[test]
    fn what_cannot_be_read_names_and_claims_nothing() {
        let concern = concern(&json!({ "target": 3 }), &json!({ "stable": 4 }));
        assert_eq!((things(&concern).len(), &concern.claim), (0, &None));
    }
}
