//! `sluice simulate`: a rollout rehearsed on a virtual clock, once or by chance many times.

use std::{
    io::{IsTerminal, Write, stderr},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use clap::Args;
use serde_json::json;
use sluice_core::{
    machine::Outcome,
    plan::Plan,
    simulate::{Ending, Scenario, Tally, Timeline, simulate},
};

use super::{
    exit::Failure,
    manifest::{self, File, Manifest},
    output::{self, Form, write},
    view::{self, Screen},
};

/// Rehearse a rollout: the controller's own decisions on a virtual clock
#[derive(Clone, Debug, Default, Args)]
pub struct SimulateArgs {
    /// The Rollout.
    #[command(flatten)]
    pub file: File,
    /// What happens while it runs: requests, errors, latencies, outages, what people do
    #[arg(short, long, value_name = "FILE")]
    pub scenario: PathBuf,
    /// Rehearse it so often, each time by another chance
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub runs: Option<u64>,
    /// Where chance begins: the same seed gives the same rehearsals
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// With a canary that does as stable does all the time, in errors, latencies and queries, that has an endpoint, and that
    /// nobody aborts, decides against or retries: how often would a healthy one be rolled back?
    #[arg(long)]
    pub healthy: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// Rehearses. One rehearsal that does not end in a promotion is a failure, for pipelines; many are figures.
pub fn run(args: &SimulateArgs, screen: &Screen, out: &mut dyn Write) -> Result<(), Failure> {
    let manifest = manifest::read(&args.file)?;
    let plan = manifest.plan("default")?;
    let scenario = scenario(args)?;
    let scenario = if args.healthy { scenario.healthy() } else { scenario };
    match args.runs {
        Some(runs) => {
            let tally = many(&plan, &scenario, runs, args.seed);
            let healthy = scenario.canary_is_never_worse();
            let text = match args.output {
                Form::Text => view::tally(&manifest.name, &tally, healthy),
                Form::Json => output::json(&figures(&tally, healthy))?,
                Form::Yaml => output::yaml(&figures(&tally, healthy))?,
            };
            write(out, &text)
        }
        None => one(&manifest, &simulate(&plan, &scenario, None), args, screen, out),
    }
}

fn scenario(args: &SimulateArgs) -> Result<Scenario, Failure> {
    parse(&manifest::text(&args.scenario)?, &args.scenario.display().to_string())
}

/// Reads the text of a file that is called `shown`.
///
/// # Errors
/// A text that is no scenario, or one that makes no sense, each with the place in the text or the field.
pub(crate) fn parse(text: &str, shown: &str) -> Result<Scenario, Failure> {
    let scenario: Scenario = serde_saphyr::from_str(text)
        .map_err(|error| Failure::Other(format!("{shown} is no scenario that can be read: {error}")))?;
    scenario.check().map_err(|error| Failure::Other(format!("{shown}: {error}")))?;
    Ok(scenario)
}

fn one(
    manifest: &Manifest,
    timeline: &Timeline,
    args: &SimulateArgs,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let text = match args.output {
        Form::Text => view::timeline(&manifest.name, timeline, screen),
        Form::Json => output::json(&told(timeline))?,
        Form::Yaml => output::yaml(&told(timeline))?,
    };
    write(out, &text)?;
    match &timeline.ending {
        Ending::Promoted | Ending::Over { outcome: Outcome::Observed | Outcome::Lost, .. } => Ok(()),
        Ending::Over { .. } => Err(Failure::RolledBack),
        Ending::Held(_) => Err(Failure::Held),
    }
}

/// A rehearsal for programs.
fn told(timeline: &Timeline) -> serde_json::Value {
    let decisions: Vec<_> = timeline
        .decisions
        .iter()
        .map(|(at, decision)| json!({ "at": sluice_core::api::GoDuration(*at), "decision": decision }))
        .collect();
    let (outcome, reason) = view::outcome(&timeline.ending);
    json!({
        "outcome": outcome, "reason": reason, "at": sluice_core::api::GoDuration(timeline.at),
        "users": { "requests": timeline.users.requests, "errors": timeline.users.errors },
        "decisions": decisions,
    })
}

/// Many rehearsals for programs.
fn figures(tally: &Tally, healthy: bool) -> serde_json::Value {
    let seconds = |share| tally.time_to_rollback(share).map(|time| time.as_secs_f64());
    let rolled_back = tally.rolled_back() as u64;
    let (from, to) = tally.interval(rolled_back);
    // Of a canary that is never worse each rollback is a false one.
    let wrong = healthy.then(|| json!({ "count": rolled_back, "share95": [from, to] }));
    json!({
        "healthyCanary": healthy, "falseRollbacks": wrong,
        "runs": tally.runs(), "promoted": tally.promoted, "rolledBack": rolled_back,
        "endedOtherwise": tally.over - rolled_back, "held": tally.held,
        "shareRolledBack95": [from, to],
        "secondsToRollback": { "p50": seconds(0.5), "p95": seconds(0.95) },
        "badAnswers": tally.errors,
    })
}

/// So many rehearsals, on all cores. Each has a seed of its own, so that the figures are the same on any number of cores.
fn many(plan: &Plan, scenario: &Scenario, runs: u64, seed: u64) -> Tally {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let worker = || {
            let mut tally = Tally::default();
            loop {
                let run = next.fetch_add(1, Ordering::Relaxed);
                if run >= runs {
                    return tally;
                }
                tally.add(&simulate(plan, scenario, Some(seed.wrapping_add(run))));
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        show_progress(&done, runs, || workers.iter().all(thread::ScopedJoinHandle::is_finished));
        for worker in workers {
            match worker.join() {
                Ok(part) => tally.join(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    tally
}

/// A bar on a terminal, until it is finished; nothing elsewhere.
fn show_progress(done: &AtomicU64, runs: u64, finished: impl Fn() -> bool) {
    if !stderr().is_terminal() {
        return;
    }
    while !finished() {
        let part = done.load(Ordering::Relaxed);
        let width = usize::try_from(part * 40 / runs).unwrap_or(40);
        // Nobody is left to tell when this fails.
        let _ = write!(stderr(), "\r[{:<40}] {part} of {runs}", "#".repeat(width));
        thread::sleep(std::time::Duration::from_millis(100));
    }
    let _ = write!(stderr(), "\r{:70}\r", "");
}
