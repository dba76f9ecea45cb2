//! A freeze stops every increase, at once, and nothing else.

use super::{life::Life, world::*};
use crate::{
    api::{ActionPhase, ConditionStatus, ConditionType, DecisionKind, Do, Phase, Reason},
    machine::Outcome,
};

const FROZEN: (Phase, Reason) = (Phase::Waiting, Reason::Frozen);

#[test]
fn a_freeze_stops_growth_and_says_by_whom_and_why() {
    let mut life = Life::at_step(1, |_| ());
    life.world.freeze(true);
    life.turns(20, GOOD);
    assert_eq!((life.number(), life.stands()), (Some(1), FROZEN));
    assert_eq!(life.message(), "the cluster is frozen by ada: incident 42 (Freeze sluice-system/freeze-1)");
    let stalled = life.world.status.conditions.iter().find(|it| it.kind == ConditionType::Stalled).unwrap();
    assert_eq!((stalled.status, stalled.reason.as_str()), (ConditionStatus::True, "Frozen"));
    life.world.freeze(false);
    life.until(GOOD, |life| life.weight() == 50);
}

#[test]
fn a_freeze_stops_no_decrease() {
    let frozen = |then: &dyn Fn(&mut Life)| {
        let mut life = Life::at_step(2, |_| ());
        life.world.freeze(true);
        life.turns(3, GOOD);
        then(&mut life);
        assert_eq!(life.weight(), 0);
        life
    };
    let life = frozen(&|life| life.turns(1, BAD));
    assert_eq!(life.outcome("v2"), Some(Outcome::RolledBack));
    let life = frozen(&|life| life.asks(Do::Abort));
    assert_eq!(life.outcome("v2"), Some(Outcome::Aborted));
    frozen(&|life| {
        life.ready("v2", 0);
        life.turns(1, GOOD);
    });
    let mut life = frozen(&|life| {
        life.world.want("v3");
        life.turns(2, GOOD);
    });
    // The loser leaves the route, and the next one does not start.
    life.turns(10, GOOD);
    assert!(life.world.status.retiring.is_empty());
    assert_eq!((life.in_flight(), life.stands()), (false, FROZEN));
    let life = frozen(&|life| {
        life.world.delete();
        life.turns(2, GOOD);
    });
    assert!(life.world.gone);
}

#[test]
fn a_freeze_keeps_a_start_and_a_first_step_from_happening() {
    let mut life = Life::new();
    life.world.freeze(true);
    life.turns(1, GOOD);
    assert_eq!(life.stands(), (Phase::Healthy, Reason::Live), "what is live is well");
    life.world.want("v2");
    life.turns(5, GOOD);
    assert_eq!((life.in_flight(), life.stands()), (false, FROZEN));
    life.world.freeze(false);
    life.ready("v2", 0);
    life.turns(1, GOOD);
    life.world.freeze(true);
    life.ready("v2", 1);
    life.turns(5, GOOD);
    assert_eq!((life.weight(), life.stands()), (0, FROZEN));
    life.world.freeze(false);
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 10);
}

#[test]
fn a_promotion_is_refused_and_an_approval_is_kept() {
    let gated = serde_json::json!([{"weight": 10, "for": "20s", "approve": true}, {"weight": 50}]);
    let mut life = Life::at_step(1, |spec| spec["steps"] = gated);
    life.world.freeze(true);
    for what in [Do::Promote, Do::PromoteFull] {
        let asked = life.ask(what);
        life.turns(1, GOOD);
        let answer = life.world.action(&asked);
        assert_eq!(answer.answer, Some(ActionPhase::Refused));
        assert!(answer.message.contains("the cluster is frozen by ada: incident 42"), "{}", answer.message);
    }
    life.asks(Do::Approve);
    assert_eq!(life.last().kind, DecisionKind::Approved);
    life.turns(5, GOOD);
    assert_eq!((life.weight(), life.stands()), (10, FROZEN));
    life.world.freeze(false);
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 50);
}

#[test]
fn what_was_decided_before_a_freeze_does_not_come_to_the_routes_during_it() {
    let mut life = Life::at_step(1, |_| ());
    while life.world.status.weight < 50 {
        life.controller.begin(&life.world, GOOD);
        life.controller.persist(&mut life.world, super::controller::Fault::None);
        if life.world.status.weight < 50 {
            life.controller.act(&mut life.world, super::controller::ALL);
        }
        life.world.now += std::time::Duration::from_secs(10);
    }
    // It is on record, and not on the route yet.
    assert_eq!(life.weight(), 10);
    life.world.freeze(true);
    assert!(life.controller.act(&mut life.world, super::controller::ALL).is_empty());
    life.crash();
    life.turns(20, GOOD);
    assert_eq!((life.weight(), life.number(), life.stands()), (10, Some(2), FROZEN));
    // A breach is seen all the same.
    let mut other = Life { world: life.world, controller: life.controller };
    other.turns(12, BAD);
    assert_eq!((other.weight(), other.outcome("v2")), (0, Some(Outcome::RolledBack)));
}

#[test]
fn a_hand_that_lowers_the_canary_during_a_freeze_is_not_undone_before_its_end() {
    let mut life = Life::at_step(2, |_| ());
    life.world.freeze(true);
    life.turns(2, GOOD);
    let by_hand = |life: &mut Life, v1: u64, v2: u64| {
        let weights = virtual_service("a", &[("v1", v1), ("v2", v2)]);
        life.world.edit("a", |object| object["spec"] = weights["spec"].clone());
        life.turns(3, GOOD);
    };
    by_hand(&mut life, 95, 5);
    assert_eq!(life.weight(), 5);
    by_hand(&mut life, 20, 80);
    assert_eq!(life.weight(), 50, "above the decision is put right at once");
    by_hand(&mut life, 95, 5);
    life.world.freeze(false);
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 50);
}
