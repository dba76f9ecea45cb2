//! Who writes a Rollout, and what belongs to it, cannot send the controller to where they could not go themselves.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use sluice_lab::scene::{POD_PORT, Scene, eventually};
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinHandle};

use crate::{
    oracle,
    world::{NAMESPACE, World, rollout, same},
};

/// What a tenant wants to know and may not, on an address that no pod of theirs has.
struct Secret {
    address: SocketAddr,
    scrapes: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Secret {
    async fn new() -> Self {
        let apart = u8::try_from(std::process::id() % 250).unwrap();
        let mut last = 0;
        let listener = loop {
            last += 1;
            let address = SocketAddr::from((Ipv4Addr::new(127, 200, apart, last), POD_PORT));
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(last < 250, "no loopback address is free: {error}"),
            }
        };
        let (address, scrapes) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let seen = scrapes.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut head = [0; 12];
                // Users come here too: the slice says that the canary is here.
                if connection.read_exact(&mut head).await.is_ok() && head == *b"GET /metrics" {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { address, scrapes, task }
    }

    fn address(&self) -> String {
        self.address.ip().to_string()
    }

    /// How often the controller has asked so far.
    fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn objects(world: &World, namespace: &str, kind: &GroupVersionKind) -> Api<DynamicObject> {
    Api::namespaced_with(world.api.client(), namespace, &ApiResource::from_gvk(kind))
}

fn pods() -> GroupVersionKind {
    GroupVersionKind::gvk("", "v1", "Pod")
}

/// A pod of a namespace, with what its kubelet says about it.
async fn pod(
    world: &World,
    namespace: &str,
    name: &str,
    labels: Value,
    spec: Value,
    status: Value,
) -> String {
    let scene = Scene::new(&world.api.client(), namespace).await.unwrap();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec,
    });
    let uid = scene.apply(object).await.unwrap().metadata.uid.unwrap();
    let params = PatchParams::default();
    let status = Patch::Merge(json!({"status": status}));
    objects(world, namespace, &pods()).patch_status(name, &params, &status).await.unwrap();
    uid
}

/// What a tenant writes who may write `EndpointSlices`.
async fn slice(world: &World, address: &str, target: Option<Value>) {
    let mut endpoint = json!({"addresses": [address], "conditions": {"ready": true}});
    if let Some(target) = target {
        endpoint["targetRef"] = target;
    }
    world
        .create(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "forged", "labels": {"kubernetes.io/service-name": "iris-v2"}},
            "addressType": "IPv4", "endpoints": [endpoint],
            "ports": [{"name": "http", "port": POD_PORT, "protocol": "TCP"}],
        }))
        .await;
}

/// The canary stays where it is, the status says why, and nobody asked the address.
async fn is_not_asked(world: &World, secret: &Secret, expected: &str) {
    let address = secret.address();
    let begin = format!(
        "{address} is not scraped, which an EndpointSlice names for Service {NAMESPACE}/iris-v2: expected "
    );
    world
        .sees(&format!("it says {expected:?}"), |status| {
            let checks = status["checks"].as_array().into_iter().flatten();
            let mut messages = checks.filter_map(|check| check["message"].as_str());
            messages.any(|message| message.contains(&begin) && message.contains(expected))
        })
        .await;
    let before = secret.scrapes();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(secret.scrapes(), before, "{expected}: the controller asked {address}");
    same(&oracle::weights(&world.virtual_service()), &(80, 20), "the traffic without evidence");
}

fn stairs() -> Value {
    rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s"}]))
}

#[tokio::test(start_paused = true)]
async fn only_pods_of_the_rollouts_own_services_are_scraped() {
    let theirs = |address: &str| json!({"phase": "Running", "podIPs": [{"ip": address}]});
    let iris = || json!({"app": "iris-v2"});
    let target = |namespace: &str, name: &str, uid: &str| {
        Some(json!({"kind": "Pod", "namespace": namespace, "name": name, "uid": uid}))
    };
    for case in 0..6 {
        let world = World::new().await;
        let secret = Secret::new().await;
        let address = secret.address();
        let (target, expected) = match case {
            // An address of nobody: a node's metadata, the API server.
            0 => (None, "a targetRef with the name and the uid of a Pod"),
            // The tenant's own pod, under another's address.
            1 => {
                let uid = pod(&world, NAMESPACE, "mine", iris(), json!({}), theirs("10.9.9.9")).await;
                (target(NAMESPACE, "mine", &uid), "an address of Pod mine, which has others")
            }
            // The pod of another tenant.
            2 => {
                let uid = pod(&world, "bank", "vault", iris(), json!({}), theirs(&address)).await;
                (target("bank", "vault", &uid), "found the Pod bank/vault")
            }
            // A node, by a pod in its network.
            3 => {
                let spec = json!({"hostNetwork": true});
                let uid = pod(&world, NAMESPACE, "agent", iris(), spec, theirs(&address)).await;
                (target(NAMESPACE, "agent", &uid), "an address of the Pod's own, and agent has its node's")
            }
            // Another team's pod in the same namespace.
            4 => {
                let uid =
                    pod(&world, NAMESPACE, "db", json!({"app": "db"}), json!({}), theirs(&address)).await;
                (target(NAMESPACE, "db", &uid), "a Pod that the Service selects, which db is not")
            }
            // One that has ended: its address is another's by now.
            _ => {
                let ended = json!({"phase": "Succeeded", "podIPs": [{"ip": address}]});
                let uid = pod(&world, NAMESPACE, "job", iris(), json!({}), ended).await;
                (target(NAMESPACE, "job", &uid), "a running Pod, and job is not")
            }
        };
        world.create(stairs()).await;
        let _sluice = world.controller();
        world.weighs(80, 20).await;
        slice(&world, &address, target).await;
        is_not_asked(&world, &secret, expected).await;
        assert_eq!(secret.scrapes(), 0, "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ended_is_not_asked_at_an_address_that_is_anothers_by_now() {
    let world = World::new().await;
    let secret = Secret::new().await;
    let running = json!({"phase": "Running", "podIPs": [{"ip": secret.address()}]});
    let uid = pod(&world, NAMESPACE, "job", json!({"app": "iris-v2"}), json!({}), running).await;
    world.create(stairs()).await;
    let _sluice = world.controller();
    let target = json!({"kind": "Pod", "namespace": NAMESPACE, "name": "job", "uid": uid});
    slice(&world, &secret.address(), Some(target)).await;
    world.weighs(80, 20).await;
    // It is what it says it is, and is asked.
    let asked = || async { if secret.scrapes() > 0 { Ok(()) } else { Err("not asked") } };
    eventually(Duration::from_mins(1), "it is asked", asked).await.unwrap();
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    objects(&world, NAMESPACE, &pods()).patch_status("job", &PatchParams::default(), &ended).await.unwrap();
    // What was seen of it counts for a while.
    tokio::time::sleep(Duration::from_secs(31)).await;
    is_not_asked(&world, &secret, "a running Pod, and job is not").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_selector_is_not_scraped() {
    let world = World::new().await;
    world.create(stairs()).await;
    let _sluice = world.controller();
    world.weighs(80, 20).await;
    let services = objects(&world, NAMESPACE, &GroupVersionKind::gvk("", "v1", "Service"));
    let patch = Patch::Merge(json!({"spec": {"selector": null}}));
    services.patch("iris-v2", &PatchParams::default(), &patch).await.unwrap();
    world.sees("it says why", |status| status["checks"].to_string().contains("and it has no selector")).await;
    let patch = Patch::Merge(json!({"spec": {"selector": {"app": "iris-v2"}}}));
    services.patch("iris-v2", &PatchParams::default(), &patch).await.unwrap();
    world.stands("Healthy", "Live").await;
}

/// A VirtualService of another namespace, whose owner says with an annotation who may move it.
pub async fn theirs(world: &World, allow: Option<&str>) {
    let scene = Scene::new(&world.api.client(), "bank").await.unwrap();
    let mut annotations = json!({"owner": "s3cret-note"});
    if let Some(allow) = allow {
        annotations["sluice.dev/allow-from"] = json!(allow);
    }
    let entry = |host: &str, weight: u64| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight});
    scene
        .apply(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "payments", "annotations": annotations},
            "spec": {"hosts": ["s3cret-host.example.com"], "http": [
                {"name": "s3cret-route", "route": [entry("s3cret-service", 100)]},
                {"name": "primary", "route": [entry("iris-v1.models.svc.cluster.local", 100)]},
            ]},
        }))
        .await
        .unwrap();
}

pub fn their_weights(world: &World) -> Vec<u64> {
    let object = world.api.object("virtualservices.networking.istio.io", "bank", "payments").unwrap();
    let entries = object["spec"]["http"][1]["route"].as_array().unwrap();
    entries.iter().map(|entry| entry["weight"].as_u64().unwrap_or(100)).collect()
}

async fn allow(world: &World, allow: Value) {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"sluice.dev/allow-from": allow}}}));
    objects(world, "bank", &kind).patch("payments", &PatchParams::default(), &patch).await.unwrap();
}

pub fn on_theirs(http: &Value) -> Value {
    let mut object = stairs();
    object["spec"]["routes"] = json!([{"virtualService": "bank/payments", "http": http}]);
    object["spec"]["steps"] =
        json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "2s", "approve": true}]);
    object
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_a_virtual_service_that_is_not_allowed() {
    let mut messages = Vec::new();
    for (there, http, broken) in [
        (true, json!(["primary"]), None),
        (true, json!([]), None),
        (true, json!(["nowhere"]), None),
        (true, json!(["primary"]), Some(json!("s3cret stamp"))),
        (false, json!(["primary"]), None),
    ] {
        let world = World::without_routes().await;
        if there {
            theirs(&world, None).await;
        }
        if let Some(stamp) = broken {
            let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
            let patch = json!({
                "metadata": {"annotations": {"sluice.dev/stamp": stamp}},
                "spec": {"http": [{"name": "primary", "route": "s3cret"}]},
            });
            let patch = Patch::Merge(patch);
            objects(&world, "bank", &kind).patch("payments", &PatchParams::default(), &patch).await.unwrap();
        }
        let mut object = on_theirs(&http);
        object["spec"]["target"]["service"]["from"] = json!("guess");
        world.create(object).await;
        let _sluice = world.controller();
        world.stands("Pending", "NotAllowed").await;
        messages.push(world.status()["message"].as_str().unwrap().to_owned());
        for write in world.api.history() {
            let ours = write.namespace != "bank" && write.resource != "namespaces";
            let after = write.after.as_deref().map(Value::to_string).unwrap_or_default();
            assert!(!ours || !after.contains("s3cret"), "{} {}: {after}", write.resource, write.name);
        }
    }
    // Not even whether it is there.
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_who_takes_the_leave_back_stops_increases_and_no_decrease() {
    for then_breaks in [true, false] {
        let world = World::without_routes().await;
        theirs(&world, Some("others , models")).await;
        let world = world.with_users(0.1);
        let mut object = on_theirs(&json!(["primary"]));
        object["spec"]["checks"] = json!([]);
        world.create(object).await;
        let _sluice = world.controller();
        world.stands("Waiting", "WaitingForApproval").await;
        same(&their_weights(&world), &vec![50, 50], "the traffic at the gate");
        for other in [json!("others"), json!(null), json!("models2,*")] {
            allow(&world, other).await;
            world.ask("PromoteFull", &format!("go-{}", world.api.version())).await;
            tokio::time::sleep(Duration::from_secs(15)).await;
            same(&their_weights(&world), &vec![50, 50], "the traffic without leave");
        }
        world.sees("it says so", |status| status["conditions"].to_string().contains("NotAllowed")).await;
        if then_breaks {
            world.ask("Abort", "stop").await;
        } else {
            world.delete_rollout().await;
        }
        world.sees("it is given back", |_| their_weights(&world).first() == Some(&100)).await;
        // What is not allowed is not touched any more.
        let stored = || world.api.object("virtualservices.networking.istio.io", "bank", "payments").unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = stored();
        tokio::time::sleep(Duration::from_secs(20)).await;
        same(&stored(), &before, "the VirtualService of another namespace");
    }
}
