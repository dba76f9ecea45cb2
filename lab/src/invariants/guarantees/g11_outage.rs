//! Guarantee 11: "A metrics outage neither promotes nor rolls back."
//!
//! Checked for decisions that a controller records in a [`Mark::Outage`], once news had time to come: none enters a later
//! step, promotes, or fails a check, unless a person asked. Step 0 needs no metrics, and a canary that has all traffic
//! already becomes stable without them. `inconclusive.then: Rollback` is what a spec asks for and is no breach.

use serde_json::Value;

use super::{Found, Guarantee, Seen};
use crate::invariants::{
    objects::{self, text},
    run::Mark,
};

pub(super) struct Outage;

impl Guarantee for Outage {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        let news = seen.world.limits().news;
        let is_out = seen.world.run.marks.iter().any(|mark| match mark {
            Mark::Outage { from, to } => {
                *from + news < seen.commit.at && to.is_none_or(|to| seen.commit.at < to)
            }
            Mark::Breach { .. } | Mark::Away { .. } | Mark::Rest { .. } => false,
        });
        let Some(change) = seen.status().filter(|_| is_out) else { return };
        let grows = objects::step_index(change.after) > objects::step_index(change.before).or(Some(0));
        let checked = objects::list(&change.before["pinned"]["checks"]).next().is_some();
        for decision in change.news.iter().filter(|decision| decision["by"].is_null() && checked) {
            if let Some(what) = broken(decision, grows) {
                found.add(Some(&change.name), format!("in an outage of the metrics {what}"));
            }
        }
    }
}

fn broken(decision: &Value, grows: bool) -> Option<String> {
    let seq = &decision["seq"];
    match (text(&decision["kind"]), text(&decision["reason"])) {
        ("Entered" | "Promoting", _) if grows => Some(format!("decision {seq} enters a step")),
        ("RolledBack", "CheckFailed") => Some(format!("decision {seq} rolls back for a check")),
        _ => None,
    }
}
