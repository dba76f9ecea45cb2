//! The command line, from its arguments to its exit code: as a process, and against an API in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests, though clippy knows only the functions marked so"
)]

mod actions;
mod arguments;
mod explaining;
mod figures;
mod freezes;
mod listing;
mod measuring;
mod mistakes;
mod planning;
mod process;
mod rehearsals;
mod replays;
mod uninstall;
mod world;
