//! The command line, from its arguments to its exit code: as a process, and against an API in memory.

mod actions;
mod arguments;
mod listing;
mod process;
mod world;
