//! Measurements in, verdicts out.
//!
//! A look at the metrics gives whole numbers of both arms ([`Look`]). The looks of a step are kept as
//! [`Evidence`], small enough for a status. [`judge`] asks every check what it says of them.

mod availability;
mod check;
mod compare;
mod evidence;
mod limits;
mod measurement;
mod opinion;
mod packed;
mod scored;
mod verdict;
mod versus;
mod window;
mod words;

pub use availability::{Availability, Said};
pub use check::{Moment, judge, lacks_evidence, overall};
pub use evidence::Evidence;
pub use measurement::{Both, Bound, Counts, HISTORY, LADDER, Look, Measurement, Trouble, TroubleKind};
pub use scored::{comparable, scored};
pub use verdict::Verdict;
pub use versus::{Comparison, Indicator, LOOKS_AT_STABLE};
pub use window::Needs;
