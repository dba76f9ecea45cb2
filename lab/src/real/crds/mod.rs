//! Custom resource definitions of others that tests need, written by hand: the names are theirs, the schemas are open.

/// Istio's `VirtualService` (`networking.istio.io`, `v1`, `v1beta1` and `v1alpha3`), without a schema of its spec.
///
/// Apply it with [`Cluster::apply_yaml`](super::Cluster::apply_yaml).
pub const VIRTUAL_SERVICES: &str = include_str!("virtualservices.yaml");
