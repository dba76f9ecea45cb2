//! What happens next, and what the world should look like then.
//!
//! [`step`] takes the machine's memory and what is seen of the world, and gives the memory back with at most one
//! decision in it. [`desired`] says what the world should be for a memory: it knows no order, no history and no
//! clock, so that crashes, retries, drift and partial writes need no code of their own.

mod desired;
mod facts;
mod guard;
mod idle;
mod leaving;
mod people;
mod progress;
mod record;
mod report;
mod safety;
mod sight;
mod state;
mod turn;

#[cfg(test)]
mod tests;

pub use desired::{desired, in_force, stamp, wake, with_step};
pub use facts::{Asked, Facts, Frozen, Refusal, SeenTraffic};
pub use record::{KEPT_DECISIONS, MOST_BYTES};
pub use report::{report, worth_writing};
pub use sight::arms;
pub use state::{
    Handled, KEPT_ACTIONS, KEPT_REVISIONS, Outcome, Pause, Retiring, RevisionOutcome, Stage, State,
    StepState, Withdrawn,
};
pub use turn::{Change, may_grow, only_takes_away, step};
