//! What happens while a rollout runs, as people write it down.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::queries::Answer;
use crate::api::{Do, GoDuration, Share};

/// Longer than this nothing is rehearsed: 30 days.
pub(crate) const LONGEST: Duration = Duration::from_hours(30 * 24);
/// More requests a second than this nobody has.
const MOST_REQUESTS: f64 = 1e9;

/// What happens while a rollout runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Requests a second, of all users.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub requests: f64,
    /// The share of them that a step's `match` meets.
    #[serde(default)]
    #[schemars(extend("default" = "0%"))]
    pub matching: Option<Share>,
    /// The predictor that users have.
    #[serde(default)]
    pub stable: Arm,
    /// The one that wants to replace it.
    #[serde(default)]
    pub canary: Arm,
    /// What the query of a check answers, by the name of the check; nothing about checks that are not named.
    #[serde(default)]
    pub queries: BTreeMap<String, Answer>,
    /// Errors come in clumps of so many: retries, bursts, clients that send in batches.
    #[serde(default)]
    #[schemars(range(min = 1), extend("default" = 1))]
    pub clump: Option<u32>,
    /// When it is over, whatever has become of the rollout: `720h` at most.
    #[serde(default)]
    #[schemars(extend("default" = "24h"))]
    pub lasts: Option<GoDuration>,
    /// What happens on the way, at any time after the start, in any order.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// How a predictor does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Arm {
    /// The share of its answers that are errors.
    #[serde(default)]
    #[schemars(extend("default" = "0%"))]
    pub errors: Option<Share>,
    /// How long it takes. Without it there is no histogram: checks on latency stay `Inconclusive`.
    #[serde(default)]
    pub latency: Option<Latency>,
    /// How many ready endpoints it has; with 0 it answers nobody, and gets no requests.
    #[serde(default)]
    #[schemars(extend("default" = 1))]
    pub ready: Option<u32>,
}

/// How long a predictor takes: a log-normal distribution by two of its quantiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latency {
    /// Half of the requests take longer; above 0.
    pub median: GoDuration,
    /// One of a hundred takes longer; above `median`.
    pub p99: GoDuration,
}

/// Something that happens: all that is given changes at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Time after the start; not after the end.
    pub at: GoDuration,
    /// Requests a second, from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub requests: Option<f64>,
    /// What is different about stable from then on; all else stays as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Arm>,
    /// What is different about the canary from then on; all else stays as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Arm>,
    /// What queries answer from then on, by the name of the check; all others stay as they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queries: BTreeMap<String, Answer>,
    /// Whether the metrics can be had from then on. What is answered meanwhile is seen when they are back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
    /// What a person asks for, of the step that the status shows then.
    #[serde(default, rename = "do", skip_serializing_if = "Option::is_none")]
    pub what: Option<Do>,
    /// Whether everything is frozen from then on: nothing grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
}

/// Why a scenario makes no sense: the field, what was expected and what was there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidScenario {
    /// The field, like `events[2].canary.latency`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Scenario {
    /// Nothing but so many requests a second, for a day: a good canary, a good stable.
    pub fn of(requests: f64) -> Self {
        Self {
            requests,
            matching: None,
            stable: Arm::default(),
            canary: Arm::default(),
            queries: BTreeMap::new(),
            clump: None,
            lasts: None,
            events: Vec::new(),
        }
    }

    /// The time that it lasts.
    pub fn length(&self) -> Duration {
        self.lasts.map_or(Duration::from_hours(24), |lasts| lasts.0)
    }

    /// The same with a canary that does as stable does all the time: it fails as often, is as slow, queries answer the same
    /// about it, it has an endpoint, and nobody takes it out of traffic or retries it. A rollback of it is a false one.
    #[must_use]
    pub fn healthy(mut self) -> Self {
        let like = |canary: &Arm, stable: &Arm| Arm {
            ready: canary.ready.filter(|ready| *ready > 0),
            ..stable.clone()
        };
        let alike = |answers: &mut BTreeMap<String, Answer>| {
            answers.values_mut().for_each(|answer| *answer = answer.as_of_stable());
        };
        self.canary = like(&self.canary, &self.stable);
        alike(&mut self.queries);
        for event in &mut self.events {
            let (canary, stable) = (event.canary.take(), event.stable.clone());
            let both = like(&canary.unwrap_or_default(), &stable.unwrap_or_default());
            event.canary = Some(both).filter(|arm| *arm != Arm::default());
            alike(&mut event.queries);
            event.what = event.what.filter(|what| !is_held_against(*what));
        }
        self.events.retain(|event| !event.is_nothing());
        self
    }

    /// Whether the canary never fails more often than stable, is never slower and never without an endpoint, queries answer
    /// the same about both, and nobody holds anything against it: a rollback of it is a false one then.
    pub fn canary_is_never_worse(&self) -> bool {
        let mut events: Vec<&Event> = self.events.iter().collect();
        events.sort_by_key(|event| event.at);
        let (mut stable, mut canary) = (self.stable.clone(), self.canary.clone());
        let same = |answers: &BTreeMap<String, Answer>| answers.values().all(|answer| answer.is_the_same());
        let mut never = same(&self.queries) && is_no_worse(&canary, &stable);
        for event in events {
            stable.change(event.stable.as_ref());
            canary.change(event.canary.as_ref());
            never &= same(&event.queries) && !event.what.is_some_and(is_held_against);
            never &= is_no_worse(&canary, &stable);
        }
        never
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), InvalidScenario> {
        rate(self.requests, "requests")?;
        arm(&self.stable, "stable")?;
        arm(&self.canary, "canary")?;
        answers(&self.queries, "queries")?;
        if self.clump == Some(0) {
            return Err(invalid("clump", "0 is out of range: 1 or more is expected"));
        }
        if self.length() > LONGEST {
            return Err(invalid("lasts", format!("{} is too long: 720h at most", GoDuration(self.length()))));
        }
        for (index, event) in self.events.iter().enumerate() {
            let field = |name: &str| format!("events[{index}].{name}");
            let at = event.at;
            if event.is_nothing() {
                return Err(invalid(
                    format!("events[{index}]"),
                    "nothing happens: requests, stable, canary, queries, metrics, do or frozen is expected",
                ));
            }
            if at.0 > self.length() {
                let problem = format!("{at} is after the end, which is at {}", GoDuration(self.length()));
                return Err(invalid(field("at"), problem));
            }
            event.requests.map_or(Ok(()), |requests| rate(requests, &field("requests")))?;
            event.stable.as_ref().map_or(Ok(()), |one| arm(one, &field("stable")))?;
            event.canary.as_ref().map_or(Ok(()), |one| arm(one, &field("canary")))?;
            answers(&event.queries, &field("queries"))?;
        }
        Ok(())
    }
}

impl Event {
    /// Whether it changes nothing.
    fn is_nothing(&self) -> bool {
        *self == (Self { at: self.at, ..Self::default() })
    }
}

impl Arm {
    /// Does from now on what an event says, and all else as before.
    pub(super) fn change(&mut self, to: Option<&Self>) {
        let Some(Self { errors, latency, ready }) = to else { return };
        self.errors = errors.or(self.errors);
        self.latency = latency.or(self.latency);
        self.ready = ready.or(self.ready);
    }
}

fn is_no_worse(canary: &Arm, stable: &Arm) -> bool {
    let errors = |arm: &Arm| arm.errors.map_or(0.0, Share::fraction);
    let slower = match (canary.latency, stable.latency) {
        (Some(canary), Some(stable)) => canary.median > stable.median || canary.p99 > stable.p99,
        (Some(_), None) => true,
        (None, _) => false,
    };
    errors(canary) <= errors(stable) && !slower && canary.ready != Some(0)
}

/// What nobody asks for whose canary is as good as stable. A retry is of one that was taken out, and would hide that.
fn is_held_against(what: Do) -> bool {
    match what {
        Do::Abort | Do::DecideStable | Do::Retry => true,
        Do::Approve | Do::Promote | Do::PromoteFull | Do::DecideCanary | Do::Pause | Do::Resume => false,
    }
}

fn rate(requests: f64, field: &str) -> Result<(), InvalidScenario> {
    if (0.0..=MOST_REQUESTS).contains(&requests) {
        Ok(())
    } else {
        Err(invalid(field, format!("{requests} is out of range: 0 to {MOST_REQUESTS} a second is expected")))
    }
}

fn arm(arm: &Arm, field: &str) -> Result<(), InvalidScenario> {
    let Some(Latency { median, p99 }) = arm.latency else { return Ok(()) };
    if median.0.is_zero() || p99 <= median {
        return Err(invalid(
            format!("{field}.latency"),
            format!(
                "median {median} and p99 {p99}: a median above 0 and a p99 above the median are expected"
            ),
        ));
    }
    Ok(())
}

fn answers(answers: &BTreeMap<String, Answer>, field: &str) -> Result<(), InvalidScenario> {
    match answers.iter().find(|(_, answer)| !answer.is_finite()) {
        Some((check, _)) => Err(invalid(format!("{field}.{check}"), "a finite number is expected")),
        None => Ok(()),
    }
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> InvalidScenario {
    InvalidScenario { field: field.into(), problem: problem.into() }
}
