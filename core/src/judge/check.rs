//! What each check says after a look: its limit, its comparison with stable, or both.

use std::time::Duration;

use super::{
    Evidence, Look, Verdict, compare,
    limits::{self, Bad},
    opinion::Opinion,
};
use crate::{
    api::{ArmRecord, CheckRecord, GoDuration},
    plan::{PlannedCheck, Rule},
    text::fit,
};

/// What the API lets a check say, in characters.
const LONGEST_MESSAGE: usize = 1024;

/// When a look was, in the life of a step.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Age of the step.
    pub age: Duration,
    /// Age of the step since which its traffic was settled without interruption.
    pub settled_since: Duration,
}

impl Moment {
    /// Whether numbers that describe the traffic of `lag` ago are about this step.
    pub fn is_past(self, lag: Duration) -> bool {
        lag.is_zero() || self.age >= self.settled_since + lag
    }
}

/// What each check says after `look`, taken at `moment`. `evidence` has the look's counts already, `before` is what the
/// checks said at the look before.
pub fn judge<'a>(
    checks: impl Iterator<Item = &'a PlannedCheck> + Clone,
    evidence: &Evidence,
    moment: Moment,
    look: &Look,
    before: &[CheckRecord],
) -> Vec<CheckRecord> {
    let compared = compare::all(checks.clone(), evidence);
    let judged = checks.zip(compared).map(|(check, compared)| {
        let failures =
            before.iter().find(|record| record.name == check.name).map_or(0, |record| record.failures);
        if !moment.is_past(check.lag) {
            return record(check, too_early(check), None, failures);
        }
        let limit = match &check.rule {
            _ if !check.has_limit() => None,
            Rule::Errors { .. } | Rule::Latency { .. } => counted(check, evidence, moment, look),
            Rule::Query { min, max, .. } => Some(limits::queried(&check.name, *min, *max, look)),
        };
        let compared = compared.map(|compared| compared.opinion(check, look));
        match limit {
            Some(limit) => record(check, limit, compared, failures),
            None => match compared {
                Some(compared) => record(check, compared, None, failures),
                None => record(check, Opinion::unknown("there is no rule"), None, failures),
            },
        }
    });
    judged.collect()
}

/// What all checks together say: Fail if any does, Pass if all do. No checks: Pass. Advisory ones are not asked.
pub fn overall(records: &[CheckRecord]) -> Verdict {
    let asked = records.iter().filter(|record| !record.advisory);
    asked.map(|record| record.verdict).max().unwrap_or(Verdict::Pass)
}

/// Whether a check that is asked lacks evidence that a step needs in order to end.
pub fn lacks_evidence(record: &CheckRecord) -> bool {
    !record.advisory && record.verdict == Verdict::Inconclusive && !record.suffices
}

fn too_early(check: &PlannedCheck) -> Opinion {
    Opinion::unknown(format!(
        "its numbers describe the traffic of {} ago, which is not yet that of this step",
        GoDuration(check.lag)
    ))
}

/// The limit counts looks in a row; the comparison needs none, it is sure of what it says.
fn record(check: &PlannedCheck, limit: Opinion, compared: Option<Opinion>, failures: u32) -> CheckRecord {
    let failures = match (limit.counts, limit.verdict) {
        (true, Verdict::Fail) => failures.saturating_add(1),
        (true, Verdict::Pass) => 0,
        (true, Verdict::Inconclusive) | (false, _) => failures,
    };
    let has_limit = check.has_limit();
    let (mut verdict, mut message) = (limit.verdict, limit.message);
    if has_limit && verdict == Verdict::Fail && failures < check.consecutive_failures {
        verdict = Verdict::Inconclusive;
        message =
            format!("{message}; look {failures} of {} in a row that must say so", check.consecutive_failures);
    }
    let (mut suffices, mut effect) = (limit.suffices, limit.effect);
    if let Some(compared) = compared {
        // Whatever the one lacks the other does not make up for.
        suffices = match (verdict, compared.verdict) {
            (Verdict::Pass, Verdict::Inconclusive) => compared.suffices,
            _ => false,
        };
        verdict = verdict.max(compared.verdict);
        effect = compared.effect;
        // The same trouble is told once.
        if message != compared.message {
            message.push_str("; ");
            message.push_str(&compared.message);
        }
    }
    let (canary, stable) = limit.arms.unzip();
    let message = fit(message, LONGEST_MESSAGE);
    CheckRecord {
        name: check.name.clone(),
        rule: String::new(),
        verdict,
        message,
        canary,
        stable,
        value: limit.value,
        failures: if has_limit { failures } else { 0 },
        effect,
        suffices,
        advisory: check.advisory,
    }
}

fn counted(check: &PlannedCheck, evidence: &Evidence, moment: Moment, look: &Look) -> Option<Opinion> {
    let new_requests = match &look.counts {
        Err(trouble) => return Some(Opinion::trouble(trouble)),
        Ok(measurement) => measurement.canary.requests,
    };
    let not_before = if check.lag.is_zero() { Duration::ZERO } else { moment.settled_since + check.lag };
    let window = evidence.looks().window(moment.age, check.window, check.min_requests, not_before);
    let (bad, mut opinion): (Bad, Opinion) = match &check.rule {
        Rule::Errors { max: Some(max) } => limits::errors(*max, &window),
        Rule::Latency { quantile, max: Some(max) } => limits::latency(*quantile, *max, &window),
        Rule::Errors { max: None } | Rule::Latency { max: None, .. } | Rule::Query { .. } => return None,
    };
    let canary = ArmRecord { requests: window.canary.requests, bad: bad.0 };
    let stable = ArmRecord { requests: window.stable.requests, bad: bad.1 };
    opinion.arms = Some((canary, stable));
    opinion.counts = new_requests > 0;
    if canary.requests < check.min_requests {
        opinion.verdict = Verdict::Inconclusive;
        opinion.counts = false;
        opinion.message = format!(
            "the canary answered {} of the {} requests that a verdict needs",
            canary.requests, check.min_requests
        );
    }
    Some(opinion)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
