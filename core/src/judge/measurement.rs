//! What one look at the metrics saw: whole numbers for both arms.
//!
//! The metrics shell differences raw counters and hands over counts since the previous look, never rates: tests
//! need whole numbers, and `rate()` loses a new pod's first errors.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A latency bound in whole microseconds: what a histogram bucket's `le` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Bound(pub u64);

impl Bound {
    /// The bound nearest to `seconds`, if that is a finite number that is not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        let micros = (seconds * 1e6).round();
        // Above 2^53 microseconds (285 years) a float no longer tells neighbours apart.
        (0.0..9e15).contains(&micros).then_some(Self(micros as u64))
    }
}

/// So many looks at stable before a rollout say how much its bad answers vary.
pub const HISTORY: usize = 30;

/// Next to these, buckets are looked for that a comparison of latencies can use: 1 ms to 5 min.
pub const LADDER: [Bound; 16] = [
    Bound(1_000),
    Bound(2_000),
    Bound(5_000),
    Bound(10_000),
    Bound(25_000),
    Bound(50_000),
    Bound(100_000),
    Bound(250_000),
    Bound(500_000),
    Bound(1_000_000),
    Bound(2_500_000),
    Bound(5_000_000),
    Bound(10_000_000),
    Bound(30_000_000),
    Bound(60_000_000),
    Bound(300_000_000),
];

/// Requests of one arm since the previous look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Those of them that took longer than a bound, by bound in microseconds. For every latency limit that was asked
    /// for: the bucket at the limit, or where there is none the nearest lower and higher finite ones that exist.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slower: BTreeMap<Bound, u64>,
}

/// What one look saw of both arms, at one evaluation time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// What stable answered since the previous look.
    pub stable: Counts,
    /// What the canary answered since the previous look; nothing where no canary is in flight.
    pub canary: Counts,
    /// Requests that reached predictors which have lost their traffic, by revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retiring: BTreeMap<String, u64>,
}

/// One look at the metrics: the counters of both arms, and the answers of the queries by check name.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// When the sources were asked.
    pub at: DateTime<Utc>,
    /// The counters' increase, or why there is none to speak of. A first look is [`TroubleKind::Baseline`].
    pub counts: Result<Measurement, Trouble>,
    /// The number that each query answered, always finite, or why there is none.
    pub queries: BTreeMap<String, Result<f64, Trouble>>,
    /// What the queries that are compared said about both arms, by check name, or why nothing.
    pub compared: BTreeMap<String, Result<Both, Trouble>>,
    /// What stable alone answered before the rollout, look by look, oldest first: it tells how much its bad answers vary.
    /// Empty where the source has no history, and once comparisons have taken it in.
    pub history: Vec<Measurement>,
}

/// What the query of a check said about both arms at one time.
#[derive(Clone, Debug, PartialEq)]
pub enum Both {
    /// The increase of two counters since the previous look: `errors` of the one that counts a part, `requests` of the
    /// one that counts all.
    Counted(Measurement),
    /// One number each, finite, 0 or more.
    Scored {
        /// Of the canary.
        canary: f64,
        /// Of stable.
        stable: f64,
    },
}

impl Look {
    /// A look of which nothing is known but this.
    pub fn new(at: DateTime<Utc>, counts: Result<Measurement, Trouble>) -> Self {
        Self { at, counts, queries: BTreeMap::new(), compared: BTreeMap::new(), history: Vec::new() }
    }

    /// The queries that gave no number, by check name, and why not.
    pub fn queries_in_trouble(&self) -> impl Iterator<Item = (&String, &Trouble)> {
        let single = self.queries.iter().filter_map(|(check, answer)| Some((check, answer.as_ref().err()?)));
        let both = self.compared.iter().filter_map(|(check, answer)| Some((check, answer.as_ref().err()?)));
        single.chain(both)
    }
}

/// Why a look gave no number. Never a Pass and never a Fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What sort of trouble.
    pub kind: TroubleKind,
    /// What was expected and what was there, in the user's words; without credentials.
    pub message: String,
}

/// The sorts of trouble with a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TroubleKind {
    /// The first look after a start: counters were read, there is no increase yet.
    Baseline,
    /// The source answered that there is nothing: an empty vector, no such series, NaN or infinity.
    NoData,
    /// The source did not answer, or said that it cannot now: time-out, connection refused, 503. It may pass.
    Unavailable,
    /// The source does not let us in: wrong credentials, or none.
    Refused,
    /// The source is not who we trust: a certificate of another name, of another authority, or no longer valid.
    Untrusted,
    /// The source answered something that is no answer: HTML, a redirect, garbage, far too much.
    BadAnswer,
    /// The source answered with a part of what it should have.
    Partial,
    /// The source refused the question: PromQL that does not parse, two series where one is expected.
    BadQuery,
    /// The named source is not configured, or the query template cannot be filled in.
    Misconfigured,
}

impl TroubleKind {
    /// Every sort.
    pub const ALL: [Self; 9] = [
        Self::Baseline,
        Self::NoData,
        Self::Unavailable,
        Self::Refused,
        Self::Untrusted,
        Self::BadAnswer,
        Self::Partial,
        Self::BadQuery,
        Self::Misconfigured,
    ];
}
