//! Reads what a server has recorded, an hour at a time: each look gets the part of it that it would have asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_core::judge::{Both, Bound, Trouble, TroubleKind};
use tokio::time::Instant;

use super::{
    LONGEST_WINDOW, Named, Template,
    answer::{self, Answer, Series},
    ask_ages, filled, gather, matrix, selector, selectors,
    server::Server,
    shares::Shares,
    window,
};
use crate::metrics::{
    Arm, Memory, Past, Query, Question, counters::Reading, http::bad_answer, profiles::Profile,
    reading::Gatherer,
};

/// As much is asked for at once, where nothing keeps from it.
const LONGEST: TimeDelta = TimeDelta::hours(1);
/// Before it is known which buckets of a histogram are needed, all of them come.
const WITH_ALL_BUCKETS: TimeDelta = TimeDelta::minutes(10);
/// Less is not asked for at once: what is too much then is too much.
const SHORTEST: TimeDelta = TimeDelta::minutes(1);
/// Answers of a query that are asked for at once; Prometheus gives 11,000 at most.
const ANSWERS: u32 = 1000;

/// What was read of a server's history so far.
pub struct Recorded {
    past: Past,
    chunk: Option<Chunk>,
    /// How much is asked for at once.
    length: TimeDelta,
    /// Whether the server has answered anything.
    answered: bool,
    /// Answers to queries, by their text.
    answers: BTreeMap<String, Answers>,
    /// What is kept between two looks of compared counters, by check.
    shares: BTreeMap<String, Shares>,
}

/// The samples of a while.
struct Chunk {
    until: DateTime<Utc>,
    /// The buckets that are in it, if not all.
    bounds: Option<BTreeSet<Bound>>,
    /// The samples of each group of the profile's metrics.
    answers: Vec<Arc<Answer>>,
}

/// The answers to one query text, by time in milliseconds.
struct Answers {
    until: DateTime<Utc>,
    at: BTreeMap<i64, Vec<answer::Instant>>,
}

impl Recorded {
    pub fn new(past: Past) -> Self {
        Self {
            past,
            chunk: None,
            length: LONGEST,
            answered: false,
            answers: BTreeMap::new(),
            shares: BTreeMap::new(),
        }
    }

    /// The counters as a look would have read them, or why it would not have.
    ///
    /// # Errors
    /// The server cannot be asked now.
    pub async fn read(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        profile: &Profile,
        named: &Named<'_>,
        memory: &Memory,
    ) -> Result<Result<Reading, Trouble>, Trouble> {
        let at = question.now;
        let chunk = match self.chunk.take() {
            Some(chunk) if chunk.until >= at && chunk.bounds.as_ref() == memory.bounds() => chunk,
            Some(_) | None => self.load(server, question, profile, named, memory).await?,
        };
        let chunk = self.chunk.insert(chunk);
        let window = window(at, memory.looked_at());
        let (after, until) = (at - window, at.timestamp_millis());
        let part = |series: &Series| series.between(after.timestamp_millis(), until);
        let mut gatherer = Gatherer::new(profile, question.labels());
        let mut newcomers = BTreeSet::new();
        for (group, answer) in profile.groups.iter().zip(&chunk.answers) {
            let parts: Vec<Series> = matrix(server, answer)?.iter().filter_map(part).collect();
            match gather(&mut gatherer, server, &parts, (profile, group), named, memory) {
                Ok(more) => newcomers.extend(more),
                Err(trouble) => return Ok(Err(trouble)),
            }
        }
        ask_ages(gatherer.reading(), server, &newcomers, window, at, Instant::now() + question.timeout)
            .await?;
        Ok(Ok(gatherer.finish(question.limits)))
    }

    /// Asks for the samples from as long before the look as it may reach back, to as long after it as can be had at once.
    async fn load(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        profile: &Profile,
        named: &Named<'_>,
        memory: &Memory,
    ) -> Result<Chunk, Trouble> {
        let bounds = memory.bounds().cloned();
        let selectors = selectors(question, profile, named, memory);
        let from = question.now - LONGEST_WINDOW;
        loop {
            let known = bounds.is_some() || question.limits.is_empty();
            let length = if known { self.length } else { self.length.min(WITH_ALL_BUCKETS) };
            let until = (question.now + length).min(self.past.until);
            let span = (until - from).to_std().unwrap_or_default();
            let range = &selector::duration(span);
            let deadline = Instant::now() + question.timeout;
            let asks = selectors.iter().map(|series| async move {
                server.query_alone(&format!("{series}[{range}]"), until, deadline).await
            });
            match futures::future::try_join_all(asks).await {
                Ok(answers) => {
                    self.answered = true;
                    return Ok(Chunk { until, bounds, answers });
                }
                Err(trouble) if self.is_too_much(&trouble, length) => self.length = length / 2,
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Too many samples are refused, or an answer of them is too long, or takes too long.
    fn is_too_much(&self, trouble: &Trouble, length: TimeDelta) -> bool {
        let may_be = match trouble.kind {
            TroubleKind::BadAnswer | TroubleKind::BadQuery => true,
            // One that has never answered is not there.
            TroubleKind::Unavailable => self.answered,
            TroubleKind::Baseline
            | TroubleKind::NoData
            | TroubleKind::Refused
            | TroubleKind::Untrusted
            | TroubleKind::Partial
            | TroubleKind::Misconfigured => false,
        };
        may_be && length / 2 >= SHORTEST
    }

    /// The number that a query would have answered about a predictor, or why it would have answered none.
    ///
    /// # Errors
    /// The server cannot be asked now, or refuses the query.
    pub async fn ask(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        query: &Query,
        about: Option<&Arm>,
    ) -> Result<Result<f64, Trouble>, Trouble> {
        let at = question.now;
        let template = Template::from(query);
        let promql = filled(question, &template, about, at)?;
        self.answers.retain(|_, known| at <= known.until);
        let known = self.answers.contains_key(&promql);
        let next = at + self.past.every;
        let stays = next <= self.past.until && filled(question, &template, about, next)? == promql;
        let answer = if known || stays {
            if !known {
                let answers = self.answers_from(server, at, &promql).await?;
                self.answers.insert(promql.clone(), answers);
            }
            let known = self.answers.get(&promql).and_then(|known| known.at.get(&at.timestamp_millis()));
            answer::one_number(&Answer::Vector(known.cloned().unwrap_or_default()))
        } else {
            // Its text is another one at each look: the window grows with the step at first.
            answer::one_number(&*server.query(&promql, at, Instant::now() + question.timeout).await?)
        };
        Ok(answer.map_err(|trouble| server.in_words(&trouble)))
    }

    /// What two counters of each arm would have shown, or why nothing.
    ///
    /// # Errors
    /// The server cannot be asked now, or refuses the query.
    pub async fn shares(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        query: (&Query, &str),
        canary: &Arm,
    ) -> Result<Result<Both, Trouble>, Trouble> {
        let shares = self.shares.entry(query.0.check.clone()).or_default();
        let deadline = Instant::now() + question.timeout;
        let read = shares.read(server, question, query, canary, deadline).await?;
        Ok(shares.take(read, question, canary))
    }

    async fn answers_from(
        &self,
        server: &Server,
        at: DateTime<Utc>,
        promql: &str,
    ) -> Result<Answers, Trouble> {
        let until = (at + self.past.every * (ANSWERS - 1)).min(self.past.until);
        let Answer::Matrix(series) = server.range(promql, (at, until), self.past.every).await? else {
            return Err(
                server.in_words(&bad_answer("answered a range with something that is no matrix".to_owned()))
            );
        };
        let mut answers = BTreeMap::<i64, Vec<answer::Instant>>::new();
        for Series { labels, points, histograms } in series {
            // A native histogram is no number.
            let none = histograms.iter().map(|(at, _)| (*at, None));
            for (at, value) in points.iter().map(|(at, value)| (*at, Some(*value))).chain(none) {
                answers.entry(at).or_default().push(answer::Instant { labels: labels.clone(), value });
            }
        }
        Ok(Answers { until, at: answers })
    }
}
