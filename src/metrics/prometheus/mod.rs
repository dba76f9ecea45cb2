//! Asks a Prometheus server, or what speaks its HTTP API.
//!
//! The counters of both arms are one *instant query with a range selector*, `{...}[150s]` at an explicit `time=`. It answers raw
//! samples with the times at which they were taken. A plain instant selector would give every sample the evaluation time and hide
//! that it may be five minutes old, and `timestamp()` loses the metric's name, without which counters and buckets are one. The samples
//! between two looks come along, so that a reset between them is seen too.

mod access;
pub mod answer;
mod clock;
pub mod history;
pub mod secrets;
mod selector;
mod server;
pub mod shares;
pub mod template;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_core::judge::{Trouble, TroubleKind};
use tokio::time::Instant;

use self::{
    answer::{Answer, Series},
    template::Variables,
};
pub use self::{selector::is_label_name, server::Server};
use super::{
    Arm, Memory, Query, Question,
    counters::Reading,
    exposition::Labels,
    http::bad_answer,
    misconfigured,
    profiles::{PROCESS_START, Profile, UP},
    reading::{Gatherer, Observed},
};

/// How far back a first look reaches: Prometheus' own lookback.
const FIRST_WINDOW: TimeDelta = TimeDelta::minutes(5);
/// How much further than the previous look a look reaches, for samples that arrive late.
const LATE: TimeDelta = TimeDelta::minutes(2);
/// How far back a look reaches at most. After a longer outage the memory still has the values from before it.
const LONGEST_WINDOW: TimeDelta = TimeDelta::minutes(15);
/// The most reporters whose age is asked for in one look.
const MOST_NEWCOMERS: usize = 200;
/// When Istio's agent says that the pod's process started.
const AGENT_START: &str = "istio_agent_process_start_time_seconds";

/// The predictors by revision, and whether each is a retiring one.
type Named<'a> = [(Arc<str>, &'a Arm, bool)];

/// The counters of all arms.
pub async fn read(
    server: &Arc<Server>,
    question: &Question<'_>,
    profile: &Profile,
    named: &Named<'_>,
    memory: &Memory,
    deadline: Instant,
) -> Result<Reading, Trouble> {
    let wanted = question.labels();
    let at = server::evaluated_at(question.now);
    let window = window(at, memory.looked_at());
    let predictors = named.iter().map(|(_, arm, _)| &arm.predictor);
    let series = selector::series(profile, &predictors, wanted, memory.bounds());
    let promql = format!("{series}[{}]", selector::duration(window));
    let asked = Instant::now();
    let answer = server.query(&promql, at, deadline).await?;
    server.agrees(question.now, asked)?;

    let mut gatherer = Gatherer::new(profile, wanted);
    let newcomers = gather(&mut gatherer, server, matrix(server, &answer)?, named, profile, memory)?;
    ask_ages(&mut gatherer, server, &newcomers, window, at, deadline).await?;
    gatherer.finish(!question.limits.is_empty()).map_err(|trouble| server.in_words(&trouble))
}

/// Takes in series, and says whose age is to be asked for: they were not there before.
fn gather<'s>(
    gatherer: &mut Gatherer<'_>,
    server: &Server,
    all: impl IntoIterator<Item = &'s Series>,
    named: &Named<'_>,
    profile: &Profile,
    memory: &Memory,
) -> Result<BTreeSet<String>, Trouble> {
    let mut newcomers = BTreeSet::new();
    for series in all {
        let reporter = reporter(&series.labels);
        take(gatherer, &reporter, series, named, profile).map_err(|trouble| server.in_words(&trouble))?;
        if memory.looked_at().is_some() && !memory.knows(&reporter) {
            newcomers.extend(series.labels.get("instance").cloned());
        }
    }
    Ok(newcomers)
}

/// Asks how old the newcomers are.
async fn ask_ages(
    gatherer: &mut Gatherer<'_>,
    server: &Arc<Server>,
    newcomers: &BTreeSet<String>,
    window: Duration,
    at: DateTime<Utc>,
    deadline: Instant,
) -> Result<(), Trouble> {
    if !newcomers.is_empty() && newcomers.len() <= MOST_NEWCOMERS {
        let starts = [UP, PROCESS_START, AGENT_START];
        let metrics = selector::any_of("__name__", starts);
        let instances = selector::any_of("instance", newcomers.iter().map(String::as_str));
        let promql = format!("{{{metrics},{instances}}}[{}]", selector::duration(window));
        let answer = server.query(&promql, at, deadline).await?;
        for series in matrix(server, &answer)? {
            age(gatherer, series);
        }
    }
    Ok(())
}

/// How far back a look reaches.
fn window(at: DateTime<Utc>, previous: Option<DateTime<Utc>>) -> Duration {
    let window = previous.map_or(FIRST_WINDOW, |previous| (at - previous + LATE).min(LONGEST_WINDOW));
    // Whole tens of seconds: the looks of several Rollouts then ask alike.
    let seconds = u64::try_from(window.num_seconds()).unwrap_or(0).next_multiple_of(10);
    Duration::from_secs(seconds)
}

fn matrix<'a>(server: &Server, answer: &'a Answer) -> Result<&'a [Series], Trouble> {
    match answer {
        Answer::Matrix(series) => Ok(series),
        Answer::Scalar(_) | Answer::Vector(_) | Answer::Text => Err(server
            .in_words(&bad_answer("answered a range selector with something that is no matrix".to_owned()))),
    }
}

/// Who exposes a series: what Prometheus calls an instance of a job.
fn reporter(labels: &Labels) -> Arc<str> {
    let part = |name: &str| labels.get(name).map_or("", String::as_str);
    let who = if part("instance").is_empty() { part("pod") } else { part("instance") };
    format!("{}/{}/{who}", part("cluster"), part("job")).into()
}

/// Takes in a series about one of the predictors; one about others is passed over.
fn take(
    gatherer: &mut Gatherer<'_>,
    reporter: &Arc<str>,
    series: &Series,
    named: &Named<'_>,
    profile: &Profile,
) -> Result<(), Trouble> {
    let predictors = named.iter().map(|(_, arm, _)| &arm.predictor);
    let Some(predictor) = profile.predictor(&series.labels, predictors) else { return Ok(()) };
    let Some((revision, arm, _)) = named.iter().find(|(_, arm, _)| arm.predictor == *predictor) else {
        return Ok(());
    };
    let name = series.labels.get("__name__").map_or("", String::as_str);
    if series.native {
        gatherer.saw_native(name, &series.labels);
    }
    for (millis, value) in &series.points {
        let Some(at) = DateTime::from_timestamp_millis(*millis) else { continue };
        let sample = Observed { arm: revision, reporter, name, labels: &series.labels, at, value: *value };
        gatherer.add(&sample)?;
        if profile.target_labels {
            gatherer.started(reporter, started(arm, &series.labels));
        }
    }
    Ok(())
}

/// When the pod that exposes a series started.
fn started(arm: &Arm, labels: &Labels) -> Option<DateTime<Utc>> {
    let host =
        labels.get("instance").map_or("", |instance| instance.rsplit_once(':').map_or(&**instance, |x| x.0));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let pod = labels.get("pod").map_or("", String::as_str);
    arm.pods.iter().find(|known| known.name == pod || known.address.to_string() == host)?.started
}

/// Takes in what is known about the age of a reporter.
fn age(gatherer: &mut Gatherer<'_>, series: &Series) {
    let reporter = reporter(&series.labels);
    let is_up = series.labels.get("__name__").is_some_and(|name| name == UP);
    for (millis, value) in &series.points {
        let Some(at) = DateTime::from_timestamp_millis(*millis) else { continue };
        if is_up {
            gatherer.up(&reporter, at, *value);
        } else {
            gatherer.process_started(&reporter, *value);
        }
    }
}

/// The number that a query answers about a predictor: it has the canary's place, whichever it is.
pub async fn ask(
    server: &Arc<Server>,
    question: &Question<'_>,
    query: &Query,
    about: Option<&Arm>,
    deadline: Instant,
) -> Result<f64, Trouble> {
    let at = server::evaluated_at(question.now);
    let promql = filled(question, &Template::from(query), about, at)?;
    let asked = Instant::now();
    let answer = server.query(&promql, at, deadline).await?;
    server.agrees(question.now, asked)?;
    answer::one_number(&answer).map_err(|trouble| server.in_words(&trouble))
}

/// A query of a check, its variables not filled in.
#[derive(Clone, Copy)]
pub struct Template<'a> {
    /// Name of the check.
    check: &'a str,
    promql: &'a str,
    /// What `{{window}}` stands for at most.
    window: Duration,
}

impl<'a> From<&'a Query> for Template<'a> {
    fn from(query: &'a Query) -> Self {
        Self { check: &query.check, promql: &query.promql, window: query.window }
    }
}

/// The query about a predictor, as it is asked `at` a time.
fn filled(
    question: &Question<'_>,
    template: &Template<'_>,
    about: Option<&Arm>,
    at: DateTime<Utc>,
) -> Result<String, Trouble> {
    let revision = about.unwrap_or(question.stable).predictor.revision();
    // What was before the step is no evidence: the window grows with it.
    let since = (at - question.step_start).to_std().unwrap_or_default();
    let variables = Variables {
        canary: about.map(|arm| &*arm.predictor.service),
        stable: &question.stable.predictor.service,
        namespace: question.namespace,
        rollout: question.rollout,
        revision: &revision,
        step_start: question.step_start,
        window: template.window.min(Duration::from_secs(since.as_secs().max(1))),
    };
    template::fill(template.promql, &variables)
        .map_err(|message| misconfigured(format!("the query of check {} {message}", template.check)))
}

/// Whether the server can read a query, and would answer one number. It is evaluated in 1970, where there is nothing to read.
pub async fn validate(server: &Arc<Server>, promql: &str, deadline: Instant) -> Result<(), Trouble> {
    let answer = tried(server, promql, "", deadline).await?;
    match &*answer {
        Answer::Matrix(_) | Answer::Text => match answer::one_number(&answer) {
            Ok(_) => Ok(()),
            Err(trouble) => Err(bad_query(format!("the query {}", trouble.message))),
        },
        Answer::Scalar(_) | Answer::Vector(_) => Ok(()),
    }
}

/// Whether the server can read the samples of what a query selects: that of counters that are compared.
pub async fn validate_selector(server: &Arc<Server>, promql: &str, deadline: Instant) -> Result<(), Trouble> {
    match &*tried(server, promql, "[1m]", deadline).await? {
        Answer::Matrix(_) => Ok(()),
        Answer::Scalar(_) | Answer::Vector(_) | Answer::Text => {
            Err(bad_query("the query selects no samples: the selector of a counter is expected".to_owned()))
        }
    }
}

async fn tried(
    server: &Arc<Server>,
    promql: &str,
    range: &str,
    deadline: Instant,
) -> Result<Arc<Answer>, Trouble> {
    let filled = template::fill(promql, &Variables::example())
        .map_err(|message| bad_query(format!("the query {message}")))?;
    let at = DateTime::UNIX_EPOCH + TimeDelta::days(1);
    server.query(&format!("{filled}{range}"), at, deadline).await
}

fn bad_query(message: String) -> Trouble {
    Trouble { kind: TroubleKind::BadQuery, message }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
