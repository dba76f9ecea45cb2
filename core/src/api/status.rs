//! The status of a `Rollout`: the machine's memory, with conditions and records derived from it.

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{Beside, Condition, Given, Phase, Reason, RolloutSpec, WriteRecord, written::is_zero};
use crate::{
    Predictor,
    judge::Verdict,
    machine::{Handled, Pause, Retiring, RevisionOutcome, Stage},
};

/// What the controller knows and decided.
///
/// `seq`, `stable`, `canary`, `stage`, `checks`, `pause`, `retiring`, `known`, `outcomes`, `handled` and `pinned` are the
/// machine's memory ([`crate::machine::State`]); the rest is derived from it for people and tools.
///
/// A status may be of an older or a newer version, after an upgrade or a downgrade in mid-rollout. What is missing has a
/// default, and what nobody knows is left out. A word that nobody knows reads as one that is careful: a revision that
/// waits for a retry. A record that cannot be read is dropped, and so is a pinned spec,
/// whose canary then loses its traffic. Only where the memory itself makes no sense does the status count as lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The generation of the spec that the controller last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the rollout stands.
    #[serde(default)]
    pub phase: Phase,
    /// Why it stands there, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why it stands there, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message: String,
    /// The step in flight, of how many, like `2/5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub step: Option<String>,
    /// The step in flight in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<StepProgress>,
    /// The canary's decided share of the pair's requests in percent, 0 to 100.
    #[serde(default)]
    pub weight: i32,
    /// What the canary was decided to get beside that.
    #[serde(default, skip_serializing_if = "Beside::is_nothing")]
    pub beside: Beside,
    /// Conditions by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable_ones")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What was decided, oldest first: the newest 20, as far as there is room; the newest is always whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable_ones")]
    #[schemars(length(max = 20))]
    pub decisions: Vec<Decision>,

    /// Number of the last decision; grows by one with each.
    #[serde(default)]
    pub seq: u64,
    /// The predictor that users have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Predictor>,
    /// The predictor that wants to replace it, or wanted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Predictor>,
    /// Where the machine is: its own notes, with the evidence so far. Not an interface.
    #[serde(default)]
    #[schemars(schema_with = "anything")]
    pub stage: Stage,
    /// What the checks said at the last look that was written down.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable_ones")]
    #[schemars(length(max = 32))]
    pub checks: Vec<CheckRecord>,
    /// A pause by an action or for want of evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Predictors that still stand in the route with weight 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub retiring: Vec<Retiring>,
    /// Predictors that were stable or canary before, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub known: Vec<Predictor>,
    /// What became of the last 10 revisions, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub outcomes: Vec<RevisionOutcome>,
    /// The actions that were handled, the newest 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub handled: Vec<Handled>,
    /// The spec as it was when the rollout in flight started; its target and `paused` do not count.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    #[schemars(schema_with = "opaque")]
    pub pinned: Option<Box<RolloutSpec>>,
    /// What stable served when it became stable or was first seen, where the target tells what its predictors serve.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    pub guarded: Option<Guarded>,
}

/// What a predictor served once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guarded {
    /// The predictor's revision.
    #[schemars(length(max = 256))]
    pub revision: String,
    /// A hash of what it served.
    #[schemars(length(max = 64))]
    pub serves: String,
}

/// The elements that this version can read: records of another one must not cost the memory beside them.
fn readable_ones<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let all = Option::<Vec<Box<RawValue>>>::deserialize(from)?.unwrap_or_default();
    Ok(all.iter().filter_map(|one| serde_json::from_str(one.get()).ok()).collect())
}

/// Nothing where this version cannot read it.
fn if_readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Value>::deserialize(from)?.and_then(|value| serde_json::from_value(value).ok()))
}

/// Text or object, as it comes: the API server neither checks nor prunes it.
fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

/// An object whose fields the API server neither checks nor prunes.
fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The step in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepProgress {
    /// Number of the step, from 1; one more than there are steps for the promotion.
    pub number: u32,
    /// How many steps there are, the promotion not counted.
    pub of: u32,
    /// Name of the step.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Whether a person's approval ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_approval: bool,
    /// Whether that approval was given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
}

/// What the controller decided, and the measurements it did it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Its number.
    pub seq: u64,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// What was decided.
    pub kind: DecisionKind,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence with the numbers.
    #[schemars(length(max = 2048))]
    pub message: String,
    /// The revision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub revision: Option<String>,
    /// Number of the step, from 1, after the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The canary's share before, in percent.
    pub from_weight: i32,
    /// The canary's share after, in percent.
    pub weight: i32,
    /// What the canary got beside its share before.
    #[serde(default, skip_serializing_if = "Beside::is_nothing")]
    pub from_beside: Beside,
    /// What it gets beside its share after.
    #[serde(default, skip_serializing_if = "Beside::is_nothing")]
    pub beside: Beside,
    /// Who asked, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub by: Option<String>,
    /// What the checks said.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable_ones")]
    #[schemars(length(max = 32))]
    pub checks: Vec<CheckRecord>,
    /// What it writes, and into which objects; nothing where all was there already.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable_ones")]
    #[schemars(length(max = 17))]
    pub writes: Vec<WriteRecord>,
    /// How many more objects it writes than there is room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_writes: u32,
    /// Whether `checks` and `writes` were taken off later, because the status has room for those of the newest decisions only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abridged: bool,
}

impl Decision {
    /// What the canary got before.
    pub fn from_given(&self) -> Given {
        given(self.from_weight, &self.from_beside)
    }

    /// What it gets after.
    pub fn given(&self) -> Given {
        given(self.weight, &self.beside)
    }

    /// What it does to the traffic, in words: `weight 5% -> 25%`.
    pub fn change(&self) -> String {
        let [from, to] = [self.from_given(), self.given()];
        if from == to {
            to.to_string()
        } else if from.beside.is_nothing() && to.beside.is_nothing() {
            format!("{from} -> {}%", to.weight)
        } else {
            format!("{from} -> {to}")
        }
    }
}

impl RolloutStatus {
    /// What the canary was decided to get.
    pub fn given(&self) -> Given {
        given(self.weight, &self.beside)
    }
}

fn given(weight: i32, beside: &Beside) -> Given {
    Given { weight: u8::try_from(weight.clamp(0, 100)).unwrap_or(0), beside: beside.clone() }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DecisionKind {
    /// Stable was read off the route or its stamp.
    Adopted,
    /// A rollout of a new revision began; its canary has no traffic yet.
    Started,
    /// A step was entered.
    Entered,
    /// A person opened the gate of a step.
    Approved,
    /// Increases were stopped.
    Paused,
    /// Increases go on.
    Resumed,
    /// The canary lost its endpoints and has no traffic until it is ready again.
    Withdrawn,
    /// The canary was not ready in time.
    Overdue,
    /// The canary was taken out of traffic for good.
    RolledBack,
    /// Another revision is wanted: the old canary was taken out of traffic.
    Superseded,
    /// Stable is wanted again: the canary was taken out of traffic.
    Cancelled,
    /// The last step is over, stable has all again.
    Observed,
    /// A person decided for stable: it has all again.
    Lost,
    /// The canary gets all traffic, stable stays warm until it is let go.
    Promoting,
    /// The canary is stable.
    Promoted,
    /// A predictor that had lost its traffic left the route.
    Retired,
    /// A person asked to try again.
    Retried,
    /// The status was lost or edited: stable keeps all until a person asks for a retry.
    Recovered,
    /// The routes were given back.
    Released,
    /// A word of another version: the message beside it says what it means.
    #[serde(other)]
    Unknown,
}

impl DecisionKind {
    /// Every kind that this version decides.
    pub const ALL: [Self; 19] = [
        Self::Adopted,
        Self::Started,
        Self::Entered,
        Self::Approved,
        Self::Paused,
        Self::Resumed,
        Self::Withdrawn,
        Self::Overdue,
        Self::RolledBack,
        Self::Superseded,
        Self::Cancelled,
        Self::Observed,
        Self::Lost,
        Self::Promoting,
        Self::Promoted,
        Self::Retired,
        Self::Retried,
        Self::Recovered,
        Self::Released,
    ];
}

/// What one check said, with both arms' numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckRecord {
    /// Name of the check.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What it asks for, in words; on the record of a decision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub rule: String,
    /// What it said.
    pub verdict: Verdict,
    /// Why, in a sentence with the numbers.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The canary's requests that were judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<ArmRecord>,
    /// Stable's requests in the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<ArmRecord>,
    /// What a query answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Looks in a row that breached the rule.
    #[serde(default)]
    pub failures: u32,
    /// How the canary compares with stable, where the check asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<EffectRecord>,
    /// Whether a step may end on this although it is Inconclusive: there is no evidence of harm, and the check asks for no
    /// proof that there is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suffices: bool,
    /// Whether the check reports and never acts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
}

/// How the canary compares with stable: over all looks at this revision, and valid however often one looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectRecord {
    /// What the canary gave over what stable gave: shares of bad requests, or the numbers that a query answered; nothing
    /// where stable gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The ratio is at least this, with the check's confidence.
    pub from: f64,
    /// The ratio is at most this, with the check's confidence; nothing where no end is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
    /// Evidence that the canary is worse than the check allows, 1 without any.
    pub worse: f64,
    /// Evidence that the canary is better than the ratio it is cleared at, 1 without any.
    pub better: f64,
    /// The evidence that a verdict needs.
    pub needed: f64,
    /// The ratio that is still all right: canary to stable, or stable to canary where more is better.
    pub max_ratio: f64,
    /// The ratio below which the canary is cleared.
    pub clear_ratio: f64,
    /// More is better: the canary is worse where `ratio` is small.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_is_better: bool,
}

/// The requests of one arm that a check judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArmRecord {
    /// How many there were.
    pub requests: u64,
    /// How many of them failed, or took longer than the limit.
    pub bad: u64,
}
