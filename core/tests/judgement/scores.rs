//! Scores of a canary that is exactly as good as stable, and of one that is worse.

use std::time::Duration;

use chrono::DateTime;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, StandardNormal, StudentT};
use serde_json::json;
use sluice_core::{
    api::Direction,
    judge::{Both, Counts, Evidence, Look, Measurement, Moment, Trouble, TroubleKind, Verdict, judge},
    plan::{Plan, PlannedCheck, Rule, Versus},
};

use crate::{
    docs,
    false_alarms::{ALPHA, RUNS, assert_at_most},
    traffic::{HOUR, check, count, poisson},
};

/// How the scores of an arm vary about the same mean.
#[derive(Clone, Copy)]
enum Noise {
    /// Independent and normal.
    Normal,
    /// Independent, and now and then far off.
    HeavyTailed,
    /// Each has this much of the one before.
    Dragging(f64),
}

struct Arm {
    noise: Noise,
    last: Option<f64>,
}

impl Arm {
    fn score(&mut self, mean: f64, random: &mut ChaCha8Rng) -> f64 {
        let mut normal = || -> f64 { StandardNormal.sample(random) };
        let off = match self.noise {
            Noise::Normal => normal(),
            Noise::HeavyTailed => StudentT::new(2.0).unwrap().sample(random),
            Noise::Dragging(part) => match self.last {
                None => normal(),
                Some(last) => part * last + (1.0 - part * part).sqrt() * normal(),
            },
        };
        self.last = Some(off);
        (mean + 0.02 * off).max(0.0)
    }
}

fn scores() -> PlannedCheck {
    PlannedCheck {
        rule: Rule::Query {
            promql: "accuracy".into(),
            total: None,
            direction: Some(Direction::MoreIsBetter),
            min: None,
            max: None,
        },
        versus: Some(Versus { max_ratio: 1.0, alpha: ALPHA, clear_ratio: 1.05, prove: true }),
        ..check(ALPHA)
    }
}

/// The pair at which the canary was found to be worse, if it was, within an hour of a pair every 30 s.
fn found(noise: Noise, canary: f64, random: &mut ChaCha8Rng) -> Option<usize> {
    let (mut one, mut other) = (Arm { noise, last: None }, Arm { noise, last: None });
    fails(&scores(), || Both::Scored { canary: one.score(canary, random), stable: other.score(0.9, random) })
}

/// The look of an hour of them at which a check that sees this fails, if it does.
fn fails(check: &PlannedCheck, mut sees: impl FnMut() -> Both) -> Option<usize> {
    let checks = std::slice::from_ref(check);
    let mut evidence = Evidence::default();
    let nothing = Trouble { kind: TroubleKind::NoData, message: "nobody counts".into() };
    (1..=HOUR).find(|_| {
        let mut look = Look::new(DateTime::UNIX_EPOCH, Err(nothing.clone()));
        look.compared.insert(check.name.clone(), Ok(sees()));
        evidence.compare(checks.iter(), &look);
        let moment = Moment { age: Duration::from_secs(30), settled_since: Duration::ZERO };
        judge(checks.iter(), &evidence, moment, &look, &[])[0].verdict == Verdict::Fail
    })
}

#[test]
fn a_canary_that_scores_as_stable_does_is_seldom_rolled_back() {
    let figures: Vec<u32> = (1..)
        .zip([
            ("normal", Noise::Normal, ALPHA),
            ("heavy-tailed", Noise::HeavyTailed, ALPHA),
            ("a third of the one before", Noise::Dragging(1.0 / 3.0), ALPHA),
            ("half of the one before", Noise::Dragging(0.5), 2.0 * ALPHA),
        ])
        .map(|(seed, (what, noise, allowed))| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let alarms = (0..RUNS).filter(|_| found(noise, 0.9, &mut random).is_some()).count();
            let alarms = u32::try_from(alarms).unwrap();
            assert_at_most(allowed, alarms, what);
            alarms
        })
        .collect();
    docs::says(&format!(
        "rolled back were {} healthy canaries with independent normal noise, {} with heavy tails (Student's t with two \
         degrees of freedom), {} where each number has a third of the one before in it, {} where it has half.",
        figures[0], figures[1], figures[2], figures[3]
    ));
}

#[test]
fn one_that_scores_less_is_found_in_time() {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let figures = [(0.88, 60), (0.84, 16)].map(|(canary, expected)| {
        let mut pairs: Vec<usize> =
            (0..101).map(|_| found(Noise::Normal, canary, &mut random).unwrap_or(usize::MAX)).collect();
        pairs.sort_unstable();
        println!("{canary} against 0.9: half are found after {} pairs", pairs[50]);
        assert!(pairs[50] <= expected, "{canary}: {} pairs", pairs[50]);
        pairs[50]
    });
    docs::says(&format!(
        "A canary 0.7 standard deviations of a pair worse is found after {} pairs, one 2.1 worse after {}.",
        figures[0], figures[1]
    ));
}

/// Of so many requests of the canary and of stable in a window, one in 200 counts.
const REQUESTS: (u64, u64) = (50, 950);
const SHARE: f64 = 0.005;
/// So many rollouts are enough where all of them, or none, are to end in one way.
const FEW: u32 = 300;

/// How a query about events says them: one divided by the other, or both as they are (`total`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    AsANumber,
    AsCounts,
}

/// How many of `runs` rollouts are rolled back in an hour whose canary has `ratio` times the events that stable has, by a check with
/// the defaults for it.
fn rolled_back(said: Said, direction: Direction, ratio: f64, runs: u32, random: &mut ChaCha8Rng) -> u32 {
    let spec = json!({
        "target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}],
        "checks": [{"name": "events", "query": {
            "promql": r#"events_total{service="{{canary.service}}"}"#,
            "total": (said == Said::AsCounts).then_some(r#"answers_total{service="{{canary.service}}"}"#),
            "versusStable": {}, "direction": direction,
        }}],
    });
    let plan = Plan::new(&serde_json::from_value(spec).unwrap(), "models").unwrap();
    // A look a window.
    let check = PlannedCheck { looks_apart: 1, ..plan.checks[0].clone() };
    let mut events =
        |requests: u64, ratio: f64| poisson(count(requests) * SHARE * ratio, random).min(requests);
    let mut sees = || {
        let (canary, stable) = (events(REQUESTS.0, ratio), events(REQUESTS.1, 1.0));
        let counts = |requests, errors| Counts { requests, errors, ..Counts::default() };
        match said {
            Said::AsANumber => Both::Scored {
                canary: count(canary) / count(REQUESTS.0),
                stable: count(stable) / count(REQUESTS.1),
            },
            Said::AsCounts => Both::Counted(Measurement {
                canary: counts(REQUESTS.0, canary),
                stable: counts(REQUESTS.1, stable),
                ..Measurement::default()
            }),
        }
    };
    u32::try_from((0..runs).filter(|_| fails(&check, &mut sees).is_some()).count()).unwrap()
}

#[test]
fn a_share_of_few_events_misleads_as_a_number_and_not_where_both_are_counted() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    // Half of the canary's numbers and more are 0, and hardly any of stable's.
    let better = Direction::MoreIsBetter;
    assert_eq!(rolled_back(Said::AsANumber, better, 1.0, FEW, &mut random), FEW);
    let alarms = rolled_back(Said::AsCounts, better, 1.0, RUNS, &mut random);
    assert_at_most(ALPHA, alarms, "conversions that are counted");
    // For the same reason one that has twice as many, where none is wanted, seems to have fewer.
    let worse = Direction::MoreIsWorse;
    assert_eq!(rolled_back(Said::AsANumber, worse, 2.0, FEW, &mut random), 0);
    let found = rolled_back(Said::AsCounts, worse, 2.0, FEW, &mut random);
    println!("events twice as many: {found} of {FEW} found where they are counted");
    assert!(found > FEW * 3 / 4, "{found}");
    docs::says(
        "all of 300 canaries exactly as good as stable were rolled back within an hour, and of 300 with twice as many events that \
         nobody wants none was",
    );
}
