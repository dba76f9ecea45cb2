//! What a decision writes, as its record in the status has it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many objects a decision's record names at most.
pub const MOST_WRITES: usize = 17;
/// How many changed fields of one object a decision's record names at most.
pub const MOST_CHANGES: usize = 8;

/// What a decision writes into one object, as the difference between the object as it was read and what was decided. It is on
/// record before it is written, and is written again for as long as the object is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteRecord {
    /// Kind of the object.
    pub kind: WrittenKind,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Whether it is created: what it has is all new then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// The fields that change, but for the stamp, which every decision changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub changes: Vec<FieldChange>,
    /// How many more fields change than there is room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_changes: u32,
}

/// The kinds that decisions are written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenKind {
    /// Who gets which requests.
    VirtualService,
    /// The subsets of a Service, and how the proxies speak to it.
    DestinationRule,
    /// The traffic of its predictors, where Seldon Core's operator owns the routes.
    SeldonDeployment,
    /// A word of another version.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for WrittenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One field that changes. Of a value that has fields itself is told who gets what, and else which fields; a long one is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Its path, like `spec.http[0].route[1].weight`, in the object as the changes before this one leave it.
    #[schemars(length(max = 96))]
    pub field: String,
    /// Whose it is: the Service of the destination, with its subset, or the name of the route or predictor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 96))]
    pub of: Option<String>,
    /// What it was; nothing where it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 96))]
    pub from: Option<String>,
    /// What it is to be; nothing where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 96))]
    pub to: Option<String>,
}

/// In words: `spec.http[0].route[1].weight of iris-v2: 5 before, 25 after`.
impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if let Some(of) = &self.of {
            write!(f, " of {of}")?;
        }
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, ": {from} before, {to} after"),
            (None, Some(to)) => write!(f, ": added, {to}"),
            (Some(from), None) => write!(f, ": taken off, {from} before"),
            (None, None) => Ok(()),
        }
    }
}

/// In words: `VirtualService models/iris`.
impl fmt::Display for WriteRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "for serde")]
pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_with_whose_it_is() {
        let text = |text: &str| Some(text.to_owned());
        let change = |of, from, to| FieldChange { field: "spec.x".into(), of, from, to }.to_string();
        assert_eq!(change(text("iris-v2"), text("5"), text("25")), "spec.x of iris-v2: 5 before, 25 after");
        assert_eq!(change(None, None, text("25")), "spec.x: added, 25");
        assert_eq!(change(None, text("5"), None), "spec.x: taken off, 5 before");
    }

    #[test]
    fn a_kind_of_another_version_is_read() {
        let write = serde_json::json!({"kind": "HTTPRoute", "namespace": "models", "name": "iris"});
        let read: WriteRecord = serde_json::from_value(write).unwrap();
        assert_eq!(read.kind, WrittenKind::Unknown);
    }
}
