//! `sluice run`: the controller's options, from the command line or from the environment.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum, builder::FalseyValueParser};

/// Run the controller
///
/// Every option can be given as an environment variable too. With -n it watches one namespace only, else all.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The Prometheus that is the metrics source `default`, like http://prometheus.monitoring:9090
    #[arg(long, value_name = "URL", env = "SLUICE_PROMETHEUS", value_parser = url)]
    pub prometheus: Option<String>,
    /// A file with named metrics sources
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDR", env = "SLUICE_HTTP", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// Act without holding the lease: only where no other controller runs
    #[arg(long, env = "SLUICE_NO_LEADER_ELECTION", value_parser = FalseyValueParser::new())]
    pub no_leader_election: bool,
    /// The cluster's DNS domain
    #[arg(long, value_name = "DOMAIN", env = "SLUICE_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
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

/// A URL that a metrics source can have.
fn url(text: &str) -> Result<String, String> {
    let expected = "expected a URL like http://prometheus.monitoring:9090";
    let url = reqwest::Url::parse(text).map_err(|error| format!("{error}: {expected}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(text.to_owned()),
        scheme => Err(format!("{scheme:?} is no scheme that can be asked: {expected}")),
    }
}

/// Starts the log of the process, on standard error; `RUST_LOG` says how much of it, `quiet` what without that.
pub fn start_log(format: LogFormat, quiet: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(quiet));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
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
    fn without_options_it_serves_on_8080_and_elects_a_leader() {
        let run = parse(&[]).unwrap();
        assert_eq!(run.http.to_string(), "0.0.0.0:8080");
        assert_eq!(run.cluster_domain, "cluster.local");
        assert_eq!((run.no_leader_election, run.log_format), (false, LogFormat::Text));
        assert_eq!((run.prometheus, run.config), (None, None));
    }

    #[test]
    fn wrong_options_are_refused_and_say_what_was_expected() {
        for (args, expected) in [
            (&["--prometheus", "prometheus"][..], "expected a URL like http://"),
            (&["--prometheus", "ftp://prometheus"], "\"ftp\" is no scheme"),
            (&["--http", "8080"], "invalid socket address"),
            (&["--log-format", "xml"], "text, json"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
