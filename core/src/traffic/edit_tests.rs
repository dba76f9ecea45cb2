use serde_json::{Value, json};

use super::{
    Setting, Trouble, edit, edit_what_can_be,
    testing::{canary, edited, entries, in_cluster, iris, selection, to, virtual_service, with, with_http},
};
use crate::{Predictor, api::Reason};

const A: &str = "iris-v1";
const B: &str = "iris-v2";
const F: &str = "api.example.com";

/// What becomes of the destinations of a route; that doing it again changes nothing is seen to on the way.
fn after(before: &Value, setting: &Setting) -> Value {
    let once = edited(&virtual_service(before), setting).unwrap();
    assert_eq!(edited(&once, setting).unwrap(), once, "idempotent");
    entries(&once)
}

/// Stable is version 1 alone, versions 2 and 3 are of the past.
fn rest() -> Setting {
    Setting { known: vec![iris(2), iris(3)], ..Setting::all_to(iris(1)) }
}

#[test]
fn the_pair_divides_its_share_and_the_canary_is_rounded_down() {
    for (before, weight, expected) in [
        (json!([to(A, None)]), 5, json!([to(A, 95), to(B, 5)])),
        (json!([to(A, 100)]), 0, json!([to(A, 100), to(B, 0)])),
        (json!([to(A, 100)]), 100, json!([to(A, 0), to(B, 100)])),
        (json!([to(A, 100)]), 101, json!([to(A, 0), to(B, 100)])),
        (json!([to(A, 0)]), 10, json!([to(A, 90), to(B, 10)])),
        (json!([to(A, 50)]), 10, json!([to(A, 45), to(B, 5)])),
        (json!([to(A, 90), to(B, 10)]), 50, json!([to(A, 50), to(B, 50)])),
        (json!([to(B, 10), to(A, 90)]), 50, json!([to(B, 50), to(A, 50)])),
        (json!([to(A, 100), to(B, None)]), 0, json!([to(A, 100), to(B, 0)])),
        (json!([to(A, 30), to(F, 70)]), 50, json!([to(A, 15), to(B, 15), to(F, 70)])),
        (json!([to(F, 67), to(A, 33)]), 50, json!([to(F, 67), to(A, 17), to(B, 16)])),
        (json!([to(F, 67), to(A, 33)]), 2, json!([to(F, 67), to(A, 33), to(B, 0)])),
        (json!([to(F, 100), to(A, None)]), 50, json!([to(F, 100), to(A, 0), to(B, 0)])),
        // Nobody has anything, which Istio refuses: the pair has all.
        (json!([to(F, None), to(A, None)]), 5, json!([to(F, None), to(A, 95), to(B, 5)])),
    ] {
        assert_eq!(after(&before, &canary(weight)), expected, "{before} at {weight}");
    }
}

#[test]
fn at_rest_only_what_must_change_is_written() {
    for untouched in [
        json!([to(A, None)]),
        json!([to(A, 100)]),
        json!([to(A, 40)]),
        json!([to(A, 40), to(F, 60)]),
        json!([to(F, 100), to(A, None)]),
        json!([to(A, 300), to(F, 100)]),
        json!([to(A, 40), to(A, 60)]),
    ] {
        assert_eq!(after(&untouched, &rest()), untouched);
    }
    for (before, expected) in [
        (json!([to(A, 95), to(B, 5)]), json!([to(A, 100)])),
        (json!([to(A, 0), to(B, 100)]), json!([to(A, 100)])),
        (json!([to(A, None), to(B, 100)]), json!([to(A, None)])),
        (json!([to(A, 20), to(F, 60), to(B, 20)]), json!([to(A, 40), to(F, 60)])),
        (json!([to(A, 0)]), json!([to(A, 100)])),
        (json!([to(A, None), to(F, None)]), json!([to(A, 100), to(F, None)])),
    ] {
        assert_eq!(after(&before, &rest()), expected, "{before}");
    }
}

#[test]
fn retiring_ones_stay_with_nothing_and_only_where_they_are_listed() {
    let setting = Setting { retiring: vec![iris(2)], ..rest() };
    for (before, expected) in [
        (json!([to(A, 0), to(B, 100)]), json!([to(A, 100), to(B, 0)])),
        (json!([to(A, 100), to(B, None)]), json!([to(A, 100), to(B, None)])),
        (json!([to(A, None)]), json!([to(A, None)])),
        (json!([to(B, 100)]), json!([to(A, 100), to(B, 0)])),
    ] {
        assert_eq!(after(&before, &setting), expected, "{before}");
    }
}

#[test]
fn what_predictors_of_the_past_are_given_belongs_to_stable() {
    let c = "iris-v3";
    for (before, expected) in [
        (json!([to(c, 100)]), json!([to(A, 100)])),
        (json!([to(c, None)]), json!([to(A, None)])),
        (json!([to(F, 30), to(c, 50), to(B, 20)]), json!([to(F, 30), to(A, 70)])),
        (json!([to(A, 30), to(c, 50), to(F, 20)]), json!([to(A, 80), to(F, 20)])),
    ] {
        assert_eq!(after(&before, &rest()), expected, "{before}");
    }
    let in_flight = Setting { known: vec![iris(3)], ..canary(25) };
    for (before, expected) in [
        (json!([to(c, 100)]), json!([to(A, 75), to(B, 25)])),
        (json!([to(B, 100)]), json!([to(A, 75), to(B, 25)])),
        (json!([to(B, 10), to(c, 50), to(F, 40)]), json!([to(B, 15), to(A, 45), to(F, 40)])),
    ] {
        assert_eq!(after(&before, &in_flight), expected, "{before}");
    }
}

#[test]
fn promotion_swaps_the_arms_and_then_lets_the_old_one_go() {
    let bake = after(&json!([to(A, 0), to(B, 100)]), &canary(100));
    let won = Setting { retiring: vec![iris(1)], known: vec![iris(1)], ..Setting::all_to(iris(2)) };
    assert_eq!(after(&bake, &won), json!([to(A, 0), to(B, 100)]), "traffic stays where it is");
    let gone = Setting { retiring: vec![], ..won };
    assert_eq!(after(&bake, &gone), json!([to(B, 100)]));
}

#[test]
fn a_predictor_that_is_named_twice_is_what_it_was_first() {
    let setting = Setting { retiring: vec![iris(1), iris(2)], known: vec![iris(1), iris(2)], ..canary(25) };
    assert_eq!(after(&json!([to(A, 100)]), &setting), json!([to(A, 75), to(B, 25)]));
    let same = Setting { canary: Some(iris(1)), weight: 50, ..Setting::all_to(iris(1)) };
    assert!(same.takes_away());
    assert_eq!(after(&json!([to(A, None)]), &same), json!([to(A, None)]), "no canary beside itself");
}

#[test]
fn the_canarys_entry_is_a_copy_of_stables_in_its_style() {
    let gpu = Predictor { subset: Some("gpu".into()), ..iris(2) };
    let long = "iris-v1.models.svc.cluster.local";
    let new = |service: &str| Predictor::new("models", service, 8000);
    for (stable, predictor, expected) in [
        (json!({"host": A}), iris(2), json!({"host": B})),
        (json!({"host": A}), gpu, json!({"host": B, "subset": "gpu"})),
        (json!({"host": A}), new("two-ports"), json!({"host": "two-ports", "port": {"number": 8000}})),
        (json!({"host": A}), new("gone"), json!({"host": "gone", "port": {"number": 8000}})),
        (
            json!({"host": A, "port": {"number": 8000, "x": 1}}),
            iris(2),
            json!({"host": B, "port": {"number": 8000, "x": 1}}),
        ),
        (json!({"host": A, "port": {}, "x": [1]}), iris(2), json!({"host": B, "port": {}, "x": [1]})),
        (json!({"host": long}), iris(2), json!({"host": "iris-v2.models.svc.cluster.local"})),
        (
            json!({"host": A}),
            Predictor::new("other", "iris", 8000),
            json!({"host": "iris.other.svc.cluster.local"}),
        ),
    ] {
        let headers = json!({"request": {"set": {"x-a": "1"}}});
        let whole =
            |destination: &Value| json!({"destination": destination, "headers": headers, "x": {"y": []}});
        let setting = Setting { canary: Some(predictor), weight: 10, ..Setting::all_to(iris(1)) };
        let expected =
            json!(
                [with(whole(&stable), "weight", &json!(90)), with(whole(&expected), "weight", &json!(10)),]
            );
        assert_eq!(after(&json!([whole(&stable)]), &setting), expected);
    }
    let from_subset = Setting { stable: Predictor { subset: Some("v1".into()), ..iris(1) }, ..canary(10) };
    let before = json!([{"destination": {"host": A, "subset": "v1"}}]);
    assert_eq!(after(&before, &from_subset)[1], to(B, 10), "a subset that the canary has not goes");
}

#[test]
fn an_arm_is_known_by_service_port_and_subset() {
    for foreign in [
        json!({"host": B, "port": {"number": 9000}}),
        json!({"host": B, "subset": "gpu"}),
        json!({"host": "iris-v2.other.svc.cluster.local"}),
        json!({"host": "iris-v2.models"}),
        json!({"host": "iris-v2.models.svc.corp.example"}),
    ] {
        let entry = json!({"destination": foreign, "weight": 60});
        let expected = json!([to(A, 40), entry]);
        assert_eq!(after(&json!([to(A, 40), entry]), &rest()), expected);
    }
}

#[test]
fn a_canary_whose_service_is_gone_still_leaves_the_route() {
    let gone = Predictor::new("models", "gone", 8000);
    let setting = Setting { known: vec![gone.clone()], ..Setting::all_to(iris(1)) };
    assert_eq!(after(&json!([to(A, 75), to("gone", 25)]), &setting), json!([to(A, 100)]));
    let either = Setting { canary: Some(Predictor { port: 9000, ..gone.clone() }), ..setting };
    let kept = json!([to(A, 75), to("gone", 25), to("iris-v4", None)]);
    assert_eq!(after(&kept, &either)[2], to("gone", 25), "could be either of two: left to its owner");
}

#[test]
fn the_canary_is_not_given_weight_where_something_is_wrong() {
    let unnamed = |entries: Value| virtual_service(&entries);
    for (before, http, reason, message) in [
        (
            unnamed(json!([to(A, 50), to(F, 10), to(A, 40)])),
            vec![],
            Reason::AmbiguousStable,
            "spec.http[0].route[2]: expected models/iris-v1:8000 once, found it at spec.http[0].route[0] too",
        ),
        (
            unnamed(json!([to(A, 50), to(B, 10), to(B, 40)])),
            vec![],
            Reason::AmbiguousStable,
            "spec.http[0].route[2]: expected models/iris-v2:8000 once, found it at spec.http[0].route[1] too",
        ),
        (
            unnamed(json!([to(A, 50), to(F, 51)])),
            vec![],
            Reason::RouteNotFound,
            "spec.http[0].route: expected weights that add up to 100 at most, found 101",
        ),
        (
            unnamed(json!([to(A, 100)])),
            vec!["primary", "main"],
            Reason::RouteNotFound,
            "spec.http: expected an http route named \"main\", found primary",
        ),
        (
            with_http(
                &json!([{"route": [to(A, 100)]}, {"name": "x", "route": [to(F, 50), to("iris-v4", 50)]}]),
            ),
            vec!["x"],
            Reason::RouteNotFound,
            "spec.http[1].route: expected a destination that is models/iris-v1:8000, models/iris-v2:8000, found api.example.com, models/iris-v4:8000",
        ),
        (
            with_http(&json!([{"name": "x", "redirect": {"uri": "/"}}, {"route": [to(A, 100)]}])),
            vec!["x"],
            Reason::RouteNotFound,
            "spec.http[0]: expected a route with destinations, found redirect",
        ),
        (
            with_http(&json!([{"redirect": {"uri": "/"}}])),
            vec![],
            Reason::RouteNotFound,
            "spec.http[*].route: expected a destination that is models/iris-v1:8000, models/iris-v2:8000, found none",
        ),
        (
            with_http(&json!(null)),
            vec![],
            Reason::RouteNotFound,
            "spec.http: expected http routes, found none",
        ),
    ] {
        let error = in_cluster(|cluster| edit(&before, &selection(&http), &canary(5), cluster)).unwrap_err();
        assert_eq!(error.to_string(), format!("VirtualService models/iris: {message}"));
        assert_eq!(error.reason(), reason);
    }
}

#[test]
fn the_canary_is_taken_away_even_where_something_is_wrong() {
    let away = Setting { retiring: vec![iris(2)], ..Setting::all_to(iris(1)) };
    for setting in [&away, &canary(0)] {
        for (before, expected) in [
            (json!([to(A, 40), to(A, 30), to(B, 30)]), json!([to(A, 70), to(A, 30), to(B, 0)])),
            (json!([to(A, 60), to(B, 30), to(B, 10)]), json!([to(A, 100), to(B, 0), to(B, 0)])),
            (json!([to(A, 100), to(B, 100), to(F, 50)]), json!([to(A, 200), to(B, 0), to(F, 50)])),
        ] {
            assert_eq!(after(&before, setting), expected, "{before}");
        }
        let http = json!([
            {"name": "renamed", "route": [to(F, 100)]},
            {"name": "primary", "route": [to(A, 50), to(B, 50)]},
            {"name": "odd", "route": [to(A, 50), {"destination": {"host": B}, "weight": "50"}]},
        ]);
        let names = ["gone", "odd", "primary", "renamed"];
        let before = with_http(&http);
        let after = in_cluster(|cluster| edit(&before, &selection(&names), setting, cluster)).unwrap();
        let mut expected = before.clone();
        expected["spec"]["http"][1]["route"] = json!([to(A, 100), to(B, 0)]);
        assert_eq!(after, expected);
        let whole = in_cluster(|cluster| edit_what_can_be(&before, &selection(&names), setting, cluster));
        assert_eq!((whole.after, whole.routes), (expected, 1));
        let left_out: Vec<_> = whole.obstacles.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(left_out, ["spec.http[0].route", "spec.http[2].route[1].weight", "spec.http"]);
        let none = in_cluster(|cluster| edit(&before, &selection(&["gone"]), setting, cluster)).unwrap_err();
        assert!(matches!(none.trouble, Trouble::RouteNotFound { .. }), "{none}");
    }
}

#[test]
fn a_malformed_field_is_named_with_what_is_there() {
    let entry = |field: &str, value: Value| json!([with(to(A, None), field, &value)]);
    let destination = |field: &str, value: Value| {
        let mut entry = to(A, None);
        entry["destination"][field] = value;
        json!([entry])
    };
    for (route, message) in [
        (json!("x"), "route: expected a list of destinations, found \"x\""),
        (json!(["x"]), "route[0]: expected an object, found \"x\""),
        (json!([{}]), "route[0].destination: expected an object, found nothing"),
        (
            entry("weight", json!("50")),
            "route[0].weight: expected a whole number from 0 to 100, found \"50\"",
        ),
        (entry("weight", json!(-1)), "route[0].weight: expected a whole number from 0 to 100, found -1"),
        (entry("weight", json!(0.5)), "route[0].weight: expected a whole number from 0 to 100, found 0.5"),
        (
            entry("weight", json!(u64::MAX)),
            "route[0].weight: expected a whole number from 0 to 100, found 18446744073709551615",
        ),
        (destination("host", json!("")), "route[0].destination.host: expected a host, found \"\""),
        (destination("host", json!(null)), "route[0].destination.host: expected a host, found nothing"),
        (destination("subset", json!(1)), "route[0].destination.subset: expected a name, found 1"),
        (destination("port", json!(80)), "route[0].destination.port: expected an object, found 80"),
        (
            destination("port", json!({"number": 65536})),
            "route[0].destination.port.number: expected a port from 1 to 65535, found 65536",
        ),
    ] {
        let error = edited(&virtual_service(&route), &canary(5)).unwrap_err();
        assert_eq!(error.to_string(), format!("VirtualService models/iris: spec.http[0].{message}"));
    }
    let long = edited(&virtual_service(&json!([["é".repeat(100)]])), &canary(5)).unwrap_err().to_string();
    assert!(long.ends_with('…') && long.chars().count() < 140, "{long}");
}
