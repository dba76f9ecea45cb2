//! What generated routes need beside predictors: their Gateways, their DestinationRules, and for subsets of the user's own
//! routes a DestinationRule that has them. None of these is watched: they are asked for, and what was found is believed
//! for a while.

use std::{collections::BTreeMap, time::Duration};

use kube::{Api, api::DynamicObject};
use serde_json::Value;
use sluice_core::{
    Predictor,
    carrier::{self, ObjectName},
    machine::{self, Refusal, State},
    plan::Plan,
    traffic::Setting,
};
use tokio::time::Instant;

use super::{subsets, with_world};
use crate::{
    controller::{
        Error,
        context::Context,
        memory::Memory,
        optional::{object_is_missing, tell_of_missing_right},
        subject::Subject,
    },
    foreign::istio,
};

/// How long what was found is believed.
const BELIEVED: Duration = Duration::from_secs(30);

/// What keeps the routes of a plan from working: a Gateway that is not there, a subset that nobody has.
pub(super) async fn refused(
    context: &Context,
    plan: Option<&Plan>,
    state: &State,
    wanted: Option<&Predictor>,
    memory: &mut Memory,
) -> Option<Refusal> {
    let plan = plan?;
    for gateway in carrier::required_gateways(&context.names, plan) {
        if !has_gateway(context, &gateway, memory).await {
            return Some(carrier::no_gateway(&gateway));
        }
    }
    let wanted = carrier::required_subset(plan, state, wanted)?;
    subset_is_missing(context, wanted, memory).await
}

/// Whether a Gateway is there; also where that cannot be told, for want of the kind or of the permission.
async fn has_gateway(context: &Context, gateway: &ObjectName, memory: &mut Memory) -> bool {
    let now = Instant::now();
    if memory.gateways.get(gateway).is_some_and(|until| *until > now) {
        return true;
    }
    let (namespace, name) = gateway;
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &istio("Gateway", "gateways"));
    let read = context.read(format!("reading Gateway {namespace}/{name}"), api.get_metadata(name)).await;
    let missing = read.as_ref().is_err_and(|error| object_is_missing(error, name));
    if let Err(error) = &read {
        tell_of_missing_right(error);
    }
    if missing {
        memory.gateways.remove(gateway);
    } else {
        memory.gateways.insert(gateway.clone(), now + BELIEVED);
    }
    !missing
}

async fn subset_is_missing(context: &Context, wanted: &Predictor, memory: &mut Memory) -> Option<Refusal> {
    let now = Instant::now();
    if memory.subset.as_ref().is_some_and(|(found, until)| found == wanted && *until > now) {
        return None;
    }
    // Where they cannot be read nobody knows, and that must not stop a rollout.
    let rules = match subsets::rules(context, &wanted.namespace).await {
        Ok(rules) => rules,
        Err(error) => {
            tell_of_missing_right(&error);
            memory.subset = Some((wanted.clone(), now + BELIEVED));
            return None;
        }
    };
    let refusal = carrier::accept_subset(&context.names, wanted, &rules).err();
    memory.subset = refusal.is_none().then(|| (wanted.clone(), now + BELIEVED));
    refusal
}

/// The DestinationRules that exist of those that generated routes need, or once needed, for all who may take part: stable, whoever is wanted
/// or in flight, and who is leaving.
pub(super) async fn rules(
    context: &Context,
    subject: &Subject,
    plan: Option<&Plan>,
    state: &State,
    wanted: Option<&Predictor>,
    memory: &mut Memory,
) -> BTreeMap<ObjectName, Value> {
    let Some(plan) = plan.filter(|plan| plan.expose.is_some()) else { return BTreeMap::new() };
    let desired = machine::desired(Some(plan), state).or_else(|| wanted.cloned().map(Setting::all_to));
    let Some(desired) = desired else { return BTreeMap::new() };
    let desired = match wanted {
        Some(wanted) => carrier::pair(desired, wanted),
        None => desired,
    };
    let names =
        with_world(context, subject, &BTreeMap::new(), |world| carrier::rule_names(world, plan, &desired));
    let mut there = BTreeMap::new();
    for name in names {
        if let Ok(Some(rule)) = rule(context, &name, memory).await {
            there.insert(name, rule);
        }
    }
    there
}

async fn rule(context: &Context, name: &ObjectName, memory: &mut Memory) -> Result<Option<Value>, Error> {
    let now = Instant::now();
    if let Some((rule, until)) = memory.rules.get(name)
        && *until > now
    {
        return Ok(rule.clone());
    }
    let (namespace, object) = name;
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        namespace,
        &istio("DestinationRule", "destinationrules"),
    );
    let read = context.read(format!("reading DestinationRule {namespace}/{object}"), api.get(object)).await;
    match read {
        Ok(rule) => {
            let rule = serde_json::to_value(rule)?;
            memory.rules.insert(name.clone(), (Some(rule.clone()), now + BELIEVED));
            Ok(Some(rule))
        }
        Err(Error::Refused { code: 404, .. }) => {
            // Most Rollouts need none: they do not ask at every turn.
            memory.rules.insert(name.clone(), (None, now + BELIEVED));
            Ok(None)
        }
        Err(error) => {
            tell_of_missing_right(&error);
            Err(error)
        }
    }
}
