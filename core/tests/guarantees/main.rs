//! What must always hold, over random lives of a Rollout, checked by an oracle that reads raw objects and does its own
//! arithmetic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "../../src/machine/tests/controller.rs"]
#[allow(dead_code, reason = "shared with the machine's own tests")]
mod controller;
mod events;
mod faults;
mod oracle;
mod properties;
mod run;
#[path = "../../src/machine/tests/world.rs"]
#[allow(dead_code, reason = "shared with the machine's own tests")]
mod world;
