//! The whole product on a real kube-apiserver and a real Prometheus: the controller as `deploy/` lets it run, predictors
//! behind pod addresses, users at a gateway that obeys the VirtualService.
//!
//! What is asserted is read from the raw objects, the gateway's and the predictors' counts and the server's audit log, and
//! computed here; nothing of the code under test is asked. Each test has a namespace and a controller of its own, so all
//! of them run at the same time against one cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test, though clippy knows only those of the usual harness"
)]

mod controller;
mod install;
mod lab;
mod main_path;
mod oracle;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use sluice_lab::real::namespace;
use tokio::runtime::Runtime;

use lab::Lab;

/// Tests mostly wait for time to pass, so many more than there are processors run at the same time.
const AT_ONCE: usize = 16;

/// Trials of a module's tests, named after both.
macro_rules! trials {
    ($trials:ident, $runtime:ident, $lab:ident, $($module:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        $($({
            let (runtime, lab) = ($runtime.clone(), $lab.clone());
            let name = concat!(stringify!($module), "::", stringify!($name));
            $trials.push(Trial::test(name, move || {
                runtime.block_on($module::$name(&lab)).map_err(|error| format!("{error:#}").into())
            }));
        })*)*
    };
}

fn main() -> anyhow::Result<ExitCode> {
    namespace::enter()?;
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    if std::env::var_os("RUST_LOG").is_some() {
        sluice::cli::run::start_log(sluice::cli::run::LogFormat::Text, "info");
    }
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());
    let mut trials = Vec::new();
    trials!(trials, runtime, lab,
        main_path: [
            a_good_canary_is_promoted_through_four_steps,
            a_good_canary_is_promoted_through_four_steps_by_scraping,
            a_breach_at_the_third_step_takes_all_traffic_away,
            a_breach_at_the_third_step_takes_all_traffic_away_by_scraping,
            answers_that_come_late_take_all_traffic_away,
        ],
    );
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
