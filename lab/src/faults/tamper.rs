//! Lies: JSON that is changed on its way.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

/// Changes JSON on its way.
#[derive(Clone)]
pub struct Tamper(Arc<dyn Fn(&mut Value) + Send + Sync>);

impl Tamper {
    /// With this function.
    pub fn with(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Changes what was parsed already.
    pub fn change(&self, value: &mut Value) {
        (self.0)(value);
    }

    /// Changes a text of JSON.
    pub(crate) fn rewrite(&self, text: &Bytes) -> Bytes {
        let mut changed: Value = serde_json::from_slice(text).unwrap_or_default();
        self.change(&mut changed);
        changed.to_string().into()
    }
}

impl fmt::Debug for Tamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tamper")
    }
}

impl PartialEq for Tamper {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tamper {}
