use chrono::DateTime;

use super::*;
use crate::judge::{Bound, Counts, Measurement, Needs, Trouble, TroubleKind};
use crate::plan::Versus;

const AGE: Duration = Duration::from_mins(1);
const WINDOW: Duration = Duration::from_secs(50);

fn needs() -> Needs {
    Needs { bounds: vec![Bound(250_000)], windows: vec![WINDOW] }
}

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
        window: WINDOW,
        min_requests: 50,
        consecutive_failures,
        versus: None,
        advisory: false,
        steps: Vec::new(),
        lag: Duration::ZERO,
        looks_apart: 1,
        without_evidence: None,
    }
}

fn look(canary: Counts) -> Look {
    Look::new(DateTime::UNIX_EPOCH, Ok(Measurement { canary, ..Measurement::default() }))
}

fn once(check: &PlannedCheck, canary: Counts) -> CheckRecord {
    let look = look(canary);
    let mut evidence = Evidence::default();
    evidence.add(AGE, look.counts.as_ref().unwrap(), &needs());
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
        assert_eq!(once(&check, counts(requests, errors, &[])).verdict, expected, "{errors} of {requests}");
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
        evidence.add(age, look.counts.as_ref().unwrap(), &needs());
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
        let look = Look { counts: Err(Trouble { kind, message: "gone".into() }), ..look(Counts::default()) };
        let record = judge_one(&check, &Evidence::default(), &look, std::slice::from_ref(&before));
        assert_eq!((record.verdict, record.failures), (Verdict::Inconclusive, 1));
    }
}

#[test]
fn a_query_is_judged_by_its_limits() {
    let check = check(
        Rule::Query { promql: "q".into(), total: None, direction: None, min: Some(0.9), max: Some(2.0) },
        1,
    );
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

fn versus(prove: bool) -> Versus {
    Versus { max_ratio: 1.0, alpha: 0.01, clear_ratio: 2.0, prove }
}

fn comparing(prove: bool) -> PlannedCheck {
    PlannedCheck { versus: Some(versus(prove)), ..check(Rule::Errors { max: None }, 1) }
}

/// What the checks say after so many looks, each of which saw 1,000 requests of the canary and 9,000 of stable.
fn after(checks: &[PlannedCheck], looks: u32, canary_bad: u64, stable_bad: u64) -> Vec<CheckRecord> {
    after_looks(checks, looks, &counts(1000, canary_bad, &[]), &counts(9000, stable_bad, &[]))
}

/// The same of a tenth of the requests, which leaves more open.
fn after_few(checks: &[PlannedCheck], looks: u32, canary_bad: u64, stable_bad: u64) -> Vec<CheckRecord> {
    after_looks(checks, looks, &counts(100, canary_bad, &[]), &counts(900, stable_bad, &[]))
}

fn after_looks(checks: &[PlannedCheck], looks: u32, canary: &Counts, stable: &Counts) -> Vec<CheckRecord> {
    let seen = Measurement { canary: canary.clone(), stable: stable.clone(), ..Measurement::default() };
    let look = Look { counts: Ok(seen.clone()), ..look(Counts::default()) };
    let mut evidence = Evidence::default();
    for _ in 0..looks {
        evidence.add(AGE, &seen, &needs());
        evidence.compare(checks.iter(), &look);
    }
    judge(checks.iter(), &evidence, at(AGE), &look, &[])
}

#[test]
fn a_comparison_fails_passes_or_does_not_know() {
    for (looks, canary_bad, verdict) in
        [(9, 90, Verdict::Inconclusive), (12, 90, Verdict::Fail), (30, 10, Verdict::Pass)]
    {
        let record = after(&[comparing(true)], looks, canary_bad, 90).remove(0);
        assert_eq!(record.verdict, verdict, "{looks} looks, {canary_bad}: {}", record.message);
    }
    let record = after_few(&[comparing(true)], 12, 1, 9).remove(0);
    assert_eq!(record.verdict, Verdict::Inconclusive, "{}", record.message);
}

#[test]
fn without_a_proof_asked_for_no_evidence_of_harm_is_enough_to_go_on() {
    let undecided = |prove, looks| after_few(&[comparing(prove)], looks, 1, 9).remove(0);
    assert!(!lacks_evidence(&undecided(false, 12)), "{}", undecided(false, 12).message);
    assert!(lacks_evidence(&undecided(true, 12)));
    assert!(lacks_evidence(&undecided(false, 9)), "stable is not known yet");
}

#[test]
fn the_numbers_of_a_comparison_are_on_record() {
    let record = after(&[comparing(true)], 12, 30, 90).remove(0);
    assert_eq!(record.canary, Some(ArmRecord { requests: 12_000, bad: 360 }));
    let effect = record.effect.unwrap();
    assert!(effect.worse >= effect.needed && effect.from > 1.0, "{effect:?}");
    assert!(
        record.message.starts_with(
            "3% (360 of 12000) of the canary's requests failed, 3 times stable's, against 1% (1080 of 108000)"
        ),
        "{}",
        record.message
    );
}

#[test]
fn comparisons_act_together_and_one_of_many_alone_needs_more_evidence() {
    let named = |name: &str, rule| PlannedCheck { name: name.into(), rule, ..comparing(true) };
    let errors = || named("errors", Rule::Errors { max: None });
    let latency = |index: usize| named(&format!("p{index}"), Rule::Latency { quantile: 0.99, max: None });
    let seen = |looks, others: usize| {
        let checks: Vec<PlannedCheck> = std::iter::once(errors()).chain((0..others).map(latency)).collect();
        after(&checks, looks, 13, 90).remove(0)
    };
    let fails =
        |others: usize| (10..200).find(|looks| seen(*looks, others).verdict == Verdict::Fail).unwrap();
    assert!(fails(0) < fails(10), "{} looks alone, {} among eleven", fails(0), fails(10));
}

#[test]
fn a_step_does_not_end_while_one_of_several_comparisons_has_evidence_enough_for_itself() {
    let latency = |index| PlannedCheck {
        name: format!("p{index}"),
        rule: Rule::Latency { quantile: 0.99, max: None },
        ..comparing(false)
    };
    let checks: Vec<PlannedCheck> = std::iter::once(comparing(false)).chain((0..10).map(latency)).collect();
    let records = (10..200).map(|looks| after(&checks, looks, 13, 90).remove(0));
    let between: Vec<CheckRecord> = records
        .take_while(|record| record.verdict != Verdict::Fail)
        .filter(|record| !record.suffices)
        .collect();
    let last = between.last().expect("alone it is sure before all are");
    assert!(
        last.message.contains(
            "that it is more than 1 times; but a rollback needs 100 of the 11 comparisons together, and"
        ),
        "{}",
        last.message
    );
}

#[test]
fn where_neither_arm_has_any_the_message_says_that_nothing_is_compared() {
    let record = after(&[comparing(true)], 12, 0, 0).remove(0);
    assert_eq!(record.verdict, Verdict::Inconclusive);
    assert!(
        record.message.ends_with("neither has any, so that there is nothing to compare yet"),
        "{}",
        record.message
    );
}

#[test]
fn a_share_is_told_from_its_limit_also_where_they_round_to_the_same() {
    let record = once(&check(one_percent(), 1), counts(4990, 50, &[]));
    assert_eq!(record.verdict, Verdict::Fail);
    assert!(
        record.message.starts_with("1.002% (50 of 4990) of the canary's requests failed, at most 1% may;"),
        "{}",
        record.message
    );
    let record = once(&check(one_percent(), 1), counts(5000, 50, &[]));
    assert!(record.message.starts_with("1% (50 of 5000)"), "{}", record.message);
}

#[test]
fn an_advisory_check_reports_and_is_not_asked() {
    let advisory = PlannedCheck { advisory: true, ..comparing(true) };
    let records = after(&[advisory], 12, 90, 90);
    assert_eq!(records[0].verdict, Verdict::Fail);
    assert_eq!(overall(&records), Verdict::Pass);
    let undecided = after_few(&[PlannedCheck { advisory: true, ..comparing(true) }], 12, 1, 9);
    assert!(!lacks_evidence(&undecided[0]));
}

#[test]
fn a_limit_and_a_comparison_stand_side_by_side_and_the_worse_counts() {
    let both = PlannedCheck { versus: Some(versus(true)), ..check(one_percent(), 1) };
    for (canary_bad, stable_bad, verdict) in
        [(20, 180, Verdict::Fail), (9, 9, Verdict::Fail), (5, 90, Verdict::Pass)]
    {
        let record = after(std::slice::from_ref(&both), 12, canary_bad, stable_bad).remove(0);
        assert_eq!(record.verdict, verdict, "{canary_bad}, {stable_bad}: {}", record.message);
    }
    let undecided = after_few(&[both], 12, 1, 9).remove(0);
    assert_eq!(undecided.verdict, Verdict::Inconclusive, "{}", undecided.message);
}

#[test]
fn numbers_of_the_past_are_not_those_of_this_step() {
    let lagging = PlannedCheck { lag: Duration::from_secs(40), ..check(one_percent(), 1) };
    let look = look(counts(100, 50, &[]));
    let mut evidence = Evidence::default();
    evidence.add(Duration::from_secs(20), look.counts.as_ref().unwrap(), &needs());
    let at = |age| Moment { age: Duration::from_secs(age), settled_since: Duration::from_secs(15) };
    let say =
        |evidence: &Evidence, age| judge([&lagging].into_iter(), evidence, at(age), &look, &[]).remove(0);
    assert_eq!(say(&evidence, 54).verdict, Verdict::Inconclusive);
    // What was seen before the lag had passed counts for nothing.
    assert_eq!(say(&evidence, 55).canary, Some(ArmRecord::default()));
    // Nor does a look that saw what was before as well.
    evidence.add(Duration::from_secs(56), look.counts.as_ref().unwrap(), &needs());
    assert_eq!(say(&evidence, 56).canary, Some(ArmRecord::default()));
    evidence.add(Duration::from_mins(1), look.counts.as_ref().unwrap(), &needs());
    assert_eq!(say(&evidence, 60).verdict, Verdict::Fail);
}
