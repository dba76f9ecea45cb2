//! What the predictors answer, and what the metrics say of it.

use std::collections::BTreeMap;

use super::{
    chance::{Chance, float},
    scenario::{Arm, Latency},
};
use crate::judge::{Bound, Counts};

/// The logarithm of the 99th percentile of a log-normal distribution lies so many standard deviations above that of its
/// median.
const P99: f64 = 2.326_347_874_040_841;

/// Sorts of things that are counted, for what is carried over.
const REQUESTS: usize = 0;
const ERRORS: usize = 1;
/// And how many there are for each arm.
const SORTS: usize = 2;
/// The first sort that is free for others: after those of stable, of the canary, of copies, and of stable before.
pub(super) const FREE_SORTS: usize = 4 * SORTS;

/// What an arm answers to about so many requests.
pub(super) fn answers(
    chance: &mut Chance,
    number: usize,
    arm: &Arm,
    requests: f64,
    clump: u32,
    bounds: &[Bound],
) -> Counts {
    let share = arm.errors.map_or(0.0, crate::api::Share::fraction);
    let clumps = chance.count(number * SORTS + ERRORS, requests * share / f64::from(clump));
    let errors = clumps.saturating_mul(u64::from(clump));
    let good = chance.count(number * SORTS + REQUESTS, requests * (1.0 - share));
    let requests = good.saturating_add(errors);
    let slower = arm.latency.map(|latency| slower(chance, latency, requests, bounds)).unwrap_or_default();
    Counts { requests, errors, slower }
}

/// How many requests took longer than each of the bounds: of those that took longer than one, some took longer than the
/// next.
fn slower(chance: &mut Chance, latency: Latency, requests: u64, bounds: &[Bound]) -> BTreeMap<Bound, u64> {
    let (mut left, mut before) = (requests, 1.0);
    let mut slower = BTreeMap::new();
    for bound in bounds {
        let longer = longer(latency, *bound);
        left = match chance {
            // Each by itself, so that no rounding adds up.
            Chance::None(_) => chance.of(requests, longer).min(left),
            Chance::Drawn(_) if before > 0.0 => chance.of(left, longer / before),
            Chance::Drawn(_) => 0,
        };
        before = longer;
        slower.insert(*bound, left);
    }
    slower
}

/// The share of requests that take longer than `bound`.
pub(super) fn longer(latency: Latency, bound: Bound) -> f64 {
    let (median, p99) = (latency.median.0.as_secs_f64(), latency.p99.0.as_secs_f64());
    let deviation = (p99 / median).ln() / P99;
    let distance = (float(bound.0) / 1e6 / median).ln() / deviation;
    libm::erfc(distance / std::f64::consts::SQRT_2) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GoDuration;

    #[test]
    fn latencies_have_the_quantiles_that_were_asked_for() {
        let latency = Latency { median: GoDuration::seconds(1), p99: GoDuration::seconds(4) };
        for (seconds, expected) in [(1.0, 0.5), (4.0, 0.01), (0.25, 0.99)] {
            let share = longer(latency, Bound::from_seconds(seconds).unwrap());
            assert!((share - expected).abs() < 1e-9, "{share} of the requests take longer than {seconds}s");
        }
    }

    #[test]
    fn a_longer_time_is_exceeded_by_fewer() {
        let latency = Latency { median: GoDuration::seconds(1), p99: GoDuration::seconds(4) };
        let bounds: Vec<Bound> = (1..40).map(|tenths| Bound(tenths * 100_000)).collect();
        for seed in [None, Some(1), Some(2)] {
            let slower = slower(&mut Chance::new(seed), latency, 1000, &bounds);
            let counts: Vec<u64> = slower.into_values().collect();
            assert!(counts.is_sorted_by(|one, next| one >= next), "{counts:?}");
        }
    }
}
