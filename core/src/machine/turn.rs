//! One turn of the machine: the rules in their order, the first that has something to decide decides.

use super::{
    Facts, Handled, KEPT_ACTIONS, KEPT_REVISIONS, Outcome, Retiring, RevisionOutcome, Stage, State, StepState,
};
use super::{facts::Asked, idle, people, progress, safety, sight};
use crate::{
    Predictor,
    api::{ActionPhase, CheckRecord, Decision, DecisionKind, Given, GoDuration, Reason},
    plan::Plan,
    text::fit,
};

/// What the API lets a decision say, in characters.
const LONGEST_MESSAGE: usize = 2048;
/// What it lets the answer to an action, and a reason, say.
pub(super) const LONGEST_ANSWER: usize = 1024;
/// What it takes for a person's name.
pub(super) const LONGEST_NAME: usize = 256;
/// What it takes for what a check asks for.
const LONGEST_RULE: usize = 256;

/// What a turn changed.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum Change {
    /// Nothing but clocks and evidence.
    Nothing,
    /// Something that should be written soon, but is no decision: an action was answered, evidence got worse.
    Checkpoint,
    /// A decision, already counted in the state's `seq`.
    Decision(Decision),
}

/// Whether a decision does nothing but take traffic away from the canary: it is acted on even where it cannot be
/// written down, unless somebody else wrote in between.
pub fn only_takes_away(decision: &Decision) -> bool {
    decision.given().is_less_than(&decision.from_given())
}

/// Whether a decision gives a canary traffic, or begins what will: what a freeze must stop.
pub fn may_grow(decision: &Decision) -> bool {
    match decision.kind {
        // This version decides nothing that it does not know; what another one did is not for it to call harmless.
        DecisionKind::Started | DecisionKind::Entered | DecisionKind::Promoting | DecisionKind::Unknown => {
            true
        }
        DecisionKind::Adopted
        | DecisionKind::Approved
        | DecisionKind::Paused
        | DecisionKind::Resumed
        | DecisionKind::Withdrawn
        | DecisionKind::Overdue
        | DecisionKind::RolledBack
        | DecisionKind::Superseded
        | DecisionKind::Cancelled
        | DecisionKind::Observed
        | DecisionKind::Lost
        | DecisionKind::Promoted
        | DecisionKind::Retired
        | DecisionKind::Retried
        | DecisionKind::Recovered
        | DecisionKind::Released => false,
    }
}

/// The rules, in the order in which they are asked. What takes traffic away comes before what gives some.
const RULES: [fn(&mut Turn<'_>) -> Option<Decision>; 13] = [
    safety::release,
    sight::first,
    sight::restored,
    sight::lost_plan,
    people::abort,
    safety::other_revision_wanted,
    safety::failed_check,
    safety::lost_endpoints,
    people::pause,
    safety::missing_evidence,
    people::go,
    progress::advance,
    idle::next,
];

/// One turn: the state after it, and what changed.
///
/// `plan` is the pinned plan while a canary is in flight, else that of the current spec; nothing where that cannot
/// be planned.
pub fn step(plan: Option<&Plan>, state: &State, facts: &Facts) -> (State, Change) {
    let mut turn = Turn::new(plan, state, facts);
    if sight::held(&turn) {
        return (turn.state, Change::Nothing);
    }
    sight::adopt_newer_stamp(&mut turn);
    let worsened = progress::observe(&mut turn);
    for rule in RULES {
        if let Some(decision) = rule(&mut turn) {
            return (turn.state, Change::Decision(decision));
        }
    }
    let answered = turn.state.handled != state.handled;
    let moved = turn.state.seq != state.seq
        || std::mem::discriminant(&turn.state.stage) != std::mem::discriminant(&state.stage);
    let change = if answered || moved || worsened { Change::Checkpoint } else { Change::Nothing };
    (turn.state, change)
}

/// A turn in progress.
pub(super) struct Turn<'a> {
    pub(super) plan: Option<&'a Plan>,
    pub(super) facts: &'a Facts,
    pub(super) state: State,
    /// What the routes gave the canary when a memory that is older than they are was given up.
    pub(super) given_up: Option<Given>,
}

/// Who asked, for the record: nobody, or a person with an action.
pub(super) type By<'a> = Option<&'a Asked>;

impl<'a> Turn<'a> {
    pub(super) fn new(plan: Option<&'a Plan>, state: &State, facts: &'a Facts) -> Self {
        Self { plan, facts, state: state.clone(), given_up: None }
    }

    /// Records a decision: `change` is what it does to the state. What it writes is known to who sees the objects.
    pub(super) fn decide(
        &mut self,
        kind: DecisionKind,
        reason: Reason,
        message: impl Into<String>,
        by: By<'_>,
        change: impl FnOnce(&mut State),
    ) -> Decision {
        let from = self.given();
        let was_in_flight = self.state.in_flight();
        self.state.seq = self.state.seq.saturating_add(1);
        change(&mut self.state);
        let message = fit(message, LONGEST_MESSAGE);
        if let Some(asked) = by {
            self.answer(asked, ActionPhase::Done, &message, Some(self.state.seq));
        }
        let given = self.given();
        let about = self.state.canary.as_ref().filter(|_| was_in_flight || self.state.in_flight());
        Decision {
            seq: self.state.seq,
            at: self.facts.now,
            kind,
            reason,
            message,
            revision: about.or(self.state.stable.as_ref()).map(Predictor::revision),
            step: self.state.step().map(|step| number(step.index)),
            from_weight: i32::from(from.weight),
            weight: i32::from(given.weight),
            from_beside: from.beside,
            beside: given.beside,
            by: by.map(|asked| fit(asked.by.as_deref().unwrap_or("someone"), LONGEST_NAME)),
            // At rest they are of a rollout that is over, and nothing is decided on them.
            checks: if was_in_flight { self.judged() } else { Vec::new() },
            writes: Vec::new(),
            more_writes: 0,
            abridged: false,
        }
    }

    /// What the checks said, for the record: with what they ask for, which an edit of the spec may change later.
    pub(super) fn judged(&self) -> Vec<CheckRecord> {
        let planned = self.plan.map(|plan| plan.checks.as_slice()).unwrap_or_default();
        let records = self.state.checks.iter().map(|record| {
            let check = planned.iter().find(|check| check.name == record.name);
            let rule = check.map_or_else(String::new, |check| fit(check.in_words(), LONGEST_RULE));
            CheckRecord { rule, ..record.clone() }
        });
        records.collect()
    }

    /// Ends the rollout in flight: stable has all, the canary retires, and what became of it is remembered.
    pub(super) fn end(
        &mut self,
        kind: DecisionKind,
        outcome: Outcome,
        reason: Reason,
        message: impl Into<String>,
        by: By<'_>,
    ) -> Decision {
        let at = self.facts.now;
        self.decide(kind, reason, message, by, |state| {
            if let Some(canary) = state.canary.clone() {
                let seq = state.seq;
                retire(state, canary.clone());
                remember(
                    &mut state.outcomes,
                    RevisionOutcome { predictor: canary, outcome, reason, seq, at },
                );
            }
            state.stage = Stage::Idle;
            end_of_evidence(state);
        })
    }

    /// Enters step `index` with traffic, or without any while the canary is not ready. What was found out about the revision
    /// in the step before goes on.
    pub(super) fn enter(state: &mut State, mut step: StepState) {
        if let Some(before) = state.step() {
            step.evidence = before.evidence.carried_over();
        }
        state.checks.clear();
        state.stage = Stage::Step(Box::new(step));
    }

    /// Writes down that an action was handled.
    pub(super) fn answer(&mut self, asked: &Asked, phase: ActionPhase, message: &str, decision: Option<u64>) {
        let handled = Handled {
            uid: asked.uid.clone(),
            phase,
            message: fit(message, LONGEST_ANSWER),
            decision,
            at: self.facts.now,
        };
        let handled_now = &mut self.state.handled;
        // An action whose object is still there would be done again if it were forgotten: the others go first.
        if handled_now.len() >= KEPT_ACTIONS {
            let there = |handled: &Handled| self.facts.actions.iter().any(|asked| asked.uid == handled.uid);
            if let Some(gone) = handled_now.iter().position(|handled| !there(handled)) {
                handled_now.remove(gone);
            }
        }
        push_bounded(handled_now, handled, KEPT_ACTIONS);
    }

    /// What the canary was decided to get.
    pub(super) fn given(&self) -> Given {
        decided_given(self.plan, &self.state)
    }

    /// Why the setting may not grow, where somebody said so. A freeze goes before a pause: ending the pause would not
    /// help.
    pub(super) fn stopped(&self) -> Option<Reason> {
        if self.facts.frozen.is_some() {
            return Some(Reason::Frozen);
        }
        (self.facts.paused || self.state.pause.is_some()).then_some(Reason::Paused)
    }

    /// A sentence about the canary that has no ready endpoint, and why where the endpoints alone do not tell.
    pub(super) fn of_canary(&self, said: impl Into<String>) -> String {
        because(said.into(), self.facts.canary_missing.as_deref())
    }

    /// The same about stable.
    pub(super) fn of_stable(&self, said: impl Into<String>) -> String {
        because(said.into(), self.facts.stable_missing.as_deref())
    }

    /// Whether the routes show what was decided.
    pub(super) fn in_place(&self) -> bool {
        self.facts.traffic.as_ref().is_some_and(|traffic| traffic.in_place)
    }
}

fn because(said: String, why: Option<&str>) -> String {
    match why {
        Some(why) => format!("{said}; {why}"),
        None => said,
    }
}

/// What the canary was decided to get: nothing unless it is in flight and not withdrawn.
pub(super) fn decided_given(plan: Option<&Plan>, state: &State) -> Given {
    match (plan, traffic_step(state)) {
        (Some(plan), Some(index)) => plan.given(index),
        (Some(_) | None, None) | (None, Some(_)) => Given::default(),
    }
}

/// The step whose traffic the canary gets.
pub(super) fn traffic_step(state: &State) -> Option<usize> {
    state.step().filter(|step| step.withdrawn.is_none()).map(|step| step.index)
}

/// A decision that took what the canary got on the routes, where the memory knows nothing of it.
pub(super) fn from_given(decision: Decision, from: Given) -> Decision {
    Decision { from_weight: i32::from(from.weight), from_beside: from.beside, ..decision }
}

/// Takes a predictor that has lost its traffic out of the route, in time.
pub(super) fn retire(state: &mut State, predictor: Predictor) {
    know(state, predictor.clone());
    state.retiring.retain(|retiring| retiring.predictor != predictor);
    push_bounded(&mut state.retiring, Retiring { predictor, waited: GoDuration::default() }, KEPT_REVISIONS);
}

/// A rollout that is over waits for no evidence any more. A pause that a person asked for stays until a person ends
/// it, whatever becomes of the revision.
pub(super) fn end_of_evidence(state: &mut State) {
    state.pause.take_if(|pause| pause.reason == Reason::Inconclusive);
}

/// The number of a step as people count.
pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

/// Remembers what became of a revision, in place of what was known of it.
pub(super) fn remember(outcomes: &mut Vec<RevisionOutcome>, outcome: RevisionOutcome) {
    outcomes.retain(|known| known.predictor != outcome.predictor);
    push_bounded(outcomes, outcome, KEPT_REVISIONS);
}

/// Remembers that a predictor was stable or canary.
pub(super) fn know(state: &mut State, predictor: Predictor) {
    state.known.retain(|known| *known != predictor);
    push_bounded(&mut state.known, predictor, KEPT_REVISIONS);
}

fn push_bounded<T>(list: &mut Vec<T>, item: T, most: usize) {
    list.push(item);
    if list.len() > most {
        list.drain(..list.len() - most);
    }
}
