//! A Kubernetes and Istio laboratory.

pub mod embedded;
