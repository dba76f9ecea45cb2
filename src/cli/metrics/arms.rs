//! Who the arms of a Rollout are, and who answers for them, as a person may see it.

use sluice_core::{
    Predictor,
    api::{Profile, RolloutSpec, RolloutStatus},
    plan::{MetricsPlan, Plan},
};

use super::super::{
    Session,
    exit::Failure,
    objects::{self, Objects},
};
use crate::metrics::Arm;

/// The arms of a Rollout.
pub(super) struct Predictors {
    pub(super) stable: Arm,
    pub(super) canary: Option<Arm>,
    /// The canary has been given traffic, so that there should be numbers about it.
    pub(super) in_flight: bool,
}

/// The arms that a status names. Where no canary is in flight, it is what the spec wants.
pub(super) async fn predictors(
    session: &Session<'_>,
    spec: &RolloutSpec,
    status: &RolloutStatus,
    plan: &Plan,
    metrics: &MetricsPlan,
) -> Result<Predictors, Failure> {
    let by_seldons_names = matches!(metrics, MetricsPlan::Source { profile: Profile::Seldon, .. });
    let objects = Objects::of_target(session, spec, by_seldons_names).await?;
    let in_flight = status.progress.is_some();
    let wanted = match &status.canary {
        Some(canary) if in_flight => Some(canary.clone()),
        _ => objects.wanted(spec).ok().or_else(|| status.canary.clone()),
    };
    let stable = status.stable.clone().or_else(|| wanted.clone()).ok_or_else(|| {
        Failure::Other(
            "there is nobody to look at: the controller has not said which predictor is stable, and the target is not there"
                .to_owned(),
        )
    })?;
    let canary = wanted.filter(|wanted| *wanted != stable);
    let arm = async |predictor: Predictor| -> Result<Arm, Failure> {
        let pods = match metrics {
            MetricsPlan::Source { .. } => Vec::new(),
            MetricsPlan::Scrape { .. } => objects::pods(session, plan, &predictor).await?,
        };
        Ok(Arm { seldon: objects.seldon_names(&predictor), predictor, pods })
    };
    let canary = match canary {
        Some(canary) => Some(arm(canary).await?),
        None => None,
    };
    Ok(Predictors { stable: arm(stable).await?, canary, in_flight })
}
