//! A Kubernetes and Istio laboratory: what makes Sluice tryable and testable in one command on any machine.
//!
//! [`embedded`] is a Kubernetes API in memory; [`real`] runs the real one, and a Prometheus, as processes in a network
//! namespace; [`faults`] strike both alike. With both go [`predictor`], which answers inference requests as badly as it
//! is told to, [`gateway`], which obeys VirtualServices, [`prometheus`], which scrapes them and misbehaves when it is told
//! to, and [`scene`], which sets up a world of them through any [`kube::Client`]; [`invariants`] reads what was committed
//! and says which guarantee was broken, and [`bench`] measures the controller's program on the real one.
//! [`operator`] plays Seldon Core's, [`binomial`] says which counts chance explains, [`cargo`] builds programs that are run as
//! they are, and [`up`] leaves the real laboratory running for a person.

pub mod bench;
pub mod binomial;
pub mod cargo;
pub mod embedded;
pub mod exposition;
pub mod faults;
pub mod gateway;
pub mod http;
pub mod invariants;
pub mod operator;
pub mod predictor;
pub mod prometheus;
pub mod real;
pub mod scene;
mod share;
pub mod up;
