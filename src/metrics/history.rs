//! Looks at what a source has recorded, as they would have been at the time.
//!
//! They read the same series by the same rules, keep the same memory between them and count the same. What differs: trouble
//! with the source is of now and not of then, so it ends the whole; and what arrived late in its time is there by now.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_core::{
    judge::{HISTORY, Look, Measurement, Trouble, scored},
    plan::MetricsPlan,
};

use super::{
    Compared, Memory, Metrics, Query, Question, arms,
    memory::Shape,
    named,
    prometheus::{self, Server, history::Recorded},
};

/// Which time is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The last look.
    pub until: DateTime<Utc>,
    /// Time between two looks, in whole milliseconds.
    pub every: Duration,
}

/// A source's history.
pub struct History {
    metrics: Metrics,
    server: Arc<Server>,
    memory: Memory,
    recorded: Recorded,
}

impl Metrics {
    /// The history of the source that a Rollout means, to be looked at from its beginning to its end.
    pub fn history(&self, metrics: &MetricsPlan, past: Past) -> Result<History, Trouble> {
        self.check(metrics)?;
        let server = self.server(metrics)?.clone();
        let recorded = Recorded::new(past);
        Ok(History { metrics: self.clone(), server, memory: Memory::default(), recorded })
    }

    /// What stable alone did in the looks before the one of a question, oldest first; what the source does not tell is
    /// learned on the way. Of pods that are scraped nothing is recorded.
    pub async fn stable_before(&self, question: &Question<'_>, interval: Duration) -> Vec<Measurement> {
        let mut looks = Vec::new();
        // All of it takes no longer than one look may: what came until then counts.
        let asked = self.ask_before(question, interval, &mut looks);
        if tokio::time::timeout(question.timeout, asked).await.is_err() {
            tracing::debug!("what stable did before the rollout took too long to tell");
        }
        looks
    }

    async fn ask_before(&self, question: &Question<'_>, interval: Duration, looks: &mut Vec<Measurement>) {
        let past = Past { until: question.now, every: interval };
        if question.scrapes() {
            return;
        }
        let Ok(mut history) = self.history(question.metrics, past) else { return };
        let interval = TimeDelta::from_std(interval).unwrap_or_default();
        let ago = |looks: usize| question.now - interval * i32::try_from(looks).unwrap_or_default();
        let step_start = ago(2 * HISTORY);
        for back in (0..=HISTORY).rev() {
            let question = Question {
                now: ago(back),
                canary: None,
                retiring: &[],
                queries: &[],
                shadow: false,
                step_start,
                ..question.clone()
            };
            match history.look(&question).await {
                Ok(look) => looks.extend(look.counts),
                Err(trouble) => {
                    tracing::debug!("what stable did before the rollout cannot be told: {trouble}");
                    break;
                }
            }
        }
    }
}

// === impl History ===

impl History {
    /// The look at `question.now`, which is later than that of the look before.
    ///
    /// # Errors
    /// The source cannot be asked now.
    pub async fn look(&mut self, question: &Question<'_>) -> Result<Look, Trouble> {
        let profile = self.metrics.profile(question.metrics)?;
        let profile = if question.shadow { profile.of_copies() } else { profile };
        let arms = arms(question, &profile)?;
        let shape = Shape::of(question, &arms);
        self.memory.prepare(&shape, question.now);
        let named = named(question);
        let reading = self.recorded.read(&self.server, question, &profile, &named, &self.memory).await?;
        let counts = match reading {
            Ok(reading) => self.memory.take(shape, &reading, question, &arms),
            Err(trouble) => {
                self.memory.missed(question.now);
                Err(trouble)
            }
        };
        let mut look = Look::new(question.now, counts);
        for query in question.queries {
            self.ask(question, query, &mut look).await?;
        }
        Ok(look)
    }

    /// Writes into the look what a query would have answered.
    async fn ask(&mut self, question: &Question<'_>, query: &Query, look: &mut Look) -> Result<(), Trouble> {
        let (server, recorded) = (&self.server, &mut self.recorded);
        let check = query.check.clone();
        match (&query.compared, question.canary) {
            (Some(Compared::Shares(total)), Some(canary)) => {
                let both = recorded.shares(server, question, (query, total), canary).await?;
                look.compared.insert(check, both);
            }
            (Some(Compared::Scores), Some(canary)) => {
                let apart = prometheus::tells_apart(question, &query.into(), canary);
                let of_canary = recorded.ask(server, question, query, Some(canary)).await?;
                let of_stable = recorded.ask(server, question, query, Some(question.stable)).await?;
                look.compared
                    .insert(check.clone(), apart.and_then(|()| scored(of_canary.clone(), of_stable)));
                look.queries.insert(check, of_canary);
            }
            (_, canary) => {
                look.queries.insert(check, recorded.ask(server, question, query, canary).await?);
            }
        }
        Ok(())
    }
}
