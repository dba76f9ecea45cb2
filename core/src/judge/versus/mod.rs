//! The canary against stable: a sequential test that stays valid however often one looks.
//!
//! What is kept of a test is small, lives in the status, and grows over the steps of one revision: the evidence of every
//! weight counts. The mathematics is in [`ratio`], its correction for bad answers that come in clumps in [`dispersion`];
//! [`verdict`] says what follows.

mod dispersion;
mod fixed;
mod ratio;
mod score;
mod verdict;

use serde::{Deserialize, Serialize};

use self::{
    dispersion::Dispersion,
    fixed::Fixed,
    ratio::{Grid, Pair},
    score::Scores,
};
pub use self::{
    dispersion::LOOKS as LOOKS_AT_STABLE,
    ratio::log_mean_exp,
    verdict::{Effect, Finding, Saw, Standing, stand},
};
use super::{Both, Bound, Counts, Look, Measurement};
use crate::{
    api::{ArmRecord, Direction},
    plan::Versus,
};

/// Of a histogram so many bounds are compared at most.
const MOST_BOUNDS: usize = 8;

/// What the looks of one revision say about the canary against stable, for one check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Comparison {
    /// Requests of both arms, over all looks.
    canary: u64,
    stable: u64,
    /// One for errors, one a bound for latency.
    series: Vec<Series>,
    /// The numbers that a query answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Scores>,
}

/// One sort of bad answer: a failed one, or one slower than a bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<Bound>,
    canary_bad: u64,
    stable_bad: u64,
    dispersion: Dispersion,
    /// Log-likelihoods of the grid's ratios; before the dispersion is known, not yet divided by it.
    sums: Vec<Fixed>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicator {
    /// Failed requests.
    Errors,
    /// Slow requests, by every bound of the histogram.
    Latency,
    /// What one counter counts of what another one does.
    Shares(Direction),
    /// Numbers, one pair in so many looks.
    Scores(Direction, u32),
}

/// What one look saw of what is compared.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Counts of both arms.
    Counted(&'a Measurement),
    /// A number of each.
    Scored {
        /// Of the canary.
        canary: f64,
        /// Of stable.
        stable: f64,
    },
}

impl Indicator {
    /// What `look` saw of it, for the check of this name.
    pub fn seen<'a>(&self, check: &str, look: &'a Look) -> Option<Seen<'a>> {
        match self {
            Self::Errors | Self::Latency => look.counts.as_ref().ok().map(Seen::Counted),
            Self::Shares(_) | Self::Scores(..) => match look.compared.get(check)?.as_ref().ok()? {
                Both::Counted(counted) => Some(Seen::Counted(counted)),
                Both::Scored { canary, stable } => Some(Seen::Scored { canary: *canary, stable: *stable }),
            },
        }
    }

    /// Whether more of it is worse or better.
    pub fn direction(&self) -> Direction {
        match self {
            Self::Errors | Self::Latency => Direction::MoreIsWorse,
            Self::Shares(direction) | Self::Scores(direction, _) => *direction,
        }
    }
}

impl Comparison {
    /// Takes in what one look saw. `history` is what stable alone gave before, for a comparison that begins.
    pub fn add(&mut self, versus: &Versus, indicator: Indicator, seen: Seen<'_>, history: &[Measurement]) {
        match (seen, indicator) {
            (Seen::Counted(counted), _) => self.count(versus, indicator, counted, history),
            (Seen::Scored { canary, stable }, Indicator::Scores(direction, apart)) => {
                let scores = self.scores.get_or_insert_default();
                scores.add(versus, direction, apart, (canary, stable));
            }
            // A number is no count.
            (Seen::Scored { .. }, Indicator::Errors | Indicator::Latency | Indicator::Shares(_)) => {}
        }
    }

    fn count(&mut self, versus: &Versus, indicator: Indicator, seen: &Measurement, history: &[Measurement]) {
        if self.series.is_empty() && indicator != Indicator::Latency {
            // What was asked of requests says nothing about other counters.
            let history = if indicator == Indicator::Errors { history } else { &[] };
            self.series.push(Series::new(None, history));
        }
        self.add_up(versus, indicator, seen);
        if indicator == Indicator::Latency {
            self.choose_bounds(seen, history);
        }
    }

    /// Which bounds are compared is chosen on one look and counted from the next, because a choice must not know what it
    /// judges. While no request was slower than any of them there is no evidence yet, and better ones may be chosen.
    fn choose_bounds(&mut self, seen: &Measurement, history: &[Measurement]) {
        if self.series.iter().any(|series| series.canary_bad > 0 || series.stable_bad > 0) {
            return;
        }
        let chosen = bounds(seen, history);
        if self.series.iter().filter_map(|series| series.bound).eq(chosen.iter().copied()) {
            return;
        }
        let mut before = std::mem::take(&mut self.series);
        let series = chosen.into_iter().map(|bound| {
            let there = before.iter().position(|series| series.bound == Some(bound));
            there.map_or_else(|| Series::new(Some(bound), history), |there| before.swap_remove(there))
        });
        self.series = series.collect();
        // They are of the bounds that were counted.
        (self.canary, self.stable) = (0, 0);
    }

    fn add_up(&mut self, versus: &Versus, indicator: Indicator, seen: &Measurement) {
        if self.series.is_empty() {
            return;
        }
        self.canary = self.canary.saturating_add(seen.canary.requests);
        self.stable = self.stable.saturating_add(seen.stable.requests);
        let (canary, stable) = (seen.canary.requests, seen.stable.requests);
        let pair = Pair { canary, stable, ..Pair::default() };
        // Where more is better, stable is what may give at most so many times what the canary gives.
        let turn = |pair: Pair| match indicator.direction() {
            Direction::MoreIsWorse => pair,
            Direction::MoreIsBetter => pair.turned(),
        };
        let turned = turn(pair);
        let added = Grid::new(versus.max_ratio, versus.clear_ratio).seen_by(turned.canary, turned.stable);
        for series in &mut self.series {
            let both = series.bad(&seen.canary).zip(series.bad(&seen.stable));
            let Some((canary_bad, stable_bad)) = both else { continue };
            let pair = Pair { canary_bad, stable_bad, ..pair };
            let Pair { canary_bad, stable_bad, .. } = turn(pair);
            series.add(pair, added.log_likelihoods(canary_bad, stable_bad));
        }
    }

    /// Whether nothing was found yet that can be compared.
    pub fn has_not_begun(&self) -> bool {
        self.series.is_empty() && self.scores.is_none()
    }

    fn of(&self, series: &Series) -> (ArmRecord, ArmRecord) {
        let arm = |requests, bad| ArmRecord { requests, bad };
        (arm(self.canary, series.canary_bad), arm(self.stable, series.stable_bad))
    }
}

impl Series {
    fn new(bound: Option<Bound>, history: &[Measurement]) -> Self {
        let mut series = Self { bound, sums: vec![Fixed::default(); Grid::LEN], ..Self::default() };
        for stable in history.iter().map(|seen| &seen.stable) {
            if let Some(bad) = series.bad(stable) {
                series.dispersion.saw(bad, stable.requests);
            }
        }
        series
    }

    /// How many of the requests were bad; nothing where the histogram does not tell.
    fn bad(&self, counts: &Counts) -> Option<u64> {
        match self.bound {
            None => Some(counts.errors),
            // Without requests there are no slow ones either.
            Some(_) if counts.requests == 0 => Some(0),
            Some(bound) => counts.slower.get(&bound).copied(),
        }
    }

    /// Of every ratio of the grid; nothing where another version wrote them.
    fn log_likelihoods(&self) -> Option<[f64; Grid::LEN]> {
        let sums: &[Fixed; Grid::LEN] = self.sums.as_slice().try_into().ok()?;
        Some(sums.map(Fixed::get))
    }

    /// Takes in what a look saw, and what that adds to the log-likelihoods.
    fn add(&mut self, pair: Pair, added: impl Iterator<Item = f64>) {
        // Written by another version: it starts anew.
        if self.sums.len() != Grid::LEN {
            *self = Self::new(self.bound, &[]);
        }
        self.canary_bad = self.canary_bad.saturating_add(pair.canary_bad);
        self.stable_bad = self.stable_bad.saturating_add(pair.stable_bad);
        // What a look is divided by must not know of that look, or it would be no bet that was made before.
        let known = self.dispersion.factor();
        self.dispersion.saw(pair.stable_bad, pair.stable);
        let share = 1.0 / known.unwrap_or(1.0);
        self.sums.iter_mut().zip(added).for_each(|(sum, more)| sum.add(more * share));
        if let (None, Some(factor)) = (known, self.dispersion.factor()) {
            self.sums.iter_mut().for_each(|sum| *sum = Fixed::new(sum.get() / factor));
        }
    }
}

/// Bounds that tell something: those that some requests of stable were slower than, and others were not, and the lowest one
/// that none was slower than, which a much slower canary shows at; evenly thinned out where there are many. What stable did
/// before the rollout is of use where there is any: a quiet look shows little.
fn bounds(seen: &Measurement, history: &[Measurement]) -> Vec<Bound> {
    let of_stable = || history.iter().chain([seen]).map(|seen| &seen.stable);
    let requests: u64 = of_stable().map(|stable| stable.requests).fold(0, u64::saturating_add);
    let common = seen.stable.slower.keys();
    let common = common.filter(|bound| seen.canary.requests == 0 || seen.canary.slower.contains_key(bound));
    let slow = |bound: &Bound| {
        of_stable().filter_map(|stable| stable.slower.get(bound)).copied().fold(0, u64::saturating_add)
    };
    let mut chosen = Vec::new();
    for bound in common {
        let slow = slow(bound);
        if slow < requests {
            chosen.push(*bound);
        }
        if slow == 0 {
            break;
        }
    }
    let every = chosen.len().div_ceil(MOST_BOUNDS).max(1);
    chosen.into_iter().rev().step_by(every).collect()
}

#[cfg(test)]
mod tests;
