//! Who acts: several controllers, each on its own Rollouts, and the next one where the last one stopped.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_lab::real::wait;

use crate::controller::Controller;
use crate::lab::{LIMIT, Lab};
use crate::world::{World, decided, same, same_json};

fn held() -> Value {
    json!({"steps": [{"weight": 10, "for": "300ms"}, {"weight": 40, "approve": true}, {"weight": 70, "approve": true}]})
}

/// The slot of the Rollout `iris` of a namespace, computed apart from the code under test.
fn slot(namespace: &str) -> usize {
    match namespace {
        "replicas" => 9,
        "killed" => 0,
        "slot-taken" => 5,
        other => panic!("nobody computed the slot of {other}/iris"),
    }
}

impl World<'_> {
    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), "sluice-system")
    }

    /// Who holds each slot of this namespace's controllers; nobody is "".
    async fn holders(&self) -> Result<Vec<String>> {
        let mut holders = Vec::new();
        for slot in 0..16 {
            let lease = self.leases().get_opt(&format!("sluice-{}.slot-{slot:02}", self.namespace)).await?;
            holders.push(lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default());
        }
        Ok(holders)
    }

    /// Waits until the Rollout's slot has this holder.
    async fn holder_is(&self, identity: &str) -> Result<()> {
        wait::until(LIMIT, format!("{identity:?} holds the Rollout's slot"), || async {
            let holders = self.holders().await.map_err(|error| error.to_string())?;
            let holder = &holders[slot(&self.namespace)];
            if holder == identity { Ok(()) } else { Err(format!("{holder:?} does")) }
        })
        .await?;
        Ok(())
    }

    /// Waits until each of these replicas holds its share.
    async fn shared_by(&self, replicas: &[&str]) -> Result<()> {
        wait::until(LIMIT, format!("the slots are shared by {replicas:?}"), || async {
            let holders = self.holders().await.map_err(|error| error.to_string())?;
            let share = 16 / replicas.len();
            let even = |name: &&str| holders.iter().filter(|holder| holder == name).count() == share;
            if replicas.iter().all(even) { Ok(()) } else { Err(format!("{holders:?}")) }
        })
        .await?;
        Ok(())
    }
}

pub async fn two_share_the_slots_and_one_goes_on_when_the_other_stops(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "replicas").await?;
    let recording = world.record().await?;
    let one = Controller::start(world.shared, &world.namespace, "one")?;
    world.holder_is("one").await?;
    let two = Controller::start(world.shared, &world.namespace, "two")?;
    world.shared_by(&["one", "two"]).await?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    let ones = world.holders().await?[slot(&world.namespace)] == "one";
    let (holds, waits, next) = if ones { (one, two, "two") } else { (two, one, "one") };
    same("looks of who does not hold it", &waits.looks()?, &0)?;

    world.end(holds).await?;
    world.holder_is(next).await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    world.approve().await?;
    world.phase("Healthy", "Live").await?;
    world.only("iris-v2").await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70, 100])?;
    world.end(waits).await?;
    nobody_is_left(world.leases(), "sluice-replicas").await
}

/// After the last replica has stopped, nobody holds anything, and no version is kept from acting.
pub async fn nobody_is_left(leases: Api<Lease>, family: &str) -> Result<()> {
    let ours = leases.list(&ListParams::default()).await?.items.into_iter();
    let ours: Vec<Lease> = ours
        .filter(|lease| {
            let name = lease.name_any();
            name == family || name.starts_with(&format!("{family}."))
        })
        .collect();
    let members: Vec<String> =
        ours.iter().map(ResourceExt::name_any).filter(|name| name.contains(".member-")).collect();
    same("members", &members, &Vec::new())?;
    same("leases of slots and the one of versions without them", &ours.len(), &17)?;
    let held: Vec<String> = ours
        .iter()
        .filter(|lease| lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.is_some()))
        .map(ResourceExt::name_any)
        .collect();
    same("leases that somebody holds", &held, &Vec::new())
}

pub async fn the_lease_of_a_killed_replica_runs_out(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "killed").await?;
    let recording = world.record().await?;
    let short = Duration::from_secs(5);
    let one = Controller::with_lease(world.shared, &world.namespace, "one", short)?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    one.kill().await;
    let two = Controller::with_lease(world.shared, &world.namespace, "two", short)?;
    world.holder_is("two").await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70])?;
    world.end(two).await
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

pub async fn what_happened_while_nobody_was_there_is_seen_afterwards(lab: &Lab) -> Result<()> {
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

pub async fn a_replica_whose_slot_was_taken_takes_it_again(lab: &Lab) -> Result<()> {
    let world = World::new(lab, "slot-taken").await?;
    let recording = world.record().await?;
    let controller = Controller::with_lease(world.shared, &world.namespace, "one", Duration::from_secs(5))?;
    world.create_rollout(&world.rollout("v2", held())).await?;
    world.step(2, "iris-v2", 40).await?;
    // Somebody takes it who then does nothing with it: another replica that was partitioned away.
    let patch = json!({"spec": {"holderIdentity": "thief"}});
    let name = format!("sluice-slot-taken.slot-{:02}", slot("slot-taken"));
    world.leases().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    world.holder_is("one").await?;
    world.approve().await?;
    world.step(3, "iris-v2", 70).await?;
    same("weights", &world.sequence(&recording, "iris-v2").await?, &vec![0, 10, 40, 70])?;
    world.end(controller).await
}
