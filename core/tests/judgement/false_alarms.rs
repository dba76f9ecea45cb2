//! Rollouts whose canary is exactly as good as stable: how many are rolled back.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    docs,
    traffic::{HOUR, Judged, Traffic, check},
};

pub const ALPHA: f64 = 0.01;
pub const RUNS: u32 = 3000;
pub const RATES: [f64; 3] = [2.0, 20.0, 100.0];

/// How many runs of `traffic` are rolled back.
fn alarms(traffic: &Traffic, seed: u64) -> u32 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let check = check(ALPHA);
    let failed = (0..RUNS).filter(|_| {
        let judged = Judged::after(traffic, &check, 10, &mut random);
        judged.fails(traffic, &check, &mut random).is_some()
    });
    u32::try_from(failed.count()).unwrap()
}

/// The largest share that would give so few of [`RUNS`] in one of twenty tries: Wilson's bound, one sided.
pub fn upper_bound(alarms: u32) -> f64 {
    let (n, z) = (f64::from(RUNS), 1.645);
    let share = f64::from(alarms) / n;
    let centre = share + z * z / (2.0 * n);
    let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (centre + spread) / (1.0 + z * z / n)
}

/// Fails where so few alarms need not mean that at most this share of the healthy canaries is rolled back.
pub fn assert_at_most(allowed: f64, alarms: u32, what: &str) {
    let bound = upper_bound(alarms);
    println!("{what}: {alarms} of {RUNS} healthy canaries rolled back, {bound:.4} at most");
    assert!(bound <= allowed, "{what}: {alarms} of {RUNS}, {bound} is above {allowed}");
}

fn at_most(allowed: f64, column: &str, traffic: impl Fn(f64) -> Traffic) {
    let figures: Vec<u32> = (1..)
        .zip(RATES)
        .map(|(seed, rate)| {
            let alarms = alarms(&traffic(rate), seed);
            assert_at_most(allowed, alarms, &format!("errors, {column}, {rate} requests/s"));
            alarms
        })
        .collect();
    docs::has_column("errors of healthy canaries", column, &figures);
}

#[test]
fn a_healthy_canary_is_seldom_rolled_back() {
    at_most(ALPHA, "plain, 10% weight", Traffic::plain);
}

#[test]
fn steps_of_weight_do_no_harm_to_a_healthy_canary() {
    at_most(ALPHA, "weights 1, 5, 25, 50%", |rate| Traffic {
        share: |look| [0.01, 0.05, 0.25, 0.5][look * 4 / HOUR],
        ..Traffic::plain(rate)
    });
}

#[test]
fn an_incident_that_hits_both_arms_is_not_the_canarys_fault() {
    at_most(ALPHA, "3 minutes with 20 times the errors on both", |rate| Traffic {
        incident: |look| if (40..46).contains(&look) { 20.0 } else { 1.0 },
        ..Traffic::plain(rate)
    });
}

#[test]
fn errors_that_come_in_clumps_are_no_witnesses_of_their_own() {
    at_most(2.0 * ALPHA, "clumps of five", |rate| Traffic { clump: 5, ..Traffic::plain(rate) });
}
