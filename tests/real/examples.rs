//! Every example as a user gets it: accepted by the API server as it stands, and run to its end with its times shortened.

use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use sluice_core::api::Do;

use crate::install::repository;
use crate::lab::Lab;
use crate::world::{World, same, same_json};

/// What becomes of an example.
pub struct Example {
    /// The file in `examples/`, without `.yaml`.
    pub name: &'static str,
    /// The canary's weights, one after the other.
    weights: &'static [i64],
    /// What a person has to do: wait for a reason, then ask for something.
    person: &'static [(&'static str, Do)],
    /// The decision that ends it.
    end: &'static str,
    /// Who is stable then.
    stable: &'static str,
    /// What some of the users send, where the canary is for them.
    header: Option<(&'static str, &'static str)>,
}

pub const EXAMPLES: &[Example] = &[
    Example {
        header: Some(("x-group", "beta")),
        ..promoted("ab-test", &[0, 50, 100], &[("WaitingForDecision", Do::DecideCanary)])
    },
    promoted("accuracy", &[0, 10, 50, 100], &[]),
    Example {
        header: Some(("x-preview", "green")),
        ..promoted(
            "blue-green",
            &[0, 100],
            &[("WaitingForApproval", Do::Approve), ("WaitingForApproval", Do::Approve)],
        )
    },
    promoted("canary", &[0, 5, 25, 50, 100], &[]),
    promoted("gated", &[0, 10, 50, 100], &[("WaitingForApproval", Do::Approve)]),
    Example { end: "Observed", stable: "iris-v1", ..promoted("observe-only", &[0, 10, 0], &[]) },
    promoted("ramp", &[0, 10, 20, 30, 40, 50, 100], &[]),
    promoted("scrape", &[0, 10, 50, 100], &[]),
    Example { end: "Observed", stable: "iris-v1", ..promoted("shadow", &[0], &[]) },
    promoted("shadow-then-promote", &[0, 10, 50, 100], &[]),
    promoted("wait", &[0, 10, 50, 100], &[("WaitingForDecision", Do::Promote)]),
];

const fn promoted(
    name: &'static str,
    weights: &'static [i64],
    person: &'static [(&'static str, Do)],
) -> Example {
    Example { name, weights, person, end: "Promoted", stable: "iris-v2", header: None }
}

pub async fn runs_to_its_end(lab: &Lab, example: &Example) -> Result<()> {
    let mut world = World::empty(lab, &format!("example-{}", example.name)).await?;
    let (mut others, mut rollout) = (Vec::new(), None);
    for document in documents(example.name)? {
        match document["kind"].as_str() {
            Some("Rollout") => rollout = Some(document),
            _ => others.push(document),
        }
    }
    let rollout = rollout.ok_or_else(|| anyhow!("no Rollout in it"))?;
    world.create_strictly(&rollout, true).await.context("as it stands")?;

    for mut object in others {
        // The host of the namespace, because all examples have one.
        if object["kind"] == "VirtualService" {
            object["spec"]["hosts"] = json!([world.host()]);
        }
        let (group, version) = group_and_version(&object);
        world.create(group, version, &object).await?;
    }
    for version in ["v1", "v2"] {
        world.pod(version).await?;
    }
    world.predictor("v2").set_gauge("model_accuracy", 0.95);
    world.scraped().await?;
    let recording = world.record().await?;
    let _users = world.users(80.0);
    let _more = example.header.map(|(name, value)| world.users_with(80.0, name, value));
    let controller = world.controller()?;
    world.create_rollout(&quick(rollout)).await?;
    for (reason, what) in example.person {
        world.phase("Waiting", reason).await?;
        world.ask(*what, "as the example says").await.map_err(|failure| anyhow!(failure))?;
    }
    let status = world
        .status_is(&format!("it ends with {}", example.end), |status| {
            let decisions = status["decisions"].as_array().cloned().unwrap_or_default();
            decisions.iter().any(|decision| decision["kind"] == example.end)
        })
        .await?;
    same_json("stable", &status["stable"]["service"], &json!(example.stable))?;
    same_json("phase", &status["phase"], &json!("Healthy"))?;
    world.only(example.stable).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &example.weights.to_vec())?;
    world.end(controller).await
}

/// All files are in the table.
pub async fn every_example_is_a_test(_: &Lab) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(repository().join("examples"))? {
        let name = entry?.file_name().into_string().map_err(|name| anyhow!("{}", name.display()))?;
        files.extend(name.strip_suffix(".yaml").map(str::to_owned));
    }
    files.sort();
    let mut run: Vec<_> =
        EXAMPLES.iter().map(|example| example.name).chain(crate::generated::EXAMPLES).collect();
    run.sort_unstable();
    same("examples", &files, &run.into_iter().map(str::to_owned).collect())
}

pub fn documents(name: &str) -> Result<Vec<Value>> {
    let file = repository().join("examples").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    ensure!(!documents.is_empty(), "nothing in it");
    Ok(documents)
}

fn group_and_version(object: &Value) -> (&str, &str) {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').unwrap_or(("", version))
}

/// The same Rollout for people with little time: what lasts minutes lasts a moment, and a few requests are enough.
pub fn quick(mut rollout: Value) -> Value {
    let spec = &mut rollout["spec"];
    spec["interval"] = json!("300ms");
    spec["settle"] = json!("300ms");
    for step in spec["steps"].as_array_mut().into_iter().flatten() {
        for (field, short) in [("for", json!("600ms")), ("minRequests", json!(10))] {
            if !step[field].is_null() {
                step[field] = short;
            }
        }
        if let Some(ramp) = step["ramp"].as_object_mut() {
            ramp.insert("every".to_owned(), json!("300ms"));
        }
    }
    for check in spec["checks"].as_array_mut().into_iter().flatten() {
        for indicator in ["errors", "latency"] {
            if let Some(rule) = check[indicator].as_object_mut() {
                rule.insert("minRequests".to_owned(), json!(5));
            }
        }
        // Users of a busy machine wait for its answers, which is not the canary's fault.
        if check["latency"].is_object() {
            check["latency"]["max"] = json!("5s");
        }
    }
    without_nulls(rollout)
}

/// Looking at a field of JSON that is not there puts a null there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
