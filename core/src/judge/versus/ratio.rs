//! The e-process for the ratio of two rates of rare events.
//!
//! Of `c + s` bad requests of both arms, each is the canary's with probability `q·r / (q·r + 1 − q)`, where `q` is the
//! share of the requests that the canary really got and `r` the ratio of the two rates: whatever the base rate is, and
//! however it moves, as long as it moves for both. The likelihood of `r` is multiplied over the looks, and the ratio of
//! two likelihoods is a martingale under the hypothesis in its denominator, so that it may be looked at as often as one
//! likes (Ville's inequality). Sources: Howard, Ramdas et al. 2021; Lindon and Malek, arXiv 2011.03567.

use std::sync::LazyLock;

/// Ratios that a canary which is worse may have, in units of the largest ratio that is all right.
const WORSE: [f64; 8] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
/// Ratios that a canary which is no worse may have, in units of the ratio that it must be shown to be below.
const BETTER: [f64; 3] = [0.25, 0.5, 0.625];
/// Where the interval of the ratio may begin and end.
const INTERVAL: [f64; 19] =
    [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// What one look saw of both arms: how many requests there were, and how many of them were bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Bad requests of the canary.
    pub canary_bad: u64,
    /// Bad requests of stable.
    pub stable_bad: u64,
    /// Requests of the canary.
    pub canary: u64,
    /// Requests of stable.
    pub stable: u64,
}

impl Pair {
    /// Stable in the canary's place.
    pub fn turned(self) -> Self {
        Self {
            canary_bad: self.stable_bad,
            stable_bad: self.canary_bad,
            canary: self.stable,
            stable: self.canary,
        }
    }
}

/// The ratios whose likelihoods are kept for a test between `max` (the largest ratio that is all right) and `clear`
/// (the ratio that the canary is cleared below), and their logarithms.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    ratios: [(f64, f64); Grid::LEN],
}

const MAX: usize = 0;
const CLEAR: usize = 1;
const WORSE_FROM: usize = 2;
const BETTER_FROM: usize = WORSE_FROM + WORSE.len();
const INTERVAL_FROM: usize = BETTER_FROM + BETTER.len();

/// What the ratios are of their units, and the logarithms: they are the same for every test, and take the time.
static FACTORS: LazyLock<[(f64, f64); Grid::LEN]> = LazyLock::new(|| {
    let all = [1.0, 1.0].into_iter().chain(WORSE).chain(BETTER).chain(INTERVAL);
    let mut factors = [(1.0, 0.0); Grid::LEN];
    factors.iter_mut().zip(all).for_each(|(factor, one)| *factor = (one, one.ln()));
    factors
});

impl Grid {
    /// How many ratios there are.
    pub const LEN: usize = INTERVAL_FROM + INTERVAL.len();

    /// The grid of a test.
    pub fn new(max: f64, clear: f64) -> Self {
        let [max, clear, one] = [max, clear, 1.0].map(|unit| (unit, unit.ln()));
        let mut ratios = *FACTORS;
        for (index, (ratio, log)) in ratios.iter_mut().enumerate() {
            let (unit, log_of_unit) = match index {
                MAX | WORSE_FROM..BETTER_FROM => max,
                CLEAR | BETTER_FROM..INTERVAL_FROM => clear,
                _ => one,
            };
            *ratio *= unit;
            *log += log_of_unit;
        }
        Self { ratios }
    }

    /// What looks add in which the arms answered so many requests.
    pub fn seen_by(&self, canary: u64, stable: u64) -> Added {
        let all = to_float(canary) + to_float(stable);
        let share = if all > 0.0 { to_float(canary) / all } else { 0.0 };
        let logs = |(ratio, log): (f64, f64)| (log, (share * (ratio - 1.0)).ln_1p());
        Added { answered: (canary > 0, stable > 0), logs: self.ratios.map(logs) }
    }

    /// What a look adds to the log-likelihood of each ratio.
    #[cfg(test)]
    pub fn log_likelihoods(&self, seen: Pair) -> Vec<f64> {
        self.seen_by(seen.canary, seen.stable).log_likelihoods(seen.canary_bad, seen.stable_bad).collect()
    }
}

/// What a look adds, whatever is counted: the logarithms are the same for all bounds of a histogram, and take the time.
#[derive(Clone, Debug)]
pub struct Added {
    /// Whether the canary and stable answered anything.
    answered: (bool, bool),
    /// Of each ratio, and of how it makes the canary's bad answers more of all.
    logs: [(f64, f64); Grid::LEN],
}

impl Added {
    /// To the log-likelihood of each ratio, up to a constant that they share: always finite.
    pub fn log_likelihoods(&self, canary_bad: u64, stable_bad: u64) -> impl Iterator<Item = f64> {
        // An arm that answered nothing can have no bad answers; should its counters say so, they tell nothing.
        let canary_bad = if self.answered.0 { to_float(canary_bad) } else { 0.0 };
        let stable_bad = if self.answered.1 { to_float(stable_bad) } else { 0.0 };
        self.logs.iter().map(move |(ratio, more)| canary_bad * ratio - (canary_bad + stable_bad) * more)
    }
}

/// The logarithm of the evidence that the ratio is above the grid's `max`; `sums` are the log-likelihoods of its ratios.
/// At 1/α or more the hypothesis "at most `max`" is refuted with an error of at most α.
pub fn log_worse(sums: &[f64]) -> f64 {
    log_mean_exp(sums[WORSE_FROM..BETTER_FROM].iter().copied()) - sums[MAX]
}

/// The logarithm of the evidence that the ratio is below the grid's `clear`.
pub fn log_better(sums: &[f64]) -> f64 {
    log_mean_exp(sums[BETTER_FROM..INTERVAL_FROM].iter().copied()) - sums[CLEAR]
}

/// The ratios that are not refuted with an error of `alpha`, whenever one looks: from, and to where there is an end.
pub fn interval(sums: &[f64], alpha: f64) -> (f64, Option<f64>) {
    let sums = &sums[INTERVAL_FROM..];
    let refuted = log_mean_exp(sums.iter().copied()) + alpha.ln();
    let stands = |index: &usize| sums[*index] > refuted;
    let indices = 0..INTERVAL.len();
    // The end lies between the last ratio that stands and the first that is refuted: the latter is said.
    let from = indices.clone().find(stands).and_then(|index| index.checked_sub(1));
    let to = indices.rev().find(stands).and_then(|index| INTERVAL.get(index + 1));
    (from.map_or(0.0, |index| INTERVAL[index]), to.copied())
}

/// The logarithm of the mean of what `logs` are the logarithms of.
pub fn log_mean_exp(logs: impl IntoIterator<Item = f64, IntoIter: Clone>) -> f64 {
    let logs = logs.into_iter();
    let (largest, number) = logs
        .clone()
        .fold((f64::NEG_INFINITY, 0.0), |(largest, number), log| (log.max(largest), number + 1.0));
    if !largest.is_finite() {
        return f64::NEG_INFINITY;
    }
    let sum: f64 = logs.map(|log| (log - largest).exp()).sum();
    largest + (sum / number).ln()
}

#[allow(clippy::cast_precision_loss)] // counts up to 2^53 are exact, and above that nobody can tell
fn to_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums(looks: &[(u64, u64, u64, u64)], max: f64) -> Vec<f64> {
        let grid = Grid::new(max, 2.0 * max);
        let mut sums = vec![0.0; Grid::LEN];
        for &(canary_bad, stable_bad, canary, stable) in looks {
            let seen = Pair { canary_bad, stable_bad, canary, stable };
            sums.iter_mut().zip(grid.log_likelihoods(seen)).for_each(|(sum, more)| *sum += more);
        }
        sums
    }

    #[test]
    fn the_evidence_is_what_two_independent_programs_computed() {
        for (looks, max, expected) in [
            (&[(3, 9, 100, 900)][..], 1.0, 0.368_773),
            (&[(10, 90, 1000, 9000)], 1.0, -1.815_637),
            (&[(30, 90, 1000, 9000)], 1.0, 9.207_018),
            (&[(5, 10, 500, 9500), (8, 12, 1000, 9000)], 1.0, 10.157_897),
            (&[(30, 90, 1000, 9000)], 1.5, 3.194_032),
        ] {
            let log_e = log_worse(&sums(looks, max));
            assert!((log_e - expected).abs() < 1e-6, "{looks:?}: {log_e} is not {expected}");
        }
    }

    #[test]
    fn a_look_without_requests_of_one_arm_says_nothing() {
        for look in [(0, 5, 0, 100), (5, 0, 100, 0), (0, 0, 0, 0), (7, 0, 0, 100)] {
            for sum in sums(&[look], 1.0) {
                assert!(sum.abs() < 1e-9, "{look:?} changed the evidence by {sum}");
            }
        }
    }

    #[test]
    fn the_interval_holds_the_ratio_and_shrinks() {
        let few = interval(&sums(&[(30, 90, 1000, 9000)], 1.0), 0.01);
        let many = interval(&sums(&[(3000, 9000, 100_000, 900_000)], 1.0), 0.01);
        assert_eq!((few, many), ((1.25, Some(10.0)), (2.0, Some(5.0))));
        assert_eq!(interval(&sums(&[], 1.0), 0.01), (0.0, None));
    }

    #[test]
    fn what_is_below_the_limit_is_cleared_in_time() {
        assert!(log_better(&sums(&[(1000, 9000, 100_000, 900_000)], 1.0)) > 100_f64.ln());
        assert!(log_better(&sums(&[(2000, 9000, 100_000, 900_000)], 1.0)) < 0.0);
    }

    proptest! {
        #[test]
        fn no_count_makes_it_no_number(
            looks in proptest::collection::vec((0..=1_000_000_000_000_000_u64, 0..=1_000_000_000_000_000_u64, 0..=1_000_000_000_000_000_u64, 0..=1_000_000_000_000_000_u64), 0..5),
            max in 1.0..1000.0_f64,
        ) {
            let sums = sums(&looks, max);
            prop_assert!(log_worse(&sums).is_finite() && log_better(&sums).is_finite());
            let (from, to) = interval(&sums, 0.01);
            prop_assert!(from >= 0.0 && to.is_none_or(|to| to > from));
        }
    }
}
