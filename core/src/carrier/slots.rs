//! Weights where Seldon Core's operator owns the VirtualService: in the SeldonDeployment's `spec.predictors[].traffic`.
//!
//! The SeldonDeployment is shown as a VirtualService with one http route that lists its predictors, so that whatever reads
//! and edits routes reads and edits this one, and what became of it is written back as one patch of the
//! SeldonDeployment: the traffic adds up to 100 in every state that anybody can see.

use std::collections::BTreeMap;

use json_patch::Patch;
use serde_json::{Value, json};

use super::{World, controllers, expose::on_port};
use crate::{
    HostNames,
    api::{Reason, STAMP},
    machine::Refusal,
    plan::Plan,
    target::{
        SeldonView,
        seldon::{GRPC_PORT, HTTP_PORT},
    },
    traffic::{self, Selection, Setting},
};

/// The SeldonDeployment that an object belongs to, if it does.
pub fn deployment_of(virtual_service: &Value) -> Option<&str> {
    let owner = controllers(virtual_service).next()?;
    (owner["kind"] == "SeldonDeployment").then(|| owner["name"].as_str()).flatten()
}

/// The SeldonDeployment as a route, under the name of the VirtualService that its operator makes of it. It has the
/// SeldonDeployment's version and stamp.
pub fn as_route(deployment: &Value, virtual_service: &str, names: &HostNames) -> Value {
    let namespace = deployment.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let view = SeldonView::read(deployment);
    let live = view.predictors.iter().filter(|predictor| !predictor.shadow);
    let alone = live.clone().count() == 1;
    let entries: Vec<Value> = live
        .map(|predictor| {
            json!({
                "destination": {
                    "host": names.host(namespace, &predictor.service), "port": {"number": HTTP_PORT},
                    "subset": predictor.name,
                },
                // One alone has all, whatever it says.
                "weight": if alone { 100 } else { predictor.traffic },
            })
        })
        .collect();
    let mut route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {
            "namespace": namespace, "name": virtual_service,
            "resourceVersion": deployment.pointer("/metadata/resourceVersion"),
        },
        "spec": {"http": [{"route": entries}]},
    });
    if let Some(annotations) = deployment.pointer("/metadata/annotations") {
        route["metadata"]["annotations"] = annotations.clone();
    }
    route
}

/// What keeps the operator's VirtualService from being as its SeldonDeployment says, which is shown as a route; nothing where
/// it is. The operator writes none while any of the deployments is unready, as after a predictor stopped being a shadow, when
/// it makes new pods for it.
pub fn not_carried_out(shown: &Value, virtual_service: &Value) -> Option<String> {
    let wanted = shown["spec"]["http"].as_array().into_iter().flatten().map(by_subset).next()?;
    let told = |all: &BTreeMap<String, i64>| {
        let each: Vec<String> = all.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        each.join(", ")
    };
    // Where there is no route at all nobody gets anything, whatever the SeldonDeployment says.
    let there = match weights(virtual_service).as_slice() {
        [] => "no http route".to_owned(),
        routes => told(routes.iter().find(|seen| **seen != wanted)?),
    };
    Some(format!(
        "Seldon Core's operator has not written it to the VirtualService yet ({there} there, {} is wanted), which it does when \
         all deployments are ready",
        told(&wanted)
    ))
}

/// [`by_subset`] of every route that sends requests somewhere.
fn weights(virtual_service: &Value) -> Vec<BTreeMap<String, i64>> {
    let routes = virtual_service["spec"]["http"].as_array().into_iter().flatten();
    routes.filter(|route| route["route"].is_array()).map(by_subset).collect()
}

/// The predictors that a route gives weight, each with its weight.
fn by_subset(route: &Value) -> BTreeMap<String, i64> {
    let entries = route["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    let weights = entries.iter().filter_map(|entry| {
        let subset = entry["destination"]["subset"].as_str()?.to_owned();
        // One alone has all, whatever it says.
        let weight = if entries.len() == 1 { 100 } else { entry["weight"].as_i64().unwrap_or(0) };
        (weight > 0).then_some((subset, weight))
    });
    weights.collect()
}

/// The patch of the SeldonDeployment that says what a patch of its [`as_route`] says; nothing where they say the same.
///
/// # Errors
/// What cannot be said there, by the field.
pub fn written_back(deployment: &Value, shown: &Value, patch: &Patch) -> Result<Option<Patch>, String> {
    let mut route = shown.clone();
    // The version is the server's to compare.
    let edits = Patch(patch.0.iter().skip(1).cloned().collect());
    json_patch::patch(&mut route, &edits).map_err(|error| format!("the route cannot be edited: {error}"))?;
    let http = route["spec"]["http"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [only] = http else { return Err("spec.predictors: has weights and nothing beside them".to_owned()) };
    if only.get("mirrors").is_some() || only.get("mirror").is_some() {
        return Err("spec.predictors: has weights and no mirrors".to_owned());
    }
    let entries = only["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    let weight = |name: &str| {
        let of_it = entries.iter().filter(|entry| entry["destination"]["subset"] == name);
        of_it.map(|entry| entry["weight"].as_i64().unwrap_or(0)).sum::<i64>()
    };
    let mut after = deployment.clone();
    let mut sum = 0;
    for predictor in after["spec"]["predictors"].as_array_mut().into_iter().flatten() {
        if predictor["shadow"] == true {
            continue;
        }
        let name = predictor["name"].as_str().unwrap_or_default().to_owned();
        sum += weight(&name);
        predictor["traffic"] = weight(&name).into();
    }
    if sum != 100 {
        return Err(format!("spec.predictors: the traffic would add up to {sum}: 100 is expected"));
    }
    if let Some(stamp) = route.pointer("/metadata/annotations").and_then(|annotations| annotations.get(STAMP))
    {
        if !after["metadata"]["annotations"].is_object() {
            after["metadata"]["annotations"] = json!({});
        }
        after["metadata"]["annotations"][STAMP] = stamp.clone();
    }
    Ok(traffic::patch(deployment, &after))
}

/// Whether all that a plan asks for can be said by traffic alone.
///
/// # Errors
/// A step that asks for more.
pub fn accept_slots(plan: &Plan, deployment: &Value, wanted: Option<&str>) -> Result<(), Refusal> {
    let name = deployment.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let more = plan.steps.iter().position(|step| !step.beside.is_nothing() || step.sticky.is_some());
    if let Some(index) = more {
        let message = format!(
            "spec.steps[{index}]: the routes belong to SeldonDeployment {name}, whose predictors have traffic and nothing \
             beside it: a weight alone is expected, or expose in place of routes with Seldon Core's own Istio routing off"
        );
        return Err(Refusal::new(Reason::RouteConflict, message));
    }
    let view = SeldonView::read(deployment);
    let shadow = wanted.and_then(|wanted| view.predictor(wanted)).filter(|predictor| predictor.shadow);
    match shadow {
        None => Ok(()),
        Some(shadow) => {
            let message = format!(
                "spec.target.seldonDeployment.predictor: {} is a shadow, and whoever owns the routes of SeldonDeployment {name} \
                 restarts its pods to make it answer: set shadow to false first",
                shadow.name
            );
            Err(Refusal::new(Reason::InvalidTarget, message))
        }
    }
}

/// The patch of the operator's VirtualService that takes the canary's weight away as the SeldonDeployment says it already;
/// nothing where it is so, in whatever form: the operator would write its own again.
pub fn lowered(world: &World<'_>, virtual_service: &Value, desired: &Setting) -> Option<Patch> {
    let text = |pointer| virtual_service.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let selection =
        Selection::every_http(text("/metadata/namespace"), text("/metadata/name"), world.rollout());
    let mut after = virtual_service.clone();
    for setting in [desired.clone(), on_port(desired, GRPC_PORT)] {
        after = traffic::edit_what_can_be(&after, &selection, &setting, &world.cluster).after;
    }
    if weights(virtual_service) == weights(&after) { None } else { traffic::patch(virtual_service, &after) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Predictor,
        api::RolloutSpec,
        traffic::{Cluster, stamp, stamp::Stamp},
    };

    fn deployment(traffic: [i64; 2]) -> Value {
        json!({
            "metadata": {"name": "iris", "namespace": "models", "resourceVersion": "7"},
            "spec": {"predictors": [
                {"name": "main", "traffic": traffic[0], "graph": {"modelUri": "a"}},
                {"name": "green", "traffic": traffic[1], "graph": {"modelUri": "b"}},
                {"name": "copy", "traffic": 30, "shadow": true},
            ]},
        })
    }

    fn predictor(name: &str) -> Predictor {
        Predictor { subset: Some(name.into()), ..Predictor::new("models", format!("iris-{name}"), 8000) }
    }

    /// What is written for a weight of `green`, and what it makes of the SeldonDeployment.
    fn written(traffic: [i64; 2], weight: u8) -> Option<(Value, Value)> {
        let names = HostNames::default();
        let ports = |_: &str, _: &str| Some(vec![8000, 5001]);
        let before = deployment(traffic);
        let shown = as_route(&before, "iris", &names);
        let selection = Selection::every_http("models", "iris", "models/iris".into());
        let setting =
            Setting { canary: Some(predictor("green")), weight, ..Setting::all_to(predictor("main")) };
        let cluster = Cluster { names: &names, ports: &ports };
        let mut after = traffic::edit(&shown, &selection, &setting, &cluster).unwrap();
        stamp::write(&mut after, "models/iris", &Stamp { seq: 3, ..Stamp::default() }).unwrap();
        let patch = traffic::patch(&shown, &after)?;
        let patch = written_back(&before, &shown, &patch).unwrap()?;
        let mut result = before;
        json_patch::patch(&mut result, &patch).unwrap();
        Some((serde_json::to_value(patch).unwrap(), result))
    }

    #[test]
    fn a_weight_is_one_patch_whose_traffic_adds_up() {
        let (patch, after) = written([100, 0], 25).unwrap();
        assert_eq!(patch[0], json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}));
        let traffic: Vec<_> = after["spec"]["predictors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["traffic"].clone())
            .collect();
        assert_eq!(traffic, [75, 25, 30], "a shadow keeps what it has");
        assert_eq!(stamp::read(&after, "models/iris").unwrap().unwrap().seq, 3);
        assert_eq!(after["spec"]["predictors"][0]["graph"], json!({"modelUri": "a"}));
    }

    #[test]
    fn what_is_there_already_is_stamped_and_nothing_else() {
        let (patch, _) = written([75, 25], 25).unwrap();
        let operations: Vec<_> = patch.as_array().unwrap().iter().map(|one| one["path"].clone()).collect();
        assert_eq!(operations, ["/metadata/resourceVersion", "/metadata/annotations"]);
    }

    #[test]
    fn the_operators_route_is_compared_with_what_the_deployment_says() {
        let shown = as_route(&deployment([75, 25]), "iris", &HostNames::default());
        let entry = |subset: &str, weight: i64| {
            let mut entry = json!({"destination": {"host": format!("iris-{subset}"), "subset": subset}});
            if weight > 0 {
                entry["weight"] = weight.into();
            }
            entry
        };
        let route = |main: i64, green: i64| json!({"route": [entry("main", main), entry("green", green)]});
        let object = |routes: Value| json!({"spec": {"http": routes}});
        let same = object(json!([route(75, 25), {"redirect": {}}, route(75, 25)]));
        assert_eq!(not_carried_out(&shown, &same), None);
        // Of two routes one is behind; an absent weight beside others is 0.
        let behind = not_carried_out(&shown, &object(json!([route(75, 25), route(100, 0)]))).unwrap();
        assert!(behind.contains("(main 100 there, green 25, main 75 is wanted)"), "{behind}");
        let alone = object(json!([{"route": [entry("main", 0)]}]));
        assert!(not_carried_out(&shown, &alone).is_some());
        // Where nothing leads anywhere nothing is carried out.
        for nowhere in [object(json!([])), object(json!([{"redirect": {}}])), json!({"spec": {}})] {
            let behind = not_carried_out(&shown, &nowhere).unwrap();
            assert!(behind.contains("(no http route there, green 25, main 75 is wanted)"), "{behind}");
        }
        let shown = as_route(&deployment([100, 0]), "iris", &HostNames::default());
        assert_eq!(not_carried_out(&shown, &alone), None);
    }

    /// The operator's VirtualService after [`lowered`] to these weights of `main` and `green`, if it changes.
    fn after_lowering(routes: &Value, canary: Option<Predictor>, weight: u8) -> Option<Value> {
        let names = HostNames::default();
        let ports = |_: &str, _: &str| Some(vec![8000, 5001]);
        let cluster = Cluster { names: &names, ports: &ports };
        let world = World { namespace: "models", name: "iris", virtual_services: BTreeMap::new(), cluster };
        let mut object = json!({"metadata": {"namespace": "models", "name": "iris", "resourceVersion": "7"}, "spec": {"http": routes}});
        let setting = Setting { canary, weight, ..Setting::all_to(predictor("main")) };
        let patch = lowered(&world, &object, &setting)?;
        json_patch::patch(&mut object, &patch).unwrap();
        Some(object)
    }

    #[test]
    fn the_operators_route_is_lowered_where_users_would_go_elsewhere_and_never_for_its_form() {
        let entry = |subset: &str, weight: Option<u8>| {
            let host = format!("iris-{subset}.models.svc.cluster.local");
            let mut entry =
                json!({"destination": {"host": host, "port": {"number": 8000}, "subset": subset}});
            if let Some(weight) = weight {
                entry["weight"] = weight.into();
            }
            entry
        };
        let half = json!([{"route": [entry("main", Some(50)), entry("green", Some(50))]}]);
        let after = after_lowering(&half, Some(predictor("green")), 0).unwrap();
        assert_eq!(weights(&after), [[("main".to_owned(), 100)].into()]);
        // Its own form: no weight for nothing.
        let own = json!([{"route": [entry("main", Some(100)), entry("green", None)]}]);
        for canary in [Some(predictor("green")), None] {
            assert_eq!(after_lowering(&own, canary, 0), None);
        }
        let less = after_lowering(&half, Some(predictor("green")), 20).unwrap();
        assert_eq!(weights(&less), [[("main".to_owned(), 80), ("green".to_owned(), 20)].into()]);
    }

    #[test]
    fn whose_an_object_is_tells_its_owner() {
        let object = json!({"metadata": {"ownerReferences": [
            {"kind": "Other", "name": "x"}, {"kind": "SeldonDeployment", "name": "iris", "controller": true},
        ]}});
        assert_eq!(deployment_of(&object), Some("iris"));
        assert_eq!(deployment_of(&json!({"metadata": {}})), None);
    }

    #[test]
    fn more_than_a_weight_is_refused() {
        let plan = |steps: Value| {
            let spec = json!({
                "target": {"seldonDeployment": {"name": "iris", "predictor": "green"}},
                "routes": [{"virtualService": "iris"}], "steps": steps,
            });
            let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
            Plan::new(&spec, "models").unwrap()
        };
        let weights = plan(json!([{"weight": 5}]));
        assert!(accept_slots(&weights, &deployment([100, 0]), Some("green")).is_ok());
        let shadow = accept_slots(&weights, &deployment([100, 0]), Some("copy")).unwrap_err();
        assert_eq!(shadow.reason, Reason::InvalidTarget);
        let mirror = accept_slots(&plan(json!([{"weight": 5}, {"mirror": 10}])), &deployment([100, 0]), None);
        let refusal = mirror.unwrap_err();
        assert!(refusal.message.starts_with("spec.steps[1]: "), "{}", refusal.message);
    }
}
