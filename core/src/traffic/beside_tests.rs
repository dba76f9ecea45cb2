use serde_json::{Value, json};

use super::{
    Cookie, Setting, Sticky, StickyBy, edit,
    testing::{canary, edited, in_cluster, iris, selection, to, with, with_http},
};
use crate::{
    Predictor,
    api::{Match, Percent, Reason},
    plan::PlannedMatch,
};

const A: &str = "iris-v1";
const B: &str = "iris-v2";
const F: &str = "api.example.com";

fn matches(conditions: Value) -> Vec<PlannedMatch> {
    let conditions: Vec<Match> = serde_json::from_value(conditions).unwrap();
    let path = |index| format!("spec.steps[1].match[{index}]");
    let planned = conditions.into_iter().enumerate();
    planned.map(|(index, condition)| PlannedMatch { path: path(index), condition }).collect()
}

fn beta() -> Value {
    json!([{"headers": {"x-group": {"exact": "beta"}}}])
}

fn matching(conditions: Value) -> Setting {
    Setting { matches: matches(conditions), ..canary(0) }
}

fn mirroring(percent: f64) -> Setting {
    let mirror = Percent::of(percent).unwrap();
    Setting { mirror, copies: vec![mirror], ..canary(0) }
}

fn sticky(weight: u8) -> Setting {
    let path = "spec.steps[2].sticky".to_owned();
    let ttl = Some(std::time::Duration::from_hours(1));
    let by = StickyBy::Cookie(Cookie { name: "arm".into(), ttl, token: "t1".into() });
    Setting { sticky: Some(Sticky { path, by }), ..canary(weight) }
}

fn hashed(weight: u8) -> Setting {
    let path = "spec.steps[2].sticky".to_owned();
    Setting { sticky: Some(Sticky { path, by: StickyBy::Header("x-user".into()) }), ..canary(weight) }
}

/// All versions are of the past but the first, which has all.
fn rest() -> Setting {
    Setting { known: vec![iris(2), iris(3)], ..Setting::all_to(iris(1)) }
}

/// Edits, and sees that doing it again changes nothing, that other settings lead to the same, and that it can be undone.
fn after(before: &Value, setting: &Setting) -> Value {
    let once = edited(before, setting).unwrap();
    assert_eq!(edited(&once, setting).unwrap(), once, "idempotent");
    for between in [canary(30), matching(beta()), mirroring(5.0), sticky(20), hashed(40)] {
        // Some of these routes leave no room for some of these settings.
        let Ok(on_the_way) = edited(&once, &between) else { continue };
        let again = edited(&on_the_way, setting).unwrap();
        assert_eq!(unannotated(&again), unannotated(&once), "only the last setting counts");
    }
    assert_eq!(unannotated(&edited(&once, &rest()).unwrap()), *before, "back as it was");
    once
}

/// Without a map of annotations in which there is nothing, as the API server has it.
fn unannotated(object: &Value) -> Value {
    let mut object = object.clone();
    if object["metadata"]["annotations"] == json!({}) {
        object["metadata"].as_object_mut().unwrap().remove("annotations");
    }
    object
}

#[allow(clippy::needless_pass_by_value)] // for literals
fn one(route: Value) -> Value {
    with_http(
        &json!([{"name": "old", "redirect": {"uri": "/"}}, route, {"name": "other", "route": [to("x", None)]}]),
    )
}

fn refused(before: &Value, setting: &Setting) -> String {
    let error = edited(before, setting).unwrap_err();
    assert_eq!(error.reason(), Reason::RouteConflict, "{error}");
    error.to_string()
}

#[test]
fn a_mirror_goes_beside_the_owners_and_the_owners_single_one_comes_back() {
    let ours = |percent: Value| json!({"destination": {"host": B}, "percentage": {"value": percent}});
    let log = json!({"host": "log", "port": {"number": 80}});
    for (own, expected) in [
        (json!({}), json!([])),
        (json!({"mirrors": []}), json!([])),
        (json!({"mirrors": null}), json!([])),
        (json!({"mirrors": [{"destination": log}]}), json!([{"destination": log}])),
        (json!({"mirrors": [{"destination": {"host": B}}]}), json!([{"destination": {"host": B}}])),
        (json!({"mirrors": [ours(json!(5))]}), json!([ours(json!(5))])),
        (json!({"mirror": log}), json!([{"destination": log}])),
        (
            json!({"mirror": log, "mirrorPercentage": {"value": 0.5}}),
            json!([{"destination": log, "percentage": {"value": 0.5}}]),
        ),
        (
            json!({"mirror": log, "mirrorPercent": 5}),
            json!([{"destination": log, "percentage": {"value": 5}}]),
        ),
        (
            json!({"mirror": log, "mirror_percent": 5}),
            json!([{"destination": log, "percentage": {"value": 5}}]),
        ),
        (json!({"mirror": {"host": B}}), json!([{"destination": {"host": B}}])),
    ] {
        let mut route = json!({"name": "primary", "route": [to(A, 100)]});
        for (field, value) in own.as_object().unwrap() {
            route[field] = value.clone();
        }
        let edited = after(&one(route.clone()), &mirroring(12.5));
        let managed = &edited["spec"]["http"][1];
        let mut all = expected.as_array().unwrap().clone();
        all.push(ours(json!(12.5)));
        assert_eq!(managed["mirrors"], json!(all), "{own}");
        assert!(managed.get("mirror").is_none() && managed.get("mirrorPercent").is_none());
        assert_eq!(managed["route"], json!([to(A, 100), to(B, 0)]), "nobody is answered by the canary");
        let whole = edited_to(&edited, &mirroring(100.0));
        assert_eq!(whole["spec"]["http"][1]["mirrors"].as_array().unwrap().last(), Some(&ours(json!(100))));
    }
}

fn edited_to(before: &Value, setting: &Setting) -> Value {
    edited(before, setting).unwrap()
}

#[test]
fn a_tool_that_applies_the_original_again_meanwhile_has_its_way() {
    let original = one(json!({"name": "primary", "route": [to(A, 100)], "mirror": {"host": "log"}}));
    let during = edited_to(&original, &mirroring(100.0));
    // It replaces the spec, and leaves the annotations.
    let mut applied = during.clone();
    applied["spec"] = original["spec"].clone();
    assert_eq!(edited_to(&applied, &mirroring(100.0)), during);
    assert_eq!(unannotated(&edited_to(&applied, &rest())), original);
    // The owner has another mirror now.
    let mut other = during.clone();
    other["spec"]["http"][1]["mirrors"][0]["destination"]["host"] = "other".into();
    let mut expected = original.clone();
    expected["spec"]["http"][1] =
        json!({"name": "primary", "route": [to(A, 100)], "mirrors": [{"destination": {"host": "other"}}]});
    assert_eq!(unannotated(&edited_to(&other, &rest())), expected);
}

#[test]
fn an_owner_who_adds_a_mirror_meanwhile_has_several_and_no_single_one() {
    let original = one(json!({"name": "primary", "route": [to(A, 100)], "mirror": {"host": "log"}}));
    let [log, third] = ["log", "third"].map(|host| json!({"destination": {"host": host}}));
    let mut during = edited_to(&original, &mirroring(100.0));
    during["spec"]["http"][1]["mirrors"].as_array_mut().unwrap().push(third.clone());
    // Whether the step goes on with it for a while or ends at once.
    for during in [edited_to(&during, &mirroring(100.0)), during] {
        let route = edited_to(&during, &rest())["spec"]["http"][1].clone();
        assert_eq!(route["mirrors"], json!([log, third]));
        assert!(route.get("mirror").is_none(), "Istio takes no {route}");
    }
    // One that puts a single one there again means that.
    let mut again = edited_to(&original, &mirroring(100.0));
    again["spec"]["http"][1]["mirror"] = json!({"host": "log"});
    assert_eq!(unannotated(&edited_to(&again, &rest())), original);
}

#[path = "unnoted_tests.rs"]
mod unnoted;

#[test]
fn a_cookie_keeps_clients_on_both_arms() {
    let own = json!({"response": {"add": {"set-cookie": "user=1"}, "set": {"x": "y"}}});
    let route =
        json!({"name": "primary", "timeout": "3s", "route": [with(to(A, 80), "headers", &own), to(F, 20)]});
    let edited = after(&one(route), &sticky(25));
    let http = edited["spec"]["http"].as_array().unwrap();
    let names: Vec<&str> = http.iter().map(|route| route["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["old", "sluice-models/wine/primary+canary", "sluice-models/wine/primary+stable", "primary", "other"]
    );
    let host = |route: usize, entry: usize| http[route]["route"][entry]["destination"]["host"].clone();
    let weights = |route: usize| -> Vec<u64> {
        http[route]["route"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["weight"].as_u64().unwrap())
            .collect()
    };
    assert_eq!((host(1, 0), weights(1)), (json!(B), vec![80, 20]));
    assert_eq!((host(2, 0), weights(2)), (json!(A), vec![80, 20]));
    assert_eq!(weights(3), [60, 20, 20]);
    let cookie = |entry: usize| {
        let add = &http[3]["route"][entry]["headers"]["response"]["add"];
        assert_eq!(add["set-cookie"], "user=1", "the owner's stays");
        add["Set-Cookie"].as_str().unwrap().to_owned()
    };
    let (stable, canary) = (cookie(0), cookie(1));
    assert!(stable.ends_with(".stable.t1; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{stable}");
    for (route, mine, other) in [(1, &canary, &stable), (2, &stable, &canary)] {
        let regex = http[route]["match"][0]["headers"]["cookie"]["regex"].as_str().unwrap();
        let regex = regex::Regex::new(&format!("^(?:{regex})$")).unwrap();
        let pair = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
        for header in [pair(mine), format!("a=b; {}; c=d", pair(mine)), format!("a=b;{}", pair(mine))] {
            assert!(regex.is_match(&header), "{header}");
        }
        for header in [pair(other), format!("x{}", pair(mine)), format!("{}x", pair(mine))] {
            assert!(!regex.is_match(&header), "{header}");
        }
    }
}

#[test]
fn owners_who_leave_no_room_for_a_cookie_are_named() {
    let add = json!({"response": {"add": {"set-cookie": "a", "Set-Cookie": "b"}}});
    let route = json!({"name": "primary", "route": [with(to(A, 100), "headers", &add)]});
    let message = refused(&one(route), &sticky(10));
    assert!(message.contains("spec.http[1].route[1].headers.response.add: expected nothing about set-cookie, which spec.steps[2].sticky"), "{message}");
}

#[test]
fn all_at_once_on_several_routes_and_beside_another_rollout() {
    let other = json!({"name": "sluice-models/wine2/third", "route": [to("w", None)]});
    let routes = json!([
        {"route": [to(A, 100)]},
        other,
        {"name": "twice", "route": [to(A, 100)]},
        {"name": "twice", "match": [{"uri": {"prefix": "/b"}}], "route": [to(A, 100)]},
    ]);
    let setting = Setting { weight: 5, sticky: sticky(5).sticky, mirror: Percent::ALL, ..matching(beta()) };
    let edited = after(&with_http(&routes), &setting);
    let http = edited["spec"]["http"].as_array().unwrap();
    let names: Vec<&str> = http.iter().map(|route| route["name"].as_str().unwrap_or("-")).collect();
    let own = |key: &str| ["", "+canary", "+stable"].map(|end| format!("sluice-models/wine/{key}{end}"));
    let expected: Vec<String> = own("#0")
        .into_iter()
        .chain(["-".to_owned(), "sluice-models/wine2/third".to_owned()])
        .chain(own("twice"))
        .chain(["twice".to_owned()])
        .chain(own("twice#3"))
        .chain(["twice".to_owned()])
        .collect();
    assert_eq!(names, expected);
    for route in
        http.iter().filter(|route| route["name"].as_str().is_some_and(|name| name.contains("/wine/")))
    {
        let stays = route["name"].as_str().is_some_and(|name| name.ends_with("+stable"));
        assert_eq!(route.get("mirrors").is_some(), stays, "no copies of what the canary answers: {route}");
    }
}

#[test]
fn a_hash_decides_for_all_who_send_one_and_weights_for_the_others() {
    let user = json!({"host": "audit"});
    let route = json!({
        "name": "primary", "timeout": "3s", "mirror": user, "match": [{"uri": {"prefix": "/v2"}}],
        "route": [to(A, 80), to(F, 20)],
    });
    let setting = Setting { mirror: Percent::of(5.0).unwrap(), ..hashed(25) };
    let edited = after(&one(route), &setting);
    let http = edited["spec"]["http"].as_array().unwrap();
    let names: Vec<&str> = http.iter().map(|route| route["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["old", "sluice-models/wine/primary+canary", "sluice-models/wine/primary+stable", "primary", "other"]
    );
    let condition =
        |regex: &str| json!([{"uri": {"prefix": "/v2"}, "headers": {"x-user": {"regex": regex}}}]);
    assert_eq!(http[1]["match"], condition("(?i)[0-3][0-9a-f]{3}.*"));
    assert_eq!(http[1]["route"], json!([to(B, 80), to(F, 20)]));
    assert_eq!(http[2]["match"], condition("(?i)[0-9a-f]{4}.*"));
    assert_eq!(http[2]["route"], json!([to(A, 80), to(F, 20)]));
    assert_eq!(http[3]["route"], json!([to(A, 60), to(B, 20), to(F, 20)]), "as it would be without");
    assert_eq!(http[1]["mirror"], user, "the owner's copies go on");
    let ours = json!({"destination": to(B, None)["destination"], "percentage": {"value": 5}});
    for index in [2, 3] {
        assert_eq!(http[index]["mirrors"], json!([{"destination": user}, ours]), "{index}");
        assert_eq!(http[index]["timeout"], "3s");
    }
}

#[test]
fn a_route_that_asks_for_the_same_header_leaves_no_room_for_a_hash() {
    let own = json!([{"headers": {"X-User": {"exact": "me"}}}]);
    let message = refused(&one(json!({"name": "primary", "match": own, "route": [to(A, 100)]})), &hashed(10));
    assert!(message.contains("the header x-user, which spec.steps[2].sticky"), "{message}");
}

#[test]
fn only_routes_of_this_very_rollout_are_its_own() {
    for name in [
        "sluice-models/wine",
        "sluice-models-wine/x/y",
        "sluice-models/wine-2/x",
        "sluice-other/wine/x",
        "wine/x",
    ] {
        let before = with_http(
            &json!([{"name": name, "match": [{"uri": {"prefix": "/"}}], "route": [to("w", None)]}, {"name": "primary", "route": [to(A, 100)]}]),
        );
        let edited =
            in_cluster(|cluster| edit(&before, &selection(&["primary"]), &matching(beta()), cluster))
                .unwrap();
        assert_eq!(edited["spec"]["http"][0], before["spec"]["http"][0], "{name}");
        assert_eq!(edited["spec"]["http"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn connections_are_moved_by_weight_in_the_first_route_that_takes_them() {
    let vs = json!({
        "metadata": {"name": "iris", "namespace": "models"},
        "spec": {
            "http": [{"route": [to(A, 100)]}],
            "tcp": [
                {"match": [{"port": 5001}], "route": [to(A, 100)]},
                {"match": [{"sourceLabels": {"a": "b"}}], "route": [to(A, None)]},
            ],
            "tls": [
                {"match": [{"sniHosts": ["a.example.com"]}], "route": [to(F, 100)]},
                {"match": [{"sniHosts": ["b.com", "*.example.com"]}], "route": [to(A, 40), to(F, 60)]},
            ],
        },
    });
    let edited = |tcp: &[u16], tls: &[&str], setting: &Setting| {
        let tls = tls.iter().map(|host| (*host).to_owned()).collect();
        let selection = super::Selection { tcp: tcp.to_vec(), tls, ..selection(&[]) };
        in_cluster(|cluster| edit(&vs, &selection, setting, cluster))
    };
    let both = edited(&[5001, 7, 8], &["x.example.com"], &canary(25)).unwrap();
    assert_eq!(both["spec"]["tcp"][0]["route"], json!([to(A, 75), to(B, 25)]));
    assert_eq!(both["spec"]["tcp"][1]["route"], json!([to(A, 75), to(B, 25)]), "any port, once");
    assert_eq!(both["spec"]["tls"][1]["route"], json!([to(A, 30), to(B, 10), to(F, 60)]));
    assert_eq!(
        (&both["spec"]["http"], &both["spec"]["tls"][0]),
        (&vs["spec"]["http"], &vs["spec"]["tls"][0])
    );
    for (tcp, tls, expected) in [
        (&[][..], &["c.com"][..], "spec.tls: expected a tls route that takes connections of the host c.com"),
        (&[], &["a.example.com"], "spec.tls[0].route: expected a destination that is models/iris-v1:8000"),
    ] {
        let error = edited(tcp, tls, &canary(25)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_subset_of_the_same_host_is_an_arm_like_another() {
    let subset = |name: &str| Predictor { subset: Some(name.to_owned()), ..iris(1) };
    let before =
        with_http(&json!([{"name": "primary", "route": [{"destination": {"host": A, "subset": "v1"}}]}]));
    let setting = Setting {
        stable: subset("v1"),
        canary: Some(subset("v2")),
        mirror: Percent::ALL,
        ..matching(beta())
    };
    let edited = edited(&before, &setting).unwrap();
    assert_eq!(
        edited["spec"]["http"][0]["route"],
        json!([{"destination": {"host": A, "subset": "v2"}, "weight": 100}])
    );
    assert_eq!(edited["spec"]["http"][1]["mirrors"][0]["destination"], json!({"host": A, "subset": "v2"}));
}

#[path = "match_tests.rs"]
mod conditions;
