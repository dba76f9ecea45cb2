//! The status as people and tools read it.

use std::time::Duration;

use serde_json::json;

use super::{life::Life, world::*};
use crate::{
    api::{ConditionStatus, ConditionType, Do, Phase, Reason},
    machine::worth_writing,
};

/// The conditions that hold, of those that `kstatus` knows.
fn holds(life: &Life) -> Vec<ConditionType> {
    let conditions = life.world.status.conditions.iter();
    conditions
        .filter(|it| it.kind != ConditionType::MetricsAvailable)
        .filter(|it| it.status == ConditionStatus::True)
        .map(|it| it.kind)
        .collect()
}

#[test]
fn conditions_are_what_gitops_tools_expect() {
    use ConditionType::{Accepted, Ready, Reconciling, Stalled};
    let mut life = Life::with(|spec| spec["steps"][1]["approve"] = json!(true));
    assert_eq!(holds(&life), [Accepted, Ready]);
    life.world.want("v2");
    life.until(GOOD, |life| life.weight() == 10);
    assert_eq!(holds(&life), [Accepted, Reconciling]);
    life.until(GOOD, |life| life.stands().1 == Reason::WaitingForApproval);
    assert_eq!(holds(&life), [Accepted, Stalled], "a person is needed");
    life.edit_spec("interval", &json!("1ms"));
    life.turns(1, GOOD);
    assert_eq!(holds(&life), [Stalled]);
    life.edit_spec("interval", &json!("10s"));
    life.world.ask(Do::Abort, None, None);
    life.turns(1, GOOD);
    assert_eq!(holds(&life), [Accepted, Stalled]);
    life.world.want("v1");
    life.turns(1, GOOD);
    assert_eq!(holds(&life), [Accepted, Ready]);
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let mut life = Life::at_step(1, |_| ());
    let reconciling = |life: &Life| life.world.status.conditions[2].last_transition_time;
    let since = reconciling(&life);
    life.until(GOOD, |life| life.number() == Some(2));
    assert_eq!(reconciling(&life), since);
}

#[test]
fn a_refusal_names_the_field() {
    let mut life = Life::new();
    life.world.want("nowhere");
    life.turns(1, GOOD);
    assert_eq!(life.stands(), (Phase::Pending, Reason::TargetNotFound));
    assert_eq!(life.message(), "spec.target.service.name: there is no Service nowhere in namespace models");
    let accepted = &life.world.status.conditions[0];
    assert_eq!((accepted.status, accepted.reason.as_str()), (ConditionStatus::False, "TargetNotFound"));
}

#[test]
fn the_columns_say_where_it_stands() {
    let life = Life::at_step(2, |spec| spec["steps"][1]["name"] = json!("half"));
    let status = &life.world.status;
    assert_eq!((status.step.as_deref(), status.weight), (Some("2/2"), 50));
    assert_eq!(status.message, "step half: weight 50% for 20s");
    assert_eq!(status.observed_generation, Some(life.world.generation));
}

#[test]
fn every_decision_says_what_was_decided_in_a_sentence() {
    let mut life = Life::new();
    life.world.want("v2");
    life.until(GOOD, |life| life.stable() == "v2");
    let said: Vec<_> = (life.world.status.decisions.iter())
        .map(|it| (it.from_weight, it.weight, it.step, it.message.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (0, 0, None, "models/v1:8000 is live already: adopted as stable"),
            (0, 0, Some(1), "models/v2:8000 is to replace models/v1:8000 step by step, once it is ready"),
            (0, 10, Some(1), "the canary has 2 ready endpoints"),
            (
                10,
                50,
                Some(2),
                "step 1 passed after 20s, 100 requests; errors: 0% (0 of 100) of the canary's requests failed, at most 1% may; stable: 0% (0 of 1000)"
            ),
            (
                50,
                100,
                Some(3),
                "step 2 passed after 20s, 100 requests; errors: 0% (0 of 100) of the canary's requests failed, at most 1% may; stable: 0% (0 of 1000)"
            ),
            (100, 100, None, "models/v2:8000 is stable now, models/v1:8000 left the route"),
        ]
    );
}

#[test]
fn clocks_and_evidence_alone_are_written_once_a_minute() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["for"] = json!("10h"));
    life.turns(2, GOOD);
    let (before, version) = (life.world.status.clone(), life.world.version);
    life.turns(30, GOOD);
    let writes = life.world.version - version;
    assert!((1..=6).contains(&writes), "{writes} writes in 5 minutes");
    assert_eq!(before.message, life.message(), "nothing ticks in a message");
    assert!(!worth_writing(&before, &life.world.status, Duration::ZERO));
    assert!(worth_writing(&before, &life.world.status, Duration::from_mins(1)));
    assert!(!worth_writing(&before, &before, Duration::from_hours(1)));
}

#[test]
fn at_rest_nothing_is_written() {
    for outcome in [GOOD, BAD] {
        let mut life = Life::at_step(1, |_| ());
        life.turns(40, outcome);
        let version = life.world.version;
        let objects = life.world.virtual_services.clone();
        life.turns(100, outcome);
        assert_eq!((life.world.version, &life.world.virtual_services), (version, &objects));
    }
}

#[test]
fn what_waits_for_a_person_or_an_endpoint_writes_nothing_either() {
    let mut life = Life::new();
    life.world.want("v2");
    life.ready("v2", 0);
    life.until(GOOD, |life| life.stands().1 == Reason::NotReadyInTime);
    life.turns(10, GOOD);
    let version = life.world.version;
    life.turns(100, GOOD);
    assert_eq!(life.world.version, version);
}

#[test]
fn healthy_is_not_said_while_a_loser_has_weight() {
    let mut life = Life::at_step(2, |_| ());
    life.until(GOOD, |life| life.stable() == "v2");
    assert_eq!(life.stands().0, Phase::Healthy);
    life.world
        .edit("a", |object| object["spec"] = virtual_service("a", &[("v1", 50), ("v2", 50)])["spec"].take());
    life.controller.begin(&life.world, GOOD);
    let seen = &life.controller.pending.as_ref().unwrap().after;
    assert_eq!((seen.phase, seen.reason), (Phase::Progressing, Some(Reason::TrafficNotInPlace)));
    life.turns(2, GOOD);
    assert_eq!(life.stands().0, Phase::Healthy);
}

/// What is said about the metrics: whether they can be had, and why not.
fn metrics(life: &Life) -> Option<(ConditionStatus, String)> {
    let mut conditions = life.world.status.conditions.iter();
    let found = conditions.find(|it| it.kind == ConditionType::MetricsAvailable);
    found.map(|it| (it.status, it.reason.clone()))
}

#[test]
fn an_outage_of_the_metrics_is_said_and_written_once() {
    let mut life = Life::at_step(1, |spec| spec["steps"][1]["for"] = json!("1h"));
    life.turns(8, GOOD);
    assert_eq!(metrics(&life), Some((ConditionStatus::True, "Available".to_owned())));
    life.turns(2, Saw::Outage);
    assert_eq!(metrics(&life).unwrap().0, ConditionStatus::True, "two looks are no news");
    life.turns(1, Saw::Outage);
    assert_eq!(metrics(&life), Some((ConditionStatus::False, "SourceUnavailable".to_owned())));
    let said = life.world.status.conditions.clone();
    life.crash();
    life.turns(20, Saw::Outage);
    assert_eq!(life.world.status.conditions, said, "another leader has nothing to add");
    life.turns(1, GOOD);
    assert_eq!(metrics(&life).unwrap().0, ConditionStatus::True);
}

#[test]
fn at_rest_nothing_is_said_of_metrics_that_nobody_asks_for() {
    let mut life = Life::new();
    assert_eq!(metrics(&life), None);
    life.world.want("v2");
    life.until(GOOD, |life| life.number() == Some(2));
    assert!(metrics(&life).is_some());
    life.until(GOOD, |life| life.stands().0 == Phase::Healthy && life.stable() == "v2");
    assert_eq!(metrics(&life), None);
}

#[test]
fn a_gate_is_not_closed_by_a_look_that_failed() {
    let mut life = Life::at_step(1, |spec| spec["steps"][1]["approve"] = json!(true));
    life.until(GOOD, |life| life.stands().1 == Reason::WaitingForApproval);
    life.turns(2, Saw::Outage);
    assert_eq!(life.stands().1, Reason::WaitingForApproval);
    life.turns(2, Saw::Outage);
    assert_eq!(life.stands().1, Reason::NoEvidence, "now it is an outage");
    life.turns(1, GOOD);
    assert_eq!(life.stands().1, Reason::WaitingForApproval);
}

#[test]
fn a_gate_is_not_opened_while_the_metrics_are_gone() {
    let mut life = Life::at_step(1, |spec| spec["steps"][1]["approve"] = json!(true));
    life.until(GOOD, |life| life.stands().1 == Reason::WaitingForApproval);
    let number = life.number();
    life.turns(1, Saw::Outage);
    life.ask(Do::Approve);
    life.turns(1, Saw::Outage);
    assert_eq!(life.stands().1, Reason::NoEvidence, "it waits for nobody any more");
    life.turns(3, Saw::Outage);
    assert_eq!(life.number(), number);
    life.turns(2, GOOD);
    assert_ne!(life.number(), number);
}
