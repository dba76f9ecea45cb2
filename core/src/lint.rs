//! What is risky about a Rollout that is valid.

use std::time::Duration;

use serde::Serialize;

use crate::{
    api::{Finish, GoDuration, Profile, RolloutSpec},
    judge::{Bound, Indicator},
    plan::{MetricsPlan, Plan, PlannedCheck, PlannedSticky, Rule},
};

/// A first step above this share in percent puts more users at risk than a first look needs.
const LARGE_FIRST_STEP: u8 = 20;
/// A difference that no two copies of one model need to keep within.
const SMALLEST_DIFFERENCE: f64 = 1.005;
/// Two scrapes, where Prometheus scrapes as often as people have it: every 15 seconds.
const TWO_SCRAPES: Duration = Duration::from_secs(30);
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

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// It works, and may do what nobody wants.
    Risk,
    /// It does not work.
    Mistake,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The field, like `spec.checks[1].latency.max`.
    pub path: String,
    /// What is wrong or risky.
    pub problem: String,
    /// What to do about it.
    pub advice: String,
}

/// The risks of a plan, and of the spec that it was made from.
pub fn lint(plan: &Plan, spec: &RolloutSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    steps(plan, &mut findings);
    hashes(plan, &mut findings);
    checks(plan, spec, &mut findings);
    let without_meaning =
        plan.warnings.iter().map(|warning| risk(&warning.path, &warning.problem, "take it away, or mend it"));
    findings.extend(without_meaning);
    findings
}

fn risk(path: impl Into<String>, problem: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { severity: Severity::Risk, path: path.into(), problem: problem.into(), advice: advice.into() }
}

/// Steps that bind users by a hash, after which others draw anew.
fn hashes(plan: &Plan, findings: &mut Vec<Finding>) {
    for pair in plan.steps.windows(2) {
        let [before, step] = pair else { continue };
        let Some(by @ PlannedSticky::Header(header)) = &before.sticky else { continue };
        if (1..100).contains(&step.weight) && step.sticky.as_ref() != Some(by) {
            findings.push(risk(
                format!("{}.sticky", step.path),
                format!(
                    "step {} bound users by the hash in {header}, and here they are drawn anew: who met the canary may meet \
                     stable",
                    before.name
                ),
                format!("say sticky: {{header: {header}}} here too"),
            ));
        }
    }
}

fn steps(plan: &Plan, findings: &mut Vec<Finding>) {
    let Some(first) = plan.steps.iter().find(|step| step.weight > 0) else {
        if plan.steps.is_empty() {
            findings.push(risk(
                "spec.steps",
                "there are no steps: a ready canary gets all requests at once",
                "begin with a small weight, like {weight: 5, for: 5m}",
            ));
        }
        return;
    };
    let previewed = plan.steps.iter().take_while(|step| step.path != first.path).count() > 0;
    if first.weight > LARGE_FIRST_STEP && !previewed {
        findings.push(risk(
            format!("{}.weight", first.path),
            format!("the first users of the canary are {}% of all", first.weight),
            format!("begin with {LARGE_FIRST_STEP}% or less, with a match, or with a mirror"),
        ));
    }
    for step in
        plan.steps.iter().filter(|step| step.lasts.is_zero() && step.min_requests == 0 && !step.approve)
    {
        if plan.checks.is_empty() {
            findings.push(risk(
                format!("{}.for", step.path),
                "the step ends as soon as its traffic is in place",
                "say how long it lasts (for), how many requests it needs (minRequests), or who ends it (approve)",
            ));
        }
    }
    for (step, next) in plan.steps.iter().zip(plan.steps.iter().skip(1)) {
        if next.weight > 0 && next.weight < step.weight {
            findings.push(risk(
                format!("{}.weight", next.path),
                format!(
                    "the canary gets less than in the step before: {}% after {}%",
                    next.weight, step.weight
                ),
                "let weights grow, unless that is what you want",
            ));
        }
    }
}

fn checks(plan: &Plan, spec: &RolloutSpec, findings: &mut Vec<Finding>) {
    let acting: Vec<&PlannedCheck> = plan.checks.iter().filter(|check| !check.advisory).collect();
    if acting.is_empty() && plan.finish != Finish::KeepStable {
        findings.push(risk(
            "spec.checks",
            "no check acts: only lost endpoints or a person take a bad canary out of traffic",
            "add a check, like {name: errors, errors: {max: 1%}}",
        ));
    }
    if !acting.is_empty() && !acting.iter().any(|check| check.has_limit()) {
        findings.push(risk(
            "spec.checks",
            "all checks compare with stable: on little traffic that takes long, and stable may be bad too",
            "put a limit (max) beside a comparison",
        ));
    }
    for (index, check) in plan.checks.iter().enumerate() {
        let path = format!("spec.checks[{index}]");
        check_of(plan, spec, check, &path, findings);
    }
}

fn check_of(plan: &Plan, spec: &RolloutSpec, check: &PlannedCheck, path: &str, findings: &mut Vec<Finding>) {
    match &check.rule {
        Rule::Errors { max: Some(max) } => {
            if max.fraction() <= 0.0 && check.consecutive_failures == 1 {
                findings.push(risk(
                    format!("{path}.errors.max"),
                    "a single failed request rolls the canary back",
                    "allow a share above 0%, or ask for several looks in a row (consecutiveFailures)",
                ));
            }
        }
        Rule::Latency { max: Some(max), .. } => between_buckets(plan, *max, path, findings),
        Rule::Errors { max: None } | Rule::Latency { max: None, .. } | Rule::Query { .. } => {}
    }
    if let Some((versus, Indicator::Scores(..))) = check.comparison()
        && versus.max_ratio < SMALLEST_DIFFERENCE
    {
        findings.push(risk(
            format!("{path}.query.versusStable.maxRatio"),
            format!(
                "numbers may differ by {} times: of numbers that hardly vary, a difference that nobody minds is found",
                versus.max_ratio
            ),
            "say which difference you would mind, like maxRatio: 1.05",
        ));
    }
    let scrapes_itself = matches!(plan.metrics, Some(MetricsPlan::Scrape { .. }));
    let counted = !matches!(check.rule, Rule::Query { .. });
    if counted && !scrapes_itself && check.window < TWO_SCRAPES {
        let given = if spec.interval.is_some() {
            "spec.interval or the check's window"
        } else {
            "the check's window"
        };
        findings.push(risk(
            path,
            format!(
                "a look reaches back {}, and Prometheus scrapes every 15s where nobody says otherwise: two scrapes are {}",
                GoDuration(check.window),
                GoDuration(TWO_SCRAPES)
            ),
            format!("make {given} longer, or scrape the predictors (metrics: {{scrape: ...}})"),
        ));
    }
}

/// A limit between two bounds says little: what lies between them is not known.
fn between_buckets(plan: &Plan, max: Bound, path: &str, findings: &mut Vec<Finding>) {
    let profile = match &plan.metrics {
        Some(MetricsPlan::Source { profile, .. } | MetricsPlan::Scrape { profile, .. }) => *profile,
        None => return,
    };
    let (whose, seconds): (&str, Vec<f64>) = match profile {
        Profile::Istio => ("Istio", ISTIO_BOUNDS.iter().map(|millis| millis / 1e3).collect()),
        Profile::Envoy => ("Envoy", ISTIO_BOUNDS.iter().map(|millis| millis / 1e3).collect()),
        Profile::Mlserver => ("MLServer", SECONDS_BOUNDS.to_vec()),
        Profile::Seldon => ("Seldon", SECONDS_BOUNDS.to_vec()),
        // Knative changed them from version to version.
        Profile::Kserve => return,
    };
    let bounds: Vec<Bound> = seconds.into_iter().filter_map(Bound::from_seconds).collect();
    if bounds.contains(&max) {
        return;
    }
    let shown = |bound: &Bound| GoDuration(Duration::from_micros(bound.0)).to_string();
    let lower = bounds.iter().rev().find(|bound| **bound < max).map(shown);
    let higher = bounds.iter().find(|bound| **bound > max).map(shown);
    let neighbours: Vec<String> = lower.into_iter().chain(higher).collect();
    findings.push(risk(
        format!("{path}.latency.max"),
        format!(
            "{} lies between two buckets of {whose}'s histogram: the check may stay Inconclusive for ever",
            shown(&max)
        ),
        format!("choose a bound that it has: {}", neighbours.join(" or ")),
    ));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut spec = json!({
            "target": {"service": {"name": "v2"}},
            "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 5, "for": "5m"}, {"weight": 50, "for": "5m"}],
            "checks": [{"name": "errors", "errors": {"max": "1%"}}, {"name": "p99", "latency": {"max": "250ms"}}],
        });
        change(&mut spec);
        let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
        let plan = Plan::new(&spec, "models").unwrap();
        lint(&plan, &spec)
            .into_iter()
            .map(|finding| format!("{}: {}", finding.path, finding.problem))
            .collect()
    }

    #[test]
    fn a_careful_rollout_has_no_risk() {
        assert_eq!(found(|_| ()), [""; 0]);
    }

    #[test]
    fn every_risk_is_named_with_its_field() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 11] = [
            (|s| s["steps"] = json!([]), "spec.steps: there are no steps"),
            (|s| s["steps"][0]["weight"] = json!(25), "spec.steps[0].weight: the first users"),
            (|s| s["steps"][1]["weight"] = json!(3), "spec.steps[1].weight: the canary gets less"),
            (
                |s| {
                    s["checks"] = json!([]);
                    s["steps"][1] = json!({"weight": 50});
                },
                "spec.steps[1].for: the step ends",
            ),
            (|s| s["checks"] = json!([]), "spec.checks: no check acts"),
            (
                |s| s["checks"] = json!([{"name": "e", "errors": {"versusStable": {}}}]),
                "spec.checks: all checks compare",
            ),
            (|s| s["checks"][0]["errors"]["max"] = json!("0%"), "spec.checks[0].errors.max: a single failed"),
            (|s| s["checks"][1]["latency"]["max"] = json!("300ms"), "spec.checks[1].latency.max: 300ms lies"),
            (|s| s["interval"] = json!("2s"), "spec.checks[0]: a look reaches back 10s"),
            (
                |s| s["steps"][0]["sticky"] = json!({"header": "x-user"}),
                "spec.steps[1].sticky: step 1 bound users by the hash in x-user",
            ),
            (
                |s| {
                    let spec = s.as_object_mut().unwrap();
                    spec.remove("routes");
                    spec.insert("expose".into(), json!({}));
                    s["annotations"] = json!({"seldon.io/istio-retries-timeout": "2"});
                },
                "spec.annotations[seldon.io/istio-retries-timeout]: means nothing without",
            ),
        ];
        for (change, expected) in cases {
            let found = found(change);
            assert!(found.iter().any(|one| one.starts_with(expected)), "{expected}: {found:?}");
        }
    }

    #[test]
    fn a_preview_makes_a_large_first_step_no_risk() {
        let previewed = found(|s| {
            s["steps"] = json!([
                {"match": [{"headers": {"x": {"exact": "beta"}}}], "for": "5m"},
                {"weight": 100, "for": "5m"},
            ]);
        });
        assert_eq!(previewed, [""; 0]);
    }
}
