//! Measurements in, verdicts out.

mod evidence;
mod measurement;
mod verdict;

pub use evidence::Evidence;
pub use measurement::{Bound, Counts, Look, Measurement, Trouble, TroubleKind};
pub use verdict::Verdict;
