//! Lies: JSON that is changed on its way.

use std::{fmt, sync::Arc};

use serde_json::Value;

/// Changes JSON on its way.
#[derive(Clone)]
pub struct Tamper(Arc<dyn Fn(&mut Value) + Send + Sync>);

impl Tamper {
    /// With this function.
    pub fn with(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Does it.
    pub fn change(&self, value: &mut Value) {
        (self.0)(value);
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
