//! Many rehearsals of one scenario, each by another chance.

use std::time::Duration;

use super::{Ending, Timeline};
use crate::machine::Outcome;

/// Of so many standard deviations is the interval that holds a share in 95 of 100 cases.
const DEVIATIONS: f64 = 1.959_963_984_540_054;

/// How many rehearsals ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those in which the canary became stable.
    pub promoted: u64,
    /// Those in which it lost its traffic.
    pub over: u64,
    /// Those that did not end.
    pub held: u64,
    /// When it was rolled back, in those in which a check or a lost endpoint did it.
    rollbacks: Vec<Duration>,
    /// Bad answers that users got from the canary, in all of them.
    pub errors: u64,
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, timeline: &Timeline) {
        self.errors += timeline.users.errors;
        match &timeline.ending {
            Ending::Promoted => self.promoted += 1,
            Ending::Held(_) => self.held += 1,
            Ending::Over { outcome, at, .. } => {
                self.over += 1;
                if *outcome == Outcome::RolledBack {
                    self.rollbacks.push(*at);
                }
            }
        }
    }

    /// Adds those that others counted.
    pub fn join(&mut self, other: Self) {
        self.promoted += other.promoted;
        self.over += other.over;
        self.held += other.held;
        self.errors += other.errors;
        self.rollbacks.extend(other.rollbacks);
    }

    /// How many there were.
    pub fn runs(&self) -> u64 {
        self.promoted + self.over + self.held
    }

    /// How many were rolled back.
    pub fn rolled_back(&self) -> usize {
        self.rollbacks.len()
    }

    /// When that was, in `share` of them at the latest; nothing where none was.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // indices
    pub fn time_to_rollback(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.rollbacks.clone();
        sorted.sort_unstable();
        let index = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        sorted.get(index.saturating_sub(1)).copied()
    }

    /// Between which shares the true share of `count` of all runs lies, in 95 of 100 cases: Wilson's interval (Wilson 1927).
    #[allow(clippy::cast_precision_loss)] // nobody waits for so many
    pub fn interval(&self, count: u64) -> (f64, f64) {
        let n = self.runs() as f64;
        if n == 0.0 {
            return (0.0, 1.0);
        }
        let (share, z) = (count as f64 / n, DEVIATIONS);
        let centre = share + z * z / (2.0 * n);
        let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // Published example: 8 of 10 gives 0.490 to 0.943.
        let tally = Tally { promoted: 8, held: 2, ..Tally::default() };
        let (from, to) = tally.interval(8);
        assert!((from - 0.490_162).abs() < 1e-5 && (to - 0.943_318).abs() < 1e-5, "{from} {to}");
        assert_eq!(tally.interval(0).0.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn times_are_those_that_so_many_do_not_exceed() {
        let rollbacks = (1..=20).rev().map(Duration::from_secs).collect();
        let tally = Tally { over: 20, rollbacks, ..Tally::default() };
        assert_eq!(tally.time_to_rollback(0.5), Some(Duration::from_secs(10)));
        assert_eq!(tally.time_to_rollback(0.95), Some(Duration::from_secs(19)));
        assert_eq!(Tally::default().time_to_rollback(0.5), None);
    }
}
