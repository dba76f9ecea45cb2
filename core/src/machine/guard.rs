//! Whether what stable serves is what came to its users through steps and checks.
//!
//! What a predictor serves can be changed in place where its target says what that is: then its revision stays the same,
//! and no rollout begins. What was served is remembered in the status, so a change that nobody watched is seen later.

use super::{Facts, State};
use crate::{
    Predictor,
    api::{Guarded, Reason},
};

/// What is remembered of stable, and what is said about it; nothing is said where the target does not tell what its
/// predictors serve.
pub(super) struct Guard {
    pub(super) remembered: Option<Guarded>,
    pub(super) said: Option<(bool, Reason, String)>,
}

/// `before` is what was remembered so far.
pub(super) fn guard(state: &State, facts: &Facts, before: Option<&Guarded>) -> Guard {
    let Some(stable) = &state.stable else { return Guard { remembered: None, said: None } };
    let known = before.filter(|known| known.revision == stable.revision());
    let now = facts.serves.get(&stable.service);
    let remembered = match (known, now) {
        (Some(known), _) => Some(known.clone()),
        // It has just become stable, or was not looked at before: from here on it is guarded.
        (None, Some(now)) => Some(Guarded { revision: stable.revision(), serves: now.clone() }),
        (None, None) => None,
    };
    let said = remembered.as_ref().map(|known| match now {
        Some(now) if *now != known.serves => (false, Reason::ChangedInPlace, changed(stable, known, now)),
        Some(_) | None => (true, Reason::Unchanged, unchanged(stable)),
    });
    // Gone is not changed back: what was said last still counts.
    let said = said.filter(|_| now.is_some());
    Guard { remembered, said }
}

fn name(stable: &Predictor) -> &str {
    stable.subset.as_deref().unwrap_or(&stable.service)
}

fn unchanged(stable: &Predictor) -> String {
    format!("predictor {} serves what it served when it became stable", name(stable))
}

fn changed(stable: &Predictor, known: &Guarded, now: &str) -> String {
    let short = |hash: &str| hash.chars().take(8).collect::<String>();
    format!(
        "predictor {} was changed in place while it is stable ({} before, {} now): its users got the new one without steps \
         and checks. Put the old one back, add a predictor beside it, and make that the wanted one",
        name(stable),
        short(&known.serves),
        short(now)
    )
}
