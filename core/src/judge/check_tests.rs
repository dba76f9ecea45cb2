use std::collections::BTreeMap;

use chrono::DateTime;

use super::*;
use crate::judge::{Bound, Counts, Measurement, Trouble, TroubleKind};

const AGE: Duration = Duration::from_mins(1);
const LIMITS: [Bound; 1] = [Bound(250_000)];

fn at(age: Duration) -> Moment {
    Moment { age, settled_since: Duration::ZERO }
}

fn judge_one(check: &PlannedCheck, evidence: &Evidence, look: &Look, before: &[CheckRecord]) -> CheckRecord {
    judge([check].into_iter(), evidence, at(AGE), look, before).remove(0)
}

fn check(rule: Rule, consecutive_failures: u32) -> PlannedCheck {
    PlannedCheck {
        name: "c".into(),
        rule,
        window: Duration::from_secs(50),
        min_requests: 50,
        consecutive_failures,
        versus: None,
        advisory: false,
        steps: Vec::new(),
        lag: Duration::ZERO,
        without_evidence: None,
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
    evidence.add(AGE, look.counts.as_ref().unwrap(), &LIMITS);
    judge_one(check, &evidence, &look, &[])
}

fn counts(requests: u64, errors: u64, slower: &[(u64, u64)]) -> Counts {
    let slower = slower.iter().map(|(millis, slower)| (Bound(millis * 1000), *slower)).collect();
    Counts { requests, errors, slower }
}

fn one_percent() -> Rule {
    Rule::Errors { max: "1%".parse().ok() }
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
    let rule = Rule::Latency { quantile: 0.99, max: Some(Bound(250_000)) };
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
        evidence.add(age, look.counts.as_ref().unwrap(), &LIMITS);
        records = judge(checks.iter(), &evidence, at(age), &look, &records);
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
        let record = judge_one(&check, &Evidence::default(), &look, std::slice::from_ref(&before));
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
        let record = judge_one(&check, &Evidence::default(), &look, &[]);
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
