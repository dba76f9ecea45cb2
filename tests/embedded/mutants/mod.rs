//! Controllers that are broken on purpose, at least one for each guarantee: the checker must say so, under that
//! guarantee's number, and find nothing in the same run with the sound controller.
//!
//! Broken is the real controller: what it sends, or is told, is changed on its way ([`Tamper`]). What this version never
//! writes, such as workloads, is written by hand under the controller's name.

mod people;
mod record;
mod traffic;

use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::{
    embedded::{EventThen, Faults, Tamper, Then, Verb, When},
    invariants::{self, Violation},
};

use crate::world::{CONTROLLER, World, rollout};

/// Steps that a sound controller takes in some seconds.
fn two_steps() -> Value {
    rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s"}]))
}

/// A step that lasts.
fn half() -> Value {
    rollout(&json!([{"weight": 50, "for": "10m"}]))
}

/// Plays the same with a sound controller and with a broken one.
async fn is_caught(
    guarantee: u8,
    object: Value,
    breaks: impl Fn(&Faults),
    play: impl AsyncFn(&World),
) -> Vec<Violation> {
    let mut sound = World::new().await;
    let found = run(&mut sound, &object, |_| (), &play).await;
    assert!(found.is_empty(), "with a sound controller: {}", invariants::told(&found));
    let mut broken = World::new().await;
    let found = run(&mut broken, &object, &breaks, &play).await;
    assert!(
        found.iter().any(|violation| violation.guarantee == guarantee),
        "nobody noticed that guarantee {guarantee} is broken, only: {}",
        invariants::told(&found)
    );
    found
}

async fn run(
    world: &mut World,
    object: &Value,
    breaks: impl Fn(&Faults),
    play: &impl AsyncFn(&World),
) -> Vec<Violation> {
    let connection = world.api.connect(CONTROLLER);
    breaks(connection.faults());
    let sluice = world.controller_over(connection, None);
    world.create(object.clone()).await;
    play(world).await;
    drop(sluice);
    world.broken()
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

// === what is changed on its way ===

fn routes() -> When {
    When::verb(Verb::Patch).resource("virtualservices")
}

fn statuses() -> When {
    When::verb(Verb::Patch).resource("rollouts/status")
}

/// Changes every status that the controller writes.
fn in_status(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Tamper {
    Tamper::with(move |patch| {
        let operations = patch.as_array_mut().into_iter().flatten();
        for operation in operations.filter(|operation| operation["path"] == "/status") {
            change(&mut operation["value"]);
        }
    })
}

/// Changes the weights that the controller writes: by the index of the destination, and the weight.
fn in_weights(change: impl Fn(usize, u64) -> u64 + Send + Sync + 'static) -> Tamper {
    Tamper::with(move |patch| {
        for operation in patch.as_array_mut().into_iter().flatten() {
            let path = operation["path"].as_str().unwrap_or_default().to_owned();
            let place = path.split("/route/").nth(1).and_then(|rest| rest.split('/').next());
            let Some(place) = place.and_then(|place| place.parse().ok()) else { continue };
            let value = &mut operation["value"];
            if path.ends_with("/weight") {
                *value = change(place, value.as_u64().unwrap()).into();
            } else if let Some(weight) = value["weight"].as_u64() {
                value["weight"] = change(place, weight).into();
            }
        }
    })
}

/// Does that to what mentions `word`.
fn where_it_says(word: &'static str, tamper: Tamper) -> Tamper {
    Tamper::with(move |body| {
        if body.to_string().contains(word) {
            tamper.change(body);
        }
    })
}

/// One more operation of a patch.
fn and(operation: Value) -> Tamper {
    Tamper::with(move |patch| patch.as_array_mut().unwrap().push(operation.clone()))
}

/// Without the operations on paths that contain `part`.
fn without(part: &'static str) -> Tamper {
    Tamper::with(move |patch| {
        patch.as_array_mut().unwrap().retain(|operation| !operation["path"].as_str().unwrap().contains(part));
    })
}

/// Changes an object of this kind wherever the controller is told about it.
fn is_told(faults: &Faults, plural: &str, change: impl Fn(&mut Value) + Clone + Send + Sync + 'static) {
    let in_event = change.clone();
    faults.on_event(When::any().resource(plural), EventThen::Tamper(Tamper::with(in_event)));
    let in_answer = Tamper::with(move |answer| match answer["items"].as_array_mut() {
        Some(items) => items.iter_mut().for_each(&change),
        None => change(answer),
    });
    faults.on(When::any().resource(&format!("{plural}/*")), Then::TamperAnswer(in_answer));
}

/// Puts a value in the place of another, if there is one.
fn put(object: &mut Value, pointer: &str, value: impl Into<Value>) {
    if let Some(place) = object.pointer_mut(pointer) {
        *place = value.into();
    }
}

/// Every endpoint of a Service is ready, it is told.
fn told_ready(faults: &Faults, service: &'static str) {
    is_told(faults, "endpointslices", move |slice| {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] == service {
            for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
                endpoint["conditions"]["ready"] = true.into();
            }
        }
    });
}

#[test]
fn every_guarantee_has_a_controller_that_breaks_it() {
    let files = [include_str!("people.rs"), include_str!("record.rs"), include_str!("traffic.rs")];
    for guarantee in 1..=16 {
        let call = format!("is_caught({guarantee},");
        let apart = format!("// breaks {guarantee}");
        let there = files.iter().any(|file| {
            let joined: String = file.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
            joined.contains(&call) || joined.contains(&apart)
        });
        assert!(there, "nobody breaks guarantee {guarantee}");
    }
}
