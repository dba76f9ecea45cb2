//! Absolute rules: the canary against a limit, over a window of time.

use std::time::Duration;

use super::{Bound, Evidence, Look, Trouble, TroubleKind, Verdict, Window};
use crate::{
    api::{ArmRecord, CheckRecord, GoDuration, Share},
    plan::{PlannedCheck, Rule},
    text::fit,
};

/// What the API lets a check say, in characters.
const LONGEST_MESSAGE: usize = 1024;

/// What each check says after `look`, when the step was `age` old. `evidence` has the look's counts already,
/// `before` is what the checks said at the look before.
pub fn judge(
    checks: &[PlannedCheck],
    evidence: &Evidence,
    age: Duration,
    look: &Look,
    before: &[CheckRecord],
) -> Vec<CheckRecord> {
    let judged = checks.iter().map(|check| {
        let failures =
            before.iter().find(|record| record.name == check.name).map_or(0, |record| record.failures);
        let opinion = match &check.rule {
            Rule::Errors { .. } | Rule::Latency { .. } => counted(check, evidence, age, look),
            Rule::Query { min, max, .. } => queried(check, *min, *max, look),
        };
        record(check, opinion, failures)
    });
    judged.collect()
}

/// What all checks together say: Fail if any does, Pass if all do. No checks: Pass.
pub fn overall(records: &[CheckRecord]) -> Verdict {
    records.iter().map(|record| record.verdict).max().unwrap_or(Verdict::Pass)
}

/// What a check thinks of one look, before it is known whether the look before was as bad.
struct Opinion {
    verdict: Verdict,
    /// Whether this look is one that counts in a row of failures: it brought something new, and enough of it.
    counts: bool,
    message: String,
    arms: Option<(ArmRecord, ArmRecord)>,
    value: Option<f64>,
}

impl Opinion {
    fn unknown(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            counts: false,
            message: message.into(),
            arms: None,
            value: None,
        }
    }

    fn trouble(trouble: &Trouble) -> Self {
        match trouble.kind {
            TroubleKind::Baseline => Self::unknown("the first look only reads the counters"),
            TroubleKind::NoData
            | TroubleKind::Unavailable
            | TroubleKind::Refused
            | TroubleKind::Untrusted
            | TroubleKind::BadAnswer
            | TroubleKind::Partial
            | TroubleKind::BadQuery
            | TroubleKind::Misconfigured => Self::unknown(trouble.to_string()),
        }
    }
}

fn record(check: &PlannedCheck, opinion: Opinion, failures: u32) -> CheckRecord {
    let failures = match (opinion.counts, opinion.verdict) {
        (true, Verdict::Fail) => failures.saturating_add(1),
        (true, Verdict::Pass) => 0,
        (true, Verdict::Inconclusive) | (false, _) => failures,
    };
    let (mut verdict, mut message) = (opinion.verdict, opinion.message);
    if verdict == Verdict::Fail && failures < check.consecutive_failures {
        verdict = Verdict::Inconclusive;
        message =
            format!("{message}; look {failures} of {} in a row that must say so", check.consecutive_failures);
    }
    let (canary, stable) = opinion.arms.unzip();
    let message = fit(message, LONGEST_MESSAGE);
    CheckRecord { name: check.name.clone(), verdict, message, canary, stable, value: opinion.value, failures }
}

fn counted(check: &PlannedCheck, evidence: &Evidence, age: Duration, look: &Look) -> Opinion {
    let new_requests = match &look.counts {
        Err(trouble) => return Opinion::trouble(trouble),
        Ok(measurement) => measurement.canary.requests,
    };
    let window = evidence.window(age, check.window, check.min_requests);
    let (bad, mut opinion) = match &check.rule {
        Rule::Errors { max } => errors(*max, &window),
        Rule::Latency { quantile, max } => latency(*quantile, *max, &window),
        Rule::Query { .. } => return Opinion::unknown("a query has no counts"),
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
    opinion
}

type Bad = (u64, u64);

fn errors(max: Share, window: &Window) -> (Bad, Opinion) {
    let bad = (window.canary.errors, window.stable.errors);
    let breached = exceeds(bad.0, window.canary.requests, max.fraction());
    let message = format!(
        "{} of the canary's requests failed, at most {max} may; stable: {}",
        ratio(bad.0, window.canary.requests),
        ratio(bad.1, window.stable.requests)
    );
    (bad, Opinion { verdict: verdict(breached), counts: true, message, arms: None, value: None })
}

fn latency(quantile: f64, max: Bound, window: &Window) -> (Bad, Opinion) {
    let allowed = 1.0 - quantile;
    let slower = &window.canary.slower;
    let of_stable = |bound: Bound| window.stable.slower.get(&bound).copied().unwrap_or(0);
    let say = |bound: Bound, bad: u64| {
        let stable = of_stable(bound);
        let message = format!(
            "{} of the canary's requests took longer than {}, at most {} may take longer than {}; stable: {}",
            ratio(bad, window.canary.requests),
            duration(bound),
            percent(allowed),
            duration(max),
            ratio(stable, window.stable.requests)
        );
        ((bad, stable), message)
    };
    let opinion = |verdict, message| Opinion { verdict, counts: true, message, arms: None, value: None };
    let breached = |bad: u64| exceeds(bad, window.canary.requests, allowed);
    if let Some(bad) = slower.get(&max) {
        let (both, message) = say(max, *bad);
        return (both, opinion(verdict(breached(*bad)), message));
    }
    // The limit lies between two buckets: what is slower than the next higher bound is slower than the limit, and
    // what is not slower than the next lower one is not.
    let higher = slower.range(max..).next().filter(|(_, bad)| breached(**bad));
    if let Some((bound, bad)) = higher {
        let (both, message) = say(*bound, *bad);
        return (both, opinion(Verdict::Fail, message));
    }
    let lower = slower.range(..max).next_back();
    if let Some((bound, bad)) = lower.filter(|(_, bad)| !breached(**bad)) {
        let (both, message) = say(*bound, *bad);
        return (both, opinion(Verdict::Pass, message));
    }
    let known: Vec<String> = slower.keys().map(|bound| duration(*bound)).collect();
    let message = format!(
        "the histogram has no bucket at {}, and its neighbours ({}) do not tell",
        duration(max),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    );
    ((0, 0), opinion(Verdict::Inconclusive, message))
}

fn queried(check: &PlannedCheck, min: Option<f64>, max: Option<f64>, look: &Look) -> Opinion {
    let value = match look.queries.get(&check.name) {
        None => return Opinion::unknown("the query was not asked"),
        Some(Err(trouble)) => return Opinion::trouble(trouble),
        Some(Ok(value)) if !value.is_finite() => {
            return Opinion::unknown(format!("the query answered {value}, which is no number to judge"));
        }
        Some(Ok(value)) => *value,
    };
    let (breached, message) = match (min, max) {
        (Some(min), _) if value < min => {
            (true, format!("the query answered {value}, at least {min} is expected"))
        }
        (_, Some(max)) if value > max => {
            (true, format!("the query answered {value}, at most {max} is expected"))
        }
        _ => (false, format!("the query answered {value}, within its limits")),
    };
    Opinion { verdict: verdict(breached), counts: true, message, arms: None, value: Some(value) }
}

fn verdict(breached: bool) -> Verdict {
    if breached { Verdict::Fail } else { Verdict::Pass }
}

/// Whether `bad` of `all` is more than `share`. Exactly at the limit passes, also where the limit has no exact float.
#[allow(clippy::cast_precision_loss)]
fn exceeds(bad: u64, all: u64, share: f64) -> bool {
    bad as f64 > share * all as f64 * (1.0 + 1e-12)
}

#[allow(clippy::cast_precision_loss)]
fn ratio(bad: u64, all: u64) -> String {
    if all == 0 {
        "no requests".to_owned()
    } else {
        format!("{} ({bad} of {all})", percent(bad as f64 / all as f64))
    }
}

/// A share in percent with as many digits as tell something.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent >= 10.0 || percent == 0.0 {
        0
    } else if percent >= 1.0 {
        1
    } else {
        2
    };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

fn duration(bound: Bound) -> String {
    GoDuration(Duration::from_micros(bound.0)).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;

    use super::*;
    use crate::judge::{Counts, Measurement};

    const AGE: Duration = Duration::from_mins(1);

    fn check(rule: Rule, consecutive_failures: u32) -> PlannedCheck {
        PlannedCheck {
            name: "c".into(),
            rule,
            window: Duration::from_secs(50),
            min_requests: 50,
            consecutive_failures,
        }
    }

    fn look(canary: Counts) -> Look {
        Look {
            at: DateTime::UNIX_EPOCH,
            counts: Ok(Measurement { canary, ..Measurement::default() }),
            queries: BTreeMap::new(),
        }
    }

    fn once(check: &PlannedCheck, canary: Counts) -> CheckRecord {
        let look = look(canary);
        let mut evidence = Evidence::default();
        evidence.add(AGE, look.counts.as_ref().unwrap());
        judge(std::slice::from_ref(check), &evidence, AGE, &look, &[]).remove(0)
    }

    fn counts(requests: u64, errors: u64, slower: &[(u64, u64)]) -> Counts {
        let slower = slower.iter().map(|(millis, slower)| (Bound(millis * 1000), *slower)).collect();
        Counts { requests, errors, slower }
    }

    fn one_percent() -> Rule {
        Rule::Errors { max: "1%".parse().unwrap() }
    }

    #[test]
    fn errors_are_judged_by_their_share_of_enough_requests() {
        let check = check(one_percent(), 1);
        for (requests, errors, expected) in [
            (100, 1, Verdict::Pass),
            (100, 2, Verdict::Fail),
            (1000, 10, Verdict::Pass),
            (1000, 11, Verdict::Fail),
            (49, 49, Verdict::Inconclusive),
            (0, 0, Verdict::Inconclusive),
        ] {
            assert_eq!(
                once(&check, counts(requests, errors, &[])).verdict,
                expected,
                "{errors} of {requests}"
            );
        }
    }

    #[test]
    fn a_message_has_the_numbers_of_both_arms_and_the_rule() {
        let record = once(&check(one_percent(), 1), counts(250, 10, &[]));
        assert_eq!(
            record.message,
            "4% (10 of 250) of the canary's requests failed, at most 1% may; stable: no requests"
        );
        assert_eq!(record.canary, Some(ArmRecord { requests: 250, bad: 10 }));
    }

    #[test]
    fn latency_is_judged_at_the_bucket_of_the_limit_or_by_its_neighbours() {
        let rule = Rule::Latency { quantile: 0.99, max: Bound(250_000) };
        let check = check(rule, 1);
        for (slower, expected) in [
            (&[(250, 1)][..], Verdict::Pass),
            (&[(250, 2)], Verdict::Fail),
            (&[(100, 5), (500, 2)], Verdict::Fail),
            (&[(100, 1), (500, 0)], Verdict::Pass),
            (&[(100, 5), (500, 1)], Verdict::Inconclusive),
            (&[(100, 5)], Verdict::Inconclusive),
            (&[], Verdict::Inconclusive),
        ] {
            assert_eq!(once(&check, counts(100, 0, slower)).verdict, expected, "{slower:?}");
        }
    }

    #[test]
    fn failures_must_be_in_a_row_and_looks_without_news_neither_count_nor_interrupt() {
        let checks = [check(one_percent(), 2)];
        let mut evidence = Evidence::default();
        let mut records = Vec::new();
        let mut say = |age: u64, canary: Counts| {
            let age = Duration::from_secs(age);
            let look = look(canary);
            evidence.add(age, look.counts.as_ref().unwrap());
            records = judge(&checks, &evidence, age, &look, &records);
            (records[0].verdict, records[0].failures)
        };
        assert_eq!(say(60, counts(100, 50, &[])), (Verdict::Inconclusive, 1));
        assert_eq!(say(61, counts(0, 0, &[])), (Verdict::Inconclusive, 1));
        assert_eq!(say(70, counts(100, 50, &[])), (Verdict::Fail, 2));
        assert_eq!(say(200, counts(100, 0, &[])), (Verdict::Pass, 0));
        assert_eq!(say(300, counts(100, 50, &[])), (Verdict::Inconclusive, 1));
    }

    #[test]
    fn trouble_is_neither_pass_nor_fail_and_leaves_the_row_as_it_was() {
        let check = check(one_percent(), 2);
        let before = once(&check, counts(100, 50, &[]));
        for kind in [
            TroubleKind::Baseline,
            TroubleKind::NoData,
            TroubleKind::Unavailable,
            TroubleKind::Refused,
            TroubleKind::Untrusted,
            TroubleKind::BadAnswer,
            TroubleKind::Partial,
            TroubleKind::BadQuery,
            TroubleKind::Misconfigured,
        ] {
            let look =
                Look { counts: Err(Trouble { kind, message: "gone".into() }), ..look(Counts::default()) };
            let record = judge(
                std::slice::from_ref(&check),
                &Evidence::default(),
                AGE,
                &look,
                std::slice::from_ref(&before),
            )
            .remove(0);
            assert_eq!((record.verdict, record.failures), (Verdict::Inconclusive, 1));
        }
    }

    #[test]
    fn a_query_is_judged_by_its_limits() {
        let check = check(Rule::Query { promql: "q".into(), min: Some(0.9), max: Some(2.0) }, 1);
        for (answer, expected) in [
            (0.9, Verdict::Pass),
            (2.0, Verdict::Pass),
            (0.89, Verdict::Fail),
            (2.1, Verdict::Fail),
            (f64::NAN, Verdict::Inconclusive),
        ] {
            let mut look = look(Counts::default());
            look.queries.insert("c".into(), Ok(answer));
            let record = judge(std::slice::from_ref(&check), &Evidence::default(), AGE, &look, &[]).remove(0);
            assert_eq!(record.verdict, expected, "{answer}");
        }
    }

    #[test]
    fn the_worst_verdict_counts_and_no_checks_pass() {
        let records: Vec<CheckRecord> = [Verdict::Pass, Verdict::Inconclusive, Verdict::Fail]
            .into_iter()
            .map(|verdict| CheckRecord { verdict, ..once(&check(one_percent(), 1), counts(100, 0, &[])) })
            .collect();
        assert_eq!(overall(&records), Verdict::Fail);
        assert_eq!(overall(&records[..2]), Verdict::Inconclusive);
        assert_eq!(overall(&[]), Verdict::Pass);
    }
}
