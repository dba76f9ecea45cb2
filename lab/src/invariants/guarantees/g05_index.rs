//! Guarantee 5: "The step index only grows, except on abort, retry or a new revision, and is never carried across
//! revisions."
//!
//! Checked between the statuses that controllers write, each with the one it replaced. An end of a rollout has no step, so
//! what is seen is: the step of one canary never falls, and of another one begins at the first, without traffic. A status
//! that was edited or restored by others is where counting starts anew.

use super::{Found, Guarantee, Seen};
use crate::invariants::objects::{self, Predictor};

pub(super) struct Index;

impl Guarantee for Index {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        let Some(change) = seen.status() else { return };
        let Some(to) = objects::step_index(change.after) else { return };
        let [before, after] = [change.before, change.after].map(|status| Predictor::of(&status["canary"]));
        let same = before == after;
        match objects::step_index(change.before) {
            Some(from) if same && to < from => {
                found.add(Some(&change.name), format!("back from step {} to step {}", from + 1, to + 1));
            }
            Some(_) if same => {}
            Some(_) | None if to > 0 || !objects::is_withdrawn(change.after) => {
                let what = format!(
                    "{} begins at step {}{}, expected the first, without traffic",
                    change.after["canary"],
                    to + 1,
                    if objects::is_withdrawn(change.after) { "" } else { " with traffic" }
                );
                found.add(Some(&change.name), what);
            }
            Some(_) | None => {}
        }
    }
}
