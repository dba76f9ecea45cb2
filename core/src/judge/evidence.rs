//! What the looks of one step saw, kept small.

use serde::{Deserialize, Serialize};

/// What the looks of one step saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {}
