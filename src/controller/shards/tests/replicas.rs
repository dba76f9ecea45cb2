//! Replicas that can be stopped, killed and paused, and the rule that none of them breaks.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use chrono::{DateTime, Utc};
use kube::Client;
use serde_json::Value;
use sluice_lab::embedded::{Api as Embedded, Connection};
use tokio::{task::JoinHandle, time::advance};
use tokio_util::sync::CancellationToken;

use super::super::{LeaseOptions, SLOTS, Shards, run};
use crate::controller::Clock;

pub(super) const DURATION: Duration = Duration::from_secs(15);
pub(super) const PERIOD: Duration = Duration::from_secs(3);

/// All replicas, and the API between them.
pub(super) struct World {
    pub(super) api: Embedded,
    pub(super) replicas: Vec<Replica>,
}

pub(super) struct Replica {
    pub(super) identity: String,
    pub(super) connection: Connection,
    pub(super) shards: Shards,
    stop: CancellationToken,
    running: JoinHandle<()>,
    paused: Arc<AtomicBool>,
}

/// A process whose machine may stand still: its clock goes on, it does not.
struct Pausable<F> {
    inner: Pin<Box<F>>,
    paused: Arc<AtomicBool>,
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.paused.load(Ordering::SeqCst) {
            // Nobody tells when it goes on: look again, as often as the scheduler comes by.
            let waker = context.waker().clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        self.inner.as_mut().poll(context)
    }
}

/// A client whose requests go on when nobody waits for them any more, as they do on a network.
fn detached(client: Client) -> Client {
    let service = tower::service_fn(move |request| {
        let client = client.clone();
        async move { tokio::spawn(async move { client.send(request).await }).await.expect("no panic") }
    });
    Client::new(service, "default")
}

impl World {
    pub(super) fn new() -> Self {
        Self { api: Embedded::new(), replicas: Vec::new() }
    }

    /// Starts a replica whose wall clock is so far ahead.
    pub(super) fn start(&mut self, identity: &str, hours_ahead: i64) -> &Replica {
        let connection = self.api.connect(identity);
        let utc: DateTime<Utc> = DateTime::UNIX_EPOCH + chrono::Duration::hours(500_000 + hours_ahead);
        let options = LeaseOptions {
            namespace: "default".into(),
            name: "sluice".into(),
            identity: identity.into(),
            duration: DURATION,
            clock: Clock::starting_at(utc),
        };
        let (stop, shards, paused) = (CancellationToken::new(), Shards::nothing(), Arc::default());
        let client = detached(connection.client());
        let work = run(client, options, shards.clone(), stop.clone(), |_| {});
        let running = tokio::spawn(Pausable { inner: Box::pin(work), paused: Arc::clone(&paused) });
        self.replicas.push(Replica { identity: identity.into(), connection, shards, stop, running, paused });
        self.replicas.last().unwrap()
    }

    /// Lets virtual time pass, in steps that are short beside every period, and looks at each whether two replicas hold
    /// one slot.
    pub(super) async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(100);
        let mut left = time;
        while !left.is_zero() {
            advance(step.min(left)).await;
            left = left.saturating_sub(step);
            for _ in 0..20 {
                tokio::task::yield_now().await;
                self.check();
            }
        }
    }

    fn check(&self) {
        let mut holders: [Option<&str>; SLOTS] = [None; SLOTS];
        for replica in &self.replicas {
            for slot in replica.slots() {
                if let Some(other) = holders[slot].replace(&replica.identity) {
                    panic!("slot {slot} is held by {other} and by {}", replica.identity);
                }
            }
        }
    }

    /// How many slots each replica holds.
    pub(super) fn shares(&self) -> Vec<usize> {
        self.replicas.iter().map(|replica| replica.slots().len()).collect()
    }

    pub(super) fn lease(&self, name: &str) -> Value {
        let lease = self.api.object("leases.coordination.k8s.io", "default", name);
        lease.map_or(Value::Null, |lease| lease.as_ref().clone())
    }

    /// The names of all Leases that are there.
    pub(super) fn leases(&self) -> Vec<String> {
        let mut names: Vec<String> = self.api.history().iter().map(|write| write.name.clone()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| !self.lease(name).is_null());
        names
    }

    /// Names of the Leases that were written since a version, each as often as it was.
    pub(super) fn written_since(&self, version: u64) -> Vec<String> {
        let history = self.api.history();
        history.iter().filter(|write| write.version > version).map(|write| write.name.clone()).collect()
    }
}

impl Replica {
    pub(super) fn slots(&self) -> Vec<usize> {
        self.shards.0.slots()
    }

    /// Tells it to stop.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.running.is_finished()
    }

    /// Ends it between two instructions, and nothing of it remains.
    pub(super) fn kill(&self) {
        self.connection.faults().crash();
        self.running.abort();
        for slot in 0..SLOTS {
            self.shards.0.revoke(slot);
        }
    }

    /// It stands still, or goes on.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }
}
