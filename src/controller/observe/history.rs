//! What the metrics source has recorded of stable before a rollout. Client required.

use sluice_core::{
    judge::{HISTORY, Measurement},
    plan::{MetricsPlan, Plan},
};

use crate::{
    controller::{context::Context, memory::Memory},
    metrics::{Past, Question},
};

/// What stable alone did in the looks before the rollout, asked once: what the source does not tell is learned on the way.
pub(super) async fn history(
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
    let mut looks = Vec::new();
    let past = Past { until: question.now, every: plan.interval };
    // Of pods that are scraped nothing is recorded.
    if let (MetricsPlan::Source { .. }, Ok(mut history)) =
        (question.metrics, context.metrics.history(question.metrics, past))
    {
        let interval = chrono::Duration::from_std(plan.interval).unwrap_or_default();
        let ago = |looks: usize| question.now - interval * i32::try_from(looks).unwrap_or_default();
        let step_start = ago(2 * HISTORY);
        for back in (0..=HISTORY).rev() {
            let question = Question {
                now: ago(back),
                canary: None,
                retiring: &[],
                queries: &[],
                shadow: false,
                step_start,
                ..question.clone()
            };
            match history.look(&question).await {
                Ok(look) => looks.extend(look.counts),
                Err(trouble) => {
                    tracing::debug!("what stable did before the rollout cannot be told: {trouble}");
                    break;
                }
            }
        }
    }
    memory.history = Some((canary.predictor.clone(), looks.clone()));
    looks
}
