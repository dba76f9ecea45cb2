//! What users got of the canary.

/// What users got of the canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Requests that it answered; copies are none.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
}
