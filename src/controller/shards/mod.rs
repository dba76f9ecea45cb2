//! Several replicas share the Rollouts: each Rollout belongs to one of 16 slots, each slot to one replica at a time.
//!
//! Two kinds of Leases do it. A *member's* Lease says that a replica is there, and is renewed. A *slot's* Lease names
//! the replica that holds the slot, and is written only when the slot changes hands: at rest there is one write for each
//! replica and renewal. A holder holds its slots for as long as its own membership lasts.
//!
//! Why no two replicas hold one slot at the same time:
//!
//! 1. Wall clocks are never compared. A membership lasts, on its holder's monotonic clock, from the *start* of its last
//!    successful renewal; whoever's renewal is not answered by then has lost everything, whatever the answer says later.
//! 2. Another replica takes a slot only when a list that it asked for shows the holder's Lease as it has been, on *its*
//!    monotonic clock, for the Lease's whole duration. That is later than the holder's own end, and any renewal
//!    that the list does not show comes too late for the holder.
//! 3. It takes it under the resourceVersion that the same list showed. A holder that became a member again holds nothing
//!    before it has written that Lease itself, so one of the two is refused.
//!
//! It holds for a Lease that is *gone* as for one that is not renewed: that it is gone must have lasted as long. What
//! two processes do whose monotonic clocks run at different speeds, or that are stopped between asking and writing, is
//! left to the order of writes of a reconcile: the stamp and the resourceVersions.

mod gate;
mod hash;
mod held;
mod leases;
mod member;
mod share;
mod slots;
mod view;

use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use self::hash::{SLOTS, slot_of};
pub(super) use self::held::Permit;
use self::{held::Held, slots::Replica};
use super::Clock;

/// The Leases by which the replicas share the Rollouts.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Namespace of the Leases.
    pub namespace: String,
    /// What the names of all Leases of these replicas begin with: `NAME.slot-00` to `NAME.slot-15`, `NAME.member-...`.
    /// The Lease `NAME` itself keeps versions without slots from acting.
    pub name: String,
    /// Who we are: unique among the replicas.
    pub identity: String,
    /// How long a membership lasts without a renewal, in whole seconds, 3 at least; 15 is usual.
    pub duration: Duration,
    /// What time it is, for the record in the Leases.
    pub clock: Clock,
}

/// What became of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// They are held now.
    Gained(Vec<usize>),
    /// They are not held any more.
    Lost(Vec<usize>),
}

/// The slots that this replica holds. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Shards(Held);

impl Shards {
    /// Nothing, until [`run`] claims some.
    pub(super) fn nothing() -> Self {
        Self(Held::nothing())
    }

    /// Everything, without leases.
    pub(super) fn always() -> Self {
        Self(Held::always())
    }

    /// Leave to reconcile a Rollout; nothing where its slot is not held or about to be given up.
    pub(super) fn enter(&self, namespace: &str, name: &str) -> Option<Permit> {
        self.0.enter(namespace, name)
    }

    /// How many slots are held now.
    pub(super) fn count(&self) -> usize {
        self.0.slots().len()
    }
}

/// Shares the slots with the other replicas until `stopping`, and gives them up then. `changed` is told of every slot
/// that is gained, after that, and of every one that is lost, before another can have it from us.
pub(super) async fn run(
    client: Client,
    options: LeaseOptions,
    shards: Shards,
    stopping: CancellationToken,
    changed: impl Fn(Change),
) {
    Replica::new(client, options, shards.0, changed).run(stopping).await;
}

#[cfg(test)]
mod tests;
