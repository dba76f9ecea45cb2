//! What is worth knowing about a replay.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sluice_core::{
    api::GoDuration,
    judge::{Indicator, LOOKS_AT_STABLE},
    plan::{Plan, PlannedCheck},
    replay::{Replayed, counts_requests},
};

use super::arms::Pair;
use crate::cli::view;

/// Checks that are for some steps only are asked all the time.
pub fn partly(plan: &Plan) -> Option<String> {
    let some: Vec<&str> =
        plan.checks.iter().filter(|check| !check.steps.is_empty()).map(|check| check.name.as_str()).collect();
    (!some.is_empty())
        .then(|| format!("For some steps only, and asked all the time here: {}.", some.join(", ")))
}

/// What it changes that looks are not as far apart as in a rollout: whatever is counted in looks.
pub fn other_step(plan: &Plan, every: Duration) -> Option<String> {
    // Looks at what was recorded are apart by whole milliseconds.
    if every.as_millis() == plan.interval.as_millis() {
        return None;
    }
    let apart = |looks: u32, interval: Duration| GoDuration(interval.saturating_mul(looks));
    let mut remark = format!(
        "Looks are {} apart here and {} in a rollout (spec.interval), so what is counted in looks takes another time.",
        GoDuration(every),
        GoDuration(plan.interval)
    );
    for check in plan.checks.iter().filter(|check| check.has_limit() && check.consecutive_failures > 1) {
        let PlannedCheck { name, consecutive_failures: looks, .. } = check;
        remark.push_str(&format!(
            " The consecutiveFailures of {name}, {looks} looks in a row, are {} here and {} there.",
            apart(*looks, every),
            apart(*looks, plan.interval)
        ));
    }
    let compares = |wanted: fn(Indicator) -> bool| {
        plan.checks.iter().filter_map(PlannedCheck::comparison).any(|(_, indicator)| wanted(indicator))
    };
    if compares(|indicator| !matches!(indicator, Indicator::Scores(..))) {
        remark.push_str(&format!(
            " How much bad answers vary is told from {LOOKS_AT_STABLE} looks at stable, {} here and {} there.",
            apart(LOOKS_AT_STABLE, every),
            apart(LOOKS_AT_STABLE, plan.interval)
        ));
    }
    if compares(|indicator| matches!(indicator, Indicator::Scores(..))) {
        remark.push_str(
            " Numbers that are compared are a window apart here as there, or a look where that is longer.",
        );
    }
    Some(remark)
}

/// What was recorded for a part of the time only, or about one arm only.
pub fn gaps(
    plan: &Plan,
    found: &Replayed,
    pair: &Pair,
    (from, until, every): (DateTime<Utc>, DateTime<Utc>, Duration),
) -> Vec<String> {
    let Some((first, last)) = found.counted.filter(|_| counts_requests(plan)) else { return Vec::new() };
    let mut remarks = Vec::new();
    // A scrape may come once a minute, and the first one is only compared with.
    let long = TimeDelta::minutes(5).max(TimeDelta::from_std(5 * every).unwrap_or_default());
    if first - from > long {
        remarks.push(format!(
            "The history begins at {}: what was before is not recorded.",
            view::instant(first)
        ));
    }
    if until - last > long {
        remarks.push(format!("The history ends at {}: nothing is recorded after it.", view::instant(last)));
    }
    for (arm, counts, what) in
        [(&pair.canary, &found.canary, "canary"), (&pair.stable, &found.stable, "stable")]
    {
        if counts.requests == 0 {
            remarks.push(format!("No request of {arm} is recorded: expected some of the {what} predictor."));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(checks: &Value) -> Plan {
        let spec = json!({
            "target": {"service": {"name": "canary"}}, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 10, "for": "60s"}], "checks": checks, "interval": "10s",
        });
        Plan::new(&serde_json::from_value(spec).unwrap(), "replay").unwrap()
    }

    #[test]
    fn another_step_is_told_with_what_it_changes() {
        let query = json!({"promql": "score{s=\"{{canary.service}}\"}", "direction": "MoreIsBetter", "versusStable": {}});
        let all = plan(&json!([
            {"name": "errors", "errors": {"max": "1%", "versusStable": {}}, "consecutiveFailures": 2},
            {"name": "score", "query": query},
        ]));
        assert_eq!(other_step(&all, Duration::from_secs(10)), None);
        let told = other_step(&all, Duration::from_secs(1)).unwrap();
        for expected in [
            "Looks are 1s apart here and 10s in a rollout (spec.interval)",
            "The consecutiveFailures of errors, 2 looks in a row, are 2s here and 20s there.",
            "from 10 looks at stable, 10s here and 1m40s there.",
            "Numbers that are compared are a window apart here as there",
        ] {
            assert!(told.contains(expected), "{expected:?} is not in {told}");
        }
        let limit = plan(&json!([{"name": "errors", "errors": {"max": "1%"}}]));
        let told = other_step(&limit, Duration::from_secs(30)).unwrap();
        assert!(told.ends_with("takes another time."), "{told}");
    }
}
