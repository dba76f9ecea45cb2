//! What a check says.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a check says: never a boolean, because "not known" is neither.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Verdict {
    /// The rule holds, on enough evidence.
    Pass,
    /// Nobody knows yet. Never promotes, never rolls back.
    #[default]
    Inconclusive,
    /// The rule is breached, on enough evidence.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
