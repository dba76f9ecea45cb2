//! What the queries of checks answer: one number, or what they say about both arms.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sluice_core::{
    judge::{Both, Look, Trouble, scored},
    plan::{Plan, PlannedCheck, Rule},
};
use tokio::time::Instant;

use super::{
    Arm, Question, misconfigured,
    prometheus::{self, Server, shares::Shares},
};

/// A `query` check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Name of the check.
    pub check: String,
    /// The query, with its variables not filled in.
    pub promql: String,
    /// What `{{window}}` stands for at most; it never reaches back beyond the start of the step.
    pub window: Duration,
    /// What is compared with stable, where anything is.
    pub compared: Option<Compared>,
}

/// What a query is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    /// The number that it answers.
    Number,
    /// The samples of the counter that it selects.
    Samples,
}

/// What of a query is compared with stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The number that it answers about each.
    Scores,
    /// How much the counter that it selects has grown, as a part of another one: the selector of that one.
    Shares(String),
}

impl Query {
    /// The query checks of a plan.
    pub fn of(plan: &Plan) -> Vec<Self> {
        let query = |check: &PlannedCheck| {
            let Rule::Query { promql, total, .. } = &check.rule else { return None };
            let compared = check.versus.as_ref().map(|_| match total {
                Some(total) => Compared::Shares(total.clone()),
                None => Compared::Scores,
            });
            Some(Self { check: check.name.clone(), promql: promql.clone(), window: check.window, compared })
        };
        plan.checks.iter().filter_map(query).collect()
    }
}

/// What is kept of compared counters between two looks, by check.
pub type Kept = BTreeMap<String, Shares>;

/// Asks all `queries` of a question, at the same time, and writes into `look` what they answer.
pub async fn ask(
    server: Result<&Arc<Server>, Trouble>,
    question: &Question<'_>,
    kept: &mut Kept,
    deadline: Instant,
) -> Answers {
    let mut before = std::mem::take(kept);
    let answers = question.queries.iter().map(|query| {
        let (server, shares) = (server.clone(), before.remove(&query.check).unwrap_or_default());
        async move { (&query.check, answer(server, question, query, shares, deadline).await) }
    });
    let mut all = Answers::default();
    for (check, answer) in futures::future::join_all(answers).await {
        match answer {
            Answer::Single(single) => drop(all.queries.insert(check.clone(), single)),
            Answer::Both(canary, both) => {
                all.queries.insert(check.clone(), canary);
                all.compared.insert(check.clone(), both);
            }
            Answer::Shares(shares, both) => {
                kept.insert(check.clone(), *shares);
                all.compared.insert(check.clone(), both);
            }
        }
    }
    all
}

/// What the queries answered, by check.
#[derive(Default)]
pub struct Answers {
    queries: BTreeMap<String, Result<f64, Trouble>>,
    compared: BTreeMap<String, Result<Both, Trouble>>,
}

impl Answers {
    /// Puts them into a look.
    pub fn into_look(self, look: Look) -> Look {
        Look { queries: self.queries, compared: self.compared, ..look }
    }
}

enum Answer {
    Single(Result<f64, Trouble>),
    Both(Result<f64, Trouble>, Result<Both, Trouble>),
    Shares(Box<Shares>, Result<Both, Trouble>),
}

async fn answer(
    server: Result<&Arc<Server>, Trouble>,
    question: &Question<'_>,
    query: &Query,
    mut shares: Shares,
    deadline: Instant,
) -> Answer {
    let server = match (server, &query.compared) {
        (Ok(server), _) => server,
        (Err(trouble), None) => return Answer::Single(Err(trouble)),
        (Err(trouble), Some(_)) => return Answer::Both(Err(trouble.clone()), Err(trouble)),
    };
    let ask = |about| prometheus::ask(server, question, query, about, deadline);
    let arms = question.canary.ok_or_else(|| {
        misconfigured(format!("the query of check {} compares, and there is no canary", query.check))
    });
    match (&query.compared, arms) {
        (None, _) => Answer::Single(ask(question.canary).await),
        (Some(_), Err(trouble)) => Answer::Both(Err(trouble.clone()), Err(trouble)),
        (Some(Compared::Scores), Ok(canary)) => {
            if let Err(trouble) = prometheus::tells_apart(question, &query.into(), canary) {
                return Answer::Both(ask(Some(canary)).await, Err(trouble));
            }
            let (canary, stable) = tokio::join!(ask(Some(canary)), ask(Some(question.stable)));
            let both = scored(canary.clone(), stable);
            Answer::Both(canary, both)
        }
        (Some(Compared::Shares(total)), Ok(canary)) => {
            let both = shares_now(server, question, (query, total), canary, &mut shares, deadline).await;
            Answer::Shares(Box::new(shares), both)
        }
    }
}

async fn shares_now(
    server: &Arc<Server>,
    question: &Question<'_>,
    query: (&Query, &str),
    canary: &Arm,
    shares: &mut Shares,
    deadline: Instant,
) -> Result<Both, Trouble> {
    let asked = Instant::now();
    let read = shares.read(server, question, query, canary, deadline).await;
    match read.and_then(|read| server.agrees(question.now, asked).map(|()| read)) {
        Ok(read) => shares.take(read, question, canary),
        Err(trouble) => {
            shares.missed(question.now);
            Err(trouble)
        }
    }
}
