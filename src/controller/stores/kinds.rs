//! What is kept of Services, EndpointSlices and actions: what is read of them, and no more.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::ResourceExt;
use sluice_core::{
    api::{REQUESTED_BY, RolloutAction},
    machine::Asked,
};

use super::{
    ActionObject,
    cache::{Entry, Name, name},
};
use crate::{
    controller::subject::created,
    pods::{Claimed, is_ready},
};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The ports of a Service, and how it selects its pods.
#[derive(PartialEq)]
pub(super) struct ServiceView {
    pub(super) ports: Box<[u16]>,
    pub(super) selector: Option<BTreeMap<String, String>>,
}

impl ServiceView {
    #[allow(clippy::unnecessary_wraps)] // as for the kinds of which not all are kept
    pub(super) fn of(service: Service) -> Option<Self> {
        let spec = service.spec.unwrap_or_default();
        let ports = spec.ports.into_iter().flatten().filter_map(|port| u16::try_from(port.port).ok());
        Some(Self { ports: ports.collect(), selector: spec.selector })
    }
}

impl Entry for ServiceView {
    type Group = ();

    fn groups(&self) -> Vec<()> {
        Vec::new()
    }
}

/// The ready endpoints of an EndpointSlice.
#[derive(PartialEq)]
pub(in crate::controller) struct Slice {
    service: Name,
    pub(in crate::controller) ready: Box<[Endpoint]>,
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::controller) struct Endpoint {
    pub(in crate::controller) address: Box<str>,
    /// The pod that it is said to be of.
    pub(in crate::controller) pod: Option<Claimed>,
}

impl Slice {
    /// Nothing where it belongs to no Service.
    #[allow(clippy::needless_pass_by_value)] // the object is what is let go of
    pub(super) fn of(slice: EndpointSlice) -> Option<Self> {
        let service = name(slice.metadata.namespace.as_deref()?, slice.labels().get(SERVICE_NAME)?);
        let mut ready = Vec::new();
        for endpoint in &slice.endpoints {
            if !is_ready(endpoint) {
                continue;
            }
            let pod = Claimed::by(endpoint);
            let of_pod = |address: &String| Endpoint { address: address.as_str().into(), pod: pod.clone() };
            ready.extend(endpoint.addresses.iter().map(of_pod));
        }
        Some(Self { service, ready: ready.into() })
    }
}

impl Entry for Slice {
    type Group = Name;

    fn groups(&self) -> Vec<Name> {
        vec![self.service.clone()]
    }
}

/// What a person asked for.
#[derive(PartialEq)]
pub(in crate::controller) struct Action {
    rollout: Name,
    pub(in crate::controller) created: Option<DateTime<Utc>>,
    pub(in crate::controller) uid: Box<str>,
    /// Nothing more once it is answered: only its age matters then.
    pub(in crate::controller) asked: Option<Box<Asked>>,
    pub(in crate::controller) deleted: bool,
}

impl Action {
    /// Nothing where it cannot be read: one of another version, perhaps.
    pub(super) fn of(action: ActionObject) -> Option<Self> {
        let action = action.0.ok()?;
        let asked = action.status.is_none().then(|| Box::new(asked(&action)));
        Some(Self {
            rollout: name(action.metadata.namespace.as_deref()?, &action.spec.rollout),
            created: created(&action),
            uid: action.uid()?.into(),
            asked,
            deleted: action.metadata.deletion_timestamp.is_some(),
        })
    }

    /// Whether nobody has answered it yet.
    pub(in crate::controller) fn is_open(&self) -> bool {
        self.asked.is_some()
    }
}

impl Entry for Action {
    type Group = Name;

    fn groups(&self) -> Vec<Name> {
        vec![self.rollout.clone()]
    }
}

fn asked(action: &RolloutAction) -> Asked {
    let metadata = &action.metadata;
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Rollout");
    Asked {
        uid: metadata.uid.clone().unwrap_or_default(),
        what: action.spec.what,
        revision: action.spec.revision.clone(),
        step: action.spec.step,
        reason: action.spec.reason.clone(),
        by: metadata.annotations.as_ref().and_then(|annotations| annotations.get(REQUESTED_BY).cloned()),
        rollout_uid: owner.map(|owner| owner.uid.clone()),
    }
}
