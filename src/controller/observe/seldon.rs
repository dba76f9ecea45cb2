//! What a SeldonDeployment tells of its predictors beyond their Services.

use std::collections::BTreeMap;

use sluice_core::{Predictor, target};

use crate::controller::{context::Context, stores::Seldon, subject::Subject};

/// The SeldonDeployment that the spec is about, if it is about one that is there.
fn deployment(context: &Context, subject: &Subject) -> Option<std::sync::Arc<Seldon>> {
    let target = subject.spec.as_ref().ok()?.target.seldon_deployment.as_ref()?;
    context.stores.seldon(&subject.namespace, &target.name)
}

/// Who has users of the SeldonDeployment before any route was generated; nothing where the spec is about none.
pub(super) fn first(context: &Context, subject: &Subject) -> Option<Vec<Predictor>> {
    let seldon = deployment(context, subject)?;
    let target = subject.spec.as_ref().ok()?.target.seldon_deployment.as_ref()?;
    Some(target::seldon::first(target, &subject.namespace, &seldon.view))
}

/// Whether the SeldonDeployment says nothing against giving a predictor users: while a part of it has nobody to answer its
/// Service may have the orchestrator's endpoints alone.
pub(super) fn is_available(context: &Context, subject: &Subject, predictor: &Predictor) -> bool {
    deployment(context, subject).is_none_or(|seldon| {
        let behind = seldon.view.behind(&predictor.service);
        behind.is_none_or(|behind| !seldon.view.is_unavailable(&behind.name))
    })
}

/// What the predictors serve, by Service; nothing where the spec is about no SeldonDeployment that is there.
pub(super) fn serves(context: &Context, subject: &Subject) -> BTreeMap<String, String> {
    let Some(seldon) = deployment(context, subject) else { return BTreeMap::new() };
    let predictors = seldon.view.predictors.iter();
    predictors.map(|predictor| (predictor.service.clone(), predictor.serves.clone())).collect()
}
