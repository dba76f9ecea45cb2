//! Two subsets of one Service, told apart by the labels of their pods.

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use sluice_lab::real::{Answer, wait};

use crate::lab::{GATEWAY, LIMIT, Lab};
use crate::shares::none_failed;
use crate::world::{IRIS, ROUTE, World, same};

pub async fn a_subset_gets_users_when_its_own_pods_are_ready(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "subsets").await?;
    world.service(IRIS).await?;
    world.join(IRIS, "v1", &[("version", "v1")], true).await?;
    world.join(IRIS, "v2", &[("version", "v2")], false).await?;
    let subset = |name: &str| json!({"name": name, "labels": {"version": name}});
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": IRIS},
        "spec": {"host": IRIS, "subsets": [subset("v1"), subset("v2")]},
    });
    world.create("networking.istio.io", "v1", &rule).await?;
    let route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": IRIS},
        "spec": {"hosts": [world.host()], "gateways": [GATEWAY], "http": [{
            "name": ROUTE,
            "route": [{"destination": {"host": IRIS, "subset": "v1", "port": {"number": 8000}}}],
        }]},
    });
    world.create("networking.istio.io", "v1", &route).await?;
    world.routed().await?;
    let users = world.users().rate(280.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let mut rollout = world.rollout("v2", json!([{"weight": 40, "for": "1s", "approve": true}]));
    rollout["spec"]["target"] = json!({"service": {"name": IRIS, "subset": "v2"}});
    // What predictors export says of which Service they are, and not of which subset.
    rollout["spec"]["checks"] = json!([]);
    world.create_rollout(&rollout).await?;

    world.status_is("it waits for the subset", |status| status["reason"] == "CanaryNotReady").await?;
    let before = users.so_far().len();
    wait::until(LIMIT, "users are served meanwhile", || {
        let since = users.so_far().len() - before;
        std::future::ready(if since >= 200 { Ok(()) } else { Err(since.to_string()) })
    })
    .await?;
    let by = Answer::by_predictor(&users.so_far());
    same("who answered until then", &by.into_keys().collect::<Vec<_>>(), &vec!["iris-v1".to_owned()])?;

    world.set_ready("v2", true).await?;
    observed.sent(&users, "iris#v2", 40, 2000).await?;
    world.approve().await?;
    // What says when stable is quiet does not tell subsets apart: it leaves minutes later.
    world.status_is("the subset has all", |status| status["reason"] == "Promoting").await?;
    world.obeyed(&observed, "iris#v2", 100).await?;
    world.answered_by(&world.users(), "iris-v2").await?;
    for (subset, weights) in [("iris#v1", [100, 60, 0]), ("iris#v2", [0, 40, 100])] {
        same(&format!("what Envoy did with {subset}"), &observed.sequence(subset), &weights.to_vec())?;
    }
    for (subset, predictor, weight) in [("iris#v1", "iris-v1", 60), ("iris#v2", "iris-v2", 40)] {
        observed.share_is_over(&users, (subset, predictor), weight, 2000)?;
    }
    none_failed(&users.stop().await)?;
    world.end(controller)
}
