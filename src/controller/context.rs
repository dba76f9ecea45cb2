//! What every reconcile needs.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    ops::Deref,
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
    Clock, Error, Options, Telemetry,
    kinds::Kinds,
    memory::Memory,
    shards::{Permit, Shards, slot_of},
    stores::{Optional, Stores},
    subject::{RolloutObject, Subject},
};
use crate::metrics::Metrics;

/// The longest that a request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);
/// Looks at the same time. A source that does not answer holds each for seconds.
const LOOKS: usize = super::CONCURRENCY as usize * 3 / 4;
/// What must be left of the lease when a write ends.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// What one reconcile needs: what all of them share, and the right to act on its Rollout.
pub(super) struct Context {
    common: Arc<Common>,
    permit: Permit,
}

/// What all reconciles share.
pub(super) struct Common {
    pub(super) client: Client,
    /// The only namespace that is watched, if it is only one.
    namespace: Option<String>,
    /// The controller's own: a Freeze there is for all.
    pub(super) home: String,
    pub(super) names: HostNames,
    pub(super) metrics: Metrics,
    pub(super) stores: Arc<Stores>,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
    pub(super) kinds: Arc<Kinds>,
    /// Which of the kinds that a cluster need not have are there.
    pub(super) optional: Optional,
    shards: Shards,
    /// Reconciles that may wait for a metrics source at the same time: fewer than there can be at all, so that one
    /// that has something to write always finds room.
    pub(super) looks: Semaphore,
    /// By uid, so that a Rollout that was created again starts without memories.
    memories: std::sync::Mutex<HashMap<String, Kept>>,
}

/// What is kept of a Rollout while its slot is held. When the slot is lost and held again, others may have acted
/// meanwhile: memories start empty.
struct Kept {
    slot: usize,
    grant: u64,
    memory: Arc<Mutex<Memory>>,
}

impl Common {
    pub(super) fn new(
        client: Client,
        options: &Options,
        kinds: Arc<Kinds>,
        optional: Optional,
        shards: Shards,
        stores: Arc<Stores>,
    ) -> Self {
        Self {
            home: options.home(&client),
            client,
            namespace: options.namespace.clone(),
            names: options.names.clone(),
            metrics: options.metrics.clone(),
            stores,
            clock: options.clock,
            telemetry: options.telemetry.clone(),
            kinds,
            optional,
            shards,
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

    /// Whether objects of all namespaces are.
    pub(super) fn watches_all(&self) -> bool {
        self.namespace.is_none()
    }

    /// What a reconcile of a Rollout needs; nothing where the Rollout is another replica's.
    pub(super) fn enter(self: &Arc<Self>, rollout: &RolloutObject) -> Option<Context> {
        self.enter_named(&rollout.namespace().unwrap_or_default(), &rollout.name_any())
    }

    /// The same for a Rollout that need not be there yet.
    pub(super) fn enter_named(self: &Arc<Self>, namespace: &str, name: &str) -> Option<Context> {
        let permit = self.shards.enter(namespace, name)?;
        Some(Context { common: self.clone(), permit })
    }

    /// A Rollout is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Slots are not held any more: what became of their Rollouts is for others to say.
    pub(super) fn forget_slots(&self, slots: &[usize]) {
        self.forget_unless(|_, kept| !slots.contains(&kept.slot));
    }

    /// Rollouts are gone without having been seen to go.
    pub(super) fn forget_the_gone(&self) {
        let there: HashSet<String> =
            self.stores.rollouts.state().iter().filter_map(|rollout| rollout.uid()).collect();
        self.forget_unless(|uid, _| there.contains(uid));
    }

    fn forget_unless(&self, stays: impl Fn(&String, &Kept) -> bool) {
        let mut gone = Vec::new();
        self.lock().retain(|uid, kept| {
            let stays = stays(uid, kept);
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
        let uid = rollout.uid().unwrap_or_default();
        let Some(memory) = self.lock().get(&uid).map(|kept| kept.memory.clone()) else { return 1 };
        // The reconcile has ended, so nobody else holds it.
        memory.try_lock().map_or(1, |mut memory| {
            memory.failures = memory.failures.saturating_add(1);
            memory.failures
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
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
}

impl Context {
    /// What is kept of the Rollout since its slot is held.
    pub(super) fn memory(&self, rollout: &RolloutObject) -> Arc<Mutex<Memory>> {
        let slot = slot_of(&rollout.namespace().unwrap_or_default(), &rollout.name_any());
        let grant = self.permit.number();
        let mut memories = self.lock();
        let fresh = || Kept { slot, grant, memory: Arc::default() };
        let kept = memories.entry(rollout.uid().unwrap_or_default()).or_insert_with(fresh);
        if kept.grant != grant {
            *kept = fresh();
        }
        kept.memory.clone()
    }

    /// Whether another replica may act on the Rollout by now.
    pub(super) fn is_lost(&self) -> bool {
        self.permit.held_until().is_none()
    }

    /// What `work` comes to, unless the Rollout is to be given up before that. For work that changes nothing.
    pub(super) async fn unless_leaving<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.permit.leaving() => None,
        }
    }

    /// A request that changes something: only while the Rollout's slot is held, and no longer than the lease lasts.
    pub(super) async fn write<T>(
        &self,
        what: String,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        let left = match self.permit.held_until() {
            None => return Err(Error::SlotLost),
            Some(until) => until.saturating_duration_since(Instant::now()).saturating_sub(LEASE_MARGIN),
        };
        if left.is_zero() {
            return Err(Error::SlotLost);
        }
        bounded(what, REQUEST_LIMIT.min(left), request).await
    }
}

impl Deref for Context {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
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
