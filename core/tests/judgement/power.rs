//! Rollouts whose canary is worse: how soon they are rolled back.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::traffic::{Judged, LOOK, Traffic, check};

/// Minutes until half of the rollouts are rolled back.
fn median(traffic: &Traffic, seed: u64) -> f64 {
    const RUNS: usize = 101;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let check = check(0.01);
    let mut looks: Vec<usize> =
        (0..RUNS).map(|_| Judged::fails(traffic, &check, 1000, &mut random).unwrap_or(usize::MAX)).collect();
    looks.sort_unstable();
    let look = u32::try_from(looks[RUNS / 2].saturating_add(1)).unwrap_or(u32::MAX);
    f64::from(look) * LOOK / 60.0
}

#[test]
fn a_worse_canary_is_found_in_time() {
    // After many looks at stable alone, so that its dispersion is known.
    for (rate, errors, ratio, expected) in
        [(100.0, 0.01, 2.0, 3.0), (100.0, 0.01, 3.0, 1.0), (100.0, 0.001, 10.0, 1.0), (2.0, 0.01, 10.0, 5.5)]
    {
        let minutes = median(&Traffic { errors, ratio, ..Traffic::plain(rate) }, 7);
        println!("{rate} requests/s, {errors} x {ratio}: {minutes} min");
        assert!(minutes <= expected, "{rate} requests/s, {errors} x {ratio}: {minutes} min, not {expected}");
    }
}
