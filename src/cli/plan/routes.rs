//! The objects as they would be at each step, or what the controller would refuse them for.

use serde_json::Value;
use sluice_core::{
    Predictor,
    api::{Reason, RolloutSpec},
    carrier::{self, ObjectName, Outlook, World, Write},
    machine::{self, Refusal, SeenTraffic},
    plan::Plan,
    traffic::{RouteError, Setting, stamp::Stamp},
};

use crate::cli::{
    objects::{Around, Objects},
    view::{Changed, ChangedObject},
};

/// The objects at each step, the promotion included.
///
/// # Errors
/// What the controller would not accept, in its own words.
pub fn along(objects: &Objects, plan: &Plan, spec: &RolloutSpec) -> Result<Vec<Changed>, Refusal> {
    let wanted = objects.wanted(spec)?;
    let alone = Around::default();
    let around = objects.cluster.as_ref().unwrap_or(&alone);
    objects.with_world(|world| carrier::accept_generated(world, plan, &around.uid, None, None))?;
    let seen = objects.see(plan, &wanted, spec)?;
    accept(objects, around, plan, &seen, &wanted)?;
    let stable = stable(around, &seen, &wanted)?;
    if let Some(lacks) = &around.lacks {
        return Err(lacks.clone());
    }
    if stable == wanted && plan.expose.is_none() {
        return Ok(Vec::new());
    }
    let pair = Setting { canary: Some(wanted).filter(|wanted| *wanted != stable), ..Setting::all_to(stable) };
    let seq = seen.stamp.as_ref().map_or(0, |stamp| stamp.seq).max(around.state.seq);
    let stamp = Stamp { uid: around.uid.clone(), seq: seq + 1, ..Stamp::default() };
    objects.with_world(|world| {
        let step = |index| at_step(objects, world, plan, (&pair, index), &stamp);
        (0..=plan.promotion()).map(step).collect()
    })
}

/// What the controller asks before it starts.
fn accept(
    objects: &Objects,
    around: &Around,
    plan: &Plan,
    seen: &SeenTraffic,
    wanted: &Predictor,
) -> Result<(), Refusal> {
    let (stable, _) = machine::arms(&around.state, Some(seen), Some(wanted), &around.uid);
    let desired = machine::desired(Some(plan), &around.state).or_else(|| stable.map(Setting::all_to));
    let pair = desired.map(|desired| carrier::pair(desired, wanted));
    objects.with_world(|world| {
        carrier::accept_generated(world, plan, &around.uid, pair.as_ref(), around.delegators.as_deref())?;
        carrier::accept(world, plan, pair.as_ref(), around.since, &around.claims)?;
        for deployment in objects.slots.values() {
            carrier::accept_slots(plan, deployment, wanted.subset.as_deref())?;
        }
        pair.as_ref()
            .map_or(Ok(()), |pair| carrier::accept_rules(world, plan, pair, &around.uid, &around.rules))?;
        carrier::accept_delegated(plan, around.delegators.as_deref())
    })
}

/// Whom users have: as the controller remembers, else as the routes show.
fn stable(around: &Around, seen: &SeenTraffic, wanted: &Predictor) -> Result<Predictor, Refusal> {
    let (stable, _) = machine::arms(&around.state, Some(seen), Some(wanted), &around.uid);
    stable.ok_or_else(|| {
        let there: Vec<String> = seen.weighted.iter().map(ToString::to_string).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let message = format!(
            "the routes must have one predictor with traffic, which is stable: they have {there}; \
             {} names the one of several",
            seen.field
        );
        Refusal::new(Reason::AmbiguousStable, message)
    })
}

fn at_step(
    objects: &Objects,
    world: &World<'_>,
    plan: &Plan,
    (pair, index): (&Setting, usize),
    stamp: &Stamp,
) -> Result<Changed, Refusal> {
    let around = objects.cluster.as_ref();
    let setting = machine::with_step(pair.clone(), plan, index);
    let outlook = carrier::effects(world, plan, &setting, stamp);
    if let Some(obstacle) = outlook.obstacles.first() {
        return Err(obstacle_to(obstacle));
    }
    let rules = around.map(|around| around.rules.clone()).unwrap_or_default();
    let mut changed = Vec::new();
    let uid = around.map_or("", |around| around.uid.as_str());
    for generated in
        carrier::rules(world, plan, &setting, uid, &rules).into_iter().chain(outlook.generated.clone())
    {
        let before = rules.get(&generated.object).cloned().unwrap_or_default();
        let after = match generated.write {
            Write::Create(whole) => whole,
            Write::Patch(patch) => patched(&before, &patch)?,
        };
        changed.push(ChangedObject { kind: generated.kind.name(), name: generated.object, before, after });
    }
    changed.extend(moved(objects, world, outlook, &pair.stable)?);
    Ok(Changed { step: plan.step_name(index).to_owned(), objects: changed })
}

/// The routes that are there already.
fn moved(
    objects: &Objects,
    world: &World<'_>,
    outlook: Outlook,
    stable: &Predictor,
) -> Result<Vec<ChangedObject>, Refusal> {
    let mut changed = Vec::new();
    for effect in outlook.effects {
        let Some(before) = world.virtual_services.get(&effect.object) else { continue };
        changed.push(match objects.slots.get(&effect.object) {
            None => {
                let after = patched(before, &effect.patch)?;
                ChangedObject {
                    kind: "VirtualService",
                    name: effect.object,
                    before: (*before).clone(),
                    after,
                }
            }
            Some(deployment) => weights(effect.object, (deployment, before), &effect.patch, stable)?,
        });
    }
    Ok(changed)
}

/// Weights that stand in a SeldonDeployment.
fn weights(
    (namespace, _): ObjectName,
    (deployment, shown): (&Value, &Value),
    patch: &json_patch::Patch,
    stable: &Predictor,
) -> Result<ChangedObject, Refusal> {
    let inexpressible = |message| Refusal::new(Reason::RouteConflict, message);
    let patch = carrier::written_back(deployment, shown, patch, stable).map_err(inexpressible)?;
    let after = patch.map_or_else(|| Ok(deployment.clone()), |patch| patched(deployment, &patch))?;
    let name = deployment["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(ChangedObject { kind: "SeldonDeployment", name: (namespace, name), before: deployment.clone(), after })
}

fn patched(before: &Value, patch: &json_patch::Patch) -> Result<Value, Refusal> {
    let mut after = before.clone();
    json_patch::patch(&mut after, patch).map_err(|error| {
        Refusal::new(Reason::RouteConflict, format!("the difference cannot be applied: {error}"))
    })?;
    Ok(after)
}

fn obstacle_to(error: &RouteError) -> Refusal {
    Refusal::new(error.reason(), error.to_string())
}
