//! Windows of time over the looks of a step, in little room.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bound, Measurement, packed::Packed};
use crate::api::GoDuration;

/// So many blocks are kept, which are a few kilobytes in a status.
const KEPT: usize = 26;
/// The room is shared out so that no block within a window is much longer than this part of it.
const PART_OF_WINDOW: u32 = 16;

/// What limits need of what was seen. Of the rest nothing is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The latency limits.
    pub bounds: Vec<Bound>,
    /// How far back each limit looks.
    pub windows: Vec<Duration>,
}

/// What the looks of a step saw: each for itself while there is room, later with its neighbours, so that every window that
/// is needed still begins about where it should, and what is older is told apart by its age alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Looks(Vec<Block>);

/// One look, or several neighbours. It begins where the one before ends.
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

impl Looks {
    /// Adds what one look saw when the step was `age` old.
    pub(super) fn add(&mut self, age: Duration, seen: &Measurement, needs: &Needs) {
        if needs.windows.is_empty() {
            return;
        }
        if self.0.len() >= KEPT {
            self.merge(age, &needs.windows);
        }
        self.0.push(Block {
            until: age.into(),
            stable: Packed::near(&seen.stable, &needs.bounds),
            canary: Packed::near(&seen.canary, &needs.bounds),
        });
    }

    /// The looks of the last `length` before the step was `age` old, stretched back until the canary answered
    /// `min_requests`, or to the start of the step; of what the step saw before it was `not_before` old nothing.
    pub(super) fn window(
        &self,
        age: Duration,
        length: Duration,
        min_requests: u64,
        not_before: Duration,
    ) -> Window {
        let mut window = Window::default();
        let start = age.saturating_sub(length);
        for (index, block) in self.0.iter().enumerate().rev() {
            let enough = block.until.0 <= start && window.canary.requests >= min_requests;
            if enough || self.begin(index) < not_before {
                break;
            }
            window.stable.add(&block.stable);
            window.canary.add(&block.canary);
        }
        window
    }

    /// Age of the step where a block begins.
    fn begin(&self, index: usize) -> Duration {
        index
            .checked_sub(1)
            .and_then(|before| self.0.get(before))
            .map_or(Duration::ZERO, |block| block.until.0)
    }

    /// Merges the two neighbours that are shortest together, in units of what a block may span at their age.
    fn merge(&mut self, age: Duration, windows: &[Duration]) {
        let span = |index: usize, newer: &Block| {
            let since = age.saturating_sub(newer.until.0);
            newer.until.0.saturating_sub(self.begin(index)).as_secs_f64()
                / allowed(since, windows).as_secs_f64()
        };
        let pairs = self.0.iter().skip(1).enumerate();
        let shortest = pairs
            .map(|(index, newer)| (index, span(index, newer)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other));
        let Some((index, _)) = shortest else { return };
        let older = self.0.remove(index);
        if let Some(newer) = self.0.get_mut(index) {
            newer.stable.add(&older.stable);
            newer.canary.add(&older.canary);
        }
    }
}

/// What a block may span that ended `since` ago: a part of the next longer window, which will begin there one day. Only a
/// stretched window reaches further back than the longest, and that may be stretched by half too much.
fn allowed(since: Duration, windows: &[Duration]) -> Duration {
    let next = windows.iter().filter(|window| **window > since).min();
    next.map_or(since / 2, |window| *window / PART_OF_WINDOW).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{super::Counts, *};

    fn seen(requests: u64, errors: u64) -> Measurement {
        let counts = Counts { requests, errors, slower: BTreeMap::new() };
        Measurement { stable: counts.clone(), canary: counts, retiring: BTreeMap::new() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn over(windows: &[u64]) -> Needs {
        Needs { bounds: Vec::new(), windows: windows.iter().copied().map(at).collect() }
    }

    #[test]
    fn a_window_reaches_back_its_length_and_no_further() {
        let mut looks = Looks::default();
        for (second, errors) in [(10, 50), (20, 1), (30, 2)] {
            looks.add(at(second), &seen(100, errors), &over(&[20]));
        }
        let window = looks.window(at(30), at(20), 50, Duration::ZERO);
        assert_eq!((window.canary.requests, window.canary.errors), (200, 3));
    }

    #[test]
    fn a_window_is_stretched_until_enough_requests_are_in_it() {
        let mut looks = Looks::default();
        for second in 1..=10 {
            looks.add(at(second), &seen(5, 0), &over(&[2]));
        }
        assert_eq!(looks.window(at(10), at(2), 30, Duration::ZERO).canary.requests, 30);
        assert_eq!(looks.window(at(10), at(2), 1000, Duration::ZERO).canary.requests, 50);
    }

    #[test]
    fn a_bound_that_one_look_lacks_is_not_known_of_the_sum() {
        let slower = |bounds: &[u64]| Counts {
            requests: 10,
            errors: 0,
            slower: bounds.iter().map(|b| (Bound(*b), 1)).collect(),
        };
        let mut looks = Looks::default();
        for bounds in [&[100, 500][..], &[100]] {
            let seen = Measurement { canary: slower(bounds), ..Measurement::default() };
            looks.add(at(1), &seen, &Needs { bounds: vec![Bound(100), Bound(500)], ..over(&[5]) });
        }
        let window = looks.window(at(1), at(5), 0, Duration::ZERO);
        let canary = &window.canary;
        assert_eq!((canary.slower_than(Bound(100)), canary.slower_than(Bound(500))), (Some(2), None));
    }

    /// One request a look, a look every 10 s.
    fn every_ten_seconds(looks: u64, needs: &Needs, mut each: impl FnMut(&Looks, Duration)) {
        let mut kept = Looks::default();
        for look in 1..=looks {
            kept.add(at(10 * look), &seen(1, 0), needs);
            each(&kept, at(10 * look));
        }
    }

    #[test]
    fn windows_of_any_length_begin_where_they_should_however_old_the_step_is() {
        for windows in [&[50][..], &[600], &[3600], &[50, 600], &[60, 600, 3600]] {
            every_ten_seconds(5000, &over(windows), |looks, age| {
                for window in windows {
                    let right = (window / 10).min(age.as_secs() / 10);
                    let requests = looks.window(age, at(*window), 0, Duration::ZERO).canary.requests;
                    let most = right + (right / 6).max(1);
                    assert!(
                        (right..=most).contains(&requests),
                        "{windows:?} at {age:?}: {requests} are not {right}"
                    );
                }
            });
        }
    }

    #[test]
    fn a_window_is_not_stretched_much_further_than_it_must_be() {
        every_ten_seconds(5000, &over(&[50]), |looks, age| {
            for wanted in [50, 200, 1000] {
                let requests = looks.window(age, at(50), wanted, Duration::ZERO).canary.requests;
                let right = wanted.min(age.as_secs() / 10);
                assert!((right..=2 * right).contains(&requests), "at {age:?}: {requests} for {wanted}");
            }
        });
    }

    #[test]
    fn of_what_was_seen_too_early_nothing_is_in_a_window() {
        let needs = over(&[600]);
        let mut looks = Looks::default();
        for look in 1..=1000 {
            // Until the step is 600 s old there were errors.
            looks.add(at(10 * look), &seen(10, u64::from(look <= 60)), &needs);
            let window = looks.window(at(10 * look), at(600), u64::MAX, at(600));
            assert_eq!(window.canary.errors, 0, "at look {look}");
            assert!(look <= 70 || window.canary.requests > (look - 60) * 5, "at look {look}: {window:?}");
        }
    }

    #[test]
    fn where_nothing_is_counted_nothing_is_kept() {
        every_ten_seconds(40, &over(&[]), |looks, _| assert_eq!(looks, &Looks::default()));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_many_looks_there_were(looks in proptest::collection::vec((0u64..1000, 0u64..10), 0..300)) {
            let mut kept = Looks::default();
            for (second, (requests, errors)) in looks.iter().enumerate() {
                kept.add(at(second as u64), &seen(*requests, *errors), &over(&[20, 60]));
            }
            prop_assert!(kept.0.len() <= KEPT);
            let all = kept.window(at(1000), at(2000), u64::MAX, Duration::ZERO);
            prop_assert_eq!(all.canary.requests, looks.iter().map(|(requests, _)| requests).sum::<u64>());
            prop_assert_eq!(all.canary.errors, looks.iter().map(|(_, errors)| errors).sum::<u64>());
        }
    }
}
