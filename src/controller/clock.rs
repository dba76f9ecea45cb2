//! What time it is: the wall clock once, and a monotonic one from then on.
//!
//! A controller whose wall clock jumps must neither end a step early nor take a lease from a live holder. Tests with
//! virtual time get it for free, because tokio's clock is what moves.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// Wall clock time that moves with tokio's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    utc: DateTime<Utc>,
}

impl Clock {
    /// A clock that shows `utc` now.
    pub fn starting_at(utc: DateTime<Utc>) -> Self {
        Self { start: Instant::now(), utc }
    }

    /// A clock that shows what the machine's shows now.
    pub fn system() -> Self {
        Self::starting_at(Utc::now())
    }

    /// The time, in whole milliseconds: what a status keeps.
    pub fn now(&self) -> DateTime<Utc> {
        use chrono::SubsecRound;
        let elapsed = chrono::Duration::from_std(self.start.elapsed()).unwrap_or(chrono::Duration::MAX);
        self.utc.checked_add_signed(elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC).trunc_subsecs(3)
    }
}
