//! What must always hold, over random lives of a Rollout, checked by an oracle that reads raw objects and does its own
//! arithmetic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "../../src/machine/tests/controller.rs"]
mod controller;
mod events;
mod oracle;
mod properties;
mod run;
#[path = "../../src/machine/tests/world.rs"]
mod world;
