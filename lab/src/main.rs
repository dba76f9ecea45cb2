//! The laboratory's command: `cargo lab`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use sluice_lab::bench::{self, Bench, Scenario};
use sluice_lab::predictor::{self, ServeArgs};
use sluice_lab::real::binaries::Component;
use sluice_lab::real::namespace;
use sluice_lab::up::{self, ApplyArgs, At, UpArgs};

/// A Kubernetes laboratory for Sluice
#[derive(Debug, Parser)]
#[command(name = "cargo lab", disable_help_subcommand = true)]
struct Lab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the controller on a real API server, and print the figures as JSON
    ///
    /// It builds the controller's release program, starts etcd, kube-apiserver and kube-controller-manager in a network
    /// namespace (the first time on a machine it builds those, too), and runs the scenarios one after the other, each on
    /// a cluster of its own: about 15 minutes. What it does is told on standard error; standard output has one JSON
    /// object. docs/benchmarks.md says what the figures mean.
    ///
    /// The exit code is 0 when all of it ran, whatever the figures are, unless --strict is given.
    Bench(BenchArgs),
    /// Bring up Kubernetes, Istio, Envoy, Prometheus and Sluice, and leave them running
    ///
    /// The first time on a machine it builds them with Go, about 15 minutes; then it takes about 15 seconds. All of it
    /// runs as plain processes in a network namespace, without root where the kernel allows that, and ends by `down`.
    Up(UpArgs),
    /// End what `up` left running
    Down(At),
    /// Apply files to what `up` left running, as `kubectl apply --server-side` does
    Apply(ApplyArgs),
    /// Serve a model, as pods of the laboratory do
    #[command(hide = true)]
    Predictor(ServeArgs),
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Run these scenarios only
    #[arg(long, value_enum, value_name = "NAME", num_args = 1..)]
    only: Vec<Scenario>,
    /// Rollouts beside a breach, at rest, and in flight; ten times as many in the scenario `many`. Limits that are about
    /// a number of Rollouts apply to 1000 only
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=6000))]
    rollouts: u16,
    /// A few seconds of each scenario, to see that it works: the figures say little
    #[arg(long)]
    quick: bool,
    /// The controller's program, in place of building it
    #[arg(long, value_name = "PATH")]
    controller: Option<PathBuf>,
    /// Exit with 1 if a figure is above its limit
    #[arg(long)]
    strict: bool,
}

fn main() -> Result<ExitCode> {
    match Lab::parse().command {
        Command::Bench(args) => measure(args),
        Command::Up(args) => up::up(&args),
        Command::Down(at) => up::down(&at),
        Command::Apply(args) => up::apply(&args),
        Command::Predictor(args) => {
            tokio::runtime::Runtime::new()?.block_on(predictor::serve(&args))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn measure(args: BenchArgs) -> Result<ExitCode> {
    // Inside the namespace is no network to fetch crates by.
    if args.controller.is_none() && namespace::is_outside() {
        eprintln!("building the controller");
        bench::build(bench::repository())?;
    }
    let program =
        args.controller.map_or_else(bench::beside_this, |program| Ok(std::path::absolute(program)?))?;
    let scenarios = if args.only.is_empty() { Scenario::value_variants().to_vec() } else { args.only };
    let has_istio = scenarios.contains(&Scenario::Users);
    namespace::enter_with(if has_istio { &Component::ALL[..] } else { &Component::KUBERNETES })?;
    let bench = Bench {
        program,
        repository: bench::repository().to_owned(),
        scenarios,
        rollouts: args.rollouts.into(),
        quick: args.quick,
    };
    let report = tokio::runtime::Runtime::new()?.block_on(bench.run())?;
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        eprintln!();
    }
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)?;
    let is_wrong = if args.strict { !report.holds() } else { !report.failed.is_empty() };
    Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Lab::command().debug_assert();
    }

    #[test]
    fn scenarios_are_named_as_words_with_dashes() {
        let lab =
            Lab::try_parse_from(["lab", "bench", "--only", "breach-beside", "rest", "--quick"]).unwrap();
        let Command::Bench(args) = lab.command else { panic!("{lab:?}") };
        assert_eq!(args.only, [Scenario::BreachBeside, Scenario::Rest]);
        assert!(args.quick && !args.strict && args.controller.is_none());
        assert!(Lab::try_parse_from(["lab", "bench", "--rollouts", "0"]).is_err());
    }
}
