//! Shares of requests, written as `1%` or `"0.01"`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A share from 0 to 1, written as a percentage (`0.5%`) or as a fraction (`0.005`) in a string: a structural
/// schema cannot take both a number and a string.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// What the API server lets through; [`Share::from_str`] refuses more than 100%, too.
    pub const PATTERN: &str = r"^[0-9]+(\.[0-9]+)?%?$";

    /// `fraction` as a share, if it is one: 0 to 1.
    pub fn new(fraction: f64) -> Option<Self> {
        (0.0..=1.0).contains(&fraction).then_some(Self(fraction))
    }

    /// The share as a fraction, 0 to 1.
    pub fn fraction(self) -> f64 {
        self.0
    }
}

/// Why a text is not a share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a share: expected a percentage from 0% to 100%, like 1%, or a fraction from 0 to 1, like 0.01"
)]
pub struct InvalidShare {
    text: String,
}

impl FromStr for Share {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        number
            .parse::<f64>()
            .ok()
            .filter(|_| plain)
            .and_then(|value| Self::new(value / scale))
            .ok_or_else(|| InvalidShare { text: text.to_owned() })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two roundings away from 1% lies 0.010000000000000002: print what a person would have written.
        let percent = (self.0 * 100.0 * 1e9).round() / 1e9;
        write!(f, "{percent}%")
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": Self::PATTERN, "maxLength": 16 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_and_fractions_are_read_and_printed_alike() {
        for (text, fraction, printed) in [
            ("1%", 0.01, "1%"),
            ("0.01", 0.01, "1%"),
            ("0.1%", 0.001, "0.1%"),
            ("100%", 1.0, "100%"),
            ("0", 0.0, "0%"),
        ] {
            let share: Share = text.parse().unwrap();
            assert!((share.fraction() - fraction).abs() < 1e-12, "{text}");
            assert_eq!(share.to_string(), printed);
        }
    }

    #[test]
    fn anything_else_is_refused_and_says_what_was_expected() {
        for text in ["", "%", "101%", "2", "-1%", "1 %", "one", "NaN", "inf", "1e-3"] {
            let error = text.parse::<Share>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
