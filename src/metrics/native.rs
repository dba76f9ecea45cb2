//! Native histograms: buckets that are no series of their own, and of which only those are there that have something in them.
//!
//! A limit that lies within a bucket is judged as one between two buckets of any other histogram: by the bucket's two bounds.
//! One that lies in no bucket is as good as a bound. Buckets of two resolutions fit into each other, so what is a bound of the
//! coarser one is one of the finer one, too.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use sluice_core::judge::Bound;

use super::exposition::Text;

/// The buckets of a native histogram at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native(Vec<Bucket>);

/// Requests that took longer than one bound and at most another.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    above: Bound,
    /// Nothing where it has no upper bound.
    at_most: Option<Bound>,
    count: f64,
}

impl Bucket {
    /// A bound about which the bucket says nothing: some of it is on either side.
    fn straddles(&self, bound: Bound) -> bool {
        self.above < bound && self.at_most.is_none_or(|end| bound < end)
    }
}

impl Native {
    /// The histogram with bounds in seconds, or nothing where a count is none.
    pub fn of(raw: &RawHistogram, units_per_second: f64) -> Option<Self> {
        let bound = |value: f64| {
            // Below 0 no request took, and 0 is the middle of the bucket that is nearest to it.
            Bound::from_seconds(value.max(0.0) / units_per_second)
        };
        let bucket = |raw: &RawBucket| {
            let RawBucket { left, right, count } = *raw;
            let at_most = if right == f64::INFINITY { None } else { Some(bound(right)?) };
            let is_count = count.is_finite() && count >= 0.0;
            is_count.then_some(Bucket { above: bound(left)?, at_most, count })
        };
        raw.buckets.iter().map(bucket).collect::<Option<_>>().map(Self)
    }

    /// How many requests took at most as long as a bound, if that can be told.
    pub fn at_most(&self, bound: Bound) -> Option<f64> {
        let mut sum = 0.0;
        for bucket in &self.0 {
            if bucket.straddles(bound) {
                return None;
            }
            sum += if bucket.at_most.is_some_and(|end| end <= bound) { bucket.count } else { 0.0 };
        }
        Some(sum)
    }

    /// The bounds that say something about a limit: itself, or those of the bucket that it lies in.
    pub fn bounds(&self, limit: Bound, bounds: &mut BTreeSet<Bound>) {
        bounds.insert(limit);
        for bucket in self.0.iter().filter(|bucket| bucket.straddles(limit)) {
            bounds.insert(bucket.above);
            bounds.extend(bucket.at_most);
        }
    }
}

/// A native histogram as the HTTP API of Prometheus says it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RawHistogram {
    /// How many requests there were.
    #[serde(deserialize_with = "text")]
    pub count: f64,
    /// The buckets that have any.
    #[serde(default)]
    pub buckets: Vec<RawBucket>,
}

/// A bucket of it: `[boundary rule, left, right, count]`. The rule says to which side the bounds themselves belong, which no
/// latency is ever equal to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawBucket {
    /// The lower bound.
    pub left: f64,
    /// The upper bound.
    pub right: f64,
    /// How many.
    pub count: f64,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Text::deserialize(deserializer).map(|Text(number)| number)
}

impl<'de> Deserialize<'de> for RawBucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = RawBucket;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a bucket: [rule, left, right, count]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawBucket, A::Error> {
                let mut missing = 0;
                let lacking = |at: usize| A::Error::invalid_length(at, &"4 elements");
                let _rule: u8 = seq.next_element()?.ok_or_else(|| lacking(0))?;
                let mut next = || {
                    missing += 1;
                    seq.next_element::<Text>()?.map(|Text(value)| value).ok_or_else(|| lacking(missing))
                };
                Ok(RawBucket { left: next()?, right: next()?, count: next()? })
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(json: &str, units: f64) -> Native {
        Native::of(&serde_json::from_str(json).unwrap(), units).unwrap()
    }

    const SECONDS: &str = r#"{"count": "10", "sum": "3.5", "buckets": [
        [3, "-0.001", "0.001", "1"], [0, "0.125", "0.25", "4"], [0, "0.25", "0.5", "3"], [0, "1", "+Inf", "2"]]}"#;

    #[test]
    fn what_can_be_told_is_told() {
        let native = native(SECONDS, 1.0);
        for (micros, expected) in [
            (0, Some(0.0)),
            (500, None),
            (1_000, Some(1.0)),
            (100_000, Some(1.0)),
            (200_000, None),
            (250_000, Some(5.0)),
            (300_000, None),
            (500_000, Some(8.0)),
            (700_000, Some(8.0)),
            (1_000_000, Some(8.0)),
            (2_000_000, None),
        ] {
            assert_eq!(native.at_most(Bound(micros)), expected, "{micros}");
        }
    }

    #[test]
    fn a_limit_within_a_bucket_has_its_two_bounds() {
        let native = native(SECONDS, 1.0);
        for (limit, expected) in [
            (250_000, vec![250_000]),
            (300_000, vec![250_000, 300_000, 500_000]),
            (700_000, vec![700_000]),
            (2_000_000, vec![1_000_000, 2_000_000]),
        ] {
            let mut bounds = BTreeSet::new();
            native.bounds(Bound(limit), &mut bounds);
            assert_eq!(bounds, expected.into_iter().map(Bound).collect(), "{limit}");
        }
    }

    #[test]
    fn milliseconds_are_read_and_nonsense_is_not() {
        let of_millis = native(r#"{"count": "4", "sum": "1", "buckets": [[0, "100", "250", "4"]]}"#, 1e3);
        assert_eq!(of_millis.at_most(Bound(250_000)), Some(4.0));
        for json in [
            r#"{"count": "x"}"#,
            r#"{"count": "1", "buckets": [[0, "1", "2"]]}"#,
            r#"{"count": "1", "buckets": [[0, "1", "2", "many"]]}"#,
            r#"{"count": 1}"#,
        ] {
            assert!(serde_json::from_str::<RawHistogram>(json).is_err(), "{json}");
        }
        for count in ["NaN", "-1", "+Inf"] {
            let json = format!(r#"{{"count": "1", "buckets": [[0, "1", "2", "{count}"]]}}"#);
            assert_eq!(Native::of(&serde_json::from_str(&json).unwrap(), 1.0), None, "{count}");
        }
    }
}
