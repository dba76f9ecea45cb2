//! The pure core of Sluice: data in, data out.
//!
//! Everything that decides what users get lives here, without a Kubernetes client, without a runtime and
//! without a clock, so that the controller, the property tests and the simulator run the same code.
//!
//! - [`api`]: the custom resources as people write and read them;
//! - [`plan`]: a spec, checked and expanded into steps that cannot be wrong;
//! - [`judge`]: measurements in, verdicts out;
//! - [`machine`]: what happens next, and what the world should look like then;
//! - [`lint`]: what is risky about a plan;
//! - [`simulate`]: a plan and a scenario in, a timeline out;
//! - [`replay`]: a plan and recorded looks in, what its checks would have said out;
//! - [`traffic`]: a `VirtualService` and a setting in, the edited one out;
//! - [`target`] and [`carrier`]: where predictors come from and where weights are written: facts about the world,
//!   and the difference between it and what is desired, as the fewest writes.

// Tests of the machine and of its guarantees share a world that uses the public interface.
#[cfg(test)]
extern crate self as sluice_core;

pub mod api;
pub mod carrier;
pub mod judge;
pub mod lint;
pub mod machine;
pub mod plan;
mod predictor;
pub mod replay;
pub mod simulate;
pub mod target;
mod text;
pub mod traffic;

pub use predictor::{HostNames, Predictor};
pub use text::digest;
