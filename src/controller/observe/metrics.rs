//! The metrics: one look when it is due, and what keeps them from being looked at.

use std::time::Duration;

use sluice_core::{
    Predictor,
    api::{Decision, Reason, RolloutStatus},
    judge::{Availability, Look, Measurement, Trouble, TroubleKind},
    machine::{Refusal, State},
    plan::{MetricsPlan, Plan, PlannedCheck, PlannedStep, Rule},
};
use tokio::time::Instant;

use super::{endpoints, pods};
use crate::{
    controller::{context::Context, memory::Memory, subject::Subject},
    metrics::{Arm, For, Query, Question},
};

/// A look may take an interval, but at least this long.
const SHORTEST_LOOK: Duration = Duration::from_secs(2);
/// And no longer than this: all else that concerns the Rollout waits for it.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// How long a look waits that finds too many others under way. They wait for a source that does not answer, most likely.
const CROWDED: Duration = Duration::from_millis(100);

/// A source that is not configured, or a query that it calls invalid. A query is asked about once, before a rollout
/// starts; a source that does not answer refuses nothing.
pub(super) async fn refused_metrics(
    context: &Context,
    plan: Option<&Plan>,
    state: &State,
    wanted: Option<&Predictor>,
    memory: &mut Memory,
) -> Option<Refusal> {
    let plan = plan?;
    let metrics = plan.metrics.as_ref()?;
    if let Err(trouble) = context.metrics.check(metrics) {
        return Some(Refusal::new(Reason::UnknownSource, format!("spec.metrics: {trouble}")));
    }
    if state.in_flight() || wanted == state.stable.as_ref() {
        return None;
    }
    for (index, check) in plan.checks.iter().enumerate() {
        let Rule::Query { promql, total, .. } = &check.rule else { continue };
        let asked = [("promql", Some(promql)), ("total", total.as_ref())];
        for (field, promql) in asked.into_iter().filter_map(|(field, promql)| Some((field, promql?))) {
            let wanted = if total.is_some() { For::Samples } else { For::Number };
            if let Some(message) = refused_query(context, metrics, wanted, promql, memory).await {
                let message = format!("spec.checks[{index}].query.{field}: {message}");
                return Some(Refusal::new(Reason::InvalidQuery, message));
            }
        }
    }
    None
}

/// Why the source refuses a query, if it does.
async fn refused_query(
    context: &Context,
    metrics: &MetricsPlan,
    wanted: For,
    promql: &str,
    memory: &mut Memory,
) -> Option<String> {
    let key = (promql.to_owned(), wanted);
    if let Some(known) = memory.queries.get(&key) {
        return known.clone().err();
    }
    let known = match context.metrics.validate(metrics, wanted, promql, SHORTEST_LOOK).await {
        Ok(()) => Ok(()),
        Err(trouble) if matches!(trouble.kind, TroubleKind::BadQuery | TroubleKind::Misconfigured) => {
            Err(trouble.to_string())
        }
        Err(_) => return None,
    };
    memory.queries.insert(key, known.clone());
    known.err()
}

/// One look at the metrics, if one is due and anybody has use for it; the machine last saw the world `elapsed` ago, and the
/// traffic is in place or not.
pub(super) async fn look(
    context: &Context,
    subject: &Subject,
    plan: &Plan,
    state: &State,
    (elapsed, in_place): (Duration, bool),
    memory: &mut Memory,
) -> Option<Look> {
    let metrics = plan.metrics.as_ref()?;
    let stable = state.stable.clone()?;
    let step = state.step();
    let canary = state.canary.clone().filter(|_| step.is_some());
    let asked = Instant::now();
    // What an earlier look saw counts still, but never in place of a new one, unless it takes traffic away.
    if let Some((canary_then, look)) = memory.unused_look.take()
        && canary_then == state.canary
        && (memory.unused_look_stays || !memory.next_look(asked, plan.interval).is_zero())
    {
        return Some(look);
    }
    let useful = step.is_some_and(|step| step.withdrawn.is_none()) || !state.retiring.is_empty();
    if !useful {
        // Nobody asks: the looks before and those to come are no row.
        memory.availability = Availability::default();
        return None;
    }
    if !memory.next_look(asked, plan.interval).is_zero() {
        return None;
    }
    // Where so many look already, this one comes a moment later.
    let Ok(permit) = context.looks.try_acquire() else {
        memory.looks_not_before(asked + CROWDED);
        return None;
    };
    let since_looked = memory.since_looked(asked);
    memory.looks(asked, plan.interval, &subject.uid);
    let mut arm = async |predictor: Predictor| -> Result<Arm, Trouble> {
        match metrics {
            MetricsPlan::Source { .. } => Ok(endpoints::arm(context, predictor)),
            MetricsPlan::Scrape { .. } => {
                pods::arm(context, &subject.namespace, plan, predictor, memory).await
            }
        }
    };
    let (stable, canary) = match (arm(stable).await, canary) {
        (Ok(stable), None) => (stable, None),
        (Ok(stable), Some(canary)) => match arm(canary).await {
            Ok(canary) => (stable, Some(canary)),
            Err(trouble) => return Some(nobody_asked(context, trouble)),
        },
        (Err(trouble), _) => return Some(nobody_asked(context, trouble)),
    };
    let mut retiring = Vec::new();
    // At the promotion stable is on its way out: is it asked anything any more?
    retiring.extend(step.filter(|step| step.index >= plan.promotion()).map(|_| stable.clone()));
    for leaving in &state.retiring {
        // One that cannot be asked is not said to be quiet.
        retiring.extend(arm(leaving.predictor.clone()).await);
    }
    let now = context.clock.now();
    // Without a step the traffic is what it is since the last loser lost its part.
    let retired = state.retiring.iter().map(|leaving| leaving.waited.0).min().unwrap_or_default();
    // What cannot be put in place is tried again more and more seldom. A canary that fails meanwhile must be seen: all that
    // happened since the last look is of the same traffic, and the samples of that one are a little older.
    let observed = if in_place { elapsed.min(2 * plan.interval) } else { since_looked + plan.interval };
    let in_place = step.map_or(retired, |step| step.in_place.0) + observed;
    let limits = plan.latency_bounds();
    let queries = if step.is_some() { Query::of(plan) } else { Vec::new() };
    let question = Question {
        now,
        rollout: &subject.name,
        namespace: &subject.namespace,
        metrics,
        stable: &stable,
        canary: canary.as_ref(),
        retiring: &retiring,
        limits: &limits,
        queries: &queries,
        shadow: match step {
            Some(step) => plan.steps.get(step.index).is_some_and(PlannedStep::is_shadow),
            // Whoever got copies last is quiet when no more of them arrive, and the senders do not count those.
            None => state.retiring.iter().all(|leaving| got_copies(&subject.status, &leaving.predictor)),
        },
        step_start: now - chrono::Duration::from_std(in_place).unwrap_or_default(),
        timeout: plan.interval.clamp(SHORTEST_LOOK, LONGEST_LOOK),
    };
    let mut look = context.metrics.look(&question, &mut memory.counters).await;
    drop(permit);
    if step.is_some_and(|step| step.evidence.lacks_history(plan.checks.iter())) {
        look.history = history(context, plan, &question, memory).await;
    }
    memory.saw(&look, needs_counts(plan), Instant::now());
    Some(look)
}

/// What stable alone did in the looks before the rollout, asked once: what the source does not tell is learned on the way.
async fn history(
    context: &Context,
    plan: &Plan,
    question: &Question<'_>,
    memory: &mut Memory,
) -> Vec<Measurement> {
    let Some(canary) = question.canary else { return Vec::new() };
    match &memory.history {
        Some((of, history)) if *of == canary.predictor => return history.clone(),
        Some(_) | None => {}
    }
    let looks = context.metrics.stable_before(question, plan.interval).await;
    memory.history = Some((canary.predictor.clone(), looks.clone()));
    looks
}

/// Whether the last that a predictor got was copies and no users.
fn got_copies(status: &RolloutStatus, predictor: &Predictor) -> bool {
    let revision = predictor.revision();
    let of_it = |decision: &&Decision| decision.revision.as_deref() == Some(revision.as_str());
    let mut got = status.decisions.iter().rev().filter(of_it).map(Decision::from_given);
    got.find(|given| !given.is_nothing()).is_some_and(|given| !given.has_users())
}

/// Whether anything depends on the requests of the arms, and not on the answers of queries alone.
fn needs_counts(plan: &Plan) -> bool {
    let counted = |check: &PlannedCheck| match check.rule {
        Rule::Errors { .. } | Rule::Latency { .. } => true,
        Rule::Query { .. } => false,
    };
    plan.checks.iter().any(counted) || plan.steps.iter().any(|step| step.min_requests > 0)
}

/// A look in which the metrics were not asked.
fn nobody_asked(context: &Context, trouble: Trouble) -> Look {
    Look::new(context.clock.now(), Err(trouble))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(decisions: &[(u64, &str, Value)]) -> RolloutStatus {
        let decision = |(seq, revision, got): &(u64, &str, Value)| {
            let mut decision = json!({
                "seq": seq, "at": "2026-03-14T15:09:26Z", "kind": "Entered", "reason": "StepsPassed", "message": "",
                "fromWeight": 0, "weight": 0, "revision": revision,
            });
            for (field, value) in got.as_object().unwrap() {
                decision[field] = value.clone();
            }
            decision
        };
        let decisions: Vec<Value> = decisions.iter().map(decision).collect();
        serde_json::from_value(json!({ "decisions": decisions })).unwrap()
    }

    #[test]
    fn what_a_loser_got_last_says_who_counts_it() {
        let loser = Predictor::new("models", "iris-v2", 8000);
        let of_it = "models/iris-v2:8000";
        let (copies, users, nothing) =
            (json!({"fromBeside": {"mirror": 10}}), json!({"fromWeight": 5}), json!({}));
        let both = json!({"fromBeside": {"mirror": 10}, "fromWeight": 5});
        for (decisions, expected) in [
            (vec![(1, of_it, nothing.clone()), (2, of_it, copies.clone())], true),
            (vec![(2, of_it, copies.clone()), (3, of_it, nothing.clone())], true),
            (vec![(2, of_it, copies.clone()), (3, of_it, users.clone())], false),
            (vec![(2, of_it, copies.clone()), (3, of_it, both)], false),
            (vec![(2, of_it, users), (3, "models/iris-v3:8000", copies)], false),
            (vec![(1, of_it, nothing)], false),
            (vec![], false),
        ] {
            assert_eq!(got_copies(&status(&decisions), &loser), expected, "{decisions:?}");
        }
    }
}
