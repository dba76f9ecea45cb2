//! The `Freeze`: nothing grows, until it is gone.
//!
//! It is a kind and no field of something else, so that freezing and thawing are rights of their own, that the API
//! server can note who froze and that it can be in Git.

use kube_derive::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Stops every increase of every Rollout in its namespace for as long as it is there; in the controller's own namespace,
/// in the whole cluster. What takes traffic away from a canary goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Freeze",
    plural = "freezes",
    shortname = "slf",
    namespaced,
    derive = "PartialEq",
    doc = "Stops every increase of every Rollout in its namespace for as long as it is there; in the controller's own namespace, in the whole cluster. What takes traffic away from a canary goes on.",
    crates(kube_core = "::kube_core"),
    printcolumn(
        name = "By",
        type_ = "string",
        json_path = r".metadata.annotations.sluice\.dev/requested-by"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason")
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = ("self == oldSelf", "a freeze cannot be changed: create another one")
)]
#[serde(rename_all = "camelCase")]
pub struct FreezeSpec {
    /// Why, for everybody who finds that nothing moves.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
}
