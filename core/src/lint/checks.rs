//! Checks.

use std::time::Duration;

use super::{
    Code, Finding,
    promql::{Query, Range},
    rehearsed,
};
use crate::{
    api::{Finish, GoDuration, Profile, RolloutSpec},
    judge::{Bound, Indicator},
    plan::{Load, MetricsPlan, Plan, PlannedCheck, Rule},
};

/// A difference that no two copies of one model need to keep within.
const SMALLEST_DIFFERENCE: f64 = 1.005;
/// Two scrapes, where Prometheus scrapes as often as people have it: every 15 seconds.
const TWO_SCRAPES: Duration = Duration::from_secs(30);
const SCRAPES: &str = "Prometheus scrapes every 15s where nobody says otherwise: two scrapes are 30s";
/// The bounds of the histograms of `MLServer` and of Seldon's executor, in seconds.
const SECONDS_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The bounds of Istio's histogram of durations, in milliseconds, as its proxies come; Envoy's own are the same.
const ISTIO_BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

pub(super) fn lint(plan: &Plan, spec: &RolloutSpec, load: Option<Load>, findings: &mut Vec<Finding>) {
    let acting: Vec<&PlannedCheck> = plan.checks.iter().filter(|check| !check.advisory).collect();
    if acting.is_empty() && plan.finish != Finish::KeepStable {
        findings.push(Finding::new(
            Code::NoCheck,
            "spec.checks",
            "no check acts: only lost endpoints or a person take a bad canary out of traffic",
            "add a check, like {name: errors, errors: {max: 1%}}",
        ));
    }
    if !acting.is_empty() && !acting.iter().any(|check| check.has_limit()) {
        findings.extend(without_limit(plan, load));
    }
    for (index, check) in plan.checks.iter().enumerate() {
        let path = format!("spec.checks[{index}]");
        findings.extend(single_error(check, &path));
        findings.extend(between_buckets(plan, check, &path));
        findings.extend(too_small(check, &path));
        findings.extend(share_as_number(check, &path));
        findings.extend(short_window(plan, spec, check, &path));
    }
}

/// Where all compare: at a known load it is a risk only if the comparison is too slow.
fn without_limit(plan: &Plan, load: Option<Load>) -> Option<Finding> {
    let advice = "put a limit beside a comparison, like max: 5%";
    let Some(load) = load else {
        let problem =
            "all checks compare with stable: on little traffic that takes long, and stable may be bad too";
        return Some(Finding::new(Code::NoLimit, "spec.checks", problem, advice));
    };
    let slow = rehearsed::bad_canary(plan, load)?;
    Some(Finding::new(
        Code::NoLimit,
        "spec.checks",
        format!(
            "all checks compare with stable, and at {} requests/s that takes long: a canary that fails on 10% of its answers \
             where stable fails on 1% gets through step {}, {}",
            load.rate, slow.step, slow.then
        ),
        advice,
    ))
}

fn single_error(check: &PlannedCheck, path: &str) -> Option<Finding> {
    let Rule::Errors { max: Some(max) } = &check.rule else { return None };
    (max.fraction() <= 0.0 && check.consecutive_failures == 1).then(|| {
        Finding::new(
            Code::SingleError,
            format!("{path}.errors.max"),
            "a single failed request rolls the canary back",
            "allow a share above 0%, or ask for several looks in a row (consecutiveFailures)",
        )
    })
}

fn too_small(check: &PlannedCheck, path: &str) -> Option<Finding> {
    let (versus, Indicator::Scores(..)) = check.comparison()? else { return None };
    (versus.max_ratio < SMALLEST_DIFFERENCE).then(|| {
        Finding::new(
            Code::DifferenceTooSmall,
            format!("{path}.query.versusStable.maxRatio"),
            format!(
                "numbers may differ by {} times: of numbers that hardly vary, a difference that nobody minds is found",
                versus.max_ratio
            ),
            "say which difference you would mind, like maxRatio: 1.05",
        )
    })
}

fn short_window(plan: &Plan, spec: &RolloutSpec, check: &PlannedCheck, path: &str) -> Option<Finding> {
    // Pods are scraped at every look.
    if matches!(plan.metrics, Some(MetricsPlan::Scrape { .. })) {
        return None;
    }
    let given =
        if spec.interval.is_some() { "spec.interval or the check's window" } else { "the check's window" };
    match &check.rule {
        // A comparison adds up what all looks saw, and has no window.
        Rule::Errors { max: None } | Rule::Latency { max: None, .. } => None,
        Rule::Errors { .. } | Rule::Latency { .. } => (check.window < TWO_SCRAPES).then(|| {
            let problem = format!("a look reaches back {}, and {SCRAPES}", GoDuration(check.window));
            let advice = format!("make {given} longer, or scrape the predictors (metrics: {{scrape: ...}})");
            Finding::new(Code::ShortWindow, path, problem, advice)
        }),
        Rule::Query { promql, .. } => {
            let query = Query::new(promql);
            let mut looks_back = query.needs_two_samples().map(|(function, range)| match range {
                Range::Window => (function, "{{window}}", check.window),
                Range::Fixed(written, range) => (function, written, range),
            });
            let (function, written, range) = looks_back.find(|(.., range)| *range < TWO_SCRAPES)?;
            let given = if written == "{{window}}" { given } else { "the range" };
            Some(Finding::new(
                Code::ShortWindow,
                format!("{path}.query.promql"),
                format!(
                    "{function}(...[{written}]) reaches back {} and needs two samples, and {SCRAPES}",
                    GoDuration(range)
                ),
                format!(
                    "make {given} longer: with less than two samples there is no answer, and no evidence"
                ),
            ))
        }
    }
}

/// Shares of rare events that are compared as if they were scores.
fn share_as_number(check: &PlannedCheck, path: &str) -> Option<Finding> {
    let (_, Indicator::Scores(..)) = check.comparison()? else { return None };
    let Rule::Query { promql, min, max, .. } = &check.rule else { return None };
    Query::new(promql).is_a_share_of_counts().then(|| {
        let limits = if min.is_some() || max.is_some() {
            "; the limit goes into a check of its own"
        } else {
            ""
        };
        Finding::new(
            Code::ShareAsNumber,
            format!("{path}.query.total"),
            "a rate divided by a rate is compared as a number, by its median: of what is rare the canary's few requests have none in \
             most windows, and stable's many have some, so that a canary that is as good looks worse or better",
            format!("give total: then both are counted, and compared as shares{limits}"),
        )
    })
}

/// A limit between two bounds says little: what lies between them is not known.
fn between_buckets(plan: &Plan, check: &PlannedCheck, path: &str) -> Option<Finding> {
    let Rule::Latency { max: Some(max), .. } = check.rule else { return None };
    let (MetricsPlan::Source { profile, .. } | MetricsPlan::Scrape { profile, .. }) =
        plan.metrics.as_ref()?;
    let (whose, seconds): (&str, Vec<f64>) = match profile {
        Profile::Istio => ("Istio", ISTIO_BOUNDS.iter().map(|millis| millis / 1e3).collect()),
        Profile::Envoy => ("Envoy", ISTIO_BOUNDS.iter().map(|millis| millis / 1e3).collect()),
        Profile::Mlserver => ("MLServer", SECONDS_BOUNDS.to_vec()),
        Profile::Seldon => ("Seldon", SECONDS_BOUNDS.to_vec()),
        // Knative changed them from version to version.
        Profile::Kserve => return None,
    };
    let bounds: Vec<Bound> = seconds.into_iter().filter_map(Bound::from_seconds).collect();
    if bounds.contains(&max) {
        return None;
    }
    let shown = |bound: &Bound| GoDuration(Duration::from_micros(bound.0)).to_string();
    let lower = bounds.iter().rev().find(|bound| **bound < max).map(shown);
    let higher = bounds.iter().find(|bound| **bound > max).map(shown);
    let neighbours: Vec<String> = lower.into_iter().chain(higher).collect();
    Some(Finding::new(
        Code::LimitBetweenBuckets,
        format!("{path}.latency.max"),
        format!(
            "{} lies between two buckets of {whose}'s histogram: the check may stay Inconclusive for ever",
            shown(&max)
        ),
        format!("choose a bound that it has: {}", neighbours.join(" or ")),
    ))
}
