//! The decisions that a status keeps: the newest, in so many bytes.
//!
//! A Rollout is one object of etcd, which takes 1.5 MiB, its spec and the pinned one included. A decision is mostly small;
//! with 32 checks that explain themselves at length twenty are not.

use crate::api::Decision;

/// How many decisions are kept in a status.
pub const KEPT_DECISIONS: usize = 20;
/// How long the decisions of a status may be together, in bytes of JSON; the newest is whole, however long it is.
pub const MOST_BYTES: usize = 96 * 1024;

/// The record with what was decided now. Nothing is cut while nothing is added: what was written once stays as it is.
pub(super) fn with(before: &[Decision], new: Option<&Decision>) -> Vec<Decision> {
    let mut decisions = before.to_vec();
    let superfluous = (decisions.len() + usize::from(new.is_some())).saturating_sub(KEPT_DECISIONS);
    decisions.drain(..superfluous.min(decisions.len()));
    if let Some(new) = new {
        decisions.push(new.clone());
        cut(&mut decisions, MOST_BYTES);
    }
    decisions
}

/// Makes them fit: the oldest lose first what they were decided on and what they wrote, and then go. What was decided when,
/// why and by whom is worth more than numbers.
fn cut(decisions: &mut Vec<Decision>, most: usize) {
    let mut lengths: Vec<usize> = decisions.iter().map(length).collect();
    let mut total: usize = lengths.iter().sum();
    let older = decisions.len().saturating_sub(1);
    for (decision, length_before) in decisions.iter_mut().zip(&mut lengths).take(older) {
        if total <= most {
            return;
        }
        abridge(decision);
        total -= *length_before;
        *length_before = length(decision);
        total += *length_before;
    }
    let mut gone = 0;
    while total > most && gone < older {
        total -= lengths[gone];
        gone += 1;
    }
    decisions.drain(..gone);
}

fn abridge(decision: &mut Decision) {
    if decision.checks.is_empty() && decision.writes.is_empty() {
        return;
    }
    decision.checks = Vec::new();
    decision.writes = Vec::new();
    decision.more_writes = 0;
    decision.abridged = true;
}

fn length(decision: &Decision) -> usize {
    // A comma or a bracket beside it.
    serde_json::to_string(decision).map_or(0, |text| text.len() + 1)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
