//! A plan tried out at a load: with nobody to wait for, and a canary of which nothing is wrong but its errors.

use std::{collections::BTreeMap, time::Duration};

use super::{Answer, Arm, LONGEST, Latency, Scenario, Timeline, arms::longer, simulate};
use crate::{
    api::{Finish, GoDuration, Share, Then},
    judge::Bound,
    plan::{Load, Plan, Rule},
};

/// More looks than these take more than a moment.
const MOST_LOOKS: u32 = 200_000;
/// What both predictors are taken to need: half of the requests, and all but one of a hundred.
const USUAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));
/// So many times halved they are below any limit that there can be.
const MOST_HALVINGS: u32 = 20;
/// What a query answers that has no limits.
const ANSWER: f64 = 0.5;

/// The shares of answers that are errors; nothing where none are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// Of stable's answers.
    pub stable: Option<Share>,
    /// Of the canary's.
    pub canary: Option<Share>,
}

/// The plan with nobody to wait for, that ends where evidence does not come.
pub fn without_people(plan: &Plan) -> Plan {
    let mut plan = Plan { finish: Finish::Promote, without_evidence: Then::Rollback, ..plan.clone() };
    plan.steps.iter_mut().for_each(|step| step.approve = false);
    plan.checks.iter_mut().for_each(|check| check.without_evidence = None);
    plan
}

/// Rehearses a plan with these errors. Whatever else is looked at is the same of both, and within the limits of the checks.
/// It takes 30 days of the rollout at most, and fewer where looks are many.
pub fn tried(plan: &Plan, load: Load, errors: Errors) -> Timeline {
    let latency = latency(plan);
    let arm = |errors| Arm { errors, latency: Some(latency), ready: None };
    let scenario = Scenario {
        queries: answers(plan),
        matching: Some(load.matching),
        stable: arm(errors.stable),
        canary: arm(errors.canary),
        lasts: Some(GoDuration(LONGEST.min(plan.interval.saturating_mul(MOST_LOOKS)))),
        ..Scenario::of(load.rate)
    };
    simulate(plan, &scenario, None)
}

/// The usual latency, or half of it, or half of that, as the limits of checks that act have it.
fn latency(plan: &Plan) -> Latency {
    let limits = plan.checks.iter().filter(|check| !check.advisory).filter_map(|check| match check.rule {
        Rule::Latency { quantile, max } => Some((quantile, max?)),
        Rule::Errors { .. } | Rule::Query { .. } => None,
    });
    let limits: Vec<(f64, Bound)> = limits.collect();
    let halved = |times: u32| Latency {
        median: GoDuration(USUAL.0 / 2_u32.pow(times)),
        p99: GoDuration(USUAL.1 / 2_u32.pow(times)),
    };
    // Half of what is allowed: a window may have a few more.
    let holds = |latency: &Latency| {
        limits.iter().all(|(quantile, max)| longer(*latency, *max) < (1.0 - quantile) / 2.0)
    };
    (0..MOST_HALVINGS).map(halved).find(holds).unwrap_or_else(|| halved(MOST_HALVINGS))
}

/// A number of each query, the same about both.
fn answers(plan: &Plan) -> BTreeMap<String, Answer> {
    let answers = plan.checks.iter().filter_map(|check| match check.rule {
        Rule::Query { min, max, .. } => {
            let number = ANSWER.max(min.unwrap_or(ANSWER)).min(max.unwrap_or(f64::MAX));
            Some((check.name.clone(), Answer::Same(number)))
        }
        Rule::Errors { .. } | Rule::Latency { .. } => None,
    });
    answers.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::Ending, *};
    use crate::api::Reason;

    fn plan(checks: &Value) -> Plan {
        let spec = json!({
            "target": {"service": {"name": "canary"}}, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 10, "for": "60s", "approve": true}], "interval": "10s", "checks": checks,
            "finish": "Wait",
        });
        Plan::new(&serde_json::from_value(spec).unwrap(), "rehearsal").unwrap()
    }

    fn ending(checks: &Value, errors: &str) -> Ending {
        let load = Load { rate: 100.0, matching: "10%".parse().unwrap() };
        let errors = Errors { stable: None, canary: errors.parse().ok() };
        tried(&without_people(&plan(checks)), load, errors).ending
    }

    #[test]
    fn nothing_but_errors_is_wrong_whatever_the_limits_are() {
        for others in [
            json!({"name": "other", "latency": {"quantile": 0.99, "max": "250ms"}}),
            json!({"name": "other", "latency": {"quantile": 0.99, "max": "200ms"}}),
            json!({"name": "other", "latency": {"quantile": 0.999_999, "max": "1us"}}),
            json!({"name": "other", "latency": {"versusStable": {}}}),
            json!({"name": "other", "query": {"promql": "accuracy", "min": 0.9}}),
            json!({"name": "other", "query": {"promql": "drift", "max": 0.1}}),
            json!({"name": "other", "query": {"promql": "delta", "min": -3, "max": -2}}),
        ] {
            let checks = json!([{"name": "errors", "errors": {"max": "1%"}}, others]);
            assert_eq!(ending(&checks, "0.5%"), Ending::Promoted, "{checks}");
            let Ending::Over { reason, .. } = ending(&checks, "2%") else { panic!("{checks}") };
            assert_eq!(reason, Reason::CheckFailed);
            assert_eq!(
                ending(&json!([others]), "100%"),
                Ending::Promoted,
                "no check looks at errors: {others}"
            );
        }
    }

    #[test]
    fn where_evidence_does_not_come_it_ends() {
        let checks = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 1_000_000_000}}]);
        let Ending::Over { reason, .. } = ending(&checks, "2%") else { panic!("it does not end") };
        assert_eq!(reason, Reason::Inconclusive);
    }
}
