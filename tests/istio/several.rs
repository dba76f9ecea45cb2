//! One Rollout that moves several routes of several VirtualServices, each with users of its own.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::real::{AuditEntry, Users, wait};

use crate::lab::{CONTROLLER, GATEWAY, LIMIT, Lab};
use crate::oracle;
use crate::shares::{Observed, none_failed, share_is_over};
use crate::world::{IRIS, ROUTE, World, same};

/// The second VirtualService. What is decided by name decides for the first one.
const WEB: &str = "web";
/// The second route of the first VirtualService.
const BATCH: &str = "batch";

fn to(stable: i64, canary: i64) -> Value {
    let entry = |host: &str, weight: i64| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight});
    match canary {
        0 => json!([entry("iris-v1", stable)]),
        _ => json!([entry("iris-v1", stable), entry("iris-v2", canary)]),
    }
}

/// The second VirtualService's host.
fn web_host(world: &World<'_>) -> String {
    format!("{WEB}.{}", world.host())
}

/// `iris` with a second route for those who send a header, and `web` with one route.
async fn routes(world: &World<'_>) -> Result<()> {
    let batch =
        json!({"name": BATCH, "match": [{"headers": {"x-batch": {"exact": "yes"}}}], "route": to(100, 0)});
    let mut first = world.virtual_service();
    let own = first["spec"]["http"][0].take();
    first["spec"]["http"] = json!([batch, own]);
    world.replace_route(first).await?;
    let second = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": WEB},
        "spec": {
            "hosts": [web_host(world)], "gateways": [GATEWAY],
            "http": [{"name": ROUTE, "route": to(100, 0)}],
        },
    });
    world.create("networking.istio.io", "v1", &second).await.map(drop)
}

/// What a hand makes of the first route of a VirtualService.
async fn by_hand(world: &World<'_>, name: &str, weights: Value) -> Result<()> {
    let patch = json!([{"op": "replace", "path": "/spec/http/0/route", "value": weights}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    world.virtual_services().patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The canary's weight on a route of a VirtualService.
async fn weight(world: &World<'_>, name: &str, route: &str) -> Result<i64> {
    let object = serde_json::to_value(world.virtual_services().get(name).await?)?;
    Ok(oracle::weights(&object, route).get("iris-v2").copied().unwrap_or(0))
}

pub async fn every_route_gets_the_weights_and_what_falls_falls_first(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "several").await?;
    routes(&world).await?;
    let [own, batch] = [world.users(), world.users().header("x-batch", "yes")];
    let web = Users::infer(world.shared.entry(), &web_host(&world), IRIS);
    for users in [&own, &batch, &web] {
        world.routed_for(users).await?;
    }
    let observed = [
        world.observe(lab),
        Observed::of_route(lab, &world.host(), BATCH),
        Observed::of_route(lab, &web_host(&world), ROUTE),
    ];
    let users = [own, batch, web].map(|users| users.rate(125.0).start());
    let mut controller = world.controller()?;
    let steps = json!([{"weight": 20, "for": "1s", "approve": true}]);
    let mut rollout = world.rollout("v2", steps);
    rollout["spec"]["routes"] = json!([
        {"virtualService": IRIS, "http": [BATCH, ROUTE]}, {"virtualService": WEB},
    ]);
    world.create_rollout(&rollout).await?;
    world.phase("Waiting", "WaitingForApproval").await?;
    for (observed, users) in observed.iter().zip(&users) {
        observed.sent(users, "iris-v2", 20, 2000).await?;
        same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 20])?;
        share_is_over(observed, users, "iris-v2", 20, 2000)?;
    }

    // Too little in the first and too much in the second, and nobody there to see one before the other.
    controller.kill()?;
    by_hand(&world, IRIS, to(100, 0)).await?;
    by_hand(&world, WEB, to(40, 60)).await?;
    let before = writes(&world)?.len();
    controller.start_again()?;
    wait::until(LIMIT, "all routes have what was decided", || async {
        let mut seen = Vec::new();
        for (name, route) in [(IRIS, BATCH), (IRIS, ROUTE), (WEB, ROUTE)] {
            seen.push(weight(&world, name, route).await.map_err(|error| error.to_string())?);
        }
        if seen == [20, 20, 20] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    let repaired: Vec<String> = writes(&world)?.into_iter().skip(before).map(|write| write.name).collect();
    same("what was written first", &repaired.first().map(String::as_str), &Some(WEB))?;
    same("what was written then", &repaired.get(1).map(String::as_str), &Some(IRIS))?;

    world.approve().await?;
    world.phase("Healthy", "Live").await?;
    for observed in &observed {
        world.obeyed(observed, "iris-v2", 100).await?;
    }
    for users in users {
        let answers = users.stop().await;
        none_failed(&answers)?;
        let last = answers.last().ok_or_else(|| anyhow!("nobody asked"))?;
        same("who answered last", &last.by.as_str(), &"iris-v2")?;
    }
    world.end(controller)
}

/// The controller's writes to VirtualServices that changed something.
fn writes(world: &World<'_>) -> Result<Vec<AuditEntry>> {
    let mut writes = world.audit.writes_of(CONTROLLER)?;
    writes.retain(|write| {
        write.namespace == world.namespace && write.resource == "virtualservices" && write.code < 300
    });
    Ok(writes)
}
