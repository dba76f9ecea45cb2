//! Checks on what PromQL queries answer.

use super::{
    PlanErrors,
    checks::{Parts, Rule},
    versus,
};
use crate::api::{Direction, QueryCheck};

/// What tells a query about the canary from one about stable.
const OF_THE_CANARY: [&str; 2] = ["canary.service", "revision"];
const OF_STABLE: &str = "stable.service";

pub(super) fn rule(rule: &QueryCheck, path: &str, errors: &mut PlanErrors) -> Option<Parts> {
    match (rule.min, rule.max) {
        (None, None) if rule.versus_stable.is_some() => {}
        (None, None) => {
            errors.invalid(path, "at least one of min, max and versusStable is expected");
            return None;
        }
        (Some(min), Some(max)) if min > max => errors.invalid(path, format!("min {min} is above max {max}")),
        _ => {}
    }
    compared(rule, path, errors);
    // What is better where there is more of it is seldom rare: of 99% right answers nobody gives twice as many.
    let rare = rule.total.is_some() && rule.direction != Some(Direction::MoreIsBetter);
    let defaults = if rare { &versus::OF_REQUESTS } else { &versus::OF_SCORES };
    let versus = rule
        .versus_stable
        .as_ref()
        .map(|asked| versus::plan(asked, defaults, &format!("{path}.versusStable"), errors));
    Some(Parts {
        rule: Rule::Query {
            promql: rule.promql.clone(),
            total: rule.total.clone(),
            direction: rule.direction,
            min: rule.min,
            max: rule.max,
        },
        window: rule.window,
        min_requests: 0,
        versus,
    })
}

/// Refuses what belongs to a comparison and is not part of one, and queries that would say the same of both arms.
fn compared(rule: &QueryCheck, path: &str, errors: &mut PlanErrors) {
    let direction = format!("{path}.direction");
    if rule.versus_stable.is_none() {
        if rule.direction.is_some() {
            errors.invalid(&direction, "is for a comparison: versusStable is expected beside it");
        }
        if rule.total.is_some() {
            errors
                .invalid(&format!("{path}.total"), "is for a comparison: versusStable is expected beside it");
        }
        return;
    }
    if rule.direction.is_none() {
        errors.invalid(&direction, "is missing: MoreIsWorse or MoreIsBetter is expected with versusStable");
    }
    if rule.total.is_some() && (rule.min.is_some() || rule.max.is_some()) {
        let problem =
            "has no limits: counters only grow; use versusStable alone, and a check of its own for a limit";
        errors.invalid(&format!("{path}.total"), problem);
    }
    let queries = [("promql", Some(&rule.promql)), ("total", rule.total.as_ref())];
    for (field, query) in queries.into_iter().filter_map(|(field, query)| Some((field, query?))) {
        let names = |variable: &str| variables(query).any(|name| name == variable);
        let problem = if names(OF_STABLE) {
            "names {{stable.service}}, and is asked about stable in any case: name the canary only"
        } else if !OF_THE_CANARY.into_iter().any(names) {
            "does not name {{canary.service}}: it would say the same of the canary and of stable"
        } else {
            continue;
        };
        errors.invalid(&format!("{path}.{field}"), problem);
    }
}

/// The names between double braces.
fn variables(query: &str) -> impl Iterator<Item = &str> {
    query.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
}
