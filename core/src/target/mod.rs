//! Where predictors come from. A second kind of target is a module of its own here, matched in [`wanted`].

mod service;

use crate::{Predictor, api::RolloutSpec, machine::Refusal, plan::service_target};

/// What the cluster says of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Its ports.
    pub ports: Vec<u16>,
}

/// The predictor that a spec in `namespace` wants to be live. `service` looks a Service of that namespace up.
///
/// # Errors
/// No target, several, one of a kind that is not there yet, or one whose objects are missing.
pub fn wanted(
    spec: &RolloutSpec,
    namespace: &str,
    service: impl Fn(&str) -> Option<ServiceView>,
) -> Result<Predictor, Refusal> {
    let target = service_target(spec).map_err(|errors| Refusal::new(errors.reason(), errors.to_string()))?;
    service::predictor(target, namespace, service)
}
