//! `sluice simulate` and the controller, side by side: the same Rollout and the same scenario give the same decisions, in the
//! same order, and each at the same time but for what looks and scrapes take.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sluice::metrics::{Config, Metrics};
use sluice_core::{
    api::RolloutSpec,
    plan::Plan,
    simulate::{Scenario, simulate},
};
use sluice_lab::prometheus::{Misbehaviour, Prometheus};

use crate::world::{HOST, World};

/// How often Prometheus scrapes and the controller looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// So much later or earlier a decision may be: what a look sees was scraped up to an interval before, a look comes up to an
/// interval after what it is to see, and both may meet the next step.
const TOLERATED: Duration = Duration::from_secs(15);

/// A decision: what, of which step, to which weight.
type Decided = (String, Value, i64);

fn spec() -> Value {
    json!({
        "target": {"service": {"name": "iris-v2"}},
        "routes": [{"virtualService": "iris", "http": ["primary"]}],
        "steps": [{"weight": 20, "for": "60s"}, {"weight": 50, "for": "60s"}],
        "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 20}, "consecutiveFailures": 2}],
        "interval": "5s", "settle": "5s", "inconclusive": {"limit": "10m"},
    })
}

fn scenario(more: &Value) -> Scenario {
    let mut all = json!({"requests": 10, "lasts": "1h"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let scenario: Scenario = serde_json::from_value(all).unwrap();
    scenario.check().unwrap();
    scenario
}

/// What `simulate` says.
fn rehearsed(scenario: &Scenario) -> Vec<(Duration, Decided)> {
    let spec: RolloutSpec = serde_json::from_value(spec()).unwrap();
    let timeline = simulate(&Plan::new(&spec, "models").unwrap(), scenario, None);
    let told = |decision| {
        let decision = serde_json::to_value(decision).unwrap();
        decided(&decision)
    };
    timeline.decisions.iter().map(|(at, decision)| (*at, told(decision))).collect()
}

fn decided(decision: &Value) -> Decided {
    let kind = decision["kind"].as_str().unwrap().to_owned();
    (kind, decision["step"].clone(), decision["weight"].as_i64().unwrap())
}

/// What the controller does when the same happens, until it stands as it should.
async fn controlled(scenario: &Scenario, (phase, reason): (&str, &str)) -> Vec<(Duration, Decided)> {
    let world = World::without_routes().await.in_steps_of(Duration::from_millis(20));
    world.scene.virtual_service("iris", HOST, &[("iris-v1", Some(100))]).await.unwrap();
    let world = world.with_users(scenario.requests);
    let clock = world.clock;
    let prometheus = Prometheus::start(INTERVAL, move || clock.now()).unwrap();
    let gateway = world.gateway.clone();
    prometheus.scrapes(&[], move || gateway.metrics());
    if let Some(errors) = scenario.canary.errors {
        world.fails(errors.fraction());
    }
    let rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"}, "spec": spec(),
    });
    world.create(rollout).await;
    let _sluice =
        world.controller_asking(Metrics::new(Config::prometheus(&prometheus.url()).unwrap()).unwrap());
    let mut now = Duration::ZERO;
    for event in &scenario.events {
        tokio::time::sleep(event.at.0.saturating_sub(now)).await;
        now = event.at.0;
        match event.metrics {
            Some(true) => {
                world.metrics_are_out(false);
                prometheus.behaves().unwrap();
            }
            Some(false) => {
                world.metrics_are_out(true);
                prometheus.misbehaves(Misbehaviour::Refuses(503, "timeout"));
            }
            None => {}
        }
        if let Some(errors) = event.canary.as_ref().and_then(|canary| canary.errors) {
            world.fails(errors.fraction());
        }
    }
    world.stands(phase, reason).await;
    let status = world.status();
    let decisions = status["decisions"].as_array().unwrap();
    let at = |decision: &Value| decision["at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let began = at(&decisions[0]);
    decisions.iter().map(|decision| ((at(decision) - began).to_std().unwrap(), decided(decision))).collect()
}

async fn agree(more: Value, stands: (&str, &str)) {
    let scenario = scenario(&more);
    let (rehearsed, controlled) = (rehearsed(&scenario), controlled(&scenario, stands).await);
    let what =
        |all: &[(Duration, Decided)]| all.iter().map(|(_, decided)| decided.clone()).collect::<Vec<_>>();
    assert_eq!(what(&rehearsed), what(&controlled), "{rehearsed:#?}\n{controlled:#?}");
    for ((expected, decided), (at, _)) in rehearsed.iter().zip(&controlled) {
        assert!(
            expected.abs_diff(*at) <= TOLERATED,
            "{decided:?} was rehearsed at {expected:?} and made at {at:?}\n{rehearsed:#?}\n{controlled:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_canary_is_promoted_by_both() {
    agree(json!({}), ("Healthy", "Live")).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_canary_is_rolled_back_by_both() {
    agree(json!({"events": [{"at": "70s", "canary": {"errors": "40%"}}]}), ("RolledBack", "CheckFailed"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn both_wait_while_the_metrics_are_away_and_then_go_on() {
    let outage = json!({"events": [{"at": "30s", "metrics": false}, {"at": "3m", "metrics": true}]});
    agree(outage, ("Healthy", "Live")).await;
}
