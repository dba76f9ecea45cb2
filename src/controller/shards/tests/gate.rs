//! Versions without slots, which elect one leader by one Lease, and replicas with slots: never at once.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::PostParams};
use tokio::time::Instant;

use super::replicas::{DURATION, World};

/// A controller of the version before slots, by the rules it had: the lease is its own, free, or another's who did not
/// renew it for as long as it says.
struct Old {
    identity: &'static str,
    leases: Api<Lease>,
    observed: Option<(String, Instant)>,
    until: Option<Instant>,
    attempts: i64,
}

impl Old {
    fn new(world: &World, identity: &'static str) -> Self {
        let leases = Api::namespaced(world.api.client_as(identity), "default");
        Self { identity, leases, observed: None, until: None, attempts: 0 }
    }

    fn leads(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }

    /// Tries to take or renew the lease.
    async fn attempt(&mut self) {
        let started = Instant::now();
        self.attempts += 1;
        if self.claim().await {
            self.until = Some(started + DURATION);
        }
    }

    async fn claim(&mut self) -> bool {
        let before = self.leases.get_opt("sluice").await.unwrap();
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(self.attempts).unwrap())),
            ..LeaseSpec::default()
        };
        let mut metadata = ObjectMeta { name: Some("sluice".to_owned()), ..ObjectMeta::default() };
        let Some(before) = before else {
            let lease = Lease { metadata, spec: Some(spec) };
            return self.leases.create(&PostParams::default(), &lease).await.is_ok();
        };
        let version = before.resource_version().unwrap();
        let said = before.spec.unwrap();
        if said.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty() && holder != self.identity)
        {
            let now = Instant::now();
            let since = match &self.observed {
                Some((seen, since)) if *seen == version => *since,
                _ => now,
            };
            self.observed = Some((version, since));
            let lasts = Duration::from_secs(said.lease_duration_seconds.unwrap().try_into().unwrap());
            if now.duration_since(since) < lasts {
                return false;
            }
        }
        metadata.resource_version = before.metadata.resource_version;
        let lease = Lease { metadata, spec: Some(spec) };
        self.leases.replace("sluice", &PostParams::default(), &lease).await.is_ok()
    }

    async fn release(&mut self) {
        if !self.leads() {
            return;
        }
        self.until = None;
        let mut lease = self.leases.get("sluice").await.unwrap();
        let spec = lease.spec.as_mut().unwrap();
        (spec.holder_identity, spec.lease_duration_seconds) = (None, Some(1));
        self.leases.replace("sluice", &PostParams::default(), &lease).await.unwrap();
    }
}

/// Time passes, the old ones try every three seconds, and none of them leads while a replica holds a slot.
async fn pass(world: &World, old: &mut [&mut Old], seconds: u64) {
    for second in 0..seconds {
        if second % 3 == 0 {
            for old in &mut *old {
                old.attempt().await;
            }
        }
        world.pass(Duration::from_secs(1)).await;
        let leaders: Vec<&str> = old.iter().filter(|old| old.leads()).map(|old| old.identity).collect();
        let held: usize = world.shares().iter().sum();
        assert!(leaders.len() + usize::from(held > 0) <= 1, "{leaders:?} lead, and {held} slots are held");
    }
}

fn held(world: &World) -> usize {
    world.shares().iter().sum()
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_waits_for_the_old_leader_and_keeps_the_old_standby_out() {
    let mut world = World::new();
    let (mut leader, mut standby) = (Old::new(&world, "leader"), Old::new(&world, "standby"));
    pass(&world, &mut [&mut leader, &mut standby], 10).await;
    assert!(leader.leads());
    world.start("new", 0);
    pass(&world, &mut [&mut leader, &mut standby], 60).await;
    assert!(leader.leads());
    leader.release().await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(held(&world), 16);
    pass(&world, &mut [&mut standby], 120).await;
    assert_eq!(held(&world), 16);
}

#[tokio::test(start_paused = true)]
async fn an_old_standby_that_was_faster_is_waited_for() {
    let mut world = World::new();
    let (mut leader, mut standby) = (Old::new(&world, "leader"), Old::new(&world, "standby"));
    pass(&world, &mut [&mut leader], 5).await;
    world.start("new", 0);
    pass(&world, &mut [&mut leader], 5).await;
    leader.release().await;
    standby.attempt().await;
    assert!(standby.leads());
    pass(&world, &mut [&mut standby], 30).await;
    assert_eq!(held(&world), 0);
    // It crashes.
    world.pass(Duration::from_secs(20)).await;
    assert!(!standby.leads());
    assert_eq!(held(&world), 16);
}

#[tokio::test(start_paused = true)]
async fn a_downgrade_leads_when_the_last_replica_with_slots_has_stopped() {
    let mut world = World::new();
    world.start("a", 0);
    world.start("b", 0);
    world.pass(Duration::from_secs(30)).await;
    let mut old = Old::new(&world, "old");
    pass(&world, &mut [&mut old], 60).await;
    world.replicas[0].stop();
    pass(&world, &mut [&mut old], 30).await;
    assert_eq!(world.shares(), [0, 16]);
    world.replicas[1].stop();
    pass(&world, &mut [&mut old], 10).await;
    assert!(old.leads());
    // And up again.
    world.start("c", 0);
    pass(&world, &mut [&mut old], 30).await;
    assert!(old.leads());
    old.release().await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(held(&world), 16);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_an_old_version_takes_by_force_ends_all_slots() {
    let mut world = World::new();
    world.start("new", 0);
    world.pass(Duration::from_secs(10)).await;
    let mut old = Old::new(&world, "old");
    let mut lease = old.leases.get("sluice").await.unwrap();
    lease.spec.as_mut().unwrap().holder_identity = Some("old".to_owned());
    lease.spec.as_mut().unwrap().lease_duration_seconds = Some(15);
    old.leases.replace("sluice", &PostParams::default(), &lease).await.unwrap();
    world.pass(Duration::from_secs(4)).await;
    assert_eq!(held(&world), 0);
    pass(&world, &mut [&mut old], 30).await;
    assert!(old.leads());
}
