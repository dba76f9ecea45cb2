//! Several comparisons in one Rollout: together they are wrong as seldom as one.

use chrono::DateTime;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use sluice_core::{
    api::Direction,
    judge::{Both, Look, Measurement, Verdict},
    plan::{PlannedCheck, Rule},
};

use crate::{
    docs,
    false_alarms::{ALPHA, RUNS, assert_at_most},
    traffic::{HOUR, Judged, Traffic, check},
};

/// So many comparisons are made in each rollout.
const CHECKS: usize = 10;
const RATE: f64 = 20.0;

/// What the comparisons have to do with one another.
#[derive(Clone, Copy)]
enum Kinship {
    /// All count the same errors.
    Same,
    /// Each counts errors of its own.
    Independent,
}

fn checks() -> Vec<PlannedCheck> {
    let one = |number: usize| PlannedCheck {
        name: number.to_string(),
        rule: Rule::Query {
            promql: "errors".into(),
            total: Some("requests".into()),
            direction: Some(Direction::MoreIsWorse),
            min: None,
            max: None,
        },
        min_requests: 0,
        ..check(ALPHA)
    };
    (0..CHECKS).map(one).collect()
}

fn look(checks: &[PlannedCheck], kinship: Kinship, draw: &mut dyn FnMut() -> Measurement) -> Look {
    let mut seen = draw();
    let mut look = Look::new(DateTime::UNIX_EPOCH, Ok(seen.clone()));
    for check in checks {
        look.compared.insert(check.name.clone(), Ok(Both::Counted(seen.clone())));
        if let Kinship::Independent = kinship {
            seen = draw();
        }
    }
    look
}

/// What becomes of a healthy canary within an hour.
#[derive(Default)]
struct Alarms {
    /// The checks together roll it back.
    together: bool,
    /// One of them alone had evidence enough.
    alone: bool,
}

fn rollout(checks: &[PlannedCheck], kinship: Kinship, random: &mut ChaCha8Rng) -> Alarms {
    let (mut judged, mut alarms) = (Judged::new(), Alarms::default());
    let before = Traffic { share: |_| 0.0, ..Traffic::plain(RATE) };
    for index in 0..10 {
        judged.sees(checks, &look(checks, kinship, &mut || before.look(index, random)));
    }
    let traffic = Traffic::plain(RATE);
    for index in 0..HOUR {
        let records = judged.sees(checks, &look(checks, kinship, &mut || traffic.look(index, random)));
        alarms.together |= records.iter().any(|record| record.verdict == Verdict::Fail);
        alarms.alone |= records
            .iter()
            .filter_map(|record| record.effect.as_ref())
            .any(|effect| effect.worse >= effect.needed);
    }
    alarms
}

/// How many healthy canaries all comparisons together roll back, and how many one of them alone would.
fn alarms(kinship: Kinship, seed: u64) -> (u32, u32) {
    let (checks, mut random) = (checks(), ChaCha8Rng::seed_from_u64(seed));
    let (mut together, mut alone) = (0, 0);
    for _ in 0..RUNS {
        let alarms = rollout(&checks, kinship, &mut random);
        together += u32::from(alarms.together);
        alone += u32::from(alarms.alone);
    }
    (together, alone)
}

#[test]
fn ten_comparisons_are_wrong_as_seldom_as_one() {
    let (same, one) = alarms(Kinship::Same, 1);
    assert_at_most(ALPHA, same, "ten comparisons of the same errors");
    assert_eq!(same, one, "ten of the same are one");
    let (independent, each) = alarms(Kinship::Independent, 2);
    assert_at_most(ALPHA, independent, "ten comparisons of errors of their own");
    println!("each by itself: {each}");
    assert!(each > independent, "each by itself {each}, together {independent}");
    docs::says(&format!(
        "With ten comparisons of the same errors {same} of 3,000 healthy canaries were rolled back, with ten of errors of their \
         own {independent}; had each been enough by itself it would have been {each}."
    ));
}
