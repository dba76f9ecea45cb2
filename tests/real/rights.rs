//! The rights in `deploy/` are the least that works: with all of them everything does, and whichever is taken away, the
//! controller says what it may not do, in words that name the right.
//!
//! The rights are read from the manifest. For each verb of each resource there is a user who has all the others, a
//! namespace, and a controller that does the whole job there.

use std::fs;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::stream::{self, StreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_core::api::Do;
use sluice_lab::real::wait;

use crate::controller::{Controller, LEASE_DURATION};
use crate::install::repository;
use crate::lab::{LIMIT, Lab, Shared};
use crate::reports;
use crate::world::{IRIS, POD_PORT, World};

/// Who has all rights of the controller. Not the controller's own name, under which other tests run on clusters that are
/// made to refuse it.
const WITH_ALL: &str = "with-all";

/// Jobs at the same time: each is mostly waiting.
const AT_ONCE: usize = 10;

/// One verb on one resource, as a rule of the manifest grants it.
#[derive(Clone, Debug)]
struct Right {
    /// Index of the document and of the rule in it.
    document: usize,
    rule: usize,
    group: String,
    resource: String,
    verb: String,
}

impl Right {
    /// As the server says it of whoever has it not.
    fn refused_as(&self, user: &str) -> Vec<String> {
        let Self { resource, verb, .. } = self;
        vec!["forbidden".to_owned(), format!("User \"{user}\" cannot {verb} resource \"{resource}\"")]
    }
}

fn manifest() -> Result<Vec<Value>> {
    let file = repository().join("deploy/base/rbac.yaml");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn rights(manifest: &[Value]) -> Vec<Right> {
    let mut all = Vec::new();
    for (document, object) in manifest.iter().enumerate() {
        for (rule, granted) in object["rules"].as_array().into_iter().flatten().enumerate() {
            for group in texts(&granted["apiGroups"]) {
                for resource in texts(&granted["resources"]) {
                    for verb in texts(&granted["verbs"]) {
                        let (group, resource) = (group.clone(), resource.clone());
                        all.push(Right { document, rule, group, resource, verb });
                    }
                }
            }
        }
    }
    all
}

/// The manifest for another user, who has all rights but `without`.
fn given_to(manifest: &[Value], user: &str, without: Option<&Right>) -> Vec<Value> {
    let renamed = |name: &Value| json!(format!("{}-{user}", name.as_str().unwrap_or_default()));
    let mut documents = Vec::new();
    for (index, document) in manifest.iter().enumerate() {
        let mut document = document.clone();
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "ServiceAccount" {
            continue;
        }
        document["metadata"]["name"] = renamed(&document["metadata"]["name"]);
        if kind.ends_with("Binding") {
            document["roleRef"]["name"] = renamed(&document["roleRef"]["name"]);
            document["subjects"] =
                json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]);
        }
        if let Some(right) = without.filter(|right| right.document == index) {
            split(&mut document["rules"], right);
        }
        documents.push(document);
    }
    documents
}

/// Takes one right out of the rules and leaves all the others.
fn split(rules: &mut Value, right: &Right) {
    let Some(rules) = rules.as_array_mut() else { return };
    let granted = rules.remove(right.rule);
    for group in texts(&granted["apiGroups"]) {
        for resource in texts(&granted["resources"]) {
            let mut verbs = texts(&granted["verbs"]);
            if (&group, &resource) == (&right.group, &right.resource) {
                verbs.retain(|verb| *verb != right.verb);
            }
            if verbs.is_empty() {
                continue;
            }
            let mut rule = granted.clone();
            rule["apiGroups"] = json!([group]);
            rule["resources"] = json!([resource]);
            rule["verbs"] = json!(verbs);
            rules.push(rule);
        }
    }
}

fn user(number: usize) -> String {
    format!("without-{number}")
}

pub async fn the_controller_needs_every_right_that_it_has(_: &Lab) -> Result<()> {
    let manifest = manifest()?;
    let rights = rights(&manifest);
    ensure!(rights.len() > 15, "{rights:?}");
    let users = (0..rights.len()).map(user).chain([WITH_ALL.to_owned()]).collect();
    let shared = Shared::start_with(users).await?;
    let whole: Vec<String> = given_to(&manifest, WITH_ALL, None).iter().map(ToString::to_string).collect();
    shared.cluster.apply_yaml(&whole.join("\n---\n")).await?;
    for (number, right) in rights.iter().enumerate() {
        let documents = given_to(&manifest, &user(number), Some(right));
        let texts: Vec<String> = documents.iter().map(ToString::to_string).collect();
        shared.cluster.apply_yaml(&texts.join("\n---\n")).await?;
    }
    granted(&shared, &manifest, &rights).await?;
    let all = World::on(&shared, "with-all").await?;
    let complete = async {
        let outcome = job(&all, WITH_ALL).await.context("with all rights");
        let refused = reports::with(&[&format!("User \"{WITH_ALL}\" cannot")]);
        outcome?;
        ensure!(refused.is_empty(), "with all rights: {refused:?}");
        Ok(())
    };
    let shared = &shared;
    let trials = rights.iter().enumerate().map(|(number, right)| async move {
        is_needed(shared, number, right).await.with_context(|| format!("{right:?}"))
    });
    let trials: Vec<_> = trials.collect();
    let (complete, each) =
        tokio::join!(complete, stream::iter(trials).buffer_unordered(AT_ONCE).collect::<Vec<_>>());
    let failed: Vec<String> = each
        .into_iter()
        .chain([complete])
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Waits until the API server knows of all rights that were given to `WITH_ALL`: it hears of them by watching.
async fn granted(shared: &Shared, manifest: &[Value], rights: &[Right]) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(shared.cluster.admin()?);
    for right in rights {
        let attributes = ResourceAttributes {
            namespace: manifest[right.document]["metadata"]["namespace"].as_str().map(str::to_owned),
            group: Some(right.group.clone()),
            resource: Some(right.resource.split('/').next().unwrap_or_default().to_owned()),
            subresource: right.resource.split('/').nth(1).map(str::to_owned),
            verb: Some(right.verb.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(WITH_ALL.to_owned()),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        wait::until(LIMIT, format!("{right:?} is known"), async || {
            let answer = reviews.create(&PostParams::default(), &review).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let status = answer.status.unwrap_or_default();
            if status.allowed { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await?;
    }
    Ok(())
}

/// Without the right the controller says so; whether it can go on is another matter.
async fn is_needed(shared: &Shared, number: usize, right: &Right) -> Result<()> {
    let user = user(number);
    let world = World::on(shared, &user).await?;
    let expected = right.refused_as(&user);
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let said = async |text: &str| expected.iter().all(|part| text.contains(part));
    // What is needed last is missed last, and each part of the job has a limit of its own.
    let reported = wait::until(10 * LIMIT, format!("it says {expected:?}"), async || {
        if !reports::with(&expected).is_empty() {
            return Ok(());
        }
        let status = world.status().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        // In JSON quotes are escaped.
        if said(&status.replace("\\\"", "\"")).await { Ok(()) } else { Err("it does not") }
    });
    tokio::select! {
        reported = reported => Ok(reported?),
        done = job(&world, &user) => match done {
            Err(error) if said(&format!("{error:#}")).await => Ok(()),
            _ if !reports::with(&expected).is_empty() => Ok(()),
            Ok(()) => bail!("nobody misses it"),
            Err(error) => Err(error.context("it failed, and did not say what it lacks")),
        },
    }
}

/// Generated routes: of a SeldonDeployment that is wired, with the copy of a Rollout that guards it; of subsets of one
/// Service; and the subset of a route that is not generated.
async fn generated(world: &World<'_>) -> Result<()> {
    let namespace = &world.namespace;
    let rollout = |name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": namespace});
        json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": metadata, "spec": spec})
    };
    let fast = json!({"interval": "200ms", "settle": "200ms", "expose": {"gateways": ["served"]}});
    let with = |target: Value| {
        let mut spec = fast.clone();
        spec["target"] = target;
        spec
    };
    let subset = |name: &str| json!({"service": {"name": "iris-v1", "subset": name}});
    let mut listed =
        json!({"target": subset("nobody"), "routes": [{"virtualService": IRIS, "http": ["primary"]}]});
    listed["steps"] = json!([{"weight": 5}]);
    let objects = [
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "served", "namespace": namespace}, "spec": {"selector": {"istio": "ingressgateway"}},
        }),
        rollout("guard", with(json!({"service": {"name": "nobody"}}))),
        json!({
            "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment",
            "metadata": {
                "name": "wired", "namespace": namespace, "annotations": {"sluice.dev/rollout": "guard"},
            },
            "spec": {"predictors": [{"name": "main", "traffic": 100, "graph": {"name": "classifier"}}]},
        }),
        rollout("subsets", with(subset("v1"))),
        rollout("listed", listed),
    ];
    let texts: Vec<String> = objects.iter().map(ToString::to_string).collect();
    world.shared.cluster.apply_yaml(&texts.join("\n---\n")).await?;
    operated(world).await?;
    is(world, "wired", "Live").await?;
    is(world, "subsets", "Live").await?;
    is(world, "listed", "SubsetNotFound").await?;
    let patch = Patch::Merge(json!({"spec": {"target": subset("b")}}));
    world.rollouts().patch("subsets", &PatchParams::default(), &patch).await?;
    let rules: Api<DynamicObject> = world.api("networking.istio.io", "v1", "DestinationRule");
    wait::until(LIMIT, "the rule has both subsets", async || {
        let rule = rules.get("iris-v1").await.map_err(|error| error.to_string())?;
        let subsets = rule.data["spec"]["subsets"].as_array().map_or(0, Vec::len);
        if subsets > 1 { Ok(()) } else { Err(rule.data.to_string()) }
    })
    .await?;
    Ok(())
}

/// A SeldonDeployment whose operator owns the routes: its traffic is written.
async fn operated(world: &World<'_>) -> Result<()> {
    let namespace = &world.namespace;
    let predictor = |name: &str, traffic: u8| {
        json!({
            "name": name, "traffic": traffic, "graph": {"name": "classifier"},
            "annotations": {"seldon.io/svc-name": format!("iris-{name}")},
        })
    };
    let deployment = json!({
        "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment",
        "metadata": {"name": "operated", "namespace": namespace},
        "spec": {"predictors": [predictor("v1", 100), predictor("v2", 0)]},
    });
    let created = world.create("machinelearning.seldon.io", "v1", &deployment).await?;
    let host = format!("iris-v1.{namespace}.svc.cluster.local");
    let destination = json!({"host": host, "port": {"number": 8000}, "subset": "v1"});
    let route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "operated", "namespace": namespace, "ownerReferences": [{
            "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "name": "operated",
            "uid": created["metadata"]["uid"], "controller": true,
        }]},
        "spec": {"hosts": ["operated"], "http": [{"route": [{"destination": destination, "weight": 100}]}]},
    });
    world.create("networking.istio.io", "v1", &route).await?;
    // The operator makes this too.
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "operated-v1", "namespace": namespace},
        "spec": {"host": "iris-v1", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
    });
    world.create("networking.istio.io", "v1", &rule).await?;
    let rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "operated", "namespace": namespace},
        "spec": {
            "target": {"seldonDeployment": {"name": "operated", "predictor": "v1"}},
            "routes": [{"virtualService": "operated"}],
        },
    });
    world.create_rollout(&rollout).await?;
    is(world, "operated", "Live").await?;
    let deployments: Api<DynamicObject> = world.api("machinelearning.seldon.io", "v1", "SeldonDeployment");
    wait::until(LIMIT, "the SeldonDeployment is stamped", async || {
        let stored = deployments.get("operated").await.map_err(|error| error.to_string())?;
        let annotations = stored.metadata.annotations.unwrap_or_default();
        if annotations.contains_key("sluice.dev/stamp") { Ok(()) } else { Err(format!("{annotations:?}")) }
    })
    .await?;
    Ok(())
}

async fn is(world: &World<'_>, name: &str, reason: &str) -> Result<()> {
    wait::until(LIMIT, format!("Rollout {name} says {reason}"), async || {
        let rollout = world.rollouts().get(name).await.map_err(|error| error.to_string())?;
        let status = &rollout.data["status"];
        if status["reason"] == reason { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    Ok(())
}

/// All that the controller is for: two VirtualServices, one of another namespace, a promotion measured by scraping, an
/// approval, more actions than are kept, drift, a rollback, a deletion, the lease taken and given back.
async fn job(world: &World<'_>, user: &str) -> Result<()> {
    let mut controller = Controller::over(
        world.shared.cluster.user(user)?,
        world.shared,
        &world.namespace,
        "one",
        LEASE_DURATION,
    )?;
    let work = async {
        route_elsewhere(world).await?;
        let _users = world.users(20.0);
        let spec = json!({
            "routes": [
                {"virtualService": IRIS, "http": ["primary"]},
                {"virtualService": format!("{}/{IRIS}", elsewhere(world)), "http": ["primary"]},
            ],
            "steps": [{"weight": 20, "for": "600ms", "approve": true}, {"weight": 60, "for": "600ms"}],
            "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 1}}],
            "metrics": {"scrape": {"port": POD_PORT}},
        });
        world.create_rollout(&world.rollout("v2", spec)).await?;
        world.phase("Waiting", "WaitingForApproval").await?;
        drift(world).await?;
        world.weight_is("iris-v2", 20).await?;
        world.phase("Waiting", "WaitingForApproval").await?;
        world.approve().await?;
        world.phase("Healthy", "Live").await?;
        world.only("iris-v2").await?;
        more_actions_than_are_kept(world).await?;
        world.want("v1").await?;
        world.weight_is("iris-v1", 20).await?;
        world.ask(Do::Abort, "enough").await.map_err(|failure| anyhow!("abort: {failure}"))?;
        world.phase("RolledBack", "Aborted").await?;
        events(world).await?;
        world.delete_rollout().await?;
        gone(world).await?;
        generated(world).await
    };
    let stopped = async {
        // It ends by itself where it may not even look.
        controller.ended().await.and_then(|()| Err(anyhow!("the controller ended")))
    };
    tokio::select! {
        done = work => done?,
        ended = stopped => return ended,
    }
    controller.stop().await
}

fn elsewhere(world: &World<'_>) -> String {
    format!("{}-mesh", world.namespace)
}

/// A VirtualService of another namespace, whose owner allows this one to move it.
async fn route_elsewhere(world: &World<'_>) -> Result<()> {
    let (namespace, other) = (&world.namespace, elsewhere(world));
    let destination =
        json!({"host": format!("iris-v1.{namespace}.svc.cluster.local"), "port": {"number": 8000}});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {
                "name": IRIS, "namespace": other, "annotations": {"sluice.dev/allow-from": namespace},
            },
            "spec": {
                "hosts": [format!("{other}.example.com")],
                "http": [{"name": "primary", "route": [{"destination": destination, "weight": 100}]}],
            },
        }),
    ];
    let texts: Vec<String> = objects.iter().map(ToString::to_string).collect();
    world.shared.cluster.apply_yaml(&texts.join("\n---\n")).await?;
    Ok(())
}

/// A hand gives the canary nothing.
async fn drift(world: &World<'_>) -> Result<()> {
    let mut route = world.route().await?["spec"]["http"].take();
    for entry in route[1]["route"].as_array_mut().into_iter().flatten() {
        let stable = entry["destination"]["host"] == "iris-v1";
        entry["weight"] = json!(if stable { 100 } else { 0 });
    }
    let patch = Patch::Merge(json!({"spec": {"http": route}}));
    world.virtual_services().patch(IRIS, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Answered ones, until the oldest is gone.
async fn more_actions_than_are_kept(world: &World<'_>) -> Result<()> {
    for number in 0..21 {
        let action = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction",
            "metadata": {"name": format!("many-{number}")}, "spec": {"rollout": IRIS, "do": "Abort"},
        });
        world.create("sluice.dev", "v1alpha1", &action).await?;
    }
    wait::until(LIMIT, "20 answered actions are kept", async || {
        let actions =
            world.actions().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let open = actions.items.iter().filter(|action| action.data["status"].is_null()).count();
        match (actions.items.len(), open) {
            (20, 0) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await?;
    Ok(())
}

async fn events(world: &World<'_>) -> Result<()> {
    let events: Api<DynamicObject> = world.api("events.k8s.io", "v1", "Event");
    let listed = events.list(&ListParams::default()).await?;
    let promoted = listed.items.iter().any(|event| event.data["reason"] == "Promoted");
    ensure!(promoted, "no Event says that it was promoted");
    Ok(())
}

async fn gone(world: &World<'_>) -> Result<()> {
    wait::until(LIMIT, "the Rollout is gone", async || match world.rollouts().get_opt(IRIS).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("it is there".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    Ok(())
}
