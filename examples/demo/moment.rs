//! One moment of the demo in numbers: what the Rollout says, and what users see.

use std::{collections::BTreeMap, time::Duration};

use sluice_core::api::{Check, CheckRecord, DecisionKind, Phase, Rollout, RolloutStatus};

use crate::users::{Seen, Users};

/// The time over which the observed share is counted.
const SHARE_TIME: Duration = Duration::from_secs(1);
/// The time over which errors and latencies are counted.
pub const NUMBERS_TIME: Duration = Duration::from_secs(3);

/// One moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Since the demo began.
    pub elapsed: Duration,
    /// Where the Rollout stands.
    pub phase: Phase,
    /// Why.
    pub message: String,
    /// The steps and the promotion after them, with their weights.
    pub steps: Vec<(u8, Place)>,
    /// Who has the rest of the traffic.
    pub stable: Arm,
    /// Who wants to replace it, or wanted to.
    pub canary: Option<Arm>,
    /// The checks' names and what they allow.
    pub rules: Vec<(String, String)>,
    /// What the checks said at the last look that was written down.
    pub checks: Vec<CheckRecord>,
    /// How it came here.
    pub history: Vec<Point>,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Passed.
    Done,
    /// Under way.
    Current,
    /// Not yet.
    ToCome,
    /// Broke.
    Failed,
}

/// One predictor.
#[derive(Clone, Debug, Default)]
pub struct Arm {
    /// Its Service.
    pub name: String,
    /// The share that the Rollout's status says, in percent.
    pub intended: u8,
    /// The share of the answers that it gave lately, 0 to 1; nothing where nobody answered.
    pub observed: Option<f64>,
    /// Its answers lately.
    pub seen: Seen,
}

/// The wanted predictor at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Its share of the answers, 0 to 1.
    pub share: f64,
    /// Whether it failed requests.
    pub failing: bool,
    /// Whether it is stable.
    pub stable: bool,
}

impl Moment {
    /// The moment, without its history.
    pub fn of(elapsed: Duration, rollout: &Rollout, users: &Users) -> Self {
        let status = rollout.status.clone().unwrap_or_default();
        let (share, numbers) = (users.last(SHARE_TIME), users.last(NUMBERS_TIME));
        let stable = status.stable.as_ref().map_or_else(String::new, |stable| stable.service.clone());
        let canary = status.canary.as_ref().map(|canary| canary.service.clone());
        let weight = u8::try_from(status.weight).unwrap_or(0);
        let arm = |name: String, intended| Arm {
            intended,
            observed: share_of(&share, &name),
            seen: numbers.get(&name).cloned().unwrap_or_default(),
            name,
        };
        // What is stable already is no canary any more.
        let canary = canary.filter(|canary| *canary != stable);
        Self {
            elapsed,
            phase: status.phase,
            message: status.message.clone(),
            steps: steps(rollout, &status),
            stable: arm(stable, if canary.is_some() { 100 - weight.min(100) } else { 100 }),
            canary: canary.map(|canary| arm(canary, weight)),
            rules: rollout.spec.checks.iter().filter_map(rule).collect(),
            checks: status.checks,
            history: Vec::new(),
        }
    }

    /// The predictor that the target names, for the history.
    pub fn point(&self) -> Point {
        let arm = self.canary.as_ref().unwrap_or(&self.stable);
        Point {
            share: arm.observed.unwrap_or_default(),
            failing: arm.seen.failed > 0 && arm.intended > 0,
            stable: self.canary.is_none(),
        }
    }
}

/// A check's name and what it allows.
fn rule(check: &Check) -> Option<(String, String)> {
    let errors = check.errors.as_ref().and_then(|errors| errors.max);
    let latency = check.latency.as_ref().and_then(|latency| Some((latency.quantile?, latency.max?)));
    let text = match (errors, latency) {
        (Some(max), _) => format!("at most {max} of the canary's requests may fail"),
        (None, Some((quantile, max))) => {
            format!("{}% of the canary's requests must finish within {max}", quantile * 100.0)
        }
        (None, None) => return None,
    };
    Some((check.name.clone(), text))
}

#[allow(clippy::cast_precision_loss)]
fn share_of(answers: &BTreeMap<String, Seen>, name: &str) -> Option<f64> {
    let all: u64 = answers.values().map(|seen| seen.requests).sum();
    let own = answers.get(name).map_or(0, |seen| seen.requests);
    (all > 0).then(|| own as f64 / all as f64)
}

fn steps(rollout: &Rollout, status: &RolloutStatus) -> Vec<(u8, Place)> {
    let weights = rollout.spec.steps.iter().filter_map(|step| step.weight);
    let weights = weights.filter_map(|weight| u8::try_from(weight).ok()).chain([100]);
    // The last step that the wanted predictor entered, and whether it is still there.
    let wanted = rollout.spec.target.service.as_ref().map(|service| service.name.clone()).unwrap_or_default();
    let of_wanted = |revision: &Option<String>| {
        revision.as_ref().is_some_and(|revision| revision.contains(&format!("/{wanted}:")))
    };
    let mut mine = status.decisions.iter().rev().filter(|decision| of_wanted(&decision.revision));
    let ended = mine.clone().next().map(|decision| decision.kind);
    let entered = mine
        .find(|decision| matches!(decision.kind, DecisionKind::Entered | DecisionKind::Promoting))
        .and_then(|decision| decision.step)
        .map(|number| number as usize);
    let place = |number: usize| match (entered, ended) {
        (Some(entered), _) if number < entered => Place::Done,
        (Some(entered), _) if number > entered => Place::ToCome,
        (None, _) => Place::ToCome,
        (Some(_), Some(DecisionKind::RolledBack | DecisionKind::Retired)) => Place::Failed,
        (Some(_), Some(DecisionKind::Promoted)) => Place::Done,
        (Some(_), _) => Place::Current,
    };
    weights.enumerate().map(|(index, weight)| (weight, place(index + 1))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn places(decisions: &[(&str, &str, Option<u32>)]) -> Vec<(u8, Place)> {
        let decisions: Vec<Value> = decisions
            .iter()
            .enumerate()
            .map(|(at, (kind, service, step))| {
                json!({"seq": at, "at": "2026-01-01T00:00:00Z", "kind": kind, "reason": "New", "message": "",
                       "revision": format!("models/{service}:8000"), "step": step, "fromWeight": 0, "weight": 0})
            })
            .collect();
        let rollout: Rollout = serde_json::from_value(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"},
            "spec": {"target": {"service": {"name": "v2"}}, "steps": [{"weight": 5}, {"weight": 25}]},
            "status": {"decisions": decisions, "stage": "idle"},
        }))
        .unwrap();
        let status = rollout.status.clone().unwrap();
        steps(&rollout, &status)
    }

    #[test]
    fn steps_are_those_of_the_wanted_predictor() {
        use Place::{Current, Done, Failed, ToCome};
        let old = ("Promoted", "v1", None);
        for (decisions, expected) in [
            (vec![old], [ToCome, ToCome, ToCome]),
            (vec![old, ("Entered", "v2", Some(1))], [Current, ToCome, ToCome]),
            (vec![old, ("Entered", "v2", Some(2)), ("Retired", "v0", None)], [Done, Current, ToCome]),
            (vec![("Promoting", "v2", Some(3))], [Done, Done, Current]),
            (vec![("Promoting", "v2", Some(3)), ("Promoted", "v2", None)], [Done, Done, Done]),
            (vec![("Entered", "v2", Some(2)), ("RolledBack", "v2", None)], [Done, Failed, ToCome]),
        ] {
            let places = places(&decisions);
            assert_eq!(places.iter().map(|(weight, _)| *weight).collect::<Vec<_>>(), [5, 25, 100]);
            assert_eq!(places.iter().map(|(_, place)| *place).collect::<Vec<_>>(), expected, "{decisions:?}");
        }
    }

    #[test]
    fn rules_are_told_with_their_limits() {
        let told = |check: Value| rule(&serde_json::from_value(check).unwrap()).unwrap().1;
        let errors = json!({"name": "e", "errors": {"max": "1%"}});
        assert_eq!(told(errors), "at most 1% of the canary's requests may fail");
        let latency = json!({"name": "l", "latency": {"quantile": 0.99, "max": "100ms"}});
        assert_eq!(told(latency), "99% of the canary's requests must finish within 100ms");
    }

    #[test]
    fn a_share_is_of_all_answers() {
        let seen = |requests| Seen { requests, ..Seen::default() };
        let answers = BTreeMap::from([("v1".to_owned(), seen(75)), ("v2".to_owned(), seen(25))]);
        assert_eq!(share_of(&answers, "v2"), Some(0.25));
        assert_eq!(share_of(&answers, "v3"), Some(0.0));
        assert_eq!(share_of(&BTreeMap::new(), "v2"), None);
    }
}
