//! Whether a scenario is about the Rollout that is rehearsed with it.

use super::scenario::{InvalidScenario, Scenario};
use crate::plan::{Plan, Rule};

impl Scenario {
    /// Refuses answers to queries that the plan does not ask: a misspelt name would leave its check without evidence, and
    /// nobody would know why.
    ///
    /// # Errors
    /// The first name under `queries` that no check with a query has.
    pub fn fits(&self, plan: &Plan) -> Result<(), InvalidScenario> {
        let at_start = self.queries.keys().map(|name| (format!("queries.{name}"), name));
        let later = self.events.iter().enumerate().flat_map(|(index, event)| {
            event.queries.keys().map(move |name| (format!("events[{index}].queries.{name}"), name))
        });
        for (field, name) in at_start.chain(later) {
            let problem = match plan.checks.iter().find(|check| check.name == *name) {
                Some(check) if matches!(check.rule, Rule::Query { .. }) => continue,
                Some(_) => "this check has no query: it needs no answer".to_owned(),
                None => format!("no check of this Rollout has that name{}", with_queries(plan)),
            };
            return Err(InvalidScenario { field, problem });
        }
        Ok(())
    }
}

/// Which ones there are.
fn with_queries(plan: &Plan) -> String {
    let asks = plan.checks.iter().filter(|check| matches!(check.rule, Rule::Query { .. }));
    let names: Vec<&str> = asks.map(|check| check.name.as_str()).collect();
    match &*names {
        [] => String::new(),
        [one] => format!("; {one} is the one with a query"),
        several => format!("; those with a query are {}", several.join(", ")),
    }
}
