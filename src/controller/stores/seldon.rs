//! What is kept of SeldonDeployments.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use kube::{Resource, ResourceExt, core::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_core::{
    api::{FROM, PREDICTOR, ROLLOUT},
    plan::{HOST, ISTIO},
    target::SeldonView,
};

use super::cache::{Entry, Name, name};

/// A SeldonDeployment as the API server sends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::controller) struct SeldonObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl Resource for SeldonObject {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "SeldonDeployment".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "machinelearning.seldon.io".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "seldondeployments".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A SeldonDeployment as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::controller) struct Seldon {
    pub(in crate::controller) uid: String,
    pub(in crate::controller) deleted: bool,
    pub(in crate::controller) view: SeldonView,
    /// The Services of its predictors, each once.
    services: Box<[Name]>,
    /// What it asks for a copy of, with each of the hosts of its own.
    asks: Box<[Group]>,
    /// The Rollout that it is to be guarded by a copy of.
    pub(in crate::controller) guarded_by: Option<String>,
    /// The predictor that it wants to be live, where it says so.
    pub(in crate::controller) wants: Option<String>,
    /// The predictor that is stable at first, where it says so.
    pub(in crate::controller) from: Option<String>,
    /// Its own annotations for routes, as Seldon Core reads them: those of its spec go before those of its metadata.
    pub(in crate::controller) annotations: BTreeMap<String, String>,
}

impl Seldon {
    #[allow(clippy::unnecessary_wraps, clippy::needless_pass_by_value)] // as for the kinds of which not all are kept
    pub(super) fn of(object: SeldonObject) -> Option<Self> {
        let annotation = |key: &str| object.annotations().get(key).filter(|value| !value.is_empty()).cloned();
        let whole = json!({
            "metadata": {"name": object.name_any()}, "spec": object.spec, "status": object.status,
        });
        let of_spec = object.spec.get("annotations").cloned().unwrap_or_default();
        let of_spec: BTreeMap<String, String> = serde_json::from_value(of_spec).unwrap_or_default();
        let all = object.annotations().clone().into_iter().chain(of_spec);
        let routes: BTreeMap<String, String> = all.filter(|(key, _)| key.starts_with(ISTIO)).collect();
        let view = SeldonView::read(&whole);
        let namespace = object.namespace().unwrap_or_default();
        let services: BTreeSet<Name> =
            view.predictors.iter().map(|predictor| name(&namespace, &predictor.service)).collect();
        let guarded_by = annotation(ROLLOUT);
        let hosts: BTreeSet<&str> =
            routes.get(HOST).map_or("", String::as_str).split(',').map(str::trim).collect();
        let asks =
            |rollout: &String| hosts.iter().map(|host| Group::asking(&namespace, rollout, host)).collect();
        Some(Self {
            asks: guarded_by.as_ref().map(asks).unwrap_or_default(),
            uid: object.uid().unwrap_or_default(),
            deleted: object.metadata.deletion_timestamp.is_some(),
            view,
            services: services.into_iter().collect(),
            guarded_by,
            wants: annotation(PREDICTOR),
            from: annotation(FROM),
            annotations: routes,
        })
    }
}

/// What a SeldonDeployment is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    /// The Service of one of its predictors.
    Service(Name),
    /// The Rollout that it asks for a copy of, and a host.
    Asking(Name),
}

impl Group {
    pub(super) fn asking(namespace: &str, rollout: &str, host: &str) -> Self {
        Self::Asking(name(namespace, &format!("{rollout}/{host}")))
    }
}

impl Entry for Seldon {
    type Group = Group;

    fn groups(&self) -> Vec<Group> {
        let services = self.services.iter().cloned().map(Group::Service);
        services.chain(self.asks.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_by_the_services_of_its_predictors_whatever_they_are_called() {
        let long = "iris-classifier-for-the-garden-of-the-botanical-institute-of-the-university-of-bern";
        let seldon = |deployment: &str| {
            let object = json!({
                "metadata": {"name": deployment, "namespace": "models"},
                "spec": {"predictors": [
                    {"name": "green", "traffic": 100},
                    {"name": "blue", "annotations": {"seldon.io/svc-name": "the-blue-one"}},
                ]},
            });
            Seldon::of(serde_json::from_value(object).unwrap()).unwrap()
        };
        let service = |group: Group| match group {
            Group::Service(name) => name.to_string(),
            Group::Asking(name) => panic!("{name}"),
        };
        for (deployment, expected) in [
            ("iris", ["models/iris-green", "models/the-blue-one"]),
            (long, ["models/seldon-978c480118b2a87ebc26733c8f9cd54d", "models/the-blue-one"]),
        ] {
            let groups: Vec<String> = seldon(deployment).groups().into_iter().map(service).collect();
            assert_eq!(groups, expected);
        }
    }

    #[test]
    fn annotations_about_routes_are_read_as_seldon_core_does() {
        let object = json!({
            "metadata": {"name": "iris", "namespace": "models", "annotations": {
                "sluice.dev/rollout": "guard", "sluice.dev/from": "main", "seldon.io/istio-retries": "1",
                "seldon.io/istio-host": "a.example.com, b.example.com", "seldon.io/other": "x",
            }},
            "spec": {"annotations": {"seldon.io/istio-retries": "2", "seldon.io/other": "y"}},
        });
        let seldon = Seldon::of(serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!(seldon.from.as_deref(), Some("main"));
        assert_eq!(
            json!(seldon.annotations),
            json!({"seldon.io/istio-host": "a.example.com, b.example.com", "seldon.io/istio-retries": "2"}),
            "those of the spec go before those of the metadata"
        );
        let asking = |host| Group::asking("models", "guard", host);
        assert_eq!(seldon.groups(), [asking("a.example.com"), asking("b.example.com")]);
    }
}
