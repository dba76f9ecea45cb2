//! The most and the longest of everything, where the server has limits of its own.

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use sluice_core::api::Do;
use sluice_lab::real::wait;

use crate::binary::types;
use crate::lab::{LIMIT, Lab};
use crate::oracle;
use crate::world::{IRIS, ROUTE, World, brief, decided, same, same_json};

fn ramps(count: usize) -> Value {
    json!(vec![json!({"ramp": {"from": 1, "to": 100, "by": 1, "every": "1h"}}); count])
}

pub async fn ten_thousand_steps(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "many-steps").await?;
    let controller = world.controller()?;
    let rollout = world.rollout("v2", json!({"steps": ramps(100)}));
    world.create_strictly(&rollout, false).await?;
    world.step(1, "iris-v2", 1).await?;
    for weight in 2..=4 {
        world.ask(Do::Promote, "go on").await.map_err(anyhow::Error::msg)?;
        world.step(weight, "iris-v2", i64::try_from(weight)?).await?;
    }
    let status = world.status().await?;
    same_json("how many", &status["progress"]["of"], &json!(10_000))?;
    same_json("the column", &status["step"], &json!("4/10000"))?;
    let size = serde_json::to_string(&world.rollouts().get(IRIS).await?)?.len();
    ensure!(size < 200_000, "the Rollout has {size} bytes");
    let (code, text) = types(world.shared, &["get", IRIS, "-n", &world.namespace]).await?;
    ensure!(code == 0 && text.lines().count() < 60 && text.contains("… 9,985 more"), "{code}: {text}");
    world.ask(Do::Abort, "enough").await.map_err(anyhow::Error::msg)?;
    world.weight_is("iris-v2", 0).await?;
    world.end(controller).await
}

pub async fn one_step_more_than_there_may_be(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "too-many-steps").await?;
    let rollout = world.rollout("v2", json!({"steps": ramps(101)}));
    let Err(error) = world.create_strictly(&rollout, true).await else { anyhow::bail!("101 were accepted") };
    let text = error.to_string();
    ensure!(text.contains("spec.steps") && text.contains("at most 100 items"), "{text}");
    Ok(())
}

pub async fn the_longest_names(lab: &Lab) -> Result<()> {
    // Namespaces and Services have 63 characters, other names 253.
    let mut world = World::empty(lab, &format!("longest-{}", "n".repeat(55))).await?;
    let (one, two) = (format!("v1{}", "s".repeat(56)), format!("v2{}", "s".repeat(56)));
    let (stable, canary) = (format!("{IRIS}-{one}"), format!("{IRIS}-{two}"));
    same("length", &canary.len(), &63)?;
    world.serve(&one).await?;
    world.serve(&two).await?;
    let name = |letter: &str| format!("{0}.{0}.{0}.{1}", letter.repeat(63), letter.repeat(61));
    let (rollout_name, route_name) = (name("r"), name("v"));
    same("length", &(rollout_name.len(), route_name.len()), &(253, 253))?;
    let mut route = world.virtual_service();
    route["metadata"]["name"] = json!(route_name);
    route["spec"]["http"][1]["route"][0]["destination"]["host"] =
        json!(format!("{stable}.{}.svc.cluster.local", world.namespace));
    world.create("networking.istio.io", "v1", &route).await?;
    let controller = world.controller()?;
    let check = "c".repeat(63);
    let mut rollout = world.rollout(
        &two,
        json!({
            "routes": [{"virtualService": route_name, "http": [ROUTE]}],
            "steps": [{"name": "s".repeat(63), "weight": 10, "for": "1h"}],
            "checks": [{"name": check, "query": {"promql": "vector(1)", "min": 1}}],
        }),
    );
    rollout["metadata"]["name"] = json!(rollout_name);
    world.create_strictly(&rollout, false).await?;
    let status = async || -> Result<Value> {
        Ok(serde_json::to_value(world.rollouts().get(&rollout_name).await?)?["status"].take())
    };
    let weight = async |wanted: i64| {
        wait::until(LIMIT, format!("the canary has {wanted}"), || async {
            let route = world.virtual_services().get(&route_name).await.map_err(|error| error.to_string())?;
            let route = serde_json::to_value(route).map_err(|error| error.to_string())?;
            let weights = oracle::weights(&route, ROUTE);
            // The canary's host is a copy of stable's in another name.
            let canary = weights.iter().find(|(host, _)| host.starts_with(&canary));
            let status = status().await.map_err(|error| error.to_string())?;
            match canary.map_or(0, |(_, weight)| *weight) {
                found if found == wanted => Ok(()),
                found => Err(format!("{found}, {}", brief(&status))),
            }
        })
        .await
    };
    weight(10).await?;
    // Every decision has its Event, though its name has more in it than the Rollout's.
    let decisions = decided(&status().await?).len();
    let events = world.api("events.k8s.io", "v1", "Event");
    wait::until(LIMIT, "each decision has an Event", || async {
        let seen = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let of_it = seen.iter().filter(|event| event.data["regarding"]["name"] == rollout_name.as_str());
        match of_it.count() {
            count if count >= decisions => Ok(()),
            count => Err(format!("{count} of {decisions}")),
        }
    })
    .await?;
    let (code, text) =
        types(world.shared, &["abort", &rollout_name, "-n", &world.namespace, "--wait", "60s"]).await?;
    ensure!(code == 0, "{code}: {text}");
    weight(0).await?;
    let (code, text) = types(world.shared, &["get", &rollout_name, "-n", &world.namespace]).await?;
    ensure!(code == 0 && text.contains("RolledBack"), "{code}: {text}");
    let (code, text) = types(world.shared, &["get", "-n", &world.namespace]).await?;
    ensure!(code == 0 && text.contains("RolledBack"), "{code}: {text}");
    world.end(controller).await
}

pub async fn the_longest_words(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "longest-words").await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!({"steps": [{"weight": 10, "for": "1h"}]}))).await?;
    world.step(1, "iris-v2", 10).await?;
    // Four bytes each, and things that terminals and logs trip over.
    let reason: String = "🦀\u{202e}\n\u{1b}[31m\"".chars().cycle().take(1024).collect();
    let said = world.ask(Do::Abort, &reason).await.map_err(anyhow::Error::msg)?;
    ensure!(said.contains('🦀') && !said.contains('\u{1b}'), "{said:?}");
    let status = world.phase("RolledBack", "Aborted").await?;
    let message = status["message"].as_str().context("a message")?;
    ensure!(message.contains('🦀') && message.chars().count() <= 2048, "{message}");
    world.weight_is("iris-v2", 0).await?;
    world.end(controller).await
}
