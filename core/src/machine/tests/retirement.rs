//! How losers leave the route.

use std::time::Duration;

use serde_json::json;

use super::{life::Life, world::*};
use crate::{
    api::{DecisionKind, Do, Phase},
    machine::{self, State},
    plan::Plan,
};

fn hosts(life: &Life) -> Vec<&str> {
    entries(&life.world.virtual_services["a"])
        .iter()
        .map(|entry| entry["destination"]["host"].as_str().unwrap())
        .collect()
}

#[test]
fn both_arms_stay_listed_while_a_rollout_runs() {
    let mut life = Life::with(|spec| spec["steps"][0]["for"] = json!("10m"));
    life.world.want("v2");
    life.ready("v2", 0);
    life.turns(2, GOOD);
    assert_eq!((hosts(&life), life.weight()), (vec!["v1", "v2"], 0));
    life.ready("v2", 1);
    life.turns(50, GOOD);
    assert_eq!(hosts(&life), ["v1", "v2"]);
}

#[test]
fn a_loser_leaves_after_it_has_settled_and_nobody_asks_it_any_more() {
    let mut life = Life::at_step(2, |spec| spec["settle"] = json!("20s"));
    life.asks(Do::Abort);
    assert_eq!((hosts(&life), life.weight()), (vec!["v1", "v2"], 0));
    life.turns(1, GOOD);
    assert_eq!(hosts(&life), ["v1", "v2"], "not settled");
    life.turns(1, GOOD);
    assert_eq!((hosts(&life), life.last().kind), (vec!["v1"], DecisionKind::Retired));
    assert_eq!(life.last().message, "models/v2:8000 left the route");
    assert_eq!(life.last().revision, Some(revision("v2")));
    assert_eq!(life.stands().0, Phase::RolledBack, "and the rollback is still what is said");
}

#[test]
fn a_loser_that_nobody_can_see_leaves_after_five_minutes_with_a_warning() {
    let mut life = Life::at_step(2, |_| ());
    life.world.ask(Do::Abort, None, None);
    life.turns(1, Saw::Outage);
    let aborted = life.last().at;
    life.until(Saw::Outage, |life| life.last().kind == DecisionKind::Retired);
    assert_eq!((life.last().at - aborted).num_seconds(), 300);
    assert!(life.last().message.ends_with("; no look showed for 5m that it gets no more requests"));
}

#[test]
fn of_a_loser_that_is_asked_all_the_same_it_is_said_so() {
    let mut life = Life::at_step(2, |_| ());
    life.until(GOOD, |life| life.weight() == 100);
    // Connections that do not end, as of streams: they were made before.
    life.world.lingering.insert("v1".to_owned(), 7);
    life.until(GOOD, |life| life.stable() == "v2");
    let message = &life.last().message;
    assert!(message.ends_with("; after 5m it still gets requests, 7 since the look before"), "{message}");
}

#[test]
fn promoted_is_said_only_when_the_old_stable_is_quiet() {
    let mut life = Life::at_step(2, |_| ());
    life.until(GOOD, |life| life.weight() == 100);
    let promoting = life.last().at;
    life.until(Saw::Outage, |life| life.stable() == "v2");
    assert_eq!((life.last().at - promoting).num_seconds(), 300);
    assert!(life.last().message.ends_with("; no look showed for 5m that it gets no more requests"));
    assert_eq!(hosts(&life), ["v2"]);
}

#[test]
fn drift_does_not_start_a_retirement_anew() {
    let mut life = Life::at_step(2, |_| ());
    life.world.ask(Do::Abort, None, None);
    life.turns(28, Saw::Outage);
    life.world.edit("a", |object| object["spec"]["http"][1]["route"][1]["weight"] = json!(7));
    life.turns(6, Saw::Outage);
    assert_eq!(hosts(&life), ["v1"]);
}

#[test]
fn a_loser_that_becomes_the_canary_again_retires_no_more() {
    let mut life = Life::at_step(2, |_| ());
    life.world.want("v3");
    life.turns(1, GOOD);
    life.world.want("v2");
    life.until(GOOD, |life| life.weight() == 10);
    let state = State::from(&life.world.status);
    assert!(state.retiring.iter().all(|retiring| retiring.predictor != predictor("v2")));
    life.until(GOOD, |life| life.stable() == "v2");
    assert_eq!(hosts(&life), ["v2"]);
}

#[test]
fn losers_of_many_changes_are_bounded_and_none_is_in_two_roles() {
    let mut life = Life::new();
    for round in 0..30 {
        life.ready(&format!("w{round}"), 1);
        life.world.want(&format!("w{round}"));
        life.turns(3, Saw::Outage);
        let state = State::from(&life.world.status);
        assert!(state.retiring.len() <= 10 && state.known.len() <= 10 && state.outcomes.len() <= 10);
        let plan = Plan::new(&life.world.parsed_spec(), NAMESPACE).unwrap();
        let setting = machine::desired(Some(&plan), &state).unwrap();
        let mut roles = vec![&setting.stable];
        roles.extend(setting.canary.iter().chain(&setting.retiring).chain(&setting.known));
        let total = roles.len();
        roles.sort();
        roles.dedup();
        assert_eq!(roles.len(), total, "{setting:?}");
    }
}

#[test]
fn a_loser_leaves_beside_a_rollout_in_flight() {
    let mut life = Life::at_step(2, |spec| spec["steps"][0]["for"] = json!("10m"));
    life.world.now += Duration::from_secs(1);
    life.world.want("v3");
    life.until(GOOD, |life| life.world.weight("a", "v3") == 10);
    life.turns(3, GOOD);
    assert_eq!(hosts(&life), ["v1", "v3"]);
    assert!(life.in_flight());
}
