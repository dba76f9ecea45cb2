//! What a decision is about to write, for its record.
//!
//! The record goes into the status before anything is written, so this is what is intended: the difference between the
//! objects as they were read and what was decided, which is what acting takes, too. It costs no request.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_core::{
    api::{MOST_WRITES, WriteRecord, WrittenKind},
    carrier::{self, Effect, Generated, Kind, ObjectName, Write},
    machine::State,
    traffic::Setting,
};

use super::{
    act::{self, Intended},
    context::Context,
    observe::Observation,
    slots::{self, Slots},
    subject::Subject,
};

/// What is to be written for `state`, in its order: as much as a record has room for, and how many objects more.
pub(super) fn intended(
    context: &Context,
    subject: &Subject,
    seen: &Observation,
    state: &State,
) -> (Vec<WriteRecord>, u32) {
    let Some(Intended { outlook, desired }) = act::intended(context, subject, seen, state) else {
        return (Vec::new(), 0);
    };
    let generated = outlook.generated.iter().filter_map(|generated| of_generated(generated, seen));
    let mut writes: Vec<WriteRecord> = generated.collect();
    for effect in &outlook.effects {
        match seen.slots.get(&effect.object) {
            Some(slots) => writes.extend(of_slots(context, subject, effect, slots, desired.as_ref())),
            None => writes.extend(of_route(effect, &seen.objects)),
        }
    }
    let more = u32::try_from(writes.len().saturating_sub(MOST_WRITES)).unwrap_or(u32::MAX);
    writes.truncate(MOST_WRITES);
    (writes, more)
}

fn of_generated(generated: &Generated, seen: &Observation) -> Option<WriteRecord> {
    let Generated { kind, object, write } = generated;
    let (kind, there) = match kind {
        Kind::VirtualService => (WrittenKind::VirtualService, &seen.objects),
        Kind::DestinationRule => (WrittenKind::DestinationRule, &seen.rules),
    };
    Some(match write {
        Write::Create(whole) => carrier::created(kind, object, whole),
        Write::Patch(patch) => carrier::changed(kind, object, there.get(object)?, patch),
    })
}

fn of_route(effect: &Effect, objects: &BTreeMap<ObjectName, Value>) -> Option<WriteRecord> {
    let before = objects.get(&effect.object)?;
    Some(carrier::changed(WrittenKind::VirtualService, &effect.object, before, &effect.patch))
}

/// The traffic of the predictors, and the operator's route where that is lowered beside it.
fn of_slots(
    context: &Context,
    subject: &Subject,
    effect: &Effect,
    slots: &Slots,
    desired: Option<&Setting>,
) -> Vec<WriteRecord> {
    let written_back = carrier::written_back(&slots.deployment, &slots.shown, &effect.patch).ok().flatten();
    let deployment = (effect.object.0.clone(), slots.name().to_owned());
    let traffic = written_back
        .map(|patch| carrier::changed(WrittenKind::SeldonDeployment, &deployment, &slots.deployment, &patch));
    let desired = desired.filter(|_| effect.takes_away);
    let lowered = desired.and_then(|desired| slots::lowering(context, subject, &effect.object, desired));
    let route = lowered
        .map(|(route, patch)| carrier::changed(WrittenKind::VirtualService, &effect.object, &route, &patch));
    traffic.into_iter().chain(route).collect()
}
