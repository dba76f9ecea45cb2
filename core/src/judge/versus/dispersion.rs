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
/// witness of its own would then be far too sure, so its evidence is divided by
/// `φ = max(1, mean((s_t − s_{t−1})² / (s_t + s_{t−1})))` over consecutive looks with any bad answer, which is 1 where chance
/// alone is at work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dispersion {
    /// Looks that were seen.
    pub looks: u32,
    last: Option<u64>,
    /// Pairs of neighbours with any bad answer, and the sum of their terms.
    pairs: u32,
    sum: Fixed,
}

impl Dispersion {
    /// Takes in how many bad answers stable gave between two looks.
    #[allow(clippy::cast_precision_loss)] // a difference of counts that large is a clump in any case
    pub fn saw(&mut self, bad: u64) {
        self.looks = self.looks.saturating_add(1);
        if let Some(last) = self.last.replace(bad)
            && bad.saturating_add(last) > 0
        {
            let difference = bad.abs_diff(last) as f64;
            self.sum.add(difference * difference / (bad as f64 + last as f64));
            self.pairs = self.pairs.saturating_add(1);
        }
    }

    /// φ, 1 at least; nothing until stable was seen [`LOOKS`] times.
    pub fn factor(&self) -> Option<f64> {
        if self.looks < LOOKS {
            return None;
        }
        let (sum, pairs) = (self.sum.get() + THOUGHT * CLUMPS, f64::from(self.pairs) + THOUGHT);
        Some((sum / pairs).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(bad: &[u64]) -> Option<f64> {
        let mut dispersion = Dispersion::default();
        bad.iter().for_each(|bad| dispersion.saw(*bad));
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
    fn the_largest_counts_are_numbers_still() {
        let mut counts = [0; 10];
        counts[5] = u64::MAX;
        assert!(factor(&counts).unwrap().is_finite());
    }
}
