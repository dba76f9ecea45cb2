//! What `docs/gitops.md` tells tools to leave to Sluice is all that steps write.

use serde_json::{Value, json};
use sluice_core::{
    HostNames, Predictor,
    api::MIRRORS,
    carrier::{self, World},
    machine,
    plan::Plan,
    traffic::{Cluster, Setting, stamp::Stamp},
};

use crate::{blocks, read, root};

/// A VirtualService as Git has it, with policies and a mirror of its owner's.
fn in_git() -> Value {
    let to = |host: &str| json!({"destination": {"host": host, "port": {"number": 8000}}});
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "iris", "namespace": "models", "resourceVersion": "7", "annotations": {"team": "flowers"}},
        "spec": {
            "hosts": ["iris.example.com"], "gateways": ["istio-system/public"],
            "http": [
                {
                    "name": "primary", "timeout": "5s", "route": [to("iris-v1")],
                    "mirror": {"host": "audit"}, "mirrorPercentage": {"value": 5.0},
                },
                {"name": "other", "route": [to("wine")]},
            ],
        },
    })
}

/// What the cluster has at each step, with the word for what the step asks.
fn in_cluster() -> Vec<(&'static str, Value)> {
    let steps = [
        ("weight", json!({"weight": 25})),
        ("match", json!({"match": [{"headers": {"x-group": {"exact": "beta"}}}]})),
        ("sticky", json!({"weight": 25, "sticky": {"cookie": {"name": "arm"}}})),
        ("sticky", json!({"weight": 25, "sticky": {"header": "x-user-hash"}})),
        ("mirror", json!({"mirror": 50})),
    ];
    let all: Vec<&Value> = steps.iter().map(|(_, step)| step).collect();
    let spec = json!({
        "target": {"service": {"name": "iris-v2"}}, "routes": [{"virtualService": "iris", "http": ["primary"]}],
        "steps": all,
    });
    let plan = Plan::named(&serde_json::from_value(spec).unwrap(), "models", "iris").unwrap();
    let iris = |version: u8| Predictor::new("models", format!("iris-v{version}"), 8000);
    let pair = Setting { canary: Some(iris(2)), ..Setting::all_to(iris(1)) };
    let before = in_git();
    let name = ("models".to_owned(), "iris".to_owned());
    let world = World {
        namespace: "models",
        name: "iris",
        virtual_services: [(name, &before)].into_iter().collect(),
        cluster: Cluster { names: &HostNames::default(), ports: &|_, _| Some(vec![8000]) },
    };
    let at_step = |index: usize| {
        let stamp = Stamp { uid: "u-1".to_owned(), seq: 3, ..Stamp::default() };
        let setting = machine::with_step(pair.clone(), &plan, index);
        let outlook = carrier::effects(&world, &plan, &setting, &stamp);
        assert!(outlook.obstacles.is_empty(), "{:?}", outlook.obstacles);
        let mut after = before.clone();
        json_patch::patch(&mut after, &outlook.effects[0].patch).unwrap();
        after
    };
    steps.iter().enumerate().map(|(index, (word, _))| (*word, at_step(index))).collect()
}

/// The manifest of this kind on the page.
fn manifest(kind: &str) -> Value {
    let text = read(&root("docs/gitops.md"));
    let yaml = blocks(&text).into_iter().filter(|(language, ..)| language == "yaml");
    let mut documents = yaml.flat_map(|(.., block)| serde_saphyr::from_multiple::<Value>(&block).unwrap());
    documents.find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn texts(list: &Value) -> Vec<String> {
    let texts: Vec<String> = serde_json::from_value(list.clone()).unwrap();
    assert!(!texts.is_empty());
    texts
}

/// A jq path of plain fields as a JSON pointer.
fn pointer(expression: &str) -> String {
    let (fields, key) = expression.split_once('[').unwrap_or((expression, ""));
    let key = key.trim_matches(['[', ']', '"']).replace('/', "~1");
    let key = if key.is_empty() { key } else { format!("/{key}") };
    format!("{}{key}", fields.replace('.', "/"))
}

fn without(mut object: Value, pointer: &str) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    if let Some(fields) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        fields.remove(&field.replace("~1", "/"));
    }
    object
}

#[test]
fn argo_cd_sees_no_difference_at_any_step() {
    let ignored = &manifest("Application")["spec"]["ignoreDifferences"][0];
    let paths: Vec<String> = texts(&ignored["jqPathExpressions"]).iter().map(|path| pointer(path)).collect();
    let seen = |object: &Value| paths.iter().fold(object.clone(), |object, path| without(object, path));
    for (step, object) in in_cluster() {
        assert_ne!(object, in_git(), "{step}");
        let mut there = seen(&object);
        there["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(there, seen(&in_git()), "{step}");
    }
    assert_eq!(seen(&in_git())["spec"]["hosts"], in_git()["spec"]["hosts"], "all else is Git's");
}

#[test]
fn flux_applies_what_is_there_at_any_step() {
    let paths = texts(&manifest("Kustomization")["spec"]["ignore"][0]["paths"]);
    for (step, object) in in_cluster() {
        // It takes from the cluster what is at the place of each path in its own manifest.
        let mut applied = in_git();
        for path in &paths {
            let there = object.pointer(path).unwrap_or_else(|| panic!("{step}: nothing at {path}"));
            *applied.pointer_mut(path).unwrap_or_else(|| panic!("Git has nothing at {path}")) = there.clone();
        }
        assert_eq!(applied["spec"], object["spec"], "{step}");
    }
}

/// What a step changes in the route of its owner, and the names of routes that it adds.
fn written(object: &Value) -> (Vec<String>, Vec<String>) {
    let git = in_git()["spec"]["http"][0].clone();
    let (mut changed, mut added) = (Vec::new(), Vec::new());
    for route in object["spec"]["http"].as_array().unwrap() {
        let name = route["name"].as_str().unwrap();
        match name {
            "primary" => {
                let fields = git.as_object().unwrap().keys().chain(route.as_object().unwrap().keys());
                changed.extend(fields.filter(|field| git[*field] != route[*field]).cloned());
            }
            "other" => assert_eq!(*route, in_git()["spec"]["http"][1]),
            added_one => added.push(added_one.to_owned()),
        }
    }
    changed.sort();
    changed.dedup();
    (changed, added)
}

#[test]
fn the_page_says_what_each_sort_of_step_writes() {
    let text = read(&root("docs/gitops.md"));
    let row = |step: &str| {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{step}`")));
        row.unwrap_or_else(|| panic!("no row about {step}")).to_owned()
    };
    for (step, object) in in_cluster() {
        let (changed, added) = written(&object);
        let (fields, routes): (&[&str], &[&str]) = match step {
            "weight" => (&["route"], &[]),
            "match" => (&["route"], &["sluice-models/iris/primary"]),
            "sticky" => {
                (&["route"], &["sluice-models/iris/primary+canary", "sluice-models/iris/primary+stable"])
            }
            "mirror" => (&["mirror", "mirrorPercentage", "mirrors", "route"], &[]),
            other => panic!("{other}"),
        };
        assert_eq!(changed, fields, "{step}");
        assert_eq!(added, routes, "{step}");
        let noted = object["metadata"]["annotations"].get(MIRRORS).is_some();
        assert_eq!(noted, step == "mirror", "{step}");
    }
    for (step, expected) in [
        ("weight", vec!["`route`"]),
        ("match", vec!["`sluice-NAMESPACE/ROLLOUT/ROUTE`", "right before"]),
        ("sticky", vec!["one for each arm", "`headers`"]),
        ("mirror", vec!["`mirrors`", "`mirror` of yours", "`sluice.dev/mirrors`"]),
    ] {
        let row = row(step);
        expected.iter().for_each(|part| assert!(row.contains(part), "{row} lacks {part}"));
    }
}
