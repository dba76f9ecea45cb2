//! What happens next, and what the world should look like then.

mod state;

pub use state::{
    Handled, KEPT_ACTIONS, KEPT_REVISIONS, Outcome, Pause, Retiring, RevisionOutcome, Stage, State,
    StepState, Withdrawn,
};
