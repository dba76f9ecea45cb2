//! observe → decide → persist → act, once per decision.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use kube::{ResourceExt, runtime::controller::Action};
use sluice_core::{
    api::{Reason, RolloutStatus},
    machine::{self, Refusal, Stage, State},
};
use tokio::time::Instant;

use super::{
    Error,
    act::{self, Done},
    context::{Common, Context},
    decide::{Decided, decide, keep_look, status},
    events, log,
    memory::Memory,
    observe::{self, Observation},
    persist,
    subject::{RolloutObject, Subject, is_newer},
};

/// Decisions that follow from one another at once, like "adopted" and "started"; more come after a pause.
const MOST_TURNS: usize = 6;

/// How long a Rollout that something else than its own objects keeps from going on waits before it looks again.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// How long a Rollout that a freeze keeps from something waits before it looks again.
const THAWED: Duration = Duration::from_secs(10);

/// What a turn leads to.
enum Next {
    /// Another turn at once: something was decided, or the Rollout was read afresh.
    Again,
    /// Nothing for so long, unless something happens.
    Sleep(Duration),
    /// The Rollout is gone.
    Gone,
    /// Its slot is being given up, or was lost: another replica goes on.
    Left,
}

/// Takes turns until there is nothing to decide, if the Rollout is ours. Boxed, because the compiler cannot show by
/// itself that so deep a future is `Send`.
pub(super) fn reconcile(
    rollout: Arc<RolloutObject>,
    common: Arc<Common>,
) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        common.caches_filled().await?;
        // Whoever gains its slot gets it queued.
        let Some(context) = common.enter(&rollout) else { return Ok(Action::await_change()) };
        let outcome = take_turns(&rollout, &context).await;
        if context.is_lost() {
            common.telemetry.gone(&rollout.uid().unwrap_or_default());
        }
        outcome
    }
    .boxed()
}

async fn take_turns(rollout: &Arc<RolloutObject>, context: &Context) -> Result<Action, Error> {
    let memory = context.memory(rollout);
    let mut memory = memory.lock().await;
    let outcome = turns(rollout, context, &mut memory).await;
    memory.end();
    outcome
}

async fn turns(
    rollout: &Arc<RolloutObject>,
    context: &Context,
    memory: &mut Memory,
) -> Result<Action, Error> {
    for _ in 0..MOST_TURNS {
        if memory.rollout.as_ref().is_some_and(|remembered| !is_newer(remembered.as_ref(), rollout.as_ref()))
        {
            memory.rollout = None;
        }
        let object = memory.rollout.clone().unwrap_or_else(|| rollout.clone());
        let subject = memory.subject(&object);
        match turn(context, &subject, memory).await {
            Ok(Next::Again) => {}
            Ok(Next::Sleep(duration)) => {
                memory.failures = 0;
                return Ok(Action::requeue(duration));
            }
            Ok(Next::Left) => return Ok(Action::await_change()),
            Ok(Next::Gone) => {
                context.telemetry.gone(&subject.uid);
                context.forget(&subject.uid);
                return Ok(Action::await_change());
            }
            Err(Error::Conflict { object }) => {
                tracing::debug!(rollout = subject.display(), object, "conflict: reading afresh");
                memory.forget();
                memory.rollout = Some(Arc::new(persist::read_afresh(context, &subject).await?));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Action::requeue(Duration::from_millis(50)))
}

async fn turn(context: &Context, subject: &Subject, memory: &mut Memory) -> Result<Next, Error> {
    if subject.deleted && !subject.has_finalizer {
        return Ok(Next::Gone);
    }
    // Stage 1: what is there.
    let observed = context.unless_leaving(Box::pin(observe::observe(context, subject, memory))).await;
    let Some(mut seen) = observed else { return Ok(Next::Left) };
    if is_behind(&seen) && memory.checked_version.as_ref() != Some(&subject.resource_version) {
        // Most likely the cache is: the stamp is believed only if the Rollout itself says no more.
        memory.checked_version = Some(subject.resource_version.clone());
        memory.rollout = Some(Arc::new(persist::read_afresh(context, subject).await?));
        return Ok(Next::Again);
    }

    // Stage 2: what follows from it.
    let decided = decide(context, subject, memory, &mut seen).await?;
    let status = status(subject, &seen, &decided);

    // Stage 3: it is recorded.
    let due = decided.is_due()
        || machine::worth_writing(&subject.status, &status, memory.since_written(Instant::now()));
    let recorded = if due {
        record(context, subject, memory, decided.state.clone(), &status).await
    } else {
        memory.grow(&subject.status, decided.state.clone());
        Ok(())
    };
    let unrecorded = match recorded {
        Ok(()) => {
            memory.unrecorded = None;
            None
        }
        Err(error) if decided.is_done_without_record(&error) => Some(error),
        Err(error) => {
            keep_for_the_next_turn(memory, subject, &mut seen, decided, &error);
            return Err(error);
        }
    };

    // Stage 4: it is done.
    let acted =
        act::act(context, subject, memory, &mut seen, &decided.state, decided.decision.is_some()).await;
    if let Some(decision) = &decided.decision {
        context.telemetry.decided(decision, seen.at.elapsed());
        log::decided(subject, decision, unrecorded.is_none(), &acted);
    }
    if let Some(error) = unrecorded {
        // What was done is told by the stamp; what was not is decided again, on the same look.
        if !matches!(acted, Ok(Done::All)) {
            keep_look(memory, &mut seen, decided.takes_away());
        }
        memory.unrecorded = decided.decision;
        return Err(error);
    }
    for news in decided.news() {
        events::decided(context, subject, news).await;
    }
    // It is written, whatever became of the rest, and news only once.
    if due {
        tell_what_is_new(context, subject, &seen, &status).await;
    }
    let done = match acted? {
        Done::All => true,
        Done::Ahead => false,
        Done::ReadAgain => return Ok(Next::Again),
    };
    context.telemetry.reconciled(&subject.uid, &status);
    next(context, subject, memory, &seen, &decided, done).await
}

/// What could not be recorded and is not done. What the look saw is gone from the counters: where nothing was decided on it,
/// it is evidence all the same; else the next turn judges it again.
fn keep_for_the_next_turn(
    memory: &mut Memory,
    subject: &Subject,
    seen: &mut Observation,
    decided: Decided,
    error: &Error,
) {
    if decided.decision.is_none() && !matches!(error, Error::Conflict { .. }) {
        memory.grow(&subject.status, decided.state);
    } else {
        keep_look(memory, seen, decided.takes_away());
    }
}

/// Events of what is no decision.
async fn tell_what_is_new(context: &Context, subject: &Subject, seen: &Observation, status: &RolloutStatus) {
    events::refused(context, subject, &subject.status, status).await;
    events::unguarded(context, subject, &subject.status, status).await;
    events::metrics(context, subject, &subject.status, status, seen.facts.metrics.as_ref()).await;
}

/// What comes after a turn of which all could be written. `done` says whether the world is as desired.
async fn next(
    context: &Context,
    subject: &Subject,
    memory: &mut Memory,
    seen: &Observation,
    decided: &Decided,
    done: bool,
) -> Result<Next, Error> {
    let state = &decided.state;
    if subject.deleted && done && matches!(state.stage, Stage::Released | Stage::Pending) {
        persist::remove_finalizer(context, subject).await?;
        return Ok(Next::Gone);
    }
    if decided.decision.is_some() {
        return Ok(Next::Again);
    }
    let next = Next::Sleep(sleep(seen, state, memory));
    if !state.in_flight() && state.retiring.is_empty() && seen.facts.refusal.is_none() {
        memory.rest();
    }
    Ok(next)
}

/// Whether the routes show a later decision than the Rollout as it was read.
fn is_behind(seen: &Observation) -> bool {
    let stamp = seen.facts.traffic.as_ref().and_then(|traffic| traffic.stamp.as_ref());
    stamp.is_some_and(|stamp| stamp.uid == seen.facts.uid && stamp.seq > seen.state.seq)
}

async fn record(
    context: &Context,
    subject: &Subject,
    memory: &mut Memory,
    state: State,
    status: &RolloutStatus,
) -> Result<(), Error> {
    if let Some(unreadable) = &subject.unreadable_status {
        tracing::warn!(
            rollout = subject.display(),
            error = unreadable,
            "the status cannot be read: it counts as lost"
        );
    }
    match persist::persist(context, subject, status).await {
        Ok(written) => {
            memory.rollout = Some(Arc::new(written));
            memory.wrote(Instant::now());
            memory.grow(status, state);
            Ok(())
        }
        Err(error) => {
            memory.forget();
            Err(error)
        }
    }
}

/// How long nothing needs to happen.
fn sleep(seen: &Observation, state: &State, memory: &Memory) -> Duration {
    let plan = seen.plans.in_force(state);
    let mut wake = machine::wake(plan, state);
    // A neighbour that lets a route go is an event of its own, not of the Rollouts that wait for the route; nor is an
    // update of the kinds one of a Rollout.
    let elsewhere = |refusal: &Refusal| {
        matches!(
            refusal.reason,
            Reason::RouteTaken
                | Reason::KindsOutdated
                | Reason::GatewayNotFound
                | Reason::SubsetNotFound
                | Reason::NameTaken
        )
    };
    if seen.facts.refusal.as_ref().is_some_and(elsewhere) {
        wake = wake.min(plan.map_or(ELSEWHERE, |plan| plan.interval.min(ELSEWHERE)));
    }
    // The same with a freeze that ends.
    if seen.facts.frozen.is_some() && seen.facts.wanted != state.stable {
        wake = wake.min(THAWED);
    }
    let looks = state.step().is_some_and(|step| step.withdrawn.is_none());
    match plan {
        // Not an interval from now, but from the last look: what happened in between is no reason to look later.
        Some(plan) if plan.metrics.is_some() && looks => {
            memory.next_look(Instant::now(), plan.interval).clamp(Duration::from_millis(5), wake)
        }
        Some(_) | None => wake,
    }
}
