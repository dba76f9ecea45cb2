//! What a profile finds about both arms right now, and what is missing: for people, before they trust their lives to it.
//!
//! It reads as a look does, with the same selectors and the same differences. A source is asked once, for the raw samples of the
//! last minutes; pods are asked twice, a moment apart.

mod gaps;
mod unanswered;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_core::{
    judge::{Bound, Measurement, Trouble},
    plan::MetricsPlan,
};
use tokio::time::Instant;

pub use self::gaps::Gap;
use super::{
    Arm, Compared, Memory, Metrics, Query, Question, arms,
    counters::{Advance, Family, Ledger, Reading, Span},
    named,
    profiles::Profile,
    prometheus::{self, Template},
    tally::{self, Arms},
};

/// How far back a source is asked.
const REACH: TimeDelta = prometheus::FIRST_WINDOW;

/// What a profile finds.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Name of the profile.
    pub profile: &'static str,
    /// When what was counted began.
    pub since: DateTime<Utc>,
    /// And when it ended.
    pub until: DateTime<Utc>,
    /// What was asked: queries, or pods with their addresses.
    pub asked: Vec<String>,
    /// What both arms counted in that time.
    pub counts: Result<Measurement, Trouble>,
    /// What there is about stable, and about the canary where there is one.
    pub arms: Vec<Seen>,
    /// The answers to the queries of checks.
    pub answers: Vec<Answered>,
    /// What is missing, and what is odd.
    pub gaps: Vec<Gap>,
}

/// What there is about a predictor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Series that count its requests.
    pub counters: usize,
    /// Who exposes them.
    pub reporters: usize,
    /// Histograms of its latencies.
    pub histograms: usize,
    /// Whether these are native ones.
    pub native: bool,
    /// The bounds that all of them have near the limits of checks.
    pub bounds: BTreeSet<Bound>,
}

/// What the query of a check gave.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Name of the check.
    pub check: String,
    /// The query with its variables filled in, where they can be.
    pub promql: String,
    /// Whether it is about the counter of all, of which another one counts a part.
    pub total: bool,
    /// The number, about the canary where there is one; of a counter that is compared its sum.
    pub answer: Result<f64, Trouble>,
    /// The number about stable, where both are compared.
    pub stable: Option<Result<f64, Trouble>>,
}

impl Metrics {
    /// What the profile of a Rollout finds. Pods are asked again after `pause`. `in_flight` is whether the canary has
    /// traffic already, so that something about it is to be expected.
    pub async fn survey(&self, question: &Question<'_>, pause: Duration, in_flight: bool) -> Survey {
        let profile = match self.profile(question.metrics) {
            Ok(profile) if question.shadow => profile.of_copies(),
            Ok(profile) => profile,
            Err(trouble) => return nothing(question, named_by(question), Vec::new(), trouble),
        };
        let deadline = Instant::now() + question.timeout;
        let asked = self.asked(question, &profile);
        let counted = match arms(question, &profile) {
            Ok(arms) => self.counted(question, &profile, arms, pause, deadline).await,
            Err(trouble) => Err(trouble),
        };
        let counted = match counted {
            Ok(counted) => counted,
            Err(trouble) => return nothing(question, profile.name, asked, trouble),
        };
        let answers = self.answered(question, deadline).await;
        let mut survey = Survey {
            profile: profile.name,
            since: counted.since,
            until: counted.until,
            asked,
            counts: Ok(tally::measure(&counted.advance, &counted.arms, question.limits)),
            arms: named(question)
                .iter()
                .map(|(revision, _, _)| seen(&counted, revision, question.limits))
                .collect(),
            answers,
            gaps: Vec::new(),
        };
        survey.gaps = self.gaps(question, &profile, &survey, in_flight, deadline).await;
        survey.gaps.extend(gaps::doubled(&counted.reading, question));
        survey
    }

    /// What is asked about the counters.
    fn asked(&self, question: &Question<'_>, profile: &Profile) -> Vec<String> {
        match question.metrics {
            MetricsPlan::Source { .. } => {
                let window = prometheus::range(prometheus::window(question.now, None));
                let selectors =
                    prometheus::selectors(question, profile, &named(question), &Memory::default());
                selectors.into_iter().map(|selector| format!("{selector}[{window}]")).collect()
            }
            MetricsPlan::Scrape { port, path, .. } => {
                let pods = named(question).into_iter().flat_map(|(_, arm, _)| &arm.pods);
                let scheme = self.inner.scraper.scheme(*port);
                pods.map(|pod| format!("pod {} at {scheme}://{}:{port}{path}", pod.name, pod.address))
                    .collect()
            }
        }
    }

    async fn counted(
        &self,
        question: &Question<'_>,
        profile: &Profile,
        arms: Arms,
        pause: Duration,
        deadline: Instant,
    ) -> Result<Counted, Trouble> {
        let read = async |question: &Question<'_>, deadline| {
            self.read(question, profile, &Memory::default(), deadline).await
        };
        let first = read(question, deadline).await?;
        let mut span = Span { watched: question.now, step_start: question.now, now: question.now };
        match question.metrics {
            MetricsPlan::Source { .. } => {
                let since = question.now - REACH;
                span = Span { watched: since, step_start: since, ..span };
                let advance = Ledger::default().advance(&first, span);
                Ok(Counted { arms, advance, reading: first, since, until: question.now })
            }
            MetricsPlan::Scrape { .. } => {
                let ledger = Ledger::default().advance(&first, span).ledger;
                tokio::time::sleep(pause).await;
                let until = question.now + TimeDelta::from_std(pause).unwrap_or_default();
                let later = Question { now: until, ..question.clone() };
                let reading = read(&later, Instant::now() + question.timeout).await?;
                let advance = ledger.advance(&reading, Span { now: until, ..span });
                Ok(Counted { arms, advance, reading, since: question.now, until })
            }
        }
    }

    async fn answered(&self, question: &Question<'_>, deadline: Instant) -> Vec<Answered> {
        let mut all = Vec::new();
        for query in question.queries {
            let sum = |promql: &str| format!("sum({promql})");
            let parts = match &query.compared {
                None | Some(Compared::Scores) => vec![(query.promql.clone(), false)],
                Some(Compared::Shares(total)) => vec![(sum(&query.promql), false), (sum(total), true)],
            };
            for (promql, total) in parts {
                let query = Query { promql, ..query.clone() };
                let template = Template::from(&query);
                let filled = prometheus::filled(question, &template, question.canary, question.now);
                let stable = match query.compared {
                    Some(_) => Some(self.ask(question, &query, Some(question.stable), deadline).await),
                    None => None,
                };
                all.push(Answered {
                    check: query.check.clone(),
                    promql: filled.unwrap_or_else(|_| query.promql.clone()),
                    total,
                    answer: self.ask(question, &query, question.canary, deadline).await,
                    stable,
                });
            }
        }
        all
    }

    async fn ask(
        &self,
        question: &Question<'_>,
        query: &Query,
        about: Option<&Arm>,
        deadline: Instant,
    ) -> Result<f64, Trouble> {
        prometheus::ask(self.server(question.metrics)?, question, query, about, deadline).await
    }
}

/// What was counted, and in which time.
struct Counted {
    arms: Arms,
    advance: Advance,
    reading: Reading,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// The profile that a Rollout names, usable or not.
fn named_by(question: &Question<'_>) -> &'static str {
    let (MetricsPlan::Source { profile, .. } | MetricsPlan::Scrape { profile, .. }) = question.metrics;
    Profile::of(*profile).name
}

/// A survey that found nothing out.
fn nothing(question: &Question<'_>, profile: &'static str, asked: Vec<String>, trouble: Trouble) -> Survey {
    let gaps = vec![gaps::of_trouble(&trouble, question)];
    let arms = named(question).iter().map(|_| Seen::default()).collect();
    Survey {
        profile,
        since: question.now,
        until: question.now,
        asked,
        counts: Err(trouble),
        arms,
        answers: Vec::new(),
        gaps,
    }
}

fn seen(counted: &Counted, revision: &Arc<str>, limits: &[Bound]) -> Seen {
    let cells = || counted.reading.cells.iter().filter(|(cell, _)| cell.arm == *revision);
    let histograms: Vec<_> = cells()
        .filter(|(cell, _)| cell.family == Family::Latency)
        .filter_map(|(_, points)| points.last())
        .collect();
    let counters: Vec<_> = cells().filter(|(cell, _)| cell.family != Family::Latency).collect();
    let bounds = histograms
        .iter()
        .map(|point| point.within.keys().copied().collect::<BTreeSet<_>>())
        .reduce(|common, bounds| &common & &bounds)
        .unwrap_or_default();
    Seen {
        counters: counters.len(),
        reporters: counters.iter().map(|(cell, _)| &cell.reporter).collect::<BTreeSet<_>>().len(),
        histograms: histograms.len(),
        native: histograms.iter().any(|point| point.native.is_some()),
        bounds: tally::nearest(&bounds, limits),
    }
}

#[cfg(test)]
mod tests;
