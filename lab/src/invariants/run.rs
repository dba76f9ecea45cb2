//! What a run is to the checker: every committed state, and marks for what objects do not show.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::embedded::Write;

/// One committed state of one object.
///
/// The embedded laboratory gives them as [`Write`]s. On a real API server they come from a watch (`before` is the
/// object's version before, as the same watch showed it) and the audit log (`by`, `resource`). What was there when the
/// recording began are commits with neither `before` nor `by`, first of all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The resourceVersion; grows with every commit of the whole API.
    pub version: u64,
    /// When, by one clock for the whole run.
    pub at: DateTime<Utc>,
    /// The user who wrote; nothing where that cannot be told. Then what looks like a controller's write counts as one:
    /// a Rollout's status, a changed stamp.
    pub by: Option<String>,
    /// `plural`, or `plural/status` where it was written through the subresource and that is known.
    pub resource: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object as it was; nothing when it was created, or was there from the start.
    pub before: Option<Arc<Value>>,
    /// The object as it is; nothing when it is gone.
    pub after: Option<Arc<Value>>,
}

impl From<Write> for Commit {
    fn from(write: Write) -> Self {
        let Write { version, at, user, resource, namespace, name, before, after, .. } = write;
        Self { version, at, by: Some(user), resource, namespace, name, before, after }
    }
}

/// What API objects do not show. Times are by the clock of [`Commit::at`]; `to: None` is until the end of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Whoever looks at the metrics sees a breach of this Service, once it has enough requests.
    Breach {
        /// Namespace of the Service.
        namespace: String,
        /// Name of the Service.
        service: String,
        /// From when on.
        from: DateTime<Utc>,
        /// Until when.
        to: Option<DateTime<Utc>>,
    },
    /// The metrics source says nothing, or nothing that could be believed.
    Outage {
        /// From when on.
        from: DateTime<Utc>,
        /// Until when.
        to: Option<DateTime<Utc>>,
    },
    /// Nothing can be done about anything: no controller is there, or what it asks for does not get through. The limits of
    /// time stand still.
    Away {
        /// From when on.
        from: DateTime<Utc>,
        /// Until when.
        to: Option<DateTime<Utc>>,
    },
    /// All is as it should be, and nobody else changes anything.
    Rest {
        /// From when on.
        from: DateTime<Utc>,
        /// Until when.
        to: DateTime<Utc>,
        /// The requests of controllers that would change something, but for leases: those that were refused or had no
        /// effect too.
        requests: u64,
    },
}

/// How long what "soon" is may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How late a controller may hear of a change: nobody is blamed for what he could not know yet. Default 1 s.
    pub news: TimeDelta,
    /// From a change to its consequence: one reconcile, with the conflicts and refusals that the run has. Default 5 s.
    pub reconcile: TimeDelta,
    /// From a visible breach to no traffic: a lease, a look, and what a look needs to count. Default 15 s + 10 s.
    pub breach: TimeDelta,
    /// How far [`Commit::at`] may be off. Default 0, as where one clock is everybody's.
    pub clock: TimeDelta,
}

impl Default for Limits {
    fn default() -> Self {
        let [news, reconcile, breach] = [1, 5, 25].map(TimeDelta::seconds);
        Self { news, reconcile, breach, clock: TimeDelta::zero() }
    }
}

/// A run, whole.
#[derive(Clone, Debug)]
pub struct Run {
    /// Every committed state, in the order of versions. Needed are Rollouts, RolloutActions, VirtualServices, Services and
    /// EndpointSlices; Deployments where there are any; what a controller writes besides counts for guarantee 8.
    pub commits: Vec<Commit>,
    /// What they do not show.
    pub marks: Vec<Mark>,
    /// The users that are controllers.
    pub controllers: BTreeSet<String>,
    /// When the recording ended.
    pub until: DateTime<Utc>,
    /// What "soon" is.
    pub limits: Limits,
    /// The end of the same run without faults, for guarantee 7.
    pub calm: Option<super::End>,
}

impl Run {
    /// A run of these commits, with no marks.
    pub fn new(commits: Vec<Commit>, controllers: &[&str], until: DateTime<Utc>) -> Self {
        let controllers = controllers.iter().map(ToString::to_string).collect();
        Self { commits, marks: Vec::new(), controllers, until, limits: Limits::default(), calm: None }
    }
}
