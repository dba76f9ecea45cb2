//! What the Leases of the replicas looked like, and since when.
//!
//! Only our own monotonic clock is asked: whether another replica is there shows in its Lease being renewed, whatever
//! time is written in it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{LeaseOptions, hash::SLOTS, leases};

/// The Leases of the family, as one list showed them: all at one moment.
pub(super) struct Listed {
    /// The Lease of each slot, if it is there.
    pub(super) slots: [Option<Lease>; SLOTS],
    /// The Lease of each member, by identity.
    pub(super) members: BTreeMap<String, Lease>,
    /// The Lease that a version without slots would hold.
    pub(super) gate: Option<Lease>,
    /// When it was asked for. What it shows is at least as new.
    pub(super) asked: Instant,
}

impl Listed {
    pub(super) fn sort(options: &LeaseOptions, list: Vec<Lease>, asked: Instant) -> Self {
        let mut listed =
            Self { slots: std::array::from_fn(|_| None), members: BTreeMap::new(), gate: None, asked };
        let names: [String; SLOTS] = std::array::from_fn(|slot| leases::slot_name(options, slot));
        let prefix = leases::member_prefix(options);
        for lease in list {
            let name = lease.name_any();
            if name == options.name {
                listed.gate = Some(lease);
            } else if let Some(slot) = names.iter().position(|of| *of == name) {
                listed.slots[slot] = Some(lease);
            } else if let (true, Some(holder)) = (name.starts_with(&prefix), leases::holder(&lease)) {
                listed.members.insert(holder.to_owned(), lease);
            }
        }
        listed
    }

    /// Who holds a slot, by its Lease.
    pub(super) fn holder(&self, slot: usize) -> Option<&str> {
        self.slots[slot].as_ref().and_then(leases::holder)
    }
}

/// How a member's Lease looked, and since when.
struct Seen {
    /// Its version; nothing while it is not there.
    version: Option<String>,
    since: Instant,
    lasts: Duration,
}

/// What was seen of the others so far.
pub(super) struct View {
    identity: String,
    duration: Duration,
    /// By identity: those whose Lease is there, and those that a slot names.
    seen: BTreeMap<String, Seen>,
    /// When the Leases were last seen.
    last: Option<Instant>,
    /// Nobody is overdue before.
    not_before: Option<Instant>,
}

impl View {
    pub(super) fn new(options: &LeaseOptions) -> Self {
        Self {
            identity: options.identity.clone(),
            duration: options.duration,
            seen: BTreeMap::new(),
            last: None,
            not_before: None,
        }
    }

    /// Takes in a list that arrived just now.
    pub(super) fn take_in(&mut self, listed: &Listed) {
        let now = Instant::now();
        // Who saw nothing for a while knows nothing of the others. They were as blind, most likely, and get a moment to
        // come back, instead of everybody taking everything from everybody.
        if self.last.is_some_and(|last| now.duration_since(last) > self.duration / 2) {
            self.not_before = Some(now + self.duration / 2);
        }
        self.last = Some(now);
        let named = (0..SLOTS).filter_map(|slot| listed.holder(slot));
        let all: std::collections::BTreeSet<&str> =
            listed.members.keys().map(String::as_str).chain(named).collect();
        self.seen.retain(|identity, _| all.contains(identity.as_str()));
        for identity in all.into_iter().filter(|identity| *identity != self.identity) {
            let lease = listed.members.get(identity);
            let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
            let known = self.seen.get(identity);
            let lasts = lease.and_then(leases::duration).or(known.map(|seen| seen.lasts));
            let lasts = lasts.map_or(self.duration, |lasts| lasts.max(self.duration));
            let since = known.filter(|seen| seen.version == version).map_or(now, |seen| seen.since);
            self.seen.insert(identity.to_owned(), Seen { version, since, lasts });
        }
    }

    /// Whether a replica holds nothing any more, whatever the Leases of slots say: what shows it, its Lease unchanged
    /// or not there, had lasted for the Lease's duration when this list was asked for. By then its own clock has told
    /// it to stop, and a renewal that the list does not show comes too late for it.
    pub(super) fn is_overdue(&self, identity: &str, listed: &Listed) -> bool {
        let asked = listed.asked;
        identity != self.identity
            && self.not_before.is_none_or(|not_before| asked >= not_before)
            && self
                .seen
                .get(identity)
                .is_some_and(|seen| asked.saturating_duration_since(seen.since) >= seen.lasts)
    }

    /// The other replicas that are there.
    pub(super) fn others<'a>(&'a self, listed: &'a Listed) -> impl Iterator<Item = &'a str> {
        let there = listed.members.keys().map(String::as_str);
        there.filter(|identity| *identity != self.identity && !self.is_overdue(identity, listed))
    }

    /// When somebody is overdue next, unless they are heard of.
    pub(super) fn next_overdue(&self, now: Instant) -> Option<Instant> {
        let due = self.seen.values().map(|seen| seen.since + seen.lasts);
        let due = due.map(|due| self.not_before.map_or(due, |not_before| due.max(not_before)));
        due.filter(|due| *due > now).min()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use tokio::time::advance;

    use super::*;
    use crate::controller::Clock;

    /// A list, asked for then, in which the other replica is a member with that version of its Lease.
    fn listed(options: &LeaseOptions, asked: Instant, version: &str) -> Listed {
        let other = LeaseOptions { identity: "other".into(), ..options.clone() };
        let spec = leases::held_by(&other, None, Some("other"));
        let mut lease = leases::lease(&other, &leases::member_name(&other), None, spec);
        lease.metadata = ObjectMeta { resource_version: Some(version.into()), ..lease.metadata };
        Listed::sort(options, vec![lease], asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_was_asked_for_before_the_lease_ran_out_proves_nothing_however_late_it_arrives() {
        let options = LeaseOptions {
            namespace: "default".into(),
            name: "sluice".into(),
            identity: "me".into(),
            duration: Duration::from_secs(15),
            clock: Clock::starting_at(DateTime::<Utc>::UNIX_EPOCH),
        };
        let mut view = View::new(&options);
        for second in 0..15 {
            let list = listed(&options, Instant::now(), "1");
            view.take_in(&list);
            assert!(!view.is_overdue("other", &list), "after {second} s");
            advance(Duration::from_millis(999)).await;
        }
        let asked = Instant::now();
        advance(Duration::from_secs(2)).await;
        let late = listed(&options, asked, "1");
        view.take_in(&late);
        // It has been unchanged for longer than it lasts, but a renewal since it was asked for would not show in it.
        assert!(!view.is_overdue("other", &late));
        let fresh = listed(&options, Instant::now(), "1");
        view.take_in(&fresh);
        assert!(view.is_overdue("other", &fresh));
        // One renewal, and it begins anew.
        let renewed = listed(&options, Instant::now(), "2");
        view.take_in(&renewed);
        assert!(!view.is_overdue("other", &renewed));
    }
}
