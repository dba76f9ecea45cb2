//! The readers of what others wrote, one function each, for whoever tries to break them: `fuzz/` with what a fuzzer finds
//! out, `tests/fuzzing` with what is made of real examples. Each panics where a reader breaks its word: that it never
//! panics, does work as long as its text is, and says of a mistake where it is.

use sluice_core::{
    lint,
    plan::{Plan, PlanErrors, target},
};

use crate::cli::{manifest, simulate};
pub use crate::metrics::fuzzing::{answer, exposition, template};

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
    let draft = match manifest::parse(&text, manifest::Which::default(), "the file") {
        Ok(draft) => draft,
        Err(failure) => return is_placed(&failure.to_string()),
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
        assert!(error.path.starts_with("spec") && !error.problem.is_empty(), "{error}");
    }
    if let Ok(plan) = plan {
        assert!(plan.steps.len() <= 100 * spec.steps.len(), "{} steps", plan.steps.len());
        for finding in lint::lint(&plan, spec, None) {
            assert!(finding.path.starts_with("spec"), "{finding:?}");
        }
    }
}

/// A file with a scenario for a rehearsal.
///
/// # Panics
/// The reader breaks its word.
pub fn scenario(data: &[u8]) {
    match simulate::parse(&text(data), "the file") {
        Ok(scenario) => assert!(scenario.check().is_ok(), "{scenario:?}"),
        Err(failure) => is_placed(&failure.to_string()),
    }
}

/// Whether a failure to read says where the mistake is: a line, a field, or an object that is missing as a whole.
fn is_placed(problem: &str) {
    let fields = ["spec", "requests", "stable", "canary", "clump", "lasts", "events", "metadata.name"];
    let placed = problem.contains("line ")
        || fields.iter().any(|field| problem.contains(field))
        || problem.contains("Rollout");
    assert!(placed, "nobody knows where: {problem}");
}
