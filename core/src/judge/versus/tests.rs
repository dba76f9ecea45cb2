use std::collections::BTreeMap;

use super::*;
use crate::judge::Verdict;

const VERSUS: Versus = Versus { max_ratio: 1.0, alpha: 0.01, clear_ratio: 2.0, prove: false };

fn counts(requests: u64, errors: u64, slower: &[(u64, u64)]) -> Counts {
    let slower = slower.iter().map(|(bound, slow)| (Bound(*bound), *slow)).collect();
    Counts { requests, errors, slower }
}

fn errors(canary_bad: u64, stable_bad: u64) -> Measurement {
    Measurement {
        canary: counts(1000, canary_bad, &[]),
        stable: counts(9000, stable_bad, &[]),
        retiring: BTreeMap::new(),
    }
}

fn after(looks: u32, indicator: Indicator, seen: &Measurement) -> Standing {
    let mut comparison = Comparison::default();
    (0..looks).for_each(|_| comparison.add(&VERSUS, indicator, Seen::Counted(seen), &[]));
    stand(&comparison, &VERSUS, indicator)
}

#[test]
fn nothing_is_said_before_stable_was_seen_ten_times() {
    assert_eq!(after(0, Indicator::Errors, &errors(90, 90)), Standing::Nothing);
    assert_eq!(after(9, Indicator::Errors, &errors(90, 90)), Standing::Learning(9, 10));
    assert!(matches!(after(10, Indicator::Errors, &errors(90, 90)), Standing::Known(_)));
}

#[test]
fn a_canary_that_fails_three_times_as_often_is_found_and_its_effect_said() {
    let Standing::Known(finding) = after(10, Indicator::Errors, &errors(30, 90)) else { panic!() };
    assert_eq!(finding.verdict(&VERSUS), Verdict::Fail);
    assert!((finding.effect.ratio.unwrap() - 3.0).abs() < 1e-9);
    let (from, to) = finding.effect.interval;
    assert!(from >= 1.5 && to.is_some_and(|to| to <= 5.0), "{from} {to:?}");
}

#[test]
fn a_canary_that_is_as_good_is_cleared() {
    let Standing::Known(finding) = after(20, Indicator::Errors, &errors(10, 90)) else { panic!() };
    assert_eq!(finding.verdict(&VERSUS), Verdict::Pass);
}

#[test]
fn clumps_weaken_the_evidence() {
    let clumpy = |comparison: &mut Comparison, look: u64| {
        let stable = if look.is_multiple_of(3) { 270 } else { 0 };
        comparison.add(&VERSUS, Indicator::Errors, Seen::Counted(&errors(30, stable)), &[]);
    };
    let mut comparison = Comparison::default();
    (0..12).for_each(|look| clumpy(&mut comparison, look));
    let (Standing::Known(clumps), Standing::Known(even)) =
        (stand(&comparison, &VERSUS, Indicator::Errors), after(12, Indicator::Errors, &errors(30, 90)))
    else {
        panic!()
    };
    assert!(clumps.log_worse < even.log_worse / 50.0, "{} {}", clumps.log_worse, even.log_worse);
}

#[test]
fn latency_is_compared_at_the_bounds_that_tell_something() {
    let seen = |canary: &[(u64, u64)], stable: &[(u64, u64)]| Measurement {
        canary: counts(1000, 0, canary),
        stable: counts(9000, 0, stable),
        retiring: BTreeMap::new(),
    };
    let stable = [(1, 9000), (100, 900), (250, 90), (500, 0), (1000, 0)];
    let slow = seen(&[(1, 1000), (100, 100), (250, 40), (500, 0), (1000, 0)], &stable);
    assert_eq!(bounds(&slow, &[]), [Bound(500), Bound(250), Bound(100)]);
    let Standing::Known(finding) = after(11, Indicator::Latency, &slow) else { panic!() };
    assert_eq!(finding.verdict(&VERSUS), Verdict::Fail);
    assert!(matches!(finding.effect.saw, Saw::Counted { bound: Some(Bound(250)), .. }));
    let equal = seen(&[(1, 1000), (100, 100), (250, 10), (500, 0), (1000, 0)], &stable);
    let Standing::Known(finding) = after(40, Indicator::Latency, &equal) else { panic!() };
    assert_ne!(finding.verdict(&VERSUS), Verdict::Fail);
}

/// Both arms have the buckets 25, 50, 100 and 250; all requests of each take as long as said.
fn all_taking(canary: u64, stable: u64, requests: u64) -> Measurement {
    let arm = |requests, took| {
        let slower: Vec<(u64, u64)> =
            [25, 50, 100, 250].map(|bound| (bound, if took > bound { requests } else { 0 })).into();
        counts(requests, 0, &slower)
    };
    Measurement {
        canary: arm(requests, canary),
        stable: arm(9 * requests, stable),
        retiring: BTreeMap::new(),
    }
}

#[test]
fn a_canary_slower_than_all_of_stable_is_found_although_stable_lies_between_two_bounds() {
    for (canary, stable) in [(3000, 30), (200, 5), (60, 30)] {
        let Standing::Known(finding) = after(12, Indicator::Latency, &all_taking(canary, stable, 100)) else {
            panic!("{canary} {stable}")
        };
        assert_eq!(finding.verdict(&VERSUS), Verdict::Fail, "{canary} against {stable}: {finding:?}");
    }
    let Standing::Known(equal) = after(50, Indicator::Latency, &all_taking(30, 30, 100)) else { panic!() };
    assert_ne!(equal.verdict(&VERSUS), Verdict::Fail);
    // There is no bound to tell them apart at.
    assert_eq!(after(50, Indicator::Latency, &all_taking(3000, 2000, 100)), Standing::Nothing);
}

#[test]
fn other_bounds_are_chosen_while_nothing_was_slower_than_those_of_a_quiet_look() {
    let mut comparison = Comparison::default();
    let mut add = |seen: &Measurement| {
        comparison.add(&VERSUS, Indicator::Latency, Seen::Counted(seen), &[]);
        comparison.series.iter().filter_map(|series| series.bound).collect::<Vec<_>>()
    };
    assert_eq!(add(&all_taking(30, 60, 1)), [Bound(100)]);
    assert_eq!(add(&all_taking(30, 30, 1)), [Bound(50)], "no request was slower than 100 in either");
    assert_eq!(add(&all_taking(60, 30, 100)), [Bound(50)], "this look's choice would be the same");
    assert_eq!(add(&all_taking(200, 200, 100)), [Bound(50)], "there is evidence at it now");
    let history = vec![all_taking(30, 60, 100); 10];
    assert_eq!(
        bounds(&all_taking(30, 30, 1), &history),
        [Bound(100), Bound(50)],
        "not all were that fast before"
    );
}

#[test]
fn of_many_bounds_eight_are_compared_the_highest_among_them() {
    let slower: Vec<(u64, u64)> = (1..=20).map(|bound| (bound, 1000 - bound * 40)).collect();
    let arm = counts(1000, 0, &slower);
    let chosen = bounds(&Measurement { canary: arm.clone(), stable: arm, retiring: BTreeMap::new() }, &[]);
    assert!(chosen.len() <= MOST_BOUNDS && chosen.contains(&Bound(20)), "{chosen:?}");
}

#[test]
fn a_comparison_is_small_and_survives_a_status() {
    let mut comparison = Comparison::default();
    (0..1000).for_each(|look| {
        comparison.add(&VERSUS, Indicator::Errors, Seen::Counted(&errors(look % 7, look % 50)), &[]);
    });
    let text = serde_json::to_string(&comparison).unwrap();
    assert!(text.len() < 1500, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
}

#[test]
fn sums_of_another_version_start_anew() {
    let mut comparison: Comparison =
        serde_json::from_str(r#"{"series": [{"sums": [1, 2], "dispersion": {"looks": 50}}]}"#).unwrap();
    comparison.add(&VERSUS, Indicator::Errors, Seen::Counted(&errors(1, 1)), &[]);
    assert_eq!(stand(&comparison, &VERSUS, Indicator::Errors), Standing::Learning(1, 10));
}

#[test]
fn what_stable_did_before_is_known_at_once() {
    let seen = errors(30, 90);
    let even = vec![errors(0, 90); 30];
    let clumpy: Vec<Measurement> =
        (0..30).map(|look| errors(0, if look % 3 == 0 { 270 } else { 0 })).collect();
    let after_one = |history: &[Measurement]| {
        let mut comparison = Comparison::default();
        comparison.add(&VERSUS, Indicator::Errors, Seen::Counted(&seen), history);
        stand(&comparison, &VERSUS, Indicator::Errors)
    };
    let (Standing::Known(sure), Standing::Known(unsure)) = (after_one(&even), after_one(&clumpy)) else {
        panic!()
    };
    assert!(sure.log_worse > 20.0 * unsure.log_worse, "{} {}", sure.log_worse, unsure.log_worse);
    assert_eq!(after_one(&even[..8]), Standing::Learning(9, 10));
    let slower = |slow| Measurement { stable: counts(900, 0, &[(250, slow)]), ..Measurement::default() };
    let mut comparison = Comparison::default();
    let now = Measurement { canary: counts(100, 0, &[(250, 5)]), ..slower(9) };
    let history = vec![slower(9); 20];
    comparison.add(&VERSUS, Indicator::Latency, Seen::Counted(&now), &history);
    assert!(matches!(stand(&comparison, &VERSUS, Indicator::Latency), Standing::Known(_)));
}

/// A comparison after these looks, with stable known to vary as chance has it.
fn known(versus: &Versus, looks: &[(u64, u64, u64, u64)]) -> Finding {
    let history = vec![errors(0, 90); 30];
    let mut comparison = Comparison::default();
    for &(canary_bad, stable_bad, canary, stable) in looks {
        let seen = Measurement {
            canary: counts(canary, canary_bad, &[]),
            stable: counts(stable, stable_bad, &[]),
            retiring: BTreeMap::new(),
        };
        comparison.add(versus, Indicator::Errors, Seen::Counted(&seen), &history);
    }
    match stand(&comparison, versus, Indicator::Errors) {
        Standing::Known(finding) => finding,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_finding_is_what_two_independent_programs_computed() {
    // The second look of the fourth is divided by what the first one showed, and is not among them.
    for (looks, max_ratio, expected) in [
        (&[(3, 9, 100, 900)][..], 1.0, 0.368_773),
        (&[(10, 90, 1000, 9000)], 1.0, -1.815_637),
        (&[(30, 90, 1000, 9000)], 1.0, 9.207_018),
        (&[(30, 90, 1000, 9000)], 1.5, 3.194_032),
    ] {
        let found = known(&Versus { max_ratio, ..VERSUS }, looks).log_worse;
        assert!((found - expected).abs() < 2e-6, "{looks:?}: {found} is not {expected}");
    }
}

#[test]
fn no_count_makes_a_finding_no_number() {
    let most = 1_000_000_000_000_000;
    for look in
        [(most, most, most, most), (0, 0, 0, 0), (most, 0, most, 0), (0, most, 0, most), (most, 1, most, 1)]
    {
        let finding = known(&VERSUS, &[look, (1, 1, 100, 100), look]);
        let (from, to) = finding.effect.interval;
        let numbers = [finding.log_worse, finding.log_better, from, to.unwrap_or(0.0)];
        assert!(numbers.iter().all(|number| number.is_finite()), "{look:?}: {numbers:?}");
        assert!(finding.effect.ratio.is_none_or(f64::is_finite), "{look:?}: {:?}", finding.effect);
    }
}
