//! The sequential tests on simulated requests: how often they are wrong, and how long they need to be right. Everything is
//! seeded.
#![allow(clippy::unwrap_used, reason = "tests, though clippy knows only the functions marked so")]

mod false_alarms;
mod power;
mod scores;
mod traffic;
