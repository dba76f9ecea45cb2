//! What a VirtualService in Git delegates to Sluice, under load; and what istiod would have dropped of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::real::{AuditEntry, wait};

use crate::generated::{exposed, service, two_versions};
use crate::lab::{CONTROLLER, GATEWAY, LIMIT, Lab};
use crate::shares::{Observed, none_failed, share_is};
use crate::strategies::created;
use crate::world::{IRIS, World, same};

/// How often the tool applies what is in Git.
const EVERY: Duration = Duration::from_secs(2);

pub async fn nobody_fights_over_a_delegate(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "delegated").await?;
    two_versions(&mut world).await?;
    let controller = world.controller()?;
    let in_git = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "web"},
        "spec": {
            "hosts": [world.host()], "gateways": [GATEWAY],
            "http": [{
                "match": [{"uri": {"prefix": "/"}}],
                "delegate": {"name": IRIS, "namespace": world.namespace},
            }],
        },
    });
    let routes: Api<DynamicObject> = world.virtual_services();
    let apply = async || {
        let params = PatchParams::apply("argocd-controller").force();
        routes.patch("web", &params, &Patch::Apply(&in_git)).await
    };
    apply().await?;
    world.create_rollout(&exposed(&world, service("iris-v1"), json!({"delegate": true}))).await?;
    world.routed().await?;
    let users = world.users().rate(150.0).start();
    let observed = Observed::of_route(lab, &world.host(), "http");
    world.want("v2").await?;
    let tool = async {
        let mut applied = 0;
        loop {
            if let Err(error) = apply().await {
                return Err::<(), _>(anyhow!("after {applied} times: {error}"));
            }
            applied += 1;
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        failed = tool => failed?,
        done = async {
            world.obeyed(&observed, "iris-v2", 100).await?;
            world.phase("Healthy", "Live").await.map(drop)
        } => done?,
    }
    same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 30, 100])?;
    share_is(&observed, &users, "iris-v2", 30)?;
    none_failed(&users.stop().await)?;
    let writes = world.audit.writes_of(CONTROLLER)?;
    let of = |name: &str| -> Vec<&AuditEntry> {
        let ours = |write: &&AuditEntry| write.namespace == world.namespace && write.name == name;
        writes.iter().filter(|write| write.resource == "virtualservices").filter(ours).collect()
    };
    ensure!(of("web").is_empty(), "what is in Git was written: {:?}", of("web"));
    let decided = world.status().await?["seq"].as_u64().unwrap_or(0);
    let written = of(IRIS).len() as u64;
    // One for each decision, and one more to take the loser off the route.
    ensure!(written <= decided + 1, "{written} writes for {decided} decisions: {writes:?}");
    world.end(controller)
}

/// Git has both objects, and a release is a commit: the same files with another Service in the Rollout's target.
pub async fn the_example_of_a_delegate_is_released_by_a_commit(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "delegated-example").await?;
    two_versions(&mut world).await?;
    let rollout = created(&world, "delegate").await?;
    let mut before = rollout.clone();
    before["spec"]["target"] = service("iris-v1");
    let controller = world.controller()?;
    world.create_rollout(&before).await?;
    world.routed().await?;
    let users = world.users().rate(80.0).start();
    let observed = Observed::of_route(lab, &world.host(), "iris-http");
    world.obeyed(&observed, "iris-v2", 0).await?;
    world.edit(json!({"target": rollout["spec"]["target"]})).await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    world.phase("Healthy", "Live").await?;
    same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 10, 50, 100])?;
    none_failed(&users.stop().await)?;
    let writes = world.route_writes()?;
    let of_git: Vec<_> = writes.iter().filter(|write| write.name == "web").collect();
    ensure!(of_git.is_empty(), "what is in Git was written: {of_git:?}");
    world.end(controller)
}

/// Git changes `route` to `delegate` where users come in already. The delegate is there before, so none of them gets a 404.
pub async fn a_live_route_becomes_a_delegate_and_nobody_notices(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "delegated-later").await?;
    two_versions(&mut world).await?;
    let routes = world.virtual_services();
    let apply = async |field: &str, to: Value| {
        let http = json!([{"match": [{"uri": {"prefix": "/"}}], field: to}]);
        let spec = json!({"hosts": [world.host()], "gateways": [GATEWAY], "http": http});
        let params = PatchParams::apply("argocd-controller").force();
        routes.patch("web", &params, &Patch::Apply(&virtual_service("web", &spec))).await
    };
    apply("route", json!([{"destination": {"host": "iris-v1", "port": {"number": 8000}}}])).await?;
    world.routed().await?;
    let users = world.users().rate(150.0).start();
    let controller = world.controller()?;
    world.create_rollout(&exposed(&world, service("iris-v1"), json!({"delegate": true}))).await?;
    // It is there whether or not the controller, which sees this namespace alone, knows that nobody delegates to it.
    wait::until(LIMIT, "the delegate is there", async || match routes.get_opt(IRIS).await {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    apply("delegate", json!({"name": IRIS})).await?;
    let observed = Observed::of_route(lab, &world.host(), "http");
    world.obeyed(&observed, "iris-v1", 100).await?;
    world.want("v2").await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    world.phase("Healthy", "Live").await?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}

/// Matches of the one who delegates, beside which istiod keeps no route of a delegate that has [`leaf`].
fn conflicting() -> [Value; 4] {
    [
        json!({"uri": {"regex": "/v2/.*"}}),
        json!({"uri": {"prefix": "/v2/models/wine/"}}),
        json!({"uri": {"prefix": "/v2/"}, "ignoreUriCase": true}),
        // Of a cohort's route; the others are about any.
        json!({"uri": {"prefix": "/v2/"}, "headers": {"x-user": {}}}),
    ]
}

/// A match that a delegate has.
fn leaf() -> Value {
    json!({"uri": {"prefix": "/v2/"}, "headers": {"x-user": {"prefix": "a"}}})
}

fn virtual_service(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name}, "spec": spec,
    })
}

/// What the refusals are about: of a delegate's route that conflicts nothing is left, and users get 404. Nobody says so but
/// istiod's log.
pub async fn istiod_drops_what_conflicts_and_says_nothing(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "delegated-dropped").await?;
    world.serve("v1").await?;
    let to_v1 = json!([{"destination": {"host": "iris-v1", "port": {"number": 8000}}}]);
    let by_hand = json!({"http": [{"name": "leaf", "match": [leaf()], "route": to_v1}]});
    world.create("networking.istio.io", "v1", &virtual_service("by-hand", &by_hand)).await?;
    let gateway = &world.shared.gateway;
    for (at, outer) in conflicting().into_iter().enumerate() {
        let host = format!("{at}.{}", world.host());
        let delegate = json!({"name": "by-hand"});
        let spec = json!({
            "hosts": [host], "gateways": [GATEWAY],
            "http": [
                {"name": "dropped", "match": [outer], "delegate": delegate},
                // With these istiod has read both objects.
                {"name": "kept", "match": [{"headers": {"x-kept": {"exact": "yes"}}}], "delegate": delegate},
            ],
        });
        world.create("networking.istio.io", "v1", &virtual_service(&format!("root-{at}"), &spec)).await?;
        wait::until(LIMIT, format!("{host}: Envoy has the other route"), async || {
            let seen = gateway.weights(&host, "kept-leaf").await.map_err(|error| error.to_string())?;
            if seen.is_empty() { Err("it has not".to_owned()) } else { Ok(()) }
        })
        .await?;
        same(
            &format!("what is left beside {outer}"),
            &gateway.weights(&host, "dropped-leaf").await?,
            &vec![],
        )?;
    }
    Ok(())
}

/// Who is delegated to says what istiod would drop, and serves as soon as that is mended.
pub async fn what_istiod_would_drop_is_refused(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "delegated-refused").await?;
    two_versions(&mut world).await?;
    let routes = world.virtual_services();
    let root = |outer: &Value| {
        let route = json!({"match": [outer], "delegate": {"name": IRIS}});
        virtual_service("web", &json!({"hosts": [world.host()], "gateways": [GATEWAY], "http": [route]}))
    };
    let apply = async |outer: &Value| {
        let params = PatchParams::apply("argocd-controller").force();
        routes.patch("web", &params, &Patch::Apply(&root(outer))).await
    };
    let said = |status: &Value| status["message"].as_str().unwrap_or_default().to_owned();
    apply(&conflicting()[0]).await?;
    let controller = world.controller()?;
    let expose = json!({"delegate": true, "prefix": "/v2/", "rewrite": "/v2/"});
    world.create_rollout(&exposed(&world, service("iris-v1"), expose)).await?;
    for (outer, field) in conflicting().iter().zip(["uri", "uri", "ignoreUriCase"]) {
        apply(outer).await?;
        let expected = format!("delegates to {}/{IRIS} with a match of {field} ", world.namespace);
        world
            .status_is(&format!("{outer} is refused"), |status| {
                status["reason"] == "DelegateConflict" && said(status).contains(&expected)
            })
            .await?;
        ensure!(routes.get_opt(IRIS).await?.is_none(), "it was made beside {outer}");
        same("answers", &world.users().ask(1).await.remove(0).status, &404)?;
    }
    apply(&json!({"uri": {"prefix": "/"}})).await?;
    world.phase("Healthy", "Live").await?;
    world.routed().await?;
    world.end(controller)
}
