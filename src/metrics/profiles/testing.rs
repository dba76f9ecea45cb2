//! Expositions read as a source reads them, for the tests of profiles: from nothing to what the text says.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_core::judge::Bound;

use super::{Profile, Role};
use crate::metrics::{
    Arm,
    counters::{Family, Ledger, Reading, Span},
    exposition::{self, Dialect, Labels},
    reading::{Gatherer, Observed},
    tally::{self, Arms},
};

/// What an arm should have counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    requests: u64,
    errors: u64,
    slower: BTreeMap<Bound, u64>,
}

impl Expected {
    pub fn new(requests: u64, errors: u64) -> Self {
        Self { requests, errors, slower: BTreeMap::new() }
    }

    pub fn slower(mut self, bound: u64, count: u64) -> Self {
        self.slower.insert(Bound(bound), count);
        self
    }
}

/// Whether a profile takes the requests of a series for failed, if it counts them at all.
pub fn failed(profile: &Profile, name: &str, pairs: &[(&str, &str)]) -> Option<bool> {
    let labels: Labels =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    match profile.role(name, &labels)? {
        Role::Requests(Family::Requests { failed })
        | Role::RequestsAndCount(Family::Requests { failed })
        | Role::Native { requests: Some(Family::Requests { failed }), .. } => Some(failed),
        _ => None,
    }
}

/// Asserts what a source that has this text says about the arms: each group is a question of its own, and of what comes
/// back the labels alone say whose it is.
pub fn look(profile: &Profile, text: &str, arms: &[&str], limits: &[u64], expected: &[Expected]) {
    let known: Vec<Arm> = arms.iter().map(|arm| Arm::of(arm.parse().unwrap())).collect();
    look_at(profile, text, &known, limits, expected);
}

/// The same of arms of which more is known than who they are.
pub fn look_at(profile: &Profile, text: &str, arms: &[Arm], limits: &[u64], expected: &[Expected]) {
    let found = |group: usize, labels: &Labels| {
        let found = profile.groups[group].arms.whose(labels, arms.iter())?;
        arms.iter().position(|arm| arm == found)
    };
    for (index, expected) in expected.iter().enumerate() {
        let seen = counted(profile, text, limits, &|labels| {
            (0..profile.groups.len()).any(|group| found(group, labels) == Some(index))
        });
        assert_eq!(&seen, expected, "{} about {}", profile.name, arms[index].predictor);
    }
    for group in &profile.groups {
        // What is asked for has what was found in it.
        let names = group.names(arms.iter(), true);
        for sample in exposition::read(text, Dialect::Text).flatten() {
            let labels = named(&sample.name, sample.labels);
            let Some(_) = group.arms.whose(&labels, arms.iter()) else { continue };
            if group.role(&sample.name, &labels).is_some() {
                assert!(names.contains(&sample.name), "{} is asked for", sample.name);
            }
        }
    }
}

/// Asserts what a pod that exposes this text says about itself.
pub fn scrape(profile: &Profile, text: &str, limits: &[u64], expected: &Expected) {
    assert_eq!(&counted(profile, text, limits, &|_| true), expected, "{} scraped", profile.name);
}

fn named(name: &str, mut labels: Labels) -> Labels {
    labels.insert("__name__".to_owned(), name.to_owned());
    labels
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn counted(profile: &Profile, text: &str, limits: &[u64], is_ours: &dyn Fn(&Labels) -> bool) -> Expected {
    let (arm, reporter): (Arc<str>, Arc<str>) = ("arm".into(), "pod".into());
    let wanted = BTreeMap::new();
    let mut gatherer = Gatherer::new(profile, &wanted);
    for sample in exposition::read(text, Dialect::Text) {
        let sample = sample.unwrap();
        let labels = named(&sample.name, sample.labels);
        if is_ours(&labels) {
            let (arm, reporter, name) = (&arm, &reporter, &sample.name);
            let observed = Observed { arm, reporter, name, labels: &labels, at: at(10), value: sample.value };
            gatherer.add(&observed).unwrap();
        }
    }
    let limits: Vec<Bound> = limits.iter().map(|limit| Bound(*limit)).collect();
    let reading = gatherer.finish(&limits);
    // The reporter was there a moment ago, and had counted nothing.
    let before = Reading { reporters: reading.reporters.clone(), ..Reading::default() };
    let before = Reading {
        reporters: before
            .reporters
            .into_iter()
            .map(|(name, mut reporter)| {
                reporter.seen = [at(0)].into();
                (name, reporter)
            })
            .collect(),
        ..Reading::default()
    };
    let span = |now| Span { watched: at(0), step_start: at(0) - TimeDelta::seconds(1), now };
    let ledger = Ledger::default().advance(&before, span(at(0))).ledger;
    let arms = Arms { stable: arm.clone(), canary: None, retiring: Vec::new() };
    let mut counts = tally::measure(&ledger.advance(&reading, span(at(10))), &arms, &limits).stable;
    if counts.requests == 0 {
        // No series at all has no bounds either.
        counts.slower = limits.iter().map(|limit| (*limit, 0)).collect();
    }
    Expected { requests: counts.requests, errors: counts.errors, slower: counts.slower }
}
