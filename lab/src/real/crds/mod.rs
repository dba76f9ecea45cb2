//! Custom resource definitions of others that tests need, written by hand: the names are theirs, the schemas are open.

/// Istio's `VirtualService` (`networking.istio.io`, `v1`, `v1beta1` and `v1alpha3`), without a schema of its spec.
///
/// Apply it with [`Cluster::apply_yaml`](super::Cluster::apply_yaml).
pub const VIRTUAL_SERVICES: &str = include_str!("virtualservices.yaml");

/// Istio's `DestinationRule`, in the same way.
pub const DESTINATION_RULES: &str = include_str!("destinationrules.yaml");

/// Istio's `Gateway`, in the same way.
pub const GATEWAYS: &str = include_str!("gateways.yaml");

/// Seldon Core's `SeldonDeployment` (`machinelearning.seldon.io`, `v1`, `v1alpha3` and `v1alpha2`), with the documented
/// fields.
pub const SELDON_DEPLOYMENTS: &str = include_str!("seldondeployments.yaml");
