//! The machine's memory.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Predictor,
    api::{ActionPhase, CheckRecord, GoDuration, Reason, RolloutStatus},
    judge::Evidence,
};

/// How many outcomes and known predictors are kept.
pub const KEPT_REVISIONS: usize = 10;
/// How many handled actions are remembered.
pub const KEPT_ACTIONS: usize = 20;

/// All that the machine remembers between two looks at the world, compared with `==`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Number of the last decision; grows by one with each.
    pub seq: u64,
    /// The predictor that users have.
    pub stable: Option<Predictor>,
    /// The predictor that wants to replace it, or the last one that wanted to.
    pub canary: Option<Predictor>,
    /// Where the rollout is.
    pub stage: Stage,
    /// What the checks said at the last look of the step in flight.
    pub checks: Vec<CheckRecord>,
    /// A pause by an action, or for want of evidence.
    pub pause: Option<Pause>,
    /// Predictors that lost their traffic and still stand in the route with weight 0.
    pub retiring: Vec<Retiring>,
    /// Predictors that were stable or canary before, newest last, at most [`KEPT_REVISIONS`].
    pub known: Vec<Predictor>,
    /// What became of earlier revisions, newest last, at most [`KEPT_REVISIONS`].
    pub outcomes: Vec<RevisionOutcome>,
    /// Actions that were handled, newest last, at most [`KEPT_ACTIONS`].
    pub handled: Vec<Handled>,
}

/// Where a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Nothing was decided yet.
    #[default]
    Pending,
    /// Stable has all, nothing is in flight.
    Idle,
    /// A canary is on its way through the steps; the step after the last one is the promotion.
    Step(Box<StepState>),
    /// The status was lost: stable has all until a person asks for a retry.
    StatusLost,
    /// The routes were given back.
    Released,
}

/// A step in flight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepState {
    /// Index of the step, from 0; the number of steps for the promotion.
    pub index: usize,
    /// Set while the canary has no traffic because it has no ready endpoint (yet, or any more).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawn>,
    /// How often the canary lost its last ready endpoint in this step.
    pub losses: u32,
    /// Time that was observed to pass since the step was entered, whatever the traffic was.
    pub age: GoDuration,
    /// Age of the step when the traffic was last seen settled.
    pub settled_at: GoDuration,
    /// Whether it was settled all the time since the look before the last one.
    pub settled: bool,
    /// Time that was observed to pass with the setting in place.
    pub elapsed: GoDuration,
    /// The same without interruption, up to now: what `settle` is compared with.
    pub in_place: GoDuration,
    /// Who approved, where a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<String>,
    /// For how long evidence alone was missing.
    pub short_of_evidence: GoDuration,
    /// What the looks of this step saw.
    pub evidence: Evidence,
}

/// A canary without traffic for want of a ready endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Withdrawn {
    /// Observed time that it was waited for.
    pub waited: GoDuration,
    /// Whether that was longer than `readyWithin`, and was said.
    pub overdue: bool,
}

/// A pause that is not the spec's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Why: a person asked, or evidence did not come in time.
    pub reason: Reason,
    /// Who asked, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub by: Option<String>,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// A predictor that lost its traffic and still stands in the route with weight 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retiring {
    /// Which.
    pub predictor: Predictor,
    /// Observed time since it lost its traffic.
    #[serde(default)]
    pub waited: GoDuration,
}

/// What became of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionOutcome {
    /// The predictor whose revision it is.
    pub predictor: Predictor,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Number of the decision.
    pub seq: u64,
    /// When it was made.
    pub at: DateTime<Utc>,
}

/// How a rollout of a revision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// It became stable.
    Promoted,
    /// It was taken out of traffic: not tried again until a retry.
    RolledBack,
    /// A person took it out of traffic: not tried again until a retry.
    Aborted,
    /// Another revision was wanted before it was through.
    Superseded,
    /// The stable revision was wanted again before it was through.
    Cancelled,
    /// It was observed to the end, and stable was kept: not tried again until a retry.
    Observed,
    /// A person decided for stable when all steps had passed: not tried again until a retry.
    Lost,
    /// The Rollout was deleted before it was through.
    Released,
    /// A person asked to try it again.
    Retried,
    /// A word of another version: not tried again until a retry.
    #[serde(other)]
    Unknown,
}

impl Outcome {
    /// Whether a revision with this outcome waits for a person's retry.
    pub fn needs_retry(self) -> bool {
        match self {
            Self::RolledBack | Self::Aborted | Self::Observed | Self::Lost | Self::Unknown => true,
            Self::Promoted | Self::Superseded | Self::Cancelled | Self::Released | Self::Retried => false,
        }
    }
}

/// An action that was handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// The action's uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Whether it was done.
    pub phase: ActionPhase,
    /// What was done, or why not.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Number of the decision that it caused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<u64>,
    /// When it was handled.
    pub at: DateTime<Utc>,
}

impl State {
    /// The step in flight.
    pub fn step(&self) -> Option<&StepState> {
        match &self.stage {
            Stage::Step(step) => Some(step),
            Stage::Pending | Stage::Idle | Stage::StatusLost | Stage::Released => None,
        }
    }

    /// Whether a canary is on its way, so that the pinned spec counts and not the current one.
    pub fn in_flight(&self) -> bool {
        self.step().is_some()
    }

    /// What became of `predictor` when it was last tried.
    pub fn outcome(&self, predictor: &Predictor) -> Option<&RevisionOutcome> {
        self.outcomes.iter().rev().find(|outcome| outcome.predictor == *predictor)
    }

    /// Whether the action was handled before.
    pub fn has_handled(&self, uid: &str) -> bool {
        self.handled.iter().any(|handled| handled.uid == uid)
    }
}

impl From<&RolloutStatus> for State {
    fn from(status: &RolloutStatus) -> Self {
        Self {
            seq: status.seq,
            stable: status.stable.clone(),
            canary: status.canary.clone(),
            stage: status.stage.clone(),
            checks: status.checks.clone(),
            pause: status.pause.clone(),
            retiring: status.retiring.clone(),
            known: status.known.clone(),
            outcomes: status.outcomes.clone(),
            handled: status.handled.clone(),
        }
    }
}
