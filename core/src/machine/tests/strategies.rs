//! Steps that give the canary something else than weight, and the decision at the end.

use serde_json::{Value, json};

use super::{life::Life, world::*};
use crate::{
    api::{ActionPhase, DecisionKind, Do, Phase, Reason},
    machine::{self, Outcome},
};

fn beta() -> Value {
    json!([{"headers": {"x-group": {"exact": "beta"}}}])
}

/// `v2` has just entered step `number` of these.
fn at(number: u32, steps: Value) -> Life {
    let mut life = Life::with(|spec| spec["steps"] = steps);
    life.world.want("v2");
    life.until(GOOD, |life| life.number() == Some(number) && !life.world.status.given().is_nothing());
    life
}

fn shadow() -> Life {
    at(1, json!([{"mirror": 100, "for": "20s"}, {"weight": 50, "for": "20s"}]))
}

fn cohort() -> Life {
    at(1, json!([{"match": beta(), "for": "20s"}, {"weight": 50, "for": "20s"}]))
}

fn object(life: &Life) -> &Value {
    &life.world.virtual_services["a"]
}

/// Nothing of ours is on the route but weights, and stable has them all.
fn is_clean(life: &Life) -> bool {
    own_routes(object(life)).is_empty() && mirrors(object(life)).is_empty() && life.weight() == 0
}

#[test]
fn a_shadow_gets_copies_and_answers_nobody() {
    let mut life = shadow();
    assert_eq!((mirrors(object(&life)).get("v2"), life.weight()), (Some(&100.0), 0));
    assert_eq!(life.last().change(), "weight 0% -> mirror 100%");
    assert_eq!(life.message(), "step 1: mirror 100% for 20s");
    life.until(GOOD, |life| life.number() == Some(2));
    assert_eq!((mirrors(object(&life)).len(), life.weight()), (0, 50));
    life.until(GOOD, |life| life.stable() == "v2");
    assert!(object(&life)["metadata"]["annotations"].get("sluice.dev/mirrors").is_none());
}

#[test]
fn a_match_sends_its_requests_to_the_canary_and_no_others() {
    let mut life = cohort();
    let own = own_routes(object(&life));
    assert_eq!(own[0]["match"], json!([{"headers": {"x-group": {"exact": "beta"}}}]));
    assert_eq!(
        own[0]["route"],
        json!([{"destination": {"host": "v2"}, "weight": 100, "headers": {"x": "y"}}])
    );
    assert_eq!((own.len(), life.weight()), (1, 0));
    assert_eq!(life.world.status.beside.matches, ["x-group is beta"]);
    life.until(GOOD, |life| life.number() == Some(2));
    assert!(own_routes(object(&life)).is_empty());
    assert_eq!(life.last().change(), "match x-group is beta -> weight 50%");
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn whatever_ends_a_rollout_takes_match_and_mirror_away() {
    let both = || at(1, json!([{"mirror": 50, "match": beta(), "weight": 5, "for": "10m"}]));
    let ends: [fn(&mut Life); 6] = [
        |life| life.turns(3, BAD),
        |life| life.asks(Do::Abort),
        |life| life.world.want("v1"),
        |life| life.world.want("v3"),
        |life| life.world.delete(),
        |life| life.ready("v2", 0),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        for start in [both, shadow, cohort] {
            let mut life = start();
            end(&mut life);
            life.turns(1, GOOD);
            assert!(is_clean(&life), "{number}: {}", object(&life));
        }
    }
}

#[test]
fn a_canary_that_only_gets_copies_can_be_ended_without_a_stable_and_one_with_users_cannot() {
    let mut life = shadow();
    life.ready("v1", 0);
    life.turns(3, BAD);
    assert_eq!((life.outcome("v2"), is_clean(&life)), (Some(Outcome::RolledBack), true));
    let mut life = cohort();
    life.ready("v1", 0);
    life.turns(3, BAD);
    assert_eq!(life.stands(), (Phase::Stalled, Reason::StableNotReady));
    assert_eq!(own_routes(object(&life)).len(), 1);
}

#[test]
fn a_rollback_of_copies_alone_is_done_even_if_it_cannot_be_recorded() {
    let mut life = shadow();
    life.turns(2, BAD);
    let last = life.last().clone();
    assert_eq!((last.kind, last.change().as_str()), (DecisionKind::RolledBack, "mirror 100% -> weight 0%"));
    assert!(machine::only_takes_away(&last));
}

#[test]
fn neither_match_nor_mirror_grows_while_paused_or_frozen() {
    let steps = || json!([{"weight": 5, "for": "20s"}, {"mirror": 100}, {"match": beta()}, {"weight": 10, "mirror": 1}]);
    for number in [1, 2, 3] {
        for freeze in [true, false] {
            let mut life = at(number, steps());
            if freeze {
                life.world.freeze(true);
            } else {
                life.pause(true);
            }
            let before = object(&life)["spec"].clone();
            life.turns(10, GOOD);
            assert_eq!(life.number(), Some(number));
            assert_eq!(object(&life)["spec"], before, "step {number}");
        }
    }
}

#[test]
fn what_a_freeze_finds_decided_and_not_done_is_not_done_in_it() {
    let mut life = at(1, json!([{"match": beta(), "for": "20s"}, {"weight": 50, "mirror": 5, "for": "20s"}]));
    let before = object(&life).clone();
    life.until(GOOD, |life| life.number() == Some(2));
    // The write of the second step never came.
    life.world.put(before.clone());
    life.world.freeze(true);
    life.turns(5, GOOD);
    assert_eq!(object(&life)["spec"], before["spec"]);
    life.world.freeze(false);
    life.turns(1, GOOD);
    assert_eq!((life.weight(), own_routes(object(&life)).len()), (50, 0));
}

#[test]
fn hands_on_matches_and_mirrors_are_put_right() {
    let mut life = at(1, json!([{"match": beta(), "mirror": 5, "for": "10m"}]));
    let during = object(&life)["spec"].clone();
    let seq = life.world.status.seq;
    let drifts: [fn(&mut Value); 4] = [
        |http| drop(http.as_array_mut().unwrap().remove(1)),
        |http| http[1]["match"] = json!([{"uri": {"prefix": "/"}}]),
        |http| http[2]["mirrors"][0]["percentage"]["value"] = json!(50),
        |http| drop(http[2].as_object_mut().unwrap().remove("mirrors")),
    ];
    for drift in drifts {
        life.world.edit("a", |object| drift(&mut object["spec"]["http"]));
        assert_ne!(object(&life)["spec"], during);
        life.turns(1, GOOD);
        assert_eq!((&object(&life)["spec"], life.world.status.seq), (&during, seq));
    }
}

#[test]
fn a_lost_status_loses_match_and_mirror_too() {
    for stamped in [true, false] {
        let mut life = at(1, json!([{"match": beta(), "mirror": 5, "for": "10m"}]));
        if !stamped {
            life.world.edit("a", |object| {
                object["metadata"]["annotations"].as_object_mut().unwrap().remove(crate::api::STAMP);
            });
        }
        life.world.set_status(crate::api::RolloutStatus::default());
        life.crash();
        life.turns(3, GOOD);
        assert!(is_clean(&life), "{}", object(&life));
        assert_eq!(life.stands(), (Phase::Stalled, Reason::StatusLost));
    }
}

#[test]
fn a_step_that_the_route_leaves_no_room_for_is_refused_before_anything_starts() {
    let mut life = Life::with(|spec| spec["steps"] = json!([{"weight": 5}, {"match": beta()}]));
    life.world.edit("a", |object| {
        object["spec"]["http"][1]["match"] = json!([{"headers": {"x-group": {"regex": ".*"}}}]);
    });
    life.world.want("v2");
    life.turns(3, GOOD);
    assert_eq!(life.stands(), (Phase::Pending, Reason::RouteConflict));
    assert!(life.message().contains("spec.steps[1].match[0].headers[x-group]"), "{}", life.message());
    assert_eq!(life.kinds(), [DecisionKind::Adopted]);
}

#[test]
fn a_person_who_decides_for_stable_ends_it_without_a_failure() {
    let mut life = Life::at_step(2, |spec| spec["finish"] = json!("Wait"));
    let too_early = life.ask(Do::DecideStable);
    life.turns(1, GOOD);
    assert_eq!(life.world.action(&too_early).answer, Some(ActionPhase::Refused));
    life.turns(20, GOOD);
    life.pause(true);
    let paused = life.ask(Do::DecideCanary);
    life.turns(1, GOOD);
    assert_eq!(life.world.action(&paused).answer, Some(ActionPhase::Refused));
    life.asks(Do::DecideStable);
    assert_eq!(
        (life.last().kind, life.last().reason, life.last().by.as_deref()),
        (DecisionKind::Lost, Reason::Lost, Some("ann"))
    );
    life.pause(false);
    life.turns(10, GOOD);
    assert_eq!((life.outcome("v2"), life.weight(), life.stable()), (Some(Outcome::Lost), 0, "v1"));
    assert_eq!(
        (life.stands(), life.message()),
        ((Phase::Healthy, Reason::Lost), "ann decided for stable: because")
    );
    life.asks(Do::Retry);
    life.until(GOOD, |life| life.number() == Some(1));
}

#[test]
fn a_person_who_decides_for_the_canary_promotes_it() {
    let mut life = Life::at_step(2, |spec| spec["finish"] = json!("Wait"));
    life.turns(20, GOOD);
    life.asks(Do::DecideCanary);
    assert_eq!(
        (life.last().kind, life.last().message.as_str()),
        (DecisionKind::Promoting, "ann decided for the canary: because")
    );
    life.until(GOOD, |life| life.stable() == "v2");
}

#[test]
fn where_nothing_waits_there_is_nothing_to_decide() {
    for what in [Do::DecideStable, Do::DecideCanary] {
        let mut life = Life::at_step(2, |spec| spec["steps"][1]["approve"] = json!(true));
        life.turns(20, GOOD);
        let asked = life.ask(what);
        life.turns(1, GOOD);
        assert_eq!(life.world.action(&asked).answer, Some(ActionPhase::Refused), "{what:?}");
        assert!(life.world.action(&asked).message.contains("spec.finish is Wait"), "{what:?}");
    }
}
