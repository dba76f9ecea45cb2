//! `sluice plan` on the objects of a cluster.

use std::{fs, path::Path};

use serde_json::{Value, json};

use sluice_lab::embedded;

use crate::world::{NAMESPACE, create, in_the_gate, put, set_status, sluice};

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 8000}]}})
}

/// A route of the user with all that a user has on one, and all traffic at `{name}-v1`.
fn virtual_service(name: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
        "spec": {"hosts": [format!("{name}.example.com")], "http": [{
            "name": "primary", "timeout": "7s", "retries": {"attempts": 3},
            "route": [{"destination": {"host": format!("{name}-v1"), "port": {"number": 8000}}, "weight": 100}],
        }]},
    })
}

/// Services, the route, and the Rollout `iris`.
async fn world() -> embedded::Api {
    let api = embedded::Api::new();
    for name in ["iris-v1", "iris-v2"] {
        put(&api, service(name)).await;
    }
    put(&api, virtual_service("iris")).await;
    create(&api, "iris").await;
    api
}

fn write(folder: &Path, change: impl FnOnce(&mut Value)) -> String {
    let mut rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "fresh"},
        "spec": {
            "target": {"service": {"name": "iris-v2", "port": 8000}}, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 25, "for": "1m"}],
        },
    });
    change(&mut rollout);
    let path = folder.join("rollout.yaml");
    fs::write(&path, rollout.to_string()).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_rollout_of_the_cluster_is_planned_on_its_virtual_service() {
    let api = world().await;
    let ran = sluice(&api, "plan iris --rate 20").await;
    assert_eq!(ran.code(), 0, "{}{:?}", ran.out, ran.result);
    for expected in [
        "iris: STEPS",
        "AT STEP 1  VirtualService default/iris, against what was there before",
        "+         host: iris-v2",
        "        timeout: 7s",
        "AT STEP promotion",
    ] {
        assert!(ran.out.contains(expected), "{expected:?} is not in\n{}", ran.out);
    }
    // Nothing was written.
    let route = api.object("virtualservices.networking.istio.io", NAMESPACE, "iris").unwrap();
    assert!(route["metadata"]["annotations"]["sluice.dev/stamp"].is_null(), "{route}");
    // One in flight has stable in its status, whatever the routes show.
    set_status(&api, "iris", in_the_gate("iris")).await;
    let ran = sluice(&api, "plan iris").await;
    assert_eq!(ran.code(), 0, "{}{:?}", ran.out, ran.result);
    assert!(ran.out.contains("+         host: iris-v2"), "{}", ran.out);
    let ran = sluice(&api, "plan nobody").await;
    assert_eq!((ran.code(), ran.failure().contains("there is no Rollout \"nobody\"")), (3, true));
}

#[tokio::test]
async fn a_file_is_planned_on_the_cluster_only_where_that_is_asked_for() {
    let api = embedded::Api::new();
    for name in ["iris-v1", "iris-v2"] {
        put(&api, service(name)).await;
    }
    put(&api, virtual_service("iris")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), |_| ());
    let ran = sluice(&api, &format!("plan -f {file} --cluster")).await;
    assert_eq!(ran.code(), 0, "{}{:?}", ran.out, ran.result);
    assert!(ran.out.contains("AT STEP 1") && ran.out.contains("+       weight: 25"), "{}", ran.out);
    let alone = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["plan", "-f", &file])
        .env_clear()
        .env("HOME", "/nowhere")
        .output()
        .unwrap();
    let text = String::from_utf8(alone.stdout).unwrap();
    assert!(alone.status.success() && text.contains("fresh: STEPS") && !text.contains("AT STEP"), "{text}");
}

#[tokio::test]
async fn what_the_controller_would_not_accept_is_said_with_its_reason_and_field() {
    type Change = fn(&mut Value);
    let api = world().await;
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Change); 6] = [
        (
            "TargetNotFound: spec.target.service.name: there is no Service iris-v9 in namespace default",
            |rollout| {
                rollout["spec"]["target"]["service"]["name"] = json!("iris-v9");
            },
        ),
        (
            "TargetNotFound: spec.target.service.port: Service default/iris-v2 has no port 9000, only 8000",
            |rollout| {
                rollout["spec"]["target"]["service"]["port"] = json!(9000);
            },
        ),
        (
            "VirtualServiceNotFound: spec.routes: there is no VirtualService other in namespace default",
            |rollout| {
                rollout["spec"]["routes"] = json!([{"virtualService": "other"}]);
            },
        ),
        ("RouteTaken: VirtualService default/iris is moved by Rollout default/iris already", |_| ()),
        (
            "GatewayNotFound: spec.expose.gateways: there is no Gateway seldon-gateway in namespace istio-system",
            |rollout| {
                rollout["spec"]["routes"] = json!([]);
                rollout["spec"]["expose"] = json!({});
            },
        ),
        ("SubsetNotFound: subset \"v2\" of Service default/iris-v2 is in no DestinationRule", |rollout| {
            rollout["metadata"]["name"] = json!("iris");
            rollout["spec"]["target"]["service"]["subset"] = json!("v2");
        }),
    ];
    for (expected, change) in cases {
        let file = write(folder.path(), change);
        let ran = sluice(&api, &format!("plan -f {file} --cluster")).await;
        assert_eq!(ran.code(), 4, "{expected}: {}", ran.out);
        assert!(ran.failure().contains(expected), "{expected}: {}", ran.failure());
        assert!(ran.out.contains("STEPS"), "what can be said is: {}", ran.out);
    }
}
