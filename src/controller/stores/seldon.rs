//! What is kept of SeldonDeployments.

use std::{borrow::Cow, collections::BTreeMap};

use kube::{Resource, ResourceExt, core::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_core::{
    api::{PREDICTOR, ROLLOUT},
    target::SeldonView,
};

use super::cache::Entry;

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
        Some(Self {
            uid: object.uid().unwrap_or_default(),
            deleted: object.metadata.deletion_timestamp.is_some(),
            view: SeldonView::read(&whole),
            guarded_by: annotation(ROLLOUT),
            wants: annotation(PREDICTOR),
            annotations: of_spec.and_then(|all| serde_json::from_value(all).ok()).unwrap_or_default(),
        })
    }
}

impl Entry for Seldon {
    /// The Rollout that it is guarded by a copy of.
    type Group = super::Name;

    fn groups(&self) -> Vec<super::Name> {
        Vec::new()
    }
}
