//! Reads what a plan is about from a cluster, as the person who asks may.

use std::collections::BTreeMap;

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::Value;
use sluice_core::{
    HostNames, Predictor,
    api::{Rollout, RolloutSpec},
    carrier::{self, Claim, ObjectName},
    machine::{Refusal, State},
    plan::{Plan, PlannedRoute},
    traffic::Setting,
};

use super::{Around, Objects, ports};
use crate::{
    cli::{Session, exit::Failure},
    foreign::{ROOT_NAMESPACE, istio, resource},
};

impl Objects {
    /// Those that are in the cluster, and what is around them. `own` is the Rollout as it is there, if it is.
    ///
    /// # Errors
    /// The cluster does not answer, or does not let us read what there must be.
    pub async fn of_cluster(
        session: &Session<'_>,
        (namespace, name): (&str, &str),
        spec: &RolloutSpec,
        plan: &Plan,
        own: Option<&Rollout>,
    ) -> Result<Self, Failure> {
        let reader = Reader { session };
        let mut objects = Self {
            namespace: namespace.to_owned(),
            rollout: name.to_owned(),
            names: HostNames::default(),
            ..Self::default()
        };
        let mut around = Around {
            uid: own.and_then(ResourceExt::uid).unwrap_or_default(),
            // One that is not there yet will be the youngest.
            since: own.map_or(Some(chrono::DateTime::<chrono::Utc>::MAX_UTC), created),
            state: own.and_then(|own| own.status.as_ref()).map(State::from).unwrap_or_default(),
            ..Around::default()
        };
        reader.routes(&mut objects, plan).await?;
        reader.services(&mut objects, plan, &mut around).await?;
        reader.target_deployment(&mut objects, spec).await?;
        around.claims = reader.claims(&objects, &mut around.remarks).await?;
        around.delegators = reader.delegators(plan, &mut around.remarks).await?;
        let wanted = objects.wanted(spec).ok();
        around.rules = reader.rules(&objects, plan, &around.state, wanted.as_ref()).await?;
        around.lacks = match reader.missing_gateway(&objects, plan).await? {
            Some(missing) => Some(missing),
            None => reader.missing_subset(&objects, plan, &around.state, wanted.as_ref()).await?,
        };
        objects.cluster = Some(around);
        Ok(objects)
    }

    /// What the target is about, and no more: enough to say who is wanted. With `deployments` all SeldonDeployments that we
    /// may see in the namespace come along.
    ///
    /// # Errors
    /// The cluster does not answer, or does not let us read the target.
    pub async fn of_target(
        session: &Session<'_>,
        spec: &RolloutSpec,
        deployments: bool,
    ) -> Result<Self, Failure> {
        let reader = Reader { session };
        let namespace = &session.namespace;
        let mut objects = Self { namespace: namespace.clone(), ..Self::default() };
        if let Some(target) = &spec.target.service {
            let name = (namespace.clone(), target.name.clone());
            // Who says the port need not be allowed to see Services.
            let service = match target.port {
                Some(port) => Some(vec![port]),
                None => reader.service(&name).await?.map(|service| ports(&service)),
            };
            objects.services.extend(service.map(|service| (name, service)));
        }
        reader.target_deployment(&mut objects, spec).await?;
        if deployments {
            let listed = match reader.all(seldon(), Some(namespace)).await {
                Err(Failure::Cluster(_)) => Vec::new(),
                listed => listed?,
            };
            let named = listed.iter().filter_map(|deployment| {
                Some(((namespace.clone(), deployment.name_any()), serde_json::to_value(deployment).ok()?))
            });
            objects.deployments.extend(named);
        }
        Ok(objects)
    }
}

pub(super) struct Reader<'s, 'o> {
    pub(super) session: &'s Session<'o>,
}

impl Reader<'_, '_> {
    fn api(&self, kind: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        let client = self.session.client.clone();
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, kind),
            None => Api::all_with(client, kind),
        }
    }

    /// One object; nothing where it, or its kind, is not there.
    async fn one(&self, kind: ApiResource, (namespace, name): &ObjectName) -> Result<Option<Value>, Failure> {
        let read = self.session.ask("object", self.api(&kind, Some(namespace)).get(name)).await;
        match read {
            Ok(object) => Ok(serde_json::to_value(object).ok()),
            Err(Failure::Missing(_) | Failure::NotInstalled { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// All of a kind in a namespace, or in all; none where the kind is not there.
    async fn all(&self, kind: ApiResource, namespace: Option<&str>) -> Result<Vec<DynamicObject>, Failure> {
        let listed =
            self.session.ask("object", self.api(&kind, namespace).list(&ListParams::default())).await;
        match listed {
            Ok(listed) => Ok(listed.items),
            Err(Failure::Missing(_) | Failure::NotInstalled { .. }) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// A Service. It is listed by its name: in the controller's pod the command has the controller's rights, and that one has no
    /// use for a right to get one.
    pub(super) async fn service(&self, (namespace, name): &ObjectName) -> Result<Option<Value>, Failure> {
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        let listed = self.session.ask("Service", self.api(&services(), Some(namespace)).list(&named)).await?;
        Ok(listed.items.first().and_then(|service| serde_json::to_value(service).ok()))
    }

    async fn routes(&self, objects: &mut Objects, plan: &Plan) -> Result<(), Failure> {
        let mut names: Vec<ObjectName> = plan.routes.iter().map(PlannedRoute::object).collect();
        names.sort();
        names.dedup();
        for name in names {
            let Some(object) = self.one(istio("VirtualService", "virtualservices"), &name).await? else {
                continue;
            };
            if !carrier::may_see(&object, &name, &objects.namespace, &objects.rollout) {
                continue;
            }
            let owner = carrier::deployment_of(&object)
                .filter(|_| plan.expose.is_none() && name.0 == objects.namespace)
                .map(str::to_owned);
            let Some(owner) = owner else {
                objects.virtual_services.insert(name, object);
                continue;
            };
            let of = (name.0.clone(), owner);
            let Some(deployment) = self.one(seldon(), &of).await? else { continue };
            let shown = carrier::as_route(&deployment, &name.1, &objects.names);
            objects.virtual_services.insert(name.clone(), shown);
            objects.slots.insert(name, deployment.clone());
            objects.deployments.insert(of, deployment);
        }
        Ok(())
    }

    /// The SeldonDeployment that is the target.
    async fn target_deployment(&self, objects: &mut Objects, spec: &RolloutSpec) -> Result<(), Failure> {
        let Some(target) = &spec.target.seldon_deployment else { return Ok(()) };
        let name = (objects.namespace.clone(), target.name.clone());
        objects.deployments.extend(self.one(seldon(), &name).await?.map(|object| (name, object)));
        Ok(())
    }

    async fn services(&self, objects: &mut Objects, plan: &Plan, around: &mut Around) -> Result<(), Failure> {
        let mut homes = vec![objects.namespace.clone()];
        homes.extend(plan.routes.iter().map(|route| route.namespace.clone()));
        homes.sort();
        homes.dedup();
        for home in homes {
            match self.all(services(), Some(&home)).await {
                Ok(listed) => objects.services.extend(listed.iter().filter_map(|service| {
                    let value = serde_json::to_value(service).ok()?;
                    Some(((home.clone(), service.name_any()), ports(&value)))
                })),
                Err(Failure::Cluster(said)) if home != objects.namespace => around.remarks.push(said),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// The routes of all other Rollouts that we may see.
    async fn claims(&self, objects: &Objects, remarks: &mut Vec<String>) -> Result<Vec<Claim>, Failure> {
        let kind = ApiResource::erase::<Rollout>(&());
        let listed = match self.all(kind.clone(), None).await {
            Err(Failure::Cluster(said)) => {
                remarks.push(format!(
                    "whether Rollouts of other namespaces move the same routes is not known: {said}"
                ));
                self.all(kind, Some(&objects.namespace)).await?
            }
            listed => listed?,
        };
        let claim = |object: DynamicObject| {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let since = created(&object);
            let own = namespace == objects.namespace && name == objects.rollout;
            let rollout = object.try_parse::<Rollout>().ok().filter(|_| !own)?;
            let status = rollout.status.as_ref();
            // One in flight goes by the spec that was accepted when it started.
            let pinned = status.filter(|status| State::from(*status).in_flight());
            let spec = pinned.and_then(|status| status.pinned.as_deref()).unwrap_or(&rollout.spec);
            let routes = Plan::named(spec, &namespace, &name).ok()?.routes;
            Some(Claim { rollout: format!("{namespace}/{name}"), since, routes })
        };
        Ok(listed.into_iter().filter_map(claim).collect())
    }

    async fn delegators(
        &self,
        plan: &Plan,
        remarks: &mut Vec<String>,
    ) -> Result<Option<Vec<Value>>, Failure> {
        let delegates = plan.expose.as_ref().is_some_and(|expose| expose.delegate);
        let Some(route) = plan.routes.first().filter(|_| delegates) else { return Ok(None) };
        let kind = istio("VirtualService", "virtualservices");
        let (listed, whole) = match self.all(kind.clone(), None).await {
            Err(Failure::Cluster(said)) => {
                remarks.push(format!("who delegates from other namespaces is not known: {said}"));
                (self.all(kind, Some(&route.namespace)).await?, false)
            }
            listed => (listed?, true),
        };
        let generated = route.object();
        let delegates = |object: &DynamicObject| {
            let home = object.namespace().unwrap_or_default();
            carrier::delegates_to(&object.data["spec"], &home).contains(&generated)
        };
        let found: Vec<Value> = listed
            .iter()
            .filter(|object| delegates(object))
            .filter_map(|object| serde_json::to_value(object).ok())
            .collect();
        Ok((whole || !found.is_empty()).then_some(found))
    }

    async fn rules(
        &self,
        objects: &Objects,
        plan: &Plan,
        state: &State,
        wanted: Option<&Predictor>,
    ) -> Result<BTreeMap<ObjectName, Value>, Failure> {
        let mut there = BTreeMap::new();
        let desired = sluice_core::machine::desired(Some(plan), state);
        let desired = desired.or_else(|| wanted.cloned().map(Setting::all_to));
        let Some((desired, wanted)) = desired.zip(wanted).filter(|_| plan.expose.is_some()) else {
            return Ok(there);
        };
        let pair = carrier::pair(desired, wanted);
        for name in objects.with_world(|world| carrier::rule_names(world, plan, &pair)) {
            let rule = self.one(istio("DestinationRule", "destinationrules"), &name).await?;
            there.extend(rule.map(|rule| (name, rule)));
        }
        Ok(there)
    }

    async fn missing_gateway(&self, objects: &Objects, plan: &Plan) -> Result<Option<Refusal>, Failure> {
        for name in carrier::required_gateways(&objects.names, plan) {
            if self.one(istio("Gateway", "gateways"), &name).await?.is_none() {
                return Ok(Some(carrier::no_gateway(&name)));
            }
        }
        Ok(None)
    }

    /// What is missing of the DestinationRules of the user's own routes. Where they cannot be read nobody knows.
    async fn missing_subset(
        &self,
        objects: &Objects,
        plan: &Plan,
        state: &State,
        wanted: Option<&Predictor>,
    ) -> Result<Option<Refusal>, Failure> {
        let Some(wanted) = carrier::required_subset(plan, state, wanted) else { return Ok(None) };
        let rules = self.destination_rules(&wanted.namespace).await?;
        Ok(carrier::accept_subset(&objects.names, wanted, &rules).err())
    }

    /// The DestinationRules that count for a namespace, as far as we may see those that count for all.
    pub(super) async fn destination_rules(&self, namespace: &str) -> Result<Vec<Value>, Failure> {
        let mut rules = Vec::new();
        for namespace in [namespace, ROOT_NAMESPACE] {
            match self.all(istio("DestinationRule", "destinationrules"), Some(namespace)).await {
                Ok(listed) => rules.extend(listed.iter().filter_map(|rule| serde_json::to_value(rule).ok())),
                Err(Failure::Cluster(_)) if namespace == ROOT_NAMESPACE => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(rules)
    }
}

fn created(object: &impl ResourceExt) -> Option<chrono::DateTime<chrono::Utc>> {
    let created = object.creation_timestamp()?;
    chrono::DateTime::from_timestamp(created.0.as_second(), 0)
}

fn seldon() -> ApiResource {
    resource("machinelearning.seldon.io", "v1", "SeldonDeployment", "seldondeployments")
}

fn services() -> ApiResource {
    resource("", "v1", "Service", "services")
}
