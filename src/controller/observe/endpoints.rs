//! Who answers for a predictor.

use std::collections::BTreeMap;

use sluice_core::Predictor;

use super::pods::Claimed;
use crate::{controller::context::Context, metrics::Arm};

/// A predictor with its ready endpoints, for metrics that tell its requests by name.
pub(super) fn arm(context: &Context, predictor: Predictor) -> Arm {
    let pod = |endpoint: Endpoint| {
        let address = endpoint.address.parse().ok()?;
        Some(crate::metrics::Pod { name: endpoint.address, address, started: None })
    };
    let pods = ready_endpoints(context, &predictor).into_iter().filter_map(pod).collect();
    Arm { predictor, pods }
}

/// A ready endpoint of a predictor's Service.
pub(super) struct Endpoint {
    pub(super) address: String,
    /// The pod that it is said to be of.
    pub(super) pod: Option<Claimed>,
}

/// The ready endpoints behind a predictor, each address once. Subsets are not told apart here.
pub(super) fn ready_endpoints(context: &Context, predictor: &Predictor) -> Vec<Endpoint> {
    let mut ready = BTreeMap::new();
    for slice in context.stores.slices_of(&predictor.namespace, &predictor.service) {
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            // Absent means ready, says the API.
            if !conditions.and_then(|conditions| conditions.ready).unwrap_or(true) {
                continue;
            }
            for address in &endpoint.addresses {
                ready.entry(address.clone()).or_insert_with(|| Claimed::by(endpoint));
            }
        }
    }
    ready.into_iter().map(|(address, pod)| Endpoint { address, pod }).collect()
}
