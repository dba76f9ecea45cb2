//! The Lease by which versions without slots elected one leader.
//!
//! Such a version and this one must never act at once, in either direction of an upgrade. So a replica claims slots only
//! after it has found that Lease free, or run out, and has taken it in the name of all replicas with slots, for ever: to
//! the other version it looks like a leader that lives. The last replica that stops gives it back.
//!
//! Every replica writes it once when it becomes a member, also where it is taken already. So the last one's giving back
//! and another one's coming meet in the resourceVersion, and only one of them succeeds.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::PostParams};
use tokio::time::Instant;

use super::{LeaseOptions, leases};

/// The holder that stands for all replicas with slots.
pub(super) const ALL_WITH_SLOTS: &str = "sluice-slots";

/// Takes and gives back that Lease.
pub(super) struct Gate {
    leases: Api<Lease>,
    options: LeaseOptions,
    /// The Lease of a leader as seen last, and since when it looks like that.
    seen: Option<(Option<String>, Instant)>,
}

impl Gate {
    pub(super) fn new(leases: Api<Lease>, options: LeaseOptions) -> Self {
        Self { leases, options, seen: None }
    }

    /// Takes the Lease for all replicas with slots; the leader's name while there is one.
    pub(super) async fn pass(&mut self) -> Result<Option<String>, kube::Error> {
        let asked = Instant::now();
        let lease = self.leases.get_opt(&self.options.name).await?;
        if let Some(leader) = lease.as_ref().and_then(|lease| self.leader(lease, asked)) {
            return Ok(Some(leader));
        }
        let mut spec = leases::held_by(&self.options, lease.as_ref(), Some(ALL_WITH_SLOTS));
        spec.lease_duration_seconds = Some(i32::MAX);
        self.write(lease.as_ref(), spec).await?;
        Ok(None)
    }

    /// Whether the Lease is taken for all replicas with slots.
    pub(super) fn is_passed(lease: Option<&Lease>) -> bool {
        lease.and_then(leases::holder) == Some(ALL_WITH_SLOTS)
    }

    /// Gives the Lease back as it was when nobody else was there.
    pub(super) async fn give_back(&self, lease: &Lease) -> Result<(), kube::Error> {
        let mut spec = leases::held_by(&self.options, Some(lease), None);
        spec.lease_duration_seconds = Some(1);
        self.write(Some(lease), spec).await
    }

    /// A leader whose Lease has not run out on our clock.
    fn leader(&mut self, lease: &Lease, asked: Instant) -> Option<String> {
        let leader = leases::holder(lease).filter(|holder| *holder != ALL_WITH_SLOTS)?;
        let (version, now) = (lease.resource_version(), Instant::now());
        let since = self.seen.as_ref().filter(|(seen, _)| *seen == version).map_or(now, |(_, since)| *since);
        self.seen = Some((version, since));
        let lasts = leases::duration(lease).unwrap_or(self.options.duration).max(Duration::from_secs(1));
        (asked.saturating_duration_since(since) < lasts).then(|| leader.to_owned())
    }

    async fn write(
        &self,
        before: Option<&Lease>,
        spec: k8s_openapi::api::coordination::v1::LeaseSpec,
    ) -> Result<(), kube::Error> {
        let lease = leases::lease(&self.options, &self.options.name, before, spec);
        let params = PostParams::default();
        match before {
            Some(_) => self.leases.replace(&self.options.name, &params, &lease).await.map(drop),
            None => self.leases.create(&params, &lease).await.map(drop),
        }
    }
}
