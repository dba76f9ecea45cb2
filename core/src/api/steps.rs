//! The steps of a rollout: one traffic setting each, and what must hold before the next.

use std::collections::BTreeMap;

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// One traffic setting, whole: nothing carries over from the step before.
///
/// A step ends when its `for` has passed, `minRequests` were seen, no check fails or is short of evidence, and,
/// if it asks for one, a person approved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.ramp) != (has(self.weight) || has(self.mirror) || has(self.match))", "a step is either a ramp or a setting: give ramp alone, or at least one of weight, mirror and match"),
    validation = ("!has(self.ramp) || !has(self.for)", "a ramp has `every` in place of `for`"),
    validation = ("!has(self.sticky) || has(self.weight) || has(self.ramp) && has(self.sticky.header)", "sticky keeps clients on the arm that a weight gave them: weight is expected beside it, or by a header a ramp")
)]
pub struct Step {
    /// A name for people, checks and records; defaults to the step's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// The canary's share of the pair's requests in percent, 0 to 100; stable has the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i32>,
    /// The share of the route's requests in percent, 0.0001 to 100, that is copied to the canary; its answers are
    /// dropped. Ten-thousandths count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0001, max = 100))]
    pub mirror: Option<f64>,
    /// Requests that go to the canary whatever the weight: those that meet any one of these.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub matches: Vec<Match>,
    /// Keeps one client on one arm: by a cookie while the step lasts, by a hash in a header as long as no step has less
    /// weight than the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Several weight steps in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// How long the step lasts at least: time that was observed to pass with the setting in place.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<GoDuration>,
    /// Requests that the canary must have answered in this step, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub min_requests: Option<u64>,
    /// Wait for a person's `approve` before the next step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approve: bool,
}

/// Weights from `from` to `to`, `by` percent more every `every`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.from <= self.to", "a ramp goes up: from must not be above to"))]
pub struct Ramp {
    /// First weight in percent, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub from: i32,
    /// Last weight in percent, 0 to 100; always reached, the last stride is shorter where it must be.
    #[schemars(range(min = 0, max = 100))]
    pub to: i32,
    /// How much more each time in percent, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub by: i32,
    /// How long each weight lasts at least.
    pub every: GoDuration,
}

/// Conditions that a request must meet, all of them; at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.headers) && size(self.headers) > 0 || has(self.uri) || has(self.queryParams) && size(self.queryParams) > 0", "a match without conditions would take all requests: give at least one of headers, uri and queryParams"))]
pub struct Match {
    /// Headers by lower-case name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub headers: BTreeMap<String, StringMatch>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<StringMatch>,
    /// Query parameters by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub query_params: BTreeMap<String, StringMatch>,
}

/// How a text is compared: exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.exact), has(self.prefix), has(self.regex)].filter(x, x).size() == 1", "exactly one of exact, prefix and regex is expected"))]
pub struct StringMatch {
    /// The whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub exact: Option<String>,
    /// How the text begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// An RE2 expression that the whole text matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub regex: Option<String>,
}

/// What keeps one client on one arm: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.cookie) != has(self.header)", "exactly one of cookie and header is expected"))]
pub struct Sticky {
    /// A cookie that both arms set, of another value in each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<StickyCookie>,
    /// Name, in lower case, of a request header that carries a hash of the user: four hexadecimal digits at least, of which
    /// the first four count. The lowest are the canary's, as many as the weight says; requests without go by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub header: Option<String>,
}

/// A cookie that remembers the arm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StickyCookie {
    /// Its name: letters, digits, `-`, `_` and `.`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How long a client keeps it, a second at least; as long as it runs when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
}
