//! The product on the embedded laboratory: the same controller as `sluice run`, an in-memory Kubernetes, predictors
//! and a gateway that are real, users who send requests, and time that is virtual.
//!
//! Oracles read the raw objects and do their own arithmetic; they never call the code under test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod campaign;
mod clocks;
mod copies;
mod deletions;
mod examples;
mod executor;
mod expose;
mod fencing;
mod freeze;
mod hashed;
mod health;
mod history;
mod journal;
mod life;
#[path = "../deploy/lua.rs"]
mod lua;
mod mutants;
mod operated;
mod oracle;
mod outage;
mod outages;
mod records;
mod refusals;
mod rehearsed;
mod replicas;
mod rest;
mod restored;
mod seldon;
mod seldon_changes;
mod speed;
mod subsets;
mod tenants;
mod tenure;
mod tools;
mod versions;
mod watches;
mod wiring;
mod world;
