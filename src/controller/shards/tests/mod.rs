//! Replicas on one in-memory API, in virtual time.

mod campaign;
mod gate;
mod replicas;
mod rules;
