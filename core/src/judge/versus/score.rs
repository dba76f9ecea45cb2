//! The sequential sign test for numbers that are no counts: accuracies, scores, gauges.
//!
//! Nothing is known of how such numbers are distributed, so only this is used: if the canary is no worse than `r` times
//! stable, then in each pair of numbers it is above `r` times stable's with a chance of at most one half, whatever else the
//! two do. The likelihood ratio of a chance above one half against one half is then, at any time, on average at most 1
//! (Ville's inequality), and so is its mean over several chances. Source: the sign test as a test martingale, in Howard,
//! Ramdas et al. 2021 and Shafer, Vovk: Game-Theoretic Foundations for Probability and Finance (2019).
//!
//! Pairs that follow one another closely share what they saw, and are one witness rather than two. So pairs are taken a window
//! apart, and what they still have in common is estimated by their correlation from one to the next, ρ: the logarithm of
//! the evidence is divided by `φ = (1 + ρ) / (1 − ρ)`, the factor by which correlated sums vary more than independent ones.

use serde::{Deserialize, Serialize};

use super::{fixed::Fixed, ratio::log_mean_exp};
use crate::{api::Direction, plan::Versus};

/// So many pairs are needed before anything is said.
pub const PAIRS: u32 = 5;
/// Chances of being worse that a worse canary may have.
const CHANCES: [f64; 5] = [0.6, 0.7, 0.8, 0.9, 0.97];
/// Where the interval of the ratio may begin and end.
const INTERVAL: [f64; 21] = [
    0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0, 1.005, 1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0,
    5.0, 10.0,
];
const MAX: usize = 0;
const CLEAR: usize = 1;
const INTERVAL_FROM: usize = 2;
const LEN: usize = INTERVAL_FROM + INTERVAL.len();

/// What is thought of the correlation before anything was seen, as if so many pairs had said so.
const CORRELATION: f64 = 0.5;
const THOUGHT: f64 = 8.0;
/// More than this two pairs are not said to have in common: they would say nothing at all.
const MOST: f64 = 0.98;

/// What the pairs of one revision say about the canary against stable. What is "over" here is the one that must not be
/// above the other: the canary where more is worse, stable where more is better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Scores {
    /// Looks to be passed over before the next pair is taken.
    wait: u32,
    /// Pairs that were taken.
    pub pairs: u32,
    canary: Fixed,
    stable: Fixed,
    /// How often it was above and below each ratio of the grid.
    above: Vec<u32>,
    below: Vec<u32>,
    likeness: Likeness,
}

/// How much pairs have in common with those before them, by their relative differences in per mille. They are kept as
/// distances from the first one: what is a small change of a large number would else be lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Likeness {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Fixed>,
    last: Fixed,
    sum: Fixed,
    squares: Fixed,
    /// Squared changes from one pair to the next.
    changes: Fixed,
}

impl Scores {
    /// Takes in what a look saw of the canary and of stable, where it is not too near the one before. Numbers below 0, and
    /// those that are none, have no ratio.
    pub fn add(&mut self, versus: &Versus, direction: Direction, apart: u32, (canary, stable): (f64, f64)) {
        let usable = |number: f64| number.is_finite() && number >= 0.0;
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        if !usable(canary) || !usable(stable) {
            return;
        }
        self.wait = apart.saturating_sub(1);
        // Written by another version: it starts anew.
        if !self.is_whole() {
            *self = Self { wait: self.wait, above: vec![0; LEN], below: vec![0; LEN], ..Self::default() };
        }
        self.pairs = self.pairs.saturating_add(1);
        self.canary.add(canary);
        self.stable.add(stable);
        let (over, under) = match direction {
            Direction::MoreIsWorse => (canary, stable),
            Direction::MoreIsBetter => (stable, canary),
        };
        for ((above, below), ratio) in self.above.iter_mut().zip(&mut self.below).zip(grid(versus)) {
            // Where both are the same nobody is worse.
            *above = above.saturating_add(u32::from(over > ratio * under));
            *below = below.saturating_add(u32::from(over < ratio * under));
        }
        self.likeness.saw(over, under);
    }

    /// Whether it is of this version: a status may hold another one's.
    pub fn is_whole(&self) -> bool {
        self.above.len() == LEN && self.below.len() == LEN
    }

    /// The mean of what was compared: the canary's and stable's.
    pub fn means(&self) -> (f64, f64) {
        let pairs = f64::from(self.pairs.max(1));
        (self.canary.get() / pairs, self.stable.get() / pairs)
    }

    /// The logarithm of the evidence that it is above the largest ratio that is all right.
    pub fn log_worse(&self) -> f64 {
        self.evidence(self.above[MAX], self.below[MAX])
    }

    /// The logarithm of the evidence that it is below the ratio at which the canary is cleared.
    pub fn log_better(&self) -> f64 {
        self.evidence(self.below[CLEAR], self.above[CLEAR])
    }

    /// The ratios that are refuted from neither side with an error of `alpha` in all, whenever one looks.
    pub fn interval(&self, alpha: f64) -> (f64, Option<f64>) {
        let needed = (2.0 / alpha).ln();
        let ratios = || INTERVAL.into_iter().zip(self.above.iter().zip(&self.below).skip(INTERVAL_FROM));
        let refuted = |one: u32, other: u32| one > other && self.evidence(one, other) >= needed;
        let from = ratios().rev().find(|(_, (above, below))| refuted(**above, **below));
        let to = ratios().find(|(_, (above, below))| refuted(**below, **above));
        (from.map_or(0.0, |(ratio, _)| ratio), to.map(|(ratio, _)| ratio))
    }

    /// The logarithm of the evidence that the chance of the one is above that of the other.
    fn evidence(&self, one: u32, other: u32) -> f64 {
        let factor = self.likeness.factor(self.pairs);
        let logs = CHANCES.map(|chance| {
            (f64::from(one) * (2.0 * chance).ln() + f64::from(other) * (2.0 * (1.0 - chance)).ln()) / factor
        });
        log_mean_exp(logs)
    }
}

impl Likeness {
    fn saw(&mut self, over: f64, under: f64) {
        let sum = over + under;
        let difference = if sum > 0.0 { 1000.0 * (over - under) / sum } else { 0.0 };
        let first = self.first.get_or_insert(Fixed::new(difference)).get();
        let now = Fixed::new(difference - first);
        let change = now.get() - self.last.get();
        self.last = now;
        self.sum.add(now.get());
        self.squares.add(now.get() * now.get());
        self.changes.add(change * change);
    }

    /// φ, 1 at least, after so many pairs. The correlation is von Neumann's: of independent numbers the mean squared change
    /// is twice the variance.
    fn factor(&self, pairs: u32) -> f64 {
        let (pairs, neighbours) = (f64::from(pairs), f64::from(pairs.saturating_sub(1)));
        let mean = self.sum.get() / pairs.max(1.0);
        let variance = self.squares.get() / pairs.max(1.0) - mean * mean;
        let change = self.changes.get() / neighbours.max(1.0);
        // What does not vary at all says nothing about how it does.
        let seen =
            if variance > 1e-6 { (1.0 - change / (2.0 * variance)).clamp(0.0, MOST) } else { CORRELATION };
        let correlation = (seen * neighbours + CORRELATION * THOUGHT) / (neighbours + THOUGHT);
        (1.0 + correlation) / (1.0 - correlation)
    }
}

fn grid(versus: &Versus) -> impl Iterator<Item = f64> {
    [versus.max_ratio, versus.clear_ratio].into_iter().chain(INTERVAL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERSUS: Versus = Versus { max_ratio: 1.05, alpha: 0.01, clear_ratio: 1.1, prove: false };

    fn after(pairs: u32, canary: f64, stable: f64) -> Scores {
        let mut scores = Scores::default();
        for pair in 0..pairs {
            // They vary a little, and not in step.
            let wobble = 1.0 + 0.001 * f64::from(pair * 7 % 5);
            scores.add(&VERSUS, Direction::MoreIsBetter, 1, (canary * wobble, stable));
        }
        scores
    }

    #[test]
    fn a_score_that_is_too_low_is_found_after_some_pairs() {
        let needed = 100_f64.ln();
        assert!(after(8, 0.8, 0.9).log_worse() < needed);
        assert!(after(16, 0.8, 0.9).log_worse() > needed);
        assert!(after(100, 0.88, 0.9).log_worse() < 0.0, "2% are all right");
    }

    #[test]
    fn one_that_is_as_good_is_cleared_and_the_interval_holds_the_ratio() {
        let scores = after(60, 0.9, 0.9);
        assert!(scores.log_better() > 100_f64.ln());
        let (from, to) = scores.interval(0.01);
        assert!(from < 1.0 && to.is_some_and(|to| to >= 1.0), "{from} {to:?}");
    }

    #[test]
    fn scores_of_another_version_start_anew() {
        let mut scores: Scores = serde_json::from_str(r#"{"pairs": 10, "above": [1]}"#).unwrap();
        assert!(!scores.is_whole());
        scores.add(&VERSUS, Direction::MoreIsBetter, 1, (0.8, 0.9));
        assert!(scores.is_whole() && scores.pairs == 1);
    }

    #[test]
    fn only_one_look_in_a_window_counts() {
        let mut scores = Scores::default();
        for _ in 0..20 {
            scores.add(&VERSUS, Direction::MoreIsBetter, 5, (0.8, 0.9));
        }
        assert_eq!(scores.pairs, 4);
    }

    #[test]
    fn pairs_that_are_like_those_before_are_worth_less() {
        let mut slow = Scores::default();
        let mut quick = Scores::default();
        for pair in 0_u32..40 {
            let waves = |length: u32| if (pair / length).is_multiple_of(2) { 0.70 } else { 0.80 };
            slow.add(&VERSUS, Direction::MoreIsBetter, 1, (waves(10), 0.9));
            quick.add(&VERSUS, Direction::MoreIsBetter, 1, (waves(1), 0.9));
        }
        assert!(slow.log_worse() < quick.log_worse() / 3.0, "{} {}", slow.log_worse(), quick.log_worse());
    }

    #[test]
    fn the_same_numbers_are_no_evidence() {
        let mut scores = Scores::default();
        (0..50).for_each(|_| scores.add(&VERSUS, Direction::MoreIsWorse, 1, (0.0, 0.0)));
        assert!(scores.log_worse().abs() < 1e-9 && scores.log_better().abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn no_number_makes_it_none(
            pairs in proptest::collection::vec((proptest::num::f64::ANY, proptest::num::f64::ANY), 0..40),
        ) {
            let mut scores = after(1, 1.0, 1.0);
            pairs.into_iter().for_each(|pair| scores.add(&VERSUS, Direction::MoreIsWorse, 1, pair));
            prop_assert!(scores.log_worse().is_finite() && scores.log_better().is_finite());
            let (canary, stable) = scores.means();
            prop_assert!(canary.is_finite() && stable.is_finite());
        }
    }
}
