//! Kinds of others, which are read and written as they are.

use kube::api::ApiResource;

/// Where Istio reads DestinationRules for all namespaces.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// A kind of Istio's.
pub fn istio(kind: &str, plural: &str) -> ApiResource {
    resource("networking.istio.io", "v1", kind, plural)
}

/// A kind of any group; that of Kubernetes' own first kinds is empty.
pub fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
