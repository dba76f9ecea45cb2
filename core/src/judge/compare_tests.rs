//! Comparisons of what queries say.

use std::{collections::BTreeMap, time::Duration};

use chrono::DateTime;

use super::*;
use crate::{
    api::CheckRecord,
    judge::{Both, Counts, Measurement, Moment, Trouble, TroubleKind, judge},
    plan::Rule,
};

fn check(total: Option<&str>, direction: Direction, min: Option<f64>) -> PlannedCheck {
    let clear_ratio = if total.is_some() { 2.0 } else { 1.25 };
    PlannedCheck {
        name: "q".into(),
        rule: Rule::Query {
            promql: "q".into(),
            total: total.map(Into::into),
            direction: Some(direction),
            min,
            max: None,
        },
        window: Duration::from_secs(10),
        min_requests: 0,
        consecutive_failures: 1,
        versus: Some(Versus { max_ratio: 1.05, alpha: 0.01, clear_ratio, prove: false }),
        advisory: false,
        steps: Vec::new(),
        lag: Duration::ZERO,
        looks_apart: 1,
        without_evidence: None,
    }
}

/// What the check says after so many looks that answered alike.
fn after(check: &PlannedCheck, looks: u32, both: impl Fn(u32) -> Result<Both, Trouble>) -> CheckRecord {
    let mut evidence = Evidence::default();
    let mut records = Vec::new();
    for number in 0..looks {
        let both = both(number);
        let mut look = Look::new(DateTime::UNIX_EPOCH, Ok(Measurement::default()));
        if check.has_limit() {
            let single = match &both {
                Ok(Both::Scored { canary, .. }) => Ok(*canary),
                Ok(Both::Counted(_)) => panic!("counters have no limits"),
                Err(trouble) => Err(trouble.clone()),
            };
            look.queries.insert(check.name.clone(), single);
        }
        look.compared.insert(check.name.clone(), both);
        evidence.compare([check].into_iter(), &look);
        let moment = Moment { age: Duration::from_mins(1), settled_since: Duration::ZERO };
        records = judge([check].into_iter(), &evidence, moment, &look, &records);
    }
    records.remove(0)
}

/// Scores that vary a little.
fn scored(canary: f64, stable: f64) -> impl Fn(u32) -> Result<Both, Trouble> {
    move |look| Ok(Both::Scored { canary: canary * (1.0 + 0.002 * f64::from(look * 7 % 5)), stable })
}

fn counted(canary: (u64, u64), stable: (u64, u64)) -> impl Fn(u32) -> Result<Both, Trouble> {
    let counts = |(errors, requests)| Counts { requests, errors, slower: BTreeMap::new() };
    let seen = Measurement { canary: counts(canary), stable: counts(stable), retiring: BTreeMap::new() };
    move |_| Ok(Both::Counted(seen.clone()))
}

#[test]
fn an_accuracy_below_stables_fails_and_says_by_how_much() {
    let check = check(None, Direction::MoreIsBetter, None);
    let record = after(&check, 30, scored(0.8, 0.9));
    assert_eq!(record.verdict, Verdict::Fail, "{}", record.message);
    assert!(
        record.message.starts_with(
            "the query answered 0.8032 for the canary, 0.89 times stable's, against 0.9, the mean of 30 pairs"
        ),
        "{}",
        record.message
    );
    assert!(record.message.contains("that it is less than 0.95 times, 100 was needed"), "{}", record.message);
    let effect = record.effect.unwrap();
    assert!(effect.more_is_better && effect.to.is_some_and(|to| to < 0.95), "{effect:?}");
    assert_eq!(after(&check, 30, scored(0.9, 0.9)).verdict, Verdict::Pass);
    assert_eq!(after(&check, 30, scored(0.99, 0.9)).verdict, Verdict::Pass, "better is no harm");
}

#[test]
fn where_more_is_worse_the_larger_number_fails() {
    let check = check(None, Direction::MoreIsWorse, None);
    assert_eq!(after(&check, 30, scored(0.3, 0.2)).verdict, Verdict::Fail);
    assert_eq!(after(&check, 30, scored(0.2, 0.3)).verdict, Verdict::Pass);
}

#[test]
fn a_few_pairs_say_nothing_and_a_step_waits_for_more() {
    let check = check(None, Direction::MoreIsBetter, None);
    let record = after(&check, 4, scored(0.1, 0.9));
    assert_eq!((record.verdict, record.suffices), (Verdict::Inconclusive, false));
    assert!(record.message.starts_with("4 of the 5 pairs"), "{}", record.message);
    let record = after(&check, 6, scored(0.88, 0.9));
    assert_eq!((record.verdict, record.suffices), (Verdict::Inconclusive, true), "{}", record.message);
}

#[test]
fn a_share_that_should_be_large_fails_where_it_is_small() {
    let better = check(Some("all"), Direction::MoreIsBetter, None);
    let record = after(&better, 20, counted((25, 500), (450, 4500)));
    assert_eq!(record.verdict, Verdict::Fail, "{}", record.message);
    assert!(
        record.message.starts_with("the counters have 5% (500 of 10000) for the canary, 0.5 times"),
        "{}",
        record.message
    );
    assert_eq!(after(&better, 30, counted((50, 500), (450, 4500))).verdict, Verdict::Pass);
    let worse = check(Some("all"), Direction::MoreIsWorse, None);
    assert_eq!(after(&worse, 30, counted((25, 500), (450, 4500))).verdict, Verdict::Pass);
    assert_eq!(after(&worse, 20, counted((100, 500), (450, 4500))).verdict, Verdict::Fail);
}

#[test]
fn a_limit_stands_beside_a_comparison_and_one_trouble_is_told_once() {
    let check = check(None, Direction::MoreIsBetter, Some(0.85));
    assert_eq!(after(&check, 1, scored(0.8, 0.8)).verdict, Verdict::Fail);
    assert_eq!(after(&check, 30, scored(0.9, 1.0)).verdict, Verdict::Fail);
    let record = after(&check, 1, |_| {
        Err(Trouble { kind: TroubleKind::NoData, message: "gave an empty vector".into() })
    });
    assert_eq!((record.verdict, &*record.message), (Verdict::Inconclusive, "gave an empty vector"));
}
