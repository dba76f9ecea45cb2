//! Edits of whole `VirtualService`s, through the public interface, checked by an oracle that reads the raw objects.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod beside;
mod oracle;
mod properties;
mod random;
mod real_life;
