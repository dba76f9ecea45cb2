//! Claims slots, gives them up, and notices when they are lost.
//!
//! A slot's Lease is written only when the slot changes hands, under the resourceVersion of the list in which its
//! holder was seen to be overdue or gone. A holder that came back meanwhile has begun a new tenure, and must have
//! written the same Lease to hold it: one of the two is refused.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Change, LeaseOptions,
    gate::Gate,
    hash::SLOTS,
    held::{Held, Tenure},
    leases,
    member::Member,
    share::share,
    view::{Listed, View},
};

/// This replica among the others.
pub(super) struct Replica<F> {
    leases: Api<Lease>,
    options: LeaseOptions,
    held: Held,
    view: View,
    gate: Gate,
    changed: F,
}

/// What is to be done about a slot.
enum Todo {
    Claim,
    Release,
}

impl<F: Fn(Change)> Replica<F> {
    pub(super) fn new(client: Client, options: LeaseOptions, held: Held, changed: F) -> Self {
        let leases = Api::namespaced(client, &options.namespace);
        let (view, gate) = (View::new(&options), Gate::new(leases.clone(), options.clone()));
        Self { leases, options, held, view, gate, changed }
    }

    /// Takes part until `stopping`, then gives up everything as soon as what is in progress has ended.
    pub(super) async fn run(mut self, stopping: CancellationToken) {
        let (sender, mut tenures) = watch::channel(None);
        let mut member = Member::new(self.leases.clone(), self.options.clone(), sender);
        let serve = async {
            loop {
                // The sender lives in `member`.
                let Ok(tenure) = tenures.wait_for(Option::is_some).await.map(|tenure| tenure.clone()) else {
                    return;
                };
                if let Some(tenure) = tenure {
                    self.serve(&tenure).await;
                }
                self.lose_all();
                // Until the member says so too, the ended tenure would be found again.
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = member.keep() => {}
            () = serve => {}
        }
        self.leave(&mut member).await;
        self.lose_all();
    }

    fn period(&self) -> Duration {
        self.options.duration / 5
    }

    /// Holds what it should for as long as the tenure lasts.
    async fn serve(&mut self, tenure: &Arc<Tenure>) {
        let mut passed = false;
        while let Some(end) = tenure.end() {
            let pause = if passed {
                self.settle(tenure, &mut passed).await
            } else {
                passed = self.pass().await;
                if passed { Duration::ZERO } else { self.period() / 3 }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.held.idle() => {}
                () = sleep_until(end) => {}
            }
        }
    }

    /// Whether no version without slots leads.
    async fn pass(&mut self) -> bool {
        match timeout(self.options.duration / 3, self.gate.pass()).await {
            Ok(Ok(None)) => return true,
            Ok(Ok(Some(leader))) => tracing::info!(leader, "waiting for a leader of a version without slots"),
            Ok(Err(error)) => tracing::warn!(%error, lease = self.options.name, "cannot take the lease"),
            Err(_) => tracing::warn!(lease = self.options.name, "cannot take the lease in time"),
        }
        false
    }

    /// Looks once at all Leases and does what follows; how long until the next look.
    async fn settle(&mut self, tenure: &Arc<Tenure>, passed: &mut bool) -> Duration {
        let soon = self.period() / 6;
        let listed = match self.list().await {
            Ok(listed) => listed,
            Err(why) => {
                tracing::warn!(why, "cannot list the leases");
                return self.period() / 3;
            }
        };
        self.view.take_in(&listed);
        if !Gate::is_passed(listed.gate.as_ref()) {
            self.lose_all();
            *passed = false;
            return Duration::ZERO;
        }
        let (todo, settled) = self.plan(&listed);
        let done = join_all(todo.iter().map(|(slot, todo)| self.hand_over(*slot, todo, &listed))).await;
        let mut gained = Vec::new();
        for ((slot, todo), _) in todo.iter().zip(&done).filter(|(_, done)| **done) {
            if let (Todo::Claim, Some(_)) = (todo, tenure.end()) {
                self.held.grant(*slot, tenure);
                gained.push(*slot);
            }
        }
        if !gained.is_empty() {
            tracing::info!(slots = ?gained, "gained slots");
            (self.changed)(Change::Gained(gained));
        }
        self.clean_up(&listed).await;
        if !settled || done.contains(&false) {
            return soon;
        }
        let now = Instant::now();
        let overdue = self.view.next_overdue(now).map(|due| due.duration_since(now));
        overdue.map_or(self.period(), |overdue| overdue.min(self.period()))
    }

    /// What is to be done now, and whether that is all there is for now.
    fn plan(&self, listed: &Listed) -> (Vec<(usize, Todo)>, bool) {
        let me = self.options.identity.as_str();
        let holders = std::array::from_fn(|slot| listed.holder(slot));
        let wanted = share(&holders, self.view.others(listed).chain([me]));
        let (mut todo, mut settled, mut lost, mut kept) = (Vec::new(), true, Vec::new(), Vec::new());
        for slot in 0..SLOTS {
            let mine = wanted[slot] == Some(me);
            match holders[slot] {
                Some(holder) if holder == me => match (self.held.holds(slot), mine) {
                    (true, true) if self.held.leaves(slot, false) => kept.push(slot),
                    (true, true) => {}
                    (true, false) => {
                        self.held.leaves(slot, true);
                        if self.held.is_idle(slot) {
                            self.held.revoke(slot);
                            lost.push(slot);
                            todo.push((slot, Todo::Release));
                        }
                        // Else the last reconcile wakes us.
                    }
                    // From before this tenure, or a claim whose answer was lost.
                    (false, true) => todo.push((slot, Todo::Claim)),
                    (false, false) => todo.push((slot, Todo::Release)),
                },
                holder => {
                    if self.held.revoke(slot) {
                        tracing::warn!(slot, holder, "a slot was taken away");
                        lost.push(slot);
                    }
                    match holder {
                        Some(holder) if mine && !self.view.is_overdue(holder, listed) => settled = false,
                        Some(_) | None if mine => todo.push((slot, Todo::Claim)),
                        Some(_) | None => {}
                    }
                }
            }
        }
        if !lost.is_empty() {
            tracing::info!(slots = ?lost, "gave up slots");
            (self.changed)(Change::Lost(lost));
        }
        if !kept.is_empty() {
            // What was refused while they were being given up is made up for.
            (self.changed)(Change::Gained(kept));
        }
        (todo, settled)
    }

    /// Writes a slot's Lease; whether that succeeded.
    async fn hand_over(&self, slot: usize, todo: &Todo, listed: &Listed) -> bool {
        let holder = match todo {
            Todo::Claim => Some(self.options.identity.as_str()),
            Todo::Release => None,
        };
        let before = listed.slots[slot].as_ref();
        let name = leases::slot_name(&self.options, slot);
        let spec = leases::held_by(&self.options, before, holder);
        let lease = leases::lease(&self.options, &name, before, spec);
        let params = PostParams::default();
        let write = async {
            match before {
                Some(_) => self.leases.replace(&name, &params, &lease).await,
                None => self.leases.create(&params, &lease).await,
            }
        };
        match timeout(self.options.duration / 3, write).await {
            Ok(Ok(_)) => return true,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                tracing::debug!(slot, "another replica was faster");
            }
            Ok(Err(error)) => tracing::warn!(%error, lease = name, "cannot write the lease"),
            Err(_) => tracing::warn!(lease = name, "cannot write the lease in time"),
        }
        false
    }

    /// Deletes the Leases of replicas that are gone and hold nothing; the first of those that are there does.
    async fn clean_up(&self, listed: &Listed) {
        let me = self.options.identity.as_str();
        if self.view.others(listed).any(|other| other < me) {
            return;
        }
        let named: Vec<&str> = (0..SLOTS).filter_map(|slot| listed.holder(slot)).collect();
        for (identity, lease) in &listed.members {
            if !self.view.is_overdue(identity, listed) || named.contains(&identity.as_str()) {
                continue;
            }
            // Not if it came back meanwhile.
            let found = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
            let (name, params) = (lease.name_any(), DeleteParams::default().preconditions(found));
            match timeout(self.options.duration / 3, self.leases.delete(&name, &params)).await {
                Ok(Ok(_)) => {
                    tracing::info!(replica = identity, "deleted the lease of a replica that is gone");
                }
                Ok(Err(error)) => tracing::debug!(%error, lease = name, "cannot delete the lease"),
                Err(_) => tracing::debug!(lease = name, "cannot delete the lease in time"),
            }
        }
    }

    async fn list(&self) -> Result<Listed, String> {
        let asked = Instant::now();
        // Without a resourceVersion, so that it is what is stored, not what some cache has.
        let params = ListParams::default().labels(&leases::selector(&self.options));
        match timeout(self.options.duration / 3, self.leases.list(&params)).await {
            Ok(Ok(list)) => Ok(Listed::sort(&self.options, list.items, asked)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Nothing is held any more.
    fn lose_all(&self) {
        let lost: Vec<usize> = (0..SLOTS).filter(|slot| self.held.revoke(*slot)).collect();
        if !lost.is_empty() {
            (self.changed)(Change::Lost(lost));
        }
    }

    /// Gives everything up, each slot when nothing of it is in progress any more. Others are told first that this
    /// replica is no member any more, so that they take what it gives up; what it does not get to give up they take when
    /// its Lease has been gone for as long as what is in progress may go on.
    async fn leave(&mut self, member: &mut Member) {
        for slot in 0..SLOTS {
            self.held.leaves(slot, true);
        }
        member.resign().await;
        let give_up = async {
            loop {
                let Ok(listed) = self.list().await else {
                    sleep(self.period() / 6).await;
                    continue;
                };
                let mine: Vec<usize> =
                    (0..SLOTS).filter(|slot| listed.holder(*slot) == Some(&self.options.identity)).collect();
                if mine.is_empty() {
                    return self.give_back_the_gate(&listed).await;
                }
                let idle: Vec<usize> = mine.into_iter().filter(|slot| self.held.is_idle(*slot)).collect();
                let lost: Vec<usize> = idle.iter().copied().filter(|slot| self.held.revoke(*slot)).collect();
                if !lost.is_empty() {
                    (self.changed)(Change::Lost(lost));
                }
                join_all(idle.iter().map(|slot| self.hand_over(*slot, &Todo::Release, &listed))).await;
                if idle.is_empty() {
                    tokio::select! {
                        () = self.held.idle() => {}
                        () = sleep(self.period() / 6) => {}
                    }
                }
            }
        };
        if timeout(self.options.duration, give_up).await.is_ok() {
            tracing::info!("gave all slots up");
        } else {
            tracing::warn!("could not give all slots up in time");
        }
    }

    /// The last one out lets versions without slots lead again.
    async fn give_back_the_gate(&self, listed: &Listed) {
        let Some(gate) = listed.gate.as_ref().filter(|gate| Gate::is_passed(Some(gate))) else { return };
        if listed.members.keys().all(|identity| *identity == self.options.identity)
            && let Err(error) = self.gate.give_back(gate).await
        {
            tracing::debug!(%error, lease = self.options.name, "did not give the lease back");
        }
    }
}
