//! Sluice: progressive delivery for model predictors on Kubernetes and Istio.
//!
//! The pure part, which decides, is the crate `sluice-core`. This crate is the shell around it: the controller
//! that watches and writes, the sources of metrics, the command line.

pub mod cli;
pub mod controller;
mod foreign;
#[doc(hidden)]
pub mod fuzzing;
pub mod metrics;
mod pods;
pub mod server;
mod text;
