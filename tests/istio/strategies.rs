//! The strategies of `examples/` as users see them, with their times shortened, a gate where copies are counted, and nothing
//! else changed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use sluice_lab::real::{Answer, Answers};
use tokio::time::Instant;

use crate::controller::Controller;
use crate::lab::Lab;
use crate::modes::{all_by, answered, copies_are};
use crate::shares::{MARGIN, Observed, none_failed};
use crate::world::{IRIS, World, same};

/// What becomes of an example.
struct Strategy {
    /// The file in `examples/`, without `.yaml`.
    name: &'static str,
    /// The canary's weights as Envoy has them, one after the other.
    weights: &'static [u64],
    /// The percentages of copies that it gets before it gets any weight, one after the other.
    copies: &'static [f64],
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
    let strategy = Strategy {
        name: "shadow",
        weights: &[0],
        copies: &[100.0],
        end: "Observed",
        stable: "iris-v1",
        ..PROMOTED
    };
    run(lab, &strategy).await
}

pub async fn shadow_then_promote(lab: &Arc<Lab>) -> Result<()> {
    let (weights, copies) = (&[0, 10, 50, 100], &[10.0, 100.0]);
    run(lab, &Strategy { name: "shadow-then-promote", weights, copies, ..PROMOTED }).await
}

const PROMOTED: Strategy = Strategy {
    name: "",
    weights: &[0, 100],
    copies: &[],
    person: &[],
    end: "Promoted",
    stable: "iris-v2",
    header: None,
};

/// Copies are counted over so many requests of users.
const COUNTED: u64 = 400;

async fn run(lab: &Arc<Lab>, strategy: &Strategy) -> Result<()> {
    let running = Running::start(lab, strategy, strategy.name).await?;
    let world = &running.world;
    for percentage in strategy.copies {
        let waits = |status: &Value| {
            status["reason"] == "WaitingForApproval" && status["beside"]["mirror"] == *percentage
        };
        world.status_is(&format!("it waits while {percentage}% are copied"), waits).await?;
        copies_are(world, *percentage, COUNTED).await?;
        world.says(&["approve", IRIS, "--reason", "the copies are counted"]).await?;
    }
    for (reason, words) in strategy.person {
        world.phase("Waiting", reason).await?;
        world.says(&[*words, &["--reason", "as the example says"]].concat()).await?;
    }
    running.ends(strategy).await?;
    let (some, world, controller) = running.leave().await?;
    if let Some(answers) = some {
        let first = answers.iter().find(|answer| answer.by == "iris-v2");
        let first = first.context("the cohort never saw the new version")?;
        // Envoy's workers learn of a change one by one, within this.
        let settled = first.sent + first.took + MARGIN;
        let back = answers.iter().find(|answer| answer.by == "iris-v1" && answer.sent > settled);
        ensure!(back.is_none(), "the cohort went back to the old version: {back:?} after {first:?}");
    }
    world.end(controller)
}

/// From the bake, when green has had everybody for a while: blue is warm, so nobody waits and nothing fails.
pub async fn blue_green_goes_back_at_once(lab: &Arc<Lab>) -> Result<()> {
    let strategy = Strategy {
        name: "blue-green",
        weights: &[0, 100, 0],
        end: "RolledBack",
        stable: "iris-v1",
        header: Some(("x-preview", "green")),
        ..PROMOTED
    };
    let running = Running::start(lab, &strategy, "blue-green-back").await?;
    let world = &running.world;
    world.phase("Waiting", "WaitingForApproval").await?;
    world.says(&["approve", IRIS, "--reason", "the preview looks right"]).await?;
    world.obeyed(&running.observed, "iris-v2", 100).await?;
    let switched = Instant::now() + MARGIN;
    all_by("everybody, in the bake", &answered(&running.users, switched, 100).await?, "iris-v2")?;
    let bakes = |status: &Value| status["reason"] == "WaitingForApproval" && status["weight"] == 100;
    world.status_is("the bake waits for a person", bakes).await?;

    world.says(&["abort", IRIS, "--reason", "complaints"]).await?;
    world.obeyed(&running.observed, "iris-v2", 0).await?;
    let back = Instant::now() + MARGIN;
    all_by("everybody, after the abort", &answered(&running.users, back, 200).await?, "iris-v1")?;
    let previewers = running.some.as_ref().context("nobody previews")?;
    all_by("who previewed, after the abort", &answered(previewers, back, 50).await?, "iris-v1")?;
    let status = world.phase("RolledBack", "Aborted").await?;
    ensure!(status["message"].as_str().is_some_and(|said| said.contains("complaints")), "{status}");
    running.ends(&strategy).await?;
    let (_, world, controller) = running.leave().await?;
    world.end(controller)
}

/// An example that runs, and its users.
struct Running<'a> {
    world: World<'a>,
    observed: Observed,
    users: Answers,
    /// Those for whom there is a preview or a cohort.
    some: Option<Answers>,
    controller: Controller,
}

impl<'a> Running<'a> {
    async fn start(lab: &'a Arc<Lab>, strategy: &Strategy, namespace: &str) -> Result<Self> {
        let mut world = World::empty(lab, &format!("strategy-{namespace}")).await?;
        world.serve("v1").await?;
        world.serve("v2").await?;
        let rollout = created(&world, strategy.name).await?;
        world.scraped().await?;
        world.routed().await?;
        let users = world.users().rate(80.0).start();
        let some = strategy.header.map(|(name, value)| world.users().header(name, value).rate(40.0).start());
        let observed = world.observe(lab);
        let controller = world.controller()?;
        world.create_rollout(&rollout).await?;
        Ok(Self { world, observed, users, some, controller })
    }

    /// It ends as it should, and Envoy went all the way.
    async fn ends(&self, strategy: &Strategy) -> Result<()> {
        let what = format!("it ends with {}", strategy.end);
        self.world
            .status_is(&what, |status| {
                let decisions = status["decisions"].as_array().into_iter().flatten();
                decisions.clone().any(|decision| decision["kind"] == strategy.end)
            })
            .await?;
        self.world.only(strategy.stable).await?;
        let all = if strategy.stable == "iris-v2" { 100 } else { 0 };
        self.world.obeyed(&self.observed, "iris-v2", all).await?;
        same("what Envoy did", &self.observed.sequence("iris-v2"), &strategy.weights.to_vec())
    }

    /// Nobody asks any more, and of all requests none failed; those of the users for whom there was a preview or a cohort.
    async fn leave(self) -> Result<(Option<Vec<Answer>>, World<'a>, Controller)> {
        none_failed(&self.users.stop().await)?;
        let some = match self.some {
            Some(some) => Some(some.stop().await),
            None => None,
        };
        some.as_deref().map_or(Ok(()), none_failed)?;
        Ok((some, self.world, self.controller))
    }
}

/// The objects of an example.
/// Creates the routes of an example, whose Services are there with pods behind them; its Rollout, for people with little time.
pub async fn created(world: &World<'_>, name: &str) -> Result<Value> {
    let mut rollout = None;
    for mut document in documents(name)? {
        match document["kind"].as_str() {
            // Namespaces are told apart by their hosts.
            Some("VirtualService") => {
                document["spec"]["hosts"] = json!([world.host()]);
                world.create("networking.istio.io", "v1", &document).await?;
            }
            Some("Rollout") => rollout = Some(quick(document)),
            _ => {}
        }
    }
    rollout.ok_or_else(|| anyhow!("no Rollout in the example {name}"))
}

fn documents(name: &str) -> Result<Vec<Value>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

/// The same Rollout for people with little time, by the metrics that there are: upstream Envoy has none of Istio's. While
/// copies are made it waits.
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
        if step.contains_key("mirror") {
            step.insert("approve".to_owned(), json!(true));
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
