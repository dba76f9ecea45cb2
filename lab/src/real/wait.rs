//! Waiting for a condition with a limit. No test of the laboratory sleeps to be right.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Result};

/// How often [`until`] looks.
pub const EVERY: Duration = Duration::from_millis(50);

/// Looks every 50 ms until `look` gives `Ok`, and returns that.
///
/// `look` says in its `Err` what it saw instead; when `limit` is over, the last one is in [`Error::Waited`]. `what` is the
/// condition as a fact: `"the canary has no weight"`.
pub async fn until<T, E, Fut>(
    limit: Duration,
    what: impl Into<String>,
    look: impl FnMut() -> Fut,
) -> Result<T>
where
    E: Display,
    Fut: Future<Output = std::result::Result<T, E>>,
{
    poll(limit, look).await.map_err(|last| Error::Waited { what: what.into(), limit, last })
}

/// [`until`], with only what was seen last as the error. A look that hangs counts against the limit too.
pub(super) async fn poll<T, E, Fut>(
    limit: Duration,
    mut look: impl FnMut() -> Fut,
) -> std::result::Result<T, String>
where
    E: Display,
    Fut: Future<Output = std::result::Result<T, E>>,
{
    let end = Instant::now() + limit;
    let mut last = "the first look did not end".to_owned();
    loop {
        match tokio::time::timeout_at(end, look()).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(not_yet)) => last = not_yet.to_string(),
            Err(_) => return Err(last),
        }
        if Instant::now() + EVERY >= end {
            return Err(last);
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_true_in_time_is_returned() {
        let mut looks = 0;
        let seen = until(Duration::from_secs(1), "the third look", || {
            looks += 1;
            std::future::ready(if looks == 3 { Ok(looks) } else { Err("too early") })
        });
        assert_eq!(seen.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_true_says_what_was_seen_last() {
        let seen =
            until(Duration::from_secs(1), "weight is 0", || std::future::ready(Err::<(), _>("weight is 25")));
        let error = seen.await.unwrap_err().to_string();
        assert_eq!(error, "weight is 0: still not so after 1s: weight is 25");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_ends_with_the_limit() {
        let seen = until(Duration::from_secs(1), "an answer", std::future::pending::<Result<(), String>>);
        assert!(matches!(seen.await, Err(Error::Waited { .. })));
    }
}
