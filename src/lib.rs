//! Sluice: progressive delivery for model predictors on Kubernetes and Istio.

pub mod metrics;
