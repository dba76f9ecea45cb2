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

mod away;
mod binary;
mod clocks;
mod controller;
mod drift;
mod examples;
mod faults;
mod files;
mod generated;
mod install;
mod lab;
mod life;
mod limits;
mod main_path;
mod oracle;
mod people;
mod queries;
mod refused;
mod refused_by_server;
mod replicas;
mod reports;
mod rights;
mod tools;
mod trace;
mod uninstall;
mod versions;
mod versus;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use sluice_lab::real::namespace;
use tokio::runtime::Runtime;

use lab::Lab;

/// Tests mostly wait for time to pass, so many more than there are processors run at the same time.
const AT_ONCE: usize = 8;

#[allow(clippy::too_many_lines, reason = "a list of tests")]
fn main() -> anyhow::Result<ExitCode> {
    namespace::enter()?;
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    reports::listen();
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());
    let mut trials = sluice_lab::trials!(runtime, lab,
        // First what takes longest, beside everything else.
        files: [the_server_stores_of_each_file_what_was_meant_and_all_else_as_it_was],
        away: [
            a_breach_that_nobody_could_act_on_ends_when_connections_are_taken_again,
            a_breach_that_nobody_could_act_on_ends_when_requests_are_answered_again,
            a_breach_while_the_api_server_is_stopped_ends_when_it_goes_on,
            time_that_nobody_saw_pass_ends_no_step,
        ],
        faults: [
            a_promotion_ends_the_same_whatever_is_struck,
            a_breach_ends_the_same_whatever_is_struck,
            a_superseded_rollout_ends_the_same_whatever_is_struck,
            an_abort_ends_the_same_whatever_is_struck,
            a_deletion_ends_the_same_whatever_is_struck,
        ],
        generated: [
            the_example_delegate_is_owned_beside_what_is_in_git,
            the_example_expose_is_served_and_goes_with_its_rollout,
            the_example_seldon_moves_predictors_behind_a_generated_route,
            the_example_seldon_operator_moves_the_traffic_in_the_deployment,
            the_example_seldon_shadow_goes_from_copies_to_all_and_writes_nothing_of_seldon_core,
            a_kind_that_is_installed_later_is_noticed_and_so_is_that_it_goes,
            what_the_schema_can_tell_is_refused_by_the_server,
        ],
        binary: [
            the_program_does_the_whole_job,
        ],
        versus: [
            three_times_stables_errors_are_stopped,
            three_times_stables_errors_are_stopped_by_scraping,
            as_many_errors_as_stable_are_promoted,
            as_many_errors_as_stable_are_promoted_by_scraping,
            a_prometheus_that_goes_away_half_way_is_waited_for,
            pods_whose_metrics_go_away_half_way_are_waited_for,
        ],
        main_path: [
            a_good_canary_is_promoted_through_four_steps,
            a_good_canary_is_promoted_through_four_steps_by_scraping,
            a_breach_at_the_third_step_takes_all_traffic_away,
            a_breach_at_the_third_step_takes_all_traffic_away_by_scraping,
            answers_that_come_late_take_all_traffic_away,
        ],
        drift: [
            weights_that_a_hand_changed_are_put_back,
            a_manifest_from_git_does_not_undo_a_step,
            a_manifest_from_git_brings_no_rejected_canary_back,
        ],
        people: [
            a_pause_stops_every_increase_until_it_is_resumed,
            a_pause_in_the_spec_stops_increases_and_no_rollback,
            a_gate_opens_by_approval_and_by_nothing_else,
            promote_passes_one_step_and_full_passes_all,
            an_abort_takes_all_traffic_away_and_a_retry_begins_anew,
            an_action_for_a_past_step_is_refused,
        ],
        life: [
            another_revision_supersedes_the_one_in_flight,
            wanting_stable_again_gives_it_all_traffic_without_a_look,
            deletion_in_mid_step_gives_the_route_back_to_stable,
            deletion_without_a_virtual_service_does_not_hang,
            a_wiped_status_ends_at_stable_and_starts_nothing,
            a_status_wiped_at_rest_loses_no_user,
            a_rollout_created_again_after_a_rollback_starts_nothing,
            an_edit_of_the_steps_keeps_no_rollback_from_happening,
            a_spec_that_became_wrong_keeps_no_rollback_from_happening,
            a_second_rollout_on_the_route_keeps_no_rollback_from_happening,
            a_canary_without_endpoints_gets_no_traffic,
            nothing_is_rolled_back_onto_a_stable_without_endpoints,
        ],
        replicas: [
            two_share_the_slots_and_one_goes_on_when_the_other_stops,
            the_lease_of_a_killed_replica_runs_out,
            a_restarted_controller_goes_on_where_it_was,
            what_happened_while_nobody_was_there_is_seen_afterwards,
            a_replica_whose_slot_was_taken_takes_it_again,
        ],
        clocks: [
            a_prometheus_whose_clock_is_off_neither_promotes_nor_rolls_back,
        ],
        tools: [
            a_tool_that_applies_by_force_keeps_no_promotion_from_happening,
            a_virtual_service_created_again_gets_its_step_back,
            a_service_that_is_deleted_takes_its_canary_out_and_one_of_stable_holds,
            a_rollout_deleted_without_its_dependents_starts_nothing_when_it_is_back,
        ],
        limits: [
            ten_thousand_steps,
            one_step_more_than_there_may_be,
            the_longest_names,
            the_longest_words,
        ],
        versions: [
            kinds_that_are_older_keep_the_program_from_starting,
            kinds_that_became_older_stop_what_grows_and_no_rollback,
            kinds_that_are_newer_do_no_harm,
        ],
        uninstall: [
            in_order_gives_the_routes_back_and_leaves_nothing,
            the_controller_alone_can_go_and_come_back,
            kinds_that_hang_for_want_of_a_controller_are_freed,
            a_namespace_goes_with_all_that_is_in_it,
        ],
        queries: [
            a_query_that_holds_promotes,
            a_query_that_does_not_hold_takes_all_traffic_away,
            a_query_without_an_answer_neither_promotes_nor_rolls_back,
            a_score_below_stables_takes_all_traffic_away,
            a_score_as_good_as_stables_is_promoted,
            a_counter_that_grows_faster_than_stables_takes_all_traffic_away,
        ],
        examples: [
            every_example_is_a_test,
        ],
        refused_by_server: [
            an_exposed_route_that_is_given_up,
            an_unknown_action,
        ],
        rights: [
            the_controller_needs_every_right_that_it_has,
        ],
        refused: [
            a_query_that_is_not_valid,
            a_query_with_an_unknown_variable,
            an_unknown_metrics_source,
            what_this_version_does_not_do,
            a_virtual_service_that_is_missing_until_it_is_there,
            a_route_that_is_missing,
            a_service_that_is_missing_until_it_is_there,
            a_port_that_the_service_has_not,
            two_rollouts_on_one_route,
            an_ambiguous_route,
            a_step_that_the_share_cannot_represent,
            a_status_whose_stage_was_edited_counts_as_lost,
            a_status_without_its_pinned_spec_stops_the_canary,
            a_step_raised_by_hand_raises_no_traffic,
            what_is_only_shown_is_put_right,
            a_status_from_a_backup_takes_nothing_back,
        ],
    );
    for mistake in refused_by_server::MISTAKES {
        let (runtime, lab) = (runtime.clone(), lab.clone());
        trials.push(Trial::test(format!("refused_by_server::{}", mistake.name), move || {
            let refused = refused_by_server::is_refused(&lab, mistake);
            runtime.block_on(refused).map_err(|error| format!("{error:#}").into())
        }));
    }
    for example in examples::EXAMPLES {
        let (runtime, lab) = (runtime.clone(), lab.clone());
        trials.push(Trial::test(format!("examples::{}", example.name), move || {
            let ended = examples::runs_to_its_end(&lab, example);
            runtime.block_on(ended).map_err(|error| format!("{error:#}").into())
        }));
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
