//! One leader at a time, by a Lease.
//!
//! Wall clocks are never compared: a lease of another holder has expired when it did not change for its duration on *our*
//! monotonic clock, and our own lasts from the *start* of its last successful renewal. So a slow clock costs nobody
//! the lease, and a leader that cannot reach the API server stops by itself before anybody else starts.

use std::{future::Future, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::Clock;

/// The lease to hold while reconciling.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are: unique among the replicas.
    pub identity: String,
    /// How long the lease lasts without a renewal, in whole seconds, 3 at least; 15 is usual.
    pub duration: Duration,
    /// What time it is, for the record in the Lease.
    pub clock: Clock,
}

/// Whether, and until when, we lead.
#[derive(Clone, Debug)]
pub struct Leadership(Option<watch::Receiver<Option<Instant>>>);

impl Leadership {
    /// Leading without a lease.
    pub fn always() -> Self {
        Self(None)
    }

    /// Until when we lead at least; nothing when we do not.
    pub fn held_until(&self) -> Option<Instant> {
        match &self.0 {
            None => Some(Instant::now() + Duration::from_hours(1)),
            Some(until) => until.borrow().filter(|until| *until > Instant::now()),
        }
    }
}

/// Tries to hold a lease.
pub(super) struct Claim {
    leases: Api<Lease>,
    options: LeaseOptions,
    /// The lease as seen last, and since when it looks like that.
    observed: Option<(String, Instant)>,
}

/// How an attempt ended.
enum Attempt {
    /// It is ours, until then.
    Held(Instant),
    /// It is another's.
    Taken(String),
    /// Nobody knows: the API server did not answer, or somebody was faster.
    Unknown(String),
}

impl Claim {
    pub(super) fn new(client: Client, options: LeaseOptions) -> Self {
        Self { leases: Api::namespaced(client, &options.namespace), options, observed: None }
    }

    /// Runs `body` whenever the lease is held, until `stopping`; the token that `body` gets is cancelled when the lease is
    /// lost. Gives the lease back at the end.
    pub(super) async fn while_held<F>(
        mut self,
        stopping: CancellationToken,
        mut body: impl FnMut(Leadership, CancellationToken) -> F,
    ) where
        F: Future<Output = ()>,
    {
        loop {
            let Some(until) = stopping.run_until_cancelled(self.acquire()).await else { return };
            tracing::info!(lease = self.options.name, identity = self.options.identity, "leading");
            let (sender, receiver) = watch::channel(Some(until));
            let lost = stopping.child_token();
            let work = body(Leadership(Some(receiver)), lost.clone());
            tokio::pin!(work);
            let finished = tokio::select! {
                () = &mut work => true,
                () = self.keep(&sender) => false,
            };
            // The work may finish what it is at for as long as the lease lasts; its writes ask for that themselves.
            lost.cancel();
            if !finished {
                tracing::warn!(lease = self.options.name, "lost the lease");
                sender.send_replace(None);
                work.await;
            }
            if stopping.is_cancelled() {
                self.release().await;
                return;
            }
        }
    }

    /// Asks until the lease is ours.
    async fn acquire(&mut self) -> Instant {
        loop {
            match self.attempt().await {
                Attempt::Held(until) => return until,
                Attempt::Taken(holder) => tracing::debug!(holder, "another leads"),
                Attempt::Unknown(why) => tracing::warn!(why, "cannot ask for the lease"),
            }
            sleep(self.retry_period()).await;
        }
    }

    /// Renews until the lease is lost: taken by another, or run out while nobody answered.
    async fn keep(&mut self, held: &watch::Sender<Option<Instant>>) {
        loop {
            let Some(until) = *held.borrow() else { return };
            let renew = async {
                sleep(self.retry_period()).await;
                self.attempt().await
            };
            match timeout_at(until, renew).await {
                Ok(Attempt::Held(until)) => drop(held.send_replace(Some(until))),
                Ok(Attempt::Unknown(why)) => tracing::warn!(why, "cannot renew the lease"),
                Ok(Attempt::Taken(_)) | Err(_) => return,
            }
        }
    }

    fn retry_period(&self) -> Duration {
        self.options.duration / 5
    }

    async fn attempt(&mut self) -> Attempt {
        let started = Instant::now();
        // An answer that comes after the lease has run out is none.
        match timeout(self.options.duration / 2, self.claim()).await {
            Ok(Ok(None)) => Attempt::Held(started + self.options.duration),
            Ok(Ok(Some(holder))) => Attempt::Taken(holder),
            Ok(Err(error)) => Attempt::Unknown(error.to_string()),
            Err(_) => Attempt::Unknown("no answer in time".to_owned()),
        }
    }

    /// Takes or renews the lease; the holder's name where it is another's.
    async fn claim(&mut self) -> Result<Option<String>, kube::Error> {
        let name = self.options.name.clone();
        let Some(lease) = self.leases.get_opt(&name).await? else {
            let lease = self.ours(ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() }, None);
            self.leases.create(&PostParams::default(), &lease).await?;
            return Ok(None);
        };
        if let Some(holder) = self.live_holder(&lease) {
            return Ok(Some(holder));
        }
        let version = lease.metadata.resource_version.clone();
        let metadata =
            ObjectMeta { name: Some(name.clone()), resource_version: version, ..ObjectMeta::default() };
        let lease = self.ours(metadata, lease.spec);
        self.leases.replace(&name, &PostParams::default(), &lease).await?;
        Ok(None)
    }

    /// The other holder of a lease that has not run out on our clock.
    fn live_holder(&mut self, lease: &Lease) -> Option<String> {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder =
            spec.holder_identity.filter(|holder| !holder.is_empty() && *holder != self.options.identity)?;
        let version = lease.resource_version().unwrap_or_default();
        let now = Instant::now();
        let since = match &self.observed {
            Some((seen, since)) if *seen == version => *since,
            Some(_) | None => {
                self.observed = Some((version, now));
                now
            }
        };
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(self.options.duration, Duration::from_secs);
        (now.duration_since(since) < duration).then_some(holder)
    }

    fn ours(&self, metadata: ObjectMeta, before: Option<LeaseSpec>) -> Lease {
        let now = self.timestamp();
        let before = before.unwrap_or_default();
        let was_ours = before.holder_identity.as_ref() == Some(&self.options.identity);
        let transitions =
            before.lease_transitions.unwrap_or(0) + i32::from(!was_ours && before.holder_identity.is_some());
        let spec = LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: i32::try_from(self.options.duration.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| was_ours).or_else(|| now.clone()),
            renew_time: now,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn timestamp(&self) -> Option<MicroTime> {
        Timestamp::from_microsecond(self.options.clock.now().timestamp_micros()).ok().map(MicroTime)
    }

    /// Gives the lease back, so that the next leader need not wait. Best effort: it runs out anyway.
    async fn release(&self) {
        let give_back = async {
            let lease = self.leases.get(&self.options.name).await?;
            let mut spec = lease.spec.unwrap_or_default();
            if spec.holder_identity.as_ref() != Some(&self.options.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            let metadata = ObjectMeta {
                name: Some(self.options.name.clone()),
                resource_version: lease.metadata.resource_version,
                ..ObjectMeta::default()
            };
            let lease = Lease { metadata, spec: Some(spec) };
            self.leases.replace(&self.options.name, &PostParams::default(), &lease).await.map(drop)
        };
        match timeout(self.options.duration / 2, give_back).await {
            Ok(Ok(())) => tracing::info!(lease = self.options.name, "gave the lease back"),
            Ok(Err(error)) => tracing::warn!(%error, "could not give the lease back"),
            Err(_) => tracing::warn!("could not give the lease back in time"),
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
