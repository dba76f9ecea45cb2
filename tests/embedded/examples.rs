//! Every example that needs no PromQL runs to its end.

use serde_json::{Value, json};
use sluice_lab::scene::POD_PORT;

use crate::{
    oracle,
    world::{World, same},
};

/// The manifests of an example, its durations a sixtieth of what they are, measured by scraping.
fn example(name: &str) -> Vec<Value> {
    let path = format!("{}/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rollout = objects.iter_mut().find(|object| object["kind"] == "Rollout").expect("a Rollout");
    let spec = &mut rollout["spec"];
    spec["interval"] = "1s".into();
    spec["settle"] = "1s".into();
    spec["metrics"] = json!({"scrape": {"port": POD_PORT}});
    for step in spec["steps"].as_array_mut().expect("steps") {
        for pointer in ["/for", "/ramp/every"] {
            if let Some(duration) = step.pointer_mut(pointer) {
                *duration = shorter(duration.as_str().expect("a duration")).into();
            }
        }
        if let Some(requests) = step.get_mut("minRequests") {
            *requests = (requests.as_u64().expect("a number") / 10).into();
        }
    }
    objects
}

/// Minutes become seconds, hours minutes.
fn shorter(duration: &str) -> String {
    match duration.split_at(duration.len() - 1) {
        (number, "h") => format!("{number}m"),
        (number, "m") => format!("{number}s"),
        other => panic!("{other:?} in an example"),
    }
}

/// The world of an example, with its objects in it.
async fn applied(name: &str) -> World {
    let world = World::without_routes().await;
    for object in example(name) {
        match object["kind"].as_str() {
            // The world has them, with a predictor behind each.
            Some("Service") => {}
            Some("VirtualService" | "Rollout") => world.create(object).await,
            other => panic!("{other:?} in an example"),
        }
    }
    world.with_users(100.0).await
}

fn kinds(world: &World) -> Vec<String> {
    oracle::decisions(&world.api).into_iter().map(|(kind, _)| kind).collect()
}

#[tokio::test(start_paused = true)]
async fn canary_promotes_in_three_steps() {
    let world = applied("canary").await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    same(&oracle::canary_weights(&world.api), &vec![0, 5, 25, 50, 100], "the canary's weights");
    same(
        &kinds(&world),
        &["Adopted", "Started", "Entered", "Entered", "Entered", "Promoting", "Promoted"]
            .map(String::from)
            .to_vec(),
        "decisions",
    );
    oracle::check_history(&world.api);
}
