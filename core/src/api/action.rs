//! The `RolloutAction`: what a person asked for, once.

use chrono::{DateTime, Utc};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a person asked of a Rollout. It is handled once, and stays as the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "RolloutAction",
    plural = "rolloutactions",
    shortname = "slua",
    namespaced,
    status = "ActionStatus",
    derive = "PartialEq",
    doc = "What a person asked of a Rollout, once: approve, promote, decide, abort, retry, pause, resume. It stays as the record.",
    crates(kube_core = "::kube_core"),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".spec.rollout"),
    printcolumn(name = "Do", type_ = "string", json_path = ".spec.do"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message")
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = ("self == oldSelf", "an action cannot be changed: create another one"),
    validation = ("self.do in ['Abort', 'Pause'] || has(self.revision)", "revision is expected: what the action is about, as in the Rollout's status"),
    validation = ("!(self.do in ['Approve', 'Promote', 'DecideStable', 'DecideCanary']) || has(self.step)", "step is expected: the number of the step that the action is about")
)]
#[serde(rename_all = "camelCase")]
pub struct RolloutActionSpec {
    /// Name of the Rollout, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub rollout: String,
    /// What to do.
    #[serde(rename = "do")]
    pub what: Do,
    /// The revision that the action is about; it is refused when that is no longer the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub revision: Option<String>,
    /// The number of the step, from 1, that the action is about; it is refused when that is no longer the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub step: Option<u32>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// What a person can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Do {
    /// Open the gate of the current step.
    Approve,
    /// Pass the current gate or step.
    Promote,
    /// Pass all gates and steps.
    PromoteFull,
    /// Keep stable, where the last step waits for a decision.
    DecideStable,
    /// Promote the canary, where the last step waits for a decision.
    DecideCanary,
    /// Take the canary out of traffic.
    Abort,
    /// Try a revision again that was rolled back or is stalled.
    Retry,
    /// Stop every increase.
    Pause,
    /// End a pause.
    Resume,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// Whether it was done.
    pub phase: ActionPhase,
    /// What was done, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Number of the decision that it caused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<u64>,
    /// When it was handled.
    pub handled_at: DateTime<Utc>,
}

/// Whether an action was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActionPhase {
    /// It was done.
    Done,
    /// It was not, and never will be. What another version says that this one does not know is this.
    #[serde(other)]
    Refused,
}
