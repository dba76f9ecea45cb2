//! What the demo says: the beginning, each decision, both releases, and what came of it.

use std::time::Duration;

use sluice_core::api::{Decision, DecisionKind, Reason};

use crate::{
    check::Finding,
    text::{Line, Paint},
    users::RATE,
    view::clock,
};

/// Columns before what a decision says.
pub const INDENT: usize = 8;

/// What is here.
pub fn beginning(real: bool) -> Vec<Line> {
    let (kubernetes, gateway, metrics) = if real {
        (
            "a real kube-apiserver",
            "a real Envoy that a real istiod tells what the VirtualService `iris` says",
            "a real Prometheus reads MLServer's metrics there",
        )
    } else {
        (
            "a Kubernetes API in memory",
            "does what the VirtualService `iris` says",
            "they export MLServer's metrics",
        )
    };
    let item = |what: &str, text: String| Line::of(Paint::Bold, format!("  {what:<12}")).plain(text);
    vec![
        Line::of(Paint::Bold, "Sluice, live: a good release is promoted, a bad one is rolled back."),
        item("controller", format!("the one of `sluice run`, on {kubernetes}")),
        item("predictors", format!("iris-v1 (live), iris-v2, iris-v3; {metrics}")),
        item("gateway", gateway.into()),
        item("users", format!("{RATE} requests a second")),
        Line::new(),
    ]
}

/// A new act.
pub fn act(title: &str, command: &str) -> Vec<Line> {
    let title = Line::of(Paint::Bold, format!("■ {title}"));
    vec![Line::new(), title, Line::of(Paint::Dim, format!("  $ {command}"))]
}

/// Something that the demo does.
pub fn deed(elapsed: Duration, text: &str) -> Line {
    Line::of(Paint::Dim, format!("{}  ", clock(elapsed))).and(Paint::Yellow, text)
}

/// One decision with its reason; `whole` with every number.
pub fn decision(decision: &Decision, elapsed: Duration, whole: bool) -> Line {
    let paint = match decision.kind {
        DecisionKind::Promoting | DecisionKind::Promoted => Paint::Green,
        DecisionKind::RolledBack | DecisionKind::Withdrawn | DecisionKind::Overdue => Paint::Red,
        DecisionKind::Entered => Paint::Yellow,
        _ => Paint::Cyan,
    };
    let (from, to) = (decision.from_weight, decision.weight);
    let moved = decision.kind != DecisionKind::Promoted && from != to;
    let weights = if moved { format!(" {from}% → {to}%") } else { String::new() };
    let why = if whole || decision.reason != Reason::StepsPassed {
        decision.message.clone()
    } else {
        in_short(decision)
    };
    Line::of(Paint::Dim, format!("{}  ", clock(elapsed)))
        .and(paint, format!("{:?}{weights}", decision.kind))
        .plain(format!("  {why}"))
}

/// Why a step passed: what the checks counted, without their rules.
fn in_short(decision: &Decision) -> String {
    let mut text = decision.message.split([',', ';']).next().unwrap_or_default().to_owned();
    for check in &decision.checks {
        if let Some(canary) = &check.canary {
            text += &format!(" · {} {}/{}", check.name, canary.bad, canary.requests);
        }
    }
    text
}

/// A diff under a title, or that there is none.
pub fn difference(title: &str, diff: Vec<Line>, none: &str) -> Vec<Line> {
    let mut lines = vec![Line::of(Paint::Bold, format!("  {title}"))];
    if diff.is_empty() {
        lines.push(Line::of(Paint::Dim, format!("      {none}")));
    }
    lines.extend(diff);
    lines
}

/// The end, and how it is known.
pub fn end(well: bool, elapsed: Duration, counted_by: &str) -> Vec<Line> {
    let title = if well { "Both ended as they should" } else { "This did not end as it should" };
    vec![
        Line::new(),
        Line::of(Paint::Bold, format!("■ {title}, after {} s", elapsed.as_secs())),
        Line::of(
            Paint::Dim,
            format!(
                "  as the stored VirtualService and the counts of the {counted_by} say, not the controller"
            ),
        ),
    ]
}

/// What came of it.
pub fn findings(findings: &[Finding]) -> Vec<Line> {
    let sign = |finding: &Finding| {
        if finding.holds { Line::of(Paint::Green, "  ✓ ") } else { Line::of(Paint::Red, "  ✗ ") }
    };
    findings.iter().map(|finding| sign(finding).plain(finding.text.clone())).collect()
}

/// What to do next.
pub fn what_next() -> Vec<Line> {
    let item = |what: &str, text: &str| Line::of(Paint::Bold, format!("  {what:<24}")).plain(text);
    vec![
        Line::new(),
        Line::of(Paint::Bold, "Try next"),
        item("cargo demo --logs", "the same as a log, with the controller's own"),
        item("cargo demo --real", "the same on a real Kubernetes, Istio and Envoy"),
        item("cargo test --workspace", "everything, on a real Kubernetes too"),
        item("examples/demo/world.rs", "this demo's Rollout: change its steps, run again"),
        item("README.md", "install it on a cluster, write a first Rollout"),
    ]
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    fn passed() -> Decision {
        let check = json!({"name": "errors", "verdict": "Pass", "message": "0% (0 of 24) of …",
                           "canary": {"requests": 24, "bad": 0}, "failures": 0});
        serde_json::from_value(json!({
            "seq": 4, "at": DateTime::UNIX_EPOCH, "kind": "Entered", "reason": "StepsPassed",
            "message": "step 1 passed after 3s, 24 requests; errors: 0% (0 of 24) of …",
            "fromWeight": 5, "weight": 25, "checks": [check],
        }))
        .unwrap()
    }

    #[test]
    fn a_step_that_passed_is_told_in_short_and_a_rollback_whole() {
        let at = Duration::from_millis(5_100);
        let say = |decision: &Decision, whole| super::decision(decision, at, whole).show(None, false);
        let short = "0:05.1  Entered 5% → 25%  step 1 passed after 3s · errors 0/24";
        assert_eq!(say(&passed(), false), short);
        assert!(say(&passed(), true).ends_with("24 requests; errors: 0% (0 of 24) of …"));
        let broken = Decision {
            kind: DecisionKind::RolledBack,
            reason: Reason::CheckFailed,
            message: "errors: 20%; more".into(),
            from_weight: 25,
            weight: 0,
            ..passed()
        };
        assert_eq!(say(&broken, false), "0:05.1  RolledBack 25% → 0%  errors: 20%; more");
    }
}
