//! The status as people and tools read it: derived from the memory, with nothing in it that ticks.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::guard::{Guard, guard};
use super::turn::{Turn, number};
use super::{Facts, Outcome, Refusal, Stage, State, StepState, idle, progress, record, sight};
use crate::{
    api::{
        Condition, ConditionStatus, ConditionType, Decision, GoDuration, Phase, Reason, RolloutStatus,
        StepProgress,
    },
    judge::{Said, TroubleKind},
    plan::{MetricsPlan, Plan},
    text::fit,
};

/// What the API takes for a message and a step's name, in characters.
const LONGEST_MESSAGE: usize = 2048;
const LONGEST_STEP_NAME: usize = 63;
/// Clocks and evidence alone are written down at most this often.
const CHECKPOINT: Duration = Duration::from_mins(1);

/// The status for a memory: `before` is the one it replaces, `decision` what was decided this turn. `pinned` of the
/// result is that of `before`.
pub fn report(
    plan: Option<&Plan>,
    state: &State,
    facts: &Facts,
    generation: Option<i64>,
    before: &RolloutStatus,
    decision: Option<&Decision>,
) -> RolloutStatus {
    let turn = Turn::new(plan, state, facts);
    let decisions = record::with(&before.decisions, decision);
    let (phase, reason, message) = steady(&turn, before, stand(&turn, &decisions));
    let message = fit(message, LONGEST_MESSAGE);
    let mut conditions = conditions(&turn, phase, reason, &message, generation, &before.conditions);
    conditions.extend(metrics_available(&turn, generation, &before.conditions));
    let Guard { remembered, said } = guard(state, facts, before.guarded.as_ref());
    conditions.extend(guarded(said, remembered.is_some(), facts.now, generation, &before.conditions));
    let given = turn.given();
    let progress = plan.and_then(|plan| Some(step_progress(plan, state.step()?)));
    RolloutStatus {
        observed_generation: generation,
        phase,
        reason: Some(reason),
        message,
        step: progress
            .as_ref()
            .filter(|progress| progress.of > 0)
            .map(|progress| format!("{}/{}", progress.number.min(progress.of), progress.of)),
        progress,
        weight: i32::from(given.weight),
        beside: given.beside,
        conditions,
        decisions,
        seq: state.seq,
        stable: state.stable.clone(),
        canary: state.canary.clone(),
        stage: state.stage.clone(),
        checks: state.checks.clone(),
        pause: state.pause.clone(),
        retiring: state.retiring.clone(),
        known: state.known.clone(),
        outcomes: state.outcomes.clone(),
        handled: state.handled.clone(),
        pinned: before.pinned.clone(),
        guarded: remembered,
    }
}

/// Whether `after` should replace `before`, which was written `since` ago: yes for anything that people or the next
/// leader would miss, but not for clocks and evidence alone.
pub fn worth_writing(before: &RolloutStatus, after: &RolloutStatus, since: Duration) -> bool {
    if before == after {
        return false;
    }
    since >= CHECKPOINT || without_clocks(before) != without_clocks(after)
}

fn without_clocks(status: &RolloutStatus) -> RolloutStatus {
    let mut status = status.clone();
    if let Stage::Step(step) = &mut status.stage {
        let withdrawn =
            step.withdrawn.map(|withdrawn| super::Withdrawn { waited: GoDuration::default(), ..withdrawn });
        let StepState { index, losses, ref approved, .. } = **step;
        **step = StepState { index, losses, withdrawn, approved: approved.clone(), ..StepState::default() };
    }
    for retiring in &mut status.retiring {
        retiring.waited = GoDuration::default();
    }
    status.checks.clear();
    // That the metrics can be had is no news: it is written with the next one. That they cannot, or can again, is.
    status.conditions.retain(|condition| {
        condition.kind != ConditionType::MetricsAvailable || condition.status != ConditionStatus::True
    });
    // Which checks lack evidence may be another one at every look.
    if status.reason == Some(Reason::NoEvidence) {
        status.message.clear();
        for condition in &mut status.conditions {
            if condition.reason == Reason::NoEvidence.to_string() {
                condition.message.clear();
            }
        }
    }
    status
}

/// Where the rollout stands, unless that is only because the source of the metrics did not answer a look or two: a gate
/// that a step has come to is not closed and opened again with every look.
fn steady(
    turn: &Turn<'_>,
    before: &RolloutStatus,
    (phase, reason, message): (Phase, Reason, String),
) -> (Phase, Reason, String) {
    let in_doubt = reason == Reason::NoEvidence
        && !matches!(turn.facts.metrics, Some(Said::Missing(_)))
        && turn
            .facts
            .look
            .as_ref()
            .is_none_or(|look| look.counts.is_err() || look.queries_in_trouble().next().is_some());
    let gate = before
        .reason
        .filter(|reason| matches!(reason, Reason::WaitingForApproval | Reason::WaitingForDecision));
    let step = turn.state.step().map(|step| (number(step.index), step.approved.is_some()));
    let step_before = before.progress.as_ref().map(|progress| (progress.number, progress.approved));
    let same_step = step == step_before && turn.state.canary == before.canary;
    match gate {
        Some(gate) if in_doubt && same_step => (before.phase, gate, before.message.clone()),
        Some(_) | None => (phase, reason, message),
    }
}

fn step_progress(plan: &Plan, step: &StepState) -> StepProgress {
    let needs_approval = plan.steps.get(step.index).is_some_and(|planned| planned.approve);
    StepProgress {
        number: number(step.index),
        of: u32::try_from(plan.steps.len()).unwrap_or(u32::MAX),
        name: fit(plan.step_name(step.index), LONGEST_STEP_NAME),
        needs_approval,
        approved: step.approved.is_some(),
    }
}

/// Where the rollout stands, and why, in one word and in a sentence.
fn stand(turn: &Turn<'_>, decisions: &[Decision]) -> (Phase, Reason, String) {
    let refused = |reason| {
        let refusal = turn.facts.refusal.as_ref().filter(|refusal| refusal.reason == reason);
        refusal.map(|refusal| refusal.message.clone())
    };
    if sight::held(turn) {
        let message = "the status is missing or older than the routes, and stable has no ready endpoint: traffic stays where it is";
        return (Phase::Stalled, Reason::StableNotReady, turn.of_stable(message));
    }
    match &turn.state.stage {
        Stage::Pending => match why_pending(turn) {
            Some(refusal) => (Phase::Pending, refusal.reason, refusal.message),
            None => (Phase::Pending, Reason::New, "nothing was decided yet".to_owned()),
        },
        Stage::Step(step) => {
            let reason = progress::waits_for(turn).unwrap_or(Reason::StepInProgress);
            let message = refused(reason).unwrap_or_else(|| in_flight(turn, step, reason));
            (phase_in_flight(turn, step, reason), reason, message)
        }
        Stage::Idle | Stage::StatusLost | Stage::Released => {
            let reason = idle::start_waits_for(turn).unwrap_or(Reason::New);
            let phase = phase_at_rest(turn, reason);
            let message = refused(reason).unwrap_or_else(|| at_rest(turn, reason, decisions));
            (phase, reason, message)
        }
    }
}

/// What keeps a Rollout without a memory from finding its stable.
fn why_pending(turn: &Turn<'_>) -> Option<Refusal> {
    let found = || sight::find_stable(turn.facts.traffic.as_ref(), &turn.facts.uid).err();
    match turn.facts.refusal.clone() {
        Some(refusal) if refusal.stops_starts_only() => found().or(Some(refusal)),
        refused => refused.or_else(found),
    }
}

fn phase_in_flight(turn: &Turn<'_>, step: &StepState, reason: Reason) -> Phase {
    let promoting = turn.plan.is_some_and(|plan| step.index >= plan.promotion());
    match reason {
        Reason::StableNotReady | Reason::NotReadyInTime => Phase::Stalled,
        Reason::CanaryNotReady | Reason::StepInProgress | Reason::TrafficNotInPlace if !promoting => {
            Phase::Progressing
        }
        Reason::CanaryNotReady | Reason::StepInProgress | Reason::TrafficNotInPlace | Reason::Promoting => {
            Phase::Promoting
        }
        // Gates, pauses, missing evidence, and whatever else keeps it from growing.
        _ => Phase::Waiting,
    }
}

fn phase_at_rest(turn: &Turn<'_>, reason: Reason) -> Phase {
    if turn.facts.refusal.is_some() {
        return Phase::Pending;
    }
    match outcome_of_wanted(turn) {
        Some(Outcome::RolledBack | Outcome::Aborted | Outcome::Unknown) => return Phase::RolledBack,
        Some(Outcome::Observed | Outcome::Lost) => return Phase::Healthy,
        Some(
            Outcome::Promoted
            | Outcome::Superseded
            | Outcome::Cancelled
            | Outcome::Released
            | Outcome::Retried,
        )
        | None => {}
    }
    match reason {
        Reason::Live => Phase::Healthy,
        Reason::StatusLost => Phase::Stalled,
        Reason::Paused | Reason::Frozen => Phase::Waiting,
        Reason::TargetNotFound | Reason::RouteNotFound => Phase::Pending,
        _ => Phase::Progressing,
    }
}

/// What became of the wanted revision, where that keeps it from starting.
fn outcome_of_wanted(turn: &Turn<'_>) -> Option<Outcome> {
    let wanted = turn.facts.wanted.as_ref()?;
    if turn.state.stable.as_ref() == Some(wanted) || !matches!(turn.state.stage, Stage::Idle) {
        return None;
    }
    turn.state.outcome(wanted).map(|outcome| outcome.outcome).filter(|outcome| outcome.needs_retry())
}

fn in_flight(turn: &Turn<'_>, step: &StepState, reason: Reason) -> String {
    let Some(plan) = turn.plan else { return "the pinned plan cannot be read".to_owned() };
    let name = plan.step_name(step.index);
    match reason {
        Reason::StepInProgress => match plan.steps.get(step.index) {
            Some(planned) if planned.lasts > plan.settle => {
                format!("step {name}: {} for {}", planned.given(), GoDuration(planned.lasts))
            }
            Some(planned) => format!("step {name}: {}", planned.given()),
            None => "the canary has all traffic".to_owned(),
        },
        Reason::StableNotReady => {
            turn.of_stable("stable has no ready endpoint: traffic stays where it is, whatever the checks say")
        }
        Reason::TrafficNotInPlace => format!("the traffic of step {name} is not in place{}", obstacle(turn)),
        Reason::CanaryNotReady => turn.of_canary("the canary has no ready endpoint yet"),
        Reason::NotReadyInTime => {
            let waited = GoDuration(plan.ready_within);
            turn.of_canary(format!("the canary has no ready endpoint after {waited}"))
        }
        Reason::Promoting => "the canary has all traffic; the old stable leaves when it is quiet".to_owned(),
        Reason::Paused => paused(turn),
        Reason::Frozen => frozen(turn),
        Reason::NoEvidence => format!("step {name} waits for evidence{}", lacking(turn)),
        Reason::WaitingForApproval => format!("step {name} waits for approval"),
        Reason::WaitingForDecision => "all steps passed: decide for stable or for the canary".to_owned(),
        other => format!("waiting: {other}"),
    }
}

fn obstacle(turn: &Turn<'_>) -> String {
    let obstacle = turn.facts.traffic.as_ref().and_then(|traffic| traffic.obstacle.as_ref());
    obstacle.map(|obstacle| format!(": {obstacle}")).unwrap_or_default()
}

/// Which checks lack evidence, without the numbers that change at every look.
fn lacking(turn: &Turn<'_>) -> String {
    let lacking = turn.state.checks.iter().filter(|check| crate::judge::lacks_evidence(check));
    let names: Vec<&str> = lacking.map(|check| check.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) }
}

fn paused(turn: &Turn<'_>) -> String {
    match &turn.state.pause {
        Some(pause) if pause.reason == Reason::Inconclusive => {
            format!("paused: {}", pause.message.as_deref().unwrap_or("no evidence"))
        }
        Some(pause) => {
            let by = pause.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            let why = pause.message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("paused{by}{why}")
        }
        None => "the spec says paused".to_owned(),
    }
}

fn frozen(turn: &Turn<'_>) -> String {
    turn.facts.frozen.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn at_rest(turn: &Turn<'_>, reason: Reason, decisions: &[Decision]) -> String {
    let wanted = turn.facts.wanted.as_ref().map(ToString::to_string).unwrap_or_default();
    if outcome_of_wanted(turn).is_some() {
        let revision = turn.facts.wanted.as_ref().map(crate::Predictor::revision);
        let ended = decisions.iter().rev().find(|decision| decision.revision == revision && is_end(decision));
        return ended.map_or_else(
            || format!("{wanted} is not tried again until a retry: {reason}"),
            |end| end.message.clone(),
        );
    }
    match reason {
        Reason::Live => format!("{wanted} is live"),
        Reason::StatusLost => format!("the status was lost: {wanted} is not tried until a retry"),
        Reason::Paused => paused(turn),
        Reason::Frozen => frozen(turn),
        Reason::TargetNotFound => "the target cannot be told".to_owned(),
        Reason::RouteNotFound => "the routes cannot be read".to_owned(),
        Reason::TrafficNotInPlace => {
            format!("the traffic that was decided is not in place yet{}", obstacle(turn))
        }
        Reason::Deleted => "the routes were given back".to_owned(),
        _ => format!("{wanted} is about to be tried"),
    }
}

fn is_end(decision: &Decision) -> bool {
    use crate::api::DecisionKind::{Lost, Observed, RolledBack};
    matches!(decision.kind, RolledBack | Observed | Lost)
}

fn conditions(
    turn: &Turn<'_>,
    phase: Phase,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    before: &[Condition],
) -> Vec<Condition> {
    let now = turn.facts.now;
    let refusal = match turn.state.stage {
        Stage::Pending => why_pending(turn),
        Stage::Idle | Stage::Step(_) | Stage::StatusLost | Stage::Released => turn.facts.refusal.clone(),
    };
    let warnings = turn.plan.map(|plan| plan.warnings.as_slice()).unwrap_or_default();
    let warnings = warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let well = if warnings.is_empty() {
        "the spec can be acted on".to_owned()
    } else {
        format!("the spec can be acted on; {warnings}")
    };
    let accepted = match &refusal {
        None => (true, Reason::Accepted, well.as_str()),
        Some(refusal) => (false, refusal.reason, refusal.message.as_str()),
    };
    let person_needed = matches!(
        reason,
        Reason::WaitingForApproval | Reason::WaitingForDecision | Reason::Paused | Reason::Frozen
    );
    let stalled = matches!(phase, Phase::Stalled | Phase::RolledBack) || refusal.is_some() || person_needed;
    let ready = phase == Phase::Healthy && refusal.is_none();
    let reconciling = !ready && !stalled;
    [
        (ConditionType::Accepted, accepted.0, accepted.1, accepted.2),
        (ConditionType::Ready, ready, reason, message),
        (ConditionType::Reconciling, reconciling, reason, message),
        (ConditionType::Stalled, stalled, reason, message),
    ]
    .into_iter()
    .map(|(kind, holds, reason, message)| condition(kind, holds, reason, message, now, generation, before))
    .collect()
}

/// Whether the metrics can be had. Said only while they are asked for: at rest nobody would notice that it changed.
fn metrics_available(turn: &Turn<'_>, generation: Option<i64>, before: &[Condition]) -> Option<Condition> {
    let metrics = turn.plan?.metrics.as_ref()?;
    if !turn.state.in_flight() && turn.state.retiring.is_empty() {
        return None;
    }
    let known = before.iter().find(|condition| condition.kind == ConditionType::MetricsAvailable);
    let (holds, reason, message) = match &turn.facts.metrics {
        // A new leader has not looked often enough: what the one before it said counts.
        None => return known.cloned(),
        Some(Said::Available) => (true, Reason::Available, format!("{} answers", source(metrics))),
        Some(Said::Missing(trouble)) => (false, reason_of(trouble.kind), trouble.message.clone()),
    };
    let kind = ConditionType::MetricsAvailable;
    Some(condition(kind, holds, reason, &message, turn.facts.now, generation, before))
}

/// What is said now, or else what was said last of a stable that is still remembered.
fn guarded(
    said: Option<(bool, Reason, String)>,
    remembered: bool,
    now: DateTime<Utc>,
    generation: Option<i64>,
    before: &[Condition],
) -> Option<Condition> {
    let kind = ConditionType::Guarded;
    match said {
        Some((holds, reason, message)) => {
            Some(condition(kind, holds, reason, &message, now, generation, before))
        }
        None => before.iter().find(|known| known.kind == kind && remembered).cloned(),
    }
}

fn source(metrics: &MetricsPlan) -> String {
    match metrics {
        MetricsPlan::Source { name, .. } => format!("metrics source {name}"),
        MetricsPlan::Scrape { .. } => "every pod that is asked".to_owned(),
    }
}

fn reason_of(kind: TroubleKind) -> Reason {
    match kind {
        TroubleKind::Baseline | TroubleKind::NoData => Reason::NoData,
        TroubleKind::Unavailable => Reason::SourceUnavailable,
        TroubleKind::Refused => Reason::SourceRefused,
        TroubleKind::Untrusted => Reason::SourceUntrusted,
        TroubleKind::BadAnswer => Reason::BadAnswer,
        TroubleKind::Partial => Reason::PartialAnswer,
        TroubleKind::BadQuery => Reason::BadQuery,
        TroubleKind::Misconfigured => Reason::Misconfigured,
    }
}

fn condition(
    kind: ConditionType,
    holds: bool,
    reason: Reason,
    message: &str,
    now: DateTime<Utc>,
    generation: Option<i64>,
    before: &[Condition],
) -> Condition {
    let status = ConditionStatus::from(holds);
    let message = fit(message, LONGEST_MESSAGE);
    let same = before.iter().find(|condition| condition.kind == kind && condition.status == status);
    Condition {
        kind,
        status,
        reason: reason.to_string(),
        message,
        last_transition_time: same.map_or(now, |condition| condition.last_transition_time),
        observed_generation: generation,
    }
}
