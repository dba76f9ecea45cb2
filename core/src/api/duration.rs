//! Durations as Go and Kubernetes people write them: `90s`, `10m`, `1h30m`, `250ms`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration that is written as a Go style string. Never negative, and where it is read no longer than Go's can be, which
/// is 292 years: of such durations a rollout may add and multiply some thousands. Whole nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// The units, largest first, with their length in nanoseconds.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Go's longest.
const LONGEST: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());

impl GoDuration {
    /// What the API server lets through, the same language as [`GoDuration::from_str`] reads.
    pub const PATTERN: &str = r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$";

    /// A whole number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A whole number of minutes.
    pub const fn minutes(minutes: u64) -> Self {
        Self(Duration::from_secs(60 * minutes))
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: expected a number with a unit, like 250ms, 90s, 10m or 1h30m, up to 2562047h"
)]
pub struct InvalidDuration {
    text: String,
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).ok_or_else(|| InvalidDuration { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *nanos)?)?;
        rest = tail;
    }
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    let nanos = u32::try_from(total % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, nanos)).filter(|duration| *duration <= LONGEST)
}

/// `number` (digits with at most one point) times `unit`, exact but for digits below a nanosecond.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let mut total = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(u128::from(digit - b'0') * place)?;
    }
    Some(total)
}

impl fmt::Display for GoDuration {
    /// The shortest form that reads back as the same duration: `1h30m`, not `1h30m0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, nanos) in UNITS {
            if rest >= nanos {
                write!(f, "{}{name}", rest / nanos)?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": Self::PATTERN, "maxLength": 32 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_style_durations_are_read() {
        for (text, millis) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("168h", 604_800_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("0s", 0),
            ("2562047h", 9_223_369_200_000),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap().0, Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_says_what_was_expected() {
        for text in [
            "",
            "5",
            "5 m",
            "5min",
            "-5s",
            "s",
            "1.s",
            ".5s",
            "1..5s",
            "5M",
            "1d",
            "2562048h",
            "18446744073709551615s",
            "99999999999999999999999999999999999h",
        ] {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("10m"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0u64..1_000_000_000, nanos in 0u32..1_000_000_000) {
            let duration = GoDuration(Duration::new(seconds, nanos));
            prop_assert_eq!(duration.to_string().parse::<GoDuration>().unwrap(), duration);
        }
    }
}
