//! The real laboratory with Istio, shown to be what it says: one cluster, one istiod, one gateway, shared by the tests below.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test, though clippy knows only those of the usual harness; and JSON is written where it is passed"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use libtest_mimic::Arguments;
use serde_json::{Value, json};
use sluice_lab::binomial;
use sluice_lab::real::binaries::Component;
use sluice_lab::real::{Answer, Cluster, Envoy, Istio, Kubelet, Options, Users, namespace, wait};
use sluice_lab::scene::{Scene, Served};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Nothing here takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_mins(1);
const BOTH: [&str; 2] = ["iris-v1", "iris-v2"];
/// The chance of a test that fails though nothing is wrong.
const MISS: f64 = 1e-6;

fn main() -> Result<ExitCode> {
    namespace::enter_with(&Component::ALL)?;
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());

    let trials = sluice_lab::trials!(
        runtime,
        lab,
        [
            weights_are_obeyed,
            a_header_decides_who_answers,
            a_mirror_gets_copies_and_never_answers,
            the_webhook_refuses_weights_that_are_all_zero,
            a_client_reaches_the_mesh_by_its_own_proxy,
            pods_of_a_deployment_run_as_processes_and_end,
            a_process_that_ends_is_started_again,
            a_pod_is_ready_when_its_probe_says_so,
            a_process_that_does_not_end_is_killed_after_its_grace,
        ]
    );
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// Started by the first test that asks. If that fails, the others fail by it too, at once.
#[derive(Default)]
struct Lab(OnceCell<Result<Shared>>);

struct Shared {
    // Dropped in this order: nobody outlives what they talk to.
    kubelet: Kubelet,
    gateway: Envoy,
    istio: Istio,
    cluster: Cluster,
}

impl Lab {
    async fn shared(&self) -> Result<&Shared> {
        let started = self.0.get_or_init(Shared::start).await;
        started.as_ref().map_err(|error| anyhow!("the lab did not start: {error:#}"))
    }
}

impl Shared {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(Options::new()).await?;
        let istio = Istio::start(&cluster).await?;
        let gateway = Envoy::gateway(&istio).await?;
        gateway.open(&cluster, "istio-system", "public").await?;
        let program = env!("CARGO_BIN_EXE_sluice-lab").to_owned();
        let images = BTreeMap::from([("lab/predictor".to_owned(), vec![program, "predictor".to_owned()])]);
        let kubelet = Kubelet::start(&cluster.admin()?, images).await?;
        Ok(Self { kubelet, gateway, istio, cluster })
    }

    fn entry(&self) -> SocketAddr {
        self.gateway.entry()
    }

    /// Users of the host that [`route`] has for a namespace, at the gateway.
    fn users(&self, namespace: &str) -> Users {
        Users::infer(self.entry(), &host(namespace), "iris")
    }

    /// Applies a VirtualService and waits until the gateway answers by it and has endpoints of these Services.
    async fn obeys(&self, object: &Value, services: &[&str]) -> Result<()> {
        self.cluster.apply_yaml(&object.to_string()).await?;
        let host = object["spec"]["hosts"][0].as_str().unwrap_or_default().to_owned();
        wait::until(LIMIT, format!("the gateway knows {host}"), || async {
            match self.gateway.weights(&host, "primary").await {
                Ok(weights) if weights.is_empty() => Err(format!("not yet; istiod: {}", self.istio.log())),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        for service in services {
            self.gateway.reaches(namespace, service).await?;
        }
        Ok(())
    }
}

fn host(namespace: &str) -> String {
    format!("{namespace}.example.com")
}

fn to(service: &str, weight: u64) -> Value {
    json!({"destination": {"host": service, "port": {"number": 8000}}, "weight": weight})
}

fn virtual_service(namespace: &str, http: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "iris", "namespace": namespace},
        "spec": {"hosts": [host(namespace)], "gateways": ["istio-system/public"], "http": http},
    })
}

async fn two_versions(shared: &Shared, namespace: &str) -> Result<(Served, Served)> {
    let scene = Scene::on_real(&shared.cluster.admin()?, namespace).await?;
    Ok((scene.serve("iris-v1", "iris", "v1").await?, scene.serve("iris-v2", "iris", "v2").await?))
}

fn none_failed(answers: &[Answer]) -> Result<()> {
    let failed: Vec<_> = answers.iter().filter(|answer| answer.failed()).collect();
    ensure!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), answers.len(), failed.first());
    Ok(())
}

// === Istio and Envoy ===

async fn weights_are_obeyed(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let _served = two_versions(shared, "weights").await?;
    let http = json!([{"name": "primary", "route": [to("iris-v1", 75), to("iris-v2", 25)]}]);
    shared.obeys(&virtual_service("weights", http), &BOTH).await?;
    let answers = shared.users("weights").ask(2000).await;
    none_failed(&answers)?;
    let by = Answer::by_predictor(&answers);
    let likely = binomial::interval(2000, 0.25, MISS);
    ensure!(likely.contains(&by["iris-v2"]), "{by:?}, and likely is {likely:?}");
    ensure!(by["iris-v1"] + by["iris-v2"] == 2000, "{by:?}");
    Ok(())
}

async fn a_header_decides_who_answers(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let _served = two_versions(shared, "headers").await?;
    let beta = json!([{"headers": {"x-group": {"exact": "beta"}}}]);
    let http = json!([
        {"name": "beta", "match": beta, "route": [to("iris-v2", 100)]},
        {"name": "primary", "route": [to("iris-v1", 100)]},
    ]);
    shared.obeys(&virtual_service("headers", http), &BOTH).await?;
    for (group, version) in [("beta", "iris-v2"), ("gamma", "iris-v1")] {
        let answers = shared.users("headers").header("x-group", group).ask(50).await;
        none_failed(&answers)?;
        let by = Answer::by_predictor(&answers);
        ensure!(by == BTreeMap::from([(version.to_owned(), 50)]), "{group}: {by:?}");
    }
    Ok(())
}

async fn a_mirror_gets_copies_and_never_answers(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let (v1, v2) = two_versions(shared, "mirrors").await?;
    // What the mirror answers is nobody's business.
    v2.predictor.set_errors(1.0);
    let mirror =
        json!([{"destination": {"host": "iris-v2", "port": {"number": 8000}}, "percentage": {"value": 100}}]);
    let http = json!([{"name": "primary", "route": [to("iris-v1", 100)], "mirrors": mirror}]);
    shared.obeys(&virtual_service("mirrors", http), &BOTH).await?;
    let answers = shared.users("mirrors").ask(200).await;
    none_failed(&answers)?;
    ensure!(Answer::by_predictor(&answers) == BTreeMap::from([("iris-v1".to_owned(), 200)]));
    ensure!(v1.predictor.served().total() == 200);
    wait::until(LIMIT, "the canary got a copy of each", || {
        let copies = v2.predictor.served().total();
        std::future::ready(if copies == 200 { Ok(()) } else { Err(format!("{copies}")) })
    })
    .await?;
    Ok(())
}

async fn the_webhook_refuses_weights_that_are_all_zero(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let http = json!([{"name": "primary", "route": [to("iris-v1", 0), to("iris-v2", 0)]}]);
    let mut object = virtual_service("default", http);
    let refused = shared.cluster.apply_yaml(&object.to_string()).await.unwrap_err().to_string();
    ensure!(refused.contains("validation.istio.io") && refused.contains("denied the request"), "{refused}");
    object["spec"]["http"][0]["route"][0]["weight"] = json!(100);
    shared.cluster.apply_yaml(&object.to_string()).await?;
    Ok(())
}

async fn a_client_reaches_the_mesh_by_its_own_proxy(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let _served = two_versions(shared, "mesh").await?;
    let name = "iris-v1.mesh.svc.cluster.local";
    let mut object = virtual_service("mesh", json!([{"name": "primary", "route": [to("iris-v2", 100)]}]));
    object["spec"]["hosts"] = json!([name]);
    object["spec"]["gateways"] = json!(["mesh"]);
    shared.cluster.apply_yaml(&object.to_string()).await?;
    let client = Envoy::client(&shared.cluster, &shared.istio, "mesh", 8000).await?;
    client.reaches("mesh", "iris-v2").await?;
    let proxy = client.proxy().ok_or_else(|| anyhow!("a client has a proxy"))?;
    let users = Users::infer(proxy, name, "iris");
    wait::until(LIMIT, "the client's proxy obeys", || async {
        let answer = users.ask(1).await.remove(0);
        if answer.by == "iris-v2" { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await?;
    none_failed(&users.ask(50).await)
}

// === the kubelet ===

fn deployment(namespace: &str, container: Value, grace: u64) -> Value {
    let labels = json!({"app": "iris-v1"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "iris-v1", "namespace": namespace},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": grace},
            },
        },
    })
}

fn predictor(environment: Value) -> Value {
    json!({
        "name": "iris", "image": "lab/predictor", "args": ["--address", "$(POD_IP):8080"],
        "env": environment, "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}},
    })
}

async fn deploy(shared: &Shared, namespace: &str, deployment: &Value) -> Result<Client> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    shared.cluster.apply_yaml(&object.to_string()).await?;
    shared.cluster.apply_yaml(&deployment.to_string()).await?;
    Ok(shared.cluster.admin()?)
}

/// Waits until the pods, by their versions and whether they are ready, are these.
async fn one_pod(client: &Client, namespace: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let seen = wait::until(LIMIT, format!("{namespace}: {what}"), || async {
        let pods = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        match pods.items.as_slice() {
            [pod] if holds(pod) => Ok(pod.clone()),
            other => Err(format!("{:?}", other.iter().map(|pod| &pod.status).collect::<Vec<_>>())),
        }
    });
    Ok(seen.await?)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn address(pod: &Pod, port: u16) -> Result<SocketAddr> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default();
    Ok(SocketAddr::new(ip.parse()?, port))
}

async fn nobody_listens(address: SocketAddr) -> Result<()> {
    let listens = tokio::net::TcpStream::connect(address).await.is_ok();
    ensure!(!listens, "{address} still listens");
    Ok(())
}

async fn pods_of_a_deployment_run_as_processes_and_end(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let object = deployment("deployed", predictor(json!([{"name": "VERSION", "value": "v1"}])), 5);
    let client = deploy(shared, "deployed", &object).await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "iris-v1", "namespace": "deployed"},
        "spec": {"selector": {"app": "iris-v1"}, "ports": [{"name": "http", "port": 8000, "targetPort": "http"}]},
    });
    shared.cluster.apply_yaml(&service.to_string()).await?;
    let http = json!([{"name": "primary", "route": [to("iris-v1", 100)]}]);
    shared.obeys(&virtual_service("deployed", http), &[]).await?;
    let first = one_pod(&client, "deployed", "a pod is ready", is_ready).await?;
    let users = shared.users("deployed");
    wait::until(LIMIT, "the pod answers by the gateway", || async {
        let answer = users.ask(1).await.remove(0);
        if answer.by == "iris-v1" { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await?;

    // A new template replaces the process, and no replicas end it.
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "deployed");
    let template = predictor(json!([{"name": "VERSION", "value": "v7"}]));
    let patch = json!({"spec": {"template": {"spec": {"containers": [template]}}}});
    deployments.patch("iris-v1", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    let new = one_pod(&client, "deployed", "only the new pod is there", |pod| {
        is_ready(pod) && pod.metadata.uid != first.metadata.uid
    })
    .await?;
    nobody_listens(address(&first, 8080)?).await?;
    let direct = Users::infer(address(&new, 8080)?, "iris", "iris").ask(1).await.remove(0);
    ensure!(direct.by == "iris-v7", "{direct:?}");
    let patch = json!({"spec": {"replicas": 0}});
    deployments.patch("iris-v1", &PatchParams::default(), &Patch::Merge(patch)).await?;
    let pods: Api<Pod> = Api::namespaced(client, "deployed");
    wait::until(LIMIT, "no pod is left", || async {
        let left = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items.len();
        if left == 0 { Ok(()) } else { Err(format!("{left}")) }
    })
    .await?;
    nobody_listens(address(&new, 8080)?).await
}

async fn a_process_that_ends_is_started_again(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let container =
        json!({"name": "short", "image": "any", "command": ["/bin/sh", "-c", "echo hello; exit 1"]});
    let client = deploy(shared, "restarts", &deployment("restarts", container, 1)).await?;
    let pod = one_pod(&client, "restarts", "it was started three times", |pod| {
        let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        status.is_some_and(|status| status[0].restart_count >= 2)
    })
    .await?;
    let log = shared.kubelet.log("restarts", &pod.metadata.name.unwrap_or_default());
    ensure!(log.matches("hello\n").count() >= 3, "{log}");
    Ok(())
}

async fn a_pod_is_ready_when_its_probe_says_so(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let mut container = predictor(json!([{"name": "VERSION", "value": "v1"}]));
    // The process is there at once, and serves once it may.
    let folder = tempfile::tempdir()?;
    let may = folder.path().join("may");
    let serve = format!(
        "while ! test -e {}; do sleep 0.05; done; exec {} predictor --address $POD_IP:8080",
        may.display(),
        env!("CARGO_BIN_EXE_sluice-lab")
    );
    container["command"] = json!(["/bin/sh", "-c", serve]);
    container["args"] = json!([]);
    let client = deploy(shared, "probed", &deployment("probed", container, 1)).await?;
    let running = |pod: &Pod| pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"));
    let pod = one_pod(&client, "probed", "the pod runs", running).await?;
    ensure!(!is_ready(&pod), "nobody listens yet");
    std::fs::write(may, "")?;
    one_pod(&client, "probed", "the pod is ready", is_ready).await.map(drop)
}

async fn a_process_that_does_not_end_is_killed_after_its_grace(lab: &Lab) -> Result<()> {
    let shared = lab.shared().await?;
    let stubborn = "trap 'echo told' TERM; echo started; while :; do sleep 0.05; done";
    let container = json!({"name": "stubborn", "image": "any", "command": ["/bin/sh", "-c", stubborn]});
    let client = deploy(shared, "stubborn", &deployment("stubborn", container, 1)).await?;
    let pod = one_pod(&client, "stubborn", "the pod is ready", is_ready).await?;
    let name = pod.metadata.name.unwrap_or_default();
    wait::until(LIMIT, "it has set its trap", || {
        let log = shared.kubelet.log("stubborn", &name);
        std::future::ready(if log.contains("started") { Ok(()) } else { Err(log) })
    })
    .await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "stubborn");
    deployments.delete("iris-v1", &DeleteParams::background()).await?;
    let pods: Api<Pod> = Api::namespaced(client, "stubborn");
    wait::until(LIMIT, "the pod is gone", || async {
        match pods.get_opt(&name).await {
            Ok(None) => Ok(()),
            Ok(Some(pod)) => Err(format!("{:?}", pod.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    let log = shared.kubelet.log("stubborn", &name);
    ensure!(log.contains("told"), "it was not asked first: {log}");
    Ok(())
}
