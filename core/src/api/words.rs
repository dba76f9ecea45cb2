//! Phases and reasons, in one place.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a Rollout stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// Not accepted, or no stable yet.
    #[default]
    Pending,
    /// Stable has all, nothing in flight.
    Healthy,
    /// The canary is on its way through the steps.
    Progressing,
    /// A gate, a pause, missing evidence.
    Waiting,
    /// The canary has all traffic and is about to be stable.
    Promoting,
    /// The canary was taken out of traffic for good.
    RolledBack,
    /// A person is needed.
    Stalled,
    /// A word of another version.
    #[serde(other)]
    Unknown,
}

impl Phase {
    /// Every phase that a Rollout can be in, in the order of its life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Healthy,
        Self::Progressing,
        Self::Waiting,
        Self::Promoting,
        Self::RolledBack,
        Self::Stalled,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why something is as it is, or was done: the one word beside every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    // What the spec or the world lacks.
    /// The spec cannot be read or contradicts itself.
    InvalidSpec,
    /// The spec asks for something that this version does not do yet.
    Unsupported,
    /// The target's Service, or its port, is not there.
    TargetNotFound,
    /// The target is there and is one that its own kind refuses.
    InvalidTarget,
    /// A VirtualService is not there.
    VirtualServiceNotFound,
    /// A route is not in its VirtualService, or has nothing that Sluice could move.
    RouteNotFound,
    /// The VirtualService is one of another namespace: it is not there, or its owner does not allow it.
    NotAllowed,
    /// An older Rollout has the route.
    RouteTaken,
    /// An object of the name that Sluice would generate is there and is not this Rollout's.
    NameTaken,
    /// A Gateway of a generated route is not there.
    GatewayNotFound,
    /// A subset is in no DestinationRule of its Service.
    SubsetNotFound,
    /// No VirtualService delegates to the generated one.
    NotDelegated,
    /// A VirtualService delegates to the generated one, and Istio would drop the route because of it.
    DelegateConflict,
    /// The controller was started with Istio off.
    IstioOff,
    /// The route does not tell which predictor is stable.
    AmbiguousStable,
    /// The pair's share of the route is too small for a step.
    ShareTooSmall,
    /// What a step asks for and what the route asks for cannot both be had.
    RouteConflict,
    /// The metrics source is not configured.
    UnknownSource,
    /// The metrics source says that a query is not valid.
    InvalidQuery,
    /// The status was edited by hand, or is from another version.
    InvalidStatus,
    /// The kinds in the cluster are older than the controller: what it reads and writes would be lost in part.
    KindsOutdated,
    /// All is well with the spec.
    Accepted,

    // Where a rollout is.
    /// Nothing was decided yet.
    New,
    /// The wanted revision is live.
    Live,
    /// The canary has no ready endpoint yet.
    CanaryNotReady,
    /// The step lasts.
    StepInProgress,
    /// A step waits for a person's approval.
    WaitingForApproval,
    /// The last step is over, and a person decides.
    WaitingForDecision,
    /// Paused in the spec or by an action.
    Paused,
    /// A Freeze stops every increase in the namespace or in the cluster.
    Frozen,
    /// Evidence is missing.
    NoEvidence,
    /// The traffic is not yet, or no longer, what was decided.
    TrafficNotInPlace,
    /// Stable has no ready endpoint: nothing is rolled back onto it.
    StableNotReady,
    /// The canary has all traffic, and the old stable is being let go.
    Promoting,

    // Whether the metrics can be had.
    /// The metrics can be had.
    Available,
    /// The metrics source does not answer, or says that it cannot now.
    SourceUnavailable,
    /// The metrics source does not let the controller in: credentials are wrong or missing.
    SourceRefused,
    /// The metrics source's certificate is not trusted: another name, another authority, or out of date.
    SourceUntrusted,
    /// The metrics source answers something that is no answer: HTML, a redirect, too much.
    BadAnswer,
    /// The metrics source warns that its answers are partial.
    PartialAnswer,
    /// The metrics source cannot evaluate a query, or answers more or other than one number.
    BadQuery,
    /// The metrics source answers, and there is nothing in it: no series, no new sample, NaN, infinity.
    NoData,
    /// The metrics source that the rollout started with cannot be asked: its name or labels are not configured.
    Misconfigured,

    // Whether stable is guarded.
    /// What stable serves is what it served when it became stable.
    Unchanged,
    /// What stable serves was changed in place, past all steps and checks.
    ChangedInPlace,

    // How a rollout ended, and why.
    /// All steps passed.
    StepsPassed,
    /// A check failed.
    CheckFailed,
    /// The canary lost its last ready endpoint, for the second time in a step.
    CanaryLost,
    /// A person aborted it.
    Aborted,
    /// Evidence did not come in time.
    Inconclusive,
    /// The canary was not ready in time.
    NotReadyInTime,
    /// Another revision is wanted.
    Superseded,
    /// The stable revision is wanted again.
    Cancelled,
    /// The last step is over, and stable was to be kept.
    Observed,
    /// A person decided for stable.
    Lost,
    /// The status was lost: nothing starts by itself.
    StatusLost,
    /// The Rollout is being deleted.
    Deleted,
    /// A person asked for it.
    Requested,
    /// A word of another version: the message beside it says what it means.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
