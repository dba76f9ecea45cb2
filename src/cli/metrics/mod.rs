//! `sluice metrics check`: what a Rollout's profile finds about both arms right now, and what is missing.

mod arms;

use std::{path::PathBuf, time::Duration};

use chrono::{TimeDelta, Utc};
use clap::{Args, Subcommand};
use sluice_core::{
    api::{GoDuration, RolloutStatus},
    plan::{MetricsPlan, Plan, PlannedStep},
};

use self::arms::{Predictors, predictors};
use super::{
    Session,
    exit::Failure,
    get, names,
    output::{self, Form, write},
    view::{self, Examined},
};
use crate::metrics::{Config, Metrics, Query, Question};

/// A person waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where nobody says another time, pods are not asked again later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Queries look back as far as their window says, and not to the start of a step.
const NO_STEP: TimeDelta = TimeDelta::hours(24);

/// What is to be found out about metrics.
#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// Show what a Rollout's profile finds about both arms right now, and what is missing
    ///
    /// It asks as the controller does, and needs what the controller was given: --prometheus or --config. Pods are asked
    /// twice, a moment apart. Exit code 10 says that something is missing.
    Check(CheckArgs),
}

/// Show what a Rollout's profile finds about both arms right now, and what is missing
#[derive(Clone, Debug, Default, Args)]
pub struct CheckArgs {
    /// The Rollout
    #[arg(value_parser = names::object)]
    pub name: String,
    /// The Prometheus that is the metrics source `default`, like `http://prometheus.monitoring:9090`
    // What is wrong with it is said by the configuration, which does not repeat it: there may be a password in it.
    #[arg(long, value_name = "URL", env = "SLUICE_PROMETHEUS", hide_env_values = true)]
    pub prometheus: Option<String>,
    /// The controller's file with named metrics sources
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The time between two looks at pods [default: the Rollout's interval, at most 10s]
    #[arg(long, value_name = "DURATION")]
    pub pause: Option<GoDuration>,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// Finds out what was asked for.
pub async fn metrics(session: &mut Session<'_>, command: &MetricsCommand) -> Result<(), Failure> {
    match command {
        MetricsCommand::Check(args) => check(session, args).await,
    }
}

async fn check(session: &mut Session<'_>, args: &CheckArgs) -> Result<(), Failure> {
    let rollout = get::rollout(session, &args.name).await?;
    let plan = Plan::named(&rollout.spec, &session.namespace, &args.name).map_err(|errors| {
        Failure::Other(format!("the spec of the Rollout {:?} is wrong: {errors}", args.name))
    })?;
    let Some(measured) = &plan.metrics else {
        let text = format!("{}: nothing of it is measured: it has no checks and no minRequests\n", args.name);
        return write(session.out, &text);
    };
    let metrics = sources(args)?;
    let status = rollout.status.clone().unwrap_or_default();
    let predictors = predictors(session, &rollout.spec, &status, &plan, measured).await?;
    let examined = examine(&metrics, measured, &plan, args, &status, &predictors, session).await;
    let text = match args.output {
        Form::Text => view::examined(&examined, &session.screen),
        Form::Json => output::json(&examined.as_json())?,
        Form::Yaml => output::yaml(&examined.as_json())?,
    };
    write(session.out, &text)?;
    match examined.survey.gaps.iter().filter(|gap| gap.matters).count() {
        0 => Ok(()),
        missing => Err(Failure::Found(missing)),
    }
}

/// The sources as the controller has them.
fn sources(args: &CheckArgs) -> Result<Metrics, Failure> {
    let wrong = |error: crate::metrics::ConfigError| Failure::Other(error.to_string());
    let config = Config::given(args.config.as_deref(), args.prometheus.as_deref()).map_err(wrong)?;
    Metrics::new(config).map_err(wrong)
}

async fn examine(
    metrics: &Metrics,
    measured: &MetricsPlan,
    plan: &Plan,
    args: &CheckArgs,
    status: &RolloutStatus,
    predictors: &Predictors,
    session: &Session<'_>,
) -> Examined {
    let (limits, queries, now) = (plan.latency_bounds(), Query::of(plan), Utc::now());
    let question = Question {
        now,
        rollout: &args.name,
        namespace: &session.namespace,
        metrics: measured,
        stable: &predictors.stable,
        canary: predictors.canary.as_ref(),
        retiring: &[],
        limits: &limits,
        queries: &queries,
        shadow: step(plan, status).is_some_and(PlannedStep::is_shadow),
        step_start: now - NO_STEP,
        timeout: TIMEOUT,
    };
    let pause = args.pause.map_or(plan.interval.min(LONGEST_PAUSE), |pause| pause.0);
    let survey = metrics.survey(&question, pause, predictors.in_flight).await;
    let arms = [Some(&predictors.stable), predictors.canary.as_ref()].into_iter().flatten();
    Examined {
        rollout: args.name.clone(),
        namespace: session.namespace.clone(),
        metrics: measured.clone(),
        predictors: arms.map(|arm| arm.predictor.clone()).collect(),
        checks: plan.checks.clone(),
        survey,
    }
}

/// The step in flight.
fn step<'p>(plan: &'p Plan, status: &RolloutStatus) -> Option<&'p PlannedStep> {
    let number = usize::try_from(status.progress.as_ref()?.number).ok()?;
    plan.steps.get(number.checked_sub(1)?)
}
