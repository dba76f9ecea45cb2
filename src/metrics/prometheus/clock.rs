//! Whether a source and the controller agree on what time it is.
//!
//! Samples have the source's time, and what counts as evidence of a step is told by it. Where the source's clock is ahead, what
//! was counted before the step looks as if it were of the step; where it is behind, nothing of the step is seen. Both would be
//! judged without anybody noticing, so beyond a few seconds nothing is: the clocks are named instead.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// How far the clocks may be apart: less than a rollout waits after a change of traffic unless it says otherwise, and
/// more than answers take to arrive.
const TOLERATED: TimeDelta = TimeDelta::seconds(10);

/// What a source said last about the time, and when that arrived.
#[derive(Debug, Default)]
pub struct SourceClock(Mutex<Option<(DateTime<Utc>, Instant)>>);

impl SourceClock {
    /// Takes up the `Date` of an answer that arrived just now. A server need not send one, and is then believed.
    pub fn said(&self, date: Option<&str>) {
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let said = date.map(|date| (date.with_timezone(&Utc), Instant::now()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    /// What is wrong with the source's clock, if it was `now` on ours at the instant `when`.
    pub fn wrong(&self, now: DateTime<Utc>, when: Instant) -> Option<String> {
        let (said, arrived) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = TimeDelta::from_std(arrived.saturating_duration_since(when)).ok()?;
        let before = TimeDelta::from_std(when.saturating_duration_since(arrived)).ok()?;
        // The answer was made at any time since it was asked for, and says whole seconds.
        let (earliest, latest) = (now - before, now - before + since);
        let (side, apart) = if said > latest + TOLERATED {
            ("ahead of", said - latest)
        } else if said < earliest - TOLERATED {
            ("behind", earliest - said)
        } else {
            return None;
        };
        // Not to the second: a message that is another one at every look would be news every time.
        let apart = [
            (TimeDelta::days(1), "a day"),
            (TimeDelta::hours(1), "an hour"),
            (TimeDelta::minutes(1), "a minute"),
        ]
        .into_iter()
        .find(|(least, _)| apart > *least)
        .map_or("10 seconds", |(_, words)| words);
        Some(format!(
            "has a clock that is more than {apart} {side} the controller's: expected them to agree, because what \
             was counted in a step is told by the time"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clocks_that_agree_within_ten_seconds_are_fine_and_others_are_named() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for (seconds, expected) in [
            (0, None),
            (9, None),
            (-9, None),
            (14, Some("more than 10 seconds ahead of")),
            (-14, Some("more than 10 seconds behind")),
            (300, Some("more than a minute ahead of")),
            (-3700, Some("more than an hour behind")),
            (90_000, Some("more than a day ahead of")),
        ] {
            let clock = SourceClock::default();
            let asked = Instant::now();
            tokio::time::advance(Duration::from_secs(1)).await;
            clock.said(Some(&(now + TimeDelta::seconds(seconds)).to_rfc2822()));
            let wrong = clock.wrong(now, asked);
            assert_eq!(wrong.is_some(), expected.is_some(), "{seconds}: {wrong:?}");
            assert!(wrong.unwrap_or_default().contains(expected.unwrap_or_default()), "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_took_long_is_no_clock_that_is_behind() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let (clock, asked) = (SourceClock::default(), Instant::now());
        tokio::time::advance(Duration::from_secs(30)).await;
        for made in [0, 15, 30] {
            clock.said(Some(&(now + TimeDelta::seconds(made)).to_rfc2822()));
            assert_eq!(clock.wrong(now, asked), None);
        }
        assert!(clock.wrong(now - TimeDelta::hours(1), asked).is_some());
    }

    #[test]
    fn a_server_that_does_not_say_the_time_is_believed() {
        let clock = SourceClock::default();
        clock.said(None);
        clock.said(Some("yesterday"));
        assert_eq!(clock.wrong(DateTime::UNIX_EPOCH, Instant::now()), None);
    }
}
