//! A Kubernetes and Istio laboratory.

pub mod real;
