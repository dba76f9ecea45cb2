//! The whole product under a steady load on a real istiod and a real Envoy: what users see, counted by users.
//!
//! Every request of every user is kept with its answer. A test says how many failed and who answered, and compares that
//! with the weights that Envoy itself had at the time; the VirtualService is read only to know when to look. The controller
//! is its own program, under the rights of `deploy/`, so it can be killed. Each test has a namespace and a controller of its
//! own, so several run at the same time against one cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "a test, though clippy knows only those of the usual harness; and JSON is written where it is passed"
)]

mod connections;
mod controller;
mod crash;
mod delegates;
mod forms;
mod generated;
mod gitops;
mod grpc;
mod lab;
mod mlserver;
mod modes;
mod operated;
#[allow(dead_code, reason = "what is recorded is read from Envoy here")]
#[path = "../real/oracle.rs"]
mod oracle;
mod outcomes;
mod policies;
mod promotion;
mod refusals;
mod several;
mod shares;
mod strategies;
mod subsets;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use sluice_lab::real::binaries::Component;
use sluice_lab::real::namespace;
use tokio::runtime::Runtime;

use lab::Lab;

/// Every test has users, and two processors have to serve them all.
const AT_ONCE: usize = 4;

fn main() -> anyhow::Result<ExitCode> {
    let components = [&Component::ALL[..], &[Component::Mlserver]].concat();
    namespace::enter_with(&components)?;
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());
    let trials = sluice_lab::trials!(runtime, lab,
        // First what takes longest.
        mlserver: [a_real_model_is_replaced_by_another],
        gitops: [
            a_tool_that_reapplies_is_repaired_once_each_time,
            weights_that_a_hand_changed_are_put_back,
            a_tool_that_names_a_service_that_is_gone_costs_only_moments,
        ],
        promotion: [
            no_request_fails_and_each_step_has_its_share,
            no_request_of_the_mesh_fails_either,
        ],
        crash: [
            a_promotion_goes_on_where_it_was,
            a_breach_ends_though_the_controller_was_killed,
            a_seldon_deployment_is_promoted_over_steps_of_every_kind,
        ],
        outcomes: [
            a_rollback_costs_only_what_the_canary_broke,
            another_revision_takes_over,
            a_deletion_gives_all_back,
        ],
        delegates: [
            nobody_fights_over_a_delegate,
            the_example_of_a_delegate_is_released_by_a_commit,
            a_live_route_becomes_a_delegate_and_nobody_notices,
            istiod_drops_what_conflicts_and_says_nothing,
            what_istiod_would_drop_is_refused,
        ],
        generated: [
            predictors_of_a_seldon_deployment_change_places,
            a_shadow_of_a_seldon_deployment_becomes_stable_without_a_restart,
            a_generated_route_is_promoted,
        ],
        operated: [
            traffic_is_moved_in_the_deployment_and_its_operator_carries_it_out,
            users_leave_the_canary_though_the_operator_stands_still,
        ],
        forms: [all_forms_of_a_step_at_once_beside_a_mirror_of_the_users],
        modes: [
            a_mirror_gets_its_percentage_and_never_answers,
            a_cohort_sees_the_canary_and_nobody_else_does,
            a_cookie_keeps_a_client_on_its_arm,
            a_hash_keeps_a_user_on_its_arm_and_nobody_goes_back,
        ],
        subsets: [a_subset_gets_users_when_its_own_pods_are_ready],
        strategies: [
            canary,
            blue_green,
            blue_green_goes_back_at_once,
            ab_test,
            shadow,
            shadow_then_promote,
        ],
        refusals: [
            mistakes_about_a_generated_route_move_nothing,
            mistakes_about_a_persons_route_move_nothing,
        ],
        policies: [
            what_the_users_route_does_it_does_during_steps,
            a_generated_route_tries_again_as_its_annotations_say,
        ],
        several: [every_route_gets_the_weights_and_what_falls_falls_first],
        grpc: [calls_are_divided_by_weight, a_generated_route_takes_calls_by_their_headers],
        connections: [
            connections_to_a_port_are_divided_by_weight,
            connections_for_a_name_are_divided_by_weight,
        ],
    );
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
