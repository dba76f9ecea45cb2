//! Scores of a canary that is exactly as good as stable, and of one that is worse.

use std::time::Duration;

use chrono::DateTime;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, StandardNormal, StudentT};
use sluice_core::{
    api::Direction,
    judge::{Both, Evidence, Look, Moment, Trouble, TroubleKind, Verdict, judge},
    plan::{PlannedCheck, Rule, Versus},
};

use crate::{
    docs,
    false_alarms::{ALPHA, RUNS, assert_at_most},
    traffic::{HOUR, check},
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
    let checks = [scores()];
    let (mut one, mut other) = (Arm { noise, last: None }, Arm { noise, last: None });
    let mut evidence = Evidence::default();
    let nothing = Trouble { kind: TroubleKind::NoData, message: "nobody counts".into() };
    (1..=HOUR).find(|_| {
        let both = Both::Scored { canary: one.score(canary, random), stable: other.score(0.9, random) };
        let mut look = Look::new(DateTime::UNIX_EPOCH, Err(nothing.clone()));
        look.compared.insert(checks[0].name.clone(), Ok(both));
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
