//! Rollouts whose canary is worse: how soon they are rolled back.

use std::fmt::Write as _;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    docs,
    false_alarms::RUNS,
    traffic::{Judged, LOOK, Traffic, check},
};

/// Looks at stable before: so many that nothing is left to learn, and as many as a Prometheus is asked for.
const KNOWN: usize = 20_000;
const HISTORY: usize = sluice_core::judge::HISTORY;

/// Minutes until half of the rollouts are rolled back.
fn median(traffic: &Traffic, before: usize) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let check = check(0.01);
    let known = Judged::after(traffic, &check, before, &mut random);
    let mut looks: Vec<usize> =
        (0..RUNS).map(|_| known.clone().fails(traffic, &check, &mut random).unwrap_or(usize::MAX)).collect();
    looks.sort_unstable();
    let look = u32::try_from(looks[looks.len() / 2].saturating_add(1)).unwrap_or(u32::MAX);
    f64::from(look) * LOOK / 60.0
}

#[test]
fn a_worse_canary_is_found_in_time_and_the_docs_say_when() {
    let mut table = String::new();
    // The minutes at most are those of the table that was computed before, by another program: by chance with stable known; of
    // clumps with what 30 looks tell, which is a little less than there is, so that more is found, and with all of it half a
    // minute more.
    for (rate, errors, ratio, clump, at_most) in [
        (100.0, 0.01, 2.0, 1, (3.0, 4.0)),
        (100.0, 0.01, 3.0, 1, (1.0, 1.5)),
        (100.0, 0.001, 10.0, 1, (1.0, 1.5)),
        (2.0, 0.01, 10.0, 1, (5.5, 7.0)),
        (100.0, 0.01, 3.0, 5, (4.5, 4.0)),
    ] {
        let traffic = Traffic { errors, ratio, clump, ..Traffic::plain(rate) };
        let (known, history) = (median(&traffic, KNOWN), median(&traffic, HISTORY));
        let shape = if clump > 1 { "in clumps of five" } else { "by chance" };
        let row = format!("| {rate} | {}%, {shape} | {ratio} times | {known} | {history} |", errors * 100.0);
        println!("{row}");
        writeln!(table, "{row}").unwrap();
        assert!(known <= at_most.0 && history <= at_most.1, "{row} where {at_most:?} was to be");
    }
    docs::says(&table);
}
