//! The `Rollout`: what should be live, and how carefully to get there.

use std::collections::BTreeMap;

use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, GoDuration, Metrics, RolloutStatus, Step};

/// What should be live and how carefully to get there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Rollout",
    plural = "rollouts",
    shortname = "slu",
    category = "all",
    namespaced,
    status = "RolloutStatus",
    derive = "PartialEq",
    doc = "What should be live and how carefully to get there: Sluice moves the weights of an Istio VirtualService step by step from the stable predictor to the canary.",
    crates(kube_core = "::kube_core"),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the rollout stands"
    ),
    printcolumn(
        name = "Step",
        type_ = "string",
        json_path = ".status.step",
        description = "Step in flight, of how many"
    ),
    printcolumn(
        name = "Weight",
        type_ = "integer",
        json_path = ".status.weight",
        description = "Canary's share of the requests in percent"
    ),
    printcolumn(
        name = "Stable",
        type_ = "string",
        json_path = ".status.stable.service",
        description = "The predictor that users have"
    ),
    printcolumn(
        name = "Canary",
        type_ = "string",
        json_path = ".status.canary.service",
        description = "The predictor that wants to replace it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.message",
        description = "Why it stands there"
    )
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = ("(has(self.routes) && size(self.routes) > 0) != has(self.expose)", "exactly one of routes (at least one) and expose is expected"),
    validation = ("!has(oldSelf.expose) || has(self.expose)", "expose cannot be taken away, for nobody would move the VirtualService that was generated: create another Rollout with routes, and delete this one"),
    validation = ("!has(self.checks) || !has(self.metrics) || !has(self.metrics.scrape) || !self.checks.exists(c, has(c.query))", "a check with a query asks a metrics source: it cannot be used with metrics.scrape")
)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// What should be live: exactly one key.
    pub target: Target,
    /// The routes that Sluice moves, of VirtualServices that exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub routes: Vec<Route>,
    /// In place of `routes`: a VirtualService that Sluice generates and owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,
    /// Seldon Core's annotations for a generated VirtualService.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// The way from stable to the canary; promotion follows the last one. None: promoted when ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub steps: Vec<Step>,
    /// Rules that must hold, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<Check>,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// One look at the metrics every interval, 200ms at least; default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// After a traffic change, before a look counts; default 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<GoDuration>,
    /// What follows the last step; default `Promote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// What to do when evidence never comes; default: pause after 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconclusive: Option<Inconclusive>,
    /// How long the canary may take to become ready; default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_within: Option<GoDuration>,
    /// Stops every increase, never a rollback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Where predictors come from: exactly one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = (
        "[has(self.service), has(self.seldonDeployment), has(self.deployment), has(self.inferenceService)].filter(x, x).size() == 1",
        "exactly one target is expected: service, seldonDeployment, deployment or inferenceService"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// One Service per version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTarget>,
    /// A predictor of a SeldonDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seldon_deployment: Option<PredictorTarget>,
    /// A Deployment's new pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<NamedTarget>,
    /// KServe's latest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_service: Option<NamedTarget>,
}

/// A Service of the Rollout's namespace that should be live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTarget {
    /// Name of the Service that is wanted.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Port of the Service, 1 to 65535; may be left out where it has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// A subset of the Service's DestinationRule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub subset: Option<String>,
    /// Name of the Service that is stable, where the route alone does not tell. Counts only while the Rollout has
    /// no stable yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub from: Option<String>,
}

/// An object of the Rollout's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedTarget {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// A predictor of a SeldonDeployment of the Rollout's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PredictorTarget {
    /// Name of the SeldonDeployment.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the predictor that is wanted.
    #[schemars(length(min = 1, max = 63))]
    pub predictor: String,
    /// Name of the predictor that is stable, where no route tells yet. Counts only while the Rollout has no stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub from: Option<String>,
}

/// Routes of one VirtualService.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Name of the VirtualService, or `namespace/name` for one of another namespace that allows it.
    #[schemars(length(min = 1, max = 317))]
    pub virtual_service: String,
    /// Names of its http routes; all of them when `tcp` and `tls` are left out too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub http: Vec<String>,
    /// Ports: of each the tcp route that takes its connections. By weight only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 1, max = 65535)))]
    pub tcp: Vec<u16>,
    /// Hosts as clients name them (SNI): of each the tls route that takes its connections. By weight only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub tls: Vec<String>,
}

/// A VirtualService that Sluice generates and owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expose {
    /// Hosts of the VirtualService; the annotation `seldon.io/istio-host`, else `*`, when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,
    /// Gateways that serve it, `namespace/name`, or a name alone for one of the Rollout's namespace; the annotation
    /// `seldon.io/istio-gateway`, else the controller's `--istio-gateway`, when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 317)))]
    pub gateways: Vec<String>,
    /// Path prefix of the requests; `/seldon/<namespace>/<name>/` when left out, with the name of the Rollout or of the
    /// SeldonDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// What the prefix is rewritten to; `/` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub rewrite: Option<String>,
    /// Port on which the predictors speak gRPC: a second route by Seldon Core's headers leads there. 5001 for a
    /// SeldonDeployment, none for a Service unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub grpc_port: Option<u16>,
    /// Generate only what a VirtualService of the user's delegates to: no hosts, no gateways, and no prefix unless it is
    /// given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delegate: bool,
}

/// What follows the last step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Finish {
    /// The canary becomes stable.
    #[default]
    Promote,
    /// Observe only: stable has all again.
    KeepStable,
    /// Stay at the last step until a person promotes or aborts.
    Wait,
}

/// What to do when evidence never comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inconclusive {
    /// How long evidence alone may be missing; default 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<GoDuration>,
    /// What to do then; default `Pause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// What to do when evidence never comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Then {
    /// Stay where it is and wait for a person.
    #[default]
    Pause,
    /// Take the canary out of traffic.
    Rollback,
}
