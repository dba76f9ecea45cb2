//! Checks, with their defaults.

use std::time::Duration;

use super::{PlanErrors, PlannedStep, Versus, query, versus};
use crate::{
    api::{Check, Direction, ErrorsCheck, GoDuration, LatencyCheck, Share, Then, VersusStable},
    judge::{Bound, Indicator},
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
    /// Looks in a row that must breach the limit, 1 at least.
    pub consecutive_failures: u32,
    /// The comparison with stable that stands beside the limit, or alone.
    pub versus: Option<Versus>,
    /// Whether it reports and never acts.
    pub advisory: bool,
    /// Names of the steps that it is for; all of them when empty.
    pub steps: Vec<String>,
    /// How old the traffic is that its numbers describe.
    pub lag: Duration,
    /// Looks from one pair of numbers of a query to the next that is compared, 1 at least: so many are in a window.
    pub looks_apart: u32,
    /// What to do when its evidence never comes; what the Rollout says when nothing.
    pub without_evidence: Option<Then>,
}

impl PlannedCheck {
    /// Whether it is for the step of this name and weight. A ramp's name means all of its steps.
    pub fn is_for(&self, step: &str, weight: u8) -> bool {
        self.steps.is_empty()
            || self.steps.iter().any(|name| name == step || step == format!("{name}-{weight}"))
    }

    /// Takes looks to be `interval` apart.
    pub(super) fn look_every(&mut self, interval: Duration) {
        self.looks_apart = looks_in(self.window, interval);
    }

    /// Whether there is a limit, and not a comparison alone.
    pub fn has_limit(&self) -> bool {
        match &self.rule {
            Rule::Errors { max } => max.is_some(),
            Rule::Latency { max, .. } => max.is_some(),
            Rule::Query { min, max, .. } => min.is_some() || max.is_some(),
        }
    }

    /// What it compares with stable, and how.
    pub fn comparison(&self) -> Option<(&Versus, Indicator)> {
        let indicator = match &self.rule {
            Rule::Errors { .. } => Indicator::Errors,
            Rule::Latency { .. } => Indicator::Latency,
            Rule::Query { direction, total: Some(_), .. } => Indicator::Shares((*direction)?),
            Rule::Query { direction, total: None, .. } => Indicator::Scores((*direction)?, self.looks_apart),
        };
        Some((self.versus.as_ref()?, indicator))
    }
}

/// What must hold of the canary.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// At most this share of the requests failed.
    Errors {
        /// The largest share that passes; no limit where there is only a comparison.
        max: Option<Share>,
    },
    /// At most a share of `1 - quantile` of the requests took longer than `max`.
    Latency {
        /// Above 0, below 1.
        quantile: f64,
        /// The longest that passes; no limit where there is only a comparison.
        max: Option<Bound>,
    },
    /// The query's number lies between the two; no limits where there is only a comparison.
    Query {
        /// The template of the query.
        promql: String,
        /// That of a counter of which the query's counts a part.
        total: Option<String>,
        /// Whether more is worse or better, for a comparison.
        direction: Option<Direction>,
        /// The smallest number that passes.
        min: Option<f64>,
        /// The largest number that passes.
        max: Option<f64>,
    },
}

pub(super) fn plan(
    checks: &[Check],
    interval: Duration,
    steps: &[PlannedStep],
    errors: &mut PlanErrors,
) -> Vec<PlannedCheck> {
    let mut planned: Vec<PlannedCheck> = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let path = format!("spec.checks[{index}]");
        if planned.iter().any(|other| other.name == check.name) {
            errors.invalid(
                &format!("{path}.name"),
                format!("{:?} is there already: names are unique", check.name),
            );
        }
        let Some(parts) = parts(check, &path, errors) else { continue };
        let window = parts.window.map_or(interval * DEFAULT_WINDOW_INTERVALS, |window| window.0);
        if window < interval {
            errors.invalid(&path, format!("a window of {} is shorter than the interval", GoDuration(window)));
        }
        let consecutive_failures = check.consecutive_failures.unwrap_or(1);
        if consecutive_failures == 0 {
            errors
                .invalid(&format!("{path}.consecutiveFailures"), "0 is out of range: 1 or more is expected");
        }
        let planned_check = PlannedCheck {
            name: check.name.clone(),
            rule: parts.rule,
            window,
            min_requests: parts.min_requests,
            consecutive_failures,
            versus: parts.versus,
            advisory: check.advisory,
            steps: check.steps.clone(),
            lag: check.lag.unwrap_or_default().0,
            looks_apart: looks_in(window, interval),
            without_evidence: check.inconclusive,
        };
        refuse_unknown_steps(&planned_check, steps, &path, errors);
        planned.push(planned_check);
    }
    planned
}

/// How many looks it takes until a window has no more of what it had.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of a float saturates
fn looks_in(window: Duration, interval: Duration) -> u32 {
    (window.as_secs_f64() / interval.as_secs_f64().max(0.001)).ceil().max(1.0) as u32
}

fn refuse_unknown_steps(check: &PlannedCheck, steps: &[PlannedStep], path: &str, errors: &mut PlanErrors) {
    for (index, name) in check.steps.iter().enumerate() {
        let alone = PlannedCheck { steps: vec![name.clone()], ..check.clone() };
        if !steps.iter().any(|step| alone.is_for(&step.name, step.weight)) {
            let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            errors.invalid(
                &format!("{path}.steps[{index}]"),
                format!("no step is called {name:?}: expected one of {there}"),
            );
        }
    }
}

/// What the three kinds of check have in common.
pub(super) struct Parts {
    pub(super) rule: Rule,
    pub(super) window: Option<GoDuration>,
    pub(super) min_requests: u64,
    pub(super) versus: Option<Versus>,
}

fn parts(check: &Check, path: &str, errors: &mut PlanErrors) -> Option<Parts> {
    match (&check.errors, &check.latency, &check.query) {
        (Some(rule), None, None) => errors_rule(rule, &format!("{path}.errors"), errors),
        (None, Some(rule), None) => latency_rule(rule, &format!("{path}.latency"), errors),
        (None, None, Some(rule)) => query::rule(rule, &format!("{path}.query"), errors),
        _ => {
            errors.invalid(path, "exactly one of errors, latency and query is expected");
            None
        }
    }
}

fn compared(versus: Option<&VersusStable>, path: &str, errors: &mut PlanErrors) -> Option<Versus> {
    versus.map(|versus| versus::plan(versus, &versus::OF_REQUESTS, &format!("{path}.versusStable"), errors))
}

fn errors_rule(rule: &ErrorsCheck, path: &str, errors: &mut PlanErrors) -> Option<Parts> {
    let versus = compared(rule.versus_stable.as_ref(), path, errors);
    if rule.max.is_none() && versus.is_none() {
        errors.invalid(path, "max or versusStable is expected");
        return None;
    }
    Some(Parts {
        rule: Rule::Errors { max: rule.max },
        window: rule.window,
        min_requests: rule.min_requests.unwrap_or(DEFAULT_MIN_REQUESTS),
        versus,
    })
}

fn latency_rule(rule: &LatencyCheck, path: &str, errors: &mut PlanErrors) -> Option<Parts> {
    let versus = compared(rule.versus_stable.as_ref(), path, errors);
    let quantile = rule.quantile.unwrap_or(DEFAULT_QUANTILE);
    if !(quantile > 0.0 && quantile < 1.0) {
        errors.invalid(
            &format!("{path}.quantile"),
            format!("{quantile} is out of range: above 0 and below 1 is expected"),
        );
    }
    if rule.max.is_none() && versus.is_none() {
        errors.invalid(path, "max or versusStable is expected");
        return None;
    }
    let mut limit = None;
    if let Some(max) = rule.max {
        limit = Bound::from_seconds(max.0.as_secs_f64()).filter(|bound| bound.0 > 0);
        if limit.is_none() {
            errors.invalid(&format!("{path}.max"), format!("{max} is out of range: 1us or more is expected"));
            return None;
        }
    }
    Some(Parts {
        rule: Rule::Latency { quantile, max: limit },
        window: rule.window,
        min_requests: rule.min_requests.unwrap_or(DEFAULT_MIN_REQUESTS),
        versus,
    })
}
