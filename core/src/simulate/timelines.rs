//! Timelines that were written by hand: whole, with every decision, its second and the weight after it.
//!
//! A look every ten seconds, and one counts when the traffic was in place for ten seconds at the look before it: after a
//! change at 0 s that of 20 s is the first. Steps last a minute, so without trouble the second one begins at 60 s, the
//! promotion at 120 s, and stable has left at 140 s: with the second look after it, the first one that counts.

use serde_json::{Value, json};

use super::{Scenario, simulate};
use crate::{
    api::DecisionKind::{
        self, Adopted, Approved, Entered, Overdue, Paused, Promoted, Promoting, RolledBack, Started,
        Withdrawn,
    },
    plan::Plan,
};

type Decided = (u64, DecisionKind, i32);

const BEGIN: [Decided; 3] = [(0, Adopted, 0), (0, Started, 0), (0, Entered, 10)];

/// Two steps, a limit of 1% on errors in two looks in a row, and changes of both.
fn rehearsed(change: &Value, scenario: &Value) -> Vec<Decided> {
    let mut spec = json!({
        "target": {"service": {"name": "canary"}},
        "routes": [{"virtualService": "iris"}],
        "steps": [{"weight": 10, "for": "60s"}, {"weight": 50, "for": "60s"}],
        "checks": [{"name": "errors", "errors": {"max": "1%"}, "consecutiveFailures": 2}],
        "interval": "10s", "settle": "10s", "readyWithin": "2m", "inconclusive": {"limit": "2m"},
    });
    let mut all = json!({"requests": 100, "lasts": "1h"});
    for (whole, part) in [(&mut spec, change), (&mut all, scenario)] {
        whole.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    }
    let plan = Plan::new(&serde_json::from_value(spec).unwrap(), "rehearsal").unwrap();
    let scenario: Scenario = serde_json::from_value(all).unwrap();
    scenario.check().unwrap();
    let decided = simulate(&plan, &scenario, None).decisions;
    decided.iter().map(|(at, decision)| (at.as_secs(), decision.kind, decision.weight)).collect()
}

fn is(name: &str, change: &Value, scenario: &Value, then: &[Decided]) {
    let expected = [&BEGIN[..], then].concat();
    assert_eq!(rehearsed(change, scenario), expected, "{name}");
}

#[test]
fn good_canaries_are_promoted() {
    let nothing = json!({});
    let promoted = [(60, Entered, 50), (120, Promoting, 100), (140, Promoted, 100)];
    is("nothing is wrong", &nothing, &nothing, &promoted);
    // Twenty bad answers of a hundred, between two looks: one bad look is forgiven where a look reaches no further back.
    let blip = json!({"events": [{"at": "20s", "canary": {"errors": "20%"}}, {"at": "30s", "canary": {"errors": "0%"}}]});
    let short = json!({"checks": [
        {"name": "errors", "errors": {"max": "1%", "window": "10s"}, "consecutiveFailures": 2},
    ]});
    is("a blip within one look", &short, &blip, &promoted);
    // The window of five looks still has it at the second look.
    is("a blip that two looks see", &nothing, &blip, &[(40, RolledBack, 0)]);
}

#[test]
fn bad_canaries_are_rolled_back() {
    let nothing = json!({});
    let broken = json!({"canary": {"errors": "5%"}});
    is("broken from the start", &nothing, &broken, &[(30, RolledBack, 0)]);
    // Of the second step, begun at 60 s, the looks of 80 s and 90 s are the first two that count.
    let later = json!({"events": [{"at": "65s", "canary": {"errors": "20%"}}]});
    is("broken in the second step", &nothing, &later, &[(60, Entered, 50), (90, RolledBack, 0)]);
    // Copies are answers, too: it is found as soon, and no user was there.
    let shadow = json!({"steps": [{"mirror": 50, "for": "60s"}]});
    let begin = [(0, Adopted, 0), (0, Started, 0), (0, Entered, 0)];
    assert_eq!(
        rehearsed(&shadow, &broken),
        [&begin[..], &[(30, RolledBack, 0)]].concat(),
        "broken as a shadow"
    );
}

#[test]
fn people_and_freezes_are_waited_for() {
    let nothing = json!({});
    let gate =
        json!({"steps": [{"weight": 10, "for": "60s", "approve": true}, {"weight": 50, "for": "60s"}]});
    is(
        "approved half a minute after the step could have ended",
        &gate,
        &json!({"events": [{"at": "90s", "do": "Approve"}]}),
        &[(90, Approved, 10), (90, Entered, 50), (150, Promoting, 100), (170, Promoted, 100)],
    );
    // It is asked for between two looks, and seen by the next turn.
    let abort = json!({"events": [{"at": "45s", "do": "Abort"}]});
    is("aborted", &nothing, &abort, &[(50, RolledBack, 0)]);
    is(
        "frozen over the end of a step",
        &nothing,
        &json!({"events": [{"at": "30s", "frozen": true}, {"at": "300s", "frozen": false}]}),
        &[(300, Entered, 50), (360, Promoting, 100), (380, Promoted, 100)],
    );
}

#[test]
fn endpoints_that_are_not_there_get_nothing() {
    let nothing = json!({});
    let never = rehearsed(&nothing, &json!({"canary": {"ready": 0}, "lasts": "10m"}));
    assert_eq!(never, [(0, Adopted, 0), (0, Started, 0), (120, Overdue, 0)], "never ready");
    let ready = |times: &[(&str, u32)]| {
        let events: Vec<Value> =
            times.iter().map(|(at, ready)| json!({"at": at, "canary": {"ready": ready}})).collect();
        json!({ "events": events })
    };
    // The step begins anew, and what follows moves on by the 50 s.
    is(
        "lost once",
        &nothing,
        &ready(&[("30s", 0), ("50s", 1)]),
        &[
            (30, Withdrawn, 0),
            (50, Entered, 10),
            (110, Entered, 50),
            (170, Promoting, 100),
            (190, Promoted, 100),
        ],
    );
    is(
        "lost twice",
        &nothing,
        &ready(&[("30s", 0), ("50s", 1), ("70s", 0)]),
        &[(30, Withdrawn, 0), (50, Entered, 10), (70, RolledBack, 0)],
    );
}

#[test]
fn metrics_that_are_away_promote_nothing_and_roll_nothing_back() {
    let nothing = json!({});
    let away = |until: Option<&str>| {
        let back = until.map(|at| json!({"at": at, "metrics": true}));
        let events: Vec<Value> = [json!({"at": "30s", "metrics": false})].into_iter().chain(back).collect();
        json!({ "events": events })
    };
    is(
        "away over the end of a step",
        &nothing,
        &away(Some("100s")),
        &[(100, Entered, 50), (160, Promoting, 100), (180, Promoted, 100)],
    );
    // Evidence alone is missing from the turn of 60 s on: the ten seconds before it count, so two minutes are full at 170 s.
    is("away for good", &nothing, &away(None), &[(170, Paused, 10)]);
    // What failed while nobody could look is seen by the first look after it, with all that was answered meanwhile.
    let failed = json!({"events": [
        {"at": "30s", "metrics": false}, {"at": "40s", "canary": {"errors": "50%"}},
        {"at": "50s", "canary": {"errors": "0%"}}, {"at": "100s", "metrics": true},
    ]});
    is("failed unseen", &nothing, &failed, &[(110, RolledBack, 0)]);
}

/// A comparison of errors needs evidence of 100, whose logarithm is 4.605. Each look of ten seconds has 1,000 requests, so at
/// 10% the canary has 100 and stable 900, and at 50% each has 500. Of Prometheus comes what stable answered before, ten
/// errors in every look, so that φ is 1 and the first look counts.
fn compared(more: &Value) -> Value {
    let mut versus = json!({});
    versus.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"checks": [{"name": "errors", "errors": {"versusStable": versus}}], "inconclusive": {"limit": "10m"}})
}

fn errors(stable: &str, canary: &str) -> Value {
    json!({"stable": {"errors": stable}, "canary": {"errors": canary}})
}

#[test]
fn errors_against_stables() {
    let plain = compared(&json!({}));
    let promoted = [(60, Entered, 50), (120, Promoting, 100), (140, Promoted, 100)];
    // Of (3, 9) failed requests ln E is 0.37 at 20 s, and 4.02 at 60 s, after five looks: no reason to stay, and none to go.
    // The first look of the second step, (15, 5) of (500, 500), makes it 6.46.
    is("three times stable's", &plain, &errors("1%", "3%"), &[(60, Entered, 50), (80, RolledBack, 0)]);
    // 1.5 times are all right: 1.16 at 60 s, 3.79 at 100 s, 4.70 at 110 s.
    let tolerant = compared(&json!({"maxRatio": 1.5}));
    is("three times, of 1.5", &tolerant, &errors("1%", "3%"), &[(60, Entered, 50), (110, RolledBack, 0)]);
    // Twice stable's is 0.59 at 60 s, and 4.30 at 120 s: two minutes are too short for it.
    is("twice stable's", &plain, &errors("1%", "2%"), &promoted);
    // What both do is nobody's fault, however much it is.
    let incident = json!({"stable": {"errors": "1%"}, "canary": {"errors": "1%"}, "events": [
        {"at": "30s", "stable": {"errors": "30%"}, "canary": {"errors": "30%"}},
        {"at": "90s", "stable": {"errors": "1%"}, "canary": {"errors": "1%"}},
    ]});
    is("an incident of both", &plain, &incident, &promoted);
}

#[test]
fn a_proof_takes_its_time() {
    // (1, 9) failed: ln E that it is less than twice stable's is 1.03 at 60 s, grows by 0.22 to 0.25 a look, is 4.600 at 210 s and
    // 4.85 at 220 s. The second step has the proof already, and lasts its minute.
    let proven = compared(&json!({"prove": true}));
    is(
        "as good as stable",
        &proven,
        &errors("1%", "1%"),
        &[(220, Entered, 50), (280, Promoting, 100), (300, Promoted, 100)],
    );
    // Evidence alone is missing from 60 s on, as above: two minutes are full at 170 s.
    let mut impatient = proven;
    impatient["inconclusive"] = json!({"limit": "2m"});
    is("no time for it", &impatient, &errors("1%", "1%"), &[(170, Paused, 10)]);
}

#[test]
fn pods_that_are_scraped_tell_nothing_of_before() {
    // Stable has to be seen ten times: at 110 s, and the step waits for it. The evidence of all ten counts then: 9.21.
    let mut scraped = compared(&json!({}));
    scraped["metrics"] = json!({"scrape": {"port": 8082}});
    is("three times stable's, scraped", &scraped, &errors("1%", "3%"), &[(110, RolledBack, 0)]);
}

#[test]
fn latencies_against_stables() {
    let check = json!({"checks": [{"name": "latency", "latency": {"versusStable": {}}}]});
    let takes = |median: &str, p99: &str| {
        json!({
            "stable": {"latency": {"median": "40ms", "p99": "150ms"}},
            "canary": {"latency": {"median": median, "p99": p99}},
        })
    };
    // The look of 20 s chooses the bounds, eight from 1 ms to 250 ms, and those from 30 s on count. The mean of the evidence is that of
    // 50 ms for the most part: ln E 4.34 at 30 s, 11.94 at 40 s.
    is("half as slow again", &check, &takes("60ms", "200ms"), &[(40, RolledBack, 0)]);
    // Slow requests alone are slower: that of 100 ms says so, 4.05 at 50 s and 6.51 at 60 s, where the step could end.
    is("a longer tail", &check, &takes("40ms", "250ms"), &[(60, RolledBack, 0)]);
    let promoted = [(60, Entered, 50), (120, Promoting, 100), (140, Promoted, 100)];
    is("as fast as stable", &check, &takes("40ms", "150ms"), &promoted);
    // The proof is that of 100 ms, the least of those that some requests took longer than: 5.66 at 60 s, 7.17 at 70 s, and 6.91 is needed.
    // Of 250 ms, which none took, there would be none for ever.
    let proven = json!({"checks": [
        {"name": "latency", "latency": {"versusStable": {"prove": true, "confidence": "99.9%"}}},
    ]});
    is(
        "proven to be as fast",
        &proven,
        &takes("40ms", "150ms"),
        &[(70, Entered, 50), (130, Promoting, 100), (150, Promoted, 100)],
    );
}
