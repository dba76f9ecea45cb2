//! Who acts: one of several controllers, and the next one where the last one stopped.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::real::wait;

use crate::controller::Controller;
use crate::lab::{LIMIT, Lab};
use crate::world::{World, decided, same, same_json};

fn held() -> Value {
    json!({"steps": [{"weight": 10, "for": "300ms"}, {"weight": 40, "approve": true}, {"weight": 70, "approve": true}]})
}

impl World<'_> {
    /// Waits until the lease has this holder; nobody is "".
    async fn holder_is(&self, identity: &str) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "sluice-system");
        wait::until(LIMIT, format!("{identity:?} leads"), || async {
            let lease =
                leases.get(&format!("sluice-{}", self.namespace)).await.map_err(|error| error.to_string())?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            if holder == identity { Ok(()) } else { Err(format!("{holder:?} does")) }
        })
        .await?;
        Ok(())
    }
}

pub async fn one_of_two_leads_and_the_other_goes_on_when_it_stops(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "leaders").await?;
    let recording = world.record().await?;
    let first = Controller::start(world.shared, &world.namespace, "first")?;
    world.holder_is("first").await?;
    let second = Controller::start(world.shared, &world.namespace, "second")?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    same("looks of who does not lead", &second.looks()?, &0)?;

    world.end(first).await?;
    world.holder_is("second").await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    world.approve().await?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70, 100])?;
    world.end(second).await?;
    world.holder_is("").await
}

pub async fn the_lease_of_a_killed_leader_runs_out(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "leader-killed").await?;
    let recording = world.record().await?;
    let short = Duration::from_secs(5);
    let first = Controller::with_lease(world.shared, &world.namespace, "first", short)?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    let second = Controller::with_lease(world.shared, &world.namespace, "second", short)?;
    first.kill().await;
    world.holder_is("second").await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70])?;
    world.end(second).await
}

pub async fn a_restarted_controller_goes_on_where_it_was(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "restart").await?;
    let original = world.route().await?;
    let recording = world.record().await?;
    let before = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.phase("Waiting", "WaitingForApproval").await?;
    let status = world.status().await?;
    world.end(before).await?;
    // The same identity is the same holder, whose lease is its own.
    let after = world.controller()?;
    let looks = after.looks()?;
    world.until_looks(&after, looks + 3).await?;
    let now = world.status().await?;
    same_json("no new decision", &now["seq"], &status["seq"])?;
    same_json("the same step", &now["progress"], &status["progress"])?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    world.approve().await?;
    let status = world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70, 100])?;
    world.only_weights_moved(&recording, &original).await?;
    same("starts", &decided(&status).iter().filter(|kind| *kind == "Started").count(), &1)?;
    world.end(after).await
}

pub async fn what_happened_while_nobody_led_is_seen_afterwards(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "away").await?;
    let recording = world.record().await?;
    let before = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    world.end(before).await?;
    world.pod_of("v2").set_ready(false).await?;
    world.edit(json!({"steps": [{"weight": 99}]})).await?;
    let after = world.controller()?;
    world.weight_is("iris-v2", 0).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 0])?;
    world.end(after).await
}

pub async fn a_leader_that_lost_its_lease_takes_it_again(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "lease-taken").await?;
    let recording = world.record().await?;
    let controller = world.controller()?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    // Somebody takes it who then does nothing with it: another replica that was partitioned away.
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "sluice-system");
    let patch = json!({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3}});
    leases.patch("sluice-lease-taken", &PatchParams::default(), &Patch::Merge(patch)).await?;
    world.holder_is("one").await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70])?;
    world.end(controller).await
}
