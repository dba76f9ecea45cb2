//! A Rollout as the server sent it: readable, or one that another version or a hand has spoilt.

use chrono::{DateTime, TimeZone, Utc};
use kube::{ResourceExt, api::DynamicObject};
use sluice_core::api::Rollout;

/// A Rollout as the server sent it. One that cannot be read must not hide the others.
#[derive(Clone, Debug)]
pub enum Listed {
    /// It can be read.
    Readable(Box<Rollout>),
    /// It cannot.
    Unreadable(Unreadable),
}

/// A Rollout that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Option<DateTime<Utc>>,
    /// What is wrong with it.
    pub cause: String,
}

impl From<&DynamicObject> for Listed {
    fn from(object: &DynamicObject) -> Self {
        let rollout = serde_json::to_value(object).and_then(serde_json::from_value::<Rollout>);
        match rollout {
            Ok(rollout) => Self::Readable(Box::new(rollout)),
            Err(error) => Self::Unreadable(Unreadable {
                namespace: object.namespace().unwrap_or_default(),
                name: object.name_any(),
                created: created(object),
                cause: error.to_string(),
            }),
        }
    }
}

impl Listed {
    pub(super) fn namespace(&self) -> String {
        match self {
            Self::Readable(rollout) => rollout.namespace().unwrap_or_default(),
            Self::Unreadable(unreadable) => unreadable.namespace.clone(),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Readable(rollout) => rollout.name_any(),
            Self::Unreadable(unreadable) => unreadable.name.clone(),
        }
    }

    pub(crate) fn created(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Readable(rollout) => created(&**rollout),
            Self::Unreadable(unreadable) => unreadable.created,
        }
    }
}

/// When an object was created, in our kind of time.
pub fn created(object: &impl ResourceExt) -> Option<DateTime<Utc>> {
    let created = object.creation_timestamp()?;
    Utc.timestamp_opt(created.0.as_second(), 0).single()
}
