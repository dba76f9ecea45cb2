//! What is wrong with a spec, by field path.

use std::fmt;

use crate::api::Reason;

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Path of the field, like `spec.steps[2].weight`.
    pub path: String,
    /// [`Reason::InvalidSpec`] or [`Reason::Unsupported`].
    pub reason: Reason,
    /// What was expected and what was there.
    pub problem: String,
}

/// One thing in a spec that means nothing, though it does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanWarning {
    /// Path of the field.
    pub path: String,
    /// Why it means nothing.
    pub problem: String,
}

impl fmt::Display for PlanWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// All that is wrong with a spec; at least one thing when it is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanErrors(Vec<PlanError>);

impl PlanErrors {
    pub(super) fn invalid(&mut self, path: &str, problem: impl Into<String>) {
        self.push(path, Reason::InvalidSpec, problem.into());
    }

    pub(super) fn unsupported(&mut self, path: &str, what: &str) {
        self.push(path, Reason::Unsupported, format!("not supported yet: {what}"));
    }

    fn push(&mut self, path: &str, reason: Reason, problem: String) {
        self.0.push(PlanError { path: path.to_owned(), reason, problem });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &PlanError> {
        self.0.iter()
    }

    /// The one reason for all: the spec is invalid if anything in it is, else it asks for too much.
    pub fn reason(&self) -> Reason {
        if self.0.iter().any(|error| error.reason == Reason::InvalidSpec) {
            Reason::InvalidSpec
        } else {
            Reason::Unsupported
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}
