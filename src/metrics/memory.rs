//! What is kept of one Rollout between two looks.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use sluice_core::{
    judge::{Bound, Measurement, Trouble, TroubleKind},
    plan::MetricsPlan,
};

use super::{
    Question,
    counters::{Advance, Ledger, Reading, Reporter, Span, first_look},
    queries::Kept,
    tally::{self, Arms},
};

/// What is kept of one Rollout between two looks: its raw counters, and when they were read. Not for disk: a controller
/// that starts anew has seen nothing, and its first look says so.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    previous: Option<Previous>,
    /// When the source last gave no answer that could be read.
    missed: Option<DateTime<Utc>>,
    /// The counters of queries that are compared.
    pub(super) queries: Kept,
}

#[derive(Clone, Debug)]
struct Previous {
    first: DateTime<Utc>,
    at: DateTime<Utc>,
    shape: Shape,
    ledger: Ledger,
    bounds: BTreeSet<Bound>,
}

/// What two looks must have in common for their difference to mean anything.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    metrics: MetricsPlan,
    shadow: bool,
    limits: Vec<Bound>,
    stable: Arc<str>,
    canary: Option<Arc<str>>,
    all: Vec<Arc<str>>,
}

impl Shape {
    pub(super) fn of(question: &Question<'_>, arms: &Arms) -> Self {
        Self {
            metrics: question.metrics.clone(),
            shadow: question.shadow,
            limits: question.limits.to_vec(),
            stable: arms.stable.clone(),
            canary: arms.canary.clone(),
            all: arms.all(),
        }
    }

    /// The increase over the earlier look can be told: the same question about the same arms, and of the retiring ones none
    /// that was not asked about before.
    fn follows(&self, earlier: &Self) -> bool {
        self.metrics == earlier.metrics
            && self.shadow == earlier.shadow
            && self.limits == earlier.limits
            && self.stable == earlier.stable
            && self.canary == earlier.canary
            && self.all.iter().all(|arm| earlier.all.contains(arm))
    }
}

impl Memory {
    /// Forgets what cannot be compared with the look that comes: another question, other arms, or a look that the clock
    /// says is still to come.
    pub(super) fn prepare(&mut self, shape: &Shape, now: DateTime<Utc>) {
        if self.previous.as_ref().is_some_and(|previous| !shape.follows(&previous.shape) || now < previous.at)
        {
            self.previous = None;
        }
    }

    /// When the previous look was.
    pub(super) fn looked_at(&self) -> Option<DateTime<Utc>> {
        self.previous.as_ref().map(|previous| previous.at)
    }

    /// The histogram bounds that the limits need, where the previous look has found them.
    pub(super) fn bounds(&self) -> Option<&BTreeSet<Bound>> {
        self.previous.as_ref().map(|previous| &previous.bounds).filter(|bounds| !bounds.is_empty())
    }

    /// Whether a reporter was there at an earlier look.
    pub(super) fn knows(&self, reporter: &str) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.ledger.knows(reporter))
    }

    /// The source gave no answer that could be read.
    pub(super) fn missed(&mut self, now: DateTime<Utc>) {
        self.missed = Some(now);
    }

    /// Takes up what was read: the increase since the previous look, if there was one.
    pub(super) fn take(
        &mut self,
        shape: Shape,
        reading: &Reading,
        question: &Question<'_>,
        arms: &Arms,
    ) -> Result<Measurement, Trouble> {
        let now = question.now;
        let Some(previous) = &mut self.previous else {
            let span = Span::since(now, question.step_start, now);
            let advance = Ledger::default().advance(reading, span);
            let bounds = tally::bounds(&advance, arms, question.limits);
            self.previous = Some(Previous { first: now, at: now, shape, ledger: advance.ledger, bounds });
            return Err(first_look());
        };
        let span = Span::since(previous.first, question.step_start, now);
        let mut advance = previous.ledger.advance(reading, span);
        // A source that is back shows what it gathered before it was away, and that does not say how things are now.
        let newest = reading.reporters.values().filter_map(Reporter::newest).max();
        if advance.fresh.is_empty() || newest < self.missed {
            // Nothing is taken up: the next look reaches back to the same one as this.
            return Err(no_news(newest, question));
        }
        advance.ledger.keep_arms(&shape.all);
        previous.bounds = previous.bounds_after(&advance, arms, question.limits);
        previous.ledger = std::mem::take(&mut advance.ledger);
        previous.at = now;
        previous.shape = shape;
        let measured = tally::measure(&advance, arms, question.limits);
        // Zero would be a claim: the time that the samples span is not of this step.
        let nothing = measured.stable.requests == 0 && measured.canary.requests == 0;
        if nothing && !tally::covered(&advance, &arms.stable) {
            return Err(Trouble {
                kind: TroubleKind::Baseline,
                message: format!("no two samples about {} since this traffic was in place", names(question)),
            });
        }
        Ok(measured)
    }
}

impl Previous {
    /// The bounds to ask for next. A histogram that lacks one of them has others, which are found by asking for all.
    fn bounds_after(&self, advance: &Advance, arms: &Arms, limits: &[Bound]) -> BTreeSet<Bound> {
        if self.bounds.is_empty() {
            tally::bounds(advance, arms, limits)
        } else if tally::common(advance, arms).is_superset(&self.bounds) {
            self.bounds.clone()
        } else {
            BTreeSet::new()
        }
    }
}

fn names(question: &Question<'_>) -> String {
    match question.canary {
        Some(canary) => format!("{} and {}", question.stable.predictor, canary.predictor),
        None => question.stable.predictor.to_string(),
    }
}

fn no_news(newest: Option<DateTime<Utc>>, question: &Question<'_>) -> Trouble {
    let arms = names(question);
    let who = match question.metrics {
        MetricsPlan::Source { name, .. } => format!("metrics source {name} has"),
        MetricsPlan::Scrape { .. } => "the ready pods have".to_owned(),
    };
    let message = match newest {
        None if question.scrapes() => format!("there is no ready pod behind {arms}: expected one to ask"),
        None => {
            format!("{who} no series about {arms}: expected some with the labels of the metrics profile")
        }
        Some(newest) => format!(
            "{who} no new sample about {arms}: expected one since {}",
            newest.to_rfc3339_opts(SecondsFormat::Secs, true)
        ),
    };
    Trouble { kind: TroubleKind::NoData, message }
}
