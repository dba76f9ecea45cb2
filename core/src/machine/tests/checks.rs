//! What a check says of itself, and what follows: advisory, for some steps only, late, and with a will of its own.

use serde_json::json;

use super::{life::Life, world::*};
use crate::{
    api::{DecisionKind, Phase, Reason},
    judge::Verdict,
    machine::Outcome,
};

#[test]
fn an_advisory_check_reports_a_breach_and_nothing_follows() {
    let mut life = Life::at_step(1, |spec| spec["checks"][0]["advisory"] = json!(true));
    life.until(BAD, |life| life.number() == Some(2));
    let record = &life.last().checks[0];
    assert_eq!((record.verdict, record.advisory), (Verdict::Fail, true));
    life.until(BAD, |life| life.stable() == "v2");
    assert!(!life.kinds().contains(&DecisionKind::RolledBack));
}

#[test]
fn a_check_for_one_step_is_asked_in_no_other() {
    let mut life = Life::at_step(1, |spec| {
        spec["steps"][1]["name"] = json!("half");
        spec["checks"][0]["steps"] = json!(["half"]);
    });
    life.turns(2, BAD);
    assert!(life.in_flight() && life.world.status.checks.is_empty(), "{:?}", life.world.status.checks);
    life.until(BAD, |life| life.outcome("v2") == Some(Outcome::RolledBack));
    assert_eq!((life.last().from_weight, life.last().reason), (50, Reason::CheckFailed));
}

#[test]
fn a_late_check_holds_a_step_until_its_numbers_are_of_that_step() {
    let mut life = Life::at_step(1, |spec| spec["checks"][0]["lag"] = json!("60s"));
    life.turns(5, GOOD);
    assert_eq!(life.number(), Some(1), "20s are over, but nothing that was measured is of this step");
    let message = &life.world.status.checks[0].message;
    assert!(message.starts_with("its numbers describe the traffic of 1m ago"), "{message}");
    life.until(GOOD, |life| life.number() == Some(2));
    // That numbers come late is no lack of evidence, however short the patience with that is.
    let mut life = Life::at_step(1, |spec| spec["checks"][0]["lag"] = json!("5m"));
    life.until(GOOD, |life| life.number() == Some(2));
    assert!(!life.kinds().contains(&DecisionKind::Paused));
}

#[test]
fn a_check_without_evidence_does_what_it_wants_and_not_what_the_rollout_wants() {
    let mut life = Life::at_step(1, |spec| spec["checks"][0]["inconclusive"] = json!("Rollback"));
    life.until(Saw::Outage, |life| !life.in_flight());
    assert_eq!(life.stands(), (Phase::RolledBack, Reason::Inconclusive));
    let mut life = Life::at_step(1, |spec| {
        spec["inconclusive"]["then"] = json!("Rollback");
        spec["checks"][0]["inconclusive"] = json!("Pause");
    });
    life.until(Saw::Outage, |life| life.last().kind == DecisionKind::Paused);
    assert_eq!((life.stands(), life.weight()), ((Phase::Waiting, Reason::Paused), 10));
}
