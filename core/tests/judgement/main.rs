//! The sequential tests on simulated requests: how often they are wrong, and how long they need to be right. Everything is
//! seeded.

mod false_alarms;
mod power;
mod traffic;
