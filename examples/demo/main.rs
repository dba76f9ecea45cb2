//! `cargo demo`: the main job, live, in about a minute and without a cluster.
//!
//! The controller is the same code as `sluice run`; around it are a Kubernetes API in memory, predictors, a gateway and
//! users of the laboratory. One good release is promoted in steps, a second one breaks on its way and is rolled back.

mod check;
mod diff;
mod moment;
mod real;
mod screen;
mod story;
mod text;
mod users;
mod view;
mod words;
mod world;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use self::{screen::Screen, story::Story, world::World};
use clap::Parser;
use sluice_lab::real::{binaries::Component, namespace};

/// A good release is promoted, a bad one is rolled back: live, on this machine, in under a minute.
///
/// Exits with 0 if both ended as they should, as read from the stored VirtualService and the gateway's counts;
/// else with 1; with 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Args {
    /// Write lines instead of drawing on the terminal; the default where there is none
    #[arg(long)]
    plain: bool,
    /// Write the controller's log, too, to standard error; with `RUST_LOG` for more or less of it. Implies --plain
    #[arg(long)]
    logs: bool,
    /// On a real Kubernetes, a real Istio and a real Envoy, as processes of this machine: they are built with Go the first
    /// time, which takes about 15 minutes
    #[arg(long)]
    real: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cannot(&error),
    };
    if args.real {
        // The process that waits outside passes an interrupt on to nobody: the one inside gets it from the terminal, too,
        // and has a screen to put right before both end.
        let _waits = namespace::is_outside().then(|| runtime.spawn(told_to_stop()));
        if let Err(error) = namespace::enter_with(&Component::ALL) {
            return cannot(&error);
        }
    }
    runtime.block_on(run(&args))
}

fn cannot(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("the demo cannot begin: {error}");
    ExitCode::FAILURE
}

async fn run(args: &Args) -> ExitCode {
    if args.logs {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        let colour =
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(io::stderr).init();
    }
    let mut screen = Screen::new(args.plain || args.logs);
    let ended = tokio::select! {
        ended = demo(&mut screen, args.real) => ended,
        code = told_to_stop() => Ok(ExitCode::from(code)),
    };
    // Gives the terminal back before anything else is written.
    drop(screen);
    match ended {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo cannot go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(screen: &mut Screen, real: bool) -> anyhow::Result<ExitCode> {
    let world = World::start(real).await?;
    let well = Story::new(&world, screen).tell().await?;
    world.stop().await?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The exit code for the signal that came: 128 and its number, as shells have it.
async fn told_to_stop() -> u8 {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the signal ends the process itself.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            return tokio::select! {
                () = interrupted => 130,
                _ = terminated.recv() => 143,
            };
        }
    }
    interrupted.await;
    130
}

/// Whoever read has seen enough, like `head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
