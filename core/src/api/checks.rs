//! Checks: rules on an indicator (errors, latency, a query).

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GoDuration, Share, Then};

/// A rule on exactly one indicator: `errors`, `latency` or `query`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.errors), has(self.latency), has(self.query)].filter(x, x).size() == 1", "exactly one of errors, latency and query is expected"))]
pub struct Check {
    /// Name of the check, unique in the Rollout.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The share of requests that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorsCheck>,
    /// How long requests took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyCheck>,
    /// What a PromQL query answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryCheck>,
    /// Looks in a row that must breach the rule before it fails; default 1. Looks without enough requests
    /// neither count nor interrupt the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive_failures: Option<u32>,
    /// Reports but never acts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
    /// Names of the steps that the check is for; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub steps: Vec<String>,
    /// How old the traffic is that the numbers of this check describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<GoDuration>,
    /// What to do when the evidence of this check never comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconclusive: Option<Then>,
}

/// A limit on the share of the canary's requests that failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.max) || has(self.versusStable)", "at least one of max and versusStable is expected"))]
pub struct ErrorsCheck {
    /// The largest share that passes, like `1%` or `"0.01"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Share>,
    /// A comparison with stable, whose evidence goes on through all steps of a revision. It says nothing before stable was
    /// seen at 10 looks; a Prometheus is asked for 30 from before the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versus_stable: Option<VersusStable>,
    /// How far back one look reaches; default five intervals. Stretched to the start of the step where
    /// `minRequests` are not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GoDuration>,
    /// Requests of the canary that a verdict on `max` needs, and that a step needs which ends without the proof of a
    /// comparison; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub min_requests: Option<u64>,
}

/// A limit on a latency quantile of the canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.max) || has(self.versusStable)", "at least one of max and versusStable is expected"))]
pub struct LatencyCheck {
    /// The quantile, above 0 and below 1; default 0.99. `quantile: 0.99, max: 250ms` fails when more than 1% of
    /// the requests took longer than 250 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 1, "exclusiveMinimum" = true, "exclusiveMaximum" = true))]
    pub quantile: Option<f64>,
    /// The longest that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<GoDuration>,
    /// A comparison with stable, at up to 8 bounds of the histogram that tell something; `quantile` and `max` are not of
    /// it. As that of errors it needs 10 looks at stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versus_stable: Option<VersusStable>,
    /// How far back one look reaches; default five intervals. Stretched to the start of the step where
    /// `minRequests` are not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GoDuration>,
    /// Requests of the canary that a verdict on `max` needs, and that a step needs which ends without the proof of a
    /// comparison; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub min_requests: Option<u64>,
}

/// A PromQL query: limits on the one number that it answers, or a comparison of what it says about the canary and about
/// stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.min) || has(self.max) || has(self.versusStable)", "at least one of min, max and versusStable is expected"),
    validation = ("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
    validation = ("has(self.versusStable) == has(self.direction)", "direction is expected with versusStable, and nowhere else"),
    validation = ("!has(self.total) || has(self.versusStable) && !has(self.min) && !has(self.max)", "total is expected with versusStable, and without min and max")
)]
pub struct QueryCheck {
    /// The query. `{{canary.service}}`, `{{stable.service}}`, `{{namespace}}`, `{{rollout}}`, `{{revision}}`,
    /// `{{step.start}}` (Unix seconds) and `{{window}}` are filled in. For a comparison the same query is asked about
    /// stable, with stable's names where the canary's are.
    #[schemars(length(min = 1, max = 4096))]
    pub promql: String,
    /// The selector of a counter of which the one that `promql` selects counts a part: requests and wrong answers,
    /// say. With it both are read as raw counters, and what is compared is the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub total: Option<String>,
    /// The smallest number that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest number that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A comparison with stable. With `total` it is one of counters, like that of errors. Else the numbers are compared, one
    /// pair a window, and nothing is said before there are 5 pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versus_stable: Option<VersusStable>,
    /// Whether more is worse or better: needed for a comparison, and for nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// What `{{window}}` stands for, and how far apart the numbers are that are compared; default five intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GoDuration>,
}

/// A sequential test of the canary against stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersusStable {
    /// The ratio that is still all right, 1 to 1000: canary to stable, or stable to canary where more is better. Default 1;
    /// of the numbers of a query 1.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub max_ratio: Option<f64>,
    /// How sure a Fail must be, and a Pass as well, 50% to 99.9999999%; default `99%`: of canaries within `maxRatio` at most
    /// one in a hundred fails, however often one looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Share>,
    /// The canary passes when it is shown to be below this ratio, 1 to 1000 and above `maxRatio`; default twice
    /// `maxRatio`, of the numbers of a query 1.05 times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub clear_ratio: Option<f64>,
    /// Require proof that the canary is not worse, not only no evidence that it is: no step ends before it was shown to be
    /// below `clearRatio`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prove: bool,
}

/// Whether more of an indicator is worse or better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Errors, latencies.
    MoreIsWorse,
    /// Accuracies, rewards.
    MoreIsBetter,
}
