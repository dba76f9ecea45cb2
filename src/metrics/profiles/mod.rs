//! Which metrics tell requests, errors and latencies, and by which labels the arms are told apart.
//!
//! A file per profile says what its metrics are and what is odd about them; here is what all have in common.

mod arms;
mod codes;
mod envoy;
mod istio;
mod kserve;
mod mlserver;
mod seldon;

use std::{borrow::Cow, collections::BTreeMap};

use sluice_core::{Predictor, api, judge::Bound};

pub use self::arms::{ArmLabels, Value};
use super::{Arm, counters::Family, exposition::Labels, exposition::number};

/// A known set of metrics.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Name in the API.
    pub name: &'static str,
    /// The metrics, each group under labels of its own: programs changed their names from one version to the next.
    pub groups: Vec<Group>,
    /// Who exposes them.
    pub exposed: Exposed,
    /// What must be there for these metrics to be there.
    pub needs: &'static str,
}

/// Who exposes metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposed {
    /// The predictors' own pods.
    ByPredictors,
    /// Others about the predictors, so that nothing is learnt from the predictors' pods.
    ByProxies,
}

/// Metrics that tell the arms apart by the same labels: one question to a source.
#[derive(Clone, Debug)]
pub struct Group {
    /// The metrics.
    pub sets: Vec<Set>,
    /// Labels that every series must carry.
    pub fixed: BTreeMap<String, String>,
    /// Labels that tell the arms apart.
    pub arms: ArmLabels,
    /// The arms' labels are given by the scraper to all series of a target, so that `up` carries them too.
    pub target_labels: bool,
}

/// A counter of requests and the histogram of their latencies.
#[derive(Clone, Debug)]
pub struct Set {
    /// The counter. It may be the count of the histogram.
    pub requests: &'static str,
    /// The histogram, without suffix.
    pub latency: &'static str,
    /// How many of the histogram's units make a second.
    pub units_per_second: f64,
    /// Whether a series is about requests to a predictor.
    pub counts: fn(&Labels) -> bool,
    /// Whether these requests failed.
    pub failed: fn(&Labels) -> bool,
}

/// Changes to a profile by the platform's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Overrides {
    /// Other names for the labels that tell the arms apart.
    pub labels: LabelNames,
    /// Labels that every series must carry, in place of the profile's own; an empty value takes one away.
    #[serde(rename = "match")]
    pub fixed: BTreeMap<String, String>,
}

/// Names of the labels that carry a predictor's parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelNames {
    /// Label with the Service's name.
    pub service: Option<String>,
    /// Label with the Service's namespace.
    pub namespace: Option<String>,
    /// Label with the subset.
    pub subset: Option<String>,
}

/// What a series of a profile is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// A counter of requests.
    Requests(Family),
    /// A counter of requests that is the count of their histogram as well.
    RequestsAndCount(Family),
    /// How many requests there were in the histogram.
    Count,
    /// How many of them were at most as slow as a bound.
    Bucket(Bound),
    /// The bucket of all.
    Whole,
    /// A histogram of the native sort.
    Native {
        /// The requests that it counts as well, if so.
        requests: Option<Family>,
        /// How many of its units make a second.
        units_per_second: f64,
    },
    /// When the process started, in seconds since the epoch.
    ProcessStart,
    /// Nothing but a sign that the reporter is there.
    Sign,
}

/// The metric that says when a process started.
pub const PROCESS_START: &str = "process_start_time_seconds";
/// Which of the two proxies of a request counted it.
const REPORTER: &str = "reporter";
/// What Prometheus says about every target itself.
pub const UP: &str = "up";

impl Profile {
    /// The profile that the API calls so.
    pub fn of(profile: api::Profile) -> Self {
        match profile {
            api::Profile::Istio => istio::profile(),
            api::Profile::Mlserver => mlserver::profile(),
            api::Profile::Seldon => seldon::profile(),
            api::Profile::Kserve => kserve::profile(),
            api::Profile::Envoy => envoy::profile(),
        }
    }

    /// The profile while the canary only gets copies of requests. Istio's client proxy does not count those, the canary's
    /// own does; and stable's own then counts as well, so that both arms are measured at the same place.
    #[must_use]
    pub fn of_copies(mut self) -> Self {
        for group in &mut self.groups {
            if let Some(reporter) = group.fixed.get_mut(REPORTER).filter(|reporter| *reporter == "source") {
                "destination".clone_into(reporter);
            }
        }
        self
    }

    /// The profile with the platform's changes.
    #[must_use]
    pub fn with(mut self, overrides: &Overrides) -> Self {
        for group in &mut self.groups {
            group.arms = group.arms.renamed(&overrides.labels);
            for (label, value) in &overrides.fixed {
                if value.is_empty() {
                    group.fixed.remove(label);
                } else {
                    group.fixed.insert(label.clone(), value.clone());
                }
            }
        }
        self
    }

    /// All names that a pod may expose something under.
    pub fn names(&self, latency: bool) -> Vec<String> {
        let of_sets = self.groups.iter().flat_map(|group| &group.sets).flat_map(|set| set.names(latency));
        of_sets.chain([PROCESS_START.to_owned()]).collect()
    }

    /// What a series is, or nothing where it is not about requests to a predictor.
    pub fn role(&self, name: &str, labels: &Labels) -> Option<Role> {
        match name {
            UP => Some(Role::Sign),
            PROCESS_START => Some(Role::ProcessStart),
            _ => self.groups.iter().find_map(|group| group.role(name, labels)),
        }
    }

    /// Whether the series carries the labels that a profile or a Rollout asks for.
    pub fn carries(labels: &Labels, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().all(|(name, value)| labels.get(name).map_or("", String::as_str) == value)
    }

    /// Why two predictors cannot be told apart by the labels, if they cannot.
    pub fn confuses(&self, one: &Predictor, other: &Predictor) -> Option<String> {
        let expected = self.groups.iter().find_map(|group| group.arms.confuses(one, other))?;
        Some(format!(
            "the metrics of profile {} do not tell {one} from {other}: expected {expected}",
            self.name
        ))
    }
}

impl Group {
    /// All names of metrics that tell something about the predictors, suffixes included.
    pub fn names<'p>(&self, arms: impl Iterator<Item = &'p Arm>, latency: bool) -> Vec<String> {
        let plain: Vec<String> = self.sets.iter().flat_map(|set| set.names(latency)).collect();
        let mut names = self.arms.spelled(&plain, arms);
        if self.target_labels {
            names.extend([UP.to_owned(), PROCESS_START.to_owned()]);
        }
        names
    }

    /// Bounds as `le` may be written.
    pub fn les(&self, bounds: impl Iterator<Item = Bound>) -> Vec<String> {
        bounds.flat_map(|bound| self.sets.iter().flat_map(move |set| set.le(bound))).collect()
    }

    fn role(&self, name: &str, labels: &Labels) -> Option<Role> {
        let name: Cow<'_, str> = self.arms.plain(name)?;
        let role = self.sets.iter().find_map(|set| set.role(&name, labels))?;
        Profile::carries(labels, &self.fixed).then_some(role)
    }
}

impl Set {
    fn names(&self, latency: bool) -> Vec<String> {
        let Self { requests, latency: histogram, .. } = self;
        let mut names = vec![(*requests).to_owned()];
        if latency {
            names.push(format!("{histogram}_bucket"));
            names.push(format!("{histogram}_count"));
            names.push((*histogram).to_owned());
        } else if self.is_timed() {
            // Where the histogram is native there is no other counter.
            names.push((*histogram).to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    /// Whether the counter of requests is the count of the histogram.
    fn is_timed(&self) -> bool {
        self.requests.strip_prefix(self.latency) == Some("_count")
    }

    fn role(&self, name: &str, labels: &Labels) -> Option<Role> {
        let family = || Family::Requests { failed: (self.failed)(labels) };
        let role = match name.strip_prefix(self.latency) {
            Some("_count") if self.is_timed() => Role::RequestsAndCount(family()),
            Some("_count") => Role::Count,
            Some("_bucket") => self.bucket(labels.get("le")?)?,
            Some("") => Role::Native {
                requests: self.is_timed().then(family),
                units_per_second: self.units_per_second,
            },
            _ if name == self.requests => Role::Requests(family()),
            _ => return None,
        };
        (self.counts)(labels).then_some(role)
    }

    /// The bucket that an `le` says, if it is a bound at all.
    fn bucket(&self, le: &str) -> Option<Role> {
        let value = number(le)?;
        if value == f64::INFINITY {
            return Some(Role::Whole);
        }
        Bound::from_seconds(value / self.units_per_second).map(Role::Bucket)
    }

    /// A bound as `le` may be written: `1` by most, `1.0` by Prometheus 3 and by Python's client, and `1e+06` by Go.
    fn le(&self, bound: Bound) -> Vec<String> {
        #[allow(clippy::cast_precision_loss)]
        let value = bound.0 as f64 * self.units_per_second / 1e6;
        let mut spelled = vec![format!("{value}"), format!("{value:?}"), as_go_writes(value)];
        spelled.sort();
        spelled.dedup();
        spelled
    }
}

/// A number as Go's `%g` has it: with an exponent of at least two digits from a million on, and below a ten-thousandth.
fn as_go_writes(value: f64) -> String {
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
