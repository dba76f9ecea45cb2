//! Several replicas share the Rollouts: each Rollout is one replica's at any time, and somebody's all the time.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sluice_lab::{
    embedded::{Api, Then, When},
    scene::eventually,
};
use tokio::time::Instant;

use crate::{
    oracle,
    world::{LIMIT, NAMESPACE, Sluice, World, rollout, same},
};

/// Rollouts of the namespace and the slot of each, computed apart from the code under test.
pub const SLOTS: [(&str, u64); 12] = [
    ("iris", 2),
    ("mnist", 12),
    ("rose", 10),
    ("lily", 13),
    ("elm", 9),
    ("ash", 7),
    ("yew", 1),
    ("palm", 8),
    ("bean", 5),
    ("kale", 14),
    ("sage", 3),
    ("oak", 15),
];

impl World {
    /// Starts a replica, whose requests are recorded under its identity.
    pub fn replica(&self, identity: &str) -> Sluice {
        self.controller_over(self.api.connect(identity), Some(self.lease(identity)))
    }

    /// All the Rollouts of [`SLOTS`], each with a VirtualService of its own. Only users of `iris` ask anything.
    async fn garden(&self, steps: &Value) {
        for (name, _) in SLOTS {
            let mut object = rollout(steps);
            if name != "iris" {
                let host = format!("{name}.example.com");
                self.scene.virtual_service(name, &host, &[("iris-v1", Some(100))]).await.unwrap();
                object["metadata"]["name"] = name.into();
                object["spec"]["routes"][0]["virtualService"] = name.into();
                object["spec"].as_object_mut().unwrap().retain(|key, _| key != "checks" && key != "metrics");
            }
            self.create(object).await;
        }
    }

    /// The status of any Rollout.
    fn status_of(&self, name: &str) -> Value {
        let rollout = self.api.object("rollouts.sluice.dev", NAMESPACE, name);
        rollout.map_or(Value::Null, |rollout| rollout["status"].clone())
    }

    async fn all_are_live(&self) {
        let look = || async {
            let late: Vec<String> = SLOTS
                .iter()
                .map(|(name, _)| (name, self.status_of(name)))
                .filter(|(_, status)| {
                    status["phase"] != "Healthy" || status["stable"]["service"] != "iris-v2"
                })
                .map(|(name, status)| format!("{name} is {} at {}", status["phase"], status["weight"]))
                .collect();
            if late.is_empty() { Ok(()) } else { Err(late.join(", ")) }
        };
        eventually(LIMIT, "all Rollouts are live", look).await.unwrap();
    }

    /// Waits until every slot is one of these replicas', as many each as can be.
    pub async fn shared_by(&self, replicas: &[&str]) {
        let look = || async {
            let holders: Vec<String> = (0..16).map(|slot| holder(&self.api, slot)).collect();
            let counts: Vec<usize> =
                replicas.iter().map(|name| holders.iter().filter(|holder| holder == name).count()).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            let even = counts.iter().sum::<usize>() == 16 && most - least <= 1;
            if even { Ok(()) } else { Err(format!("{holders:?}")) }
        };
        eventually(LIMIT, "the slots are shared", look).await.unwrap();
    }
}

/// Who holds a slot, by its Lease.
pub fn holder(api: &Api, slot: u64) -> String {
    let lease =
        api.object("leases.coordination.k8s.io", "default", &format!("sluice-controller.slot-{slot:02}"));
    lease.map_or_else(String::new, |lease| {
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    })
}

/// Fails unless every write of a replica to a Rollout, its route or its Events was made while the Lease of the Rollout's
/// slot named it. Who has written is returned, with how many of the writes.
pub fn each_wrote_only_its_own(api: &Api, replicas: &[&str]) -> BTreeMap<String, usize> {
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut wrote = BTreeMap::new();
    for write in api.history() {
        if write.resource == "leases" {
            let holder = write.after.iter().find_map(|lease| lease["spec"]["holderIdentity"].as_str());
            holders.insert(write.name.clone(), holder.unwrap_or_default().to_owned());
            continue;
        }
        if !replicas.contains(&write.user.as_str()) {
            continue;
        }
        // An Event's name begins with that of its Rollout.
        let rollout = write.name.split('.').next().unwrap_or_default();
        let (_, slot) = SLOTS.iter().find(|(name, _)| *name == rollout).expect("a Rollout of the garden");
        let holder = holders.get(&format!("sluice-controller.slot-{slot:02}")).cloned().unwrap_or_default();
        assert_eq!(
            holder, write.user,
            "version {}: {} wrote {} {}, whose slot {slot} was not its own",
            write.version, write.user, write.resource, write.name
        );
        *wrote.entry(write.user).or_default() += 1;
    }
    wrote
}

/// The weights that each route gave to the canary, one after another.
fn weights_of(api: &Api, name: &str) -> Vec<u64> {
    let mut seen: Vec<u64> = Vec::new();
    for write in api.history().iter().filter(|w| w.resource == "virtualservices" && w.name == name) {
        let (_, canary) = oracle::weights(write.after.as_ref().unwrap());
        if seen.last() != Some(&canary) {
            seen.push(canary);
        }
    }
    seen
}

/// Fails unless every rollout went its way once, and each of its decisions was made once.
fn all_went_their_way(api: &Api, weights: &[u64]) {
    for (name, _) in SLOTS {
        same(&weights_of(api, name), &weights.to_vec(), &format!("the weights of {name}"));
        let mut last = 0;
        for write in api.history().iter().filter(|w| w.resource == "rollouts/status" && w.name == name) {
            let seq = write.after.as_ref().unwrap()["status"]["seq"].as_u64().unwrap_or_default();
            assert!(seq == last || seq == last + 1, "{name}: decision {seq} after {last}");
            last = seq;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn three_replicas_share_the_rollouts_and_each_acts_on_its_own() {
    let world = World::new().await;
    let names = ["a", "b", "c"];
    let _replicas: Vec<Sluice> = names.iter().map(|name| world.replica(name)).collect();
    world.shared_by(&names).await;
    world.garden(&json!([{"weight": 20, "for": "5s"}, {"weight": 50, "for": "5s"}])).await;
    world.all_are_live().await;
    all_went_their_way(&world.api, &[0, 20, 50, 100]);
    let wrote = each_wrote_only_its_own(&world.api, &names);
    assert_eq!(wrote.len(), 3, "{wrote:?}");
}

#[tokio::test(start_paused = true)]
async fn scaling_in_the_middle_of_rollouts_loses_no_step_and_repeats_none() {
    let world = World::new().await;
    world.garden(&json!([{"weight": 20, "for": "50s"}, {"weight": 50, "for": "50s"}])).await;
    let a = world.replica("a");
    world.shared_by(&["a"]).await;
    world.sees("the first step is entered", |status| status["weight"] == 20).await;
    let b = world.replica("b");
    let c = world.replica("c");
    world.shared_by(&["a", "b", "c"]).await;
    world.sees("the second step is entered", |status| status["weight"] == 50).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    a.stop().await;
    world.shared_by(&["b", "c"]).await;
    b.stop().await;
    world.shared_by(&["c"]).await;
    world.all_are_live().await;
    drop(c);
    all_went_their_way(&world.api, &[0, 20, 50, 100]);
    let wrote = each_wrote_only_its_own(&world.api, &["a", "b", "c"]);
    assert_eq!(wrote.len(), 3, "{wrote:?}");
}

#[tokio::test(start_paused = true)]
async fn replicas_that_come_and_crash_all_the_time_bring_all_rollouts_to_their_end() {
    let world = World::new().await;
    world.garden(&json!([{"weight": 20, "for": "20s"}, {"weight": 50, "for": "20s"}])).await;
    let names: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
    let mut running = Vec::new();
    for (n, name) in names.iter().enumerate() {
        running.push(world.replica(name));
        tokio::time::sleep(Duration::from_secs(7)).await;
        if n % 3 == 2 {
            running.remove(0);
        }
    }
    world.all_are_live().await;
    all_went_their_way(&world.api, &[0, 20, 50, 100]);
    each_wrote_only_its_own(&world.api, &names.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_dies_is_followed_within_its_lease_and_a_breach_is_still_acted_on() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "10m"}]))).await;
    let mut replicas = BTreeMap::from([("a", world.replica("a")), ("b", world.replica("b"))]);
    world.weighs(50, 50).await;
    world.shared_by(&["a", "b"]).await;
    world.weighs(50, 50).await;
    let first = holder(&world.api, 2);
    let dies = replicas.remove(first.as_str()).expect("one of the two");
    dies.connection.faults().crash();
    drop(dies);
    world.v2.predictor.set_errors(0.5);
    let since = Instant::now();
    world.weighs(100, 0).await;
    // The lease, a renewal that it had just made, and the looks that a verdict needs.
    assert!(since.elapsed() < Duration::from_secs(25), "it took {:?}", since.elapsed());
    same(&holder(&world.api, 2), &(*replicas.keys().next().unwrap()).to_owned(), "the holder");
    each_wrote_only_its_own(&world.api, &["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_told_to_stop_gives_up_what_it_holds_at_once() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "40s"}]))).await;
    let first = world.replica("a");
    world.weighs(50, 50).await;
    let _second = world.replica("b");
    world.shared_by(&["a", "b"]).await;
    first.stop().await;
    let since = Instant::now();
    world.shared_by(&["b"]).await;
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    world.stands("Healthy", "Live").await;
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], "the canary's weights");
    each_wrote_only_its_own(&world.api, &["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_renew_stops_writing_before_another_starts() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 20, "for": "30s"}, {"weight": 50, "for": "30s"}]))).await;
    let first = world.replica("a");
    world.weighs(80, 20).await;
    first.connection.faults().on(When::any().resource("leases"), Then::Hang);
    let _second = world.replica("b");
    world.shared_by(&["b"]).await;
    world.stands("Healthy", "Live").await;
    let wrote = each_wrote_only_its_own(&world.api, &["a", "b"]);
    assert_eq!(wrote.len(), 2, "{wrote:?}");
    same(&oracle::canary_weights(&world.api), &vec![0, 20, 50, 100], "the canary's weights");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_sees_nothing_takes_nothing() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "5s"}]))).await;
    let connection = world.api.connect("blind");
    connection.faults().on(When::reads().resource("endpointslices"), Then::Hang);
    let blind = world.controller_over(connection, Some(world.lease("blind")));
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&holder(&world.api, 2), &String::new(), "the holder");
    let _sees = world.replica("sees");
    world.stands("Healthy", "Live").await;
    world.shared_by(&["sees"]).await;
    drop(blind);
}

#[tokio::test(start_paused = true)]
async fn at_rest_there_is_one_write_for_each_replica_and_renewal() {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 50, "for": "1s"}]))).await;
    let names = ["a", "b"];
    let _replicas: Vec<Sluice> = names.iter().map(|name| world.replica(name)).collect();
    world.stands("Healthy", "Live").await;
    world.shared_by(&names).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let world = world.without_users().await;
    let requests = || -> Vec<BTreeMap<String, u64>> {
        names.iter().map(|name| world.api.write_requests(name)).collect()
    };
    let before = requests();
    tokio::time::sleep(Duration::from_mins(5)).await;
    for (mut after, before) in requests().into_iter().zip(before) {
        let renewals = after.remove("leases").unwrap() - before["leases"];
        assert!((98..=102).contains(&renewals), "{renewals} renewals in 300 s");
        let rest: BTreeMap<_, _> = before.into_iter().filter(|(resource, _)| resource != "leases").collect();
        same(&after, &rest, "other write requests, refused ones among them");
    }
}
