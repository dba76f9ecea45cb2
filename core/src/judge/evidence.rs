//! What the looks of one step saw, kept small.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bound, Comparison, Indicator, Look, Measurement, packed::Packed};
use crate::{api::GoDuration, plan::PlannedCheck};

/// How many blocks are kept. Above that neighbours are merged, the oldest first, so that the newest looks stay apart
/// and a status stays a few kilobytes.
const KEPT_BLOCKS: usize = 32;

/// What the looks of one step saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// Looks or merged neighbours, oldest first.
    blocks: Vec<Block>,
    /// Requests that the canary answered in this step.
    pub requests: u64,
    /// Comparisons with stable, by check: they go on through all steps of a revision. Boxed, because a node of the map has
    /// room for eleven.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    comparisons: BTreeMap<String, Box<Comparison>>,
}

/// One look, or several neighbours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Block {
    /// Age of the step at the newest look in it.
    until: GoDuration,
    stable: Packed,
    canary: Packed,
}

/// The newest looks, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// What stable answered.
    pub(super) stable: Packed,
    /// What the canary answered in the same time.
    pub(super) canary: Packed,
}

impl Evidence {
    /// Adds what one look saw when the step was `age` old. Of slow requests only what the `limits` need is kept.
    pub fn add(&mut self, age: Duration, seen: &Measurement, limits: &[Bound]) {
        self.requests = self.requests.saturating_add(seen.canary.requests);
        if self.blocks.len() >= KEPT_BLOCKS {
            self.merge();
        }
        self.blocks.push(Block {
            until: age.into(),
            stable: Packed::near(&seen.stable, limits),
            canary: Packed::near(&seen.canary, limits),
        });
    }

    /// Adds what one look saw to the comparisons of `checks`.
    pub fn compare<'a>(&mut self, checks: impl Iterator<Item = &'a PlannedCheck>, look: &Look) {
        for check in checks {
            let Some((versus, indicator)) = check.comparison() else { continue };
            let Some(seen) = indicator.seen(&check.name, look) else { continue };
            let add = |comparison: &mut Comparison| comparison.add(versus, indicator, seen, &look.history);
            // Nearly always it is there, and its name need not be copied.
            if let Some(comparison) = self.comparisons.get_mut(&check.name) {
                add(comparison);
            } else {
                add(self.comparisons.entry(check.name.clone()).or_default());
            }
        }
    }

    /// Whether one of the `checks` compares requests and has not begun to: the history of stable is of use then.
    pub fn lacks_history<'a>(&self, mut checks: impl Iterator<Item = &'a PlannedCheck>) -> bool {
        checks.any(|check| {
            let of_requests = matches!(check.comparison(), Some((_, Indicator::Errors | Indicator::Latency)));
            of_requests
                && self.comparisons.get(&check.name).is_none_or(|comparison| comparison.has_not_begun())
        })
    }

    /// What is left of it when the next step begins: the comparisons.
    #[must_use]
    pub fn carried_over(&self) -> Self {
        Self { comparisons: self.comparisons.clone(), ..Self::default() }
    }

    /// The comparison of a check, if anything was seen.
    pub(super) fn comparison(&self, check: &str) -> Option<&Comparison> {
        self.comparisons.get(check).map(Box::as_ref)
    }

    /// The looks of the last `length` before the step was `age` old, stretched back until the canary answered
    /// `min_requests`, or to the start of the step; none that was made before the step was `not_before` old.
    pub(super) fn window(
        &self,
        age: Duration,
        length: Duration,
        min_requests: u64,
        not_before: Duration,
    ) -> Window {
        let mut window = Window::default();
        let start = age.saturating_sub(length);
        for block in self.blocks.iter().rev().take_while(|block| block.until.0 >= not_before) {
            if block.until.0 <= start && window.canary.requests >= min_requests {
                break;
            }
            window.stable.add(&block.stable);
            window.canary.add(&block.canary);
        }
        window
    }

    /// Merges pairs of neighbours in the older half.
    fn merge(&mut self) {
        let half = KEPT_BLOCKS / 2;
        for pair in self.blocks[..half].chunks_exact_mut(2) {
            let [older, newer] = pair else { continue };
            newer.stable.add(&older.stable);
            newer.canary.add(&older.canary);
        }
        // The newer of each pair stays.
        let mut index = 0;
        self.blocks.retain(|_| {
            index += 1;
            index > half || index % 2 == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Counts, *};

    fn seen(requests: u64, errors: u64) -> Measurement {
        let counts = Counts { requests, errors, slower: BTreeMap::new() };
        Measurement { stable: counts.clone(), canary: counts, retiring: BTreeMap::new() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_reaches_back_its_length_and_no_further() {
        let mut evidence = Evidence::default();
        evidence.add(at(10), &seen(100, 50), &[]);
        evidence.add(at(20), &seen(100, 1), &[]);
        evidence.add(at(30), &seen(100, 2), &[]);
        let window = evidence.window(at(30), at(20), 50, Duration::ZERO);
        assert_eq!((window.canary.requests, window.canary.errors), (200, 3));
    }

    #[test]
    fn a_window_is_stretched_until_enough_requests_are_in_it() {
        let mut evidence = Evidence::default();
        for second in 1..=10 {
            evidence.add(at(second), &seen(5, 0), &[]);
        }
        assert_eq!(evidence.window(at(10), at(2), 30, Duration::ZERO).canary.requests, 30);
        assert_eq!(evidence.window(at(10), at(2), 1000, Duration::ZERO).canary.requests, 50);
    }

    #[test]
    fn a_bound_that_one_look_lacks_is_not_known_of_the_sum() {
        let slower = |bounds: &[u64]| Counts {
            requests: 10,
            errors: 0,
            slower: bounds.iter().map(|b| (Bound(*b), 1)).collect(),
        };
        let mut evidence = Evidence::default();
        for bounds in [&[100, 500][..], &[100]] {
            let seen = Measurement { canary: slower(bounds), ..Measurement::default() };
            evidence.add(at(1), &seen, &[Bound(100), Bound(500)]);
        }
        let window = evidence.window(at(1), at(5), 0, Duration::ZERO);
        let canary = &window.canary;
        assert_eq!((canary.slower_than(Bound(100)), canary.slower_than(Bound(500))), (Some(2), None));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_many_looks_there_were(looks in proptest::collection::vec((0u64..1000, 0u64..10), 0..300)) {
            let mut evidence = Evidence::default();
            for (second, (requests, errors)) in looks.iter().enumerate() {
                evidence.add(at(second as u64), &seen(*requests, *errors), &[]);
            }
            prop_assert!(evidence.blocks.len() <= KEPT_BLOCKS);
            let all = evidence.window(at(1000), at(2000), u64::MAX, Duration::ZERO);
            prop_assert_eq!(all.canary.requests, looks.iter().map(|(requests, _)| requests).sum::<u64>());
            prop_assert_eq!(all.canary.errors, looks.iter().map(|(_, errors)| errors).sum::<u64>());
            prop_assert_eq!(evidence.requests, all.canary.requests);
        }
    }
}
