//! Predictors, gateway and VirtualService together, on the embedded API.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::json;
use sluice_lab::{
    embedded,
    gateway::{Gateway, Load},
    scene::{Scene, Served, eventually},
};

const HOST: &str = "iris.example.com";
const LIMIT: Duration = Duration::from_secs(30);

struct World {
    api: embedded::Api,
    scene: Scene,
    gateway: Gateway,
    v1: Served,
    v2: Served,
}

async fn world(v1: u32, v2: u32) -> World {
    let api = embedded::Api::new();
    let scene = Scene::new(&api.client(), "models").await.unwrap();
    let (first, second) =
        (scene.serve("iris-v1", "iris", "v1").await, scene.serve("iris-v2", "iris", "v2").await);
    scene.virtual_service("iris", HOST, &[("iris-v1", Some(v1)), ("iris-v2", Some(v2))]).await.unwrap();
    let gateway = Gateway::start(&api.client_as("gateway"));
    gateway.synced().await;
    World { api, scene, gateway, v1: first.unwrap(), v2: second.unwrap() }
}

impl World {
    async fn patch(&self, patch: serde_json::Value) {
        let kind = kube::core::GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
        let kind = kube::core::ApiResource::from_gvk_with_plural(&kind, "virtualservices");
        let services: Api<DynamicObject> = Api::namespaced_with(self.api.client(), "models", &kind);
        let changed = services.patch("iris", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        eventually(LIMIT, "the gateway obeys the change", || async {
            let obeyed = self.gateway.obeys("models", "iris");
            if obeyed == changed.metadata.resource_version { Ok(()) } else { Err(format!("{obeyed:?}")) }
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn weights_are_obeyed_exactly_and_changes_at_once() {
    let world = world(75, 25).await;
    let report = Load::infer(HOST, "iris").count(1000).run(&world.gateway).await;
    assert_eq!((report.by("iris-v1"), report.by("iris-v2")), (750, 250));
    assert_eq!((world.v1.predictor.served().total(), world.v2.predictor.served().total()), (750, 250));
    assert_eq!(world.gateway.delivered_to("models", "iris-v2").total(), 250);
    let route = |v1, v2| {
        json!([{"destination": {"host": "iris-v1", "port": {"number": 8000}}, "weight": v1},
               {"destination": {"host": "iris-v2", "port": {"number": 8000}}, "weight": v2}])
    };
    world.patch(json!({"spec": {"http": [{"name": "primary", "route": route(100, 0)}]}})).await;
    let report = Load::infer(HOST, "iris").count(100).run(&world.gateway).await;
    assert_eq!((report.by("iris-v1"), report.by("iris-v2")), (100, 0));
}

#[tokio::test]
async fn an_error_share_is_exact_and_seen_by_predictor_gateway_and_users_alike() {
    let world = world(0, 100).await;
    world.v2.predictor.set_errors(0.05);
    let report = Load::infer(HOST, "iris").count(1000).run(&world.gateway).await;
    assert_eq!(report.by_code, [(200, 950), (500, 50)].into());
    assert_eq!(world.v2.predictor.served().errors(), 50);
    let expected = [
        r#"rest_server_requests_total{method="POST",path="/v2/models/iris/infer",status_code="500",app_name="mlserver"} 50"#,
        r#"model_infer_request_success_total{model="iris",version="None"} 950"#,
        r#"model_infer_request_failure_total{model="iris",version="None"} 50"#,
    ];
    let metrics = world.v2.predictor.metrics();
    for line in expected {
        assert!(metrics.lines().any(|l| l == line), "{line}\nin\n{metrics}");
    }
    let metrics = world.gateway.metrics();
    let errors = metrics.lines().find(|l| {
        ["istio_requests_total", r#"response_code="500""#, r#"reporter="source""#]
            .iter()
            .all(|part| l.contains(part))
    });
    let errors = errors.unwrap();
    for part in [r#"destination_service_name="iris-v2""#, r#"reporter="source""#, "} 50"] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
}

#[tokio::test]
async fn a_slow_share_is_in_the_right_bucket_whatever_the_machine_does() {
    let world = world(0, 100).await;
    world.v2.predictor.set_slow(0.1, Duration::from_millis(30));
    Load::infer(HOST, "iris").count(100).run(&world.gateway).await;
    let metrics = world.v2.predictor.metrics();
    for (bound, below) in [("0.005", 90), ("0.025", 90), ("0.05", 100), ("+Inf", 100)] {
        let end = format!("le=\"{bound}\"}} {below}");
        assert!(metrics.lines().any(|l| l.ends_with(&end)), "{end}\nin\n{metrics}");
    }
    assert_eq!(world.v2.predictor.served().slow, 10);
}

#[tokio::test]
async fn a_predictor_without_a_ready_endpoint_is_answered_503() {
    let world = world(0, 100).await;
    world.scene.set_ready(&world.v2.pod, false).await.unwrap();
    let report = eventually(LIMIT, "the gateway sees that nobody is ready", || async {
        let report = Load::infer(HOST, "iris").count(1).run(&world.gateway).await;
        if report.by_code.contains_key(&503) { Ok(report) } else { Err(format!("{report:?}")) }
    });
    assert_eq!(report.await.unwrap().by_predictor, [(String::new(), 1)].into());
    assert!(world.gateway.metrics().contains(r#"response_flags="UH""#));
}

#[tokio::test]
async fn a_mirror_gets_copies_and_answers_nobody() {
    let world = world(100, 0).await;
    let mirror =
        json!([{"destination": {"host": "iris-v2", "port": {"number": 8000}}, "percentage": {"value": 30}}]);
    let only = json!([{"destination": {"host": "iris-v1", "port": {"number": 8000}}}]);
    world.patch(json!({"spec": {"http": [{"name": "primary", "route": only, "mirrors": mirror}]}})).await;
    let report = Load::infer(HOST, "iris").count(100).run(&world.gateway).await;
    assert_eq!((report.by("iris-v1"), report.by("iris-v2")), (100, 0));
    let copies = eventually(LIMIT, "30 copies have arrived", || async {
        let served = world.v2.predictor.served().total();
        if served == 30 { Ok(served) } else { Err(served.to_string()) }
    });
    assert_eq!(copies.await, Ok(30));
    assert_eq!(world.gateway.delivered_to("models", "iris-v2").mirrored, 30);
    let metrics = world.gateway.metrics();
    let mut of_canary = metrics.lines().filter(|line| line.contains("iris-v2")).peekable();
    assert!(of_canary.peek().is_some(), "the destination reports copies");
    assert!(of_canary.all(|line| line.contains(r#"reporter="destination""#)), "the source does not");
}

#[tokio::test]
async fn a_killed_predictor_breaks_connections_and_a_stopped_one_does_not() {
    let world = world(50, 50).await;
    world.v1.predictor.set_latency(Duration::from_millis(100));
    world.v2.predictor.set_latency(Duration::from_hours(1));
    let load = Load::infer(HOST, "iris").count(2).rate(1000.0).start(&world.gateway);
    eventually(LIMIT, "both are being asked", || async {
        let asked = |p: &sluice_lab::predictor::Predictor| {
            p.metrics().contains("in_progress{method=\"POST\",app_name=\"mlserver\"} 1")
        };
        if asked(&world.v1.predictor) && asked(&world.v2.predictor) { Ok(()) } else { Err("not yet") }
    })
    .await
    .unwrap();
    world.v2.predictor.kill();
    world.v1.predictor.stop().await;
    let report = eventually(LIMIT, "both were answered", || async {
        let report = load.report();
        if report.total() == 2 { Ok(report) } else { Err(format!("{report:?}")) }
    });
    assert_eq!(report.await.unwrap().by_code, [(200, 1), (503, 1)].into());
}

#[tokio::test]
async fn the_gateway_forwards_over_http_and_names_the_predictor() {
    let world = world(0, 100).await;
    let server = world.gateway.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let body =
        r#"{"id": "7", "inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [[1, 2], [4]]}]}"#;
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let request = http::Request::post(format!("http://{}/v2/models/iris/infer", server.address()))
        .header("host", HOST)
        .body(http_body_util::Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let answer = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["model_version"], "v2");
    assert_eq!(answer["id"], "7");
    assert_eq!(answer["outputs"][0]["data"], json!([14.0]));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_traffic_passes_in_virtual_time() {
    let world = world(90, 10).await;
    world.v2.predictor.set_errors(0.1);
    world.v2.predictor.set_latency(Duration::from_millis(80));
    let load = Load::infer(HOST, "iris").rate(1.0).time(Duration::from_hours(1)).start(&world.gateway);
    tokio::time::sleep(Duration::from_mins(61)).await;
    let report = load.stop().await;
    assert_eq!(report.total(), 3600);
    assert_eq!((report.by("iris-v1"), report.by("iris-v2")), (3240, 360));
    assert_eq!(report.by_code, [(200, 3564), (500, 36)].into());
}
