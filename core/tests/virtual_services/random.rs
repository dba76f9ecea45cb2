//! Random `VirtualService`s and settings.

use std::collections::BTreeMap;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::{Value, json};
use sluice_core::{Predictor, traffic::Setting};

use crate::oracle::World;

/// The cluster of the random `VirtualService`s, which are in `models`.
pub fn world() -> World {
    let ports = BTreeMap::from([
        ("iris-v0.models", vec![8000]),
        ("iris-v1.models", vec![8000]),
        ("iris-v2.models", vec![8000]),
        ("two-ports.models", vec![8000, 9000]),
        ("far.other", vec![8000]),
    ]);
    World { domain: "cluster.local", namespace: "models", ports }
}

/// All predictors that settings name.
pub fn pool() -> Vec<Predictor> {
    let revisions = [
        "models/iris-v0:8000",
        "models/iris-v1:8000",
        "models/iris-v2:8000",
        "models/two-ports:8000",
        "other/far:8000",
        "models/iris-v0:8000#gpu",
    ];
    revisions.map(|revision| revision.parse().unwrap()).into()
}

/// Any setting in which every predictor of the pool is known, as it is in a Rollout that has used them all.
pub fn setting() -> impl Strategy<Value = Setting> {
    (select(pool()), option::weighted(0.8, select(pool())), 0..=100_u8, subsequence(pool(), 0..=2)).prop_map(
        |(stable, canary, weight, retiring)| Setting {
            canary,
            weight,
            retiring,
            known: pool(),
            ..Setting::all_to(stable)
        },
    )
}

/// A destination that no setting manages.
fn foreign() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"host": "api.example.com"}),
        json!({"host": "api.example.com", "port": {"number": 443}}),
        json!({"host": "iris-v1", "port": {"number": 9000}}),
        json!({"host": "iris-v1", "subset": "arm64"}),
        json!({"host": "iris-v1.other.svc.cluster.local"}),
        json!({"host": "iris-v1.models"}),
        json!({"host": "nobody-knows"}),
        json!({"host": "iris-v1.models.svc.corp.example"}),
    ])
}

/// One of the ways to write a predictor of the pool.
pub fn written(predictor: &Predictor, short: bool, with_port: bool) -> Value {
    let Predictor { namespace, service, port, subset } = predictor;
    let host = if short && namespace == "models" {
        service.clone()
    } else {
        format!("{service}.{namespace}.svc.cluster.local")
    };
    let mut destination = json!({ "host": host });
    if with_port || service == "two-ports" {
        destination["port"] = json!({ "number": port });
    }
    if let Some(subset) = subset {
        destination["subset"] = json!(subset);
    }
    destination
}

/// What an object carries beside what matters here: known to Istio or not.
fn extras() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let known = select(vec![
        ("headers", json!({"request": {"set": {"x-arm": "a"}, "remove": ["x-b"]}})),
        ("headers", json!({"response": {"add": {"cache-control": "no-store"}}})),
        ("x-unknown", json!({"deep": [{"er": [1, 2.5, null, true]}], "empty": {}})),
        ("x-list", json!([])),
        ("a-first", json!("text")),
        ("z-last", json!(18_446_744_073_709_551_615_u64)),
    ]);
    vec(known, 0..3)
}

fn with(mut object: Value, extras: Vec<(&'static str, Value)>) -> Value {
    for (field, value) in extras {
        object[field] = value;
    }
    object
}

/// Destinations of distinct predictors and of others, in any order, with weights that add up to 100 at most; some
/// are missing.
fn entries(managed: impl Strategy<Value = Vec<Predictor>>) -> impl Strategy<Value = Vec<Value>> {
    let styles = vec((any::<bool>(), any::<bool>()), 6);
    let destinations = (managed, vec(foreign(), 0..3), styles).prop_map(|(managed, mut all, styles)| {
        all.extend(managed.iter().zip(styles).map(|(it, (short, port))| written(it, short, port)));
        all
    });
    destinations
        .prop_filter("a route lists somebody", |all| !all.is_empty())
        .prop_shuffle()
        .prop_flat_map(|all| {
            let count = all.len();
            let extras = vec(extras(), count);
            (Just(all), vec(option::weighted(0.8, 0..=40_u32), count), extras, any::<bool>())
        })
        .prop_map(|(all, raw, extras, full)| {
            let weights = at_most_100(&raw, full);
            let entries = all.into_iter().zip(weights).zip(extras).map(|((destination, weight), extras)| {
                let mut entry = with(json!({}), extras);
                entry["destination"] = destination;
                if let Some(weight) = weight {
                    entry["weight"] = weight.into();
                }
                entry
            });
            entries.collect()
        })
}

/// Cuts the weights where they pass 100; `full` gives the first written one what is left of it.
fn at_most_100(raw: &[Option<u32>], full: bool) -> Vec<Option<u32>> {
    let mut left = 100;
    let cut = |weight: &Option<u32>| {
        let cut = weight.map(|weight| weight.min(left));
        left -= cut.unwrap_or(0);
        cut
    };
    let mut weights: Vec<_> = raw.iter().map(cut).collect();
    if let (true, Some(first)) = (full, weights.iter_mut().flatten().next()) {
        *first += left;
    }
    // Istio refuses several destinations of which none has anything, and one alone with a written 0 is odd.
    let nothing = weights.iter().flatten().sum::<u32>() == 0;
    if nothing && weights != [None] {
        weights[0] = Some(100);
    }
    weights
}

fn other_route() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"name": "old", "redirect": {"uri": "/"}}),
        json!({"directResponse": {"status": 200}}),
        json!({"name": "root", "delegate": {"name": "x", "namespace": "y"}}),
        json!({"route": [{"destination": {"host": "web.front.svc.cluster.local"}}]}),
        json!({"name": "empty", "route": []}),
    ])
}

fn route(managed: impl Strategy<Value = Vec<Predictor>>) -> impl Strategy<Value = Value> {
    (entries(managed), extras(), option::of(0..3_u8)).prop_map(|(entries, extras, name)| {
        let mut route = with(json!({"route": entries, "timeout": "5s"}), extras);
        if let Some(name) = name {
            route["name"] = format!("route-{name}").into();
        }
        route
    })
}

fn with_http(http: &[Value], extras: Vec<(&'static str, Value)>) -> Value {
    let tcp = json!([{"route": [{"destination": {"host": "iris-v1", "port": {"number": 8000}}}]}]);
    let spec = with(json!({"hosts": ["*"], "http": http, "tcp": tcp}), extras.clone());
    let metadata = json!({
        "namespace": "models", "name": "iris", "resourceVersion": "17", "managedFields": [{"manager": "x"}],
    });
    let whole = json!({"kind": "VirtualService", "metadata": metadata, "spec": spec, "status": {"ok": true}});
    with(whole, extras)
}

/// Any `VirtualService` that Istio would take, with at least one route that lists somebody of the pool.
pub fn virtual_service() -> impl Strategy<Value = Value> {
    let listing = route(subsequence(pool(), 1..=4));
    let any_route = prop_oneof![3 => route(subsequence(pool(), 0..=4)), 1 => other_route()];
    (vec(any_route, 0..4), listing, extras())
        .prop_flat_map(|(mut http, listing, extras)| {
            http.push(listing);
            (Just(http).prop_shuffle(), Just(extras))
        })
        .prop_map(|(http, extras)| with_http(&http, extras))
}

/// A `VirtualService` in whose routes `stable` is the only one of the pool.
pub fn with_stable_alone(stable: &Predictor) -> impl Strategy<Value = Value> + use<> {
    let stable = stable.clone();
    let any_route = prop_oneof![3 => route(Just(vec![stable.clone()])), 1 => other_route()];
    (vec(any_route, 0..4), route(Just(vec![stable])), extras()).prop_map(|(mut http, listing, extras)| {
        http.push(listing);
        with_http(&http, extras)
    })
}

/// What Istio would not take, or nobody should write: predictors twice, weights beyond 100, odd types, no routes.
pub fn mess() -> impl Strategy<Value = Value> {
    let odd = select(vec![
        json!(null),
        json!(-1),
        json!("50"),
        json!(101),
        json!(4_294_967_295_u64),
        json!(1.5),
        json!([]),
        json!({}),
        json!("iris-v1"),
        json!(true),
    ]);
    let spots = select(vec![
        "/spec",
        "/spec/http",
        "/spec/http/0",
        "/spec/http/0/route",
        "/spec/http/0/name",
        "/spec/http/0/route/0",
        "/spec/http/0/route/0/weight",
        "/spec/http/0/route/0/destination",
        "/spec/http/0/route/0/destination/host",
        "/spec/http/0/route/0/destination/port",
        "/spec/http/0/route/0/destination/port/number",
        "/spec/http/0/route/0/destination/subset",
        "/metadata",
        "/metadata/annotations",
        "",
    ]);
    (crowded(), vec((spots, odd), 1..4)).prop_map(|(mut vs, odds)| {
        for (spot, odd) in odds {
            if let Some(place) = vs.pointer_mut(spot) {
                *place = odd;
            }
        }
        vs
    })
}

/// Well-formed, but predictors may be listed several times and weights may exceed 100.
pub fn crowded() -> impl Strategy<Value = Value> {
    let managed = (select(pool()), any::<bool>(), any::<bool>()).prop_map(|(it, a, b)| written(&it, a, b));
    let destination = prop_oneof![4 => managed, 1 => foreign()];
    let entry = (destination, option::of(0..=150_u32), extras()).prop_map(|(destination, weight, extras)| {
        let mut entry = with(json!({ "destination": destination }), extras);
        if let Some(weight) = weight {
            entry["weight"] = weight.into();
        }
        entry
    });
    let route = vec(entry, 0..6).prop_map(|entries| json!({"name": "route-0", "route": entries}));
    vec(route, 1..4).prop_map(|http| with_http(&http, Vec::new()))
}
