//! The real laboratory, shown to be what it says: one cluster and one Prometheus, shared by the tests below.
#![allow(clippy::unwrap_used, reason = "a test, though clippy knows only those of the usual harness")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use kube::{Client, ResourceExt};
use libtest_mimic::Arguments;
use serde_json::{Value, json};
use sluice_lab::real::pods::{self, PodSpec, pod_address};
use sluice_lab::real::{Audit, Authors, Cluster, Error, Options, Prometheus, Target, crds, namespace, wait};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Nothing here takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_mins(1);

fn main() -> Result<ExitCode> {
    namespace::enter()?;
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());

    let trials = sluice_lab::trials!(
        runtime,
        lab,
        [
            the_api_answers_and_the_admin_can_write,
            a_user_without_rbac_is_refused,
            a_user_may_do_what_rbac_says,
            a_kubeconfig_is_complete,
            an_unknown_user_is_an_error_that_names_the_known,
            a_pod_behind_a_service_becomes_an_endpoint,
            a_deleted_namespace_takes_its_pods_with_it,
            a_crd_and_its_objects_can_be_applied_in_one_stream,
            prometheus_scrapes_pod_addresses_and_answers_queries,
            a_wrong_query_is_an_error_in_prometheus_words,
            the_audit_counts_the_requests_of_a_user,
            the_history_has_every_commit_and_who_wrote_it,
            the_api_server_comes_back_with_its_data,
        ]
    );
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// Started by the first test that asks. If that fails, the others fail by it too, at once.
#[derive(Default)]
struct Lab {
    cluster: OnceCell<Result<Cluster, Error>>,
    prometheus: OnceCell<Result<Prometheus, Error>>,
}

impl Lab {
    async fn cluster(&self) -> Result<&Cluster> {
        let options = Options::new().user("nobody").user("reader").user("counted").history();
        let started = self.cluster.get_or_init(|| Cluster::start(options)).await;
        started.as_ref().map_err(|error| anyhow!("the cluster did not start: {error}"))
    }

    async fn prometheus(&self) -> Result<&Prometheus> {
        let started = self.prometheus.get_or_init(|| Prometheus::start(Duration::from_millis(200))).await;
        started.as_ref().map_err(|error| anyhow!("Prometheus did not start: {error}"))
    }

    /// An admin's client and a fresh namespace.
    async fn namespace(&self, name: &str) -> Result<Client> {
        let client = self.cluster().await?.admin()?;
        let namespace = Namespace { metadata: named(name), ..Default::default() };
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(client)
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: named(name), ..Default::default() }
}

fn code<T>(answer: Result<T, kube::Error>) -> Option<u16> {
    match answer {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

// === the API and its users ===

async fn the_api_answers_and_the_admin_can_write(lab: &Lab) -> Result<()> {
    let client = lab.namespace("writes").await?;
    let version = client.apiserver_version().await?;
    ensure!(version.git_version.starts_with("v1."), "{version:?}");
    let api: Api<ConfigMap> = Api::namespaced(client, "writes");
    api.create(&PostParams::default(), &config_map("a")).await?;
    let read = api.get("a").await?;
    ensure!(read.resource_version().is_some());
    ensure!(code(api.create(&PostParams::default(), &config_map("a")).await) == Some(409));
    Ok(())
}

async fn a_user_without_rbac_is_refused(lab: &Lab) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(lab.cluster().await?.user("nobody")?, "default");
    ensure!(code(api.list(&ListParams::default()).await) == Some(403));
    ensure!(code(api.create(&PostParams::default(), &config_map("a")).await) == Some(403));
    Ok(())
}

async fn a_user_may_do_what_rbac_says(lab: &Lab) -> Result<()> {
    let cluster = lab.cluster().await?;
    cluster
        .apply_yaml(
            "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: reader}]
",
        )
        .await?;
    let api: Api<ConfigMap> = Api::namespaced(cluster.user("reader")?, "default");
    // The authorizer reads roles from a cache.
    wait::until(LIMIT, "the reader may list", async || api.list(&ListParams::default()).await).await?;
    ensure!(code(api.create(&PostParams::default(), &config_map("a")).await) == Some(403));
    Ok(())
}

async fn a_kubeconfig_is_complete(lab: &Lab) -> Result<()> {
    let file = lab.cluster().await?.kubeconfig("admin")?;
    let kubeconfig = Kubeconfig::read_from(file)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Client::try_from(config)?.apiserver_version().await?;
    Ok(())
}

async fn an_unknown_user_is_an_error_that_names_the_known(lab: &Lab) -> Result<()> {
    let error = lab.cluster().await?.user("sluicer").map(drop).unwrap_err().to_string();
    ensure!(error.contains(r#""sluicer""#) && error.contains(r#""reader""#), "{error}");
    Ok(())
}

// === pods and their endpoints ===

async fn a_pod_behind_a_service_becomes_an_endpoint(lab: &Lab) -> Result<()> {
    let client = lab.namespace("endpoints").await?;
    let service = "
apiVersion: v1
kind: Service
metadata: {name: iris, namespace: endpoints}
spec: {selector: {app: iris}, ports: [{name: http, port: 8000, targetPort: http}]}
";
    lab.cluster().await?.apply_yaml(service).await?;
    let spec =
        |name: &str| PodSpec::new("endpoints", name, pod_address()).label("app", "iris").port("http", 8080);
    let ready = pods::run(&client, &spec("ready")).await?;
    let unready = pods::run(&client, &spec("unready").unready()).await?;

    endpoints_are(&client, [(ready.address(), true), (unready.address(), false)]).await?;
    unready.set_ready(true).await?;
    ready.set_ready(false).await?;
    endpoints_are(&client, [(ready.address(), false), (unready.address(), true)]).await?;
    let remaining = unready.address();
    ready.delete().await?;
    endpoints_are(&client, [(remaining, true)]).await
}

/// Waits until the Service `iris` has just these endpoints at port 8080, each ready or not.
async fn endpoints_are<const N: usize>(client: &Client, wanted: [(Ipv4Addr, bool); N]) -> Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), "endpoints");
    let of_service = ListParams::default().labels("kubernetes.io/service-name=iris");
    let mut wanted = wanted.map(|(address, ready)| (address.to_string(), ready)).to_vec();
    wanted.sort();
    let seen = wait::until(LIMIT, format!("the endpoints are {wanted:?}"), || async {
        let slices = api.list(&of_service).await.map_err(|error| error.to_string())?;
        let mut seen: Vec<_> = slices.iter().flat_map(endpoints).collect();
        seen.sort();
        if seen == wanted { Ok(slices) } else { Err(format!("they are {seen:?}")) }
    });
    let ports: Vec<_> = seen.await?.into_iter().flat_map(|slice| slice.ports.unwrap_or_default()).collect();
    ensure!(ports.iter().all(|port| port.port == Some(8080)), "{ports:?}");
    Ok(())
}

fn endpoints(slice: &EndpointSlice) -> Vec<(String, bool)> {
    let is_ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(false)
    };
    let endpoints = slice.endpoints.iter();
    endpoints
        .flat_map(|one| one.addresses.iter().map(move |address| (address.clone(), is_ready(one))))
        .collect()
}

async fn a_deleted_namespace_takes_its_pods_with_it(lab: &Lab) -> Result<()> {
    let client = lab.namespace("doomed").await?;
    pods::run(&client, &PodSpec::new("doomed", "pod", pod_address())).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete("doomed", &DeleteParams::default()).await?;
    wait::until(LIMIT, "the namespace is gone", || async {
        match namespaces.get_opt("doomed").await {
            Ok(None) => Ok(()),
            Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    ensure!(code(Api::<Pod>::namespaced(client, "doomed").get("pod").await) == Some(404));
    Ok(())
}

// === YAML of any kind ===

async fn a_crd_and_its_objects_can_be_applied_in_one_stream(lab: &Lab) -> Result<()> {
    let cluster = lab.cluster().await?;
    let virtual_service = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: iris}
spec:
  hosts: [iris]
  http: [{route: [{destination: {host: iris-v1}, weight: 75}, {destination: {host: iris-v2}, weight: 25}], unheard: of}]
";
    let stream = format!("{}\n---{virtual_service}", crds::VIRTUAL_SERVICES);
    let applied = cluster.apply_yaml(&stream).await?;
    ensure!(applied.len() == 2);
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let kind = GroupVersionKind::gvk("networking.istio.io", version, "VirtualService");
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.admin()?, "default", &resource);
        let read = api.get("iris").await.context(version)?;
        ensure!(read.data["spec"]["http"][0]["route"][1]["weight"] == 25, "{read:?}");
        ensure!(read.data["spec"]["http"][0]["unheard"] == "of", "{read:?}");
    }
    Ok(())
}

// === Prometheus ===

async fn prometheus_scrapes_pod_addresses_and_answers_queries(lab: &Lab) -> Result<()> {
    let prometheus = lab.prometheus().await?;
    let stable = serve("requests_total 3\n").await?;
    let canary = serve("requests_total 4\n").await?;
    let target = |address, pod| Target::new(address).label("namespace", "models").label("pod", pod);
    prometheus.set_targets([target(stable, "stable"), target(canary, "canary")]).await?;
    let by_pod = || async {
        let samples =
            prometheus.query("sum by (namespace, pod) (requests_total)").await.map_err(|e| e.to_string())?;
        let mut seen: Vec<_> =
            samples.iter().map(|sample| (sample.labels["pod"].clone(), sample.value.to_string())).collect();
        seen.sort();
        Ok::<_, String>(seen)
    };
    let are = |wanted: &'static [(&str, &str)]| {
        wait::until(LIMIT, format!("the samples are {wanted:?}"), move || async move {
            let seen = by_pod().await?;
            let same =
                seen.iter().map(|(pod, value)| (pod.as_str(), value.as_str())).eq(wanted.iter().copied());
            if same { Ok(()) } else { Err(format!("they are {seen:?}")) }
        })
    };
    are(&[("canary", "4"), ("stable", "3")]).await?;
    // What is no target any more goes stale at once.
    prometheus.set_targets([target(canary, "canary")]).await?;
    are(&[("canary", "4")]).await?;
    Ok(())
}

/// A metrics page on a pod address of its own.
async fn serve(page: &'static str) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind((pod_address(), 8082)).await?;
    let address = listener.local_addr()?;
    let headers = [("content-type", "text/plain; version=0.0.4")];
    let metrics = axum::routing::get(move || std::future::ready((headers, page)));
    tokio::spawn(axum::serve(listener, axum::Router::new().route("/metrics", metrics)).into_future());
    Ok(address)
}

async fn a_wrong_query_is_an_error_in_prometheus_words(lab: &Lab) -> Result<()> {
    let error = lab.prometheus().await?.query("sum(").await.unwrap_err().to_string();
    ensure!(error.contains("parse error"), "{error}");
    Ok(())
}

// === the audit log ===

async fn the_audit_counts_the_requests_of_a_user(lab: &Lab) -> Result<()> {
    let cluster = lab.cluster().await?;
    let api: Api<ConfigMap> = Api::namespaced(cluster.user("counted")?, "default");
    let seen = async |audit: &Audit, count: usize| {
        wait::until(LIMIT, format!("{count} requests are in the log"), async || {
            let entries = audit.of("counted").map_err(|error| error.to_string())?;
            let seen: Vec<_> =
                entries.iter().map(|e| format!("{} {} {} {}", e.verb, e.resource, e.name, e.code)).collect();
            if seen.len() >= count { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await
    };
    let before = cluster.audit();
    drop(api.get("a").await);
    ensure!(seen(&before, 1).await? == ["get configmaps a 403"]);
    let after = cluster.audit();
    drop(api.delete("b", &DeleteParams::default()).await);
    ensure!(seen(&after, 1).await? == ["delete configmaps b 403"]);
    ensure!(seen(&before, 2).await? == ["get configmaps a 403", "delete configmaps b 403"]);
    ensure!(before.writes_of("counted")?.len() == 1);
    ensure!(cluster.audit().of("counted")?.is_empty());
    Ok(())
}

// === a restart ===

/// With a cluster of its own, because the others must not notice. That the two are side by side is part of the test.
async fn the_api_server_comes_back_with_its_data(lab: &Lab) -> Result<()> {
    let _other = lab.cluster().await?;
    let cluster = Cluster::start(Options::new()).await?;
    let api: Api<ConfigMap> = Api::namespaced(cluster.admin()?, "default");
    let written = api.create(&PostParams::default(), &config_map("kept")).await?;
    cluster.stop_api_server().await;
    ensure!(api.get("kept").await.is_err());
    cluster.start_api_server().await?;
    // The old client finds its way back.
    let read = wait::until(LIMIT, "the API answers again", || api.get("kept")).await?;
    ensure!(read.resource_version() == written.resource_version());
    Ok(())
}

async fn the_history_has_every_commit_and_who_wrote_it(lab: &Lab) -> Result<()> {
    let cluster = lab.cluster().await?;
    let history = cluster.history().await?;
    cluster.apply_yaml(crds::VIRTUAL_SERVICES).await?;
    let client = lab.namespace("history").await?;
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let routes: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        "history",
        &ApiResource::from_gvk_with_plural(&kind, "virtualservices"),
    );
    let route = |hosts: &str, finalizers: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "iris", "finalizers": finalizers}, "spec": {"hosts": [hosts]},
        })
    };
    let create = async |dry_run| {
        let params = PostParams { dry_run, ..PostParams::default() };
        routes.create(&params, &serde_json::from_value(route("a", json!(["example.com/held"])))?).await?;
        anyhow::Ok(())
    };
    let merge = async |change: Value| {
        routes.patch("iris", &PatchParams::default(), &Patch::Merge(change)).await?;
        anyhow::Ok(())
    };
    let services: Api<Service> = Api::namespaced(client, "history");
    for _ in 0..2 {
        create(true).await?;
        create(false).await?;
        merge(json!({"spec": {"hosts": ["b"]}})).await?;
        // This one changes nothing.
        merge(json!({"spec": {"hosts": ["b"]}})).await?;
        routes.delete("iris", &DeleteParams::default()).await?;
        merge(json!({"metadata": {"finalizers": null}})).await?;
        let service = json!({"metadata": {"name": "iris-v1"}, "spec": {"ports": [{"port": 80}]}});
        services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        services.delete("iris-v1", &DeleteParams::default()).await?;
    }

    let commits = history.commits("history", Authors::All).await?;
    let hosts = |object: &Option<Arc<Value>>| match object {
        Some(object) => object["spec"]["hosts"][0].as_str().unwrap_or("a service").to_owned(),
        None => "nothing".to_owned(),
    };
    let seen: Vec<_> = commits
        .iter()
        .filter(|commit| ["virtualservices", "services"].contains(&commit.resource.as_str()))
        .map(|commit| (hosts(&commit.before), hosts(&commit.after), commit.by.clone().unwrap_or_default()))
        .collect();
    let once = [
        ("nothing", "a"),
        ("a", "b"),
        // It is marked as deleted, and then goes.
        ("b", "b"),
        ("b", "nothing"),
        ("nothing", "a service"),
        ("a service", "nothing"),
    ]
    .map(|(before, after)| (before.to_owned(), after.to_owned(), "admin".to_owned()));
    ensure!(seen == [once.clone(), once].concat(), "{seen:?}");
    ensure!(commits.windows(2).all(|pair| pair[0].version < pair[1].version && pair[0].at <= pair[1].at));
    Ok(())
}
