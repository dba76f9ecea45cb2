//! Latencies of a canary that is exactly as fast as stable, and of one that is slower, compared bound by bound.

use std::collections::BTreeMap;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Binomial, Distribution};
use sluice_core::{
    judge::{Bound, Counts, LADDER, Measurement, Verdict},
    plan::{PlannedCheck, Rule},
};

use crate::{
    docs,
    false_alarms::{ALPHA, RATES, RUNS, assert_at_most},
    traffic::{HOUR, Judged, LOOK, check, count, poisson},
};

/// The bounds of the histogram: 5 ms to 1 s.
const BOUNDS: std::ops::Range<usize> = 2..10;
/// The spread of the logarithm of the latencies: a 99th percentile of 3.75 times the median.
const SPREAD: f64 = 0.57;
/// The median in seconds.
const MEDIAN: f64 = 0.04;

/// What users send, and how long the arms take: a log-normal distribution.
#[derive(Clone, Copy)]
struct Load {
    /// Requests a second, of both arms.
    rate: f64,
    /// How many times as long the canary takes.
    slower: f64,
    /// So many requests in a row take equally long.
    clump: u64,
    /// The canary's share at a look.
    share: fn(usize) -> f64,
    /// How many times as long both take at a look.
    incident: fn(usize) -> f64,
}

impl Load {
    fn plain(rate: f64) -> Self {
        Self { rate, slower: 1.0, clump: 1, share: |_| 0.1, incident: |_| 1.0 }
    }

    fn look(&self, share: f64, times: f64, random: &mut ChaCha8Rng) -> Measurement {
        let mut arm = |share: f64, median: f64| {
            let clumps = poisson(self.rate * LOOK * share / count(self.clump), random);
            let (mut left, mut before) = (clumps, 1.0);
            let mut slower = BTreeMap::new();
            for bound in &LADDER[BOUNDS] {
                let longer = longer(*bound, median);
                let part = if before > 0.0 { (longer / before).min(1.0) } else { 0.0 };
                left = Binomial::new(left, part).unwrap().sample(random);
                before = longer;
                slower.insert(*bound, left * self.clump);
            }
            Counts { requests: clumps * self.clump, errors: 0, slower }
        };
        let (canary, stable) = (arm(share, MEDIAN * times * self.slower), arm(1.0 - share, MEDIAN * times));
        Measurement { stable, canary, retiring: BTreeMap::new() }
    }

    /// The look at which the canary is found to be slower, if it is, within an hour and after 10 looks at stable alone.
    fn found(&self, check: &PlannedCheck, random: &mut ChaCha8Rng) -> Option<usize> {
        let mut judged = Judged::new();
        let checks = std::slice::from_ref(check);
        for _ in 0..10 {
            judged.look(checks, self.look(0.0, 1.0, random));
        }
        (0..HOUR).find(|index| {
            let seen = self.look((self.share)(*index), (self.incident)(*index), random);
            judged.look(checks, seen) == Verdict::Fail
        })
    }
}

/// The share of requests that take longer than `bound`.
fn longer(bound: Bound, median: f64) -> f64 {
    let seconds = count(bound.0) / 1e6;
    libm::erfc((seconds / median).ln() / SPREAD / std::f64::consts::SQRT_2) / 2.0
}

fn of_latency() -> PlannedCheck {
    PlannedCheck { rule: Rule::Latency { quantile: 0.99, max: None }, ..check(ALPHA) }
}

/// How many healthy canaries are rolled back at such a load; a failure where so many need not be at most the share `allowed`.
fn alarms(allowed: f64, what: &str, load: Load, seed: u64) -> u32 {
    let (check, mut random) = (of_latency(), ChaCha8Rng::seed_from_u64(seed));
    let alarms = (0..RUNS).filter(|_| load.found(&check, &mut random).is_some()).count();
    let alarms = u32::try_from(alarms).unwrap();
    assert_at_most(allowed, alarms, &format!("latency, {what}, {} requests/s", load.rate));
    alarms
}

fn at_most(allowed: f64, column: &str, load: impl Fn(f64) -> Load) {
    let rates = (1..).zip(RATES);
    let figures: Vec<u32> = rates.map(|(seed, rate)| alarms(allowed, column, load(rate), seed)).collect();
    docs::has_column("latencies of healthy canaries", column, &figures);
}

#[test]
fn a_canary_as_fast_as_stable_is_seldom_rolled_back() {
    at_most(ALPHA, "plain, 10% weight", Load::plain);
}

#[test]
fn slow_requests_that_come_in_clumps_are_no_witnesses_of_their_own() {
    at_most(2.0 * ALPHA, "clumps of five", |rate| Load { clump: 5, ..Load::plain(rate) });
}

#[test]
fn neither_steps_of_weight_nor_what_slows_both_down_is_its_fault() {
    let steps = Load { share: |look| [0.01, 0.05, 0.25, 0.5][look * 4 / HOUR], ..Load::plain(20.0) };
    let steps = alarms(ALPHA, "weights", steps, 2);
    let incident =
        Load { incident: |look| if (40..46).contains(&look) { 2.0 } else { 1.0 }, ..Load::plain(20.0) };
    let incident = alarms(ALPHA, "incident", incident, 2);
    docs::says(&format!(
        "At 20 requests a second {steps} were rolled back with weights of 1, 5, 25 and 50%, and {incident} with 3 minutes in which \
         both take twice as long."
    ));
}

#[test]
fn a_slower_canary_is_found_in_time() {
    let check = of_latency();
    let figures = [(20.0, 1.5, 2.0), (20.0, 2.0, 1.0), (2.0, 2.0, 5.0)].map(|(rate, slower, at_most)| {
        let (load, mut random) = (Load { slower, ..Load::plain(rate) }, ChaCha8Rng::seed_from_u64(7));
        let mut looks: Vec<usize> =
            (0..301).map(|_| load.found(&check, &mut random).unwrap_or(usize::MAX)).collect();
        looks.sort_unstable();
        let look = u32::try_from(looks[150].saturating_add(1)).unwrap_or(u32::MAX);
        let minutes = f64::from(look) * LOOK / 60.0;
        println!("{rate} requests/s, {slower} times as slow: half are found after {minutes} minutes");
        assert!(minutes <= at_most, "{rate} requests/s, {slower} times as slow: {minutes} minutes");
        minutes
    });
    docs::says(&format!(
        "At 20 requests a second half of the canaries that take 1.5 times as long are found within {} minutes, of those that \
         take twice as long within {}, and at 2 requests a second within {}.",
        figures[0], figures[1], figures[2]
    ));
}
