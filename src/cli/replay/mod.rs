//! `sluice replay`: what a Rollout's checks would have said over recorded history.

mod arms;
mod remarks;
mod time;

use std::{
    future::Future,
    io::{IsTerminal, Write, stderr},
    path::PathBuf,
    time::Duration,
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::Args;
use sluice_core::{
    api::GoDuration,
    judge::Evidence,
    plan::{MetricsPlan, Plan, PlannedStep},
    replay::{Outcome, Replay, Replayed, counts_requests},
};

use self::{arms::Pair, time::Time};
use super::{
    exit::Failure,
    manifest::{self, File},
    output::{self, Form, write},
    view::{self, Screen},
};
use crate::metrics::{Arm, Config, DEFAULT_SOURCE, History, Metrics, Past, Query, Question};

/// More looks than this nobody waits for.
const MOST_LOOKS: i64 = 1_000_000;
/// Clocks differ: so much in the future is now.
const AHEAD: TimeDelta = TimeDelta::minutes(1);
/// How long one request to the source may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Say what a Rollout's checks would have said over recorded history
///
/// It looks at what Prometheus has recorded as the controller would have looked at the time: the same counters of both
/// predictors, differenced in the same way, judged by the same checks. The whole time counts as one step, so the
/// predictors should have had their traffic during all of it.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The Rollout.
    #[command(flatten)]
    pub file: File,
    /// The Prometheus that has the history, like `http://localhost:9090`
    // What is wrong with it is said by the configuration, which does not repeat it: there may be a password in it.
    #[arg(long, value_name = "URL", required_unless_present = "config", conflicts_with = "config")]
    pub prometheus: Option<String>,
    /// The controller's file with named metrics sources; the one that the Rollout names is asked
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// When to begin: a time like 2026-03-14T15:00:00Z, or -2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = time::parse, allow_hyphen_values = true)]
    pub from: Time,
    /// When to end
    #[arg(long, value_name = "TIME", value_parser = time::parse, allow_hyphen_values = true, default_value = "now")]
    pub to: Time,
    /// Time between two looks; another one than the Rollout's changes what is counted in looks, and it is said how [default:
    /// the Rollout's interval]
    #[arg(long, value_name = "DURATION")]
    pub step: Option<GoDuration>,
    /// The predictor that counts as stable, as SERVICE, SERVICE:PORT or SERVICE:PORT#SUBSET [default: the one that has
    /// traffic in the file's VirtualService]
    #[arg(long, value_name = "SERVICE")]
    pub stable: Option<String>,
    /// The predictor that counts as the canary [default: the Rollout's target]
    #[arg(long, value_name = "SERVICE")]
    pub canary: Option<String>,
    /// The canary got copies only, which some profiles count elsewhere [default: where all steps are shadows]
    #[arg(long)]
    pub shadow: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// What is replayed: everything but the source.
pub(super) struct Told {
    pub(super) name: String,
    pub(super) pair: Pair,
    pub(super) profile: String,
    pub(super) from: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
    pub(super) every: Duration,
    /// What is worth knowing about it.
    pub(super) remarks: Vec<String>,
    /// Whether it was ended before it was through, and when in the past that was.
    pub(super) interrupted: Option<DateTime<Utc>>,
    pub(super) found: Replayed,
}

/// Replays. A check that fails is a failure, and so is evidence that does not suffice: for pipelines.
pub async fn run(
    args: &ReplayArgs,
    namespace: Option<&str>,
    screen: &Screen,
    out: &mut (dyn Write + Send + Sync),
    interrupted: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let manifest = manifest::read(&args.file)?;
    let namespace = manifest.namespace.clone().or(namespace.map(str::to_owned));
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let plan = manifest.plan(&namespace)?;
    let (metrics, source, mut remarks) = source(args, &plan)?;
    let pair = arms::of(args, &manifest, &plan, &namespace)?;
    let now = Utc::now();
    let (from, until, every) = span(args, &plan, now)?;
    let history =
        metrics.history(&source, Past { until, every }).map_err(|trouble| unanswered(args, &trouble))?;
    remarks.extend(remarks::partly(&plan));
    remarks.extend(remarks::other_step(&plan, every));
    let asked = Asked {
        sources: &metrics,
        name: &manifest.name,
        namespace: &namespace,
        plan: &plan,
        source: &source,
        pair: &pair,
        args,
    };
    let (found, interrupted) = asked.over(history, (from, until, every), interrupted).await?;
    if interrupted.is_none() {
        nothing_recorded(&plan, &found, &pair, (from, until))?;
    }
    remarks.extend(remarks::gaps(&plan, &found, &pair, (from, until, every)));
    let profile = view::profile(&source);
    let told =
        Told { name: manifest.name.clone(), pair, profile, from, until, every, remarks, interrupted, found };
    let text = match args.output {
        Form::Text => view::replay(&told, screen),
        Form::Json => output::json(&view::replayed(&told))?,
        Form::Yaml => output::yaml(&view::replayed(&told))?,
    };
    write(out, &text)?;
    match told.found.outcome() {
        _ if told.interrupted.is_some() => Err(Failure::Other("interrupted before the end".to_owned())),
        Outcome::Passed => Ok(()),
        Outcome::RolledBack => Err(Failure::WouldRollBack),
        Outcome::Unknown => Err(Failure::LacksEvidence),
    }
}

/// The sources, and what the Rollout wants of them.
fn source(args: &ReplayArgs, plan: &Plan) -> Result<(Metrics, MetricsPlan, Vec<String>), Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
    let Some(wanted) = plan.metrics.clone().filter(|_| !plan.checks.is_empty()) else {
        return Err(Failure::Other("spec.checks: there are none, so there is nothing to replay".to_owned()));
    };
    let mut remarks = Vec::new();
    let (name, profile, labels) = match wanted {
        MetricsPlan::Source { name, profile, labels } => (name, profile, labels),
        MetricsPlan::Scrape { profile, labels, .. } => {
            remarks.push(
                "The Rollout reads the pods themselves, which keep no history: the same series were read from \
                 Prometheus, no newer than it scraped them."
                    .to_owned(),
            );
            (DEFAULT_SOURCE.to_owned(), profile, labels)
        }
    };
    let (config, name) = match (&args.config, &args.prometheus) {
        (Some(file), _) => (Config::load(file).map_err(|error| wrong(&error))?, name),
        (None, Some(url)) => {
            (Config::prometheus(url).map_err(|error| wrong(&error))?, DEFAULT_SOURCE.to_owned())
        }
        (None, None) => {
            return Err(Failure::Other("--prometheus or --config is expected".to_owned()));
        }
    };
    let metrics = Metrics::new(config).map_err(|error| wrong(&error))?;
    Ok((metrics, MetricsPlan::Source { name, profile, labels }, remarks))
}

/// From when to when, and how often.
fn span(
    args: &ReplayArgs,
    plan: &Plan,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>, Duration), Failure> {
    let wrong = |message: String| Err(Failure::Other(message));
    let (from, until) = (args.from.at(now).trunc_subsecs(3), args.to.at(now).trunc_subsecs(3));
    if from >= until {
        return wrong(format!("--from {} is not before --to {}", view::instant(from), view::instant(until)));
    }
    if until > now + AHEAD {
        return wrong(format!("--to {} is still to come: nothing is recorded yet", view::instant(until)));
    }
    let every = args.step.map_or(plan.interval, |step| step.0);
    let every = Duration::from_millis(u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
    let millis = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    if millis < 1 {
        return wrong("--step: 1ms or more is expected".to_owned());
    }
    let looks = (until - from).num_milliseconds() / millis;
    if looks < 1 {
        return wrong(format!(
            "between --from and --to lie {}, less than the {} between two looks",
            GoDuration((until - from).to_std().unwrap_or_default()),
            GoDuration(every)
        ));
    }
    if looks > MOST_LOOKS {
        return wrong(format!(
            "{looks} looks are too many: {MOST_LOOKS} at most; a longer --step makes it fewer"
        ));
    }
    Ok((from, until, every))
}

/// What goes into every question.
struct Asked<'a> {
    sources: &'a Metrics,
    name: &'a str,
    namespace: &'a str,
    plan: &'a Plan,
    source: &'a MetricsPlan,
    pair: &'a Pair,
    args: &'a ReplayArgs,
}

impl Asked<'_> {
    /// Looks until the end, or until it is interrupted; then says when in the past that was.
    async fn over(
        &self,
        mut history: History,
        (from, until, every): (DateTime<Utc>, DateTime<Utc>, Duration),
        interrupted: impl Future<Output = ()>,
    ) -> Result<(Replayed, Option<DateTime<Utc>>), Failure> {
        let (stable, canary) = (Arm::of(self.pair.stable.clone()), Arm::of(self.pair.canary.clone()));
        let (limits, queries) = (self.plan.latency_bounds(), Query::of(self.plan));
        let shadow = self.args.shadow
            || !self.plan.steps.is_empty() && self.plan.steps.iter().all(PlannedStep::is_shadow);
        let question = |now| Question {
            now,
            rollout: self.name,
            namespace: self.namespace,
            metrics: self.source,
            stable: &stable,
            canary: Some(&canary),
            retiring: &[],
            limits: &limits,
            queries: &queries,
            shadow,
            step_start: from,
            timeout: PATIENCE,
        };
        // As a controller asks at the first look of a rollout.
        let before = if Evidence::default().lacks_history(self.plan.checks.iter()) {
            self.sources.stable_before(&question(from), every).await
        } else {
            Vec::new()
        };
        let mut replay = Replay::new(self.plan, every, from, before);
        let mut progress = Progress::new(from, until);
        tokio::pin!(interrupted);
        let mut now = from;
        while now <= until {
            let question = question(now);
            let look = tokio::select! {
                biased;
                () = &mut interrupted => return Ok((replay.end(), Some(now))),
                look = history.look(&question) => look.map_err(|trouble| unanswered(self.args, &trouble))?,
            };
            replay.saw(&look);
            progress.at(now);
            now += every;
        }
        Ok((replay.end(), None))
    }
}

fn unanswered(args: &ReplayArgs, trouble: &sluice_core::judge::Trouble) -> Failure {
    let option = if args.prometheus.is_some() { "--prometheus" } else { "--config" };
    Failure::Other(format!("{option}: {trouble}"))
}

/// Nothing at all about the arms is a mistake of whoever asks, and no finding.
fn nothing_recorded(
    plan: &Plan,
    found: &Replayed,
    pair: &Pair,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<(), Failure> {
    if found.counted.is_some() || !counts_requests(plan) {
        return Ok(());
    }
    let why = found.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
    Err(Failure::Other(format!(
        "nothing is recorded about {} and {} from {} to {}{why}",
        pair.stable,
        pair.canary,
        view::instant(from),
        view::instant(until)
    )))
}

/// A bar on a terminal; nothing elsewhere.
struct Progress {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    shown: Option<std::time::Instant>,
    terminal: bool,
}

impl Progress {
    fn new(from: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self { from, until, shown: None, terminal: stderr().is_terminal() }
    }

    fn at(&mut self, now: DateTime<Utc>) {
        let lately = self.shown.is_some_and(|shown| shown.elapsed() < Duration::from_millis(100));
        if !self.terminal || lately {
            return;
        }
        self.shown = Some(std::time::Instant::now());
        let (part, whole) = ((now - self.from).num_seconds(), (self.until - self.from).num_seconds().max(1));
        let width = usize::try_from(part * 40 / whole).unwrap_or(40);
        // Nobody is left to tell when this fails.
        let _ = write!(stderr(), "\r[{:<40}] {}", "#".repeat(width), view::instant(now));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(stderr(), "\r{:70}\r", "");
        }
    }
}
