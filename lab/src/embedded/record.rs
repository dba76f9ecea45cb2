//! What happened: every committed write with the object before and after, and how often each client asked for what.
//! Tests check invariants on the first and count requests on the second.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::faults::Verb;

/// The user that writes on the API's own behalf when dependents go with their owner.
pub const GARBAGE_COLLECTOR: &str = "system:garbage-collector";

/// One committed write.
#[derive(Clone, Debug)]
pub struct Write {
    /// The resourceVersion it made; grows with every write of the whole API.
    pub version: u64,
    /// When, by the API's clock.
    pub at: DateTime<Utc>,
    /// The client's name.
    pub user: String,
    /// What was asked. A `Patch` or `Update` that took the last finalizer away has no `after`.
    pub verb: Verb,
    /// API group, empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// `plural`, or `plural/status` when it was written through the subresource.
    pub resource: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object as it was; `None` when it was created.
    pub before: Option<Arc<Value>>,
    /// The object as it is; `None` when it is gone.
    pub after: Option<Arc<Value>>,
}

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asked {
    /// The client's name.
    pub user: String,
    /// What was asked.
    pub verb: Verb,
    /// `plural` or `plural/status`.
    pub resource: String,
}

/// How often something was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All requests, those that were refused or changed nothing among them.
    pub total: u64,
    /// Those answered with an error, by the API or by a fault.
    pub refused: u64,
}
