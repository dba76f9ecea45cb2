//! Where the numbers of a rollout come from.

use std::collections::BTreeMap;

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source that the platform configured, or direct scraping of the predictors' own `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.source) || !has(self.scrape)", "give source or scrape, not both"))]
pub struct Metrics {
    /// Name of a source in the controller's configuration; `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub source: Option<String>,
    /// Which metrics and labels tell requests, errors and latencies of the two arms; default `istio` with a
    /// source and `mlserver` with `scrape`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Read `/metrics` of the ready pods behind both Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<Scrape>,
    /// Labels that the profile's series must carry besides, like `route: primary`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub labels: BTreeMap<String, String>,
}

/// A known set of metric names and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// `istio_requests_total` and its histogram, as the client's proxy reports them.
    Istio,
    /// MLServer's REST metrics.
    Mlserver,
    /// Seldon Core's executor, HTTP and gRPC, by the names of SeldonDeployment and predictor.
    Seldon,
    /// The queue proxies of serverless KServe.
    Kserve,
    /// What Envoy counts about its clusters, as Istio's gateways and sidecars say it.
    Envoy,
}

/// Direct scraping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Scrape {
    /// Port of the pods that serves the metrics, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Path of the metrics; default `/metrics`, with the profile `seldon` `/prometheus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/"))]
    pub path: Option<String>,
}
