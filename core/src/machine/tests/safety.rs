//! What takes traffic away, and what holds it.

use serde_json::json;

use super::{
    controller::{ALL, Fault, How},
    life::Life,
    world::*,
};
use crate::{
    api::{DecisionKind, Do, Phase, Reason},
    carrier,
    machine::Outcome,
};

#[test]
fn a_breach_takes_all_traffic_away() {
    let mut life = Life::at_step(2, |_| ());
    life.turns(2, BAD);
    assert_eq!((life.weight(), life.outcome("v2")), (0, Some(Outcome::RolledBack)));
    assert_eq!(life.stands(), (Phase::RolledBack, Reason::CheckFailed));
    let last = life.last();
    assert_eq!((last.kind, last.from_weight, last.weight), (DecisionKind::RolledBack, 50, 0));
    assert_eq!(life.message(), last.message);
    assert!(last.message.starts_with("errors: 90% (9000000 of 10000000) of the canary's requests failed"));
}

#[test]
fn a_revision_that_was_rolled_back_is_not_tried_again() {
    let mut life = Life::at_step(1, |_| ());
    life.turns(50, BAD);
    assert_eq!(life.kinds().iter().filter(|kind| **kind == DecisionKind::Started).count(), 1);
    life.world.want("v3");
    life.until(GOOD, |life| life.stable() == "v3");
    life.world.want("v2");
    life.turns(20, GOOD);
    assert_eq!((life.stable(), life.in_flight()), ("v3", false));
}

#[test]
fn a_breach_at_the_promotion_gives_all_back() {
    let mut life = Life::at_step(2, |_| ());
    life.until(GOOD, |life| life.stands().0 == Phase::Promoting);
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 100);
    life.turns(1, BAD);
    assert_eq!((life.weight(), life.world.weight("a", "v1")), (0, 100));
}

#[test]
fn a_lost_endpoint_takes_the_traffic_at_once_and_the_step_starts_anew() {
    let mut life = Life::at_step(2, |spec| spec["steps"][1]["for"] = json!("2m"));
    life.turns(5, GOOD);
    life.ready("v2", 0);
    life.turns(1, GOOD);
    assert_eq!((life.weight(), life.last().kind), (0, DecisionKind::Withdrawn));
    assert_eq!(life.stands(), (Phase::Progressing, Reason::CanaryNotReady));
    life.ready("v2", 1);
    life.turns(1, GOOD);
    assert_eq!((life.weight(), life.number(), life.step().losses), (50, Some(2), 1));
    assert_eq!(life.step().elapsed.0.as_secs(), 0);
    assert_eq!(life.last().message, "the canary has a ready endpoint");
}

#[test]
fn a_second_loss_in_a_step_is_the_last() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["for"] = json!("10m"));
    for _ in 0..2 {
        life.ready("v2", 0);
        life.turns(2, GOOD);
        life.ready("v2", 1);
        life.turns(2, GOOD);
    }
    assert_eq!(life.stands(), (Phase::RolledBack, Reason::CanaryLost));
}

#[test]
fn a_loss_in_another_step_is_a_first_one_again() {
    let mut life = Life::at_step(1, |_| ());
    for number in [1, 2] {
        life.until(GOOD, |life| life.number() == Some(number));
        life.ready("v2", 0);
        life.turns(1, GOOD);
        life.ready("v2", 1);
        life.turns(1, GOOD);
    }
    assert!(life.in_flight());
}

#[test]
fn another_revision_supersedes_and_starts_at_the_first_step() {
    let mut life = Life::at_step(2, |_| ());
    life.world.want("v3");
    life.turns(1, GOOD);
    assert_eq!((life.last().kind, life.weight()), (DecisionKind::Superseded, 0));
    assert_eq!(life.outcome("v2"), Some(Outcome::Superseded));
    life.until(GOOD, |life| life.last().weight > 0);
    assert_eq!((life.number(), life.world.weight("a", "v3")), (Some(1), 10));
    life.world.want("v2");
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn stable_wanted_again_cancels_without_analysis() {
    let mut life = Life::at_step(2, |_| ());
    life.world.want("v1");
    life.turns(1, Saw::Outage);
    assert_eq!((life.last().kind, life.weight()), (DecisionKind::Cancelled, 0));
    assert_eq!(life.stands().0, Phase::Progressing, "not healthy before the traffic is back");
    life.turns(1, Saw::Outage);
    assert_eq!(life.stands(), (Phase::Healthy, Reason::Live));
    life.world.want("v2");
    life.until(GOOD, |life| life.weight() == 10);
}

#[test]
fn a_canary_that_has_earned_all_traffic_becomes_stable_before_the_next_one_starts() {
    let mut life = Life::at_step(2, |_| ());
    life.until(GOOD, |life| life.stands().0 == Phase::Promoting);
    life.world.want("v3");
    life.until(GOOD, |life| life.number() == Some(1) && life.world.weight("a", "v3") > 0);
    assert_eq!((life.stable(), life.outcome("v2")), ("v2", Some(Outcome::Promoted)));
}

#[test]
fn stable_wanted_again_at_the_promotion_cancels() {
    let mut life = Life::at_step(2, |_| ());
    life.until(GOOD, |life| life.stands().0 == Phase::Promoting);
    life.world.want("v1");
    life.turns(1, GOOD);
    assert_eq!((life.stable(), life.weight(), life.last().kind), ("v1", 0, DecisionKind::Cancelled));
}

#[test]
fn nothing_is_rolled_back_onto_a_stable_without_endpoints_and_that_is_said() {
    let mut life = Life::at_step(2, |_| ());
    life.ready("v1", 0);
    life.turns(5, BAD);
    assert_eq!((life.weight(), life.stands()), (50, (Phase::Stalled, Reason::StableNotReady)));
    assert!(life.message().starts_with("stable has no ready endpoint: traffic stays where it is"));
    life.ready("v1", 1);
    life.turns(1, BAD);
    assert_eq!((life.weight(), life.outcome("v2")), (0, Some(Outcome::RolledBack)));
}

#[test]
fn why_nobody_answers_for_an_arm_is_said_where_endpoints_do_not_tell() {
    const WHY: &str = "subset \"v\" is in no DestinationRule";
    let without = |life: &mut Life, service: &str| {
        life.ready(service, 0);
        life.world.missing.insert(service.to_owned(), WHY.to_owned());
    };
    let mut life = Life::at_step(2, |_| ());
    without(&mut life, "v2");
    life.turns(1, GOOD);
    assert_eq!((life.last().kind, life.weight()), (DecisionKind::Withdrawn, 0));
    assert!(life.last().message.ends_with(WHY), "{}", life.last().message);
    assert_eq!(life.message(), format!("the canary has no ready endpoint yet; {WHY}"));
    let uid = life.ask(Do::PromoteFull);
    life.turns(1, GOOD);
    assert_eq!(life.world.action(&uid).message, format!("the canary has no ready endpoint; {WHY}"));

    let mut life = Life::at_step(2, |_| ());
    without(&mut life, "v1");
    life.turns(5, BAD);
    assert_eq!((life.weight(), life.stands()), (50, (Phase::Stalled, Reason::StableNotReady)));
    assert!(life.message().ends_with(WHY), "{}", life.message());
}

#[test]
fn a_canary_that_is_not_wanted_any_more_does_not_grow_while_stable_is_gone() {
    for wanted in ["v1", "v3"] {
        let mut life = Life::at_step(1, |_| ());
        life.ready("v1", 0);
        life.world.want(wanted);
        life.turns(20, GOOD);
        assert_eq!((life.weight(), life.stands().1), (10, Reason::StableNotReady), "{wanted}");
        life.ready("v1", 1);
        life.turns(1, GOOD);
        assert_eq!(life.weight(), 0);
    }
}

#[test]
fn an_abort_and_a_deletion_go_before_a_stable_without_endpoints() {
    let mut life = Life::at_step(2, |_| ());
    life.ready("v1", 0);
    life.asks(Do::Abort);
    assert_eq!(life.weight(), 0);
    let mut life = Life::at_step(2, |_| ());
    life.ready("v1", 0);
    life.world.delete();
    life.turns(2, GOOD);
    assert!(life.world.gone && life.weight() == 0);
}

#[test]
fn missing_evidence_pauses_after_its_limit() {
    let mut life = Life::at_step(1, |_| ());
    life.until(Saw::Outage, |life| life.last().kind == DecisionKind::Paused);
    assert_eq!((life.weight(), life.last().reason), (10, Reason::Inconclusive));
    assert_eq!(life.stands(), (Phase::Waiting, Reason::Paused));
    assert_eq!(life.last().message, "no evidence for 1m: errors: no answer");
    life.turns(30, GOOD);
    assert_eq!(life.number(), Some(1), "only a person ends a pause");
    life.asks(Do::Resume);
    life.turns(1, GOOD);
    assert_eq!(life.number(), Some(2));
}

#[test]
fn missing_evidence_rolls_back_where_the_spec_says_so() {
    let mut life = Life::at_step(1, |spec| spec["inconclusive"]["then"] = json!("Rollback"));
    life.ready("v1", 0);
    life.turns(20, Saw::Outage);
    assert_eq!(life.weight(), 10, "not onto a stable without endpoints, and the clock stands");
    life.ready("v1", 1);
    life.until(Saw::Outage, |life| life.outcome("v2") == Some(Outcome::RolledBack));
    assert_eq!(life.stands(), (Phase::RolledBack, Reason::Inconclusive));
}

#[test]
fn the_limit_of_missing_evidence_runs_only_while_evidence_alone_is_missing() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["approve"] = json!(true));
    life.turns(30, Saw::Outage);
    assert!(life.world.status.pause.is_none(), "a person is waited for");
    life.asks(Do::Approve);
    life.pause(true);
    life.turns(30, Saw::Outage);
    assert!(life.world.status.pause.is_none(), "it is paused");
    life.pause(false);
    life.turns(4, Saw::Outage);
    life.until(GOOD, |life| life.number() == Some(2));
    assert!(life.world.status.pause.is_none(), "it came in time");
}

#[test]
fn a_limit_of_nothing_still_lets_a_step_take_its_time() {
    let mut life = Life::at_step(1, |spec| spec["inconclusive"]["limit"] = json!("0s"));
    life.until(GOOD, |life| life.number() == Some(2));
    assert!(life.world.status.pause.is_none());
}

#[test]
fn an_outage_neither_promotes_nor_rolls_back() {
    let mut life = Life::at_step(2, |spec| spec["inconclusive"]["limit"] = json!("10h"));
    life.turns(100, Saw::Outage);
    assert_eq!((life.number(), life.weight()), (Some(2), 50));
}

#[test]
fn drift_is_put_back() {
    let mut life = Life::at_step(2, |_| ());
    life.world.put({
        let mut object = life.world.virtual_services["a"].clone();
        object["spec"]["http"][1]["route"][0]["weight"] = json!(1);
        object["spec"]["http"][1]["route"][1]["weight"] = json!(99);
        object
    });
    assert_eq!(life.weight(), 99);
    let seq = life.world.status.seq;
    life.turns(1, GOOD);
    assert_eq!((life.weight(), life.world.status.seq), (50, seq), "no decision is needed");
    assert_eq!(life.number(), Some(2));
}

#[test]
fn traffic_that_cannot_be_put_in_place_does_not_hide_a_breach() {
    let mut life = Life::with(|spec| {
        spec["routes"] = json!([{"virtualService": "a", "http": ["primary"]}, {"virtualService": "b", "http": ["primary"]}]);
    });
    life.world.put(virtual_service("b", &[("v1", 100)]));
    life.world.want("v2");
    life.until(GOOD, |life| life.number() == Some(2));
    life.world.virtual_services.remove("b");
    life.turns(30, GOOD);
    assert_eq!((life.number(), life.weight()), (Some(2), 50), "it does not grow");
    life.turns(10, BAD);
    assert_eq!((life.weight(), life.outcome("v2")), (0, Some(Outcome::RolledBack)));
}

#[test]
fn a_decrease_is_done_even_if_it_cannot_be_recorded_and_its_outcome_is_kept() {
    let mut life = Life::at_step(2, |_| ());
    life.turns(1, GOOD);
    life.controller.begin(&life.world, BAD);
    assert!(life.controller.persist(&mut life.world, Fault::Refused).is_none());
    life.controller.act(&mut life.world, ALL);
    assert_eq!((life.weight(), life.outcome("v2")), (0, None));
    life.crash();
    life.turns(20, GOOD);
    assert_eq!((life.weight(), life.outcome("v2"), life.in_flight()), (0, Some(Outcome::RolledBack), false));
}

#[test]
fn an_increase_that_cannot_be_recorded_is_not_done() {
    for fault in [Fault::Refused, Fault::CrashBefore, Fault::CrashAfter] {
        let mut life = Life::at_step(1, |_| ());
        life.turns(1, GOOD);
        life.controller.begin(&life.world, GOOD);
        assert_eq!(life.controller.pending.as_ref().unwrap().decision().unwrap().weight, 50);
        life.controller.persist(&mut life.world, fault);
        life.controller.act(&mut life.world, ALL);
        assert_eq!(life.weight(), 10, "{fault:?}");
    }
}

#[test]
fn a_later_decision_is_never_undone_by_an_earlier_one() {
    let mut life = Life::at_step(1, |_| ());
    life.turns(1, GOOD);
    let mut old = super::controller::Controller::default();
    std::mem::swap(&mut old, &mut life.controller);
    old.begin(&life.world, GOOD);
    old.persist(&mut life.world, Fault::None);
    assert_eq!(life.last().weight, 50, "recorded by one that is slow to act");
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 50);
    life.asks(Do::Abort);
    assert_eq!(life.weight(), 0);
    for afresh in [false, true] {
        old.act(&mut life.world, How { afresh, ..ALL });
        assert_eq!(life.weight(), 0);
    }
}

#[test]
fn of_two_decisions_with_one_number_the_lower_wins() {
    let mut life = Life::at_step(1, |_| ());
    life.turns(1, GOOD);
    let mut other = super::controller::Controller::default();
    other.begin(&life.world, BAD);
    life.turns(1, GOOD);
    assert_eq!((life.weight(), life.last().seq), (50, 4));
    let mut stamp = life.world.stamp("a").unwrap();
    stamp["setting"] = json!(0);
    stamp["outcomes"] = json!({ revision("v2"): "RolledBack" });
    life.world.edit("a", |object| {
        object["metadata"]["annotations"]["sluice.dev/stamp"] = json!(json!({ ROLLOUT: stamp }).to_string());
    });
    life.turns(2, GOOD);
    assert_eq!((life.weight(), life.outcome("v2")), (0, Some(Outcome::RolledBack)));
}

#[test]
fn a_deletion_gives_the_routes_back_in_every_stage() {
    for turns in 0..12 {
        let mut life = Life::new();
        life.world.want("v2");
        life.turns(turns, GOOD);
        let stable = life.stable().to_owned();
        life.world.delete();
        life.until(GOOD, |life| life.world.gone);
        let object = &life.world.virtual_services["a"];
        assert_eq!(entries(object).len(), 1, "after {turns} turns");
        assert_eq!(weight(object, &stable), 100);
        assert!(stamp(object).is_some(), "the stamp stays, with the outcomes");
    }
}

#[test]
fn a_deletion_that_could_not_be_recorded_is_decided_once() {
    let mut life = Life::at_step(1, |_| ());
    life.world.delete();
    life.controller.begin(&life.world, GOOD);
    let seq = life.controller.pending.as_ref().unwrap().decision().unwrap().seq;
    assert!(life.controller.persist(&mut life.world, Fault::Refused).is_none());
    life.controller.act(&mut life.world, ALL);
    assert_eq!(life.world.stamp("a").unwrap()["seq"], json!(seq));
    life.until(GOOD, |life| life.world.gone);
    assert_eq!(life.world.stamp("a").unwrap()["seq"], json!(seq));
}

#[test]
fn a_deletion_is_not_held_up_by_a_route_that_is_gone() {
    let mut life = Life::at_step(2, |_| ());
    life.world.virtual_services.clear();
    life.world.delete();
    life.turns(3, GOOD);
    assert!(life.world.gone);
}

#[test]
fn only_a_decision_that_takes_from_the_canary_is_one() {
    let mut life = Life::at_step(1, |_| ());
    life.until(GOOD, |life| life.stable() == "v2");
    assert!(!life.world.status.decisions.iter().any(crate::machine::only_takes_away));
    life.world.want("v3");
    life.until(GOOD, |life| life.world.weight("a", "v3") > 0);
    life.turns(2, BAD);
    assert!(crate::machine::only_takes_away(life.last()));
}

#[test]
fn what_cannot_be_read_is_an_obstacle_and_what_is_gone_is_none() {
    let mut life = Life::at_step(1, |_| ());
    life.asks(Do::Abort);
    let outlook = |life: &Life| super::controller::outlook_now(&life.world);
    assert!(outlook(&life).in_place());
    life.world.edit("a", |object| object["spec"]["http"][1]["route"][0]["weight"] = json!("all"));
    let carrier::Outlook { obstacles, .. } = outlook(&life);
    assert_eq!(obstacles.len(), 1);
    assert!(!outlook(&life).in_place());
    life.world.virtual_services.clear();
    assert!(outlook(&life).in_place(), "nobody gets anything from a route that is gone");
}
