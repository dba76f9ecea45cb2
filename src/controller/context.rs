//! What every reconcile needs.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use kube::{Client, ResourceExt};
use sluice_core::{HostNames, carrier::Claim, plan::Plan};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, timeout},
};

use super::{
    Clock, Error, Leadership, Options, Telemetry,
    memory::Memory,
    stores::Stores,
    subject::{RolloutObject, Subject},
};
use crate::metrics::Metrics;

/// The longest that a request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);
/// Looks at the same time. A source that does not answer holds each for seconds.
const LOOKS: usize = super::CONCURRENCY as usize * 3 / 4;
/// What must be left of the lease when a write ends.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// What every reconcile needs.
pub(super) struct Context {
    pub(super) client: Client,
    /// The only namespace that is watched, if it is only one.
    namespace: Option<String>,
    pub(super) names: HostNames,
    pub(super) metrics: Metrics,
    pub(super) stores: Arc<Stores>,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
    leadership: Leadership,
    /// Reconciles that may wait for a metrics source at the same time: fewer than there can be at all, so that one
    /// that has something to write always finds room.
    pub(super) looks: Semaphore,
    /// By uid, so that a Rollout that was created again starts without memories.
    memories: std::sync::Mutex<HashMap<String, Arc<Mutex<Memory>>>>,
}

impl Context {
    pub(super) fn new(
        client: Client,
        options: &Options,
        leadership: Leadership,
        stores: Arc<Stores>,
    ) -> Self {
        Self {
            client,
            namespace: options.namespace.clone(),
            names: options.names.clone(),
            metrics: options.metrics.clone(),
            stores,
            clock: options.clock,
            telemetry: options.telemetry.clone(),
            leadership,
            looks: Semaphore::new(LOOKS),
            memories: std::sync::Mutex::default(),
        }
    }

    /// What all other Rollouts claim of the VirtualServices of `plan`.
    pub(super) fn claims_beside(&self, subject: &Subject, plan: &Plan) -> Vec<Claim> {
        self.stores.claims_beside(&subject.uid, plan)
    }

    /// Whether objects of a namespace are in the caches.
    pub(super) fn watches(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|watched| watched == namespace)
    }

    /// What is kept of a Rollout.
    pub(super) fn memory(&self, rollout: &RolloutObject) -> Arc<Mutex<Memory>> {
        let uid = rollout.uid().unwrap_or_default();
        self.lock().entry(uid).or_default().clone()
    }

    /// A Rollout is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Rollouts are gone without having been seen to go.
    pub(super) fn forget_the_gone(&self) {
        let there: HashSet<String> =
            self.stores.rollouts.state().iter().filter_map(|rollout| rollout.uid()).collect();
        let mut gone = Vec::new();
        self.lock().retain(|uid, _| {
            let stays = there.contains(uid);
            if !stays {
                gone.push(uid.clone());
            }
            stays
        });
        for uid in gone {
            self.telemetry.gone(&uid);
        }
    }

    /// One more reconcile in a row ended with an error; how many did.
    pub(super) fn failed(&self, rollout: &RolloutObject) -> u32 {
        let memory = self.memory(rollout);
        // The reconcile has ended, so nobody else holds it.
        memory.try_lock().map_or(1, |mut memory| {
            memory.failures = memory.failures.saturating_add(1);
            memory.failures
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Mutex<Memory>>>> {
        self.memories.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Resolves when all caches are filled; an error if that takes too long, so that nobody waits for it who is told to
    /// stop meanwhile.
    pub(super) async fn caches_filled(&self) -> Result<(), Error> {
        let what = "filling the caches".to_owned();
        timeout(REQUEST_LIMIT, self.stores.ready())
            .await
            .map_err(|_| Error::TimedOut { what, limit: REQUEST_LIMIT })
    }

    /// A request that changes nothing.
    pub(super) async fn read<T>(
        &self,
        what: String,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        bounded(what, REQUEST_LIMIT, request).await
    }

    /// A request that changes something: only while we lead, and no longer than the lease lasts.
    pub(super) async fn write<T>(
        &self,
        what: String,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        let left = match self.leadership.held_until() {
            None => return Err(Error::NotLeading),
            Some(until) => until.saturating_duration_since(Instant::now()).saturating_sub(LEASE_MARGIN),
        };
        if left.is_zero() {
            return Err(Error::NotLeading);
        }
        bounded(what, REQUEST_LIMIT.min(left), request).await
    }
}

async fn bounded<T>(
    what: String,
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::from_kube(what, error)),
        Err(_) => Err(Error::TimedOut { what, limit }),
    }
}
