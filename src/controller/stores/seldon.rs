//! What is kept of SeldonDeployments.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use kube::{Resource, ResourceExt, core::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_core::{
    api::{PREDICTOR, ROLLOUT},
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
    /// The Rollout that it is to be guarded by a copy of.
    pub(in crate::controller) guarded_by: Option<String>,
    /// The predictor that it wants to be live, where it says so.
    pub(in crate::controller) wants: Option<String>,
    /// Its own annotations for routes.
    pub(in crate::controller) annotations: BTreeMap<String, String>,
}

impl Seldon {
    #[allow(clippy::unnecessary_wraps, clippy::needless_pass_by_value)] // as for the kinds of which not all are kept
    pub(super) fn of(object: SeldonObject) -> Option<Self> {
        let annotation = |key: &str| object.annotations().get(key).filter(|value| !value.is_empty()).cloned();
        let whole = json!({
            "metadata": {"name": object.name_any()}, "spec": object.spec, "status": object.status,
        });
        let of_spec = object.spec.get("annotations").cloned();
        let view = SeldonView::read(&whole);
        let namespace = object.namespace().unwrap_or_default();
        let services: BTreeSet<Name> =
            view.predictors.iter().map(|predictor| name(&namespace, &predictor.service)).collect();
        Some(Self {
            uid: object.uid().unwrap_or_default(),
            deleted: object.metadata.deletion_timestamp.is_some(),
            view,
            services: services.into_iter().collect(),
            guarded_by: annotation(ROLLOUT),
            wants: annotation(PREDICTOR),
            annotations: of_spec.and_then(|all| serde_json::from_value(all).ok()).unwrap_or_default(),
        })
    }
}

impl Entry for Seldon {
    /// The Service of one of its predictors.
    type Group = Name;

    fn groups(&self) -> Vec<Name> {
        self.services.to_vec()
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
        for (deployment, expected) in [
            ("iris", ["models/iris-green", "models/the-blue-one"]),
            (long, ["models/seldon-978c480118b2a87ebc26733c8f9cd54d", "models/the-blue-one"]),
        ] {
            let groups: Vec<String> = seldon(deployment).groups().iter().map(ToString::to_string).collect();
            assert_eq!(groups, expected);
        }
    }
}
