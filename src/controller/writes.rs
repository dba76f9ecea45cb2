//! What a decision is about to write, for its record.
//!
//! The record goes into the status before anything is written, so this is what is intended: the difference between the
//! objects as they were read and what was decided, which is what acting takes, too. It costs no request.

use serde_json::Value;
use sluice_core::{
    api::{MOST_WRITES, WriteRecord, WrittenKind},
    carrier::{self, Effect, Generated, Kind, Write},
    machine::State,
    traffic::Setting,
};

use super::{
    act::{self, Intended},
    context::Context,
    observe::Observation,
    slots::Slots,
    subject::Subject,
};

/// What is to be written for `state`, in its order: as much as a record has room for, and how many objects more.
pub(super) fn intended(
    context: &Context,
    subject: &Subject,
    seen: &Observation,
    state: &State,
) -> (Vec<WriteRecord>, u32) {
    let Some(Intended { outlook, desired, lowered }) = act::intended(context, subject, seen, state) else {
        return (Vec::new(), 0);
    };
    let generated = outlook.generated.iter().filter_map(|generated| of_generated(generated, seen));
    let mut writes: Vec<WriteRecord> = generated.collect();
    for effect in &outlook.effects {
        match seen.slots.get(&effect.object).zip(desired.as_ref()) {
            Some((slots, desired)) => writes.extend(of_slots(effect, slots, desired)),
            None => writes.extend(of_route(effect, seen.objects.get(&effect.object))),
        }
    }
    let operated = |effect: &Effect| of_route(effect, Some(&seen.slots.get(&effect.object)?.route));
    writes.extend(lowered.values().filter_map(operated));
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

fn of_route(effect: &Effect, before: Option<&Value>) -> Option<WriteRecord> {
    Some(carrier::changed(WrittenKind::VirtualService, &effect.object, before?, &effect.patch))
}

/// The traffic of the predictors.
fn of_slots(effect: &Effect, slots: &Slots, desired: &Setting) -> Option<WriteRecord> {
    let Slots { deployment, shown, .. } = slots;
    let patch = carrier::written_back(deployment, shown, &effect.patch, &desired.stable).ok().flatten()?;
    let name = (effect.object.0.clone(), slots.name().to_owned());
    Some(carrier::changed(WrittenKind::SeldonDeployment, &name, deployment, &patch))
}
