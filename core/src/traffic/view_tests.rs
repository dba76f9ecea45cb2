//! Reading routes and shares.

use serde_json::json;

use super::{
    PairShare, RouteView, Setting, read, require_share, share_of_pair,
    testing::{canary, in_cluster, iris, selection, to, virtual_service, with_http},
};
use crate::{Predictor, api::Reason};

fn routes(entries: &serde_json::Value) -> Vec<RouteView> {
    in_cluster(|cluster| read(&virtual_service(entries), &selection(&[]), cluster)).unwrap()
}

#[test]
fn destinations_are_read_as_istio_understands_them() {
    for (destination, host, predictor) in [
        (json!({"host": "iris-v1"}), "iris-v1.models.svc.cluster.local", Some("models/iris-v1:8000")),
        (
            json!({"host": "iris-v1", "port": {"number": 9000}, "subset": "gpu"}),
            "iris-v1.models.svc.cluster.local",
            Some("models/iris-v1:9000#gpu"),
        ),
        (
            json!({"host": "a.other.svc.cluster.local", "subset": "", "port": null}),
            "a.other.svc.cluster.local",
            Some("other/a:8000"),
        ),
        (json!({"host": "two-ports"}), "two-ports.models.svc.cluster.local", None),
        (json!({"host": "gone"}), "gone.models.svc.cluster.local", None),
        (json!({"host": "iris-v1.models"}), "iris-v1.models", None),
        (json!({"host": "api.example.com", "port": {"number": 443}}), "api.example.com", None),
    ] {
        let routes = routes(&json!([{ "destination": destination }]));
        assert_eq!((routes[0].path.as_str(), routes[0].name.as_deref()), ("spec.http[0]", Some("primary")));
        let view = &routes[0].destinations[0];
        assert_eq!(view.host, host);
        assert_eq!(view.predictor.as_ref().map(Predictor::revision).as_deref(), predictor);
    }
}

#[test]
fn a_missing_weight_is_everything_for_one_and_nothing_among_several() {
    let weights =
        |entries| -> Vec<_> { routes(&entries)[0].destinations.iter().map(|it| it.weight).collect() };
    assert_eq!(weights(json!([to("iris-v1", None)])), [100]);
    assert_eq!(weights(json!([to("iris-v1", 0)])), [100]);
    assert_eq!(weights(json!([to("iris-v1", 100), to("iris-v2", None)])), [100, 0]);
    assert_eq!(weights(json!([to("iris-v1", None), to("iris-v2", None)])), [0, 0]);
    let twice = routes(&json!([to("iris-v1", 100), to("iris-v2", 60), to("iris-v1", 40)]));
    assert_eq!(twice[0].weight_of(&iris(1)), Some(140), "what is wrong is seen as it is");
    assert_eq!(twice[0].weight_of(&iris(3)), None);
}

#[test]
fn a_destination_whose_port_cannot_be_told_is_still_seen() {
    let routes = routes(&json!([to("gone", 10), to("two-ports", 90)]));
    assert_eq!(routes[0].weight_of(&Predictor::new("models", "gone", 8000)), Some(10));
    assert_eq!(routes[0].weight_of(&Predictor::new("models", "two-ports", 9000)), Some(90));
    assert_eq!(routes[0].weight_of(&Predictor::new("other", "two-ports", 9000)), None);
}

#[test]
fn all_routes_with_destinations_are_read_or_the_named_ones() {
    let vs = with_http(&json!([
        {"name": "a", "route": [to("iris-v1", None)]},
        {"name": "b", "delegate": {"name": "x"}},
        {"route": [to("web", None)]},
        {"name": "a", "route": [to("iris-v1", 100)]},
        {"name": "", "route": []},
    ]));
    let paths = |http: &[&str]| {
        let routes = in_cluster(|cluster| read(&vs, &selection(http), cluster));
        routes.map(|routes| routes.into_iter().map(|route| route.path).collect::<Vec<_>>())
    };
    assert_eq!(paths(&[]).unwrap(), ["spec.http[0]", "spec.http[2]", "spec.http[3]"]);
    assert_eq!(paths(&["a"]).unwrap(), ["spec.http[0]", "spec.http[3]"]);
    let error = paths(&["b"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "VirtualService models/iris: spec.http[1]: expected a route with destinations, found delegate"
    );
    let error = paths(&["a", ""]).unwrap_err().to_string();
    assert_eq!(
        error,
        "VirtualService models/iris: spec.http: expected an http route named \"\", found a, b, a"
    );
}

#[test]
fn the_share_of_the_pair_is_what_its_destinations_have() {
    let vs = with_http(&json!([
        {"name": "all", "route": [to("iris-v1", None)]},
        {"name": "none-of-ours", "route": [to("web", None)]},
        {"route": [to("iris-v1", 20), to("web", 60), to("iris-v2", 10), to("iris-v3", 5)]},
    ]));
    let setting = Setting { known: vec![iris(3)], ..canary(0) };
    let shares = in_cluster(|cluster| share_of_pair(&vs, &selection(&[]), &setting, cluster)).unwrap();
    assert_eq!(
        shares,
        [
            PairShare { path: "spec.http[0]".into(), name: Some("all".into()), share: 100 },
            PairShare { path: "spec.http[2]".into(), name: None, share: 35 },
        ]
    );
    let wrong = virtual_service(&json!([to("iris-v1", 50), to("web", 60)]));
    let error = in_cluster(|cluster| share_of_pair(&wrong, &selection(&[]), &setting, cluster)).unwrap_err();
    assert!(error.to_string().ends_with("expected weights that add up to 100 at most, found 110"), "{error}");
}

#[test]
fn a_step_that_the_share_cannot_represent_is_refused() {
    let vs = virtual_service(&json!([to("iris-v1", 30), to("web", 70)]));
    let require = |weights: &[u8]| {
        in_cluster(|cluster| require_share(&vs, &selection(&[]), &canary(0), weights, cluster))
    };
    require(&[0, 4, 50, 100]).unwrap();
    let error = require(&[0, 10, 3, 1]).unwrap_err();
    assert_eq!(error.reason(), Reason::ShareTooSmall);
    assert_eq!(
        error.to_string(),
        "VirtualService models/iris: spec.http[0]: expected a share that a weight of 3% leaves at least 1 of, found 30: the canary would get nothing"
    );
}
