//! What the looks of one step saw, kept small.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Comparison, Indicator, Look, Measurement,
    window::{Looks, Needs},
};
use crate::plan::PlannedCheck;

/// What the looks of one step saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// What limits look at.
    #[serde(rename = "blocks")]
    looks: Looks,
    /// Requests that the canary answered in this step.
    pub requests: u64,
    /// Comparisons with stable, by check: they go on through all steps of a revision. Boxed, because a node of the map has
    /// room for eleven.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    comparisons: BTreeMap<String, Box<Comparison>>,
}

impl Evidence {
    /// Adds what one look saw when the step was `age` old. Only what the limits need is kept.
    pub fn add(&mut self, age: Duration, seen: &Measurement, needs: &Needs) {
        self.requests = self.requests.saturating_add(seen.canary.requests);
        self.looks.add(age, seen, needs);
    }

    /// Adds what one look saw to the comparisons of `checks`.
    pub fn compare<'a>(&mut self, checks: impl Iterator<Item = &'a PlannedCheck>, look: &Look) {
        for check in checks {
            let Some((versus, indicator)) = check.comparison() else { continue };
            let Some(seen) = indicator.seen(&check.name, look) else { continue };
            let add = |comparison: &mut Comparison| comparison.add(versus, indicator, seen, &look.history);
            // Nearly always it is there, and its name need not be copied.
            if let Some(comparison) = self.comparisons.get_mut(&check.name) {
                add(comparison);
            } else {
                add(self.comparisons.entry(check.name.clone()).or_default());
            }
        }
    }

    /// Whether one of the `checks` compares requests and has not begun to: the history of stable is of use then.
    pub fn lacks_history<'a>(&self, mut checks: impl Iterator<Item = &'a PlannedCheck>) -> bool {
        checks.any(|check| {
            let of_requests = matches!(check.comparison(), Some((_, Indicator::Errors | Indicator::Latency)));
            of_requests
                && self.comparisons.get(&check.name).is_none_or(|comparison| comparison.has_not_begun())
        })
    }

    /// What is left of it when the next step begins: the comparisons.
    #[must_use]
    pub fn carried_over(&self) -> Self {
        Self { comparisons: self.comparisons.clone(), ..Self::default() }
    }

    /// The comparison of a check, if anything was seen.
    pub(super) fn comparison(&self, check: &str) -> Option<&Comparison> {
        self.comparisons.get(check).map(Box::as_ref)
    }

    /// What limits look at.
    pub(super) fn looks(&self) -> &Looks {
        &self.looks
    }
}
