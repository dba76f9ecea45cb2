//! Rehearsals against timelines that were written by hand.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{ActionPhase, DecisionKind, Do, Phase, Reason},
    machine::Outcome,
};

/// Two steps of a minute, a look every ten seconds, a limit of 1% on errors in two looks in a row.
fn plan(change: impl FnOnce(&mut Value)) -> Plan {
    let mut spec = json!({
        "target": {"service": {"name": "canary"}},
        "routes": [{"virtualService": "iris"}],
        "steps": [{"weight": 10, "for": "60s"}, {"weight": 50, "for": "60s"}],
        "checks": [{"name": "errors", "errors": {"max": "1%"}, "consecutiveFailures": 2}],
        "interval": "10s", "settle": "10s", "readyWithin": "2m",
        "inconclusive": {"limit": "2m"},
    });
    change(&mut spec);
    Plan::new(&serde_json::from_value(spec).unwrap(), "rehearsal").unwrap()
}

fn scenario(more: &Value) -> Scenario {
    let mut scenario = json!({"requests": 100, "lasts": "1h"});
    for (field, value) in more.as_object().unwrap() {
        scenario[field] = value.clone();
    }
    let scenario: Scenario = serde_json::from_value(scenario).unwrap();
    scenario.check().unwrap();
    scenario
}

fn rehearsed(change: impl FnOnce(&mut Value), more: &Value) -> Timeline {
    simulate(&plan(change), &scenario(more), None)
}

/// Seconds and kinds of what was decided.
fn kinds(timeline: &Timeline) -> Vec<(u64, DecisionKind)> {
    timeline.decisions.iter().map(|(at, decision)| (at.as_secs(), decision.kind)).collect()
}

use DecisionKind::{
    Adopted, Approved, Entered, Overdue, Paused, Promoted, Promoting, Retried, RolledBack, Started, Withdrawn,
};

#[test]
fn a_good_canary_is_promoted() {
    let timeline = rehearsed(|_| (), &json!({}));
    assert_eq!(
        kinds(&timeline),
        [(0, Adopted), (0, Started), (0, Entered), (60, Entered), (120, Promoting), (140, Promoted)]
    );
    assert_eq!((timeline.ending, timeline.at), (Ending::Promoted, Duration::from_secs(140)));
    // 10% of 6,000, 50% of 6,000, and all of the last twenty seconds.
    assert_eq!(timeline.users, Users { requests: 600 + 3000 + 2000, errors: 0 });
}

#[test]
fn a_bad_canary_is_rolled_back_at_the_second_bad_look() {
    let timeline = rehearsed(|_| (), &json!({"canary": {"errors": "5%"}}));
    // The first look that counts is at 20 s, when the traffic was in place for longer than it needs to settle.
    assert_eq!(kinds(&timeline), [(0, Adopted), (0, Started), (0, Entered), (30, RolledBack)]);
    let Ending::Over { outcome, reason, .. } = timeline.ending else { panic!("{:?}", timeline.ending) };
    assert_eq!((outcome, reason), (Outcome::RolledBack, Reason::CheckFailed));
    assert_eq!(timeline.users, Users { requests: 300, errors: 15 });
}

#[test]
fn errors_that_come_later_are_found_later() {
    let timeline = rehearsed(|_| (), &json!({"events": [{"at": "65s", "canary": {"errors": "20%"}}]}));
    let (at, last) = *kinds(&timeline).last().unwrap();
    assert_eq!(last, RolledBack);
    assert!((80..=100).contains(&at), "rolled back at {at}s");
}

#[test]
fn a_gate_waits_for_a_person() {
    let gated = |spec: &mut Value| spec["steps"][0]["approve"] = json!(true);
    let waits = rehearsed(gated, &json!({"lasts": "10m"}));
    let Ending::Held(held) = &waits.ending else { panic!("{:?}", waits.ending) };
    assert_eq!((held.phase, held.reason), (Phase::Waiting, Some(Reason::WaitingForApproval)));
    let opened = rehearsed(gated, &json!({"events": [{"at": "5m", "do": "Approve"}]}));
    assert!(kinds(&opened).contains(&(300, Approved)), "{:?}", kinds(&opened));
    assert_eq!(opened.ending, Ending::Promoted);
}

#[test]
fn a_canary_that_is_not_ready_gets_nothing_and_is_overdue() {
    let timeline = rehearsed(|_| (), &json!({"canary": {"ready": 0}, "lasts": "10m"}));
    assert_eq!(kinds(&timeline), [(0, Adopted), (0, Started), (120, Overdue)]);
    assert_eq!(timeline.users, Users::default());
}

#[test]
fn endpoints_that_are_lost_once_are_waited_for_and_the_second_time_is_the_last() {
    let lost = |times: &[&str]| {
        let events: Vec<Value> = times
            .iter()
            .enumerate()
            .map(|(index, at)| json!({"at": at, "canary": {"ready": index % 2}}))
            .collect();
        rehearsed(|_| (), &json!({ "events": events }))
    };
    let once = lost(&["30s", "50s"]);
    assert!(kinds(&once).contains(&(30, Withdrawn)), "{:?}", kinds(&once));
    assert_eq!(once.ending, Ending::Promoted);
    let twice = lost(&["30s", "50s", "70s"]);
    assert_eq!(kinds(&twice).last(), Some(&(70, RolledBack)));
}

#[test]
fn metrics_that_disappear_stop_the_way_up_and_no_more() {
    let outage = json!([{"at": "30s", "metrics": false}, {"at": "100s", "metrics": true}]);
    let timeline = rehearsed(|_| (), &json!({ "events": outage }));
    let entered: Vec<u64> =
        kinds(&timeline).iter().filter(|(_, kind)| *kind == Entered).map(|(at, _)| *at).collect();
    assert_eq!(entered[0], 0);
    assert!((100..=120).contains(&entered[1]), "{entered:?}");
    assert_eq!(timeline.ending, Ending::Promoted);
    let for_good = rehearsed(|_| (), &json!({"events": [{"at": "30s", "metrics": false}]}));
    assert_eq!(kinds(&for_good).last().map(|(_, kind)| *kind), Some(Paused));
    assert!(matches!(for_good.ending, Ending::Held(_)));
}

#[test]
fn an_abort_and_a_freeze_are_obeyed() {
    let aborted = rehearsed(|_| (), &json!({"events": [{"at": "45s", "do": "Abort"}]}));
    let Ending::Over { outcome, at, .. } = aborted.ending else { panic!("{:?}", aborted.ending) };
    assert_eq!((outcome, at.as_secs()), (Outcome::Aborted, 50));
    let frozen = json!([{"at": "30s", "frozen": true}, {"at": "5m", "frozen": false}]);
    let thawed = rehearsed(|_| (), &json!({ "events": frozen }));
    let entered = kinds(&thawed).into_iter().filter(|(_, kind)| *kind == Entered).map(|(at, _)| at).max();
    assert_eq!((entered, thawed.ending), (Some(300), Ending::Promoted));
}

#[test]
fn a_retry_of_what_is_in_flight_is_no_end() {
    let timeline = rehearsed(|_| (), &json!({"events": [{"at": "30s", "do": "Retry"}]}));
    assert_eq!(
        kinds(&timeline),
        [
            (0, Adopted),
            (0, Started),
            (0, Entered),
            (30, Retried),
            (30, Started),
            (30, Entered),
            (90, Entered),
            (150, Promoting),
            (170, Promoted)
        ]
    );
    assert_eq!(timeline.ending, Ending::Promoted);
}

#[test]
fn a_canary_that_was_mended_is_promoted_after_a_retry() {
    let events = json!([{"at": "5m", "canary": {"errors": "0%"}}, {"at": "6m", "do": "Retry"}]);
    let mended = rehearsed(|_| (), &json!({"canary": {"errors": "5%"}, "events": events}));
    let seen = kinds(&mended);
    assert!(seen.contains(&(30, RolledBack)) && seen.contains(&(360, Retried)), "{seen:?}");
    assert_eq!(mended.ending, Ending::Promoted);
    // Tried again as it was it ends as before, and not as a retry.
    let events = json!([{"at": "6m", "do": "Retry"}]);
    let again = rehearsed(|_| (), &json!({"canary": {"errors": "5%"}, "events": events}));
    let Ending::Over { outcome, at, .. } = again.ending else { panic!("{:?}", again.ending) };
    assert_eq!((outcome, at.as_secs()), (Outcome::RolledBack, 390));
}

#[test]
fn a_retry_in_a_freeze_is_no_end_before_the_thaw() {
    let events = json!([
        {"at": "45s", "frozen": true}, {"at": "50s", "do": "Retry"}, {"at": "5m", "frozen": false},
    ]);
    let timeline = rehearsed(|_| (), &json!({ "events": events }));
    assert_eq!(timeline.ending, Ending::Promoted, "{:?}", kinds(&timeline));
    assert!(kinds(&timeline).contains(&(300, Started)), "{:?}", kinds(&timeline));
}

#[test]
fn what_is_refused_is_answered() {
    let events = json!([
        {"at": "20s", "do": "DecideStable"}, {"at": "20s", "do": "Approve"}, {"at": "30s", "do": "Pause"},
        {"at": "40s", "do": "Pause"}, {"at": "50s", "do": "Resume"},
    ]);
    let timeline = rehearsed(|_| (), &json!({ "events": events }));
    let said: Vec<_> =
        timeline.replies.iter().map(|reply| (reply.at.as_secs(), reply.what, reply.phase)).collect();
    let refused = ActionPhase::Refused;
    assert_eq!(
        said,
        [(20, Do::DecideStable, refused), (20, Do::Approve, refused), (40, Do::Pause, ActionPhase::Done)]
    );
    assert!(timeline.replies[1].message.contains("asks for no approval"), "{:?}", timeline.replies);
    assert_eq!(timeline.ending, Ending::Promoted);
}

#[test]
fn answers_to_queries_that_nobody_asks_are_refused() {
    let asks = |spec: &mut Value| {
        spec["checks"] = json!([
            {"name": "accuracy", "query": {"promql": "accuracy", "min": 0.9}}, {"name": "errors", "errors": {"max": "1%"}},
        ]);
    };
    let plan = plan(asks);
    let refused = |more: Value| scenario(&more).fits(&plan).unwrap_err().to_string();
    assert_eq!(
        refused(json!({"queries": {"acuracy": 1}})),
        "queries.acuracy: no check of this Rollout has that name; accuracy is the one with a query"
    );
    let event =
        json!({"events": [{"at": "1m", "queries": {"accuracy": 1}}, {"at": "2m", "queries": {"errors": 1}}]});
    assert_eq!(refused(event), "events[1].queries.errors: this check has no query: it needs no answer");
    assert_eq!(scenario(&json!({"queries": {"accuracy": 1}})).fits(&plan), Ok(()));
}

#[test]
fn a_slow_canary_breaches_a_latency_limit() {
    let limited = |spec: &mut Value| {
        spec["checks"] = json!([{"name": "p99", "latency": {"quantile": 0.99, "max": "250ms"}}]);
    };
    let latency = |p99: &str| json!({"canary": {"latency": {"median": "50ms", "p99": p99}}});
    assert_eq!(rehearsed(limited, &latency("200ms")).ending, Ending::Promoted);
    assert_eq!(kinds(&rehearsed(limited, &latency("400ms"))).last().map(|(_, kind)| *kind), Some(RolledBack));
}

#[test]
fn a_shadow_answers_nobody_and_is_judged_all_the_same() {
    let shadow = |spec: &mut Value| spec["steps"] = json!([{"mirror": 50, "for": "60s"}]);
    let bad = rehearsed(shadow, &json!({"canary": {"errors": "5%"}}));
    assert_eq!(kinds(&bad).last().map(|(_, kind)| *kind), Some(RolledBack));
    assert_eq!(bad.users, Users::default());
}

#[test]
fn a_query_says_what_the_scenario_says() {
    let asks = |spec: &mut Value| {
        spec["checks"] = json!([{"name": "accuracy", "query": {"promql": "accuracy", "min": 0.9}}]);
    };
    assert_eq!(rehearsed(asks, &json!({"queries": {"accuracy": 0.95}})).ending, Ending::Promoted);
    let worse = rehearsed(asks, &json!({"queries": {"accuracy": 0.8}}));
    assert_eq!(kinds(&worse).last().map(|(_, kind)| *kind), Some(RolledBack));
    assert!(matches!(rehearsed(asks, &json!({"lasts": "5m"})).ending, Ending::Held(_)));
}

#[test]
fn queries_of_both_arms_are_compared() {
    let compares = |spec: &mut Value| {
        let query = json!({
            "promql": "accuracy{service=\"{{canary.service}}\"}", "window": "10s",
            "direction": "MoreIsBetter", "versusStable": {"prove": true},
        });
        spec["checks"] = json!([{"name": "accuracy", "query": query}]);
        spec["inconclusive"] = json!({"limit": "10m"});
    };
    let ending = |answer: Value| rehearsed(compares, &json!({"queries": {"accuracy": answer}}));
    let spread = |canary: f64| json!({"canary": canary, "stable": 0.9, "spread": "1%"});
    assert_eq!(ending(spread(0.95)).ending, Ending::Promoted);
    assert_eq!(kinds(&ending(spread(0.8))).last().map(|(_, kind)| *kind), Some(RolledBack));
    let refused = serde_json::from_value::<Scenario>(json!({"requests": 1, "queries": {"q": {"canry": 1}}}));
    assert!(refused.unwrap_err().to_string().contains("a map of canary, stable and spread is expected"));
}

#[test]
fn numbers_that_cannot_be_compared_keep_a_rollout_from_going_on() {
    let compares = |spec: &mut Value| {
        let query = json!({
            "promql": "score{service=\"{{canary.service}}\"}", "direction": "MoreIsBetter", "window": "10s",
            "versusStable": {},
        });
        spec["checks"] = json!([{"name": "acc", "query": query}]);
    };
    let answered = |canary: f64, stable: f64| {
        rehearsed(compares, &json!({"queries": {"acc": {"canary": canary, "stable": stable}}}))
    };
    assert_eq!(answered(2.0, 1.0).ending, Ending::Promoted);
    for (canary, stable) in [(-2.0, -1.0), (-1.0, -1.0), (1.0, -1.0)] {
        let timeline = answered(canary, stable);
        // A controller has no ratio of them either: it waits for two minutes, and then for a person.
        assert_eq!(kinds(&timeline).last().map(|(_, kind)| *kind), Some(Paused), "{canary} and {stable}");
        let Ending::Held(held) = &timeline.ending else { panic!("{:?}", timeline.ending) };
        assert_eq!(held.phase, Phase::Waiting);
    }
    // Judged alone a number may be anything.
    let limited = |spec: &mut Value| {
        spec["checks"] = json!([{"name": "acc", "query": {"promql": "score", "min": -3}}]);
    };
    assert_eq!(rehearsed(limited, &json!({"queries": {"acc": -2}})).ending, Ending::Promoted);
}

#[test]
fn counters_of_both_arms_are_compared() {
    let compares = |spec: &mut Value| {
        let selector = |name: &str| format!("{name}{{service=\"{{{{canary.service}}}}\"}}");
        let query = json!({
            "promql": selector("wrong"), "total": selector("all"), "direction": "MoreIsWorse",
            "versusStable": {"prove": true},
        });
        spec["checks"] = json!([{"name": "wrong", "query": query}]);
    };
    let ending = |canary: f64| {
        rehearsed(
            compares,
            &json!({"requests": 500, "queries": {"wrong": {"canary": canary, "stable": 0.02}}}),
        )
    };
    assert_eq!(ending(0.02).ending, Ending::Promoted);
    assert_eq!(kinds(&ending(0.08)).last().map(|(_, kind)| *kind), Some(RolledBack));
}

#[test]
fn one_seed_is_one_rehearsal_and_another_seed_another() {
    let (plan, scenario) =
        (plan(|_| ()), scenario(&json!({"stable": {"errors": "1%"}, "canary": {"errors": "1%"}})));
    let errors = |seed| simulate(&plan, &scenario, Some(seed)).users;
    assert_eq!(errors(1), errors(1));
    assert!((2..10).any(|seed| errors(seed) != errors(1)));
}

#[test]
fn of_several_that_ask_between_two_looks_each_is_heard() {
    let asked = json!([{"at": "31s", "do": "Pause"}, {"at": "32s", "do": "Resume"}]);
    assert_eq!(rehearsed(|_| (), &json!({ "events": asked })).ending, Ending::Promoted);
}

#[test]
fn a_healthy_canary_does_as_stable_does() {
    let worse = scenario(&json!({
        "stable": {"errors": "1%"}, "canary": {"errors": "3%", "ready": 2},
        "events": [
            {"at": "1m", "stable": {"errors": "5%"}, "canary": {"errors": "50%"}},
            {"at": "2m", "canary": {"errors": "9%"}}, {"at": "3m", "metrics": false},
        ],
    }));
    assert!(!worse.canary_is_never_worse());
    let healthy = worse.healthy();
    assert!(healthy.canary_is_never_worse());
    assert_eq!((healthy.canary.errors, healthy.canary.ready), (healthy.stable.errors, Some(2)));
    assert_eq!(healthy.events[0].canary, healthy.events[0].stable);
    assert_eq!(healthy.events[1].canary, None);
    for more in [
        json!({"canary": {"ready": 0}}),
        json!({"queries": {"accuracy": {"canary": 0.8, "stable": 0.9}}}),
        json!({"events": [{"at": "1m", "queries": {"accuracy": {"canary": 0.8, "stable": 0.9}}}]}),
        json!({"events": [{"at": "1m", "canary": {"errors": "1%"}}]}),
        json!({"canary": {"latency": {"median": "1s", "p99": "2s"}}}),
        json!({"events": [{"at": "1m", "canary": {"ready": 0}}, {"at": "2m", "canary": {"ready": 1}}]}),
        json!({"events": [{"at": "1m", "do": "Abort"}]}),
        json!({"events": [{"at": "1m", "do": "DecideStable"}]}),
        json!({"events": [{"at": "1m", "do": "Retry"}]}),
    ] {
        let worse = scenario(&more);
        assert!(!worse.canary_is_never_worse(), "{more}");
        let healthy = worse.healthy();
        assert!(healthy.canary_is_never_worse(), "{more}");
        assert_eq!((healthy.check(), healthy.clone().healthy()), (Ok(()), healthy), "{more}");
    }
    for more in [
        // What is one number is the same about both.
        json!({"queries": {"accuracy": 0.1}}),
        json!({"events": [{"at": "1m", "do": "Approve"}, {"at": "2m", "do": "Pause"}, {"at": "3m", "do": "Resume"}]}),
    ] {
        let good = scenario(&more);
        assert!(good.canary_is_never_worse(), "{more}");
        assert_eq!(good.clone().healthy(), good, "{more}");
    }
}

#[test]
fn a_healthy_canary_is_promoted_whatever_was_wrong_with_the_other() {
    let both = |spec: &mut Value| {
        let query = json!({
            "promql": "accuracy{service=\"{{canary.service}}\"}", "direction": "MoreIsBetter", "window": "10s",
            "versusStable": {},
        });
        spec["checks"].as_array_mut().unwrap().push(json!({"name": "acc", "query": query}));
        spec["steps"][1]["for"] = json!("20m");
    };
    let wrong = json!({"acc": {"canary": 0.8, "stable": 0.9, "spread": "1%"}});
    let good = json!({"acc": 0.9});
    for more in [
        json!({"queries": wrong}),
        json!({"queries": good, "events": [{"at": "50s", "queries": wrong}]}),
        json!({"queries": good, "canary": {"ready": 0}}),
        json!({"queries": good, "events": [{"at": "50s", "canary": {"ready": 0}}]}),
        json!({"queries": good, "events": [{"at": "50s", "do": "Abort"}]}),
    ] {
        let (plan, scenario) = (plan(both), scenario(&more));
        for seed in 0..3 {
            assert_ne!(simulate(&plan, &scenario, Some(seed)).ending, Ending::Promoted, "{more}");
            let healthy = simulate(&plan, &scenario.clone().healthy(), Some(seed));
            assert_eq!(healthy.ending, Ending::Promoted, "{more}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field() {
    for (wrong, field) in [
        (json!({"requests": -1}), "requests: -1"),
        (json!({"clump": 0}), "clump: 0"),
        (json!({"lasts": "1000h"}), "lasts: 1000h"),
        (json!({"canary": {"latency": {"median": "2s", "p99": "1s"}}}), "canary.latency: "),
        (json!({"events": [{"at": "1m"}]}), "events[0]: nothing happens"),
        (json!({"events": [{"at": "2h", "metrics": true}]}), "events[0].at: 2h"),
        (json!({"events": [{"at": "1m", "requests": 1e12}]}), "events[0].requests: "),
    ] {
        let mut all = json!({"requests": 1, "lasts": "1h"});
        all.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let scenario: Scenario = serde_json::from_value(all).unwrap();
        let refused = scenario.check().unwrap_err().to_string();
        assert!(refused.starts_with(field), "{refused}");
    }
    assert!(serde_json::from_value::<Scenario>(json!({"requests": 1, "request": 2})).is_err());
}
