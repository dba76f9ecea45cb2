//! Stage 2: what follows from what was seen. Client required before something may grow: whether it is frozen is asked once
//! more.

use std::borrow::Cow;

use sluice_core::{
    api::{Decision, DecisionKind, RolloutStatus},
    machine::{self, Change, State},
};

use super::{
    Error, context::Context, freezes, memory::Memory, observe::Observation, subject::Subject, writes,
};

/// What follows from what was seen.
pub(super) struct Decided {
    pub(super) state: State,
    pub(super) decision: Option<Decision>,
    /// What was done before it could be recorded, and is not on record yet.
    pub(super) late: Option<Decision>,
    /// Whether something that is no decision should be written soon.
    pub(super) checkpoint: bool,
}

impl Decided {
    /// What is to be put on record, oldest first.
    pub(super) fn news(&self) -> impl Iterator<Item = &Decision> {
        self.late.iter().chain(&self.decision)
    }

    /// Whether it is to be written, whatever else the status says.
    pub(super) fn is_due(&self) -> bool {
        self.checkpoint || self.news().next().is_some()
    }

    pub(super) fn takes_away(&self) -> bool {
        self.decision.as_ref().is_some_and(machine::only_takes_away)
    }

    /// Whether it is acted on although it could not be recorded: what only takes traffic away is, and the stamp tells the
    /// rest. Not where somebody else has written in between.
    pub(super) fn is_done_without_record(&self, error: &Error) -> bool {
        self.takes_away() && !matches!(error, Error::Conflict { .. })
    }
}

/// What the machine makes of what was seen, with what is going to be written for it.
pub(super) async fn decide(
    context: &Context,
    subject: &Subject,
    memory: &mut Memory,
    seen: &mut Observation,
) -> Result<Decided, Error> {
    let (mut state, mut change) = machine::step(seen.plans.in_force(&seen.state), &seen.state, &seen.facts);
    if let Change::Decision(decision) = &change
        && machine::may_grow(decision)
    {
        // A cache may be behind. Nothing grows that was not asked for once more.
        let frozen = freezes::read_afresh(context, subject).await;
        if frozen.is_err() {
            let stays = memory.unused_look_stays;
            keep_look(memory, seen, stays);
        }
        if let Some(frozen) = frozen? {
            seen.facts.frozen = Some(frozen);
            (state, change) = machine::step(seen.plans.in_force(&seen.state), &seen.state, &seen.facts);
        }
    }
    let (mut decision, checkpoint) = match change {
        Change::Decision(decision) => (Some(decision), false),
        Change::Checkpoint => (None, true),
        Change::Nothing => (None, false),
    };
    if let Some(decision) = &mut decision {
        // The current spec is the one that counts from now on.
        if decision.kind == DecisionKind::Started {
            seen.plans.pin();
        }
        (decision.writes, decision.more_writes) = writes::intended(context, subject, seen, &state);
    }
    let late = late(subject, memory, &state, decision.as_ref());
    Ok(Decided { state, decision, late, checkpoint })
}

/// What was done before it could be recorded, to be recorded now, also where something else is decided already.
fn late(subject: &Subject, memory: &Memory, state: &State, decision: Option<&Decision>) -> Option<Decision> {
    let late = memory.unrecorded.as_ref()?;
    let is_recorded = subject.status.decisions.iter().any(|decision| decision.seq == late.seq);
    // What has its number is the same once more: nothing was done of it.
    let is_anew = decision.is_some_and(|decision| decision.seq == late.seq);
    let is_of_now = subject.status.seq < late.seq && late.seq <= state.seq;
    (is_of_now && !is_recorded && !is_anew).then(|| late.clone())
}

/// The status for what was decided. The current spec is pinned where a rollout starts, and stays so until its canary has
/// left the routes.
pub(super) fn status(subject: &Subject, seen: &Observation, decided: &Decided) -> RolloutStatus {
    let state = &decided.state;
    let starts = decided.news().any(|decision| decision.kind == DecisionKind::Started);
    // Nearly always nothing is to be added to what is there, and it is large.
    let mut before = Cow::Borrowed(&subject.status);
    let last = match (&decided.late, &decided.decision) {
        (Some(late), Some(decision)) => {
            before.to_mut().decisions.push(late.clone());
            Some(decision)
        }
        (late, decision) => late.as_ref().or(decision.as_ref()),
    };
    let plan = seen.plans.in_force(state);
    let mut status = machine::report(plan, state, &seen.facts, subject.generation, &before, last);
    if starts {
        status.pinned = subject.spec.clone().ok().map(|mut spec| {
            spec.paused = false;
            Box::new(spec)
        });
    } else if !state.in_flight() && state.retiring.is_empty() {
        status.pinned = None;
    }
    status
}

/// Keeps what was seen, because what it led to could not be written.
pub(super) fn keep_look(memory: &mut Memory, seen: &mut Observation, takes_away: bool) {
    memory.unused_look = seen.facts.look.take().map(|look| (seen.state.canary.clone(), look));
    memory.unused_look_stays = takes_away;
}
