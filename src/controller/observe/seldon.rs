//! What a SeldonDeployment tells of its predictors beyond their Services.

use sluice_core::{Predictor, machine::State, target};

use crate::controller::{context::Context, events, memory::Memory, stores::Seldon, subject::Subject};

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

/// Says that the predictor which users have serves something else than before: it was changed in place, past every step and
/// check. What it served is known for as long as this controller runs.
pub(super) async fn tell_of_changes(
    context: &Context,
    subject: &Subject,
    state: &State,
    memory: &mut Memory,
) {
    let Some(stable) = &state.stable else { return };
    let Some(seldon) = deployment(context, subject) else { return };
    let Some(behind) = seldon.view.behind(&stable.service) else { return };
    let before = memory.serves.replace((stable.clone(), behind.serves.clone()));
    let changed = before.is_some_and(|(predictor, serves)| predictor == *stable && serves != behind.serves);
    if changed {
        let note = format!(
            "predictor {} of SeldonDeployment {}/{} was changed in place while it is stable: its users got the new one \
             without steps and checks. Add a predictor beside it and make that the wanted one",
            behind.name, subject.namespace, seldon.view.name
        );
        events::unguarded(context, subject, &note).await;
    }
}
