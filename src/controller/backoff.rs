//! How long a watch that failed waits before it goes on.
//!
//! The runtime's own waits grow to 30 s and, worse, are those of all watches together: while one waits after an error,
//! nothing that another sees arrives, not even in the caches. Five watches that each lose their connection and then
//! their place, as in every restart of an API server, would leave the controller blind for minutes.

use std::time::Duration;

use kube::runtime::utils::Backoff;

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// For one watch: a moment, then twice as long each time it fails again, but never long.
#[derive(Debug)]
pub(super) struct OfOneWatch {
    next: Duration,
}

impl Default for OfOneWatch {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Iterator for OfOneWatch {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next;
        self.next = (2 * wait).min(LONGEST);
        Some(wait)
    }
}

impl Backoff for OfOneWatch {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// For all watches together: each has waited by itself.
#[derive(Debug)]
pub(super) struct OfAll;

impl Iterator for OfAll {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl Backoff for OfAll {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_fails_again_and_again_waits_five_seconds_at_most() {
        let mut backoff = OfOneWatch::default();
        let waits: Vec<u128> = backoff.by_ref().take(7).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(), Some(SHORTEST));
    }
}
