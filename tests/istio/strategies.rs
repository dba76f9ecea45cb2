//! The strategies of `examples/`, with their times shortened and nothing else changed, as users see them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::shares::{MARGIN, none_failed};
use crate::world::{IRIS, World, same};

/// What becomes of an example.
struct Strategy {
    /// The file in `examples/`, without `.yaml`.
    name: &'static str,
    /// The canary's weights as Envoy has them, one after the other.
    weights: &'static [u64],
    /// What a person has to do: wait for a reason, then type this.
    person: &'static [(&'static str, &'static [&'static str])],
    /// The decision that ends it.
    end: &'static str,
    /// Who has all users then.
    stable: &'static str,
    /// What users send for whom there is a preview or a cohort.
    header: Option<(&'static str, &'static str)>,
}

const APPROVE: (&str, &[&str]) = ("WaitingForApproval", &["approve", IRIS]);

pub async fn canary(lab: &Arc<Lab>) -> Result<()> {
    let weights = &[0, 5, 25, 50, 100];
    run(lab, &Strategy { name: "canary", weights, ..PROMOTED }).await
}

pub async fn blue_green(lab: &Arc<Lab>) -> Result<()> {
    let strategy = Strategy {
        name: "blue-green",
        person: &[APPROVE, APPROVE],
        header: Some(("x-preview", "green")),
        ..PROMOTED
    };
    run(lab, &strategy).await
}

pub async fn ab_test(lab: &Arc<Lab>) -> Result<()> {
    let strategy = Strategy {
        name: "ab-test",
        weights: &[0, 50, 100],
        person: &[("WaitingForDecision", &["decide", IRIS, "--winner", "canary"])],
        header: Some(("x-group", "beta")),
        ..PROMOTED
    };
    run(lab, &strategy).await
}

pub async fn shadow(lab: &Arc<Lab>) -> Result<()> {
    run(lab, &Strategy { name: "shadow", weights: &[0], end: "Observed", stable: "iris-v1", ..PROMOTED })
        .await
}

pub async fn shadow_then_promote(lab: &Arc<Lab>) -> Result<()> {
    let weights = &[0, 10, 50, 100];
    run(lab, &Strategy { name: "shadow-then-promote", weights, ..PROMOTED }).await
}

const PROMOTED: Strategy =
    Strategy { name: "", weights: &[0, 100], person: &[], end: "Promoted", stable: "iris-v2", header: None };

async fn run(lab: &Arc<Lab>, strategy: &Strategy) -> Result<()> {
    let mut world = World::empty(lab, &format!("strategy-{}", strategy.name)).await?;
    world.serve("v1").await?;
    world.serve("v2").await?;
    let mut rollout = None;
    for mut document in documents(strategy.name)? {
        match document["kind"].as_str() {
            // Namespaces are told apart by their hosts.
            Some("VirtualService") => {
                document["spec"]["hosts"] = json!([world.host()]);
                world.create("networking.istio.io", "v1", &document).await?;
            }
            Some("Rollout") => rollout = Some(quick(document)),
            // The Services are there, with pods behind them.
            _ => {}
        }
    }
    world.scraped().await?;
    world.routed().await?;
    let users = world.users().rate(80.0).start();
    let some = strategy.header.map(|(name, value)| world.users().header(name, value).rate(40.0).start());
    let observed = world.observe(lab);
    let controller = world.controller()?;
    world.create_rollout(&rollout.ok_or_else(|| anyhow!("no Rollout in it"))?).await?;
    for (reason, words) in strategy.person {
        world.phase("Waiting", reason).await?;
        world.says(&[*words, &["--reason", "as the example says"]].concat()).await?;
    }
    world
        .status_is(&format!("it ends with {}", strategy.end), |status| {
            let decisions = status["decisions"].as_array().into_iter().flatten();
            decisions.clone().any(|decision| decision["kind"] == strategy.end)
        })
        .await?;
    world.only(strategy.stable).await?;
    let all = if strategy.stable == "iris-v2" { 100 } else { 0 };
    world.obeyed(&observed, "iris-v2", all).await?;
    same("what Envoy did", &observed.sequence("iris-v2"), &strategy.weights.to_vec())?;
    none_failed(&users.stop().await)?;
    if let Some(some) = some {
        let answers = some.stop().await;
        none_failed(&answers)?;
        let first = answers.iter().find(|answer| answer.by == "iris-v2");
        let first = first.context("the cohort never saw the new version")?;
        // Envoy's workers learn of a change one by one, within this.
        let settled = first.sent + first.took + MARGIN;
        let back = answers.iter().find(|answer| answer.by == "iris-v1" && answer.sent > settled);
        ensure!(back.is_none(), "the cohort went back to the old version: {back:?} after {first:?}");
    }
    world.end(controller)
}

fn documents(name: &str) -> Result<Vec<Value>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

/// The same Rollout for people with little time, by the metrics that there are: upstream Envoy has none of Istio's.
fn quick(mut rollout: Value) -> Value {
    let spec = &mut rollout["spec"];
    spec["interval"] = json!("500ms");
    spec["settle"] = json!("500ms");
    spec["metrics"] = json!({"source": "default", "profile": "mlserver"});
    for step in spec["steps"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for (field, short) in [("for", json!("1s")), ("minRequests", json!(10))] {
            if let Some(value) = step.get_mut(field) {
                *value = short;
            }
        }
    }
    for check in spec["checks"].as_array_mut().into_iter().flatten() {
        for indicator in ["errors", "latency"] {
            if let Some(rule) = check.get_mut(indicator).and_then(Value::as_object_mut) {
                rule.insert("minRequests".to_owned(), json!(5));
            }
        }
        // Users of a busy machine wait for its answers, which is not the canary's fault.
        if let Some(rule) = check.get_mut("latency").and_then(Value::as_object_mut) {
            rule.insert("max".to_owned(), json!("5s"));
        }
    }
    rollout
}
