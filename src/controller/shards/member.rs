//! This replica's own Lease: the only one that is renewed.
//!
//! What it lasts is counted from the *start* of its last successful renewal, on our monotonic clock, and a renewal whose
//! answer comes after that end begins a new [`Tenure`] in which nothing is held. So a replica that cannot reach the API
//! server stops by itself, and before anybody else can have seen its Lease unchanged for as long.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{LeaseOptions, held::Tenure, leases};

/// Keeps this replica a member.
pub(super) struct Member {
    leases: Api<Lease>,
    options: LeaseOptions,
    name: String,
    /// This process, as nobody else calls itself.
    process: String,
    /// The Lease as it was written or read last.
    known: Option<Lease>,
    /// The version that another process of our name wrote, and since when it is there.
    other: Option<(Option<String>, Instant)>,
    tenures: watch::Sender<Option<Arc<Tenure>>>,
    joined: bool,
}

/// How an attempt to renew ended.
enum Attempt {
    /// The Lease is ours for its duration from then on.
    Renewed(Instant),
    /// Another process renews it.
    Taken,
    /// Nobody knows: the API server did not answer, or somebody was faster.
    Unknown(String),
}

impl Member {
    pub(super) fn new(
        leases: Api<Lease>,
        options: LeaseOptions,
        tenures: watch::Sender<Option<Arc<Tenure>>>,
    ) -> Self {
        let name = leases::member_name(&options);
        // Seeded by the operating system, each time anew.
        let process = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { leases, options, name, process, known: None, other: None, tenures, joined: false }
    }

    /// Renews until the future is dropped.
    pub(super) async fn keep(&mut self) {
        loop {
            let end = self.end();
            let attempt = self.attempt();
            let attempt = match end {
                Some(end) => timeout_at(end, attempt).await,
                None => Ok(attempt.await),
            };
            let pause = match attempt.unwrap_or_else(|_| Attempt::Unknown("no answer in time".to_owned())) {
                Attempt::Renewed(started) => {
                    self.lasts_until(started + self.options.duration);
                    self.period()
                }
                Attempt::Taken => {
                    tracing::error!(
                        identity = self.options.identity,
                        "another process runs as this replica: holding nothing while it does"
                    );
                    if let Some(tenure) = self.tenures.send_replace(None) {
                        tenure.revoke();
                    }
                    self.period()
                }
                Attempt::Unknown(why) => {
                    tracing::warn!(why, lease = self.name, "cannot renew the lease");
                    self.period() / 3
                }
            };
            self.notice_the_end();
            let next = Instant::now() + pause;
            sleep_until(self.end().map_or(next, |end| end.min(next))).await;
            self.notice_the_end();
        }
    }

    fn notice_the_end(&self) {
        if self.tenures.borrow().is_some() && self.end().is_none() {
            tracing::warn!(lease = self.name, "lost the lease, and all slots with it");
            self.tenures.send_replace(None);
        }
    }

    /// Stops being a member: others count on this replica no more, and what it still holds they take when it is given
    /// up, or when our Lease has been gone for its duration. Best effort: it runs out anyway.
    pub(super) async fn resign(&mut self) {
        let limit = self.options.duration / 3;
        match timeout(limit, self.delete()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "could not delete the lease"),
            Err(_) => tracing::warn!(lease = self.name, "could not delete the lease in time"),
        }
    }

    async fn delete(&self) -> Result<(), kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        if leases::process(&lease) != Some(&self.process) {
            return Ok(());
        }
        let found = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
        self.leases.delete(&self.name, &DeleteParams::default().preconditions(found)).await.map(drop)
    }

    fn period(&self) -> Duration {
        self.options.duration / 5
    }

    fn end(&self) -> Option<Instant> {
        self.tenures.borrow().as_ref().and_then(|tenure| tenure.end())
    }

    fn lasts_until(&mut self, until: Instant) {
        let goes_on = self.tenures.borrow().as_ref().is_some_and(|tenure| tenure.extend(until));
        if !goes_on && until > Instant::now() {
            tracing::info!(identity = self.options.identity, "a member of the replicas");
            self.joined = true;
            self.tenures.send_replace(Some(Arc::new(Tenure::until(until))));
        }
    }

    async fn attempt(&mut self) -> Attempt {
        let started = Instant::now();
        match timeout(self.options.duration / 3, self.renew()).await {
            Ok(Ok(true)) => Attempt::Renewed(started),
            Ok(Ok(false)) => Attempt::Taken,
            Ok(Err(error)) => {
                // Somebody wrote or deleted it, or an earlier attempt of ours arrived late: the next one reads it.
                self.known = None;
                Attempt::Unknown(error.to_string())
            }
            Err(_) => {
                self.known = None;
                Attempt::Unknown("no answer in time".to_owned())
            }
        }
    }

    /// Renews the Lease; false where another process does.
    async fn renew(&mut self) -> Result<bool, kube::Error> {
        if self.known.is_none() {
            self.known = self.leases.get_opt(&self.name).await?;
        }
        let before = self.known.as_ref();
        if let Some(lease) = before.filter(|lease| leases::process(lease) != Some(&self.process))
            && self.joined
        {
            // Whoever starts under a name that is there takes it for its own, from before a restart. Whoever runs and
            // finds another under its name has been taken for dead.
            let (version, now) = (lease.resource_version(), Instant::now());
            let since =
                self.other.as_ref().filter(|(seen, _)| *seen == version).map_or(now, |(_, since)| *since);
            self.other = Some((version, since));
            if now.duration_since(since) < self.options.duration {
                self.known = None;
                return Ok(false);
            }
        }
        let spec = leases::held_by(&self.options, before, Some(&self.options.identity));
        let mut lease = leases::lease(&self.options, &self.name, before, spec);
        leases::mark(&mut lease, &self.process);
        let params = PostParams::default();
        let written = match before {
            Some(_) => self.leases.replace(&self.name, &params, &lease).await?,
            None => self.leases.create(&params, &lease).await?,
        };
        self.known = Some(written);
        Ok(true)
    }
}
