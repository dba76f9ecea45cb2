//! Raw counters in, increases out: pure, per series, over the samples of two looks.
//!
//! `PromQL`'s `rate` and `increase` lose the first sample of a new series, and with it a fresh pod's first burst of
//! errors. So raw values are kept between looks and differenced here:
//!
//! - a smaller value is a reset, and counts from 0; so does a reporter whose process started anew;
//! - a series that was not there before starts at 0 if its reporter was seen before it, or started after the arms were
//!   first looked at; otherwise its first value is a baseline. (Younger than the *previous* look would be too narrow: a model
//!   server loads for a minute before it is ready and first read, and its first burst of errors would be lost.)
//! - a series that vanished adds nothing, and is remembered for a while: if it comes back, only what came on top counts;
//! - a sample that was seen before is no news;
//! - only increases that began at or after the step's start are evidence, except those of a counter that stood at 0 before.
//!   Nothing was ever counted there, so nothing of an earlier setting is in it, and it may be the first burst of errors.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_core::judge::{Bound, Trouble, TroubleKind};

use super::native::Native;

/// How long a series that is no longer there is remembered.
const REMEMBERED: TimeDelta = TimeDelta::hours(1);
/// Start times that differ by less than this are the same start: exporters compute them and they jitter.
const SAME_START: TimeDelta = TimeDelta::seconds(2);

/// What a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Requests that were answered, and whether they failed.
    Requests {
        /// The answer was an error.
        failed: bool,
    },
    /// How long requests took: a whole histogram.
    Latency,
}

/// Identity of a counter, or of a histogram with all its buckets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Revision of the predictor that it is about.
    pub arm: Arc<str>,
    /// Who exposes it: a pod, or what Prometheus calls an instance.
    pub reporter: Arc<str>,
    /// What it counts.
    pub family: Family,
    /// Its labels (without `le`), in one text.
    pub series: String,
}

/// The value of a counter, or of a histogram, at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// When it was exposed.
    pub at: DateTime<Utc>,
    /// Everything counted so far.
    pub total: f64,
    /// Of a histogram: how many were at most as slow as a finite bound.
    pub within: BTreeMap<Bound, f64>,
    /// Of a native histogram: its buckets. They are not the same at any two times, so that a bound which `within` has now
    /// may have to be found in them of an earlier time.
    pub native: Option<Native>,
}

impl Point {
    /// How many were at most as slow as a bound, if that can be told.
    pub fn at_most(&self, bound: Bound) -> Option<f64> {
        let native = || self.native.as_ref().and_then(|native| native.at_most(bound));
        self.within.get(&bound).copied().or_else(native)
    }

    /// Some value is smaller than it was, as after a restart.
    fn dropped_below(&self, earlier: &Self) -> bool {
        let fell = |bound, now: &f64| earlier.at_most(bound).is_some_and(|then| *now < then);
        self.total < earlier.total || self.within.iter().any(|(bound, now)| fell(*bound, now))
    }
}

/// Who exposes series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reporter {
    /// When it was seen, series or not.
    pub seen: BTreeSet<DateTime<Utc>>,
    /// When its process started, as it says itself.
    pub process_started: Option<DateTime<Utc>>,
    /// When its container started, as Kubernetes says.
    pub container_started: Option<DateTime<Utc>>,
}

impl Reporter {
    fn started(&self) -> Option<DateTime<Utc>> {
        self.process_started.max(self.container_started)
    }

    /// When it was seen last.
    pub fn newest(&self) -> Option<DateTime<Utc>> {
        self.seen.last().copied()
    }

    fn restarted_since(&self, earlier: &Self) -> bool {
        let moved = |now: Option<DateTime<Utc>>, then: Option<DateTime<Utc>>| {
            now.zip(then).is_some_and(|(now, then)| (now - then).abs() > SAME_START)
        };
        moved(self.process_started, earlier.process_started)
            || moved(self.container_started, earlier.container_started)
    }
}

/// What the sources exposed at one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Counters and histograms, each with its samples, oldest first.
    pub cells: BTreeMap<Cell, Vec<Point>>,
    /// Who exposes them.
    pub reporters: BTreeMap<Arc<str>, Reporter>,
    /// Retiring predictors that could not be read whole: nothing is said about them.
    pub unknown: BTreeSet<Arc<str>>,
    /// Cells that were read a second time under other labels of the scraper's, and the cells that have their samples.
    pub doubles: BTreeMap<Cell, Cell>,
}

impl Reading {
    /// The reporter was there at that time, with or without series.
    pub fn saw(&mut self, reporter: &Arc<str>, at: DateTime<Utc>) {
        self.reporter(reporter).seen.insert(at);
    }

    /// Prometheus tried to read the reporter at that time; `value` is 1 where it could.
    pub fn up(&mut self, reporter: &Arc<str>, at: DateTime<Utc>, value: f64) {
        if (value - 1.0).abs() < 0.5 {
            self.saw(reporter, at);
        }
    }

    /// The reporter says when its process started, in seconds since the epoch.
    pub fn process_started(&mut self, reporter: &Arc<str>, seconds: f64) {
        self.reporter(reporter).process_started = instant(seconds);
    }

    /// What is known of a reporter.
    pub fn reporter(&mut self, reporter: &Arc<str>) -> &mut Reporter {
        self.reporters.entry(reporter.clone()).or_default()
    }
}

#[allow(clippy::cast_possible_truncation)]
fn instant(seconds: f64) -> Option<DateTime<Utc>> {
    // Not before 2001, not after 9999: anything else is no start of a process.
    (1e9..2.5e11)
        .contains(&seconds)
        .then(|| DateTime::from_timestamp_millis((seconds * 1e3) as i64))
        .flatten()
}

/// What a cell counted since the previous look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Increase {
    /// How much in all; never negative.
    pub total: f64,
    /// Of a histogram, by bound: how many were at most as slow. Only bounds that all samples had.
    pub within: BTreeMap<Bound, f64>,
}

impl Increase {
    /// Adds what `to` has over `from`; `None` is a counter at 0.
    fn add(&mut self, from: Option<&Point>, to: &Point, first: bool) {
        self.total += to.total - from.map_or(0.0, |from| from.total);
        let mut grown = BTreeMap::new();
        for (bound, count) in &to.within {
            let Some(base) = from.map_or(Some(0.0), |from| from.at_most(*bound)) else { continue };
            let Some(sum) = (if first { Some(0.0) } else { self.within.get(bound).copied() }) else {
                continue;
            };
            grown.insert(*bound, sum + count - base);
        }
        self.within = grown;
    }
}

/// The times between which one look reaches.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// When the arms were first looked at, at most as long ago as is remembered. Whoever started later and was never read was never counted.
    pub watched: DateTime<Utc>,
    /// When the step's traffic was in place.
    pub step_start: DateTime<Utc>,
    /// When this look is.
    pub now: DateTime<Utc>,
}

impl Span {
    /// That of a look where the arms were first looked at at another.
    pub fn since(first: DateTime<Utc>, step_start: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self { watched: first.max(now - REMEMBERED), step_start, now }
    }
}

/// What a first look says: there is no increase yet.
pub fn first_look() -> Trouble {
    Trouble {
        kind: TroubleKind::Baseline,
        message: "first look: the counters were read, their increase comes with the next".to_owned(),
    }
}

/// The newest sample of every series, kept between looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    cells: BTreeMap<Cell, Point>,
    reporters: BTreeMap<Arc<str>, Reporter>,
}

/// What a look found over the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// The ledger for the next look.
    pub ledger: Ledger,
    /// What every cell of the reading counted; 0 where nothing came on top.
    pub increases: BTreeMap<Cell, Increase>,
    /// Reporters that had a new sample.
    pub fresh: BTreeSet<Arc<str>>,
    /// Those of them whose previous sample was from this step, so that the time between is wholly covered.
    pub covered: BTreeSet<Arc<str>>,
    /// As in the reading.
    pub unknown: BTreeSet<Arc<str>>,
}

impl Ledger {
    /// Takes up a reading: the increases over what is known, and what is known from now on.
    pub fn advance(&self, reading: &Reading, span: Span) -> Advance {
        let mut advance =
            Advance { ledger: self.clone(), unknown: reading.unknown.clone(), ..Advance::default() };
        let doubled = self.newest_of(&reading.doubles);
        for (cell, points) in &reading.cells {
            // Under whichever of its labels it was read.
            let known = doubled.get(cell).copied().into_iter().chain(self.cells.get(cell));
            let last = known.max_by_key(|point| point.at).cloned();
            let (increase, newest) = self.increase(cell, points, last, reading, span);
            advance.increases.insert(cell.clone(), increase);
            if let Some(newest) = newest {
                advance.ledger.cells.insert(cell.clone(), newest);
            }
        }
        for (double, kept) in &reading.doubles {
            // Whichever of them is there at the next look goes on from here.
            if let Some(newest) = advance.ledger.cells.get(kept).cloned() {
                advance.ledger.cells.insert(double.clone(), newest);
            }
        }
        for (name, reporter) in &reading.reporters {
            let Some(newest) = reporter.newest() else { continue };
            let before = self.reporters.get(name).and_then(Reporter::newest);
            if before.is_none_or(|before| newest > before) {
                advance.fresh.insert(name.clone());
                if before.is_some_and(|before| before >= span.step_start) {
                    advance.covered.insert(name.clone());
                }
                let known = Reporter { seen: BTreeSet::from([newest]), ..reporter.clone() };
                advance.ledger.reporters.insert(name.clone(), known);
            }
        }
        let oldest = span.now - REMEMBERED;
        advance.ledger.cells.retain(|_, point| point.at >= oldest);
        advance.ledger.reporters.retain(|_, reporter| reporter.newest().is_some_and(|at| at >= oldest));
        advance
    }

    /// Forgets series of all predictors but these.
    pub fn keep_arms(&mut self, arms: &[Arc<str>]) {
        self.cells.retain(|cell, _| arms.contains(&cell.arm));
    }

    /// Whether a reporter is known.
    pub fn knows(&self, reporter: &str) -> bool {
        self.reporters.contains_key(reporter)
    }

    /// Of every cell that was read under other labels, too, the newest sample of those.
    fn newest_of<'a>(&'a self, doubles: &'a BTreeMap<Cell, Cell>) -> BTreeMap<&'a Cell, &'a Point> {
        let mut newest = BTreeMap::<&Cell, &Point>::new();
        for (double, kept) in doubles {
            let Some(point) = self.cells.get(double) else { continue };
            let known = newest.entry(kept).or_insert(point);
            if point.at >= known.at {
                *known = point;
            }
        }
        newest
    }

    fn increase(
        &self,
        cell: &Cell,
        points: &[Point],
        mut last: Option<Point>,
        reading: &Reading,
        span: Span,
    ) -> (Increase, Option<Point>) {
        let reporter = reading.reporters.get(&cell.reporter);
        let known = self.reporters.get(&cell.reporter);
        // A restart is felt once, by the first new sample after it.
        let mut restarted = reporter.zip(known).is_some_and(|(now, then)| now.restarted_since(then));
        let restarted_at = reporter.and_then(Reporter::started);
        if let (None, Some(first)) = (&last, points.first()) {
            last = birth(first, reporter, known, span.watched);
        }
        let mut increase = Increase::default();
        let mut steps = 0;
        for point in points {
            if let Some(earlier) = &last {
                if point.at <= earlier.at {
                    continue;
                }
                let after_restart =
                    restarted && restarted_at.is_none_or(|started| point.at >= started - SAME_START);
                if after_restart {
                    restarted = false;
                }
                let zero = earlier.total == 0.0;
                let reset = after_restart || zero || point.dropped_below(earlier);
                if point.at >= span.step_start && (earlier.at >= span.step_start || zero) {
                    increase.add((!reset).then_some(earlier), point, steps == 0);
                    steps += 1;
                }
            }
            last = Some(point.clone());
        }
        if steps == 0 {
            // The bounds of this reading: those of a native histogram are others than before.
            let bounds = points.last().or(last.as_ref()).into_iter().flat_map(|point| point.within.keys());
            increase.within = bounds.map(|bound| (*bound, 0.0)).collect();
        }
        (increase, last)
    }
}

/// The value before the first one of a series that was never seen, where there is reason to know that it was 0.
fn birth(
    first: &Point,
    reporter: Option<&Reporter>,
    known: Option<&Reporter>,
    watched: DateTime<Utc>,
) -> Option<Point> {
    let seen_without_it = [known, reporter]
        .into_iter()
        .flatten()
        .filter_map(|reporter| reporter.seen.range(..first.at).next_back().copied())
        .max();
    let young = || {
        let started = reporter.and_then(Reporter::started)?;
        // The pod's clock is not ours: one that is ahead makes a young reporter start after its first sample.
        (started > watched).then(|| started.min(first.at - TimeDelta::milliseconds(1)))
    };
    let at = seen_without_it.or_else(young)?;
    Some(Point { at, ..Point::default() })
}

#[cfg(test)]
#[path = "counters_tests.rs"]
mod tests;
