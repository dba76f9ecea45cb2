//! The objects that a Rollout is about, wherever they were read: from its file, or from a cluster.

mod behind;
mod cluster;

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_core::{
    HostNames, Predictor,
    api::{Reason, RolloutSpec},
    carrier::{self, Claim, ObjectName, World},
    machine::{Refusal, SeenTraffic, State},
    plan::{Plan, PlanError},
    target::{self, NamedStable, SeldonView, ServiceView, StableField},
    traffic::Cluster,
};

pub use self::behind::pods;
use super::manifest::Manifest;
use crate::metrics::SeldonNames;

/// What there is, by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Namespace of the Rollout.
    pub namespace: String,
    /// Name of the Rollout.
    pub rollout: String,
    /// The VirtualServices of its plan.
    pub virtual_services: BTreeMap<ObjectName, Value>,
    /// The ports of Services.
    pub services: BTreeMap<ObjectName, Vec<u16>>,
    /// SeldonDeployments: the target's, and those that VirtualServices of the plan belong to.
    pub deployments: BTreeMap<ObjectName, Value>,
    /// The SeldonDeployment of each VirtualService that belongs to one, which is shown as it says.
    pub slots: BTreeMap<ObjectName, Value>,
    /// What names mean in the cluster.
    pub names: HostNames,
    /// What a cluster says beside them; nothing where the objects are from a file.
    pub cluster: Option<Around>,
}

/// What there is in a cluster around the objects of a plan.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The Rollout's uid, where it is there.
    pub uid: String,
    /// When it was created.
    pub since: Option<chrono::DateTime<chrono::Utc>>,
    /// What the controller remembers of it.
    pub state: State,
    /// The routes of other Rollouts.
    pub claims: Vec<Claim>,
    /// DestinationRules that generated routes need, as far as they are there.
    pub rules: BTreeMap<ObjectName, Value>,
    /// The VirtualServices that delegate to the generated one; nothing where not all can be seen.
    pub delegators: Option<Vec<Value>>,
    /// What keeps the routes from working: a Gateway or a subset that is not there.
    pub lacks: Option<Refusal>,
    /// What could not be read, for want of a right.
    pub remarks: Vec<String>,
}

impl Objects {
    /// Those that stand in the file beside the Rollout.
    pub fn of_file(manifest: &Manifest, plan: &Plan, namespace: &str) -> Self {
        let named = |object: &Value| -> ObjectName {
            let field = |name: &str| object["metadata"][name].as_str().map(str::to_owned);
            (field("namespace").unwrap_or_else(|| namespace.to_owned()), field("name").unwrap_or_default())
        };
        let of_kind =
            |kind: &'static str| manifest.others.iter().filter(move |object| object["kind"] == kind).cloned();
        let mut virtual_services: BTreeMap<ObjectName, Value> =
            of_kind("VirtualService").map(|object| (named(&object), object)).collect();
        virtual_services.retain(|name, _| is_planned(plan, name));
        for object in virtual_services.values_mut() {
            // One that nobody has read off a server has no version, and a patch is always made against one.
            object["metadata"]["resourceVersion"] = Value::from("0");
        }
        Self {
            namespace: namespace.to_owned(),
            rollout: manifest.name.clone(),
            virtual_services,
            services: of_kind("Service").map(|service| (named(&service), ports(&service))).collect(),
            ..Self::default()
        }
    }

    /// VirtualServices that the plan moves and that the file has not, though it has others of their namespace: misspelt, as a
    /// rule.
    pub fn not_in_file(manifest: &Manifest, plan: &Plan, namespace: &str) -> Vec<PlanError> {
        let field = |object: &Value, name: &str| object["metadata"][name].as_str().map(str::to_owned);
        let there: Vec<ObjectName> = manifest
            .others
            .iter()
            .filter(|object| object["kind"] == "VirtualService")
            .map(|object| {
                let home = field(object, "namespace").unwrap_or_else(|| namespace.to_owned());
                (home, field(object, "name").unwrap_or_default())
            })
            .collect();
        // What is generated is in no file.
        let routes = plan.routes.iter().enumerate().filter(|_| plan.expose.is_none());
        let missing = routes.filter_map(|(index, route)| {
            let beside: Vec<&str> = there
                .iter()
                .filter(|(home, _)| *home == route.namespace)
                .map(|(_, name)| name.as_str())
                .collect();
            (!beside.is_empty() && !beside.contains(&route.name.as_str())).then(|| PlanError {
                path: format!("spec.routes[{index}].virtualService"),
                reason: Reason::VirtualServiceNotFound,
                problem: format!(
                    "VirtualService {}/{} is not in the file (there is {})",
                    route.namespace,
                    route.name,
                    beside.join(", ")
                ),
            })
        });
        missing.collect()
    }

    /// Runs `what` on them as the pure core sees them.
    pub fn with_world<T>(&self, what: impl FnOnce(&World<'_>) -> T) -> T {
        let ports = |namespace: &str, name: &str| {
            self.services.get(&(namespace.to_owned(), name.to_owned())).cloned()
        };
        what(&World {
            namespace: &self.namespace,
            name: &self.rollout,
            virtual_services: self
                .virtual_services
                .iter()
                .map(|(name, object)| (name.clone(), object))
                .collect(),
            cluster: Cluster { names: &self.names, ports: &ports },
        })
    }

    /// The predictor that is to be live.
    pub fn wanted(&self, spec: &RolloutSpec) -> Result<Predictor, Refusal> {
        let service = |name: &str| {
            let ports = self.services.get(&(self.namespace.clone(), name.to_owned()))?;
            Some(ServiceView { ports: ports.clone() })
        };
        target::wanted_in(spec, &self.namespace, service, |name| self.seldon(name))
    }

    fn seldon(&self, name: &str) -> Option<SeldonView> {
        let deployment = self.deployments.get(&(self.namespace.clone(), name.to_owned()))?;
        Some(SeldonView::read(deployment))
    }

    /// What Seldon Core calls a predictor, where its SeldonDeployment was read.
    pub fn seldon_names(&self, predictor: &Predictor) -> Option<SeldonNames> {
        let home = self.deployments.iter().filter(|((namespace, _), _)| *namespace == predictor.namespace);
        let mut views = home.map(|(_, deployment)| SeldonView::read(deployment));
        views.find_map(|view| SeldonNames::behind(&predictor.service, &view))
    }

    /// What the routes show; who has users is in it.
    pub fn see(&self, plan: &Plan, wanted: &Predictor, spec: &RolloutSpec) -> Result<SeenTraffic, Refusal> {
        let from = if self.cluster.as_ref().is_some_and(|around| around.state.stable.is_some()) {
            NamedStable::nobody(StableField::of(spec))
        } else {
            target::named_stable(spec, &self.namespace, |name| self.seldon(name))?
        };
        let mut seen = self.with_world(|world| carrier::see(world, plan, Some(wanted), &from))?;
        // Before any route was generated the SeldonDeployment says who has users.
        if let (Some(_), Some(target)) = (&plan.expose, &spec.target.seldon_deployment)
            && self.virtual_services.is_empty()
            && let Some(view) = self.seldon(&target.name)
        {
            seen.weighted = target::seldon::first(target, &self.namespace, &view);
        }
        Ok(seen)
    }
}

/// Whether a VirtualService is one of those that a plan moves.
pub fn is_planned(plan: &Plan, name: &ObjectName) -> bool {
    plan.routes.iter().any(|route| route.namespace == name.0 && route.name == name.1)
}

/// The ports of a Service.
pub fn ports(service: &Value) -> Vec<u16> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| u16::try_from(port["port"].as_u64()?).ok()).collect()
}
