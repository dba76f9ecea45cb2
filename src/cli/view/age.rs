//! How long ago something was, in a few characters.

use chrono::{DateTime, TimeDelta, Utc};

/// How long before `now` the moment `then` was, the way kubectl writes it; a moment that is still to come (clocks
/// differ) is `0s`.
pub fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    short((now - then).max(TimeDelta::zero()))
}

/// A span in at most two units, the fewer the longer it is.
fn short(span: TimeDelta) -> String {
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    let (seconds, minutes, hours, days) =
        (span.num_seconds(), span.num_minutes(), span.num_hours(), span.num_days());
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () => two(days / 365, "y", days % 365, "d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (305, "5m5s"),
            (601, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 720, "3h12m"),
            (47 * 3600, "47h"),
            (3 * 86_400 + 7200, "3d2h"),
            (100 * 86_400, "100d"),
            (800 * 86_400, "2y70d"),
        ] {
            let now = DateTime::UNIX_EPOCH + TimeDelta::days(1000);
            assert_eq!(age(now - TimeDelta::seconds(seconds), now), text);
        }
    }
}
