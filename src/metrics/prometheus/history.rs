//! Reads what a server has recorded, an hour at a time: each look gets the part of it that it would have asked for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
<<<<<<< HEAD
use sluice_core::judge::{Both, Trouble, TroubleKind};
use tokio::time::Instant;

use super::{
    LONGEST_WINDOW, Named,
    answer::{self, Answer, Series},
    ask_ages, filled, gather, matrix, selector,
    server::Server,
    shares::{Shares, Templates, selectors},
=======
use sluice_core::judge::{Both, Bound, Trouble, TroubleKind};
use tokio::time::Instant;

use super::{
    LONGEST_WINDOW, Named, Template,
    answer::{self, Answer, Series},
    ask_ages, filled, gather, matrix, selector,
    server::Server,
    shares::Shares,
>>>>>>> main
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
<<<<<<< HEAD
    counters: Samples,
    /// Answers to queries, by check and whom they are about.
    answers: BTreeMap<(String, String), Answers>,
    /// Compared counters, by check: what is kept of them between two looks, and the samples of each.
    shares: BTreeMap<String, (Shares, [Samples; 4])>,
=======
    chunk: Option<Chunk>,
    /// How much is asked for at once.
    length: TimeDelta,
    /// Whether the server has answered anything.
    answered: bool,
    /// Answers to queries, by their text.
    answers: BTreeMap<String, Answers>,
    /// What is kept between two looks of compared counters, by check.
    shares: BTreeMap<String, Shares>,
>>>>>>> main
}

/// The samples of a selector, as far as they were read.
struct Samples {
    selector: String,
    until: DateTime<Utc>,
    answer: Option<Arc<Answer>>,
    /// How much is asked for at once.
    length: TimeDelta,
}

/// The answers to one query text, by time in milliseconds.
struct Answers {
    until: DateTime<Utc>,
    at: BTreeMap<i64, Vec<answer::Instant>>,
}

impl Recorded {
    pub fn new(past: Past) -> Self {
<<<<<<< HEAD
        let (answers, shares) = (BTreeMap::new(), BTreeMap::new());
        Self { past, counters: Samples::default(), answers, shares }
=======
        Self {
            past,
            chunk: None,
            length: LONGEST,
            answered: false,
            answers: BTreeMap::new(),
            shares: BTreeMap::new(),
        }
>>>>>>> main
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
        let (at, window) = (question.now, window(question.now, memory.looked_at()));
        let predictors = named.iter().map(|(_, arm, _)| &arm.predictor);
        let series = selector::series(profile, &predictors, question.labels(), memory.bounds());
        let few = memory.bounds().is_some() || question.limits.is_empty();
        let most = if few { LONGEST } else { WITH_ALL_BUCKETS };
        let parts = self.counters.at(server, question, series, (self.past.until.min(at + most), window)).await?;
        let mut gatherer = Gatherer::new(profile, question.labels());
        let newcomers = match gather(&mut gatherer, server, &parts, named, profile, memory) {
            Ok(newcomers) => newcomers,
            Err(trouble) => return Ok(Err(trouble)),
        };
        ask_ages(&mut gatherer, server, &newcomers, window, at, Instant::now() + question.timeout).await?;
        Ok(gatherer.finish(!question.limits.is_empty()).map_err(|trouble| server.in_words(&trouble)))
    }

    /// What two counters of each arm would have been read as.
    ///
    /// # Errors
    /// The server cannot be asked now, or refuses a selector.
    pub async fn shares(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        templates: &Templates<'_>,
        canary: &Arm,
    ) -> Result<Result<Both, Trouble>, Trouble> {
        let asked = selectors(question, templates, canary)?;
        let (shares, samples) = self.shares.entry(templates.check.to_owned()).or_default();
        let window = shares.window(&asked, question.now);
        let until = self.past.until.min(question.now + LONGEST);
        let mut found = Vec::new();
        for (selector, samples) in asked.iter().zip(samples) {
            found.push(samples.at(server, question, selector.clone(), (until, window)).await?);
        }
        let found: Vec<&[Series]> = found.iter().map(Vec::as_slice).collect();
        Ok(shares.read(server, question, canary, asked, &found))
    }

<<<<<<< HEAD
=======
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

>>>>>>> main
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
<<<<<<< HEAD
        let text = |now| {
            let question = Question { now, ..question.clone() };
            filled(&question, &query.promql, &query.check, query.window, about)
        };
        let promql = text(at)?;
        let key = (query.check.clone(), about.map(|arm| arm.predictor.revision()).unwrap_or_default());
        let known = self.answers.get(&key).is_some_and(|known| known.promql == promql && at <= known.until);
        let next = at + self.past.every;
        let stays = next <= self.past.until && text(next)? == promql;
        let answer = if known || stays {
            if !known {
                let answers = self.answers_from(server, at, promql).await?;
                self.answers.insert(key.clone(), answers);
            }
            let known = self.answers.get(&key).and_then(|known| known.at.get(&at.timestamp_millis()));
=======
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
>>>>>>> main
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
        match shares.look(server, question, query, canary, deadline, true).await {
            Err(trouble) if !matches!(trouble.kind, TroubleKind::Baseline | TroubleKind::NoData) => {
                Err(trouble)
            }
            both => Ok(both),
        }
    }

    async fn answers_from(
        &self,
        server: &Server,
        at: DateTime<Utc>,
        promql: &str,
    ) -> Result<Answers, Trouble> {
        let until = (at + self.past.every * (ANSWERS - 1)).min(self.past.until);
<<<<<<< HEAD
        let Answer::Matrix(series) = server.range(&promql, (at, until), self.past.every).await? else {
            let trouble = bad_answer("answered a range with something that is no matrix".to_owned());
            return Err(server.in_words(&trouble));
=======
        let Answer::Matrix(series) = server.range(promql, (at, until), self.past.every).await? else {
            return Err(
                server.in_words(&bad_answer("answered a range with something that is no matrix".to_owned()))
            );
>>>>>>> main
        };
        let mut answers = BTreeMap::<i64, Vec<answer::Instant>>::new();
        for Series { labels, points, native } in series {
            for (at, value) in points {
                let value = (!native).then_some(value);
                answers.entry(at).or_default().push(answer::Instant { labels: labels.clone(), value });
            }
        }
        Ok(Answers { until, at: answers })
    }
}

impl Default for Samples {
    fn default() -> Self {
        Self { selector: String::new(), until: DateTime::UNIX_EPOCH, answer: None, length: LONGEST }
    }
}

impl Samples {
    /// The series with the samples of the `window` before the look; where they were not read yet, those until a later
    /// time come along.
    async fn at(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        selector: String,
        (until, window): (DateTime<Utc>, Duration),
    ) -> Result<Vec<Series>, Trouble> {
        let at = question.now;
        if self.answer.is_none() || self.selector != selector || self.until < at {
            self.load(server, question, &selector, until).await?;
            self.selector = selector;
        }
        let Some(answer) = &self.answer else { return Ok(Vec::new()) };
        let (after, last) = ((at - window).timestamp_millis(), at.timestamp_millis());
        Ok(matrix(server, answer)?.iter().filter_map(|series| series.between(after, last)).collect())
    }

    /// Asks for the samples from as long before the look as it may reach back, to as long after it as can be had at once.
    async fn load(
        &mut self,
        server: &Arc<Server>,
        question: &Question<'_>,
        selector: &str,
        until: DateTime<Utc>,
    ) -> Result<(), Trouble> {
        let (at, from) = (question.now, question.now - LONGEST_WINDOW);
        loop {
            let until = until.min(at + self.length);
            let span = (until - from).to_std().unwrap_or_default();
            let promql = format!("{selector}[{}]", selector::duration(span));
            match server.query(&promql, until, Instant::now() + question.timeout).await {
                Ok(answer) => {
                    self.until = until;
                    self.answer = Some(answer);
                    return Ok(());
                }
                Err(trouble) if self.is_too_much(&trouble) && (until - at) / 2 >= SHORTEST => {
                    self.length = (until - at) / 2;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Too many samples are refused, or an answer of them is too long, or takes too long.
    fn is_too_much(&self, trouble: &Trouble) -> bool {
        match trouble.kind {
            TroubleKind::BadAnswer | TroubleKind::BadQuery => true,
            // One that has never answered is not there.
            TroubleKind::Unavailable => self.answer.is_some(),
            TroubleKind::Baseline
            | TroubleKind::NoData
            | TroubleKind::Refused
            | TroubleKind::Untrusted
            | TroubleKind::Partial
            | TroubleKind::Misconfigured => false,
        }
    }
}
