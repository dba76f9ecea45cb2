//! Generated objects, compared with what was seen of Seldon Core's operator.

use std::collections::BTreeMap;

use super::*;
use crate::{
    api::{Percent, RolloutSpec},
    carrier::{self, Outlook},
    plan::PlannedMatch,
    traffic::Cluster,
};

const UID: &str = "u-1";

fn plan(expose: &Value, annotations: &Value) -> Plan {
    let spec = json!({
        "target": {"seldonDeployment": {"name": "iris", "predictor": "canary"}}, "expose": expose,
        "annotations": annotations, "steps": [{"weight": 25}],
    });
    let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
    Plan::named(&spec, "models", "iris").unwrap()
}

fn predictor(name: &str) -> Predictor {
    let service = format!("iris-{name}");
    Predictor { subset: Some(name.into()), ..Predictor::new("models", service, 8000) }
}

fn setting(weight: u8) -> Setting {
    Setting { canary: Some(predictor("canary")), weight, ..Setting::all_to(predictor("main")) }
}

fn stamp(seq: u64, setting: u8) -> Stamp {
    Stamp {
        uid: UID.into(),
        seq,
        setting,
        revision: Some(predictor("canary").revision()),
        ..Stamp::default()
    }
}

fn with_world<T>(objects: &[Value], check: impl FnOnce(&World<'_>) -> T) -> T {
    let names = HostNames::default();
    let ports = |_: &str, _: &str| Some(vec![8000, 5001]);
    let named = |object: &Value| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        (text("namespace"), text("name"))
    };
    let virtual_services = objects.iter().map(|object| (named(object), object)).collect::<BTreeMap<_, _>>();
    check(&World {
        namespace: "models",
        name: "iris",
        virtual_services,
        cluster: Cluster { names: &names, ports: &ports },
    })
}

fn outlook(objects: &[Value], plan: &Plan, setting: &Setting, stamp: &Stamp) -> Outlook {
    with_world(objects, |world| carrier::effects(world, plan, setting, stamp))
}

/// The object that is to be created.
fn created(plan: &Plan, setting: &Setting) -> Value {
    let outlook = outlook(&[], plan, setting, &stamp(3, setting.weight));
    assert!(outlook.effects.is_empty() && !outlook.in_place());
    match outlook.generated.as_slice() {
        [Generated { kind: Kind::VirtualService, write: Write::Create(object), .. }] => object.clone(),
        other => panic!("{other:?}"),
    }
}

fn stored(mut object: Value) -> Value {
    object["metadata"]["resourceVersion"] = "7".into();
    object
}

#[test]
fn it_is_what_seldons_operator_makes() {
    let annotations = json!({"seldon.io/istio-retries": "3", "seldon.io/istio-retries-timeout": "2"});
    let object = created(&plan(&json!({}), &annotations), &setting(25));
    // As it was seen of the operator itself.
    let retries = json!({"attempts": 3, "perTryTimeout": "2s", "retryOn": "gateway-error,connect-failure,refused-stream"});
    let to = |name: &str, port: u16, weight: u8| {
        json!({
            "destination": {
                "host": format!("iris-{name}.models.svc.cluster.local"), "port": {"number": port}, "subset": name,
            },
            "weight": weight,
        })
    };
    let expected = json!({
        "gateways": ["istio-system/seldon-gateway"],
        "hosts": ["*"],
        "http": [
            {
                "name": "http",
                "match": [{"uri": {"prefix": "/seldon/models/iris/"}}],
                "rewrite": {"uri": "/"},
                "retries": retries,
                "route": [to("main", 8000, 75), to("canary", 8000, 25)],
            },
            {
                "name": "grpc",
                "match": [{
                    "headers": {"namespace": {"exact": "models"}, "seldon": {"exact": "iris"}},
                    "uri": {"regex": ".*tensorflow.*|.*seldon.protos.*|.*inference.*"},
                }],
                "retries": retries,
                "route": [to("main", 5001, 75), to("canary", 5001, 25)],
            },
        ],
    });
    assert_eq!(object["spec"], expected);
    assert!(is_ours(&object, UID) && !is_ours(&object, "another"));
    assert_eq!(stamp::read(&object, "models/iris").unwrap().unwrap().seq, 3);
}

#[test]
fn when_it_is_there_as_it_should_be_nothing_is_written() {
    let plan = plan(&json!({}), &json!({}));
    for weight in [0, 25, 100] {
        let object = stored(created(&plan, &setting(weight)));
        let outlook = outlook(&[object], &plan, &setting(weight), &stamp(3, weight));
        assert!(outlook.in_place(), "{outlook:?}");
    }
}

#[test]
fn whatever_else_stands_in_it_is_put_back_under_its_version() {
    type Change = fn(&mut Value);
    let plan = plan(&json!({}), &json!({}));
    let right = stored(created(&plan, &setting(25)));
    let changes: [Change; 6] = [
        |o| o["spec"]["hosts"] = json!(["evil.example.com"]),
        |o| o["spec"]["http"][0]["route"][0]["weight"] = json!(1),
        |o| o["spec"]["http"] = json!([]),
        |o| o["spec"]["http"][1]["timeout"] = json!("1s"),
        |o| o["spec"]["tcp"] = json!([]),
        |o| o["spec"]["http"][0]["route"] = json!([{"destination": {"host": "other"}, "weight": 100}]),
    ];
    for change in changes {
        let mut wrong = right.clone();
        change(&mut wrong);
        let outlook = outlook(&[wrong.clone()], &plan, &setting(25), &stamp(3, 25));
        let [effect] = outlook.effects.as_slice() else { panic!("{outlook:?}") };
        assert_eq!(serde_json::to_value(&effect.patch).unwrap()[0]["value"], "7");
        json_patch::patch(&mut wrong, &effect.patch).unwrap();
        assert_eq!(wrong["spec"], right["spec"]);
    }
}

#[test]
fn calls_of_grpc_come_to_their_route_whatever_the_prefix() {
    let order = |expose: Value| -> Vec<String> {
        let object = created(&plan(&expose, &json!({})), &setting(25));
        let routes = object["spec"]["http"].as_array().unwrap();
        routes.iter().map(|route| route["name"].as_str().unwrap().to_owned()).collect()
    };
    // A call has the path `/inference.GRPCInferenceService/ModelInfer`.
    for expose in [
        json!({"prefix": "/"}),
        json!({"prefix": "/inference.GRPCInferenceService/"}),
        json!({"prefix": "/inference", "rewrite": "/v1"}),
        json!({"delegate": true}),
        json!({"delegate": true, "prefix": "/"}),
    ] {
        assert_eq!(order(expose.clone()), ["grpc", "http"], "{expose}");
    }
    // As the operator has it, where no call can have such a path.
    for expose in
        [json!({}), json!({"prefix": "/iris/v1/"}), json!({"delegate": true, "prefix": "/iris/v1/"})]
    {
        assert_eq!(order(expose.clone()), ["http", "grpc"], "{expose}");
    }
}

#[test]
fn one_whose_routes_are_in_another_order_is_put_right_in_one_write_that_gives_nothing() {
    let plan = plan(&json!({"prefix": "/"}), &json!({}));
    let right = stored(created(&plan, &setting(25)));
    let mut before = right.clone();
    before["spec"]["http"].as_array_mut().unwrap().reverse();
    let outlook = outlook(&[before.clone()], &plan, &setting(25), &stamp(3, 25));
    let [effect] = outlook.effects.as_slice() else { panic!("{outlook:?}") };
    assert!(!effect.gives, "also in a freeze");
    json_patch::patch(&mut before, &effect.patch).unwrap();
    assert_eq!(before["spec"], right["spec"]);
}

#[test]
fn while_the_spec_is_refused_at_rest_nothing_of_a_canary_stays() {
    let mut plan = plan(&json!({}), &json!({}));
    let condition = serde_json::from_value(json!({"headers": {"x-group": {"exact": "beta"}}})).unwrap();
    let in_a_step = Setting {
        matches: vec![PlannedMatch { path: "spec.steps[0].match[0]".to_owned(), condition }],
        mirror: Percent::of(10.0).unwrap(),
        ..setting(50)
    };
    // Somebody brings back what it was in a step, with what was refused since.
    let mut restored = stored(created(&plan, &in_a_step));
    restored["spec"]["hosts"] = json!(["refused.example.com"]);
    for route in restored["spec"]["http"].as_array_mut().unwrap() {
        route["timeout"] = "9s".into();
    }
    restored["spec"]["http"][1]["mirror"] = json!({"host": "iris-canary"});
    plan.expose.as_mut().unwrap().traffic_only = true;
    let at_rest = Setting { known: vec![predictor("canary")], ..Setting::all_to(predictor("main")) };
    let outlook = outlook(&[restored.clone()], &plan, &at_rest, &stamp(9, 0));
    let [effect] = outlook.effects.as_slice() else { panic!("{outlook:?}") };
    json_patch::patch(&mut restored, &effect.patch).unwrap();
    let routes = restored["spec"]["http"].as_array().unwrap();
    let names: Vec<&Value> = routes.iter().map(|route| &route["name"]).collect();
    assert_eq!(names, ["http", "grpc"], "without those for the match");
    assert!(!restored["spec"].to_string().contains("iris-canary"), "{}", restored["spec"]);
    assert_eq!(restored["spec"]["hosts"], json!(["refused.example.com"]), "what is no traffic stays");
    assert!(routes.iter().all(|route| route["timeout"] == "9s"), "{routes:?}");
}

#[test]
fn one_of_that_name_that_is_not_ours_is_never_written() {
    let plan = plan(&json!({}), &json!({}));
    for owners in
        [json!([]), json!([{"kind": "SeldonDeployment", "name": "iris", "uid": "x", "controller": true}])]
    {
        let mut object = stored(created(&plan, &setting(25)));
        object["metadata"]["ownerReferences"] = owners;
        let objects = [object];
        let outlook = outlook(&objects, &plan, &setting(0), &stamp(4, 0));
        assert!(outlook.effects.is_empty() && outlook.generated.is_empty(), "{outlook:?}");
        assert_eq!(outlook.forbidden, [("models".to_owned(), "iris".to_owned())]);
        let refusal =
            with_world(&objects, |world| accept_generated(world, &plan, UID, None, None)).unwrap_err();
        assert_eq!(refusal.reason, Reason::NameTaken);
        assert!(refusal.message.contains("VirtualService models/iris is there and"), "{}", refusal.message);
    }
}

#[test]
fn a_later_decision_on_it_is_not_overwritten() {
    let plan = plan(&json!({}), &json!({}));
    let mut object = stored(created(&plan, &setting(0)));
    stamp::write(&mut object, "models/iris", &stamp(9, 0)).unwrap();
    let outlook = outlook(&[object], &plan, &setting(25), &stamp(3, 25));
    assert_eq!((outlook.effects.len(), outlook.ahead.len()), (0, 1));
}

#[test]
fn rules_have_the_subsets_and_one_that_is_in_use_stays() {
    let plan = plan(&json!({}), &json!({}));
    with_world(&[], |world| {
        let writes = carrier::rules(world, &plan, &setting(25), UID, &BTreeMap::new());
        let specs: Vec<_> = writes
            .iter()
            .map(|write| match &write.write {
                Write::Create(object) => (write.object.1.as_str(), object["spec"].clone()),
                Write::Patch(_) => panic!("{write:?}"),
            })
            .collect();
        let rule = |name: &str| {
            json!({
                "host": format!("iris-{name}.models.svc.cluster.local"),
                "subsets": [{"name": name, "labels": {"version": name}}],
                "trafficPolicy": {"connectionPool": {"http": {"idleTimeout": "60s"}}},
            })
        };
        assert_eq!(specs, [("iris-canary", rule("canary")), ("iris-main", rule("main"))]);
        let there = |writes: &[Generated]| -> BTreeMap<ObjectName, Value> {
            let object = |write: &Generated| match &write.write {
                Write::Create(object) => (write.object.clone(), stored(object.clone())),
                Write::Patch(_) => panic!("{write:?}"),
            };
            writes.iter().map(object).collect()
        };
        let mut there = there(&writes);
        assert!(carrier::rules(world, &plan, &setting(25), UID, &there).is_empty());
        let main = there.get_mut(&("models".to_owned(), "iris-main".to_owned())).unwrap();
        main["spec"]["host"] = "other".into();
        assert_eq!(carrier::rules(world, &plan, &setting(25), UID, &there).len(), 1, "drift is put back");
    });
}

#[test]
fn subsets_of_one_service_share_a_rule_and_none_is_taken_away() {
    let spec = json!({"target": {"service": {"name": "iris", "subset": "v2"}}, "expose": {}});
    let plan = Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap();
    let of =
        |subset: &str| Predictor { subset: Some(subset.into()), ..Predictor::new("models", "iris", 8000) };
    with_world(&[], |world| {
        let both = Setting { canary: Some(of("v2")), ..Setting::all_to(of("v1")) };
        let writes = carrier::rules(world, &plan, &both, UID, &BTreeMap::new());
        let [Generated { object, write: Write::Create(rule), .. }] = writes.as_slice() else {
            panic!("{writes:?}")
        };
        assert_eq!(rule["spec"]["subsets"].as_array().map(Vec::len), Some(2));
        let there = BTreeMap::from([(object.clone(), stored(rule.clone()))]);
        assert!(carrier::rules(world, &plan, &Setting::all_to(of("v2")), UID, &there).is_empty());
    });
}

#[test]
fn with_a_tls_mode_there_are_rules_without_subsets_too() {
    let spec = json!({
        "target": {"service": {"name": "v2"}}, "expose": {}, "annotations": {"seldon.io/istio-tls-mode": "ISTIO_MUTUAL"},
    });
    let plan = Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap();
    let setting = Setting::all_to(Predictor::new("models", "v1", 8000));
    with_world(&[], |world| {
        let writes = carrier::rules(world, &plan, &setting, UID, &BTreeMap::new());
        let [Generated { write: Write::Create(rule), .. }] = writes.as_slice() else { panic!("{writes:?}") };
        let expected = json!({"host": "v1.models.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}});
        assert_eq!(rule["spec"], expected);
        // Somebody else's rule with another mode is in the way; one with the same is as good.
        let other = |mode: &str| {
            let object =
                json!({"metadata": {"name": "v1"}, "spec": {"trafficPolicy": {"tls": {"mode": mode}}}});
            BTreeMap::from([(("models".to_owned(), "v1".to_owned()), object)])
        };
        assert!(carrier::accept_rules(world, &plan, &setting, UID, &other("ISTIO_MUTUAL")).is_ok());
        let refusal = carrier::accept_rules(world, &plan, &setting, UID, &other("DISABLE")).unwrap_err();
        assert_eq!(refusal.reason, Reason::NameTaken);
    });
}

#[test]
fn a_tls_mode_that_is_not_asked_for_any_more_goes() {
    let plan = |annotations: Value| {
        let spec = json!({"target": {"service": {"name": "v2"}}, "expose": {}, "annotations": annotations});
        Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap()
    };
    let (with, without) = (plan(json!({"seldon.io/istio-tls-mode": "SIMPLE"})), plan(json!({})));
    let setting = Setting::all_to(Predictor::new("models", "v1", 8000));
    with_world(&[], |world| {
        let rules = |plan: &Plan, uid: &str, there: &BTreeMap<ObjectName, Value>| {
            carrier::rules(world, plan, &setting, uid, there)
        };
        assert!(rules(&without, UID, &BTreeMap::new()).is_empty(), "none is made for that");
        let writes = rules(&with, UID, &BTreeMap::new());
        let [Generated { object, write: Write::Create(rule), .. }] = writes.as_slice() else {
            panic!("{writes:?}")
        };
        assert!(carrier::rule_names(world, &without, &setting).contains(object), "it is read");
        let mut rule = stored(rule.clone());
        // From when it was a subset.
        rule["spec"]["subsets"] = json!([{"name": "old", "labels": {"version": "old"}}]);
        let there = BTreeMap::from([(object.clone(), rule.clone())]);
        assert!(rules(&without, "another", &there).is_empty(), "somebody else's stays");
        let writes = rules(&without, UID, &there);
        let [Generated { kind: Kind::DestinationRule, write: Write::Patch(patch), .. }] = writes.as_slice()
        else {
            panic!("{writes:?}")
        };
        json_patch::patch(&mut rule, patch).unwrap();
        let expected = json!({"connectionPool": {"http": {"idleTimeout": "60s"}}});
        assert_eq!(rule["spec"]["trafficPolicy"], expected);
        assert_eq!(rule["spec"]["subsets"][0]["name"], "old", "whoever still names it is answered");
        let there = BTreeMap::from([(object.clone(), rule)]);
        assert!(rules(&without, UID, &there).is_empty(), "once");
    });
}

#[test]
fn a_subset_that_is_in_no_rule_is_refused() {
    let names = HostNames::default();
    let rule = |host: &str, subset: &str| json!({"metadata": {"name": "r", "namespace": "models"}, "spec": {"host": host, "subsets": [{"name": subset}]}});
    let green = predictor("green");
    for host in ["iris-green", "iris-green.models.svc.cluster.local"] {
        assert!(carrier::accept_subset(&names, &green, &[rule(host, "green")]).is_ok());
    }
    for (rules, seen) in [
        (vec![], "there is none for that host"),
        (vec![rule("other", "green")], "there is none for that host"),
        (vec![rule("iris-green", "blue")], "not in r"),
    ] {
        let refusal = carrier::accept_subset(&names, &green, &rules).unwrap_err();
        assert_eq!(refusal.reason, Reason::SubsetNotFound);
        assert!(refusal.message.contains(seen), "{}", refusal.message);
    }
}

// === delegation ===

fn delegator(http: &Value) -> Value {
    json!({"metadata": {"name": "root", "namespace": "web"}, "spec": {"hosts": ["*"], "http": http}})
}

fn to_iris() -> Value {
    json!({"name": "iris", "namespace": "models"})
}

#[test]
fn what_is_delegated_to_has_no_hosts_and_takes_what_it_is_given() {
    let object = created(&plan(&json!({"delegate": true}), &json!({})), &setting(25));
    let spec = &object["spec"];
    assert!(spec.get("hosts").is_none() && spec.get("gateways").is_none(), "{spec}");
    let names: Vec<_> = spec["http"].as_array().unwrap().iter().map(|route| route["name"].clone()).collect();
    assert_eq!(names, ["grpc", "http"], "the route that takes everything comes last");
    assert!(spec["http"][1].get("match").is_none() && spec["http"][0]["match"][0].get("uri").is_none());
}

#[test]
fn delegates_are_found_in_their_namespaces() {
    let spec = json!({"http": [{"delegate": {"name": "a"}}, {"delegate": to_iris()}, {"route": []}, {"delegate": {"name": "a"}}]});
    let pair = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
    assert_eq!(delegates_to(&spec, "web"), [pair("models", "iris"), pair("web", "a")]);
}

#[test]
fn a_delegate_that_nobody_delegates_to_is_refused_and_made_all_the_same() {
    let plan = plan(&json!({"delegate": true}), &json!({}));
    assert!(with_world(&[], |world| accept_generated(world, &plan, UID, None, Some(&[]))).is_ok());
    let refusal = accept_delegated(&plan, Some(&[])).unwrap_err();
    assert_eq!(refusal.reason, Reason::NotDelegated);
    assert!(refusal.stops_starts_only());
    assert!(refusal.message.contains("delegate {name: iris, namespace: models}"), "{}", refusal.message);
    // Where the others cannot be seen nobody knows.
    assert!(accept_delegated(&plan, None).is_ok());
    let root = delegator(&json!([{"delegate": to_iris()}]));
    assert!(accept_delegated(&plan, Some(&[root])).is_ok());
}

#[test]
fn matches_that_istio_would_drop_are_refused() {
    let accepts = |expose: &Value, matches: &Value| {
        let plan = plan(expose, &json!({}));
        let root = delegator(&json!([{"match": matches, "delegate": to_iris()}]));
        with_world(&[], |world| accept_generated(world, &plan, UID, Some(&setting(25)), Some(&[root])))
    };
    let (plain, within) = (json!({"delegate": true}), json!({"delegate": true, "prefix": "/iris/v1/"}));
    for (expose, matches) in [
        (&plain, json!([{"uri": {"prefix": "/iris/"}}])),
        (&plain, json!([{"uri": {"regex": "/iris/.*"}}])),
        (&within, json!([{"uri": {"prefix": "/iris/"}}])),
        (&within, json!([])),
        (&within, json!([{"headers": {"x": {"exact": "y"}}}])),
    ] {
        assert_eq!(accepts(expose, &matches), Ok(()), "{expose} {matches}");
    }
    for (expose, matches, field) in [
        (&within, json!([{"uri": {"regex": "/iris/.*"}}]), "uri"),
        (&within, json!([{"uri": {"prefix": "/other/"}}]), "uri"),
        (&within, json!([{"uri": {"exact": "/iris/v1/"}}]), "uri"),
        (&plain, json!([{"headers": {"seldon": {"regex": ".*"}}}]), "headers[seldon]"),
        (&plain, json!([{"headers": {"seldon": {}}}]), "headers[seldon]"),
        (&within, json!([{"uri": {"prefix": "/iris/"}, "ignoreUriCase": true}]), "ignoreUriCase"),
        (&within, json!([{"sourceNamespace": "web"}]), "sourceNamespace"),
        // One of two is enough: who comes in by it would get no answer.
        (&within, json!([{"uri": {"prefix": "/iris/"}}, {"uri": {"prefix": "/other/"}}]), "uri"),
    ] {
        let refusal = accepts(expose, &matches).unwrap_err();
        assert_eq!(refusal.reason, Reason::DelegateConflict);
        let expected = format!("VirtualService web/root delegates to models/iris with a match of {field}");
        assert!(refusal.message.contains(&expected), "{}", refusal.message);
    }
}

#[test]
fn a_match_of_a_step_is_compared_like_all_others() {
    let spec = json!({
        "target": {"service": {"name": "iris-v2"}}, "expose": {"delegate": true},
        "steps": [{"weight": 5}, {"match": [{"headers": {"x-user": {"prefix": "a"}}}]}],
    });
    let plan = Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap();
    let root = delegator(&json!([{"match": [{"headers": {"x-user": {}}}], "delegate": to_iris()}]));
    let refusal =
        with_world(&[], |world| accept_generated(world, &plan, UID, Some(&setting(0)), Some(&[root])));
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.reason, Reason::DelegateConflict, "{}", refusal.message);
    assert!(refusal.message.contains("a match of headers[x-user]"), "{}", refusal.message);
}

#[test]
fn a_step_that_the_route_for_grpc_cannot_show_is_refused_with_its_path() {
    let spec = json!({
        "target": {"seldonDeployment": {"name": "iris", "predictor": "canary"}}, "expose": {},
        "steps": [{"weight": 5}, {"match": [{"uri": {"prefix": "/v2/"}}]}],
    });
    let plan = Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap();
    let refusal =
        with_world(&[], |world| accept_generated(world, &plan, UID, Some(&setting(0)), None)).unwrap_err();
    assert!(refusal.message.contains("match"), "{}", refusal.message);
}

#[test]
fn a_step_that_asks_for_what_is_exposed_would_take_all_of_it() {
    for (expose, condition) in [
        (json!({}), json!({"uri": {"prefix": "/seldon/models/iris/"}})),
        (json!({"prefix": "/iris/"}), json!({"uri": {"prefix": "/iris/"}})),
    ] {
        let spec = json!({
            "target": {"seldonDeployment": {"name": "iris", "predictor": "canary"}}, "expose": expose,
            "steps": [{"match": [condition]}, {"weight": 5}],
        });
        let plan = Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap();
        let refusal = with_world(&[], |world| accept_generated(world, &plan, UID, Some(&setting(0)), None));
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.reason, Reason::RouteConflict, "{}", refusal.message);
        assert!(refusal.message.contains("found spec.steps[0].match[0], which"), "{}", refusal.message);
    }
}

#[test]
fn a_step_that_asks_for_what_is_delegated_would_take_all_of_it() {
    let beta = json!({"x-group": {"exact": "beta"}});
    let spec = json!({
        "target": {"seldonDeployment": {"name": "iris", "predictor": "canary"}}, "expose": {"delegate": true},
        "steps": [{"weight": 5}, {"match": [{"headers": beta}]}],
    });
    let plan = Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap();
    let accepts = |http: Value| {
        let roots = [delegator(&http)];
        with_world(&[], |world| accept_generated(world, &plan, UID, Some(&setting(0)), Some(&roots)))
    };
    let only = json!({"match": [{"headers": beta, "uri": {"prefix": "/"}}], "delegate": to_iris()});
    let refusal = accepts(json!([only])).unwrap_err();
    assert_eq!(refusal.reason, Reason::RouteConflict, "{}", refusal.message);
    let expected = "spec.steps[1].match[0]: expected something that not every request meets which is delegated to models/iris";
    assert!(refusal.message.starts_with(expected), "{}", refusal.message);
    // Others come in another way, or go somewhere else.
    assert_eq!(accepts(json!([only, {"delegate": to_iris()}])), Ok(()));
    assert_eq!(
        accepts(json!([{"match": [{"headers": beta}], "delegate": {"name": "a"}}, {"delegate": to_iris()}])),
        Ok(())
    );
}
