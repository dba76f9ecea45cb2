//! What people ask for.

use serde_json::json;

use super::{life::Life, world::*};
use crate::{
    api::{ActionPhase, DecisionKind, Do, Phase, Reason},
    machine::{KEPT_ACTIONS, Outcome},
};

fn gated() -> Life {
    Life::at_step(1, |spec| spec["steps"][0]["approve"] = json!(true))
}

#[test]
fn a_gate_waits_for_an_approval() {
    let mut life = gated();
    life.turns(20, GOOD);
    assert_eq!((life.number(), life.stands()), (Some(1), (Phase::Waiting, Reason::WaitingForApproval)));
    let uid = life.ask(Do::Approve);
    life.turns(2, GOOD);
    assert_eq!(life.number(), Some(2));
    let action = life.world.action(&uid);
    assert_eq!(
        (action.answer, action.message.as_str()),
        (Some(ActionPhase::Done), "ann approved the step: because")
    );
}

#[test]
fn an_approval_before_the_time_is_over_is_kept() {
    let mut life = gated();
    life.asks(Do::Approve);
    assert_eq!((life.last().kind, life.last().by.as_deref()), (DecisionKind::Approved, Some("ann")));
    assert_eq!(life.number(), Some(1));
    life.until(GOOD, |life| life.number() == Some(2));
}

#[test]
fn a_step_that_has_not_begun_cannot_be_approved() {
    let mut life = Life::with(|spec| spec["steps"][0]["approve"] = json!(true));
    life.ready("v2", 0);
    life.world.want("v2");
    life.turns(2, GOOD);
    let uid = life.ask(Do::Approve);
    life.turns(1, GOOD);
    assert_eq!(life.world.action(&uid).answer, Some(ActionPhase::Refused));
    assert_eq!(life.world.action(&uid).message, "step 1 has not begun: the canary has no traffic yet");
}

#[test]
fn an_action_about_something_else_is_refused_and_says_why() {
    for (what, revision, step, why) in [
        (Do::Approve, Some("v3"), Some(1), "models/v3:8000 is not the current revision: models/v2:8000 is"),
        (Do::Approve, Some("v2"), Some(2), "step 2 is not the current step: 1 is"),
        (Do::Approve, Some("v2"), None, "it does not say which step it is about: 1 is the current one"),
        (Do::Promote, None, Some(1), "it does not say which revision it is about"),
        (Do::Abort, Some("v3"), None, "models/v3:8000 is not the current revision: models/v2:8000 is"),
        (Do::Resume, Some("v2"), None, "it is not paused"),
        (Do::Retry, Some("v1"), None, "models/v1:8000 is not the current revision: models/v2:8000 is"),
    ] {
        let mut life = gated();
        let seq = life.world.status.seq;
        let uid = life.world.ask(what, revision.map(super::world::revision), step);
        life.turns(1, GOOD);
        let action = life.world.action(&uid);
        assert_eq!((action.answer, action.message.as_str()), (Some(ActionPhase::Refused), why), "{what:?}");
        assert_eq!(life.world.status.seq, seq);
    }
}

#[test]
fn an_action_for_another_rollout_of_the_name_is_refused() {
    let mut life = gated();
    let uid = life.ask(Do::Approve);
    life.world.actions[0].asked.rollout_uid = Some("uid-of-another".to_owned());
    life.turns(1, GOOD);
    assert_eq!(life.world.action(&uid).message, "it was made for another Rollout of this name");
}

#[test]
fn promote_passes_the_step_and_promote_full_all_of_them() {
    let mut life = gated();
    life.asks(Do::Promote);
    assert_eq!((life.number(), life.weight(), life.last().by.as_deref()), (Some(2), 50, Some("ann")));
    let mut life = gated();
    life.asks(Do::PromoteFull);
    assert_eq!((life.stands().0, life.weight()), (Phase::Promoting, 100));
}

#[test]
fn promote_waits_for_the_traffic_of_the_step() {
    let mut life = gated();
    life.world.edit("a", |object| object["spec"]["http"][1]["route"][1]["weight"] = json!(3));
    let uid = life.ask(Do::Promote);
    life.turns(1, GOOD);
    assert_eq!((life.number(), life.world.action(&uid).answer), (Some(1), None));
    life.turns(1, GOOD);
    assert_eq!((life.number(), life.world.action(&uid).answer), (Some(2), Some(ActionPhase::Done)));
}

#[test]
fn a_canary_that_cannot_answer_is_not_promoted_by_anybody() {
    let mut life = gated();
    life.ready("v2", 0);
    life.turns(1, GOOD);
    let uid = life.ask(Do::PromoteFull);
    life.turns(1, GOOD);
    assert_eq!(life.world.action(&uid).message, "the canary has no ready endpoint");
}

#[test]
fn abort_works_in_every_step_and_pause() {
    for number in [1, 2, 3] {
        let mut life = Life::at_step(1, |_| ());
        life.until(GOOD, |life| life.number() == Some(number) && life.weight() > 0);
        life.pause(true);
        life.asks(Do::Pause);
        life.edit_spec("steps", &json!([{"weight": 101}]));
        life.world.ask(Do::Abort, None, Some(9));
        life.turns(1, GOOD);
        assert_eq!((life.weight(), life.outcome("v2")), (0, Some(Outcome::Aborted)), "step {number}");
        assert_eq!(life.last().message, "ann aborted the rollout: because");
    }
}

#[test]
fn a_pause_of_either_kind_stops_growth_and_no_decrease() {
    for by_person in [true, false] {
        let mut life = Life::at_step(1, |_| ());
        if by_person {
            life.asks(Do::Pause);
            assert_eq!(life.message(), "paused by ann: because");
        } else {
            life.pause(true);
            life.turns(1, GOOD);
            assert_eq!(life.message(), "the spec says paused");
        }
        life.turns(20, GOOD);
        assert_eq!((life.number(), life.stands()), (Some(1), (Phase::Waiting, Reason::Paused)));
        life.turns(1, BAD);
        assert_eq!(life.weight(), 0);
    }
}

#[test]
fn a_pause_keeps_a_start_and_a_first_step_from_happening() {
    let mut life = Life::new();
    life.pause(true);
    life.world.want("v2");
    life.turns(5, GOOD);
    assert_eq!((life.in_flight(), life.stands()), (false, (Phase::Waiting, Reason::Paused)));
    life.pause(false);
    life.ready("v2", 0);
    life.turns(1, GOOD);
    life.pause(true);
    life.ready("v2", 1);
    life.turns(5, GOOD);
    assert_eq!((life.weight(), life.stands()), (0, (Phase::Waiting, Reason::Paused)));
    life.pause(false);
    life.turns(1, GOOD);
    assert_eq!(life.weight(), 10);
}

#[test]
fn a_persons_pause_outlives_the_revision_and_ends_by_a_resume_alone() {
    let mut life = Life::at_step(1, |_| ());
    life.asks(Do::Pause);
    life.world.want("v3");
    life.turns(5, GOOD);
    assert_eq!((life.outcome("v2"), life.in_flight()), (Some(Outcome::Superseded), false));
    assert_eq!(life.stands(), (Phase::Waiting, Reason::Paused));
    life.world.ask(Do::Resume, Some(revision("v3")), None);
    life.until(GOOD, |life| life.world.weight("a", "v3") == 10);
}

#[test]
fn a_person_can_pause_what_is_paused_for_want_of_evidence() {
    let mut life = Life::at_step(1, |_| ());
    life.until(Saw::Outage, |life| life.world.status.pause.is_some());
    life.asks(Do::Pause);
    assert_eq!(life.world.status.pause.as_ref().unwrap().by.as_deref(), Some("ann"));
}

#[test]
fn a_retry_tries_a_revision_again_that_was_rolled_back() {
    let mut life = Life::at_step(1, |_| ());
    life.turns(2, BAD);
    assert_eq!(life.outcome("v2"), Some(Outcome::RolledBack));
    life.asks(Do::Retry);
    assert_eq!((life.last().kind, life.outcome("v2")), (DecisionKind::Retried, Some(Outcome::Retried)));
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn a_retry_in_flight_starts_from_the_first_step() {
    let mut life = Life::at_step(2, |_| ());
    life.edit_spec("steps", &json!([{"weight": 20, "for": "20s"}]));
    life.asks(Do::Retry);
    assert_eq!(life.weight(), 0);
    life.until(GOOD, |life| life.weight() > 0);
    assert_eq!((life.number(), life.weight()), (Some(1), 20), "with the spec of now");
}

#[test]
fn a_retry_without_a_reason_is_refused() {
    let mut life = Life::new();
    life.world.ask(Do::Retry, Some(revision("v1")), None);
    life.turns(1, GOOD);
    assert_eq!(
        life.world.actions[0].message,
        "models/v1:8000 was neither rolled back nor lost: there is nothing to retry"
    );
}

#[test]
fn an_action_is_handled_once_however_many_there_are() {
    let mut life = Life::at_step(1, |spec| spec["steps"][0]["for"] = json!("10h"));
    for _ in 0..KEPT_ACTIONS + 5 {
        life.ask(Do::Pause);
        life.turns(1, GOOD);
        life.ask(Do::Resume);
        life.turns(1, GOOD);
    }
    let seq = life.world.status.seq;
    assert_eq!(life.world.status.handled.len(), KEPT_ACTIONS);
    // Nobody wrote the answers into the actions themselves.
    for action in &mut life.world.actions {
        action.answer = None;
    }
    life.turns(5, GOOD);
    assert_eq!(life.world.status.seq, seq);
}

#[test]
fn what_people_say_at_length_fits_into_the_status() {
    let mut life = Life::at_step(1, |_| ());
    life.ask(Do::Abort);
    life.world.actions[0].asked.reason = Some("x".repeat(1024));
    life.world.actions[0].asked.by = Some("y".repeat(500));
    life.turns(1, GOOD);
    let status = &life.world.status;
    assert_eq!(status.handled[0].message.chars().count(), 1024);
    assert_eq!(life.last().by.as_ref().unwrap().chars().count(), 256);
    assert_eq!(life.outcome("v2"), Some(Outcome::Aborted));
}
