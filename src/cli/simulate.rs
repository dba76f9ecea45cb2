//! `sluice simulate`: a rollout rehearsed on a virtual clock, once or by chance many times.

use std::{
    io::{IsTerminal, Write, stderr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
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
    yaml,
};

/// How long the bar is where there is room.
const LONGEST_BAR: usize = 40;

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
    #[arg(long, value_name = "N", value_parser = runs, allow_negative_numbers = true)]
    pub runs: Option<u64>,
    /// Where chance begins: the same seed gives the same rehearsals
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed, allow_negative_numbers = true, requires = "runs")]
    pub seed: u64,
    /// With a canary that does as stable does all the time, in errors, latencies and queries, that has an endpoint, and that
    /// nobody aborts, decides against or retries: how often would a healthy one be rolled back?
    #[arg(long, requires = "runs")]
    pub healthy: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// More rehearsals nobody waits for.
const MOST_RUNS: u64 = 10_000_000;

/// Reads how often something is rehearsed.
fn runs(text: &str) -> Result<u64, String> {
    let runs = text.parse().ok().filter(|runs| (1..=MOST_RUNS).contains(runs));
    runs.ok_or_else(|| format!("a whole number from 1 to {MOST_RUNS} is expected"))
}

/// Reads where chance begins.
fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a whole number from 0 to {} is expected", u64::MAX))
}

/// Rehearses. One rehearsal that does not end in a promotion is a failure, for pipelines; many are figures, of those that were
/// done when `stop` is set.
pub fn run(
    args: &SimulateArgs,
    screen: &Screen,
    out: &mut dyn Write,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let standard_input = Path::new("-");
    if args.file.file == standard_input && args.scenario == standard_input {
        return Err(Failure::Usage("only one of -f and -s can be -: there is one standard input".to_owned()));
    }
    let manifest = manifest::read(&args.file)?;
    let plan = manifest.plan("default")?;
    let scenario = scenario(args, &plan)?;
    let scenario = if args.healthy { scenario.healthy() } else { scenario };
    match args.runs {
        Some(runs) => {
            let tally = many(&plan, &scenario, runs, args.seed, stop);
            if tally.runs() == 0 {
                return Err(Failure::Interrupted { done: 0, of: runs });
            }
            let healthy = scenario.canary_is_never_worse();
            let text = match args.output {
                Form::Text => view::tally(&manifest.name, &tally, healthy),
                Form::Json => output::json(&figures(&tally, healthy))?,
                Form::Yaml => output::yaml(&figures(&tally, healthy))?,
            };
            write(out, &text)?;
            match tally.runs() {
                done if done < runs => Err(Failure::Interrupted { done, of: runs }),
                _ => Ok(()),
            }
        }
        None => one(&manifest, &simulate(&plan, &scenario, None), args, screen, out),
    }
}

fn scenario(args: &SimulateArgs, plan: &Plan) -> Result<Scenario, Failure> {
    let shown = manifest::shown(&args.scenario);
    let scenario = parse(&manifest::text(&args.scenario)?, &shown)?;
    scenario.fits(plan).map_err(|error| Failure::Other(format!("{shown}: {error}")))?;
    Ok(scenario)
}

/// Reads the text of a file that is called `shown`.
///
/// # Errors
/// A text that is no scenario, or one that makes no sense, each with the place in the text or the field.
pub(crate) fn parse(text: &str, shown: &str) -> Result<Scenario, Failure> {
    let scenario: Scenario = yaml::one(text, shown)
        .map_err(|problem| Failure::Other(format!("{shown} is no scenario that can be read: {problem}")))?;
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
    let answers: Vec<_> = timeline
        .replies
        .iter()
        .map(|reply| {
            let at = sluice_core::api::GoDuration(reply.at);
            json!({ "at": at, "do": reply.what, "phase": reply.phase, "message": reply.message })
        })
        .collect();
    let (outcome, reason) = view::outcome(&timeline.ending);
    json!({
        "outcome": outcome, "reason": reason, "at": sluice_core::api::GoDuration(timeline.at),
        "users": { "requests": timeline.users.requests, "errors": timeline.users.errors },
        "decisions": decisions, "answers": answers,
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

/// So many rehearsals, on all cores, or as many as there were when it was to stop. Each has a seed of its own, so that the
/// figures are the same on any number of cores.
fn many(plan: &Plan, scenario: &Scenario, runs: u64, seed: u64, stop: &AtomicBool) -> Tally {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let worker = || {
            let mut tally = Tally::default();
            loop {
                let run = next.fetch_add(1, Ordering::Relaxed);
                if run >= runs || stop.load(Ordering::Relaxed) {
                    return tally;
                }
                tally.add(&simulate(plan, scenario, Some(seed.wrapping_add(run))));
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        show_progress(&done, runs, stop, || workers.iter().all(thread::ScopedJoinHandle::is_finished));
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
fn show_progress(done: &AtomicU64, runs: u64, stop: &AtomicBool, finished: impl Fn() -> bool) {
    if !stderr().is_terminal() {
        return;
    }
    let mut longest = 0;
    while !finished() {
        let line = bar(done.load(Ordering::Relaxed), runs, output::width_for_remarks());
        longest = longest.max(line.len());
        // Nobody is left to tell when this fails.
        let _ = write!(stderr(), "\r{line}");
        thread::sleep(std::time::Duration::from_millis(100));
    }
    let _ = if stop.load(Ordering::Relaxed) {
        // The terminal shows what was typed behind the bar.
        writeln!(stderr())
    } else {
        write!(stderr(), "\r{:longest$}\r", "")
    };
}

/// How far it is, in less than the columns of the terminal: at the last one the line would break.
fn bar(done: u64, runs: u64, columns: Option<usize>) -> String {
    let figures = format!("{done} of {runs}");
    let room = columns.map_or(LONGEST_BAR, |columns| columns.saturating_sub(figures.len() + 4));
    match room.min(LONGEST_BAR) {
        0 => figures.chars().take(columns.unwrap_or(usize::MAX).saturating_sub(1)).collect(),
        room => {
            let part = u128::from(done) * room as u128 / u128::from(runs.max(1));
            let part = usize::try_from(part).unwrap_or(room).min(room);
            format!("[{:<room$}] {figures}", "#".repeat(part))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_narrower_than_the_terminal() {
        for columns in 1..100 {
            for done in [0, 1, 500, 1000] {
                let line = bar(done, 1000, Some(columns));
                assert!(line.len() < columns.max(2), "{columns}: {line}");
            }
        }
        assert_eq!(bar(500, 1000, Some(30)), "[#######        ] 500 of 1000");
        assert_eq!(bar(1, 2, None).len(), LONGEST_BAR + 9);
    }

    #[test]
    fn what_was_done_before_an_interruption_counts() {
        let plan = serde_json::from_value(json!({
            "target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 5, "for": "1m"}],
        }));
        let plan = Plan::new(&plan.unwrap(), "default").unwrap();
        let stopped = many(&plan, &Scenario::of(10.0), 10_000_000, 1, &AtomicBool::new(true));
        assert_eq!(stopped.runs(), 0);
        assert_eq!(many(&plan, &Scenario::of(10.0), 3, 1, &AtomicBool::new(false)).runs(), 3);
    }
}
