//! A Kubernetes and Istio laboratory: what makes Sluice tryable and testable in one command on any machine.
//!
//! [`embedded`] is a Kubernetes API in memory, [`predictor`] answers inference requests as badly as it is told to,
//! [`gateway`] obeys VirtualServices, and [`scene`] sets up a world of them through any [`kube::Client`].

pub mod embedded;
pub mod exposition;
pub mod gateway;
pub mod http;
pub mod predictor;
pub mod scene;
mod share;
