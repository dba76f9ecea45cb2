use super::*;
use crate::{
    Predictor,
    api::RolloutSpec,
    carrier::World,
    traffic::{self, Cluster, Selection, Setting, stamp, stamp::Stamp},
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

/// The patch of this SeldonDeployment for a weight of `green` beside `main`.
fn patch_of(before: &Value, weight: u8) -> Result<Option<json_patch::Patch>, String> {
    let names = HostNames::default();
    let ports = |_: &str, _: &str| Some(vec![8000, 5001]);
    let shown = as_route(before, "iris", &names);
    let selection = Selection::every_http("models", "iris", "models/iris".into());
    let setting = Setting { canary: Some(predictor("green")), weight, ..Setting::all_to(predictor("main")) };
    let cluster = Cluster { names: &names, ports: &ports };
    let mut after = traffic::edit(&shown, &selection, &setting, &cluster).unwrap();
    stamp::write(&mut after, "models/iris", &Stamp { seq: 3, ..Stamp::default() }).unwrap();
    let Some(patch) = traffic::patch(&shown, &after) else { return Ok(None) };
    written_back(before, &shown, &patch, &setting.stable)
}

/// What is written for a weight of `green`, and what it makes of the SeldonDeployment.
fn written(traffic: [i64; 2], weight: u8) -> Option<(Value, Value)> {
    let mut result = deployment(traffic);
    let patch = patch_of(&result, weight).unwrap()?;
    json_patch::patch(&mut result, &patch).unwrap();
    Some((serde_json::to_value(patch).unwrap(), result))
}

/// The traffic of `main`, `green` and the shadow.
fn traffic_in(deployment: &Value) -> Vec<i64> {
    let predictors = deployment["spec"]["predictors"].as_array().unwrap();
    predictors.iter().map(|one| one["traffic"].as_i64().unwrap()).collect()
}

#[test]
fn a_weight_is_one_patch_whose_traffic_adds_up() {
    let (patch, after) = written([100, 0], 25).unwrap();
    assert_eq!(patch[0], json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}));
    assert_eq!(traffic_in(&after), [75, 25, 30], "a shadow keeps what it has");
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
fn traffic_that_adds_up_to_something_else_keeps_nobody_on_the_canary() {
    for (before, weight, expected) in [
        // Somebody took 10 from `main`, and what the canary loses would leave it at 90.
        ([85, 5], 0, [100, 0]),
        ([5, 85], 0, [100, 0]),
        ([5, 85], 50, [55, 45]),
        ([100, 5], 0, [100, 0]),
        ([90, 0], 0, [100, 0]),
        ([0, 0], 0, [100, 0]),
    ] {
        let (_, after) = written(before, weight).unwrap();
        assert_eq!(traffic_in(&after)[..2], expected, "{before:?} at {weight}%");
    }
    let more = patch_of(&deployment([85, 5]), 50).unwrap_err();
    assert_eq!(more, "spec.predictors: the traffic would add up to 90: 100 is expected");
}

#[test]
fn what_the_canary_loses_goes_to_stable_alone() {
    let mut three = deployment([70, 10]);
    three["spec"]["predictors"][2] = json!({"name": "blue", "traffic": 10});
    let patch = patch_of(&three, 0).unwrap().unwrap();
    json_patch::patch(&mut three, &patch).unwrap();
    assert_eq!(traffic_in(&three), [90, 0, 10], "what others have stays theirs");
    // Where it is not there nobody else gets it.
    let mut without = deployment([0, 90]);
    without["spec"]["predictors"][0]["name"] = "blue".into();
    let refused = patch_of(&without, 0).unwrap_err();
    assert!(refused.contains("main, which is stable, is not there to get the rest"), "{refused}");
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
        let mut entry = json!({"destination": {"host": host, "port": {"number": 8000}, "subset": subset}});
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
    // What it has too little of, and what it has just so, is the operator's.
    for weight in [50, 75, 100] {
        assert_eq!(after_lowering(&half, Some(predictor("green")), weight), None, "at {weight}%");
    }
    // Of two routes that one which gives too much.
    let both = json!([half[0], {"route": [entry("main", Some(90)), entry("green", Some(10))]}]);
    let less = after_lowering(&both, Some(predictor("green")), 20).unwrap();
    let weights_of =
        |green: i64| BTreeMap::from([("main".to_owned(), 100 - green), ("green".to_owned(), green)]);
    assert_eq!(weights(&less), [weights_of(20), weights_of(10)]);
    // As one that was made of traffic which added up to 90.
    let ninety = json!([{"route": [entry("main", Some(85)), entry("green", Some(5))]}]);
    let less = after_lowering(&ninety, Some(predictor("green")), 0).unwrap();
    assert_eq!(weights(&less), [[("main".to_owned(), 100)].into()]);
    assert_eq!(after_lowering(&json!([{"redirect": {}}]), Some(predictor("green")), 0), None);
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
