//! Who answers for a predictor.

use sluice_core::Predictor;

use crate::{
    controller::{context::Context, stores::Endpoint},
    metrics::{Arm, SeldonNames},
};

/// A predictor with its ready endpoints, for metrics that tell its requests by name.
pub(super) fn arm(context: &Context, predictor: Predictor) -> Arm {
    let pod = |endpoint: Endpoint| {
        let address = endpoint.address.parse().ok()?;
        Some(crate::metrics::Pod { name: endpoint.address.into(), address, started: None })
    };
    let pods = ready_endpoints(context, &predictor).into_iter().filter_map(pod).collect();
    Arm { seldon: seldon_names(context, &predictor), predictor, pods }
}

/// What Seldon Core calls a predictor, where its Service is one of a SeldonDeployment that is there.
pub(super) fn seldon_names(context: &Context, predictor: &Predictor) -> Option<SeldonNames> {
    let seldon = context.stores.seldon_behind(&predictor.namespace, &predictor.service)?;
    SeldonNames::behind(&predictor.service, &seldon.view)
}

/// The ready endpoints behind a predictor, each address once. Subsets are not told apart here.
pub(super) fn ready_endpoints(context: &Context, predictor: &Predictor) -> Vec<Endpoint> {
    let mut ready = context.stores.ready_endpoints(&predictor.namespace, &predictor.service);
    // While endpoints move from one slice to another both may list them.
    ready.sort_by(|one, other| one.address.cmp(&other.address));
    ready.dedup_by(|one, other| one.address == other.address);
    ready
}
