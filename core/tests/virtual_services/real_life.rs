//! `VirtualService`s as people and tools write them (`tests/data/virtual_services`), one edit each.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use sluice_core::{
    HostNames, Predictor,
    traffic::{self, Cluster, Selection, Setting, stamp},
};

use crate::oracle::{self, Managed, World};

pub fn data(name: &str) -> Value {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/virtual_services/{name}.yaml"));
    serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn world(domain: &'static str, namespace: &'static str) -> World {
    let ports = BTreeMap::from([
        ("iris-v0.models", vec![8000]),
        ("iris-v1.models", vec![8000]),
        ("iris-v2.models", vec![8000]),
        ("iris-rest-and-rpc.models", vec![8000, 5001]),
        ("iris-batch.models", vec![8000]),
        ("iris-main.models", vec![8000, 5001]),
        ("iris-canary.models", vec![8000, 5001]),
        ("reviews.shop", vec![9080]),
        ("website.front", vec![80]),
        ("wine-v1.models", vec![8000]),
    ]);
    World { domain, namespace, ports }
}

/// One edit of one file.
#[derive(Clone, Copy)]
pub struct Case {
    pub file: &'static str,
    pub http: &'static [&'static str],
    stable: &'static str,
    canary: &'static str,
    weight: u8,
    /// Destinations of the routes that change, by their index: `host[:port][#subset] weight`.
    expected: &'static [(usize, &'static str)],
}

const A: &str = "models/iris-v1:8000";
const B: &str = "models/iris-v2:8000";

pub const fn case(
    file: &'static str,
    http: &'static [&'static str],
    weight: u8,
    expected: &'static [(usize, &'static str)],
) -> Case {
    Case { file, http, stable: A, canary: B, weight, expected }
}

const fn between(case: Case, stable: &'static str, canary: &'static str) -> Case {
    Case { stable, canary, ..case }
}

pub const CASES: &[Case] = &[
    case("plain", &[], 5, &[(0, "iris-v1 95, iris-v2 5")]),
    case(
        "explicit_weight",
        &["primary"],
        50,
        &[(0, "iris-v1.models.svc.cluster.local:8000 50, iris-v2.models.svc.cluster.local:8000 50")],
    ),
    case("canary_ready", &[], 10, &[(0, "iris-v1:8000 90, iris-v2:8000 10")]),
    between(
        case("subsets", &[], 20, &[(1, "reviews#v1 80, reviews#v2 20")]),
        "shop/reviews:9080#v1",
        "shop/reviews:9080#v2",
    ),
    between(
        case(
            "seldon",
            &[],
            50,
            &[(
                0,
                "iris-main.models.svc.cluster.local:8000#main 50, iris-canary.models.svc.cluster.local:8000#canary 50",
            )],
        ),
        "models/iris-main:8000#main",
        "models/iris-canary:8000#canary",
    ),
    between(
        case(
            "seldon_at_rest",
            &[],
            0,
            &[(
                0,
                "iris-main.models.svc.cluster.local:8000#main 100, iris-canary.models.svc.cluster.local:8000#canary 0",
            )],
        ),
        "models/iris-main:8000#main",
        "models/iris-canary:8000#canary",
    ),
    case("several_routes", &["primary"], 5, &[(1, "iris-v1 95, iris-v2 5")]),
    case(
        "several_routes",
        &["batch", "primary"],
        10,
        &[(1, "iris-v1 90, iris-v2 10"), (2, "iris-v1 36, iris-v2 4, iris-batch 60")],
    ),
    case(
        "several_routes",
        &[],
        10,
        &[
            (0, "iris-v1 90, iris-v2 10"),
            (1, "iris-v1 90, iris-v2 10"),
            (2, "iris-v1 36, iris-v2 4, iris-batch 60"),
        ],
    ),
    case("policies", &["primary"], 25, &[(0, "iris-v1:8000 75, iris-v2:8000 25")]),
    case("mirror", &[], 25, &[(0, "iris-v1 75, iris-v2 25"), (1, "iris-v1 75, iris-v2 25")]),
    case(
        "delegates",
        &[],
        25,
        &[(1, "iris-v1.models.svc.cluster.local 75, iris-v2.models.svc.cluster.local 25")],
    ),
    case("delegate_target", &["primary"], 100, &[(1, "iris-v1 0, iris-v2 100")]),
    case("redirects", &[], 1, &[(2, "iris-v1 99, iris-v2 1")]),
    case("tcp_tls", &[], 30, &[(0, "iris-v1:8000 70, iris-v2:8000 30")]),
    case("foreign", &["primary"], 50, &[(0, "iris.vendor.example 33, iris-v1 34, iris-v2 33")]),
    case(
        "missing_weights",
        &["primary"],
        25,
        &[(0, "iris-experiment -, iris-v1 60, iris-fallback:8000 20, iris-v2 20")],
    ),
    case(
        "gateway_namespace",
        &[],
        5,
        &[(0, "iris-v1.models.svc.cluster.local 95, iris-v2.models.svc.cluster.local 5")],
    ),
    between(
        case("ports", &["rest"], 5, &[(0, "iris-v1 95, iris-rest-and-rpc:8000 5")]),
        A,
        "models/iris-rest-and-rpc:8000",
    ),
    between(case("ports", &[], 5, &[(0, "iris-v1 95, gone:8000 5")]), A, "models/gone:8000"),
    between(
        case("plain", &[], 5, &[(0, "iris-v1 95, iris-v2.elsewhere.svc.cluster.local:8000 5")]),
        A,
        "elsewhere/iris-v2:8000",
    ),
    case("unknown_fields", &[], 5, &[(0, "iris-v1 95, iris-v2 5")]),
    case(
        "applied",
        &["primary"],
        5,
        &[(0, "iris-v1.models.svc.cluster.local:8000 95, iris-v2.models.svc.cluster.local:8000 5")],
    ),
    case("preview", &["primary"], 5, &[(1, "iris-v1 95, iris-v2 5")]),
    case("preview", &[], 0, &[(0, "iris-v1 100, iris-v2 0"), (1, "iris-v1 100, iris-v2 0")]),
    case(
        "grpc",
        &["infer"],
        5,
        &[(0, "iris-v1.models.svc.cluster.local:8000 95, iris-v2.models.svc.cluster.local:8000 5")],
    ),
    case(
        "other_domain",
        &[],
        5,
        &[(0, "iris-v1.models.svc.corp.example 95, iris-v2.models.svc.corp.example 5")],
    ),
    case(
        "many_destinations",
        &[],
        33,
        &[(
            0,
            "iris-small:8000 11, iris-v2:8000 12, iris-large:8000 22, iris-v1:8000 25, iris-v1:9000 13, iris-v1:8000#gpu 17",
        )],
    ),
    case("same_names", &["route"], 5, &[(0, "iris-v1 95, iris-v2 5"), (1, "iris-v1 95, iris-v2 5")]),
    case("stamped", &["iris"], 50, &[(1, "iris-v1 50, iris-v2 50, iris-v0 0")]),
];

impl Case {
    /// Its weight and nothing else.
    pub fn setting(&self) -> Setting {
        let canary = Some(self.canary.parse().unwrap());
        Setting { canary, weight: self.weight, ..Setting::all_to(self.stable.parse().unwrap()) }
    }

    /// The same with another weight.
    pub fn setting_of(&self, weight: u8) -> Setting {
        Setting { weight, ..self.setting() }
    }

    pub fn run(&self, vs: &Value, setting: &Setting) -> Value {
        self.try_run(vs, setting).unwrap_or_else(|error| panic!("{}: {error}", self.file))
    }

    pub fn try_run(&self, vs: &Value, setting: &Setting) -> Result<Value, traffic::RouteError> {
        let world = self.world(vs);
        let names = HostNames { cluster_domain: world.domain.to_owned(), ..HostNames::default() };
        let ports = |namespace: &str, service: &str| world.ports_of(namespace, service);
        let cluster = Cluster { names: &names, ports: &ports };
        traffic::edit(vs, &self.selection(vs), setting, &cluster)
    }

    fn selection(&self, vs: &Value) -> Selection {
        let text = |field: &str| vs["metadata"][field].as_str().unwrap().to_owned();
        let http = self.http.iter().map(|name| (*name).to_owned()).collect();
        Selection {
            namespace: text("namespace"),
            name: text("name"),
            rollout: "models/iris".into(),
            http,
            tcp: Vec::new(),
            tls: Vec::new(),
        }
    }

    pub fn world(&self, vs: &Value) -> World {
        let domain = if self.file == "other_domain" { "corp.example" } else { "cluster.local" };
        let mut world = world(domain, "models");
        world.namespace = match vs["metadata"]["namespace"].as_str().unwrap() {
            "models" => "models",
            "shop" => "shop",
            "istio-system" => "istio-system",
            other => panic!("{other} is not in the tests' cluster"),
        };
        world
    }
}

fn shown(route: &Value) -> String {
    let one = |entry: &Value| {
        let destination = &entry["destination"];
        let port = destination["port"]["number"].as_u64().map_or(String::new(), |port| format!(":{port}"));
        let subset = destination["subset"].as_str().map_or(String::new(), |subset| format!("#{subset}"));
        let weight = entry["weight"].as_u64().map_or("-".to_owned(), |weight| weight.to_string());
        format!("{}{port}{subset} {weight}", destination["host"].as_str().unwrap())
    };
    oracle::entries(route).iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn each_gets_its_canary_and_keeps_the_rest() {
    for case in CASES {
        let before = data(case.file);
        let setting = case.setting();
        let after = case.run(&before, &setting);
        let changed: Vec<_> = (0..before["spec"]["http"].as_array().unwrap().len())
            .filter(|index| before["spec"]["http"][*index] != after["spec"]["http"][*index])
            .map(|index| (index, shown(&after["spec"]["http"][index])))
            .collect();
        let expected: Vec<_> =
            case.expected.iter().map(|(index, text)| (*index, (*text).to_owned())).collect();
        assert_eq!(changed, expected, "{}", case.file);

        let world = case.world(&before);
        let moved = oracle::moved(&world, &Managed::of(&world, &setting), &before, case.http);
        oracle::check(&world, &setting, &before, &after, &moved);
        assert_eq!(case.run(&after, &setting), after, "{}: idempotent", case.file);
    }
}

#[test]
fn each_comes_back_as_it_was_where_stable_was_alone() {
    for case in CASES {
        let before = data(case.file);
        let setting = case.setting();
        let known = setting.canary.clone().into_iter().collect();
        let back = Setting { known, ..Setting::all_to(setting.stable.clone()) };
        let world = case.world(&before);
        let canary = world.key_of(setting.canary.as_ref().unwrap());
        let moved = oracle::moved(&world, &Managed::of(&world, &setting), &before, case.http);
        let alone =
            |index: &usize| !oracle::weights(&world, &before["spec"]["http"][*index]).contains_key(&canary);
        if !moved.iter().all(alone) {
            continue;
        }
        let after = case.run(&case.run(&before, &setting), &back);
        // What had no weight because it was alone has a written one now.
        let mut expected = before;
        for index in moved {
            let route = &mut expected["spec"]["http"][index]["route"];
            if let [only] = route.as_array_mut().unwrap().as_mut_slice() {
                only["weight"] = 100.into();
            }
        }
        assert_eq!(after, expected, "{}", case.file);
    }
}

#[test]
fn at_rest_nothing_changes_in_any_of_them() {
    for case in CASES {
        let before = data(case.file);
        let rest = Setting::all_to(case.stable.parse().unwrap());
        // Where only the canary is listed, stable is not there to be left alone.
        if case.file == "preview" && case.http.is_empty() {
            continue;
        }
        assert_eq!(case.run(&before, &rest), before, "{}", case.file);
    }
}

#[test]
fn the_patch_of_each_is_small_and_leads_to_the_edited_one() {
    for case in CASES {
        let before = data(case.file);
        let after = case.run(&before, &case.setting());
        let Some(patch) = traffic::patch(&before, &after) else {
            assert_eq!(before, after, "{}", case.file);
            continue;
        };
        let mut patched = before.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched, after, "{}", case.file);
        // The fence; then for each route one weight and one destination, or two weights.
        assert!(patch.0.len() <= 1 + 2 * case.expected.len(), "{}: {patch}", case.file);
    }
}

#[test]
fn what_cannot_be_moved_is_refused_and_says_why() {
    let refused = [
        (
            case("kserve", &[], 5, &[]),
            "VirtualService models/iris: spec.http[*].route: expected a destination that is models/iris-v1:8000, models/iris-v2:8000, found istio-system/knative-local-gateway:80",
        ),
        (
            case("tcp_only", &[], 5, &[]),
            "VirtualService models/iris: spec.http: expected http routes, found none",
        ),
        (
            case("delegates", &["users"], 5, &[]),
            "VirtualService models/iris: spec.http[0]: expected a route with destinations, found delegate",
        ),
        (
            case("redirects", &["old-path"], 5, &[]),
            "VirtualService models/iris: spec.http[0]: expected a route with destinations, found redirect",
        ),
        (
            case("redirects", &["health", "primary"], 5, &[]),
            "VirtualService models/iris: spec.http[1]: expected a route with destinations, found directResponse",
        ),
        (
            case("several_routes", &["primary", "main"], 5, &[]),
            "VirtualService models/iris: spec.http: expected an http route named \"main\", found pinned, primary, batch, fallback",
        ),
        (
            case("plain", &["primary"], 5, &[]),
            "VirtualService models/iris: spec.http: expected an http route named \"primary\", found no named route",
        ),
        (
            case("several_routes", &["fallback"], 5, &[]),
            "VirtualService models/iris: spec.http[3].route: expected a destination that is models/iris-v1:8000, models/iris-v2:8000, found front/website:80",
        ),
        (
            case("other_domain", &["not-ours"], 5, &[]),
            "VirtualService models/iris: spec.http[1].route: expected a destination that is models/iris-v1:8000, models/iris-v2:8000, found iris-v1.models.svc.cluster.local",
        ),
        (
            case("ports", &["metrics"], 5, &[]),
            "VirtualService models/iris: spec.http[1].route: expected a destination that is models/iris-v1:8000, models/iris-v2:8000, found models/iris-v1:6000",
        ),
    ];
    for (case, expected) in refused {
        let error = case.try_run(&data(case.file), &case.setting()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{}", case.file);
    }
}

#[test]
fn two_hundred_routes_are_moved_and_the_others_are_not() {
    let case = case("two_hundred_routes", &[], 5, &[]);
    let before = data(case.file);
    let setting = case.setting();
    let after = case.run(&before, &setting);
    let world = case.world(&before);
    let moved = oracle::moved(&world, &Managed::of(&world, &setting), &before, &[]);
    assert_eq!(moved.len(), 160);
    oracle::check(&world, &setting, &before, &after, &moved);
    let patch = traffic::patch(&before, &after).unwrap();
    assert_eq!(patch.0.len(), 1 + 2 * 160);
    let mut patched = before;
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched, after);
}

#[test]
fn a_loser_leaves_and_the_neighbours_stamp_stays() {
    let case = case("stamped", &["iris"], 0, &[]);
    let before = data(case.file);
    let loser: Predictor = "models/iris-v0:8000".parse().unwrap();
    let setting = Setting { known: vec![loser], ..case.setting() };
    let mut after = case.run(&before, &setting);
    assert_eq!(shown(&after["spec"]["http"][1]), "iris-v1 100, iris-v2 0");

    let ours = stamp::read(&before, "models/iris").unwrap().unwrap();
    assert_eq!((ours.seq, ours.setting), (41, 25));
    stamp::write(&mut after, "models/iris", &stamp::Stamp { seq: 42, setting: 0, ..ours }).unwrap();
    let text = after["metadata"]["annotations"]["sluice.dev/stamp"].as_str().unwrap();
    let stamps: Value = serde_json::from_str(text).unwrap();
    assert_eq!(stamps["models/iris"]["seq"], 42);
    assert_eq!(
        stamps["models/wine"],
        serde_json::json!({"uid": "b2", "seq": 3, "setting": 0, "later": {"x": 1}})
    );

    let patch = traffic::patch(&before, &after).unwrap();
    let paths: Vec<_> = patch.0.iter().map(|operation| operation.path().to_string()).collect();
    let route = "/spec/http/1/route";
    assert_eq!(
        paths,
        [
            "/metadata/resourceVersion".to_owned(),
            "/metadata/annotations/sluice.dev~1stamp".to_owned(),
            format!("{route}/0/weight"),
            format!("{route}/1/weight"),
            format!("{route}/2"),
        ]
    );
}
