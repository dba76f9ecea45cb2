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
    Arm, For, Memory, Query, Question,
    counters::Reading,
    exposition::Labels,
    http::bad_answer,
    misconfigured,
    profiles::{Exposed, Group, PROCESS_START, Profile, UP},
    reading::{Gatherer, Observed},
};

/// How far back a first look reaches: Prometheus' own lookback.
pub const FIRST_WINDOW: TimeDelta = TimeDelta::minutes(5);
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
    let range = &selector::duration(window);
    let asked = Instant::now();
    let asks = selectors(question, profile, named, memory)
        .into_iter()
        .map(|series| async move { server.query(&format!("{series}[{range}]"), at, deadline).await });
    let answers = futures::future::try_join_all(asks).await?;
    server.agrees(question.now, asked)?;

    let mut gatherer = Gatherer::new(profile, wanted);
    let mut newcomers = BTreeSet::new();
    for (group, answer) in profile.groups.iter().zip(&answers) {
        let all = matrix(server, answer)?;
        newcomers.extend(gather(&mut gatherer, server, all, (profile, group), named, memory)?);
    }
    ask_ages(gatherer.reading(), server, &newcomers, window, at, deadline).await?;
    Ok(gatherer.finish(question.limits))
}

/// Takes in series of a group of metrics, and says whose age is to be asked for: they were not there before.
fn gather<'s>(
    gatherer: &mut Gatherer<'_>,
    server: &Server,
    all: impl IntoIterator<Item = &'s Series>,
    (profile, group): (&Profile, &Group),
    named: &Named<'_>,
    memory: &Memory,
) -> Result<BTreeSet<String>, Trouble> {
    let mut newcomers = BTreeSet::new();
    for series in all {
        let reporter = reporter(&series.labels);
        let found = Found { reporter: &reporter, series, named, group, exposed: profile.exposed };
        take(gatherer, &found).map_err(|trouble| server.in_words(&trouble))?;
        if memory.looked_at().is_some() && !memory.knows(&reporter) {
            newcomers.extend(series.labels.get("instance").cloned());
        }
    }
    Ok(newcomers)
}

/// Asks how old the newcomers are.
async fn ask_ages(
    reading: &mut Reading,
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
            age(reading, series);
        }
    }
    Ok(())
}

/// The selectors of the series about all arms, one for each group of the profile's metrics.
pub fn selectors(
    question: &Question<'_>,
    profile: &Profile,
    named: &Named<'_>,
    memory: &Memory,
) -> Vec<String> {
    let arms = named.iter().map(|(_, arm, _)| *arm);
    let latency = !question.limits.is_empty();
    let selector = |group| selector::series(group, &arms, question.labels(), memory.bounds(), latency);
    profile.groups.iter().map(selector).collect()
}

/// A range as a selector has it.
pub fn range(window: Duration) -> String {
    selector::duration(window)
}

/// How far back a look reaches.
pub fn window(at: DateTime<Utc>, previous: Option<DateTime<Utc>>) -> Duration {
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

/// A series that was found for a group of metrics.
struct Found<'a> {
    reporter: &'a Arc<str>,
    series: &'a Series,
    named: &'a Named<'a>,
    group: &'a Group,
    exposed: Exposed,
}

/// Takes in a series about one of the predictors; one about others is passed over.
fn take(gatherer: &mut Gatherer<'_>, found: &Found<'_>) -> Result<(), Trouble> {
    let Found { reporter, series, named, group, exposed } = *found;
    let arms = named.iter().map(|(_, arm, _)| *arm);
    let Some(whose) = group.arms.whose(&series.labels, arms) else { return Ok(()) };
    let Some((revision, arm, _)) = named.iter().find(|(_, arm, _)| arm.predictor == whose.predictor) else {
        return Ok(());
    };
    let name = series.labels.get("__name__").map_or("", String::as_str);
    let observed = |at, value| Observed { arm: revision, reporter, name, labels: &series.labels, at, value };
    for (millis, value) in &series.points {
        let Some(at) = DateTime::from_timestamp_millis(*millis) else { continue };
        gatherer.add(&observed(at, *value))?;
    }
    for (millis, histogram) in &series.histograms {
        let Some(at) = DateTime::from_timestamp_millis(*millis) else { continue };
        gatherer.add_native(&observed(at, 0.0), histogram)?;
    }
    if exposed == Exposed::ByPredictors {
        gatherer.started(reporter, started(arm, &series.labels));
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
fn age(reading: &mut Reading, series: &Series) {
    let reporter = reporter(&series.labels);
    let is_up = series.labels.get("__name__").is_some_and(|name| name == UP);
    for (millis, value) in &series.points {
        let Some(at) = DateTime::from_timestamp_millis(*millis) else { continue };
        if is_up {
            reading.up(&reporter, at, *value);
        } else {
            reading.process_started(&reporter, *value);
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

/// Refuses a query that is compared and says the same of both predictors, as that of two subsets of one Service may.
pub fn tells_apart(question: &Question<'_>, template: &Template<'_>, canary: &Arm) -> Result<(), Trouble> {
    let about = |arm| filled(question, template, Some(arm), question.now);
    if about(canary)? == about(question.stable)? {
        return Err(misconfigured(format!(
            "the query of check {} says the same of both predictors: expected one that tells {} from {}, by {{{{revision}}}} \
             for example",
            template.check, canary.predictor, question.stable.predictor
        )));
    }
    Ok(())
}

/// Series that a profile might mean, by the labels that it goes by.
pub struct Related {
    /// These labels and no others; one that a series lacks is empty or not there.
    pub labels: Labels,
}

/// Which series there are of a group of metrics, whomever they are about: in the predictor's namespace, or if there is none
/// in any.
pub async fn related(
    server: &Arc<Server>,
    question: &Question<'_>,
    group: &Group,
    arm: &Arm,
    deadline: Instant,
) -> Result<Vec<Related>, Trouble> {
    let at = server::evaluated_at(question.now);
    for everywhere in [false, true] {
        let promql = selector::related(group, arm, question.labels(), everywhere);
        let answer = server.query(&promql, at, deadline).await?;
        if let Answer::Vector(found) = &*answer
            && !found.is_empty()
        {
            return Ok(found.iter().map(|found| Related { labels: found.labels.clone() }).collect());
        }
    }
    Ok(Vec::new())
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
pub fn filled(
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

/// Whether the server can read a query, and would answer what is `asked` with it. It is evaluated in 1970, where there is
/// nothing to read.
pub async fn validate(
    server: &Arc<Server>,
    asked: For,
    promql: &str,
    deadline: Instant,
) -> Result<(), Trouble> {
    let bad =
        |message: String| Trouble { kind: TroubleKind::BadQuery, message: format!("the query {message}") };
    let range = match asked {
        For::Number => "",
        For::Samples => "[1m]",
    };
    let filled = template::fill(promql, &Variables::example()).map_err(bad)?;
    let at = DateTime::UNIX_EPOCH + TimeDelta::days(1);
    let answer = server.query(&format!("{filled}{range}"), at, deadline).await?;
    match (asked, &*answer) {
        (For::Number, Answer::Scalar(_) | Answer::Vector(_)) | (For::Samples, Answer::Matrix(_)) => Ok(()),
        (For::Number, Answer::Matrix(_) | Answer::Text) => {
            answer::one_number(&answer).map(drop).map_err(|trouble| bad(trouble.message))
        }
        (For::Samples, Answer::Scalar(_) | Answer::Vector(_) | Answer::Text) => {
            Err(bad("selects no samples: the selector of a counter is expected".to_owned()))
        }
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
