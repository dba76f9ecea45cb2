//! Whether what stable serves is what came to its users through steps.

use serde_json::json;

use super::{life::Life, world::*};
use crate::api::{ConditionStatus, ConditionType};

/// What is said about stable: whether it is guarded, and why.
fn said(life: &Life) -> Option<(bool, String)> {
    let mut conditions = life.world.status.conditions.iter();
    let found = conditions.find(|it| it.kind == ConditionType::Guarded)?;
    Some((found.status == ConditionStatus::True, found.reason.clone()))
}

fn serves(life: &mut Life, service: &str, what: &str) {
    life.world.serves.insert(service.to_owned(), what.to_owned());
}

/// `v1` is stable and the target tells what it serves.
fn told() -> Life {
    let mut life = Life::new();
    serves(&mut life, "v1", "a");
    serves(&mut life, "v2", "b");
    life.turns(1, GOOD);
    life
}

fn guarded() -> Option<(bool, String)> {
    Some((true, "Unchanged".to_owned()))
}

fn unguarded() -> Option<(bool, String)> {
    Some((false, "ChangedInPlace".to_owned()))
}

#[test]
fn nothing_is_said_where_the_target_does_not_tell() {
    let mut life = Life::new();
    life.turns(3, GOOD);
    assert_eq!((said(&life), &life.world.status.guarded), (None, &None));
}

#[test]
fn a_change_in_place_is_seen_also_by_a_controller_that_was_not_there() {
    let mut life = told();
    assert_eq!(said(&life), guarded());
    serves(&mut life, "v1", "c");
    life.crash();
    life.turns(1, GOOD);
    assert_eq!(said(&life), unguarded());
    let since = life.world.status.conditions.last().unwrap().last_transition_time;
    let version = life.world.version;
    life.turns(5, GOOD);
    assert_eq!(life.world.status.conditions.last().unwrap().last_transition_time, since);
    assert_eq!(life.world.version, version, "it is written once");
    serves(&mut life, "v1", "a");
    life.turns(1, GOOD);
    assert_eq!(said(&life), guarded(), "the old one was put back");
}

#[test]
fn what_came_through_the_steps_is_guarded_from_then_on() {
    let mut life = told();
    serves(&mut life, "v1", "c");
    life.world.want("v2");
    life.until(GOOD, |life| life.weight() == 10);
    assert_eq!(said(&life), unguarded(), "stable is still what was changed");
    life.until(GOOD, |life| life.stable() == "v2");
    assert_eq!(said(&life), guarded());
    serves(&mut life, "v2", "d");
    life.turns(1, GOOD);
    assert_eq!(said(&life), unguarded());
}

#[test]
fn a_target_that_is_gone_does_not_change_what_was_said() {
    let mut life = told();
    serves(&mut life, "v1", "c");
    life.turns(1, GOOD);
    life.world.serves.clear();
    life.edit_spec("interval", &json!("5s"));
    life.turns(2, GOOD);
    assert_eq!(said(&life), unguarded());
}
