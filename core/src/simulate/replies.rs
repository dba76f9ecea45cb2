//! What people are answered in a rehearsal where no decision comes of what they ask for.

use std::time::Duration;

use crate::{
    api::{ActionPhase, Do},
    machine::{Asked, State},
};

/// An answer to a person without a decision: what they asked for was refused, or was done already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// When: time since the canary was wanted.
    pub at: Duration,
    /// What was asked for.
    pub what: Do,
    /// What became of it.
    pub phase: ActionPhase,
    /// Why, in a sentence.
    pub message: String,
}

/// What was answered between two states.
pub(super) fn replies(at: Duration, asked: &[Asked], before: &State, after: &State) -> Vec<Reply> {
    let new = after.handled.iter().filter(|handled| !before.has_handled(&handled.uid));
    let replies = new.filter(|handled| handled.decision.is_none()).filter_map(|handled| {
        let asked = asked.iter().find(|asked| asked.uid == handled.uid)?;
        Some(Reply { at, what: asked.what, phase: handled.phase, message: handled.message.clone() })
    });
    replies.collect()
}
