//! What `deploy/` and `crds/` are on a real API server: accepted, restricted, and nobody can ask in another's name.
#![allow(clippy::unwrap_used, reason = "a test, though clippy knows only those of the usual harness")]

mod actions;
mod commands;
mod freezes;
mod lab;
mod metrics;
mod pod;
mod rights;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use libtest_mimic::Arguments;
use sluice_lab::real::namespace;
use tokio::runtime::Runtime;

use lab::Lab;

fn main() -> Result<ExitCode> {
    namespace::enter()?;
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());
    let trials = sluice_lab::trials!(runtime, lab,
        actions: [
            who_asked_is_what_the_server_says,
            who_asked_cannot_be_changed_later,
            nobody_asks_in_anothers_name_where_there_is_no_stamp,
            who_writes_rollouts_cannot_approve_them,
            an_action_without_what_it_needs_is_refused,
        ],
        rights: [
            the_controller_may_do_what_it_does_and_reads_no_secrets,
            each_role_can_do_what_it_is_for_and_nothing_more,
        ],
        pod: [its_pod_meets_the_restricted_standard],
        freezes: [whoever_may_freeze_does_it_in_their_own_name],
        commands: [the_command_line_says_what_the_server_says],
        metrics: [metrics_that_a_real_prometheus_has_are_shown_and_others_are_missed],
    );
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
