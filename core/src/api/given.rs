//! What a canary gets, in a form that can be compared and written down.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A percentage from 0 to 100, exact to a ten-thousandth: what Envoy can divide requests by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

/// How many parts of a [`Percent`] make one percent.
const PARTS: u32 = 10_000;

impl Percent {
    /// All of them.
    pub const ALL: Self = Self(100 * PARTS);

    /// `percent` from 0 to 100, if it is a whole number of ten-thousandths.
    pub fn of(percent: f64) -> Option<Self> {
        let parts = (percent * f64::from(PARTS)).round();
        let exact = (parts / f64::from(PARTS) - percent).abs() < 1e-9;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 1,000,000")]
        ((0.0..=f64::from(Self::ALL.0)).contains(&parts) && exact).then_some(Self(parts as u32))
    }

    /// As a fraction, 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }

    /// Whether it is 0.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "for serde")]
    pub fn is_nothing(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / f64::from(PARTS))
    }
}

/// As a number of percent; a whole one without a point, as the API server gives it back.
impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(PARTS) {
            serializer.serialize_u32(self.0 / PARTS)
        } else {
            serializer.serialize_f64(f64::from(self.0) / f64::from(PARTS))
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        Self::of(percent).ok_or_else(|| D::Error::custom(format!("{percent} is no percentage from 0 to 100")))
    }
}

impl JsonSchema for Percent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "format": "double", "minimum": 0.0, "maximum": 100.0 })
    }
}

/// What the canary gets beside its weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Beside {
    /// Requests that go to it whatever the weight: those that meet any one of these, in words.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 256)))]
    pub matches: Vec<String>,
    /// The share of requests in percent that is copied to it; its answers are dropped.
    #[serde(default, skip_serializing_if = "Percent::is_nothing")]
    pub mirror: Percent,
}

impl Beside {
    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        self.matches.is_empty() && self.mirror.is_nothing()
    }
}

/// Everything that the canary gets. Of two that differ neither need be more than the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Given {
    /// Its share of the pair's requests in percent, 0 to 100.
    pub weight: u8,
    /// What it gets beside that.
    pub beside: Beside,
}

impl Given {
    /// A share of the requests in percent and nothing else; more than 100 counts as 100.
    pub fn weight(weight: u8) -> Self {
        Self { weight: weight.min(100), beside: Beside::default() }
    }

    /// Whether the canary gets nothing, not even copies.
    pub fn is_nothing(&self) -> bool {
        self.weight == 0 && self.beside.is_nothing()
    }

    /// Whether the canary answers users: copies do not count, whose answers nobody sees.
    pub fn has_users(&self) -> bool {
        self.weight > 0 || !self.beside.matches.is_empty()
    }

    /// Whether this is at least as much as `other` in every respect. Who has all requests lacks neither those of a
    /// match nor copies.
    pub fn covers(&self, other: &Self) -> bool {
        let all = self.weight >= 100;
        let [ours, theirs] = [&self.beside, &other.beside];
        let matches = || theirs.matches.iter().all(|one| ours.matches.contains(one));
        self.weight >= other.weight && (all || matches() && ours.mirror >= theirs.mirror)
    }

    /// Whether this is less than `other` in one respect, and more in none.
    pub fn is_less_than(&self, other: &Self) -> bool {
        other.covers(self) && !self.covers(other)
    }
}

/// In words, `weight 5%`, with what there is beside it.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.weight > 0 || self.beside.is_nothing() {
            parts.push(format!("weight {}%", self.weight));
        }
        if !self.beside.matches.is_empty() {
            parts.push(format!("match {}", self.beside.matches.join(" or ")));
        }
        if !self.beside.mirror.is_nothing() {
            parts.push(format!("mirror {}", self.beside.mirror));
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(weight: u8, matches: &[&str], mirror: f64) -> Given {
        let matches = matches.iter().map(|one| (*one).to_owned()).collect();
        Given { weight, beside: Beside { matches, mirror: Percent::of(mirror).unwrap() } }
    }

    #[test]
    fn a_percentage_is_exact_and_written_as_people_write_it() {
        for (number, written, shown) in
            [(100.0, json!(100), "100%"), (0.5, json!(0.5), "0.5%"), (0.0001, json!(0.0001), "0.0001%")]
        {
            let percent = Percent::of(number).unwrap();
            assert_eq!((json!(percent), percent.to_string()), (written.clone(), shown.to_owned()));
            assert_eq!(serde_json::from_value::<Percent>(written).unwrap(), percent);
        }
        for none in [-1.0, 100.1, 0.00001, f64::NAN, f64::INFINITY] {
            assert_eq!(Percent::of(none), None, "{none}");
        }
    }

    #[test]
    fn more_of_one_and_less_of_another_is_neither_more_nor_less() {
        let (beta, all) = (given(0, &["beta"], 0.0), given(100, &[], 0.0));
        assert!(beta.is_less_than(&all) && !all.is_less_than(&beta));
        assert!(Given::default().is_less_than(&beta));
        assert!(given(5, &[], 0.0).is_less_than(&given(5, &["beta"], 10.0)));
        assert!(given(0, &["beta"], 0.0).is_less_than(&given(0, &["beta", "gold"], 0.0)));
        for other in [given(5, &[], 0.0), given(0, &["gold"], 0.0), given(0, &[], 100.0)] {
            assert!(!beta.covers(&other) && !other.covers(&beta), "{other}");
            assert!(!beta.is_less_than(&other) && !other.is_less_than(&beta), "{other}");
        }
        assert!(!given(0, &[], 50.0).has_users() && beta.has_users());
    }

    #[test]
    fn what_a_canary_gets_can_be_read() {
        assert_eq!(Given::default().to_string(), "weight 0%");
        assert_eq!(given(0, &["a is b", "c is d"], 0.5).to_string(), "match a is b or c is d, mirror 0.5%");
        assert_eq!(given(5, &[], 100.0).to_string(), "weight 5%, mirror 100%");
    }
}
