//! The stamp: which decision the routes of a `VirtualService` show.
//!
//! It is written in the same patch as the weights, so that a controller which has slept, or a cache which is late,
//! can see that a later decision was already acted on. The annotation [`STAMP`] holds a JSON object with an entry
//! per Rollout, because several Rollouts may have routes in one `VirtualService`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::error::{RouteError, Trouble};
use crate::{
    Predictor,
    api::{Beside, Given, Reason, STAMP},
    machine::Outcome,
};

/// What one Rollout last wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// The Rollout's uid.
    pub uid: String,
    /// Number of the decision.
    pub seq: u64,
    /// Revision of the canary, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Revision of stable, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// The canary's part of the pair's share, percent from 0 to 100.
    pub setting: u8,
    /// What it gets beside that.
    #[serde(flatten)]
    pub beside: Beside,
    /// What became of earlier revisions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, Outcome>,
    /// Why that became of `revision`, where it has an outcome: all that is left of a decision whose record failed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_reason")]
    pub reason: Option<Reason>,
}

/// A word of a later version says nothing; it must not make the stamp unreadable.
fn known_reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reason>, D::Error> {
    let reason: Option<Reason> = serde_json::from_value(Value::deserialize(deserializer)?).ok();
    Ok(reason.filter(|reason| *reason != Reason::Unknown))
}

impl Stamp {
    /// All that the canary gets by it.
    pub fn given(&self) -> Given {
        Given { weight: self.setting.min(100), beside: self.beside.clone() }
    }

    /// Whether this is of a later decision than `other`. Of two with one number the one that gives the same canary less
    /// counts as the later.
    pub fn is_after(&self, other: &Self) -> bool {
        let less = || self.revision == other.revision && self.given().is_less_than(&other.given());
        self.seq > other.seq || self.seq == other.seq && less()
    }

    /// The stamp without what it says of predictors outside `namespace`.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        let is_within = |revision: &String| {
            revision.parse::<Predictor>().is_ok_and(|predictor| predictor.namespace == namespace)
        };
        self.revision = self.revision.filter(is_within);
        self.stable = self.stable.filter(is_within);
        self.outcomes.retain(|revision, _| is_within(revision));
        self
    }
}

/// What the Rollout `rollout` (`namespace/name`) last wrote to `virtual_service`, if anything.
///
/// # Errors
/// An annotation that is not a JSON object, or an entry of this Rollout that is not a stamp. What others wrote does
/// not matter.
pub fn read(virtual_service: &Value, rollout: &str) -> Result<Option<Stamp>, RouteError> {
    match entries(virtual_service)?.remove(rollout) {
        None => Ok(None),
        Some(entry) => serde_json::from_value(entry).map(Some).map_err(|error| {
            let path = format!("metadata.annotations[{STAMP}][{rollout}]");
            unreadable(virtual_service, path, "a stamp", error.to_string())
        }),
    }
}

/// Stamps `virtual_service` for the Rollout `rollout` (`namespace/name`), leaving the entries of all others. The
/// annotation is not touched if it says the same already.
///
/// # Errors
/// An annotation that is not a JSON object: others' entries would be lost. See [`restore`].
pub fn write(virtual_service: &mut Value, rollout: &str, stamp: &Stamp) -> Result<(), RouteError> {
    let mut entries = entries(virtual_service)?;
    let entry = serde_json::to_value(stamp)
        .map_err(|error| unreadable(virtual_service, annotation(), "a stamp", error.to_string()))?;
    if entries.get(rollout) == Some(&entry) {
        return Ok(());
    }
    entries.insert(rollout.to_owned(), entry);
    put(virtual_service, entries)
}

/// Like [`write()`], but an annotation that cannot be read is replaced by one with this entry alone: what a decrease
/// does, which nothing may keep from being written.
///
/// # Errors
/// Metadata that is not an object.
pub fn restore(virtual_service: &mut Value, rollout: &str, stamp: &Stamp) -> Result<(), RouteError> {
    if entries(virtual_service).is_err() {
        put(virtual_service, Map::new())?;
    }
    write(virtual_service, rollout, stamp)
}

fn entries(virtual_service: &Value) -> Result<Map<String, Value>, RouteError> {
    const EXPECTED: &str = "a JSON object with an entry per Rollout";
    let text = match annotations(virtual_service).and_then(|annotations| annotations.get(STAMP)) {
        None | Some(Value::Null) => return Ok(Map::new()),
        Some(Value::String(text)) => text,
        Some(other) => {
            return Err(unreadable(virtual_service, annotation(), EXPECTED, other.to_string()));
        }
    };
    serde_json::from_str(text)
        .map_err(|error| unreadable(virtual_service, annotation(), EXPECTED, format!("{text:?} ({error})")))
}

fn annotations(virtual_service: &Value) -> Option<&Map<String, Value>> {
    virtual_service.pointer("/metadata/annotations")?.as_object()
}

fn put(virtual_service: &mut Value, entries: Map<String, Value>) -> Result<(), RouteError> {
    let text = Value::Object(entries).to_string();
    let metadata = virtual_service.get_mut("metadata").and_then(Value::as_object_mut);
    let annotations = metadata.and_then(|metadata| {
        let annotations = metadata.entry("annotations").or_insert(Value::Null);
        if annotations.is_null() {
            *annotations = Value::Object(Map::new());
        }
        annotations.as_object_mut()
    });
    if let Some(annotations) = annotations {
        annotations.insert(STAMP.to_owned(), text.into());
        return Ok(());
    }
    let path = "metadata.annotations".to_owned();
    let found = virtual_service.get("metadata").unwrap_or(&Value::Null).to_string();
    Err(unreadable(virtual_service, path, "metadata with annotations", found))
}

fn annotation() -> String {
    format!("metadata.annotations[{STAMP}]")
}

fn unreadable(virtual_service: &Value, path: String, expected: &'static str, found: String) -> RouteError {
    let field = |pointer| virtual_service.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    RouteError {
        virtual_service: format!("{}/{}", field("/metadata/namespace"), field("/metadata/name")),
        path,
        trouble: Trouble::UnreadableStamp { expected, found },
    }
}
