//! The readers of what others wrote, one function each, for whoever tries to break them: `fuzz/` with what a fuzzer finds
//! out, `tests/fuzzing` with what is made of real examples. Each panics where a reader breaks its word: that it never
//! panics, does work as long as its text is, and says of a mistake where it is. What can be read is gone on with as the
//! commands do, for a bounded number of looks.

use std::{sync::OnceLock, time::Duration};

use serde_json::json;
use sluice_core::{
    api::{GoDuration, Share},
    lint,
    plan::{Load, Plan, PlanErrors, target},
    simulate::{Scenario, simulate},
};

use crate::cli::{manifest, simulate as rehearsals};
pub use crate::metrics::fuzzing::{answer, exposition, template};

/// What all files are called here.
const FILE: &str = "the file";
/// So many looks are rehearsed.
const LOOKS: u32 = 60;
/// So much of a rollout is rehearsed where what is risky about it depends on its load.
const LONGEST: Duration = Duration::from_hours(30 * 24);
/// Mistakes of a file as a whole, which are at no place in it.
const WHOLE: [&str; 2] =
    ["the file has no Rollout of sluice.dev/v1alpha1: ", "the file has several Rollouts ("];

/// As the readers of files and answers do it: what is no UTF-8 is replaced.
pub(crate) fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// A file with a Rollout, and all that is made of it without a cluster.
///
/// # Panics
/// The reader breaks its word.
pub fn rollout(data: &[u8]) {
    let text = text(data);
    let draft = match manifest::parse(&text, manifest::Which::default(), FILE) {
        Ok(draft) => draft,
        Err(failure) => {
            let problem = failure.to_string();
            return assert!(is_placed_in_a_rollout(&problem), "nobody knows where: {problem}");
        }
    };
    for mistake in draft.mistakes() {
        assert!(!mistake.path.is_empty() && !mistake.problem.is_empty(), "{mistake:?}");
    }
    let Some(spec) = &draft.spec else {
        assert!(!draft.mistakes().is_empty(), "what cannot be read has a mistake");
        return;
    };
    let plan = Plan::named(spec, "models", &draft.name);
    let refused = [target(spec).err(), plan.as_ref().err().cloned()];
    for error in refused.iter().flatten().flat_map(PlanErrors::iter) {
        assert!(is_field_of_spec(&error.path) && !error.problem.is_empty(), "{error}");
    }
    let Ok(plan) = plan else { return };
    assert!(plan.steps.len() <= 100 * spec.steps.len(), "{} steps", plan.steps.len());
    let load = Load { rate: 20.0, matching: share(0.1) };
    for (plan, load) in [(&plan, None), (&coarse(&plan), Some(load))] {
        for finding in lint::lint(plan, spec, load) {
            assert!(is_field_of_spec(&finding.path) && !finding.problem.is_empty(), "{finding:?}");
        }
    }
}

/// A file with a scenario for a rehearsal, and the rehearsal.
///
/// # Panics
/// The reader breaks its word, or a rehearsal shows what cannot be.
pub fn scenario(data: &[u8]) {
    let scenario = match rehearsals::parse(&text(data), FILE) {
        Ok(scenario) => scenario,
        Err(failure) => {
            let problem = failure.to_string();
            return assert!(is_placed_in_a_scenario(&problem), "nobody knows where: {problem}");
        }
    };
    assert!(scenario.check().is_ok(), "{scenario:?}");
    let healthy = scenario.clone().healthy();
    assert!(healthy.check().is_ok() && healthy.canary_is_never_worse(), "{healthy:?}");
    let Some(plan) = small() else { panic!("the Rollout of all rehearsals is invalid") };
    for scenario in [&scenario, &healthy] {
        for seed in [None, Some(1)] {
            rehearsed(plan, scenario, seed);
        }
    }
}

/// Rehearses shortly.
fn rehearsed(plan: &Plan, scenario: &Scenario, seed: Option<u64>) {
    let longest = plan.interval * LOOKS;
    let short = Scenario { lasts: Some(GoDuration(scenario.length().min(longest))), ..scenario.clone() };
    let timeline = simulate(plan, &short, seed);
    assert!(timeline.at <= longest + plan.interval, "it ends at {:?}: {short:?}", timeline.at);
    assert!(timeline.users.errors <= timeline.users.requests, "{:?}: {short:?}", timeline.users);
    let times = timeline.decisions.iter().map(|(at, _)| *at);
    assert!(times.is_sorted(), "{:?}: {short:?}", timeline.decisions);
}

/// The Rollout of all rehearsals: a step of each sort, and a check of each sort, by the names that examples have.
fn small() -> Option<&'static Plan> {
    static SMALL: OnceLock<Option<Plan>> = OnceLock::new();
    let plan = || {
        let of = |name: &str| format!("{name}{{service=\"{{{{canary.service}}}}\"}}");
        let spec = json!({
            "target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}],
            "steps": [
                {"mirror": 50, "for": "20s"}, {"match": [{"uri": {"prefix": "/beta"}}], "for": "20s"},
                {"weight": 10, "for": "30s", "approve": true}, {"weight": 50, "for": "1m"},
            ],
            "checks": [
                {"name": "errors", "errors": {"max": "5%", "versusStable": {}}, "consecutiveFailures": 2},
                {"name": "p99", "latency": {"max": "250ms", "versusStable": {}}, "inconclusive": "Rollback"},
                {"name": "accuracy", "query": {"promql": of("accuracy"), "min": 0.5, "window": "10s",
                    "direction": "MoreIsBetter", "versusStable": {}}},
                {"name": "fallbacks", "query": {"promql": of("fallbacks"), "total": of("all"),
                    "direction": "MoreIsWorse", "versusStable": {}}},
            ],
            "interval": "10s", "settle": "10s", "inconclusive": {"limit": "3m"},
        });
        Plan::new(&serde_json::from_value(spec).ok()?, "rehearsal").ok()
    };
    SMALL.get_or_init(plan).as_ref()
}

/// The plan with looks so far apart that they are few however long it lasts.
fn coarse(plan: &Plan) -> Plan {
    plan.looking_every(plan.interval.max(LONGEST / LOOKS))
}

fn share(fraction: f64) -> Share {
    Share::new(fraction).unwrap_or_else(|| panic!("{fraction} is no share"))
}

/// Whether a failure to read a file with a Rollout says where the mistake is: the line of what is no YAML. What is wrong with
/// the Rollout itself is no failure, but a mistake with its field.
fn is_placed_in_a_rollout(problem: &str) -> bool {
    match problem.strip_prefix("the file is no YAML that can be read: ") {
        Some(wrong) => names_a_line(wrong),
        None => WHOLE.iter().any(|whole| problem.starts_with(whole)),
    }
}

/// Whether a failure to read a scenario says where the mistake is: the line of what is none, the field of what makes no sense.
fn is_placed_in_a_scenario(problem: &str) -> bool {
    if let Some(wrong) = problem.strip_prefix("the file is no scenario that can be read: ") {
        return names_a_line(wrong);
    }
    let fields = ["requests", "stable.", "canary.", "queries.", "clump", "lasts", "events["];
    let field = problem.strip_prefix("the file: ").and_then(|wrong| wrong.split_once(": "));
    field.is_some_and(|(path, _)| fields.iter().any(|field| path.starts_with(field)))
}

/// Whether a path is that of a field, `spec` or below it.
fn is_field_of_spec(path: &str) -> bool {
    path.strip_prefix("spec").is_some_and(|below| below.is_empty() || below.starts_with(['.', '[']))
}

/// Whether the reader of YAML names a line, where it always does: words of the text itself are no place.
fn names_a_line(wrong: &str) -> bool {
    let number = |rest: &str| rest.starts_with(|c: char| ('1'..='9').contains(&c));
    wrong.strip_prefix("line ").is_some_and(number)
        || wrong.rsplit_once(" at line ").is_some_and(|(_, rest)| number(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_or_a_field_and_no_word_of_the_text() {
        for (problem, placed) in [
            ("the file is no YAML that can be read: line 3 column 1: unclosed bracket '['", true),
            ("the file is no YAML that can be read: unexpected end of input at line 1, column 1", true),
            ("the file is no YAML that can be read: too large: Rollout, spec, stable, line 3", false),
            ("the file has no Rollout of sluice.dev/v1alpha1: it is empty", true),
            ("the file has several Rollouts (iris, wine): name one with --name", true),
            ("the file: the Rollout \"iris\": spec.steps[0].weight: invalid type", false),
            ("a Rollout with a spec of stable and canary is wrong", false),
        ] {
            assert_eq!(is_placed_in_a_rollout(problem), placed, "{problem}");
        }
        for (problem, placed) in [
            ("the file is no scenario that can be read: line 2 column 9: unknown field", true),
            ("the file is no scenario that can be read: unknown field `line 2`", false),
            ("the file: events[2].canary.latency: median 1s and p99 1s", true),
            ("the file: the canary is wrong", false),
        ] {
            assert_eq!(is_placed_in_a_scenario(problem), placed, "{problem}");
        }
    }

    #[test]
    fn the_rollout_of_all_rehearsals_is_one_and_its_end_can_be_reached() {
        let plan = small().unwrap();
        let good = "{requests: 100, matching: 10%, stable: {latency: {median: 50ms, p99: 90ms}}, queries: {accuracy: 0.9, \
                    fallbacks: 0.1}, events: [{at: 5m, do: Approve}]}";
        let good = rehearsals::parse(good, FILE).unwrap().healthy();
        let timeline = simulate(plan, &good, None);
        assert_eq!(timeline.ending, sluice_core::simulate::Ending::Promoted);
        assert!(timeline.at <= plan.interval * LOOKS, "{:?}", timeline.at);
    }
}
