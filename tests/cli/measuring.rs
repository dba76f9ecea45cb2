//! What a Rollout is measured by: the pods themselves, on an API in memory.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_lab::embedded;

use super::world::{NAMESPACE, healthy, put, rollouts, set_status, sluice};

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

/// A Service with ready pods: their names, versions and addresses.
async fn service(api: &embedded::Api, service: &str, pods: &[(&str, &str, &str)]) {
    let spec = json!({"selector": {"app": service}, "ports": [{"port": 8000}]});
    put(api, json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}, "spec": spec}))
        .await;
    let mut endpoints = Vec::new();
    for (name, version, address) in pods {
        let pod = put(
            api,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": service, "version": version}},
                "spec": {"containers": [{"name": "model", "image": "model"}]},
            }),
        );
        let uid = pod.await.metadata.uid.unwrap();
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        let objects: Api<Pod> = Api::namespaced(api.client_as("bob"), NAMESPACE);
        objects.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        endpoints.push(json!({
            "addresses": [address], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": name, "namespace": NAMESPACE, "uid": uid},
        }));
    }
    put(
        api,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "endpoints": endpoints, "ports": [{"port": 8000}],
        }),
    )
    .await;
}

/// A Rollout to this target, which scrapes.
async fn rollout(api: &embedded::Api, target: &Value, port: u16) {
    let rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"},
        "spec": {
            "target": target, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 10}],
            "checks": [{"name": "errors", "errors": {"max": "1%"}}, {"name": "p99", "latency": {"max": "250ms"}}],
            "metrics": {"scrape": {"port": port}, "profile": "seldon"},
        },
    });
    rollouts(api).create(&PostParams::default(), &serde_json::from_value(rollout).unwrap()).await.unwrap();
    set_status(api, "iris", healthy("iris")).await;
}

async fn world(port: u16) -> embedded::Api {
    let api = embedded::Api::new();
    rollout(&api, &json!({"service": {"name": "iris-v3", "port": 8000}}), port).await;
    service(&api, "iris-v2", &[("iris-v2-0", "2", "127.0.0.21")]).await;
    service(&api, "iris-v3", &[("iris-v3-0", "3", "127.0.0.22")]).await;
    api
}

/// What counts, however the looks fall: users go on all the time.
fn counts(text: &Text, predictor: &'static str) {
    *text.lock().unwrap() = executor(predictor, 1000);
    let counting = text.clone();
    tokio::spawn(async move {
        for more in 1_u32.. {
            *counting.lock().unwrap() = executor(predictor, 1000 + more);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}

#[tokio::test]
async fn pods_are_asked_twice_and_what_came_between_is_shown() {
    let (port, stable) = pod([127, 0, 0, 21], 0).await;
    let (_, canary) = pod([127, 0, 0, 22], port).await;
    let api = world(port).await;
    counts(&stable, "v2");
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
        failure
            .contains("127.0.0.21 is not scraped, which an EndpointSlice names for Service default/iris-v2"),
        "{failure}"
    );
    assert!(failure.contains("expected an address of Pod iris-v2-0, which has others"), "{failure}");
}

#[tokio::test]
async fn of_two_subsets_of_one_service_each_has_its_own_pods() {
    let (port, stable) = pod([127, 0, 0, 23], 0).await;
    let (_, canary) = pod([127, 0, 0, 24], port).await;
    let api = embedded::Api::new();
    rollout(&api, &json!({"service": {"name": "iris", "port": 8000, "subset": "v2"}}), port).await;
    let predictor = json!({"namespace": NAMESPACE, "service": "iris", "port": 8000, "subset": "v1"});
    set_status(&api, "iris", json!({"stable": predictor})).await;
    service(&api, "iris", &[("iris-a", "1", "127.0.0.23"), ("iris-b", "2", "127.0.0.24")]).await;
    counts(&stable, "v1");
    *canary.lock().unwrap() = executor("v2", 5);
    // Before anybody says which labels a subset has, all pods would be everybody's.
    let ran = sluice(&api, "metrics check iris --pause 50ms").await;
    assert_eq!(ran.code(), 4, "{}", ran.out);
    assert!(
        ran.failure().contains("whose pods are of the subset v2 of iris is not known"),
        "{}",
        ran.failure()
    );
    let subset = |name: &str, version: &str| json!({"name": name, "labels": {"version": version}});
    put(
        &api,
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "iris"},
            "spec": {"host": "iris", "subsets": [subset("v1", "1"), subset("v2", "2")]},
        }),
    )
    .await;
    let ran = sluice(&api, "metrics check iris --pause 100ms -o json").await;
    assert_eq!(ran.code(), 0, "{}{:?}", ran.out, ran.result.err());
    let object: Value = serde_json::from_str(&ran.out).unwrap();
    let asked = ["iris-a at http://127.0.0.23", "iris-b at http://127.0.0.24"];
    let asked = asked.map(|pod| format!("pod {pod}:{port}/prometheus"));
    assert_eq!(object["asked"], json!(asked));
    let requests = |arm: usize| object["arms"][arm]["counted"]["requests"].as_u64();
    assert!(requests(0) > Some(0) && requests(1) == Some(0), "{object}");
}

#[tokio::test]
async fn the_predictor_of_a_seldon_deployment_is_who_is_wanted() {
    let (port, stable) = pod([127, 0, 0, 25], 0).await;
    let (_, canary) = pod([127, 0, 0, 26], port).await;
    let api = embedded::Api::new();
    rollout(&api, &json!({"seldonDeployment": {"name": "iris", "predictor": "green"}}), port).await;
    put(&api, json!({
        "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "metadata": {"name": "iris"},
        "spec": {"predictors": [
            {"name": "blue", "traffic": 100},
            {"name": "green", "traffic": 0, "annotations": {"seldon.io/svc-name": "the-green-one"}},
        ]},
    }))
    .await;
    let predictor = json!({"namespace": NAMESPACE, "service": "iris-blue", "port": 8000, "subset": "blue"});
    set_status(&api, "iris", json!({"stable": predictor})).await;
    let subset = |host: &str, name: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": host},
            "spec": {"host": host, "subsets": [{"name": name, "labels": {"version": name}}]},
        })
    };
    for (name, version, address) in
        [("iris-blue", "blue", "127.0.0.25"), ("the-green-one", "green", "127.0.0.26")]
    {
        service(&api, name, &[(&format!("{name}-0"), version, address)]).await;
        put(&api, subset(name, version)).await;
    }
    counts(&stable, "blue");
    *canary.lock().unwrap() = "go_goroutines 7\n".to_owned();
    let ran = sluice(&api, "metrics check iris --pause 100ms -o json").await;
    assert_eq!(ran.code(), 0, "{}{:?}", ran.out, ran.result.err());
    let object: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(object["asked"].to_string().contains("pod the-green-one-0 at http://127.0.0.26"), "{object}");
    assert!(object["arms"][0]["counted"]["requests"].as_u64() > Some(0), "{object}");
}
