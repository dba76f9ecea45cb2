//! What is seen: read back, never assumed.

use std::{collections::BTreeMap, fmt, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    Predictor,
    api::{Do, Reason},
    judge::{Look, Said},
    target::StableField,
    traffic::stamp::Stamp,
};

/// What was seen of the world at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The time, for records only.
    pub now: DateTime<Utc>,
    /// Time since the machine last saw the world, on a clock that never jumps.
    pub elapsed: Duration,
    /// The predictor that the spec wants to be live; nothing where that cannot be told.
    pub wanted: Option<Predictor>,
    /// What keeps the spec from being acted on. Stops starts and increases, never decreases.
    pub refusal: Option<Refusal>,
    /// Whether the Rollout is being deleted.
    pub deleted: bool,
    /// Whether the spec says `paused`.
    pub paused: bool,
    /// What stops every increase in the namespace or in the cluster, if anything does.
    pub frozen: Option<Frozen>,
    /// The Rollout's uid.
    pub uid: String,
    /// Whether our finalizer is on the Rollout: it had a status once.
    pub had_status: bool,
    /// What the routes show; nothing where they cannot be read.
    pub traffic: Option<SeenTraffic>,
    /// Ready endpoints behind stable; of a subset one stands for any number.
    pub stable_ready: usize,
    /// Ready endpoints behind the canary in flight, or the wanted predictor; of a subset one stands for any number.
    pub canary_ready: usize,
    /// Why nobody answers for stable though its Service has ready endpoints, in a sentence; nothing where that is not so.
    pub stable_missing: Option<String>,
    /// The same of the canary.
    pub canary_missing: Option<String>,
    /// What the predictors of the target serve, by Service, where the target tells: texts to compare with `==`.
    pub serves: BTreeMap<String, String>,
    /// What the metrics said, if they were asked this time.
    pub look: Option<Look>,
    /// Whether the metrics can be had; nothing where the looks so far do not tell.
    pub metrics: Option<Said>,
    /// What people ask for, oldest first; handled ones among them.
    pub actions: Vec<Asked>,
}

/// Why a spec is not acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In one word.
    pub reason: Reason,
    /// In a sentence that names the field or the object, what was expected and what was there.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whether all that it stops is the next rollout: who is stable is found all the same, and has the traffic. So it is when
    /// nobody delegates to a generated route, which has to be there before somebody does.
    pub fn stops_starts_only(&self) -> bool {
        self.reason == Reason::NotDelegated
    }
}

/// A `Freeze` that counts for a Rollout. It is shown as a sentence without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Namespace of the Freeze.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it counts in the whole cluster.
    pub everywhere: bool,
    /// Who made it, as far as is known.
    pub by: Option<String>,
    /// Why, in their words.
    pub reason: String,
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, everywhere, by, reason } = self;
        if *everywhere {
            write!(f, "the cluster is frozen")?;
        } else {
            write!(f, "the namespace {namespace} is frozen")?;
        }
        let by = by.as_deref().unwrap_or("someone");
        write!(f, " by {by}: {reason} (Freeze {namespace}/{name})")
    }
}

/// What the routes of a Rollout show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenTraffic {
    /// Whether the routes are what [`super::desired`] says, the stamp included.
    pub in_place: bool,
    /// The newest stamp of this Rollout's name on any of them.
    pub stamp: Option<Stamp>,
    /// Predictors of the Rollout's namespace that have weight on any of them.
    pub weighted: Vec<Predictor>,
    /// Hosts with weight that are no such predictors.
    pub strangers: Vec<String>,
    /// Where the spec can say which predictor is stable, if they do not tell.
    pub field: StableField,
    /// What keeps the routes from being written, if anything did: a webhook's refusal, a missing permission.
    pub obstacle: Option<String>,
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The action's uid.
    pub uid: String,
    /// What to do.
    pub what: Do,
    /// The revision that it is about.
    pub revision: Option<String>,
    /// The number of the step, from 1, that it is about.
    pub step: Option<u32>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// Who asks, as far as is known.
    pub by: Option<String>,
    /// The uid of the Rollout that it was made for, where it says so.
    pub rollout_uid: Option<String>,
}
