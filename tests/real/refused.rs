//! What needs other objects to be seen is refused by the controller, by a condition that names the field or the object; and
//! nothing moves. The same for a status that somebody edited.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::oracle;
use crate::world::{IRIS, POD_PORT, ROUTE, World, brief, condition, same, same_json};

// === by the controller, where other objects matter ===

/// The Rollout is refused for this reason with all of these in the message, and nothing moved.
async fn is_refused(world: &World<'_>, spec: Value, reason: &str, expected: &[&str]) -> Result<()> {
    let before = world.route_if_any().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", spec)).await?;
    says(&world.refusal_of(IRIS).await?, reason, expected)?;
    let status = world.status().await?;
    same_json("phase", &status["phase"], &json!("Pending"))?;
    same_json("reason", &status["reason"], &json!(reason))?;
    same_json("ready", &condition(&status, "Ready")?["status"], &json!("False"))?;
    same_json("stalled", &condition(&status, "Stalled")?["status"], &json!("True"))?;
    for turn in 0..3 {
        let looks = controller.looks()?;
        world.touch_rollout(turn).await?;
        world.until_looks(&controller, looks + 1).await?;
    }
    same_json("the VirtualService", &world.route_if_any().await?, &before)?;
    let touched: Vec<_> =
        world.writes()?.into_iter().filter(|write| write.resource == "virtualservices").collect();
    ensure!(touched.is_empty(), "it wrote: {touched:?}");
    world.end(controller).await
}

fn says(refusal: &Value, reason: &str, expected: &[&str]) -> Result<()> {
    same_json("reason", &refusal["reason"], &json!(reason))?;
    let message = refusal["message"].as_str().unwrap_or_default();
    for part in expected {
        ensure!(message.contains(part), "{message:?} lacks {part:?}");
    }
    Ok(())
}

pub async fn a_query_that_is_not_valid(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "refused-query").await?;
    let spec = json!({
        "steps": [{"weight": 10, "for": "1h"}],
        "checks": [
            {"name": "errors", "errors": {"max": "1%"}},
            {"name": "accuracy", "query": {"promql": "avg(model_accuracy{service=\"{{canary.service}}\"}", "min": 0.9}},
        ],
    });
    is_refused(
        &world,
        spec,
        "InvalidQuery",
        &["spec.checks[1].query.promql: ", "parse error: unclosed left parenthesis"],
    )
    .await
}

pub async fn a_query_with_an_unknown_variable(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "refused-variable").await?;
    let spec = json!({
        "steps": [{"weight": 10, "for": "1h"}],
        "checks": [{"name": "accuracy", "query": {"promql": "a{s=\"{{canary.servce}}\"}", "min": 0.9}}],
    });
    is_refused(&world, spec, "InvalidQuery", &["spec.checks[0].query.promql: ", "canary.servce"]).await
}

pub async fn an_unknown_metrics_source(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "refused-source").await?;
    let spec = json!({
        "steps": [{"weight": 10, "for": "1h"}],
        "checks": [{"name": "errors", "errors": {"max": "1%"}}],
        "metrics": {"source": "thanos"},
    });
    is_refused(&world, spec, "UnknownSource", &["spec.metrics", "\"thanos\"", "it knows default"]).await
}

pub async fn what_this_version_does_not_do(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "refused-unsupported").await?;
    let spec = json!({"target": {"deployment": {"name": "iris"}}});
    is_refused(&world, spec, "Unsupported", &["spec.target.deployment: not supported yet"]).await
}

pub async fn a_virtual_service_that_is_missing_until_it_is_there(lab: &Lab) -> Result<()> {
    let mut world = World::empty(lab, "refused-no-route").await?;
    world.serve("v1").await?;
    world.serve("v2").await?;
    let expected = ["spec.routes", "there is no VirtualService iris in namespace refused-no-route"];
    is_refused(&world, json!({"steps": [{"weight": 10, "for": "1h"}]}), "VirtualServiceNotFound", &expected)
        .await?;
    let controller = world.controller()?;
    world.create("networking.istio.io", "v1", &world.virtual_service()).await?;
    world.step(1, "iris-v2", 10).await?;
    world.end(controller).await
}

pub async fn a_route_that_is_missing(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "refused-route").await?;
    let spec = json!({"routes": [{"virtualService": IRIS, "http": ["primary", "secondary"]}], "steps": [{"weight": 10}]});
    let expected =
        ["VirtualService refused-route/iris", "an http route named \"secondary\"", "found internal, primary"];
    is_refused(&world, spec, "RouteNotFound", &expected).await
}

pub async fn a_service_that_is_missing_until_it_is_there(lab: &Lab) -> Result<()> {
    let mut world = World::empty(lab, "refused-no-service").await?;
    world.serve("v1").await?;
    world.create("networking.istio.io", "v1", &world.virtual_service()).await?;
    let expected =
        ["spec.target.service.name", "there is no Service iris-v2 in namespace refused-no-service"];
    is_refused(&world, json!({"steps": [{"weight": 10, "for": "1h"}]}), "TargetNotFound", &expected).await?;
    let controller = world.controller()?;
    world.serve("v2").await?;
    world.step(1, "iris-v2", 10).await?;
    world.end(controller).await
}

pub async fn a_port_that_the_service_has_not(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "refused-port").await?;
    let spec = json!({"target": {"service": {"name": "iris-v2", "port": 9000}}, "steps": [{"weight": 10}]});
    let expected = ["spec.target.service.port", "refused-port/iris-v2 has no port 9000", "8000"];
    is_refused(&world, spec, "TargetNotFound", &expected).await
}

pub async fn two_rollouts_on_one_route(lab: &Lab) -> Result<()> {
    let mut world = World::new(lab, "refused-second").await?;
    world.serve("v3").await?;
    let controller = world.controller()?;
    // At rest: nothing is in flight on the route.
    world.create_rollout(&world.rollout("v1", json!({"steps": [{"weight": 10}]}))).await?;
    world.phase("Healthy", "Live").await?;
    let before = world.route().await?;
    let mut second = world.rollout("v3", json!({"steps": [{"weight": 10}]}));
    second["metadata"]["name"] = json!("second");
    world.create_rollout(&second).await?;
    let expected = ["VirtualService refused-second/iris", "Rollout refused-second/iris already"];
    says(&world.refusal_of("second").await?, "RouteTaken", &expected)?;
    world.stays_like_this(&controller).await?;
    let after = world.route().await?;
    same_json("the routes", &after["spec"], &before["spec"])?;
    ensure!(
        oracle::stamp(&after, "refused-second/second").is_none(),
        "it stamped a route that is not its own"
    );

    // The older one goes, and the route is free.
    world.delete_rollout().await?;
    world.weight_is("iris-v3", 10).await?;
    world.end(controller).await
}

pub async fn an_ambiguous_route(lab: &Lab) -> Result<()> {
    let mut world = World::empty(lab, "refused-ambiguous").await?;
    for version in ["v0", "v1", "v2"] {
        world.serve(version).await?;
    }
    let mut virtual_service = world.virtual_service();
    let destination =
        |host: &str| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": 50});
    virtual_service["spec"]["http"][1]["route"] = json!([destination("iris-v0"), destination("iris-v1")]);
    world.create("networking.istio.io", "v1", &virtual_service).await?;
    let expected = ["iris-v0 and iris-v1 have weight", "spec.target.service.from"];
    is_refused(&world, json!({"steps": [{"weight": 10, "for": "1h"}]}), "AmbiguousStable", &expected).await?;

    // As the message says. The other one keeps its share.
    let controller = world.controller()?;
    world.edit(json!({"target": {"service": {"from": "iris-v1"}}})).await?;
    let route = world.step(1, "iris-v2", 5).await?;
    let weights = oracle::weights(&route, ROUTE);
    same("weights", &(weights["iris-v0"], weights["iris-v1"], weights["iris-v2"]), &(50, 45, 5))?;
    world.end(controller).await
}

pub async fn a_step_that_the_share_cannot_represent(lab: &Lab) -> Result<()> {
    let mut world = World::empty(lab, "refused-share").await?;
    world.serve("v1").await?;
    world.serve("v2").await?;
    let mut virtual_service = world.virtual_service();
    virtual_service["spec"]["http"][1]["route"] = json!([
        {"destination": {"host": "others.example.com"}, "weight": 90},
        {"destination": {"host": "iris-v1", "port": {"number": 8000}}, "weight": 10},
    ]);
    world.create("networking.istio.io", "v1", &virtual_service).await?;
    // 5% of 10 is nothing.
    let spec = json!({"steps": [{"weight": 50, "for": "1h"}, {"weight": 5, "for": "1h"}]});
    let expected = ["VirtualService refused-share/iris", "spec.http[1]", "a weight of 5%", "found 10"];
    is_refused(&world, spec, "ShareTooSmall", &expected).await?;

    let controller = world.controller()?;
    world.edit(json!({"steps": [{"weight": 50, "for": "1h"}]})).await?;
    let route = world.step(1, "iris-v2", 5).await?;
    let weights = oracle::weights(&route, ROUTE);
    same("weights", &(weights["others.example.com"], weights["iris-v1"], weights["iris-v2"]), &(90, 5, 5))?;
    world.end(controller).await
}

// === a status edited by hand ===

fn held() -> Value {
    json!({"steps": [{"weight": 10, "for": "300ms"}, {"weight": 40, "for": "1h"}, {"weight": 80, "for": "1h"}]})
}

/// A rollout at its second step whose status is edited like this.
async fn edited(
    lab: &Lab,
    namespace: &str,
    edit: Value,
    then: impl AsyncFnOnce(&World<'_>) -> Result<()>,
) -> Result<()> {
    let world = World::new(lab, namespace).await?;
    let original = world.route().await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    let patch = Patch::Merge(json!({"status": edit}));
    world.rollouts().patch_status(IRIS, &PatchParams::default(), &patch).await?;
    then(&world).await?;
    world.stays_like_this(&controller).await?;
    let highest = world.sequence(&recording, "iris-v2").await?.into_iter().max();
    same("the highest weight", &highest, &Some(40))?;
    world.only_weights_moved(&recording, &original).await?;
    world.end(controller).await
}

pub async fn a_status_whose_stage_was_edited_counts_as_lost(lab: &Lab) -> Result<()> {
    edited(lab, "edited-stage", json!({"stage": "nonsense"}), async |world| {
        world.phase("Stalled", "StatusLost").await?;
        world.weight_is("iris-v2", 0).await.map(drop)
    })
    .await
}

pub async fn a_status_without_its_pinned_spec_stops_the_canary(lab: &Lab) -> Result<()> {
    edited(lab, "edited-pinned", json!({"pinned": null}), async |world| {
        world.weight_is("iris-v2", 0).await?;
        let status = world.status_is("it says why", |status| status["phase"] == "Stalled").await?;
        let messages = status["decisions"].to_string();
        ensure!(messages.contains("pinned"), "{}", brief(&status));
        Ok(())
    })
    .await
}

pub async fn a_step_raised_by_hand_raises_no_traffic(lab: &Lab) -> Result<()> {
    edited(lab, "edited-step", json!({"stage": {"step": {"index": 2}}}), async |world| {
        world.phase("Stalled", "StatusLost").await?;
        world.weight_is("iris-v2", 0).await.map(drop)
    })
    .await
}

pub async fn what_is_only_shown_is_put_right(lab: &Lab) -> Result<()> {
    let edit = json!({"weight": 99, "phase": "Healthy", "message": "all is well", "step": "9/9"});
    edited(lab, "edited-shown", edit, async |world| {
        let status = world.status_is("the weight is shown", |status| status["weight"] == 40).await?;
        same_json("phase", &status["phase"], &json!("Progressing"))?;
        same_json("step", &status["step"], &json!("2/3"))?;
        world.weight_is("iris-v2", 40).await.map(drop)
    })
    .await
}

pub async fn a_status_from_a_backup_takes_nothing_back(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "edited-backup").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    let mut spec = held();
    spec["checks"] = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}]);
    spec["metrics"] = json!({"scrape": {"port": POD_PORT}});
    let users = world.users(100.0);
    world.create_rollout(&world.rollout("v2", spec)).await?;
    world.step(2, "iris-v2", 40).await?;
    let backup = world.status().await?;
    world.predictor("v2").set_errors(0.5);
    world.phase("RolledBack", "CheckFailed").await?;
    world.weight_is("iris-v2", 0).await?;
    drop(users);
    let patch = json!([{"op": "replace", "path": "/status", "value": backup}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    world.rollouts().patch_subresource("status", IRIS, &PatchParams::default(), &patch).await?;
    world
        .status_is("the rollback is known again", |status| {
            let outcomes = status["outcomes"].as_array().cloned().unwrap_or_default();
            outcomes.iter().any(|outcome| outcome["outcome"] == "RolledBack") && status["weight"] == 0
        })
        .await?;
    world.stays_like_this(&controller).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    world.end(controller).await
}
