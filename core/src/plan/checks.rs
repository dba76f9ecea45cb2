//! Checks, with their defaults.

use std::time::Duration;

use super::PlanErrors;
use crate::{
    api::{Check, ErrorsCheck, GoDuration, LatencyCheck, QueryCheck, Share},
    judge::Bound,
};

/// Intervals that one look reaches back when the check does not say.
const DEFAULT_WINDOW_INTERVALS: u32 = 5;
const DEFAULT_MIN_REQUESTS: u64 = 50;
const DEFAULT_QUANTILE: f64 = 0.99;

/// A rule that must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedCheck {
    /// Its name, unique in the plan.
    pub name: String,
    /// What must hold.
    pub rule: Rule,
    /// How far back one look reaches.
    pub window: Duration,
    /// Requests of the canary that a verdict needs; 0 for a query.
    pub min_requests: u64,
    /// Looks in a row that must breach the rule, 1 at least.
    pub consecutive_failures: u32,
}

/// What must hold of the canary.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// At most this share of the requests failed.
    Errors {
        /// The largest share that passes.
        max: Share,
    },
    /// At most a share of `1 - quantile` of the requests took longer than `max`.
    Latency {
        /// Above 0, below 1.
        quantile: f64,
        /// The longest that passes.
        max: Bound,
    },
    /// The query's number lies between the two.
    Query {
        /// The template of the query.
        promql: String,
        /// The smallest number that passes.
        min: Option<f64>,
        /// The largest number that passes.
        max: Option<f64>,
    },
}

pub(super) fn plan(checks: &[Check], interval: Duration, errors: &mut PlanErrors) -> Vec<PlannedCheck> {
    let mut planned: Vec<PlannedCheck> = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let path = format!("spec.checks[{index}]");
        refuse_what_is_not_there_yet(check, &path, errors);
        if planned.iter().any(|other| other.name == check.name) {
            errors.invalid(
                &format!("{path}.name"),
                format!("{:?} is there already: names are unique", check.name),
            );
        }
        let Some((rule, window, min_requests)) = rule(check, &path, errors) else { continue };
        let window = window.map_or(interval * DEFAULT_WINDOW_INTERVALS, |window| window.0);
        if window < interval {
            errors.invalid(&path, format!("a window of {} is shorter than the interval", GoDuration(window)));
        }
        let consecutive_failures = check.consecutive_failures.unwrap_or(1);
        if consecutive_failures == 0 {
            errors
                .invalid(&format!("{path}.consecutiveFailures"), "0 is out of range: 1 or more is expected");
        }
        planned.push(PlannedCheck {
            name: check.name.clone(),
            rule,
            window,
            min_requests,
            consecutive_failures,
        });
    }
    planned
}

fn refuse_what_is_not_there_yet(check: &Check, path: &str, errors: &mut PlanErrors) {
    for (field, given) in [
        ("advisory", check.advisory),
        ("steps", !check.steps.is_empty()),
        ("lag", check.lag.is_some()),
        ("inconclusive", check.inconclusive.is_some()),
    ] {
        if given {
            errors.unsupported(&format!("{path}.{field}"), "every check acts at every step");
        }
    }
}

type Parts = (Rule, Option<GoDuration>, u64);

fn rule(check: &Check, path: &str, errors: &mut PlanErrors) -> Option<Parts> {
    match (&check.errors, &check.latency, &check.query) {
        (Some(rule), None, None) => errors_rule(rule, &format!("{path}.errors"), errors),
        (None, Some(rule), None) => latency_rule(rule, &format!("{path}.latency"), errors),
        (None, None, Some(rule)) => Some(query_rule(rule, &format!("{path}.query"), errors)),
        _ => {
            errors.invalid(path, "exactly one of errors, latency and query is expected");
            None
        }
    }
}

fn errors_rule(rule: &ErrorsCheck, path: &str, errors: &mut PlanErrors) -> Option<Parts> {
    no_comparison_yet(rule.versus_stable.is_some(), path, errors);
    let Some(max) = rule.max else {
        if rule.versus_stable.is_none() {
            errors.invalid(path, "max is expected");
        }
        return None;
    };
    Some((Rule::Errors { max }, rule.window, rule.min_requests.unwrap_or(DEFAULT_MIN_REQUESTS)))
}

fn latency_rule(rule: &LatencyCheck, path: &str, errors: &mut PlanErrors) -> Option<Parts> {
    no_comparison_yet(rule.versus_stable.is_some(), path, errors);
    let quantile = rule.quantile.unwrap_or(DEFAULT_QUANTILE);
    if !(quantile > 0.0 && quantile < 1.0) {
        errors.invalid(
            &format!("{path}.quantile"),
            format!("{quantile} is out of range: above 0 and below 1 is expected"),
        );
    }
    let Some(max) = rule.max else {
        if rule.versus_stable.is_none() {
            errors.invalid(path, "max is expected");
        }
        return None;
    };
    let Some(bound) = Bound::from_seconds(max.0.as_secs_f64()).filter(|bound| bound.0 > 0) else {
        errors.invalid(&format!("{path}.max"), format!("{max} is out of range: 1us or more is expected"));
        return None;
    };
    Some((
        Rule::Latency { quantile, max: bound },
        rule.window,
        rule.min_requests.unwrap_or(DEFAULT_MIN_REQUESTS),
    ))
}

fn query_rule(rule: &QueryCheck, path: &str, errors: &mut PlanErrors) -> Parts {
    no_comparison_yet(rule.versus_stable.is_some(), path, errors);
    if rule.direction.is_some() {
        errors.unsupported(&format!("{path}.direction"), "comparison with stable; use min and max");
    }
    match (rule.min, rule.max) {
        (None, None) if rule.versus_stable.is_some() => {}
        (None, None) => errors.invalid(path, "at least one of min and max is expected"),
        (Some(min), Some(max)) if min > max => errors.invalid(path, format!("min {min} is above max {max}")),
        _ => {}
    }
    (Rule::Query { promql: rule.promql.clone(), min: rule.min, max: rule.max }, rule.window, 0)
}

fn no_comparison_yet(asked: bool, path: &str, errors: &mut PlanErrors) {
    if asked {
        errors.unsupported(&format!("{path}.versusStable"), "comparison with stable; use max and min");
    }
}
