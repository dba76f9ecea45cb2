//! How much more the bad answers of stable vary from look to look than chance alone would have it.

use serde::{Deserialize, Serialize};

use super::fixed::Fixed;

/// So many looks at stable are needed before its dispersion is believed.
pub const LOOKS: u32 = 10;

/// What is thought of stable before anything was seen: that its bad answers come in clumps of about so many, as if so many
/// pairs of looks had said so. On little traffic ten looks see one clump or none, and would take it for chance.
const CLUMPS: f64 = 5.0;
const THOUGHT: f64 = 2.0;

/// Retries, bursts and clients that send in batches make bad answers come in clumps. A test that takes each of them as a
/// witness of its own would then be far too sure, so its evidence is divided by φ. Of the `m = s_t + s_{t−1}` bad answers of two
/// looks in a row, among `n_t` and `n_{t−1}` requests, chance alone gives the later look a binomial share of
/// `n_t / (n_t + n_{t−1})`. φ is the mean, 1 at least, of how much more the square of the difference is than that has it:
/// `(s_t n_{t−1} − s_{t−1} n_t)² / (m n_t n_{t−1})`, where the looks are alike `(s_t − s_{t−1})² / m`. A pair tells the less the
/// less alike its looks are, so that its weight is `4 n_t n_{t−1} / (n_t + n_{t−1})²`: one request beside thousands says nothing.
/// Other traffic, as after a step, does therefore not look like clumps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dispersion {
    /// Looks that were seen.
    pub looks: u32,
    /// Bad answers and requests of the last one.
    latest: Option<(u64, u64)>,
    /// What the pairs of neighbours with any bad answer weigh, and the sum of their terms by weight.
    weight: Fixed,
    spread: Fixed,
}

impl Dispersion {
    /// Takes in how many bad answers stable gave between two looks, of so many; a look without requests tells nothing.
    #[allow(clippy::cast_precision_loss)] // a difference of counts that large is a clump in any case
    pub fn saw(&mut self, bad: u64, requests: u64) {
        if requests == 0 {
            return;
        }
        self.looks = self.looks.saturating_add(1);
        let Some((last, before)) = self.latest.replace((bad, requests)) else { return };
        let both = bad as f64 + last as f64;
        if both > 0.0 {
            let share = requests as f64 / (requests as f64 + before as f64);
            let difference = bad as f64 * (1.0 - share) - last as f64 * share;
            self.weight.add(4.0 * share * (1.0 - share));
            self.spread.add(4.0 * difference * difference / both);
        }
    }

    /// φ, 1 at least; nothing until stable was seen [`LOOKS`] times.
    pub fn factor(&self) -> Option<f64> {
        if self.looks < LOOKS {
            return None;
        }
        let (spread, weight) = (self.spread.get() + THOUGHT * CLUMPS, self.weight.get() + THOUGHT);
        Some((spread / weight).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(bad: &[u64]) -> Option<f64> {
        let mut dispersion = Dispersion::default();
        bad.iter().for_each(|bad| dispersion.saw(*bad, 1000));
        dispersion.factor()
    }

    #[test]
    fn it_is_known_after_ten_looks_and_never_below_one() {
        assert_eq!(factor(&[3; 9]), None);
        assert_eq!(factor(&[3; 100]), Some(1.0));
        assert_eq!(factor(&[0; 100]), Some(CLUMPS));
    }

    #[test]
    fn clumps_of_five_are_seen() {
        let factor = factor(&[0, 5, 0, 0, 10, 5, 0, 5, 0, 0, 5, 10]).unwrap();
        assert!((4.0..7.0).contains(&factor), "{factor}");
    }

    #[test]
    fn other_traffic_is_no_clump() {
        let mut dispersion = Dispersion::default();
        // 1% each time, of ever other traffic, as where steps take stable's share.
        [1000, 900, 500, 100, 2000, 0, 1000]
            .iter()
            .cycle()
            .take(1000)
            .for_each(|n| dispersion.saw(n / 100, *n));
        assert_eq!(dispersion.factor(), Some(1.0));
    }

    #[test]
    fn clumps_are_seen_in_any_traffic_and_one_request_beside_thousands_says_little() {
        let mut clumps = Dispersion::default();
        let looks = [(0, 1000), (5, 500), (0, 2000), (10, 1000), (0, 800), (15, 1500)];
        looks.iter().cycle().take(100).for_each(|(bad, all)| clumps.saw(*bad, *all));
        assert!(clumps.factor().unwrap() > 4.0, "{clumps:?}");
        let mut one = Dispersion::default();
        (0..100).for_each(|look| one.saw(10, if look == 50 { 1 } else { 1000 }));
        assert!(one.factor().unwrap() < 2.0, "{one:?}");
    }

    #[test]
    fn the_largest_counts_are_numbers_still() {
        let mut counts = [0; 10];
        counts[5] = u64::MAX;
        assert!(factor(&counts).unwrap().is_finite());
    }
}
