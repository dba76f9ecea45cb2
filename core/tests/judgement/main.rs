//! The sequential tests on simulated requests: how often they are wrong, and how long they need to be right. Everything is
//! seeded.
#![allow(clippy::unwrap_used, reason = "tests, though clippy knows only the functions marked so")]

mod docs;
mod false_alarms;
mod latency;
mod power;
mod scores;
mod several;
mod traffic;
