//! Measurements in, verdicts out.
//!
//! A look at the metrics gives whole numbers of both arms ([`Look`]). The looks of a step are kept as
//! [`Evidence`], small enough for a status. [`judge`] asks every check what it says of them.

mod availability;
mod evidence;
mod limits;
mod measurement;
mod verdict;

pub use availability::{Availability, Said};
pub use evidence::{Evidence, Window};
pub use limits::{judge, overall};
pub use measurement::{Bound, Counts, Look, Measurement, Trouble, TroubleKind};
pub use verdict::Verdict;
