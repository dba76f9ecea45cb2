//! A Kubernetes and Istio laboratory.
