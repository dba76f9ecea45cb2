//! Two counters of each arm, one of which counts a part of what the other one counts: their increases since the previous
//! look, differenced per series like the counters of requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sluice_core::judge::{Both, Counts, Measurement, Trouble, TroubleKind};
use tokio::time::Instant;

use super::{
    FIRST_WINDOW, Series, Template, ask_ages, filled, matrix, reporter, selector, server, server::Server,
    started, tells_apart, window,
};
use crate::metrics::{
    Arm, Query, Question,
    counters::{Cell, Family, Ledger, Point, Reading, Reporter, Span, first_look},
    doubles::Doubles,
    reading::describe,
};

/// What is kept of them between two looks.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    previous: Option<Previous>,
    /// When they could last not be read.
    missed: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug)]
struct Previous {
    /// What two looks must have in common: the selectors, filled in.
    asked: Vec<String>,
    first: DateTime<Utc>,
    at: DateTime<Utc>,
    ledger: Ledger,
    /// Of the canary and of stable: how much of a part was counted before its total.
    early: (u64, u64),
}

/// What one look read.
pub struct Read {
    asked: Vec<String>,
    reading: Reading,
}

impl Shares {
    /// Reads both counters of both arms, for [`Shares::take`].
    pub async fn read(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        (query, total): (&Query, &str),
        canary: &Arm,
        deadline: Instant,
    ) -> Result<Read, Trouble> {
        let at = server::evaluated_at(question.now);
        let arms = [canary, question.stable];
        let asked = selectors(question, query, total, arms, at)?;
        if self.previous.as_ref().is_some_and(|previous| previous.asked != asked || at < previous.at) {
            self.previous = None;
        }
        let window = window(at, self.previous.as_ref().map(|previous| previous.at));
        let range = selector::duration(window);
        let ranges: Vec<String> = asked.iter().map(|selector| format!("{selector}[{range}]")).collect();
        let answers = ranges.iter().map(|promql| server.query(promql, at, deadline));
        let answers = futures::future::try_join_all(answers).await?;
        let mut gathered = Gathered::default();
        let mut newcomers = BTreeSet::new();
        for (index, answer) in answers.iter().enumerate() {
            let arm = arms[index / 2];
            let family = Family::Requests { failed: index % 2 == 0 };
            for series in matrix(server, answer)? {
                let reporter =
                    gathered.take(arm, family, series).map_err(|trouble| server.in_words(&trouble))?;
                if self.previous.as_ref().is_some_and(|previous| !previous.ledger.knows(&reporter)) {
                    newcomers.extend(series.labels.get("instance").cloned());
                }
            }
        }
        let Gathered { mut reading, doubles } = gathered;
        // The first wrong answers of a pod that is young would else be taken for what it always had.
        ask_ages(&mut reading, server, &newcomers, window, at, deadline).await?;
        reading.doubles = doubles.merge(&mut reading.cells);
        Ok(Read { asked, reading })
    }

    /// They could not be read.
    pub fn missed(&mut self, now: DateTime<Utc>) {
        self.missed = Some(now);
    }

    /// The increase since the previous look, if there was one.
    pub fn take(&mut self, read: Read, question: &Question<'_>, canary: &Arm) -> Result<Both, Trouble> {
        let Read { asked, reading } = read;
        let now = question.now;
        let Some(previous) = &mut self.previous else {
            let span = Span::since(now, question.step_start, now);
            let ledger = Ledger::default().advance(&reading, span).ledger;
            self.previous = Some(Previous { asked, first: now, at: now, ledger, early: (0, 0) });
            return Err(first_look());
        };
        let span = Span::since(previous.first, question.step_start, now);
        let advance = previous.ledger.advance(&reading, span);
        let newest = reading.reporters.values().filter_map(Reporter::newest).max();
        // A source that is back shows what it gathered before it was away: that comes with the first sample after.
        if advance.fresh.is_empty() || newest < self.missed {
            // Between two scrapes there is nothing new, and nothing is wrong.
            let kind = match newest {
                Some(newest) if now - newest < FIRST_WINDOW => TroubleKind::Baseline,
                Some(_) | None => TroubleKind::NoData,
            };
            let message = format!("no new sample of {}: expected counters there", asked.join(", "));
            return Err(Trouble { kind, message });
        }
        let sum = |arm: &Arm, part: bool| {
            let revision = arm.predictor.revision();
            let of = |cell: &Cell| *cell.arm == *revision && cell.family == Family::Requests { failed: part };
            let grown = advance.increases.iter().filter(|(cell, _)| of(cell)).map(|(_, grown)| grown.total);
            whole(grown.sum())
        };
        let counts = |arm: &Arm, early: &mut u64| {
            let (requests, part) = (sum(arm, false), sum(arm, true).saturating_add(*early));
            // Two counters are read a moment apart by some exporters: what is ahead of its total waits for it.
            *early = part.saturating_sub(requests);
            Counts { requests, errors: part.min(requests), ..Counts::default() }
        };
        let canary = counts(canary, &mut previous.early.0);
        let stable = counts(question.stable, &mut previous.early.1);
        previous.ledger = advance.ledger;
        previous.at = now;
        Ok(Both::Counted(Measurement { stable, canary, ..Measurement::default() }))
    }
}

/// The selectors of part and total of each arm.
fn selectors(
    question: &Question<'_>,
    query: &Query,
    total: &str,
    arms: [&Arm; 2],
    at: DateTime<Utc>,
) -> Result<Vec<String>, Trouble> {
    let part = Template::from(query);
    tells_apart(question, &part, arms[0])?;
    tells_apart(question, &Template { promql: total, ..part }, arms[0])?;
    let both = |arm| [part, Template { promql: total, ..part }].map(|template| (arm, template));
    let fill = |(arm, template): (_, Template<'_>)| filled(question, &template, Some(arm), at);
    arms.into_iter().flat_map(both).map(fill).collect()
}

/// What was read of all counters so far.
#[derive(Default)]
struct Gathered {
    reading: Reading,
    doubles: Doubles,
}

impl Gathered {
    /// Takes in a series, and says who exposes it.
    fn take(&mut self, arm: &Arm, family: Family, series: &Series) -> Result<Arc<str>, Trouble> {
        let name = series.labels.get("__name__").map_or("", String::as_str);
        let described = describe(name, &series.labels);
        let bad = |message: String| Trouble { kind: TroubleKind::BadQuery, message };
        if !series.histograms.is_empty() {
            return Err(bad(format!("has native histograms in {described}: expected a counter")));
        }
        let reporter = reporter(&series.labels);
        let who = self.reading.reporter(&reporter);
        who.container_started = who.container_started.or_else(|| started(arm, &series.labels));
        let revision = arm.predictor.revision().into();
        let cell = Cell { arm: revision, reporter: reporter.clone(), family, series: described.clone() };
        self.doubles.met(&cell, &series.labels);
        for (millis, value) in &series.points {
            let Some(at) = DateTime::from_timestamp_millis(*millis) else { continue };
            self.reading.saw(&reporter, at);
            if *value < 0.0 {
                return Err(bad(format!(
                    "says that {described} is {value}: expected a counter, which is never below 0"
                )));
            }
            // A counter that is no number is of a process that ended.
            if value.is_finite() {
                let point = Point { at, total: *value, within: BTreeMap::new(), native: None };
                self.reading.cells.entry(cell.clone()).or_default().push(point);
            }
        }
        Ok(reporter)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of a float saturates
fn whole(sum: f64) -> u64 {
    sum.round() as u64
}
