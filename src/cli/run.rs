//! `sluice run`: the controller, with its options from the command line or from the environment.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process, time::Duration};

use clap::{Args, ValueEnum, builder::FalseyValueParser};
use kube::Client;
use prometheus_client::registry::Registry;
use sluice_core::HostNames;

use super::{
    connect::{Cluster, shown},
    exit::{Exit, Failure, root_cause},
    output,
};
use crate::{
    controller::{self, Clock, LeaseOptions, Options, Telemetry},
    metrics::{Config, Metrics},
    server,
};

/// What the names of the replicas' Leases begin with.
const LEASE: &str = "sluice-controller";
/// How long a replica that does not answer keeps the others waiting.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How the controller runs.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The Prometheus that is the metrics source `default`, like `http://prometheus.monitoring:9090`
    // What is wrong with it is said by the configuration, which does not repeat it: there may be a password in it.
    #[arg(long, value_name = "URL", env = "SLUICE_PROMETHEUS", hide_env_values = true)]
    pub prometheus: Option<String>,
    /// A file with named metrics sources
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDR", env = "SLUICE_HTTP", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// Act on all Rollouts without any lease: only where no other controller runs
    #[arg(long, env = "SLUICE_NO_LEADER_ELECTION", value_parser = FalseyValueParser::new())]
    pub no_leader_election: bool,
    /// The cluster's DNS domain
    #[arg(long, value_name = "DOMAIN", env = "SLUICE_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Whether Istio is used at all: with false Rollouts with routes are refused, and no kind of Istio's is read
    #[arg(
        long,
        value_name = "BOOL",
        env = "SLUICE_ISTIO",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub istio: bool,
    /// The Gateway of generated routes that name none, as NAMESPACE/NAME
    #[arg(
        long,
        value_name = "GATEWAY",
        env = "SLUICE_ISTIO_GATEWAY",
        default_value = "istio-system/seldon-gateway",
        value_parser = gateway
    )]
    pub istio_gateway: String,
    /// The form of the log
    #[arg(long, value_enum, env = "SLUICE_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the controller until it is told to stop: the first signal lets it finish what is in progress and give up what
/// it holds, the second one ends the process.
pub async fn run(args: &RunArgs, cluster: &Cluster) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
    // What is wrong with these is wrong whatever the cluster is.
    let sources = Config::given(args.config.as_deref(), args.prometheus.as_deref()).map_err(|e| wrong(&e))?;
    let config = cluster.config().await?;
    let (url, home) = (shown(&config.cluster_url), config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| Failure::from_kube(&error, &url, "Rollout"))?;
    let clock = Clock::system();
    let options = Options {
        namespace: cluster.namespace.clone(),
        names: HostNames { cluster_domain: args.cluster_domain.clone(), gateway: args.istio_gateway.clone() },
        istio: args.istio,
        metrics: Metrics::new(sources).map_err(|error| wrong(&error))?,
        lease: (!args.no_leader_election).then(|| lease(home, cluster.namespace.as_deref(), clock)),
        clock,
        telemetry: Telemetry::default(),
    };
    let mut registry = Registry::with_prefix("sluice");
    options.telemetry.register(&mut registry);
    options.metrics.telemetry().register(&mut registry);
    let served = server::serve(args.http, registry, options.telemetry.clone());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = url,
        namespace = options.namespace.as_deref().unwrap_or("(all)"),
        lease = options.lease.as_ref().map_or("(none)", |lease| lease.identity.as_str()),
        "starting"
    );
    tokio::select! {
        ended = controller::run(client, options, told_to_stop()) => match ended {
            Ok(()) => Ok(()),
            Err(controller::Error::KindsMissing(_)) => Err(Failure::NotInstalled { cluster: url, kind: "Rollout" }),
            Err(error @ controller::Error::KindsOutdated(_)) => {
                Err(Failure::Outdated { cluster: url, what: error.to_string() })
            }
            Err(controller::Error::Refused { what, message, .. }) => Err(Failure::Cluster(format!("{what}: {message}"))),
            Err(controller::Error::Unreachable { source, .. }) => {
                Err(Failure::from_kube(&source, &url, "Rollout"))
            }
            Err(other) => Err(wrong(&other)),
        },
        ended = served => Err(Failure::Other(match ended {
            Ok(()) => format!("nothing is served on {} any more", args.http),
            Err(error) => format!("cannot serve on {}: {}", args.http, root_cause(&error)),
        })),
    }
}

/// The name of a Gateway with its namespace: a Rollout's own would be another one for each.
fn gateway(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("NAMESPACE/NAME of a Gateway is expected".to_owned()),
    }
}

/// The leases of this process. A container that was started again is the same replica and need not wait for itself;
/// processes on one machine are told apart by their numbers.
fn lease(namespace: String, watched: Option<&str>, clock: Clock) -> LeaseOptions {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    let identity = format!("{}_{}", host.unwrap_or_else(|| "local".to_owned()), process::id());
    // Controllers of different namespaces share nothing.
    let name = watched.map_or_else(|| LEASE.to_owned(), |watched| format!("{LEASE}-{watched}"));
    LeaseOptions { namespace, name, identity, duration: LEASE_DURATION, clock }
}

/// Ready at the first signal to stop; the next one does not wait for anything.
async fn told_to_stop() {
    signal().await;
    tokio::spawn(async {
        signal().await;
        tracing::warn!("told to stop again: ending at once");
        process::exit(i32::from(Exit::Failed.code()));
    });
}

/// Ready at Ctrl-C, and where there is one at the signal by which Kubernetes ends a container.
async fn signal() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the signal ends the process itself.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        let kind = tokio::signal::unix::SignalKind::terminate();
        if let Ok(mut terminated) = tokio::signal::unix::signal(kind) {
            tokio::select! {
                () = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    interrupted.await;
}

/// Starts the log of the process, on standard error; `RUST_LOG` says how much of it, `quiet` what without that.
pub fn start_log(format: LogFormat, quiet: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(quiet));
    let colour = std::io::stderr().is_terminal() && !output::colour_is_refused();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // A log that is there already, as in tests, stays.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(args: &[&str]) -> Result<RunArgs, String> {
        let all = ["run"].iter().chain(args);
        Alone::try_parse_from(all).map(|alone| alone.run).map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_it_serves_on_8080_and_shares_the_rollouts() {
        let run = parse(&[]).unwrap();
        assert_eq!(run.http.to_string(), "0.0.0.0:8080");
        assert_eq!(run.cluster_domain, "cluster.local");
        assert_eq!((run.no_leader_election, run.log_format), (false, LogFormat::Text));
        assert_eq!((run.prometheus, run.config), (None, None));
        assert!(run.istio);
        assert_eq!(run.istio_gateway, "istio-system/seldon-gateway");
        assert!(!parse(&["--istio=false"]).unwrap().istio);
    }

    #[test]
    fn wrong_options_are_refused_and_say_what_was_expected() {
        for (args, expected) in [
            (&["--http", "8080"][..], "invalid socket address"),
            (&["--log-format", "xml"], "text, json"),
            (&["--istio-gateway", "gateway"], "NAMESPACE/NAME of a Gateway is expected"),
            (&["--istio=maybe"], "invalid value"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
