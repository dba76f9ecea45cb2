//! What happens to one Rollout, as lines of a log.

use chrono::{DateTime, Utc};
use sluice_core::api::{Decision, Rollout, RolloutStatus};

use super::{decisions::log_line, text::plain};

/// Lines for what is new in `after`: its decisions, and where it stands if that is another place than before.
/// Without a `before` these are its last decision and where it stands.
pub fn changes(before: Option<&Rollout>, after: &Rollout, now: DateTime<Utc>) -> String {
    let status = after.status.clone().unwrap_or_default();
    let known = match before {
        Some(before) => before.status.as_ref().map_or(0, |status| status.seq),
        None => status.seq.saturating_sub(1),
    };
    let new = status.decisions.iter().filter(|decision: &&Decision| decision.seq > known);
    let mut text: String = new.map(|decision| log_line(decision) + "\n").collect();
    if before.is_none_or(|before| stands(before.status.as_ref()) != stands(after.status.as_ref())) {
        text += &format!("{}  {}\n", now.format("%Y-%m-%dT%H:%M:%SZ"), stands(after.status.as_ref()));
    }
    text
}

/// Where it stands, in a line.
fn stands(status: Option<&RolloutStatus>) -> String {
    let Some(status) = status else { return "not looked at yet".to_owned() };
    let reason = status.reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let step = status.step.as_ref().map_or_else(String::new, |step| format!("  step {}", plain(step)));
    format!("{}{reason}{step}  {}%  {}", status.phase, status.weight, plain(&status.message))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::cli::view::fixtures::{new, now, rolled_back, waiting};

    #[test]
    fn a_log_begins_with_the_last_decision_and_where_it_stands() {
        assert_snapshot!(changes(None, &waiting("iris"), now()));
    }

    #[test]
    fn later_lines_tell_only_what_is_new() {
        let (before, mut after) = (new("wine"), rolled_back("wine"));
        assert_snapshot!(changes(Some(&before), &after, now()));
        let before = after.clone();
        after.metadata.resource_version = Some("2".into());
        assert_eq!(changes(Some(&before), &after, now()), "");
    }
}
