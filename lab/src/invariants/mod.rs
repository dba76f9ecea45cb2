//! The invariant checker: reads every committed state of a run, and says which of the 16 guarantees of the design was
//! broken where.
//!
//! It knows nothing of the controller's code and reads raw JSON with arithmetic of its own, so that it can be wrong in
//! other ways only. It is the same for the in-memory API, whose history is a [`Run`], and for the real one, where a watch
//! and the audit log make one. `tests/embedded/mutants` shows for every guarantee a controller that breaks it, and that
//! the checker says so under that guarantee's number.
//!
//! ```
//! use sluice_lab::invariants::{Commit, Run, check, told};
//!
//! let api = sluice_lab::embedded::Api::new();
//! let commits = api.history().into_iter().map(Commit::from).collect();
//! let found = check(&Run::new(commits, &["sluice"], chrono::DateTime::UNIX_EPOCH));
//! assert!(found.is_empty(), "{}", told(&found));
//! ```

mod end;
mod guarantees;
mod hashed;
mod objects;
mod report;
mod run;
mod world;

pub use end::{End, end};
pub use report::{Violation, told};
pub use run::{Commit, Limits, Mark, Run};

/// Every breach of a guarantee in a run, in the order of versions.
pub fn check(run: &Run) -> Vec<Violation> {
    let mut found = guarantees::walk(run);
    if let Some(calm) = &run.calm {
        found.extend(end::compare(calm, run));
    }
    found
}
