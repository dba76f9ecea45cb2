//! A fault at any write leads to the same end as no fault (7): every write of a life, with every kind of fault, once.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_core::{api::Do, machine::Outcome};

use crate::{
    controller::{ALL, Fault, How},
    events::{Event, SERVICES},
    run::Run,
    world::{BAD, GOOD, Saw, entries, mirrors, own_routes, revision},
};

/// Enough for every scene to come to rest.
const TURNS: usize = 36;

/// A life as it would be without faults: what happens before turn n, and what the looks find.
struct Scene {
    name: &'static str,
    variant: usize,
    events: fn(&mut Run, usize),
    saw: fn(&Run) -> Saw,
}

/// A VirtualService at the end: its name, hosts and weights, and how much of ours is beside them.
type Route = (String, Vec<(Value, Value)>, usize);

/// How a life ended, read off the raw objects.
#[derive(Debug, PartialEq)]
struct End {
    stable: Option<String>,
    phase: String,
    outcomes: BTreeMap<String, Outcome>,
    routes: Vec<Route>,
    gone: bool,
}

fn want(run: &mut Run, turn: usize, at: usize, service: &'static str) {
    if turn == at {
        run.happen(&Event::Want { service });
    }
}

fn good(_: &Run) -> Saw {
    GOOD
}

const SCENES: [Scene; 10] = [
    Scene { name: "promoted", variant: 0, events: |run, turn| want(run, turn, 2, "v2"), saw: good },
    Scene {
        name: "rolled back",
        variant: 0,
        events: |run, turn| want(run, turn, 2, "v2"),
        saw: |run| if run.world.status.weight >= 50 { BAD } else { GOOD },
    },
    Scene {
        name: "superseded",
        variant: 0,
        events: |run, turn| {
            want(run, turn, 2, "v2");
            want(run, turn, 6, "v3");
        },
        saw: good,
    },
    Scene {
        name: "cancelled",
        variant: 0,
        events: |run, turn| {
            want(run, turn, 2, "v2");
            want(run, turn, 6, "v1");
        },
        saw: good,
    },
    Scene {
        name: "aborted",
        variant: 0,
        events: |run, turn| {
            want(run, turn, 2, "v2");
            if turn == 6 {
                run.world.ask(Do::Abort, Some(revision("v2")), None);
            }
        },
        saw: good,
    },
    Scene {
        name: "deleted",
        variant: 0,
        events: |run, turn| {
            want(run, turn, 2, "v2");
            if turn == 6 {
                run.happen(&Event::Delete);
            }
        },
        saw: good,
    },
    Scene {
        name: "gone for a moment",
        variant: 0,
        events: |run, turn| {
            want(run, turn, 2, "v2");
            if let 6 | 8 = turn {
                run.happen(&Event::Ready { service: "v2", endpoints: usize::from(turn == 8) });
            }
        },
        saw: good,
    },
    Scene { name: "observed", variant: 26, events: |run, turn| want(run, turn, 2, "v2"), saw: good },
    Scene { name: "shadowed", variant: 5, events: |run, turn| want(run, turn, 2, "v2"), saw: good },
    Scene {
        name: "all at once",
        variant: 6,
        events: |run, turn| {
            want(run, turn, 2, "v2");
            if turn == 12 {
                run.world.ask(Do::Abort, Some(revision("v2")), None);
            }
        },
        saw: good,
    },
];

fn live(scene: &Scene, fault: Option<(usize, Fault, Fault, u8)>) -> (End, usize) {
    let mut run = Run::new(scene.variant);
    let mut writes = 0;
    for turn in 0..TURNS {
        if run.world.gone {
            break;
        }
        (scene.events)(&mut run, turn);
        let saw = (scene.saw)(&run);
        let before = (run.world.version, run.world.virtual_services.clone());
        let hit = fault.filter(|(at, ..)| *at == turn);
        let (persist, act, which) =
            hit.map_or((Fault::None, Fault::None, u8::MAX), |(_, persist, act, which)| (persist, act, which));
        run.turn(0, 10, saw, persist, How { which, fault: act, ..ALL });
        if before != (run.world.version, run.world.virtual_services.clone()) {
            writes = turn;
        }
    }
    let status = &run.world.status;
    let routes = run.world.virtual_services.iter().map(|(name, object)| {
        let of = |entry: &Value| (entry["destination"]["host"].clone(), entry["weight"].clone());
        let left = own_routes(object).len() + mirrors(object).len();
        (name.clone(), entries(object).iter().map(of).collect(), left)
    });
    let end = End {
        stable: status.stable.as_ref().map(ToString::to_string),
        phase: status.phase.to_string(),
        outcomes: status.outcomes.iter().map(|it| (it.predictor.to_string(), it.outcome)).collect(),
        routes: routes.collect(),
        gone: run.world.gone,
    };
    (end, writes)
}

#[test]
fn a_fault_at_any_write_leads_to_the_same_end_as_no_fault() {
    for scene in &SCENES {
        let (expected, last) = live(scene, None);
        assert!(expected.gone || SERVICES.iter().any(|service| expected.stable == Some(revision(service))));
        for turn in 0..=last {
            for fault in [Fault::Refused, Fault::CrashBefore, Fault::CrashAfter] {
                for hit in [(turn, fault, Fault::None, u8::MAX), (turn, Fault::None, fault, u8::MAX)] {
                    let (end, _) = live(scene, Some(hit));
                    assert_eq!(end, expected, "{}: {hit:?}", scene.name);
                }
            }
            let (end, _) = live(scene, Some((turn, Fault::None, Fault::None, 2)));
            assert_eq!(end, expected, "{}: of the effects of turn {turn} only the second", scene.name);
        }
    }
}

#[test]
fn the_scenes_end_as_their_names_say() {
    let ends: Vec<(&str, Value)> = SCENES
        .iter()
        .map(|scene| {
            let (end, _) = live(scene, None);
            (scene.name, json!([end.stable, end.phase, end.gone]))
        })
        .collect();
    let (v1, v2, v3) = (revision("v1"), revision("v2"), revision("v3"));
    assert_eq!(
        ends,
        [
            ("promoted", json!([v2, "Healthy", false])),
            ("rolled back", json!([v1, "RolledBack", false])),
            ("superseded", json!([v3, "Healthy", false])),
            ("cancelled", json!([v1, "Healthy", false])),
            ("aborted", json!([v1, "RolledBack", false])),
            ("deleted", json!([v1, "Progressing", true])),
            ("gone for a moment", json!([v2, "Healthy", false])),
            ("observed", json!([v1, "Healthy", false])),
            ("shadowed", json!([v2, "Healthy", false])),
            ("all at once", json!([v1, "RolledBack", false])),
        ]
    );
}
