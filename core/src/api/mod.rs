//! The custom resources of `sluice.dev/v1alpha1`, as people write and read them.
//!
//! These types are the wire format: optional where a person may leave something out, with the limits that the
//! API server enforces written beside each field. [`crate::plan`] turns them into types that cannot be wrong.

// kube's attribute repeats `type_ = "string"` for every printer column.
#![allow(clippy::duplicated_attributes)]

mod action;
mod checks;
mod condition;
mod duration;
mod freeze;
mod given;
mod metrics;
mod rollout;
mod share;
mod status;
mod steps;
mod words;
mod written;

pub use action::{ActionPhase, ActionStatus, Do, RolloutAction, RolloutActionSpec};
pub use checks::{Check, Direction, ErrorsCheck, LatencyCheck, QueryCheck, VersusStable};
pub use condition::{Condition, ConditionStatus, ConditionType};
pub use duration::GoDuration;
pub use freeze::{Freeze, FreezeSpec};
pub use given::{Beside, Given, Percent};
pub use metrics::{Metrics, Profile, Scrape};
pub use rollout::{
    Expose, Finish, Inconclusive, NamedTarget, PredictorTarget, Rollout, RolloutSpec, Route, ServiceTarget,
    Target, Then,
};
pub use share::Share;
pub use status::{
    ArmRecord, CheckRecord, Decision, DecisionKind, EffectRecord, Guarded, RolloutStatus, StepProgress,
};
pub use steps::{Match, Ramp, Step, Sticky, StickyCookie, StringMatch};
pub use words::{Phase, Reason};
pub use written::{FieldChange, MOST_CHANGES, MOST_WRITES, WriteRecord, WrittenKind};

/// API group of all kinds.
pub const GROUP: &str = "sluice.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
/// The finalizer that lets the controller give routes back before a Rollout goes.
pub const FINALIZER: &str = "sluice.dev/routes";
/// The annotation of a `VirtualService` that says which decision its routes show.
pub const STAMP: &str = "sluice.dev/stamp";
/// The annotation of a `VirtualService` that says which mirrors on its routes are Sluice's, and what they took the place of.
pub const MIRRORS: &str = "sluice.dev/mirrors";
/// The annotation by which the owner of a `VirtualService` lets Rollouts of another namespace use it.
pub const ALLOW_FROM: &str = "sluice.dev/allow-from";
/// The annotation of a `RolloutAction` or a `Freeze` that says who asked; stamped by the admission policy in `deploy/`.
pub const REQUESTED_BY: &str = "sluice.dev/requested-by";
/// Annotation of a SeldonDeployment: the Rollout of its namespace that it is to be guarded by a copy of.
pub const ROLLOUT: &str = "sluice.dev/rollout";
/// Annotation of a SeldonDeployment: the predictor that the copy wants to be live; the last one that is no shadow where it
/// is left out.
pub const PREDICTOR: &str = "sluice.dev/predictor";
/// Annotation of a SeldonDeployment: the predictor that is stable for the copy, where several have traffic at first.
pub const FROM: &str = "sluice.dev/from";
