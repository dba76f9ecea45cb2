//! Through the steps, and what they wait for.

use serde_json::json;

use super::{life::Life, world::*};
use crate::{
    api::{DecisionKind, Do, Phase, Reason},
    machine::Outcome,
};

#[test]
fn a_good_canary_goes_through_the_steps_and_becomes_stable() {
    use DecisionKind::{Adopted, Entered, Promoted, Promoting, Started};
    let mut life = Life::new();
    assert_eq!(life.stands(), (Phase::Healthy, Reason::Live));
    life.world.want("v2");
    let mut weights = vec![0];
    life.until(GOOD, |life| life.stable() == "v2" || life.world.now.as_secs() > 500);
    assert_eq!(life.stands(), (Phase::Healthy, Reason::Live));
    weights.extend(life.world.status.decisions.iter().map(|decision| decision.weight));
    weights.dedup();
    assert_eq!(weights, [0, 10, 50, 100]);
    assert_eq!(life.kinds(), [Adopted, Started, Entered, Entered, Promoting, Promoted]);
    assert_eq!((life.outcome("v2"), life.weight()), (Some(Outcome::Promoted), 100));
    assert_eq!(entries(&life.world.virtual_services["a"]).len(), 1, "the loser left");
}

#[test]
fn a_step_lasts_as_long_as_it_says_and_no_longer() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["for"] = json!("60s"));
    let entered = life.last().at;
    life.until(GOOD, |life| life.number() == Some(2));
    assert_eq!((life.last().at - entered).num_seconds(), 60);
}

#[test]
fn time_that_nobody_observed_does_not_end_a_step() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["for"] = json!("10m"));
    life.world.now += std::time::Duration::from_hours(5);
    life.turns(2, GOOD);
    assert_eq!(life.number(), Some(1), "a jump counts as two intervals");
    life.crash();
    life.world.now += std::time::Duration::from_hours(5);
    life.turns(2, GOOD);
    assert_eq!(life.number(), Some(1), "a new leader begins to count");
}

#[test]
fn a_look_counts_only_after_the_traffic_has_settled() {
    let mut life = Life::at_step(1, |spec| spec["settle"] = json!("30s"));
    life.turns(3, BAD);
    assert_eq!(life.number(), Some(1));
    life.turns(1, BAD);
    assert_eq!(life.last().reason, Reason::CheckFailed);
}

#[test]
fn a_look_right_after_a_repair_ends_no_step() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["approve"] = json!(true));
    life.turns(3, GOOD);
    // The approval is recorded, but its stamp is not written: the traffic is not in place.
    life.ask(Do::Approve);
    life.controller.begin(&life.world, GOOD);
    life.controller.persist(&mut life.world, super::controller::Fault::None);
    life.crash();
    life.controller.turn(&mut life.world, GOOD);
    life.controller.turn(&mut life.world, BAD);
    assert_eq!((life.number(), life.last().kind), (Some(1), DecisionKind::Approved));
}

#[test]
fn what_passed_before_a_drift_has_to_pass_again() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["approve"] = json!(true));
    life.turns(4, GOOD);
    life.world.edit("a", |object| object["spec"]["http"][1]["route"][1]["weight"] = json!(3));
    life.asks(Do::Approve);
    life.turns(1, Saw::Outage);
    life.turns(3, Saw::NotAsked);
    assert_eq!(life.number(), Some(1));
    life.turns(1, GOOD);
    assert_eq!(life.number(), Some(2));
}

#[test]
fn a_step_waits_for_its_requests() {
    let mut life = Life::at_step(1, |spec| {
        spec["steps"][0]["minRequests"] = json!(450);
        spec["checks"] = json!([]);
    });
    life.turns(4, GOOD);
    assert_eq!((life.number(), life.stands()), (Some(1), (Phase::Waiting, Reason::NoEvidence)));
    life.until(GOOD, |life| life.number() == Some(2));
    assert!(life.last().message.contains("500 requests"), "{}", life.last().message);
}

#[test]
fn too_few_requests_are_no_evidence() {
    let mut life = Life::at_step(1, |_| ());
    life.turns(5, FEW);
    assert_eq!((life.number(), life.stands()), (Some(1), (Phase::Waiting, Reason::NoEvidence)));
    assert_eq!(life.message(), "step 1 waits for evidence of errors");
}

#[test]
fn without_steps_a_ready_canary_is_promoted() {
    let mut life = Life::with(|spec| spec["steps"] = json!([]));
    life.world.want("v2");
    life.ready("v2", 0);
    life.turns(5, GOOD);
    assert_eq!((life.weight(), life.stands()), (0, (Phase::Promoting, Reason::CanaryNotReady)));
    assert_eq!(life.world.status.step, None, "there is none to count");
    life.ready("v2", 1);
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn keep_stable_observes_and_gives_all_back() {
    let mut life = Life::at_step(2, |spec| spec["finish"] = json!("KeepStable"));
    life.until(GOOD, |life| !life.in_flight());
    assert_eq!((life.stable(), life.weight()), ("v1", 0));
    assert_eq!(life.outcome("v2"), Some(Outcome::Observed));
    assert_eq!(life.stands(), (Phase::Healthy, Reason::Observed));
    life.turns(20, GOOD);
    assert!(!life.in_flight(), "it is not tried again");
}

#[test]
fn keep_stable_holds_while_stable_could_not_answer() {
    let mut life = Life::at_step(2, |spec| spec["finish"] = json!("KeepStable"));
    life.ready("v1", 0);
    life.turns(10, GOOD);
    assert_eq!((life.weight(), life.stands()), (50, (Phase::Stalled, Reason::StableNotReady)));
    life.ready("v1", 1);
    life.turns(2, GOOD);
    assert_eq!(life.outcome("v2"), Some(Outcome::Observed));
}

#[test]
fn wait_stays_at_the_last_step_until_a_person_decides() {
    let mut life = Life::at_step(2, |spec| spec["finish"] = json!("Wait"));
    life.turns(20, GOOD);
    assert_eq!((life.weight(), life.stands()), (50, (Phase::Waiting, Reason::WaitingForDecision)));
    life.asks(Do::Promote);
    assert_eq!(life.last().kind, DecisionKind::Promoting);
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn a_canary_that_is_late_is_said_and_not_held_against_it() {
    let mut life = Life::new();
    life.ready("v2", 0);
    life.world.want("v2");
    life.until(GOOD, |life| life.stands() == (Phase::Stalled, Reason::NotReadyInTime));
    assert_eq!(life.message(), "the canary has no ready endpoint after 1m");
    life.turns(30, GOOD);
    assert_eq!(life.kinds().iter().filter(|kind| **kind == DecisionKind::Overdue).count(), 1);
    life.ready("v2", 1);
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn the_pinned_spec_counts_until_the_revision_ends() {
    let mut life = Life::at_step(1, |_| ());
    life.edit_spec("steps", &json!([{"weight": 90}]));
    life.until(GOOD, |life| life.number() == Some(2));
    assert_eq!(life.last().weight, 50);
    life.until(GOOD, |life| life.stable() == "v2");
    life.world.want("v3");
    life.until(GOOD, |life| life.last().kind == DecisionKind::Entered && life.last().seq > 6);
    assert_eq!(life.last().weight, 90);
}

#[test]
fn a_refused_spec_stops_increases_and_no_decrease() {
    let mut life = Life::at_step(1, |_| ());
    life.edit_spec("steps", &json!([{"weight": 101}]));
    life.turns(10, GOOD);
    assert_eq!((life.number(), life.weight()), (Some(1), 10));
    assert_eq!(life.stands(), (Phase::Waiting, Reason::InvalidSpec));
    assert!(life.message().starts_with("spec.steps[0].weight: 101"), "{}", life.message());
    life.turns(1, BAD);
    assert_eq!((life.outcome("v2"), life.weight()), (Some(Outcome::RolledBack), 0));
}

#[test]
fn an_edit_of_the_routes_keeps_no_traffic_on_the_old_ones() {
    let mut life = Life::at_step(2, |_| ());
    life.world.put(virtual_service("b", &[("v1", 100)]));
    life.edit_spec("routes", &json!([{"virtualService": "b", "http": ["primary"]}]));
    life.turns(1, GOOD);
    life.controller.begin(&life.world, BAD);
    life.controller.persist(&mut life.world, super::controller::Fault::None);
    assert_eq!(life.outcome("v2"), Some(Outcome::RolledBack));
    life.crash();
    assert_eq!(life.weight(), 50, "recorded, but not done");
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 0);
}

#[test]
fn a_start_waits_for_the_traffic_of_the_decision_before() {
    let mut life = Life::at_step(2, |_| ());
    life.world.want("v3");
    life.controller.begin(&life.world, GOOD);
    life.controller.persist(&mut life.world, super::controller::Fault::None);
    assert_eq!(life.last().kind, DecisionKind::Superseded);
    life.crash();
    life.controller.begin(&life.world, GOOD);
    life.controller.persist(&mut life.world, super::controller::Fault::None);
    assert_eq!(life.last().kind, DecisionKind::Superseded, "two would be in the air at once");
    assert_eq!(life.stands(), (Phase::Progressing, Reason::TrafficNotInPlace));
    life.turns(2, GOOD);
    assert!(life.kinds().contains(&DecisionKind::Started));
}
