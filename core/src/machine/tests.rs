//! Scenarios: facts about the life of a Rollout, on a small world with virtual time.

mod checks;
#[allow(dead_code, reason = "shared with the property tests")]
mod controller;
mod freeze;
mod guard;
mod life;
mod people;
mod report;
mod retirement;
mod safety;
mod sight;
mod steps;
mod strategies;
#[allow(dead_code, reason = "shared with the property tests")]
mod world;
