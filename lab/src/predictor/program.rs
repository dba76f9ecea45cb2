//! A predictor as a program of its own, for pods that run as processes.

use std::{io, net::SocketAddr, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Predictor;

/// What a predictor's program is started with; the variables are for pods, whose environment can be changed.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDR")]
    address: SocketAddr,
    /// The model it serves
    #[arg(long, env = "MODEL", default_value = "iris")]
    model: String,
    /// The version of it
    #[arg(long, env = "VERSION")]
    version: String,
    /// The share of requests, from 0 to 1, that are answered with 500
    #[arg(long, env = "ERRORS", default_value_t = 0.0)]
    errors: f64,
    /// How long each request takes, in milliseconds
    #[arg(long, env = "LATENCY_MS", default_value_t = 0)]
    latency_ms: u64,
}

/// Serves until SIGTERM, then answers what it has and ends.
pub async fn serve(args: &ServeArgs) -> io::Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    let predictor = Predictor::start(args.address, &args.model, &args.version)?;
    predictor.set_errors(args.errors);
    predictor.set_latency(Duration::from_millis(args.latency_ms));
    println!("{} serves on {}", predictor.name(), predictor.address());
    told.recv().await;
    predictor.stop().await;
    Ok(())
}
