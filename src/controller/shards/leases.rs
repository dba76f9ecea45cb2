//! How the replicas' Leases look: names, label, contents.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{LeaseOptions, hash};

/// The label by which the Leases of one family of replicas are listed.
const LABEL: &str = "sluice.dev/replicas-of";
/// On a member's Lease: which process renews it. Two that run under one name are told apart by it.
const PROCESS: &str = "sluice.dev/process";

/// Selects the Leases of this family.
pub(super) fn selector(options: &LeaseOptions) -> String {
    format!("{LABEL}={}", short(&options.name, 63))
}

/// The Lease of a slot.
pub(super) fn slot_name(options: &LeaseOptions, slot: usize) -> String {
    format!("{}.slot-{slot:02}", options.name)
}

/// The Lease of a replica. An identity may have characters that a name may not have; its hash keeps two apart that
/// differ in these alone.
pub(super) fn member_name(options: &LeaseOptions) -> String {
    let hash = hash::fnv1a(options.identity.as_bytes());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let identity: String = options.identity.chars().map(plain).take(100).collect();
    format!("{}{}-{:08x}", member_prefix(options), identity.trim_matches('-'), hash >> 32)
}

/// What the names of all members' Leases begin with.
pub(super) fn member_prefix(options: &LeaseOptions) -> String {
    format!("{}.member-", options.name)
}

/// A Lease of this family with nothing in it; `before` is the one that it replaces.
pub(super) fn lease(options: &LeaseOptions, name: &str, before: Option<&Lease>, spec: LeaseSpec) -> Lease {
    let labels = [(LABEL.to_owned(), short(&options.name, 63))];
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        resource_version: before.and_then(|before| before.metadata.resource_version.clone()),
        labels: Some(labels.into()),
        ..ObjectMeta::default()
    };
    Lease { metadata, spec: Some(spec) }
}

/// What a Lease says whose holder becomes `holder`; nobody is `None`.
pub(super) fn held_by(options: &LeaseOptions, before: Option<&Lease>, holder: Option<&str>) -> LeaseSpec {
    let before = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let now = timestamp(options);
    let moves = before.holder_identity.is_some() && before.holder_identity.as_deref() != holder;
    LeaseSpec {
        holder_identity: holder.map(str::to_owned),
        lease_duration_seconds: seconds(options.duration),
        acquire_time: if moves || before.acquire_time.is_none() { now.clone() } else { before.acquire_time },
        renew_time: now,
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(moves)),
        ..LeaseSpec::default()
    }
}

/// Marks a member's Lease with the process that renews it.
pub(super) fn mark(lease: &mut Lease, process: &str) {
    lease.annotations_mut().insert(PROCESS.to_owned(), process.to_owned());
}

/// The process that renews a member's Lease.
pub(super) fn process(lease: &Lease) -> Option<&str> {
    lease.annotations().get(PROCESS).map(String::as_str)
}

/// Who holds a Lease.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// For how long a Lease lasts when nobody renews it.
pub(super) fn duration(lease: &Lease) -> Option<Duration> {
    let seconds = lease.spec.as_ref()?.lease_duration_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn seconds(duration: Duration) -> Option<i32> {
    i32::try_from(duration.as_secs()).ok()
}

fn timestamp(options: &LeaseOptions) -> Option<MicroTime> {
    Timestamp::from_microsecond(options.clock.now().timestamp_micros()).ok().map(MicroTime)
}

/// `text` if it has at most `most` bytes, else its beginning and its hash. Names of Leases are ASCII.
fn short(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let hash = hash::fnv1a(text.as_bytes());
    let beginning: String = text.chars().take(most - 17).collect();
    format!("{beginning}-{hash:016x}")
}
