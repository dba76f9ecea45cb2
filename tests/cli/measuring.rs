//! What a Rollout is measured by: the pods themselves, on an API in memory.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_lab::embedded;

use super::world::{NAMESPACE, healthy, rollouts, set_status, sluice};

type Text = Arc<Mutex<String>>;

/// A program that exposes what it is told to, at an address of its own.
async fn pod(address: [u8; 4], port: u16) -> (u16, Text) {
    let text = Text::default();
    let told = text.clone();
    let listener = tokio::net::TcpListener::bind((std::net::IpAddr::from(address), port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let handler = move || async move { told.lock().unwrap().clone() };
    let router = axum::Router::new().route("/prometheus", axum::routing::get(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (port, text)
}

/// What Seldon's executor exposes: more at every read, as users go on asking.
fn executor(predictor: &str, ok: u32) -> String {
    let name = "seldon_api_executor_server_requests_seconds";
    let labels = format!(
        r#"code="200",deployment_name="iris",method="post",predictor_name="{predictor}",predictor_version="",service="predictions""#
    );
    format!(
        "{name}_bucket{{{labels},le=\"0.25\"}} {ok}\n{name}_bucket{{{labels},le=\"+Inf\"}} {ok}\n{name}_count{{{labels}}} {ok}\n"
    )
}

/// A ready pod behind a Service.
async fn endpoints(api: &embedded::Api, service: &str, address: &str) {
    let name = format!("{service}-0");
    let pods: Api<Pod> = Api::namespaced(api.client_as("bob"), NAMESPACE);
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "model", "image": "model"}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{
            "addresses": [address], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": name, "namespace": NAMESPACE, "uid": "1"},
        }],
        "ports": [{"port": 8000}],
    });
    let slice: k8s_openapi::api::discovery::v1::EndpointSlice = serde_json::from_value(slice).unwrap();
    Api::namespaced(api.client_as("bob"), NAMESPACE).create(&PostParams::default(), &slice).await.unwrap();
}

async fn world(port: u16) -> embedded::Api {
    let api = embedded::Api::new();
    let rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"},
        "spec": {
            "target": {"service": {"name": "iris-v3", "port": 8000}}, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 10}],
            "checks": [{"name": "errors", "errors": {"max": "1%"}}, {"name": "p99", "latency": {"max": "250ms"}}],
            "metrics": {"scrape": {"port": port}, "profile": "seldon"},
        },
    });
    rollouts(&api).create(&PostParams::default(), &serde_json::from_value(rollout).unwrap()).await.unwrap();
    set_status(&api, "iris", healthy("iris")).await;
    endpoints(&api, "iris-v2", "127.0.0.21").await;
    endpoints(&api, "iris-v3", "127.0.0.22").await;
    api
}

#[tokio::test]
async fn pods_are_asked_twice_and_what_came_between_is_shown() {
    let (port, stable) = pod([127, 0, 0, 21], 0).await;
    let (_, canary) = pod([127, 0, 0, 22], port).await;
    let api = world(port).await;
    *stable.lock().unwrap() = executor("v2", 1000);
    let counting = stable.clone();
    tokio::spawn(async move {
        // Users go on, however the two looks fall.
        for more in 1_u32.. {
            *counting.lock().unwrap() = executor("v2", 1000 + more);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    *canary.lock().unwrap() = "go_goroutines 7\n".to_owned();
    let ran = sluice(&api, "metrics check iris --pause 100ms -o json").await;
    assert_eq!(ran.code(), 0, "{}{:?}", ran.out, ran.result.err());
    let object: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(object["arms"][0]["counted"]["requests"].as_u64().unwrap() > 0, "{object}");
    assert_eq!(object["checks"][1]["bound"], "exact");
    assert_eq!(object["asked"][0], format!("pod iris-v2-0 at http://127.0.0.21:{port}/prometheus"));
    // The canary has no traffic yet: said, and not held against it.
    let gap = &object["missing"][0];
    assert_eq!(gap["matters"], false);
    assert!(
        gap["what"].as_str().unwrap().contains("expose no seldon_api_executor_server_requests_seconds_count"),
        "{gap}"
    );
    let ran = sluice(&api, "metrics check iris --pause 50ms").await;
    assert!(ran.out.contains("profile seldon, from the pods themselves"), "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() < 400), "{}", ran.out);
}

#[tokio::test]
async fn a_pod_that_does_not_answer_is_what_is_missing() {
    let api = world(1).await;
    let ran = sluice(&api, "metrics check iris --pause 50ms").await;
    assert_eq!(ran.code(), 10);
    assert!(ran.out.contains("pod iris-v2-0 (port 1/prometheus) cannot be read"), "{}", ran.out);
    assert!(ran.out.contains("run the command in the controller's pod"), "{}", ran.out);
    let none = sluice(&api, "metrics check wine").await;
    assert_eq!(none.code(), 3);
}

#[tokio::test]
async fn an_address_that_is_no_pods_own_is_not_asked() {
    let api = world(1).await;
    let pods: Api<Pod> = Api::namespaced(api.client_as("bob"), NAMESPACE);
    let status = json!({"status": {"podIPs": [{"ip": "127.0.0.99"}]}});
    pods.patch_status("iris-v2-0", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let ran = sluice(&api, "metrics check iris --pause 50ms").await;
    assert_eq!(ran.code(), 4);
    let failure = ran.failure();
    assert!(
        failure.contains("127.0.0.21 is not asked") && failure.contains("Pod iris-v2-0's own"),
        "{failure}"
    );
}
