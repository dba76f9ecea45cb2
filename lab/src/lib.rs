//! A Kubernetes and Istio laboratory: what makes Sluice tryable and testable in one command on any machine.
//!
//! [`embedded`] is a Kubernetes API in memory; [`real`] runs the real one, and a Prometheus, as processes in a network
//! namespace. With both go [`predictor`], which answers inference requests as badly as it is told to, [`gateway`],
//! which obeys VirtualServices, and [`scene`], which sets up a world of them through any [`kube::Client`]. [`bench`]
//! measures the controller's program on the real one.

pub mod bench;
pub mod embedded;
pub mod exposition;
pub mod gateway;
pub mod http;
pub mod predictor;
pub mod real;
pub mod scene;
mod share;
