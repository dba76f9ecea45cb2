//! Counts in as little room as they can have.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Bound, Counts};

/// [`Counts`] as evidence keeps them, and the same in the status. A node of a map has room for eleven bounds, one or two are
/// kept for a limit, and of every Rollout in flight there are up to 64 of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Counts", into = "Counts")]
pub struct Packed {
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Those of them that took longer than a bound, in the order of bounds.
    slower: SmallVec<[(Bound, u64); 2]>,
}

impl Packed {
    /// Without the bounds that none of the `limits` needs: the one at the limit, or its neighbours.
    pub(super) fn near(counts: &Counts, limits: &[Bound]) -> Self {
        let mut slower = SmallVec::new();
        for limit in limits {
            if let Some(exact) = counts.slower.get(limit) {
                slower.push((*limit, *exact));
                continue;
            }
            let below = counts.slower.range(..limit).next_back();
            let above = counts.slower.range(limit..).next();
            slower.extend(below.into_iter().chain(above).map(|(bound, slower)| (*bound, *slower)));
        }
        slower.sort_unstable();
        slower.dedup();
        Self { requests: counts.requests, errors: counts.errors, slower }
    }

    /// Adds what was counted at another time.
    pub(super) fn add(&mut self, more: &Self) {
        if self.requests == 0 {
            self.slower.clone_from(&more.slower);
        } else if more.requests > 0 {
            self.add_slower(more);
        }
        self.requests = self.requests.saturating_add(more.requests);
        self.errors = self.errors.saturating_add(more.errors);
    }

    fn add_slower(&mut self, more: &Self) {
        if self.bounds().eq(more.bounds()) {
            for ((_, sum), (_, slower)) in self.slower.iter_mut().zip(&more.slower) {
                *sum = sum.saturating_add(*slower);
            }
            return;
        }
        // A bound that only one of the two knows says nothing about the sum.
        let sums = self.slower.iter();
        let both = sums
            .filter_map(|(bound, slower)| Some((*bound, slower.saturating_add(more.slower_than(*bound)?))));
        self.slower = both.collect();
    }

    /// The bounds that something is known about, the lowest first.
    pub(super) fn bounds(&self) -> impl Iterator<Item = Bound> {
        self.slower.iter().map(|(bound, _)| *bound)
    }

    /// How many requests took longer than a bound, where that is known.
    pub(super) fn slower_than(&self, bound: Bound) -> Option<u64> {
        self.slower.iter().find(|(known, _)| *known == bound).map(|(_, slower)| *slower)
    }

    /// The next known bound above another one, and how many requests took longer.
    pub(super) fn above(&self, bound: Bound) -> Option<(Bound, u64)> {
        self.slower.iter().copied().find(|(known, _)| *known > bound)
    }

    /// The next known bound below another one, and how many requests took longer.
    pub(super) fn below(&self, bound: Bound) -> Option<(Bound, u64)> {
        self.slower.iter().copied().rfind(|(known, _)| *known < bound)
    }
}

impl From<Counts> for Packed {
    fn from(counts: Counts) -> Self {
        let slower = counts.slower.into_iter().collect();
        Self { requests: counts.requests, errors: counts.errors, slower }
    }
}

impl From<Packed> for Counts {
    fn from(packed: Packed) -> Self {
        let slower = packed.slower.iter().copied().collect();
        Self { requests: packed.requests, errors: packed.errors, slower }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u64, slower: &[(u64, u64)]) -> Counts {
        let slower = slower.iter().map(|(bound, slower)| (Bound(*bound), *slower)).collect();
        Counts { requests, errors: 1, slower }
    }

    #[test]
    fn of_the_bounds_those_at_and_next_to_a_limit_are_kept() {
        let counts = counts(10, &[(100, 9), (250, 5), (500, 2), (1000, 1)]);
        let kept = |limits: &[u64]| {
            let limits: Vec<Bound> = limits.iter().copied().map(Bound).collect();
            Packed::near(&counts, &limits).bounds().map(|bound| bound.0).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[250]), [250]);
        assert_eq!(kept(&[300]), [250, 500]);
        assert_eq!(kept(&[600, 300, 250]), [250, 500, 1000]);
        assert_eq!(kept(&[5000, 50]), [100, 1000]);
        assert_eq!(kept(&[]), [0; 0]);
    }

    #[test]
    fn of_a_sum_what_both_know_is_known() {
        let mut sum = Packed::default();
        sum.add(&counts(10, &[(100, 9), (250, 5)]).into());
        sum.add(&counts(10, &[(100, 1), (250, 1)]).into());
        assert_eq!((sum.slower_than(Bound(100)), sum.slower_than(Bound(250))), (Some(10), Some(6)));
        assert_eq!((sum.above(Bound(100)), sum.below(Bound(100))), (Some((Bound(250), 6)), None));
        sum.add(&counts(5, &[(250, 2), (500, 1)]).into());
        assert_eq!((sum.requests, sum.errors), (25, 3));
        assert_eq!(sum.bounds().collect::<Vec<_>>(), [Bound(250)]);
        // Nobody was there, so that nothing is unknown.
        sum.add(&counts(0, &[]).into());
        assert_eq!(sum.slower_than(Bound(250)), Some(8));
    }

    #[test]
    fn in_a_status_they_are_counts() {
        let counts = counts(10, &[(100, 9)]);
        let text = serde_json::to_value(Packed::from(counts.clone())).unwrap();
        assert_eq!(text, serde_json::to_value(&counts).unwrap());
        assert_eq!(serde_json::from_value::<Packed>(text).unwrap(), Packed::from(counts));
    }
}
