//! Copies of requests: a predictor that only got copies is done when no more of them arrive, because those who send them do not
//! count them; and they end with their canary, whatever becomes of the note that says whose they are.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::metrics::{Config, Metrics};
use sluice_lab::{gateway::Load, prometheus::Prometheus, scene::eventually};

use crate::{
    oracle,
    world::{HOST, LIMIT, Sluice, World, rollout, same, summary},
};

/// How often Prometheus scrapes and the controller looks.
const INTERVAL: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_shadow_leaves_when_no_more_copies_arrive() {
    let world = World::without_routes().await.in_steps_of(Duration::from_millis(20));
    world.scene.virtual_service("iris", crate::world::HOST, &[("iris-v1", Some(100))]).await.unwrap();
    // Somebody else copies to it as well, and goes on.
    let to = |host: &str| json!({"host": host, "port": {"number": 8000}});
    world
        .create(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "audit"},
            "spec": {"hosts": ["audit.example.com"], "http": [
                {"route": [{"destination": to("iris-v1")}], "mirrors": [{"destination": to("iris-v2")}]},
            ]},
        }))
        .await;
    let world = world.with_users(6.0);
    let others = Load::infer("audit.example.com", "iris").rate(6.0).start(&world.gateway);
    let (clock, gateway) = (world.clock, world.gateway.clone());
    let prometheus = Prometheus::start(INTERVAL, move || clock.now()).unwrap();
    prometheus.scrapes(&[], move || gateway.metrics());

    let mut shadow = rollout(&json!([{"mirror": 100, "for": "30s"}]));
    shadow["spec"]["finish"] = "KeepStable".into();
    shadow["spec"]["interval"] = "5s".into();
    shadow["spec"]["settle"] = "5s".into();
    shadow["spec"]["metrics"] = json!({"source": "default", "profile": "istio"});
    world.create(shadow).await;
    let metrics = Metrics::new(Config::prometheus(&prometheus.url()).unwrap()).unwrap();
    let _sluice = world.controller_asking(metrics);
    world.stands("Healthy", "Observed").await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    same(&world.status()["retiring"].is_null(), &false, "that it has left while copies arrive");

    others.stop().await;
    let since = world.now();
    world.sees("it has left", |status| status["retiring"] == Value::Null).await;
    let took = world.now() - since;
    assert!(took.num_seconds() < 60, "it left {took} after the last copy");
}

/// What the owner of the route mirrors to before anything is rolled out.
fn owners() -> Value {
    json!([{"destination": {"host": "audit"}, "percentage": {"value": 10}}])
}

/// The owner's, and ours of 10% behind them.
fn with_ours(mut owners: Value) -> Value {
    let ours =
        json!({"destination": {"host": "iris-v2", "port": {"number": 8000}}, "percentage": {"value": 10}});
    owners.as_array_mut().unwrap().push(ours);
    owners
}

async fn mirrors_are(world: &World, expected: &Value) {
    let look = || async {
        let seen = oracle::managed(&world.virtual_service())["mirrors"].clone();
        if seen == *expected { Ok(()) } else { Err(format!("{seen}, {}", summary(&world.status()))) }
    };
    eventually(LIMIT, "the route has these mirrors", look).await.unwrap();
}

fn note(world: &World) -> Value {
    world.virtual_service()["metadata"]["annotations"]["sluice.dev/mirrors"].clone()
}

/// A route with these mirrors of its owner's, and a Rollout that copies 10%.
async fn copying(owners: &Value) -> (World, Sluice) {
    let world = World::without_routes().await;
    world
        .create(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "iris"},
            "spec": {"hosts": [HOST], "http": [{
                "name": "primary", "mirrors": owners,
                "route": [{"destination": {"host": "iris-v1", "port": {"number": 8000}}}],
            }]},
        }))
        .await;
    world.create(rollout(&json!([{"mirror": 10, "for": "10m"}]))).await;
    let sluice = world.controller();
    mirrors_are(&world, &with_ours(owners.clone())).await;
    (world, sluice)
}

#[tokio::test(start_paused = true)]
async fn copies_whose_note_is_lost_are_noted_again_and_end_with_the_rollout() {
    let (world, _sluice) = copying(&owners()).await;
    let noted = note(&world);
    for lost in [json!({"sluice.dev/mirrors": null}), Value::Null] {
        world.patch_virtual_service(json!({"metadata": {"annotations": lost}})).await;
        let look = || async { if note(&world) == noted { Ok(()) } else { Err(note(&world)) } };
        eventually(LIMIT, "they are noted again", look).await.unwrap();
        mirrors_are(&world, &with_ours(owners())).await;
    }
    world.ask("Abort", "stop").await;
    world.stands("RolledBack", "Aborted").await;
    mirrors_are(&world, &owners()).await;
    same(&note(&world), &Value::Null, "the note");
}

#[tokio::test(start_paused = true)]
async fn copies_end_with_the_rollout_though_their_note_was_lost_while_nobody_looked() {
    let stripped = || json!({"sluice.dev/mirrors": null});
    for (lost, way) in [
        (stripped(), "Abort"),
        (Value::Null, "Abort"),
        (json!({"sluice.dev/mirrors": "{"}), "Abort"),
        (stripped(), "PromoteFull"),
        (Value::Null, "PromoteFull"),
    ] {
        let (world, sluice) = copying(&owners()).await;
        drop(sluice);
        world.patch_virtual_service(json!({"metadata": {"annotations": lost}})).await;
        world.ask(way, "end").await;
        let _sluice = world.controller();
        match way {
            "Abort" => world.stands("RolledBack", "Aborted").await,
            _ => world.stands("Healthy", "Live").await,
        }
        mirrors_are(&world, &owners()).await;
        same(&note(&world), &Value::Null, "the note");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_copied_to_the_canary_before_stays_after_it() {
    let bare = json!({"destination": {"host": "iris-v2"}});
    let share = |percent: u8| {
        let to = json!({"host": "iris-v2", "port": {"number": 8000}});
        json!({"destination": to, "percentage": {"value": percent}})
    };
    // The last is the same as ours.
    let owners = json!([bare, share(7), share(10)]);
    let (mut world, sluice) = copying(&owners).await;
    drop(sluice);
    world.patch_virtual_service(json!({"metadata": {"annotations": {"sluice.dev/mirrors": null}}})).await;
    world.ask("Abort", "stop").await;
    let _sluice = world.controller();
    world.stands("RolledBack", "Aborted").await;
    mirrors_are(&world, &owners).await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    mirrors_are(&world, &owners).await;
    // The checker takes all copies that a canary gets for those of its step.
    let others: Vec<_> =
        world.broken().into_iter().filter(|found| !matches!(found.guarantee, 4 | 13)).collect();
    assert!(others.is_empty(), "{others:?}");
}
