//! Whether the requests that are needed come in time.

use std::{collections::BTreeMap, time::Duration};

use super::{Code, Finding, rehearsed};
use crate::{
    api::{GoDuration, RolloutSpec, Share, Then},
    plan::{Load, Plan, PlannedCheck, PlannedStep, Rule},
};

/// What is taken to meet a match where nobody says.
const MATCHING: f64 = 0.1;

pub(super) fn lint(plan: &Plan, spec: &RolloutSpec, load: Option<Load>, findings: &mut Vec<Finding>) {
    let Some(load) = load else {
        findings.extend(rate_needed(plan, spec));
        findings.extend(proofs(plan).map(|(path, _)| {
            Finding::note(
                Code::ProofOutOfReach,
                path,
                "how long the proof takes depends on how many requests there are, and fail: without any errors it never comes",
            )
        }));
        return;
    };
    findings.extend(plan.steps.iter().filter_map(|step| step_out_of_reach(plan, step, load)));
    let mut out_of_reach: BTreeMap<usize, Finding> = BTreeMap::new();
    let mut too_short: Vec<(Duration, Need<'_>)> = Vec::new();
    for need in needs(plan) {
        let takes = need.takes(plan, load);
        let limit = need.lasts(plan).saturating_add(plan.evidence_limit);
        if takes > limit {
            out_of_reach.entry(need.index).or_insert_with(|| check_out_of_reach(plan, &need, load));
        } else if takes > need.lasts(plan) {
            // Of several checks the one that takes longest says how long the step has to be.
            match too_short.iter_mut().find(|(_, other)| other.step.path == need.step.path) {
                Some(longest) if longest.0 < takes => *longest = (takes, need),
                Some(_) => {}
                None => too_short.push((takes, need)),
            }
        }
    }
    findings.extend(out_of_reach.into_values());
    findings
        .extend(too_short.into_iter().map(|(takes, need)| step_too_short(plan, spec, &need, takes, load)));
    findings.extend(proofs(plan).filter_map(|(path, check)| {
        proof_out_of_reach(plan, &path, check, load)
            .or_else(|| proof_without_errors(plan, &path, check, load))
    }));
}

/// Requests of the canary that a check needs in a step.
struct Need<'a> {
    check: &'a PlannedCheck,
    index: usize,
    step: &'a PlannedStep,
}

/// What the checks need. Steps that wait for as many requests themselves say so, and are none.
fn needs(plan: &Plan) -> impl Iterator<Item = Need<'_>> {
    let checks =
        plan.checks.iter().enumerate().filter(|(_, check)| !check.advisory && check.min_requests > 0);
    checks.flat_map(move |(index, check)| {
        let steps = plan.steps.iter().filter(move |step| {
            check.is_for(&step.name, step.weight) && step.min_requests < check.min_requests
        });
        steps.map(move |step| Need { check, index, step })
    })
}

impl Need<'_> {
    /// How long the step lasts if nothing keeps it.
    fn lasts(&self, plan: &Plan) -> Duration {
        lasts(plan, self.step)
    }

    /// Until requests count.
    fn delay(&self, plan: &Plan) -> Duration {
        plan.settle.saturating_add(self.check.lag)
    }

    /// How long the step lasts until the requests are there.
    fn takes(&self, plan: &Plan, load: Load) -> Duration {
        self.delay(plan).saturating_add(time_for(self.check.min_requests, a_second(load, self.step)))
    }

    /// How many of the requests count in so long a step.
    fn counted(&self, plan: &Plan, time: Duration, load: Load) -> u64 {
        requests_in(time.saturating_sub(self.delay(plan)), a_second(load, self.step))
    }

    fn field(&self) -> String {
        let kind = match self.check.rule {
            Rule::Errors { .. } => "errors",
            Rule::Latency { .. } => "latency",
            Rule::Query { .. } => "query",
        };
        format!("spec.checks[{}].{kind}.minRequests", self.index)
    }
}

/// How long a step lasts if nothing keeps it: its `for`, and until a look counts.
fn lasts(plan: &Plan, step: &PlannedStep) -> Duration {
    step.lasts.max(plan.settle.saturating_add(plan.interval))
}

fn a_second(load: Load, step: &PlannedStep) -> f64 {
    load.divided(&step.given()).seen_of_canary()
}

#[allow(clippy::cast_precision_loss)] // a number of requests that somebody wrote down
fn time_for(requests: u64, a_second: f64) -> Duration {
    // Of nothing it takes for ever: as long as nobody waits.
    Duration::try_from_secs_f64(requests as f64 / a_second).unwrap_or(Duration::MAX)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of a float saturates
fn requests_in(time: Duration, a_second: f64) -> u64 {
    (time.as_secs_f64() * a_second + 1e-9) as u64
}

fn step_too_short(plan: &Plan, spec: &RolloutSpec, need: &Need<'_>, takes: Duration, load: Load) -> Finding {
    let (check, needed) = (&need.check.name, need.check.min_requests);
    let counted = need.counted(plan, need.lasts(plan), load);
    Finding::new(
        Code::StepTooShort,
        lasting(spec, need.step),
        format!(
            "at {} requests/s {counted} of the canary's count in it, and {check} needs {needed}: step {} takes {} in place of {}",
            load.rate,
            need.step.name,
            rounded_up(takes),
            GoDuration(need.lasts(plan))
        ),
        format!(
            "let it last {}, or give it a larger weight; a smaller minRequests of {check} is more often wrong",
            rounded_up(takes)
        ),
    )
}

fn check_out_of_reach(plan: &Plan, need: &Need<'_>, load: Load) -> Finding {
    let (check, needed) = (need.check, need.check.min_requests);
    let limit = need.lasts(plan).saturating_add(plan.evidence_limit);
    let then = then(check.without_evidence.unwrap_or(plan.without_evidence));
    Finding::new(
        Code::RequestsOutOfReach,
        need.field(),
        format!(
            "at {} requests/s {} of the canary's count in {} of step {}, and {} needs {needed}: then {then}",
            load.rate,
            need.counted(plan, limit, load),
            GoDuration(limit),
            need.step.name,
            check.name
        ),
        instead(need.takes(plan, load)),
    )
}

fn step_out_of_reach(plan: &Plan, step: &PlannedStep, load: Load) -> Option<Finding> {
    let limit = lasts(plan, step).saturating_add(plan.evidence_limit);
    let takes = plan.settle.saturating_add(time_for(step.min_requests, a_second(load, step)));
    (step.min_requests > 0 && takes > limit).then(|| {
        let counted = requests_in(limit.saturating_sub(plan.settle), a_second(load, step));
        Finding::new(
            Code::RequestsOutOfReach,
            format!("{}.minRequests", step.path),
            format!(
                "at {} requests/s {counted} of the canary's count in {}, and step {} needs {}: then {}",
                load.rate,
                GoDuration(limit),
                step.name,
                step.min_requests,
                then(plan.without_evidence)
            ),
            instead(takes),
        )
    })
}

/// What to do where requests take so long.
fn instead(takes: Duration) -> String {
    if takes == Duration::MAX {
        return "give the canary requests in this step".to_owned();
    }
    format!(
        "let the step last {}, give it a larger weight, or ask for fewer requests (minRequests)",
        rounded_up(takes)
    )
}

fn then(then: Then) -> &'static str {
    match then {
        Then::Pause => "the rollout pauses",
        Then::Rollback => "the canary is rolled back",
    }
}

/// Comparisons of errors that a step waits to be proven by, with the field.
fn proofs(plan: &Plan) -> impl Iterator<Item = (String, &PlannedCheck)> {
    let acting = plan.checks.iter().enumerate().filter(|(_, check)| !check.advisory);
    let proven = acting.filter(|(_, check)| {
        matches!(check.rule, Rule::Errors { .. }) && check.versus.is_some_and(|versus| versus.prove)
    });
    proven.map(|(index, check)| (format!("spec.checks[{index}].errors.versusStable.prove"), check))
}

fn proof_out_of_reach(plan: &Plan, path: &str, check: &PlannedCheck, load: Load) -> Option<Finding> {
    let unproven = rehearsed::unproven(plan, check, load)?;
    let step = plan.steps.get(unproven.step)?;
    let advice = match unproven.takes {
        Some(takes) => format!(
            "let the step last {}, give it a larger weight, raise clearRatio, or leave prove out",
            rounded_up(takes)
        ),
        None => "leave prove out, or raise clearRatio".to_owned(),
    };
    Some(Finding::new(
        Code::ProofOutOfReach,
        path,
        format!(
            "at {} requests/s and 1% errors of both, step {} has no proof after {} that the canary is no worse: then {}",
            load.rate,
            step.name,
            GoDuration(lasts(plan, step).saturating_add(plan.evidence_limit)),
            then(check.without_evidence.unwrap_or(plan.without_evidence))
        ),
        advice,
    ))
}

/// Where nobody fails there is nothing to compare. Whether that is so only people know.
fn proof_without_errors(plan: &Plan, path: &str, check: &PlannedCheck, load: Load) -> Option<Finding> {
    let instead = if check.has_limit() {
        "leave prove out: there is a limit"
    } else {
        "put a limit in place of prove, like max: 1%"
    };
    let problem = format!(
        "if neither predictor ever fails there is nothing to compare, and the proof never comes: then {}",
        then(check.without_evidence.unwrap_or(plan.without_evidence))
    );
    let advice =
        format!("if your service may have no errors {instead}, or say what is to follow: inconclusive.then");
    (!rehearsed::is_proven_without_errors(plan, check, load))
        .then(|| Finding::new(Code::ProofOutOfReach, path, problem, advice).noted())
}

/// How many requests there must be, where nobody says how many there are: of the step that needs the most.
#[allow(clippy::cast_precision_loss)] // a number of requests that somebody wrote down
fn rate_needed(plan: &Plan, spec: &RolloutSpec) -> Option<Finding> {
    let one = Load { rate: 1.0, matching: Share::new(MATCHING)? };
    let rate = |need: &Need<'_>| {
        let counted = need.lasts(plan).saturating_sub(need.delay(plan)).as_secs_f64();
        need.check.min_requests as f64 / (counted * a_second(one, need.step))
    };
    let needed = needs(plan).map(|need| (rate(&need), need)).filter(|(rate, _)| rate.is_finite());
    // The first of those that need the most.
    let (rate, need) = needed.min_by(|(one, _), (other, _)| other.total_cmp(one))?;
    let matched = if need.step.matches.is_empty() { "" } else { ", of which 10% meet the match," };
    Some(Finding::note(
        Code::StepTooShort,
        lasting(spec, need.step),
        format!(
            "below {} requests/s of all users{matched} step {} takes longer: {} needs {} of the canary's",
            digits(rate),
            need.step.name,
            need.check.name,
            need.check.min_requests
        ),
    ))
}

/// The field that says how long a step lasts.
fn lasting(spec: &RolloutSpec, step: &PlannedStep) -> String {
    let ramp = spec
        .steps
        .iter()
        .enumerate()
        .any(|(index, given)| given.ramp.is_some() && step.path == format!("spec.steps[{index}]"));
    format!("{}.{}", step.path, if ramp { "ramp.every" } else { "for" })
}

/// A time that people write: up to whole tens of seconds, minutes or hours.
fn rounded_up(time: Duration) -> GoDuration {
    let unit = match time.as_secs() {
        0..120 => 10,
        120..7200 => 60,
        _ => 3600,
    };
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    GoDuration::seconds(seconds.div_ceil(unit).saturating_mul(unit))
}

/// A number of requests with two digits, rounded up: fewer would not be enough.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of a number of digits
fn digits(rate: f64) -> String {
    let behind = (1.0 - rate.log10().floor()).clamp(0.0, 9.0);
    let scale = 10_f64.powf(behind);
    let up = (rate * scale - 1e-9).ceil() / scale;
    format!("{up:.*}", behind as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_rounded_up_to_what_people_write() {
        for (seconds, written) in [(0, "0s"), (1, "10s"), (110, "1m50s"), (121, "3m"), (7201, "3h")] {
            assert_eq!(rounded_up(Duration::from_secs(seconds)).to_string(), written, "{seconds}");
        }
        assert_eq!(rounded_up(Duration::from_millis(10_001)).to_string(), "20s");
        for (rate, written) in
            [(3.508_771, "3.6"), (0.035, "0.035"), (0.0351, "0.036"), (123.4, "124"), (2.0, "2.0")]
        {
            assert_eq!(digits(rate), written, "{rate}");
        }
    }

    #[test]
    fn requests_that_never_come_take_for_ever() {
        assert_eq!(time_for(50, 0.0), Duration::MAX);
        assert_eq!(time_for(50, 0.5), Duration::from_secs(100));
        assert_eq!(requests_in(Duration::from_secs(100), 0.5), 50);
    }
}
