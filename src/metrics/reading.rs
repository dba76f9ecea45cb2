//! From samples to counters: sorts what a source exposed by arm, reporter and what it counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sluice_core::judge::{Bound, Trouble, TroubleKind};

use super::{
    counters::{Cell, Family, Point, Reading},
    doubles::Doubles,
    exposition::Labels,
    native::{Native, RawHistogram},
    profiles::{Profile, Role},
};

/// A sample, whichever source it is from.
pub struct Observed<'a> {
    /// Revision of the predictor that it is about.
    pub arm: &'a Arc<str>,
    /// Who exposed it.
    pub reporter: &'a Arc<str>,
    /// Name of the metric.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// When it was exposed.
    pub at: DateTime<Utc>,
    /// Its value.
    pub value: f64,
}

/// Takes in samples, gives a [`Reading`].
pub struct Gatherer<'p> {
    profile: &'p Profile,
    wanted: &'p BTreeMap<String, String>,
    reading: Reading,
    histograms: BTreeMap<Cell, BTreeMap<DateTime<Utc>, Partial>>,
    doubles: Doubles,
}

/// What is known of a histogram at one time.
#[derive(Default)]
struct Partial {
    count: Option<f64>,
    within: BTreeMap<Bound, f64>,
    native: Option<Native>,
}

impl<'p> Gatherer<'p> {
    /// Nothing yet. Series must carry the labels `wanted`, besides the profile's own.
    pub fn new(profile: &'p Profile, wanted: &'p BTreeMap<String, String>) -> Self {
        Self {
            profile,
            wanted,
            reading: Reading::default(),
            histograms: BTreeMap::new(),
            doubles: Doubles::default(),
        }
    }

    /// What was gathered about reporters so far.
    pub fn reading(&mut self) -> &mut Reading {
        &mut self.reading
    }

    /// Kubernetes says when the reporter's container started.
    pub fn started(&mut self, reporter: &Arc<str>, started: Option<DateTime<Utc>>) {
        self.reading.reporter(reporter).container_started = started;
    }

    /// Takes in a sample. Those that are not about requests to a predictor are passed over.
    pub fn add(&mut self, sample: &Observed<'_>) -> Result<(), Trouble> {
        let Observed { name, labels, at, value, .. } = *sample;
        let Some(role) = self.profile.role(name, labels) else { return Ok(()) };
        match role {
            Role::ProcessStart => {
                self.reading.process_started(sample.reporter, value);
                self.reading.saw(sample.reporter, at);
                return Ok(());
            }
            Role::Sign => {
                self.reading.up(sample.reporter, at, value);
                return Ok(());
            }
            // Such a one has no value.
            Role::Native { .. } => return Ok(()),
            Role::Requests(_) | Role::RequestsAndCount(_) | Role::Count | Role::Bucket(_) | Role::Whole => {}
        }
        if !Profile::carries(labels, self.wanted) {
            return Ok(());
        }
        is_count(value, name, labels)?;
        self.reading.saw(sample.reporter, at);
        match role {
            Role::Requests(family) => self.counted(sample, family, value),
            Role::RequestsAndCount(family) => {
                self.counted(sample, family, value);
                self.partial(sample).count = Some(value);
            }
            Role::Count => self.partial(sample).count = Some(value),
            Role::Bucket(bound) => {
                self.partial(sample).within.insert(bound, value);
            }
            Role::Whole => {
                self.partial(sample).count.get_or_insert(value);
            }
            Role::ProcessStart | Role::Sign | Role::Native { .. } => {}
        }
        Ok(())
    }

    /// Takes in a sample that is a native histogram; its value says nothing.
    pub fn add_native(&mut self, sample: &Observed<'_>, raw: &RawHistogram) -> Result<(), Trouble> {
        let Observed { name, labels, at, .. } = *sample;
        let Some(Role::Native { requests, units_per_second }) = self.profile.role(name, labels) else {
            return Ok(());
        };
        if !Profile::carries(labels, self.wanted) {
            return Ok(());
        }
        is_count(raw.count, name, labels)?;
        let native = Native::of(raw, units_per_second).ok_or_else(|| Trouble {
            kind: TroubleKind::NoData,
            message: format!("has a bucket of {} that is no count: expected counts", describe(name, labels)),
        })?;
        self.reading.saw(sample.reporter, at);
        if let Some(family) = requests {
            self.counted(sample, family, raw.count);
        }
        let partial = self.partial(sample);
        partial.count = Some(raw.count);
        partial.native = Some(native);
        Ok(())
    }

    fn counted(&mut self, sample: &Observed<'_>, family: Family, total: f64) {
        let point = Point { at: sample.at, total, ..Point::default() };
        let cell = cell(sample, family);
        self.doubles.met(&cell, sample.labels);
        self.reading.cells.entry(cell).or_default().push(point);
    }

    fn partial(&mut self, sample: &Observed<'_>) -> &mut Partial {
        let cell = cell(sample, Family::Latency);
        self.doubles.met(&cell, sample.labels);
        self.histograms.entry(cell).or_default().entry(sample.at).or_default()
    }

    /// What was gathered; `limits` are the latencies that matter.
    pub fn finish(mut self, limits: &[Bound]) -> Reading {
        let bounds = native_bounds(&self.histograms, limits);
        let mut cuts = BTreeMap::<Arc<str>, DateTime<Utc>>::new();
        for (cell, partials) in self.histograms {
            let (points, cut) = whole(partials, &bounds);
            if let Some(cut) = cut {
                let known = cuts.entry(cell.reporter.clone()).or_insert(cut);
                *known = cut.min(*known);
            }
            self.reading.cells.insert(cell, points);
        }
        for (cell, points) in &mut self.reading.cells {
            points.sort_by_key(|point| point.at);
            if let Some(cut) = cuts.get(&cell.reporter) {
                points.retain(|point| point.at < *cut);
            }
        }
        self.reading.cells.retain(|_, points| !points.is_empty());
        for (name, reporter) in &mut self.reading.reporters {
            if let Some(cut) = cuts.get(name) {
                reporter.seen.retain(|at| at < cut);
            }
        }
        self.reading.doubles = self.doubles.merge(&mut self.reading.cells);
        self.reading
    }
}

/// Where native histograms are asked about: at the limits, or at the bounds of the buckets that these lie in.
fn native_bounds(
    histograms: &BTreeMap<Cell, BTreeMap<DateTime<Utc>, Partial>>,
    limits: &[Bound],
) -> BTreeSet<Bound> {
    let mut bounds = BTreeSet::new();
    let natives =
        histograms.values().flat_map(BTreeMap::values).filter_map(|partial| partial.native.as_ref());
    for native in natives {
        for limit in limits {
            native.bounds(*limit, &mut bounds);
        }
    }
    bounds
}

fn is_count(value: f64, name: &str, labels: &Labels) -> Result<(), Trouble> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    let message = format!("says that {} is {value}: expected a count", describe(name, labels));
    Err(Trouble { kind: TroubleKind::NoData, message })
}

fn cell(sample: &Observed<'_>, family: Family) -> Cell {
    let (arm, reporter) = (sample.arm.clone(), sample.reporter.clone());
    Cell { arm, reporter, family, series: series(sample.labels) }
}

/// The times at which a histogram is whole, and since when it is not any more: a remote write may have brought half of
/// the newest sample. Nothing of that reporter is taken from there on, and the rest comes with the next look.
fn whole(
    partials: BTreeMap<DateTime<Utc>, Partial>,
    native_bounds: &BTreeSet<Bound>,
) -> (Vec<Point>, Option<DateTime<Utc>>) {
    let bounds = partials.values().map(|partial| partial.within.len()).max().unwrap_or(0);
    let (mut points, mut cut) = (Vec::new(), None);
    for (at, Partial { count, mut within, native }) in partials {
        match count {
            Some(total) if within.len() == bounds => {
                if let Some(native) = native.as_ref().filter(|_| within.is_empty()) {
                    let told =
                        native_bounds.iter().filter_map(|bound| Some((*bound, native.at_most(*bound)?)));
                    within = told.collect();
                }
                points.push(Point { at, total, within, native });
                cut = None;
            }
            Some(_) | None => cut = cut.or(Some(at)),
        }
    }
    (points, cut)
}

/// The series in Prometheus' own notation.
pub fn describe(name: &str, labels: &Labels) -> String {
    let pairs: Vec<_> =
        labels.iter().filter(|(label, _)| *label != "__name__").map(|(k, v)| format!("{k}={v:?}")).collect();
    format!("{name}{{{}}}", pairs.join(", "))
}

/// The labels that make the identity of a counter or of a histogram.
fn series(labels: &Labels) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if name != "le" && name != "__name__" {
            // No label's name has a comma in it, and the value is quoted: two label sets never make one text.
            let _ = write!(text, "{name}={value:?},");
        }
    }
    text
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
