//! What this replica holds now: asked at the start of every reconcile and before every write.
//!
//! A slot is held in a [`Tenure`], an unbroken time of membership, and is lost with it at once, without anybody having
//! to say so: who asks compares the tenure's end with the time. A tenure that has ended never comes back.

use std::{
    array,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::hash::{SLOTS, slot_of};

/// An unbroken time in which this replica is a member: others take nothing from it.
#[derive(Debug)]
pub(super) struct Tenure(Mutex<Option<Instant>>);

impl Tenure {
    pub(super) fn until(until: Instant) -> Self {
        Self(Mutex::new(Some(until)))
    }

    /// When it ends if it is not extended; nothing once it has ended.
    pub(super) fn end(&self) -> Option<Instant> {
        let mut end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *end = end.filter(|end| *end > Instant::now());
        *end
    }

    /// It ends later, if it has not ended yet.
    pub(super) fn extend(&self, until: Instant) -> bool {
        let mut end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *end = end.filter(|end| *end > Instant::now()).map(|end| end.max(until));
        end.is_some()
    }

    /// It ends now.
    pub(super) fn revoke(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// That a slot is held, from when it was claimed to when it is given up or lost.
#[derive(Debug)]
struct Grant {
    /// Grows with each grant of this process.
    number: u64,
    tenure: Arc<Tenure>,
    /// Given up, or taken away.
    ended: AtomicBool,
    /// Whether it is about to be given up.
    leaving: watch::Sender<bool>,
    /// Reconciles that are in progress.
    busy: AtomicUsize,
}

/// The slots that this replica holds. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Held(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Without leases all are held for ever.
    always: bool,
    grants: Mutex<[Option<Arc<Grant>>; SLOTS]>,
    numbers: AtomicU64,
    /// Told when the last reconcile of a slot that is being given up has ended.
    idle: Notify,
}

/// The right to reconcile one Rollout, for as long as its slot is held. The slot is not given up before it is dropped.
#[derive(Debug)]
pub(in crate::controller) struct Permit {
    grant: Option<Arc<Grant>>,
    held: Held,
}

impl Held {
    /// Nothing yet.
    pub(super) fn nothing() -> Self {
        Self::new(false)
    }

    /// Everything, for ever.
    pub(super) fn always() -> Self {
        Self::new(true)
    }

    fn new(always: bool) -> Self {
        let grants = Mutex::new(array::from_fn(|_| None));
        Self(Arc::new(Inner { always, grants, numbers: AtomicU64::new(1), idle: Notify::new() }))
    }

    /// Leave to reconcile a Rollout; nothing where its slot is not held or about to be given up.
    pub(super) fn enter(&self, namespace: &str, name: &str) -> Option<Permit> {
        if self.0.always {
            return Some(Permit { grant: None, held: self.clone() });
        }
        let grants = self.grants();
        let grant = grants[slot_of(namespace, name)].as_ref()?;
        if !grant.holds() || *grant.leaving.borrow() {
            return None;
        }
        grant.busy.fetch_add(1, Ordering::SeqCst);
        Some(Permit { grant: Some(grant.clone()), held: self.clone() })
    }

    /// The slots that are held now.
    pub(super) fn slots(&self) -> Vec<usize> {
        let grants = self.grants();
        (0..SLOTS)
            .filter(|slot| self.0.always || grants[*slot].as_ref().is_some_and(|grant| grant.holds()))
            .collect()
    }

    /// Whether a slot is held.
    pub(super) fn holds(&self, slot: usize) -> bool {
        self.0.always || self.grants()[slot].as_ref().is_some_and(|grant| grant.holds())
    }

    /// A slot is held from now on, as long as the tenure lasts.
    pub(super) fn grant(&self, slot: usize, tenure: &Arc<Tenure>) {
        let grant = Grant {
            number: self.0.numbers.fetch_add(1, Ordering::SeqCst),
            tenure: tenure.clone(),
            ended: AtomicBool::new(false),
            leaving: watch::Sender::new(false),
            busy: AtomicUsize::new(0),
        };
        self.grants()[slot] = Some(Arc::new(grant));
    }

    /// Nothing of a slot is begun from now on, or is again; whether that changed anything.
    pub(super) fn leaves(&self, slot: usize, leaving: bool) -> bool {
        let grant = self.grants()[slot].clone();
        grant.is_some_and(|grant| grant.leaving.send_replace(leaving) != leaving)
    }

    /// Whether a slot is held and nothing of it is in progress.
    pub(super) fn is_idle(&self, slot: usize) -> bool {
        self.grants()[slot].as_ref().is_none_or(|grant| grant.busy.load(Ordering::SeqCst) == 0)
    }

    /// A slot is not held any more; whether it was counted as held.
    pub(super) fn revoke(&self, slot: usize) -> bool {
        let grant = self.grants()[slot].take();
        grant.is_some_and(|grant| {
            grant.ended.store(true, Ordering::SeqCst);
            grant.leaving.send_replace(true);
            true
        })
    }

    /// Resolves when the last reconcile of a slot that is being given up has ended.
    pub(super) async fn idle(&self) {
        self.0.idle.notified().await;
    }

    fn grants(&self) -> MutexGuard<'_, [Option<Arc<Grant>>; SLOTS]> {
        self.0.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grant {
    fn holds(&self) -> bool {
        !self.ended.load(Ordering::SeqCst) && self.tenure.end().is_some()
    }
}

impl Permit {
    /// Until when the Rollout is ours at least; nothing when it is not any more.
    pub(in crate::controller) fn held_until(&self) -> Option<Instant> {
        match &self.grant {
            None => Some(Instant::now() + Duration::from_hours(1)),
            Some(grant) => grant.tenure.end().filter(|_| grant.holds()),
        }
    }

    /// Which grant it is; a later one has a higher number.
    pub(in crate::controller) fn number(&self) -> u64 {
        self.grant.as_ref().map_or(0, |grant| grant.number)
    }

    /// Resolves when the slot is about to be given up, or was taken away.
    pub(in crate::controller) async fn leaving(&self) {
        match &self.grant {
            None => std::future::pending().await,
            Some(grant) => {
                // The sender is in the grant, which is here.
                let _ = grant.leaving.subscribe().wait_for(|leaving| *leaving).await;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(grant) = &self.grant
            && grant.busy.fetch_sub(1, Ordering::SeqCst) == 1
            && *grant.leaving.borrow()
        {
            self.held.0.idle.notify_one();
        }
    }
}
