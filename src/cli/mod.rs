//! The command line: how people ask what a Rollout does, and tell it what to do.
//!
//! A file per subcommand; what they print is made by pure functions in [`view`], so that it can be tested without
//! a terminal, a cluster or a clock. Output goes to standard output, everything else to standard error.

mod act;
mod connect;
pub mod crd;
mod exit;
mod explain;
mod freeze;
mod get;
mod lint;
pub(crate) mod manifest;
mod metrics;
mod names;
mod objects;
mod output;
mod plan;
mod replay;
pub mod run;
pub(crate) mod simulate;
mod uninstall;
pub mod view;
mod watch;
mod yaml;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use kube::Client;
use sluice_core::api::Do;

pub use self::{
    act::{AskArgs, DecideArgs, PromoteArgs, Winner, act, ask},
    connect::Cluster,
    exit::{Exit, Failure},
    explain::{ExplainArgs, explain},
    freeze::{FreezeArgs, Home, ThawArgs},
    get::{GetArgs, get},
    metrics::{CheckArgs, MetricsCommand, metrics},
    output::{Format, Plain},
    plan::{PlanArgs, in_cluster as plan_in_cluster},
    uninstall::{UninstallArgs, at_terminal, uninstall},
};
use self::{connect::REQUEST_TIMEOUT, view::Screen};

/// Threads: what there is to do takes a fraction of one, and each keeps memory of its own, on a machine of 64 as well.
const WORKERS: usize = 2;

/// Progressive delivery for model predictors on Kubernetes and Istio.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = Exit::help(), disable_help_subcommand = true)]
pub struct Cli {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller
    ///
    /// It watches all namespaces, or with -n one. Every option can be given in the environment too. The first signal
    /// (Ctrl-C, or the one by which Kubernetes ends a container) lets it finish what is in progress, the second one
    /// ends it.
    Run(run::RunArgs),
    /// Print the kinds for `kubectl apply`
    Crd(crd::CrdArgs),
    /// Say what a Rollout would do: its steps, what they cost, and the VirtualServices at each
    ///
    /// With -f it needs no cluster: VirtualServices and Services in the same file are shown as they would be at each step.
    /// With --cluster those of the cluster are, and what the controller would refuse is said with its reason. NAME plans a
    /// Rollout that is in the cluster already.
    Plan(plan::PlanArgs),
    /// Rehearse a rollout: the controller's own decisions on a virtual clock
    ///
    /// One rehearsal is exactly as the scenario says; --runs draws requests and errors by chance. Without --runs the exit code
    /// tells how it ended.
    Simulate(simulate::SimulateArgs),
    /// Say what a Rollout's checks would have said over recorded history
    ///
    /// It looks at what Prometheus has recorded as the controller would have looked at the time: the same counters of both
    /// predictors, differenced in the same way, judged by the same checks. The whole time counts as one step, so the
    /// predictors should have had their traffic during all of it. The exit code tells whether a rollout would have been
    /// rolled back.
    Replay(replay::ReplayArgs),
    /// Find a Rollout's mistakes and risks, without a cluster
    Lint(lint::LintArgs),
    /// Ask a cluster.
    #[command(flatten)]
    Ask(Ask),
}

/// What is asked of a cluster.
#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Show Rollouts: a table, or everything about one
    Get(GetArgs),
    /// Say why a decision was made, with the numbers it was made on
    Explain(ExplainArgs),
    /// Open the gate of the current step
    Approve(AskArgs),
    /// Pass the current gate or step, or all that are left
    Promote(PromoteArgs),
    /// Say which of the two is better, where the last step waits for a person
    Decide(DecideArgs),
    /// Take the canary out of traffic
    Abort(AskArgs),
    /// Try a revision again that was rolled back, or is stalled
    Retry(AskArgs),
    /// Stop every increase; a rollback is never stopped
    Pause(AskArgs),
    /// End a pause
    Resume(AskArgs),
    /// Stop every increase in a namespace, or with -A in the cluster
    ///
    /// Rollbacks, aborts and deletions go on.
    Freeze(FreezeArgs),
    /// End a freeze
    Thaw(ThawArgs),
    /// See what Rollouts are measured by
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Delete Rollouts, so that the controller and the kinds can go
    ///
    /// The controller gives the routes back to stable before each Rollout goes. Where it does not run any more, its
    /// finalizer keeps Rollouts, their namespaces and the kinds from being deleted: --without-controller takes it off and
    /// leaves the routes as they are.
    Uninstall(UninstallArgs),
}

/// What a command that talks to a cluster works with: everything that a test puts in place of the real thing.
pub struct Session<'a> {
    /// The cluster.
    pub client: Client,
    /// Its URL, for messages.
    pub cluster: String,
    /// The namespace that counts.
    pub namespace: String,
    /// What `out` is shown on.
    pub screen: Screen,
    /// Where the output goes.
    pub out: &'a mut (dyn Write + Send + Sync),
    /// Where remarks go.
    pub err: &'a mut (dyn Write + Send + Sync),
}

// === impl Session ===

impl Session<'_> {
    /// Sends a request and puts what went wrong into the user's words.
    pub(crate) async fn ask<T>(
        &self,
        kind: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(answer) => answer.map_err(|error| Failure::from_kube(&error, &self.cluster, kind)),
            Err(_) => Err(Failure::Unreachable {
                cluster: self.cluster.clone(),
                cause: format!("no answer within {}s", REQUEST_TIMEOUT.as_secs()),
            }),
        }
    }
}

/// The whole command, from the arguments to the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = program(args.first());
    // Another part of the process may have chosen one before: either is right.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let matches = match Cli::command().bin_name(program).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let mut cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    cli.cluster.namespace = cli.cluster.namespace.filter(|namespace| !namespace.is_empty());
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return end(&Failure::Other(format!("cannot start: {error}")), program),
        };
    match runtime.block_on(execute(cli, program)) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => end(&failure, program),
    }
}

async fn execute(cli: Cli, program: &str) -> Result<(), Failure> {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let command = match cli.command {
        Command::Crd(args) => return crd::crd(&args, &mut out),
        Command::Plan(mut args) if !args.asks_a_cluster() => {
            args.namespace = cli.cluster.namespace;
            return plan::run(&args, &output::screen(program), &mut out);
        }
        Command::Replay(mut args) => {
            args.file.namespace.clone_from(&cli.cluster.namespace);
            let screen = output::screen(program);
            return replay::run(&args, cli.cluster.namespace.as_deref(), &screen, &mut out, interrupted())
                .await;
        }
        Command::Simulate(mut args) => {
            args.file.namespace = cli.cluster.namespace;
            let stop = Arc::new(AtomicBool::new(false));
            if args.runs.is_some() {
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    interrupted().await;
                    stop.store(true, Ordering::Relaxed);
                });
            }
            return simulate::run(&args, &output::screen(program), &mut out, &stop);
        }
        Command::Lint(mut args) => {
            args.file.namespace = cli.cluster.namespace;
            return lint::run(&args, &output::screen(program), &mut out);
        }
        Command::Run(args) => {
            // The runtime's own spans repeat on every line what the message says.
            run::start_log(args.log_format, "info,kube_runtime=warn");
            return run::run(&args, &cli.cluster).await;
        }
        Command::Plan(mut args) => {
            args.namespace.clone_from(&cli.cluster.namespace);
            Err(args)
        }
        Command::Ask(command) => Ok(command),
    };
    run::start_log(run::LogFormat::Text, "off");
    let (client, cluster, namespace) = cli.cluster.connect().await?;
    let screen = output::screen(&as_typed(program, &cli.cluster));
    let mut session = Session { client, cluster, namespace, screen, out: &mut out, err: &mut err };
    match command {
        Ok(ask) => ask.run(&mut session).await,
        Err(args) => plan::in_cluster(&mut session, &args).await,
    }
}

impl Ask {
    /// Asks, and prints the answer.
    pub async fn run(&self, session: &mut Session<'_>) -> Result<(), Failure> {
        match self {
            Self::Get(args) => get(session, args, interrupted()).await,
            Self::Explain(args) => explain(session, args).await,
            Self::Approve(args) => act(session, Do::Approve, args).await,
            Self::Promote(args) if args.full => act(session, Do::PromoteFull, &args.ask).await,
            Self::Promote(args) => act(session, Do::Promote, &args.ask).await,
            Self::Decide(args) => act(session, args.winner.what(), &args.ask).await,
            Self::Abort(args) => act(session, Do::Abort, args).await,
            Self::Retry(args) => act(session, Do::Retry, args).await,
            Self::Pause(args) => act(session, Do::Pause, args).await,
            Self::Resume(args) => act(session, Do::Resume, args).await,
            Self::Freeze(args) => freeze::freeze(session, args).await,
            Self::Thaw(args) => freeze::thaw(session, args).await,
            Self::Metrics(command) => metrics(session, command).await,
            Self::Uninstall(args) => uninstall(session, args, at_terminal).await,
        }
    }
}

/// Ready when a person has seen enough.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the process itself.
        std::future::pending::<()>().await;
    }
}

/// The command with the options that say which cluster and namespace, so that what is advised reaches the same ones.
fn as_typed(program: &str, cluster: &Cluster) -> String {
    let kubeconfig = cluster.kubeconfig.as_ref().map(|path| path.display().to_string());
    let options =
        [("--kubeconfig", &kubeconfig), ("--context", &cluster.context), ("-n", &cluster.namespace)];
    let mut typed = program.to_owned();
    for (option, value) in options.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?))) {
        typed.push_str(&format!(" {option} {value}"));
    }
    typed
}

/// What the command was called by: as `kubectl-sluice` it is a plugin, and people type `kubectl sluice`.
fn program(arg: Option<&OsString>) -> &'static str {
    let stem = arg.map(Path::new).and_then(Path::file_stem);
    if stem.is_some_and(|stem| stem == "kubectl-sluice" || stem == "kubectl_sluice") {
        "kubectl sluice"
    } else {
        "sluice"
    }
}

/// Help and version are output, a wrong command line is not; a closed pipe is neither.
fn usage(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
    match error.print() {
        Ok(()) => ExitCode::from(exit.code()),
        Err(failed) => ExitCode::from(Failure::from(failed).exit().code()),
    }
}

/// Says why, and what to try.
fn end(failure: &Failure, program: &str) -> ExitCode {
    if !matches!(failure, Failure::ClosedPipe) {
        // Nobody is left to tell when this fails.
        let _ = write_failure(&mut io::stderr(), failure, program);
    }
    ExitCode::from(failure.exit().code())
}

fn write_failure(err: &mut dyn Write, failure: &Failure, program: &str) -> io::Result<()> {
    let width = output::width_for_remarks();
    err.write_all(view::remark(&format!("error: {failure}"), width).as_bytes())?;
    let hint = failure.hint(program).map(|hint| view::remark(&format!("hint: {hint}"), width));
    err.write_all(hint.unwrap_or_default().as_bytes())
}
