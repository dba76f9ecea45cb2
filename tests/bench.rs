//! Every scenario of the benchmark, in its quick form, on the real kube-apiserver with the program of this build: that it
//! runs and yields its figures. What they are is for `cargo lab bench` to say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test, though clippy knows only those of the usual harness"
)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Trial};
use sluice_lab::bench::{Bench, Report, Scenario};
use sluice_lab::real::binaries::Component;
use sluice_lab::real::namespace;
use tokio::runtime::Runtime;

/// Each has a cluster of its own and mostly waits, but a machine has room for a few only.
const AT_ONCE: usize = 3;

/// The scenarios, and what each must have measured.
const SCENARIOS: [(&str, Scenario, &[&str]); 6] = [
    ("idle", Scenario::Idle, &["idle.memory"]),
    (
        "breach_beside",
        Scenario::BreachBeside,
        &[
            "breach_beside.visible_to_commit.max",
            "breach_beside.answer_to_commit.p50",
            "breach_beside.answer_to_commit.p99",
            "breach_beside.status_patches_per_decision",
            "breach_beside.virtual_service_patches_per_decision",
            "breach_beside.events_per_decision",
            "breach_beside.writes_after_rollback",
        ],
    ),
    ("users", Scenario::Users, &["users.visible_to_last_request.max"]),
    ("rest", Scenario::Rest, &["rest.memory", "rest.processor", "rest.writes"]),
    (
        "looks",
        Scenario::Looks,
        &["looks.late.max", "looks.asks_per_query_and_instant", "looks.checkpoints", "looks.anew.late.max"],
    ),
    ("many", Scenario::Many, &["many.memory", "many.restarted.memory"]),
];

fn main() -> Result<ExitCode> {
    namespace::enter_with(&Component::ALL)?;
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = Arc::new(Runtime::new()?);
    let trials = SCENARIOS.map(|(name, scenario, figures)| {
        let runtime = runtime.clone();
        Trial::test(format!("{name}_yields_its_figures"), move || {
            runtime.block_on(measured(scenario, figures)).map_err(|error| format!("{error:#}").into())
        })
    });
    Ok(libtest_mimic::run(&arguments, trials.into()).exit_code())
}

async fn measured(scenario: Scenario, expected: &[&str]) -> Result<()> {
    let bench = Bench {
        program: env!("CARGO_BIN_EXE_sluice").into(),
        repository: Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(),
        scenarios: vec![scenario],
        rollouts: 6,
        quick: true,
    };
    let report = bench.run().await?;
    ensure!(report.failed.is_empty(), "{:?}", report.failed);
    for name in expected {
        ensure!(report.figures.iter().any(|figure| figure.name == *name), "no {name}");
    }
    for figure in &report.figures {
        ensure!(figure.value.is_finite() && figure.value >= 0.0, "{figure:?}");
        ensure!(!figure.how.is_empty() && !figure.unit.is_empty(), "{figure:?}");
    }
    sanity(&report)
}

/// What holds on any machine, however slow: counts, and that something was measured at all.
fn sanity(report: &Report) -> Result<()> {
    for figure in &report.figures {
        let counts = figure.unit == "writes" || figure.unit == "asks";
        ensure!(!counts || figure.holds != Some(false), "{figure:?}");
        ensure!(!figure.name.ends_with(".memory") || figure.value > 0.0, "{figure:?}");
        ensure!(figure.unit != "ms" || figure.samples > 0, "{figure:?}");
    }
    ensure!(report.versions.kube_apiserver.starts_with("v1."), "{:?}", report.versions);
    Ok(())
}
