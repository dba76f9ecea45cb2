//! Why a reconcile could not finish. Variant names are labels of metrics and reasons of Events.

use std::time::Duration;

use sluice_core::api::FINALIZER;

use super::kinds::Lacking;

/// Why a reconcile could not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The custom resources are not installed.
    #[error("the kinds of sluice.dev/v1alpha1 are not installed: apply the output of `sluice crd` ({0})")]
    KindsMissing(String),
    /// The custom resources are older than the controller: they do not hold all that it reads and writes.
    #[error("{}", super::kinds::outdated(.0))]
    KindsOutdated(Lacking),
    /// An object changed since it was read.
    #[error("{object} changed since it was read: reading it again")]
    Conflict {
        /// Which object.
        object: String,
    },
    /// The Rollout's slot is not held any more, or not for long enough to finish a write.
    #[error("another replica may act on it by now: writing nothing")]
    SlotLost,
    /// The API server did not answer in time.
    #[error("{what} did not finish within {limit:?}")]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A request was refused: a permission, a webhook, a schema.
    #[error("{what} was refused: {message}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its HTTP status.
        code: u16,
        /// What the API server said.
        message: String,
    },
    /// The API server could not be asked.
    #[error("{what} failed: {source}")]
    Unreachable {
        /// What was asked.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A Rollout is being deleted whose routes are not to be touched.
    #[error(
        "Rollout {0} may have given its canary traffic, and a controller that was started with --istio=false gives no routes \
         back: start it without --istio=false until the Rollout is gone, or give all traffic to stable by hand and take \
         {FINALIZER} out of the Rollout's metadata.finalizers"
    )]
    IstioOff(String),
    /// The API server has what we cannot write.
    #[error("cannot be written as JSON: {0}")]
    Serialization(#[from] serde_json::Error),
}

impl Error {
    /// What [`Error::kind`] can say.
    pub(super) const KINDS: [&str; 9] = [
        "KindsMissing",
        "KindsOutdated",
        "Conflict",
        "SlotLost",
        "TimedOut",
        "Refused",
        "Unreachable",
        "IstioOff",
        "Serialization",
    ];

    /// What became of `what`, a request of ours.
    pub(super) fn from_kube(what: String, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict { object: what },
            kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                Self::Refused { what, code: status.code, message: status.message.clone() }
            }
            source => Self::Unreachable { what, source: Box::new(source) },
        }
    }

    /// The name of the variant.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KindsMissing(_) => "KindsMissing",
            Self::KindsOutdated(_) => "KindsOutdated",
            Self::Conflict { .. } => "Conflict",
            Self::SlotLost => "SlotLost",
            Self::TimedOut { .. } => "TimedOut",
            Self::Refused { .. } => "Refused",
            Self::Unreachable { .. } => "Unreachable",
            Self::IstioOff(_) => "IstioOff",
            Self::Serialization(_) => "Serialization",
        }
    }
}
