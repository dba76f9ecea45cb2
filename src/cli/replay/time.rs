//! Times as people give them: RFC 3339, `now`, or so long ago.

use chrono::{DateTime, Utc};
use sluice_core::api::GoDuration;

/// A time, absolute or relative to when the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// This very time.
    At(DateTime<Utc>),
    /// So long before now.
    Ago(GoDuration),
}

impl Time {
    /// Which time it is, if it is `now`.
    pub fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => chrono::TimeDelta::from_std(ago.0)
                .ok()
                .and_then(|ago| now.checked_sub_signed(ago))
                .unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

/// Reads a time.
pub fn parse(text: &str) -> Result<Time, String> {
    if text == "now" {
        return Ok(Time::Ago(GoDuration::default()));
    }
    if let Some(ago) = text.strip_prefix('-').and_then(|ago| ago.parse().ok()) {
        return Ok(Time::Ago(ago));
    }
    DateTime::parse_from_rfc3339(text)
        .map(|at| Time::At(at.with_timezone(&Utc)))
        .map_err(|_| "expected a time like 2026-03-14T15:00:00Z, now, or -2h for two hours ago".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_so_long_ago() {
        let now: DateTime<Utc> = "2026-03-14T15:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("now", "2026-03-14T15:00:00Z"),
            ("-2h", "2026-03-14T13:00:00Z"),
            ("-1h30m", "2026-03-14T13:30:00Z"),
            ("2026-03-14T14:00:00+02:00", "2026-03-14T12:00:00Z"),
        ] {
            assert_eq!(parse(text).unwrap().at(now), expected.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        for wrong in ["", "2h", "-", "-2", "yesterday", "2026-03-14", "-2h ago"] {
            assert!(parse(wrong).unwrap_err().contains("2026-03-14T15:00:00Z"), "{wrong}");
        }
        assert!(parse("-2562047h").unwrap().at(DateTime::UNIX_EPOCH).timestamp() < 0);
    }
}
