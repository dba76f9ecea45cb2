//! Where predictors come from. A second kind of target is a module of its own here, matched in [`wanted`].

mod names;
pub mod seldon;
mod service;
mod stable;

pub use seldon::SeldonView;
pub use stable::{NamedStable, StableField, named_stable};

use crate::{
    Predictor,
    api::RolloutSpec,
    machine::Refusal,
    plan::{Wanted, target},
};

/// What the cluster says of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Its ports.
    pub ports: Vec<u16>,
}

/// The predictor that a spec in `namespace` wants to be live. `service` looks a Service of that namespace up; the
/// SeldonDeployments of it are for [`wanted_in`].
///
/// # Errors
/// No target, several, one of a kind that is not there yet, or one whose objects are missing.
pub fn wanted(
    spec: &RolloutSpec,
    namespace: &str,
    service: impl Fn(&str) -> Option<ServiceView>,
) -> Result<Predictor, Refusal> {
    wanted_in(spec, namespace, service, |_| None)
}

/// The same where `seldon` looks a SeldonDeployment of the namespace up.
///
/// # Errors
/// As [`wanted`], and a SeldonDeployment that Seldon Core would refuse.
pub fn wanted_in(
    spec: &RolloutSpec,
    namespace: &str,
    service: impl Fn(&str) -> Option<ServiceView>,
    seldon: impl Fn(&str) -> Option<SeldonView>,
) -> Result<Predictor, Refusal> {
    match target(spec).map_err(|errors| Refusal::new(errors.reason(), errors.to_string()))? {
        Wanted::Service(target) => service::predictor(target, namespace, service),
        Wanted::Predictor(target) => seldon::predictor(target, namespace, seldon(&target.name).as_ref()),
    }
}
