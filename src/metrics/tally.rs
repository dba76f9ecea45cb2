//! From increases per series to whole numbers per arm.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sluice_core::judge::{Bound, Counts, Measurement};

use super::counters::{Advance, Cell, Family, Increase};

/// The arms of one look, by revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arms {
    /// The predictor that users have.
    pub stable: Arc<str>,
    /// The one that wants to replace it.
    pub canary: Option<Arc<str>>,
    /// Those that have lost their traffic.
    pub retiring: Vec<Arc<str>>,
}

impl Arms {
    /// All of them.
    pub fn all(&self) -> Vec<Arc<str>> {
        [&self.stable].into_iter().chain(&self.canary).chain(&self.retiring).cloned().collect()
    }
}

/// What the arms counted. `asked` are the latency limits.
pub fn measure(advance: &Advance, arms: &Arms, asked: &[Bound]) -> Measurement {
    let bounds = bounds(advance, arms, asked);
    let counts = |arm: &Arc<str>| count(of(advance, arm), &bounds);
    Measurement {
        stable: counts(&arms.stable),
        canary: arms.canary.as_ref().map(counts).unwrap_or_default(),
        retiring: arms
            .retiring
            .iter()
            .filter(|arm| covered(advance, arm))
            .map(|arm| (arm.to_string(), counts(arm).requests))
            .collect(),
    }
}

fn of<'a>(advance: &'a Advance, arm: &'a str) -> impl Iterator<Item = (&'a Cell, &'a Increase)> + Clone {
    advance.increases.iter().filter(move |(cell, _)| &*cell.arm == arm)
}

/// Whether the look covers a time of this step for everybody who reports about the arm: "no request" is only then a
/// fact. Where nobody does, anybody who reports at all is enough.
pub fn covered(advance: &Advance, arm: &str) -> bool {
    let reporters: BTreeSet<_> = of(advance, arm).map(|(cell, _)| &cell.reporter).collect();
    !advance.unknown.contains(arm)
        && !advance.covered.is_empty()
        && reporters.iter().all(|reporter| advance.covered.contains(*reporter))
}

/// For every limit its own bound, or where that is missing the next lower and higher one.
pub fn bounds(advance: &Advance, arms: &Arms, asked: &[Bound]) -> BTreeSet<Bound> {
    nearest(&common(advance, arms), asked)
}

/// The bounds that all histograms of both arms have: pods of two versions may have other buckets, and a sum over some of
/// them is no count.
pub fn common(advance: &Advance, arms: &Arms) -> BTreeSet<Bound> {
    let judged = |cell: &Cell| cell.arm == arms.stable || Some(&cell.arm) == arms.canary.as_ref();
    advance
        .increases
        .iter()
        .filter(|(cell, _)| cell.family == Family::Latency && judged(cell))
        .map(|(_, increase)| increase.within.keys().copied().collect::<BTreeSet<_>>())
        .reduce(|common, bounds| &common & &bounds)
        .unwrap_or_default()
}

/// Of the bounds `there` are, those that the limits need.
pub fn nearest(there: &BTreeSet<Bound>, asked: &[Bound]) -> BTreeSet<Bound> {
    let mut needed = BTreeSet::new();
    for limit in asked {
        if there.contains(limit) {
            needed.insert(*limit);
        } else {
            needed.extend(there.range(..limit).next_back());
            needed.extend(there.range(limit..).next());
        }
    }
    needed
}

fn count<'a>(cells: impl Iterator<Item = (&'a Cell, &'a Increase)>, bounds: &BTreeSet<Bound>) -> Counts {
    let (mut requests, mut errors, mut timed) = (0.0, 0.0, 0.0);
    let mut within: BTreeMap<Bound, f64> = bounds.iter().map(|bound| (*bound, 0.0)).collect();
    for (cell, increase) in cells {
        match cell.family {
            Family::Requests { failed } => {
                requests += increase.total;
                errors += if failed { increase.total } else { 0.0 };
            }
            Family::Latency => {
                timed += increase.total;
                for (bound, sum) in &mut within {
                    *sum += increase.within.get(bound).copied().unwrap_or(0.0);
                }
            }
        }
    }
    // A predictor without a histogram, or with one that misses requests, says nothing about how slow they were.
    let untimed = requests > 0.0 && (timed == 0.0 || requests - timed > 0.1 * requests + 5.0);
    if untimed {
        within.clear();
    }
    let requests = whole(requests);
    // Counter and histogram are read a moment apart by some exporters: never more slow requests than requests.
    let slower = within.into_iter().map(|(bound, sum)| (bound, whole(timed - sum).min(requests))).collect();
    Counts { requests, errors: whole(errors), slower }
}

/// Rounded after summing, so that the parts of a whole stay parts of it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(sum: f64) -> u64 {
    // Saturates: negative and NaN become 0, which the differences never are.
    sum.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(arm: &str, reporter: &str, family: Family) -> Cell {
        Cell { arm: arm.into(), reporter: reporter.into(), family, series: String::new() }
    }

    fn latency(total: f64, within: &[(u64, f64)]) -> Increase {
        Increase { total, within: within.iter().map(|(bound, count)| (Bound(*bound), *count)).collect() }
    }

    fn plain(total: f64) -> Increase {
        latency(total, &[])
    }

    fn arms() -> Arms {
        Arms { stable: "stable".into(), canary: Some("canary".into()), retiring: vec!["old".into()] }
    }

    const OK: Family = Family::Requests { failed: false };
    const FAILED: Family = Family::Requests { failed: true };

    #[test]
    fn requests_and_errors_are_summed_over_series_and_then_rounded() {
        let advance = Advance {
            increases: BTreeMap::from([
                (cell("canary", "a", OK), plain(10.4)),
                (cell("canary", "b", OK), plain(10.4)),
                (cell("canary", "b", FAILED), plain(2.0)),
                (cell("stable", "b", OK), plain(7.0)),
            ]),
            ..Advance::default()
        };
        let measurement = measure(&advance, &arms(), &[]);
        assert_eq!(measurement.canary, Counts { requests: 23, errors: 2, ..Counts::default() });
        assert_eq!(measurement.stable, Counts { requests: 7, errors: 0, ..Counts::default() });
    }

    #[test]
    fn a_limit_takes_its_own_bucket_or_its_neighbours() {
        let there = BTreeSet::from([Bound(100), Bound(250), Bound(500)]);
        for (limit, expected) in [(250, vec![250]), (300, vec![250, 500]), (50, vec![100]), (900, vec![500])]
        {
            let expected = expected.into_iter().map(Bound).collect();
            assert_eq!(nearest(&there, &[Bound(limit)]), expected, "{limit}");
        }
        assert_eq!(nearest(&BTreeSet::new(), &[Bound(1)]), BTreeSet::new());
    }

    #[test]
    fn slower_requests_are_counted_at_bounds_that_all_histograms_have() {
        let advance = Advance {
            increases: BTreeMap::from([
                (cell("canary", "a", OK), plain(30.0)),
                (cell("canary", "a", Family::Latency), latency(10.0, &[(100, 5.0), (250, 8.0), (500, 9.0)])),
                (cell("canary", "b", Family::Latency), latency(20.0, &[(100, 10.0), (500, 15.0)])),
                (cell("stable", "c", OK), plain(5.0)),
                (cell("stable", "c", Family::Latency), latency(5.0, &[(100, 5.0), (250, 5.0), (500, 5.0)])),
            ]),
            ..Advance::default()
        };
        let measurement = measure(&advance, &arms(), &[Bound(250)]);
        assert_eq!(measurement.canary.slower, BTreeMap::from([(Bound(100), 15), (Bound(500), 6)]));
        assert_eq!(measurement.stable.slower, BTreeMap::from([(Bound(100), 0), (Bound(500), 0)]));
    }

    #[test]
    fn no_more_requests_are_slow_than_there_were() {
        let advance = Advance {
            increases: BTreeMap::from([
                (cell("canary", "a", OK), plain(1.0)),
                (cell("canary", "a", Family::Latency), latency(3.0, &[(100, 0.0)])),
            ]),
            ..Advance::default()
        };
        assert_eq!(
            measure(&advance, &arms(), &[Bound(100)]).canary.slower,
            BTreeMap::from([(Bound(100), 1)])
        );
    }

    #[test]
    fn no_request_at_a_retiring_predictor_is_said_only_where_it_was_looked_for() {
        let mut advance = Advance::default();
        assert_eq!(measure(&advance, &arms(), &[]).retiring, BTreeMap::new());
        advance.covered.insert("a".into());
        assert_eq!(measure(&advance, &arms(), &[]).retiring, BTreeMap::from([("old".to_owned(), 0)]));
        advance.increases.insert(cell("old", "b", OK), plain(3.0));
        assert_eq!(measure(&advance, &arms(), &[]).retiring, BTreeMap::new());
        advance.covered.insert("b".into());
        assert_eq!(measure(&advance, &arms(), &[]).retiring, BTreeMap::from([("old".to_owned(), 3)]));
    }
}
