//! Waiting for something to become true, with a limit and with what was seen instead.

use std::{fmt, time::Duration};

/// How often [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What did not become true in time.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLate {
    what: String,
    limit: Duration,
    last: String,
}

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?} it was still not so that {}; last seen: {}", self.limit, self.what, self.last)
    }
}

impl std::error::Error for TooLate {}

/// Looks again and again until `look` answers `Ok`, for at most `limit` (tokio time). What `look` answers as its error
/// is what was seen instead, for the message.
pub async fn eventually<T, E, F>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T, TooLate>
where
    E: fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut last = String::from("nothing");
    let looks = async {
        loop {
            match look().await {
                Ok(seen) => return seen,
                Err(instead) => last = instead.to_string(),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(limit, looks).await {
        Ok(seen) => Ok(seen),
        Err(_) => Err(TooLate { what: what.into(), limit, last }),
    }
}
