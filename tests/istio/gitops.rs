//! Others who write the VirtualService, under load: a tool that applies what is in Git, and a hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_lab::real::wait;
use tokio::time::Instant;

use crate::lab::Lab;
use crate::lab::{CONTROLLER, LIMIT};
use crate::shares::{none_failed, only_failed, share_is, share_is_over};
use crate::world::{IRIS, World, same};

/// As often as the tool applies.
const EVERY: Duration = Duration::from_secs(10);
/// From an apply to the moment at which Envoy obeys the repair.
const REPAIRED_WITHIN: Duration = Duration::from_secs(3);
/// From a decision to its write, at most.
const JUST_BEFORE: TimeDelta = TimeDelta::seconds(2);

pub async fn a_tool_that_reapplies_is_repaired_once_each_time(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "reapplied").await?;
    let users = world.users().rate(220.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let steps = json!([{"weight": 30, "for": "12s", "minRequests": 1000}, {"weight": 100, "for": "2s"}]);
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.obeyed(&observed, "iris-v2", 30).await?;

    let applied: Mutex<Vec<Instant>> = Mutex::default();
    let apply = || async {
        // As Argo CD does, by force: the weights of Git, and no stamp.
        observed.disturbed_for(REPAIRED_WITHIN);
        applied.lock().unwrap().push(Instant::now());
        let params = PatchParams::apply("argocd-controller").force();
        let manifest = world.virtual_service();
        world.virtual_services().patch(IRIS, &params, &Patch::Apply(&manifest)).await.map(drop)
    };
    let tool = async {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            if let Err(error) = apply().await {
                return Err::<(), _>(anyhow!(error));
            }
        }
    };
    tokio::select! {
        failed = tool => failed?,
        status = async {
            world.phase("Healthy", "Live").await?;
            // Twice more, with Git still naming the old one.
            let so_far = applied.lock().unwrap().len();
            wait::until(LIMIT, "it was applied twice more, and repaired", || {
                let times = applied.lock().unwrap();
                let done = times.len() >= so_far + 2
                    && times.last().is_some_and(|last| last.elapsed() > REPAIRED_WITHIN);
                std::future::ready(if done { Ok(()) } else { Err(format!("{}", times.len())) })
            }).await?;
            anyhow::Ok(())
        } => status?,
    }
    world.obeyed(&observed, "iris-v2", 100).await?;

    // Outside of the moments between an apply and its repair, what Envoy did is what the steps say.
    let applied = applied.into_inner().unwrap();
    ensure!(applied.len() >= 4, "it was applied {} times", applied.len());
    share_is_over(&observed, &users, "iris-v2", 30, 2000)?;
    share_is(&observed, &users, "iris-v2", 100)?;
    let promoted =
        observed.windows().iter().find(|window| window.weights.get("iris-v2") == Some(&100)).map(|w| w.from);
    let promoted = promoted.ok_or_else(|| anyhow!("Envoy never gave all to iris-v2"))?;
    let late: Vec<_> = users.between(promoted, Instant::now());
    let late: Vec<_> =
        late.iter().filter(|answer| answer.by == "iris-v1" && !observed.was_disturbed(answer.sent)).collect();
    ensure!(late.is_empty(), "the old one was asked {} times, the first: {:?}", late.len(), late.first());
    none_failed(&users.stop().await)?;

    one_repair_per_apply(&world).await?;
    let writes = world.route_writes()?;
    let by_controller = writes.iter().filter(|write| write.code == 200).count();
    ensure!(
        by_controller <= applied.len() + 6,
        "{CONTROLLER} wrote {by_controller} times for {} applies",
        applied.len()
    );
    world.end(controller)
}

/// Each apply of the tool is repaired by one write. Where the rollout itself had something to write at that time it may be
/// one more for each such thing: all of them are decisions, that the old one leaves is one too, and the status has their times.
async fn one_repair_per_apply(world: &World<'_>) -> Result<()> {
    let status = world.status().await?;
    let decisions = status["decisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let times = decisions.iter().map(|decision| serde_json::from_value(decision["at"].clone()));
    let decided: Vec<DateTime<Utc>> = times.collect::<Result<_, _>>()?;
    let writes = world.route_writes()?;
    let tool = world.audit.writes_of("admin")?;
    let applies = tool.iter().filter(|write| {
        write.namespace == world.namespace && write.resource == "virtualservices" && write.verb == "patch"
    });
    let mut alone = 0;
    for apply in applies {
        let from = apply.received;
        let until = apply.answered + TimeDelta::from_std(REPAIRED_WITHIN)?;
        // What was decided just before may be written just after.
        let own = decided.iter().filter(|at| (from - JUST_BEFORE..until).contains(at)).count();
        let repairs = writes.iter().filter(|w| w.code == 200 && (from..until).contains(&w.received)).count();
        ensure!(
            (1..=1 + own).contains(&repairs),
            "{repairs} writes after the apply at {from}, and the rollout had {own} of its own: {writes:?}"
        );
        alone += usize::from(own == 0);
    }
    println!("{alone} applies were repaired by exactly one write");
    ensure!(alone >= 2, "only {alone} applies came while the rollout had nothing to write");
    Ok(())
}

pub async fn a_tool_that_names_a_service_that_is_gone_costs_only_moments(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "gone").await?;
    let users = world.users().rate(100.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!([{"weight": 50, "for": "1s"}]))).await?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    world.delete_service("iris-v1").await?;
    for _ in 0..2 {
        observed.disturbed_for(REPAIRED_WITHIN);
        let params = PatchParams::apply("argocd-controller").force();
        world.virtual_services().patch(IRIS, &params, &Patch::Apply(&world.virtual_service())).await?;
        world.weight_is("iris-v1", 0).await?;
        world.weight_is("iris-v2", 100).await?;
        let repaired = Instant::now();
        wait::until(LIMIT, "Envoy has obeyed for a while", || {
            let answers = users.between(repaired, Instant::now());
            let well = answers.iter().rev().take_while(|answer| !answer.failed()).count();
            std::future::ready(if well >= 200 { Ok(()) } else { Err(format!("{well} answers")) })
        })
        .await?;
    }
    let answers = users.stop().await;
    only_failed(&answers, |answer| observed.was_disturbed(answer.sent))?;
    let failed = answers.iter().filter(|answer| answer.failed()).count();
    println!("{failed} of {} requests failed for a Service that is gone, in two applies", answers.len());
    world.end(controller)
}

pub async fn weights_that_a_hand_changed_are_put_back(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "drift").await?;
    let users = world.users().rate(150.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", json!([{"weight": 20, "for": "1h"}]))).await?;
    world.obeyed(&observed, "iris-v2", 20).await?;
    let before = world.status().await?["seq"].clone();
    for (v1, v2) in [(10, 90), (100, 0)] {
        let to = |host: &str, weight: u64| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight});
        let patch = json!([{"op": "replace", "path": "/spec/http/0/route", "value": [to("iris-v1", v1), to("iris-v2", v2)]}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        observed.disturbed_for(REPAIRED_WITHIN);
        world.virtual_services().patch(IRIS, &PatchParams::default(), &patch).await?;
        world.weight_is("iris-v2", 20).await?;
        world.obeyed(&observed, "iris-v2", 20).await?;
    }
    let changed = Instant::now();
    wait::until(LIMIT, "there were some requests afterwards", || {
        let sent = users.between(changed, Instant::now()).len();
        std::future::ready(if sent >= 1000 { Ok(()) } else { Err(format!("{sent}")) })
    })
    .await?;
    share_is(&observed, &users, "iris-v2", 20)?;
    same("putting back is no decision", &world.status().await?["seq"], &before)?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}
