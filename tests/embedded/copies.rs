//! A predictor that only got copies is done when no more of them arrive: those who send them do not count them.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::metrics::{Config, Metrics};
use sluice_lab::{gateway::Load, prometheus::Prometheus};

use crate::world::{World, rollout, same};

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
