//! A memory that is missing, behind or unreadable.

use serde_json::json;

use super::{
    controller::{ALL, Controller, Fault, How},
    life::Life,
    world::*,
};
use crate::{
    api::{ActionPhase, DecisionKind, Do, Phase, Reason, RolloutStatus},
    machine::{Outcome, Stage},
};

fn first(wanted: &str, weights: &[(&str, u64)]) -> Life {
    let mut world = World::new();
    world.spec["target"]["service"]["name"] = json!(wanted);
    world.put(virtual_service("a", weights));
    let mut life = Life { world, controller: Controller::default() };
    life.turns(1, GOOD);
    life
}

#[test]
fn stable_is_read_off_the_route_at_first_sight() {
    let life = first("v1", &[("v1", 100)]);
    assert_eq!((life.stable(), life.stands()), ("v1", (Phase::Healthy, Reason::Live)));
    let mut life = first("v2", &[("v1", 100), ("api.example.com", 0)]);
    assert_eq!((life.stable(), life.last().kind), ("v1", DecisionKind::Adopted));
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn two_with_weight_are_ambiguous_until_one_is_named() {
    let mut life = first("v2", &[("v1", 60), ("v2", 40)]);
    assert_eq!(life.stands(), (Phase::Pending, Reason::AmbiguousStable));
    assert_eq!(
        life.message(),
        "v1 and v2 have weight on the routes: name the one that is stable in spec.target.service.from"
    );
    let untouched = life.world.virtual_services["a"].clone();
    life.turns(5, GOOD);
    assert_eq!(life.world.virtual_services["a"], untouched);
    life.world.edit_spec(|spec| spec["target"]["service"]["from"] = json!("v1"));
    life.turns(1, GOOD);
    assert_eq!(life.stable(), "v1");
    let mut life = first("v2", &[("v1", 60), ("v2", 40)]);
    life.world.edit_spec(|spec| spec["target"]["service"]["from"] = json!("v2"));
    life.turns(2, GOOD);
    assert_eq!((life.stable(), life.weight()), ("v2", 40), "the others are foreign");
}

#[test]
fn a_wiped_status_keeps_stable_and_starts_nothing() {
    for number in [1, 2, 3] {
        let mut life = Life::at_step(1, |_| ());
        life.until(GOOD, |life| life.number() == Some(number) && life.weight() > 0);
        let old = life.ask(Do::Pause);
        life.world.set_status(RolloutStatus::default());
        life.turns(20, GOOD);
        assert_eq!((life.stable(), life.weight()), ("v1", 0), "step {number}");
        assert_eq!(life.stands(), (Phase::Stalled, Reason::StatusLost));
        assert_eq!(life.kinds()[0], DecisionKind::Recovered);
        assert!(life.world.status.decisions[0].from_weight > 0);
        assert_eq!(life.world.action(&old).answer, Some(ActionPhase::Refused), "it counts as handled");
        life.asks(Do::Retry);
        life.until(GOOD, |life| life.stable() == "v2");
    }
}

#[test]
fn a_canary_leaves_every_route_even_if_its_recovery_was_lost_half_way() {
    let mut life = Life::with(|spec| {
        spec["routes"] = json!(["a", "b"].map(|name| json!({"virtualService": name, "http": ["primary"]})));
    });
    life.world.put(virtual_service("b", &[("v1", 100)]));
    life.turns(1, GOOD);
    life.world.want("v2");
    life.turns(1, GOOD);
    life.until(GOOD, |life| life.in_flight() && life.world.weight("b", "v2") == 10);
    life.world.want("v1");
    life.world.set_status(RolloutStatus::default());
    life.controller.begin(&life.world, GOOD);
    life.controller.persist(&mut life.world, Fault::Refused);
    life.controller.act(&mut life.world, How { which: 1, ..ALL });
    assert_eq!((life.weight(), life.world.weight("b", "v2")), (0, 10));
    life.crash();
    life.turns(2, GOOD);
    assert_eq!((life.weight(), life.world.weight("b", "v2")), (0, 0));
}

#[test]
fn a_wiped_status_does_not_matter_where_stable_is_wanted() {
    let mut life = Life::new();
    life.world.set_status(RolloutStatus::default());
    life.turns(2, GOOD);
    assert_eq!((life.stable(), life.stands()), ("v1", (Phase::Healthy, Reason::Live)));
    let mut life = Life::at_step(2, |_| ());
    life.world.set_status(RolloutStatus::default());
    life.turns(1, GOOD);
    life.world.want("v1");
    life.turns(2, GOOD);
    assert_eq!(life.stands(), (Phase::Healthy, Reason::Live));
    life.world.want("v3");
    life.until(GOOD, |life| life.stable() == "v3");
}

#[test]
fn a_wiped_status_is_recovered_also_while_the_spec_is_refused() {
    let mut life = Life::at_step(2, |_| ());
    life.world.ready.remove("v2");
    life.world.set_status(RolloutStatus::default());
    life.turns(1, GOOD);
    assert_eq!((life.stable(), life.weight()), ("v1", 0));
}

#[test]
fn a_wiped_status_gives_nothing_back_to_a_stable_without_endpoints() {
    let mut life = Life::at_step(2, |_| ());
    life.ready("v1", 0);
    life.world.set_status(RolloutStatus::default());
    life.turns(3, GOOD);
    assert_eq!((life.weight(), life.stands()), (50, (Phase::Stalled, Reason::StableNotReady)));
    life.ready("v1", 1);
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 0);
}

#[test]
fn without_a_stamp_a_rollout_that_was_here_before_starts_nothing() {
    let mut life = Life::new();
    life.world.want("v2");
    life.world.edit("a", |object| object["metadata"]["annotations"] = json!({}));
    life.world.set_status(RolloutStatus::default());
    life.turns(20, GOOD);
    assert_eq!((life.stable(), life.stands()), ("v1", (Phase::Stalled, Reason::StatusLost)));
}

#[test]
fn a_rollout_created_again_after_a_rollback_starts_nothing() {
    let mut life = Life::at_step(2, |_| ());
    life.turns(2, BAD);
    life.world.delete();
    life.until(GOOD, |life| life.world.gone);
    life.world.recreate();
    life.crash();
    life.turns(20, GOOD);
    assert_eq!(life.stands(), (Phase::Stalled, Reason::StatusLost));
    assert_eq!((life.stable(), life.outcome("v2")), ("v1", Some(Outcome::RolledBack)));
    life.world.want("v3");
    life.turns(1, GOOD);
    assert_eq!(life.stands(), (Phase::Stalled, Reason::StatusLost), "until a retry");
}

#[test]
fn what_a_backup_brings_back_is_not_done_again() {
    // Once before the first look at the Rollout, and once after it; with the owner that it had, and with none.
    for (after, owner) in [(false, None), (true, None), (true, Some("uid-of-its-owner".to_owned()))] {
        let mut life = Life::at_step(2, |_| ());
        life.world.recreate();
        life.crash();
        if after {
            life.turns(2, GOOD);
        }
        for what in [Do::Retry, Do::PromoteFull, Do::Approve, Do::Resume] {
            life.ask(what);
        }
        for action in &mut life.world.actions {
            action.asked.rollout_uid.clone_from(&owner);
        }
        life.turns(20, GOOD);
        assert_eq!(life.stands(), (Phase::Stalled, Reason::StatusLost), "{after} {owner:?}");
        assert_eq!((life.stable(), life.weight()), ("v1", 0));
        assert!(life.world.actions.iter().all(|action| action.answer == Some(ActionPhase::Refused)));
    }
}

#[test]
fn a_rollout_created_again_for_a_revision_that_is_new_starts_it() {
    let mut life = Life::at_step(2, |_| ());
    life.turns(2, BAD);
    life.world.delete();
    life.until(GOOD, |life| life.world.gone);
    life.world.recreate();
    life.crash();
    life.world.want("v3");
    life.turns(1, GOOD);
    life.until(GOOD, |life| life.stable() == "v3");
}

#[test]
fn a_stamp_of_an_earlier_rollout_does_not_move_users_of_a_route_that_was_given_to_somebody_else() {
    let mut life = Life::new();
    life.world.delete();
    life.until(GOOD, |life| life.world.gone);
    life.world.edit("a", |object| object["spec"] = virtual_service("a", &[("v4", 100)])["spec"].take());
    life.world.recreate();
    life.crash();
    life.world.want("v4");
    life.turns(3, GOOD);
    assert_eq!((life.stable(), life.world.weight("a", "v4")), ("v4", 100));
}

#[test]
fn a_restored_backup_keeps_the_stable_that_users_have_and_starts_nothing() {
    for back in [2, 3, 4] {
        let mut life = Life::new();
        life.world.want("v2");
        let mut backups = Vec::new();
        while life.stable() != "v2" {
            backups.push(life.world.status.clone());
            life.turns(1, GOOD);
        }
        life.world.set_status(backups[back].clone());
        life.turns(10, GOOD);
        assert_eq!((life.stable(), life.weight()), ("v2", 100), "{:?}", backups[back].stage);
        assert_eq!(life.stands(), (Phase::Healthy, Reason::Live));
    }
}

#[test]
fn a_backup_in_which_the_stable_of_now_was_leaving_does_not_let_it_leave() {
    let mut life = Life::at_step(1, |_| ());
    life.world.want("v1");
    life.turns(1, GOOD);
    let backup = life.world.status.clone();
    assert_eq!(backup.retiring[0].predictor, predictor("v2"));
    life.world.want("v2");
    life.until(GOOD, |life| life.stable() == "v2");
    life.world.set_status(backup);
    life.turns(10, GOOD);
    assert_eq!((life.stable(), life.weight()), ("v2", 100));
    let mut left = life.world.status.decisions.iter().filter(|it| it.kind == DecisionKind::Retired);
    assert!(left.all(|it| it.revision != Some(revision("v2"))));
}

#[test]
fn a_backup_from_before_the_start_does_not_let_the_canary_go_on_unwatched() {
    let mut life = Life::new();
    let backup = life.world.status.clone();
    life.world.want("v2");
    life.until(GOOD, |life| life.weight() == 50);
    life.world.set_status(backup);
    life.turns(10, GOOD);
    assert_eq!((life.stable(), life.weight()), ("v1", 0));
    assert_eq!(life.stands(), (Phase::Stalled, Reason::StatusLost));
}

#[test]
fn an_edited_status_does_not_raise_the_weight() {
    let mut life = Life::at_step(1, |_| ());
    let mut edited = life.world.status.clone();
    if let Stage::Step(step) = &mut edited.stage {
        step.index = 1;
    }
    life.world.set_status(edited);
    life.turns(10, GOOD);
    assert_eq!((life.weight(), life.stands()), (0, (Phase::Stalled, Reason::StatusLost)));
}

#[test]
fn a_pinned_spec_that_cannot_be_read_gives_stable_all() {
    let mut life = Life::at_step(2, |_| ());
    let mut edited = life.world.status.clone();
    edited.pinned = None;
    life.world.set_status(edited);
    life.turns(1, GOOD);
    assert_eq!((life.weight(), life.last().reason), (0, Reason::InvalidStatus));
    assert_eq!(life.stands(), (Phase::Stalled, Reason::StatusLost));
    life.asks(Do::Retry);
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn known_predictors_give_their_weight_to_stable() {
    let mut life = Life::at_step(1, |_| ());
    life.until(GOOD, |life| life.stable() == "v2");
    life.world.edit("a", |object| object["spec"] = virtual_service("a", &[("v1", 100)])["spec"].take());
    life.turns(1, GOOD);
    assert_eq!((life.weight(), life.world.weight("a", "v1")), (100, 0), "Git applied the original again");
    assert!(life.world.status.known.contains(&predictor("v1")));
}

#[test]
fn a_stamp_that_cannot_be_read_stops_growth_and_no_decrease() {
    let mut life = Life::at_step(1, |_| ());
    life.world.edit("a", |object| object["metadata"]["annotations"]["sluice.dev/stamp"] = json!("{"));
    life.turns(10, GOOD);
    assert_eq!((life.number(), life.weight()), (Some(1), 10));
    life.world.ask(Do::Abort, None, None);
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 0);
    assert!(life.world.stamp("a").is_some());
}
