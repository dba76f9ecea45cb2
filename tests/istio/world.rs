//! The world of one test: a namespace with predictors, a route at the gateway, users, and a Rollout to come.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use sluice_lab::predictor::Predictor;
use sluice_lab::real::pods::{self, LabPod, PodSpec, pod_address};
use sluice_lab::real::tls::{Identity, Secured};
use sluice_lab::real::{Audit, AuditEntry, Target, Users, wait};

use crate::controller::Controller;
use crate::lab::{CONTROLLER, GATEWAY, LIMIT, Lab, Shared};
use crate::oracle;
use crate::shares::Observed;

/// Name of the Rollout and of its VirtualService.
pub const IRIS: &str = "iris";
/// Name of the managed route.
pub const ROUTE: &str = "primary";
/// The port of pods, metrics included.
const POD_PORT: u16 = 8082;
/// The port of pods where [`World::secure`] was asked for.
const TLS_PORT: u16 = 8443;

/// The world of one test.
pub struct World<'a> {
    pub shared: &'a Shared,
    pub namespace: String,
    pub client: Client,
    /// What the API server was asked since the test began.
    pub audit: Audit,
    served: BTreeMap<String, Served>,
}

/// A predictor, its pod, and the Service that they are behind.
struct Served {
    service: String,
    predictor: Predictor,
    pod: LabPod,
    /// Kept for as long as the predictor.
    secured: Vec<Secured>,
}

/// A kind as the API's paths have it.
fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    let plural = format!("{}s", kind.to_lowercase());
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}

impl<'a> World<'a> {
    /// A namespace with the predictors `iris-v1` and `iris-v2`, and a VirtualService whose route has the first.
    pub async fn new(lab: &'a Lab, namespace: &str) -> Result<Self> {
        let mut world = Self::empty(lab, namespace).await?;
        world.serve("v1").await?;
        world.serve("v2").await?;
        world.create("networking.istio.io", "v1", &world.virtual_service()).await?;
        world.scraped().await?;
        world.routed().await?;
        Ok(world)
    }

    /// A namespace with nothing in it.
    pub async fn empty(lab: &'a Lab, namespace: &str) -> Result<Self> {
        let shared = lab.shared().await?;
        let client = shared.cluster.admin()?;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &resource("", "v1", "Namespace"));
        namespaces.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        let audit = shared.cluster.audit();
        Ok(Self { shared, namespace: namespace.to_owned(), client, audit, served: BTreeMap::new() })
    }

    /// A Service on port 8000, without anything behind it.
    pub async fn service(&self, name: &str) -> Result<()> {
        self.service_on(name, &[("http", 8000)]).await
    }

    /// A Service on these ports, which all lead to the predictor's only one. Istio tells by a port's name what is spoken there.
    async fn service_on(&self, name: &str, ports: &[(&str, u16)]) -> Result<()> {
        let ports: Vec<Value> = ports
            .iter()
            .map(|(name, port)| {
                let to = if *name == "tls" { "tls" } else { "http" };
                json!({"name": name, "port": port, "targetPort": to})
            })
            .collect();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": ports},
        });
        self.create("", "v1", &service).await.map(drop)
    }

    /// Starts `iris-<version>`: a predictor on a pod address, its pod, and its Service.
    pub async fn serve(&mut self, version: &str) -> Result<()> {
        self.serve_as(&format!("{IRIS}-{version}"), version, &[]).await
    }

    /// [`serve`](Self::serve) behind a Service of another name, with more labels on the pod.
    pub async fn serve_as(&mut self, service: &str, version: &str, labels: &[(&str, &str)]) -> Result<()> {
        self.serve_on(service, version, labels, &[("http", 8000)]).await
    }

    /// [`serve_as`](Self::serve_as) on other ports of the Service.
    pub async fn serve_on(
        &mut self,
        service: &str,
        version: &str,
        labels: &[(&str, &str)],
        ports: &[(&str, u16)],
    ) -> Result<()> {
        self.service_on(service, ports).await?;
        self.join(service, version, labels, true).await
    }

    /// One more predictor, by its version, behind a Service that is there, with these labels on its pod.
    pub async fn join(
        &mut self,
        service: &str,
        version: &str,
        labels: &[(&str, &str)],
        ready: bool,
    ) -> Result<()> {
        let address = pod_address();
        let listener = TcpListener::bind(SocketAddr::from((address, POD_PORT)))?;
        let predictor = Predictor::on(listener, IRIS, version)?;
        let name = format!("{service}-{version}-0");
        let spec = PodSpec::new(&self.namespace, name, address).label("app", service);
        let spec = labels.iter().fold(spec, |spec, (name, value)| spec.label(*name, *value));
        let spec = if ready { spec } else { spec.unready() };
        let spec = spec.port("http", POD_PORT).port("tls", TLS_PORT);
        let pod = pods::run(&self.client, &spec).await?;
        self.served.insert(
            version.to_owned(),
            Served { service: service.to_owned(), predictor, pod, secured: Vec::new() },
        );
        Ok(())
    }

    /// The pod of a version is ready, or is not.
    pub async fn set_ready(&self, version: &str, ready: bool) -> Result<()> {
        Ok(self.served[version].pod.set_ready(ready).await?)
    }

    /// Prometheus scrapes the predictors, and labels them as an operator's `ServiceMonitor` does.
    pub async fn scraped(&self) -> Result<()> {
        let targets = self.served.values().map(|one| {
            Target::new(one.predictor.address())
                .label("namespace", &self.namespace)
                .label("service", &one.service)
                .label("pod", one.pod.name())
        });
        self.shared.scrape_too(targets).await
    }

    /// Waits until users get answers, by the gateway, and would from every predictor.
    pub async fn routed(&self) -> Result<()> {
        self.routed_for(&self.users()).await
    }

    /// [`routed`](Self::routed) for these users.
    pub async fn routed_for(&self, users: &Users) -> Result<()> {
        for one in self.served.values() {
            self.shared.gateway.reaches(&self.namespace, &one.service).await?;
        }
        wait::until(LIMIT, format!("{}: the gateway has the route", self.namespace), || async {
            let answer = users.ask(1).await.remove(0);
            if answer.failed() { Err(format!("{answer:?}")) } else { Ok(()) }
        })
        .await?;
        Ok(())
    }

    /// From now on a predictor speaks TLS, too, as this identity.
    pub fn secure(&mut self, version: &str, identity: &Identity) -> Result<()> {
        let served = self.served.get_mut(version).context("it was not served")?;
        let server = served.predictor.address();
        let listener = TcpListener::bind((server.ip(), TLS_PORT))?;
        served.secured.push(Secured::start(listener, identity, server)?);
        Ok(())
    }

    pub fn predictor(&self, version: &str) -> &Predictor {
        &self.served[version].predictor
    }

    /// The host that users ask.
    pub fn host(&self) -> String {
        format!("{}.example.com", self.namespace)
    }

    /// Users at the gateway.
    pub fn users(&self) -> Users {
        Users::infer(self.shared.entry(), &self.host(), IRIS)
    }

    /// What Envoy does with the managed route from now on.
    pub fn observe(&self, lab: &Arc<Lab>) -> Observed {
        Observed::start(lab, &self.host())
    }

    /// A VirtualService as a person writes it, with one managed route to `iris-v1`.
    pub fn virtual_service(&self) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": IRIS, "labels": {"team": "flowers"}},
            "spec": {
                "hosts": [self.host()],
                "gateways": [GATEWAY],
                "http": [{
                    "name": ROUTE,
                    "timeout": "10s",
                    "route": [{"destination": {"host": "iris-v1", "port": {"number": 8000}}, "weight": 100}],
                }],
            },
        })
    }

    /// A Rollout that wants `iris-<version>` by these steps. It looks every second, and one failed request of a hundred is
    /// too many.
    pub fn rollout(&self, version: &str, steps: Value) -> Value {
        json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": IRIS, "namespace": self.namespace},
            "spec": {
                "target": {"service": {"name": format!("{IRIS}-{version}")}},
                "routes": [{"virtualService": IRIS, "http": [ROUTE]}],
                "steps": steps,
                "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 20}}],
                "metrics": {"source": "default", "profile": "mlserver"},
                "interval": "1s",
                "settle": "1s",
            },
        })
    }

    /// A step that lasts until users have sent so many requests, as the canary's predictors count their share of them; some
    /// more of them than that, for those that are not counted on either side of a change.
    pub fn step(weight: u64, requests: u64) -> Value {
        json!({"weight": weight, "for": "1s", "minRequests": requests * weight / 80})
    }

    /// A controller of this namespace.
    pub fn controller(&self) -> Result<Controller> {
        Controller::start(self.shared, &self.namespace)
    }

    // === objects ===

    pub fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(group, version, kind))
    }

    pub fn virtual_services(&self) -> Api<DynamicObject> {
        self.api("networking.istio.io", "v1", "VirtualService")
    }

    pub fn seldon_deployments(&self) -> Api<DynamicObject> {
        self.api("machinelearning.seldon.io", "v1", "SeldonDeployment")
    }

    pub fn rollouts(&self) -> Api<DynamicObject> {
        self.api("sluice.dev", "v1alpha1", "Rollout")
    }

    pub async fn create(&self, group: &str, version: &str, object: &Value) -> Result<Value> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let created = self.api(group, version, kind).create(&PostParams::default(), &object).await;
        Ok(serde_json::to_value(created.with_context(|| format!("create {kind}"))?)?)
    }

    pub async fn create_rollout(&self, rollout: &Value) -> Result<()> {
        self.create("sluice.dev", "v1alpha1", rollout).await.map(drop)
    }

    pub async fn want(&self, version: &str) -> Result<()> {
        self.edit(json!({"target": {"service": {"name": format!("{IRIS}-{version}")}}})).await
    }

    /// Changes the Rollout's spec, as `kubectl patch --type merge` does.
    pub async fn edit(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.rollouts().patch(IRIS, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The pods that there are: of each its uid and when it was started.
    pub async fn pods(&self) -> Result<BTreeMap<String, (String, String)>> {
        let pods = self.api("", "v1", "Pod").list(&ListParams::default()).await?;
        let read = |pod: DynamicObject| {
            let uid = pod.metadata.uid.unwrap_or_default();
            (pod.metadata.name.unwrap_or_default(), (uid, pod.data["status"]["startTime"].to_string()))
        };
        Ok(pods.items.into_iter().map(read).collect())
    }

    pub async fn delete_service(&self, name: &str) -> Result<()> {
        self.api("", "v1", "Service").delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    pub async fn delete_rollout(&self) -> Result<()> {
        self.rollouts().delete(IRIS, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The VirtualService as it is.
    pub async fn route(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.virtual_services().get(IRIS).await?)?)
    }

    /// Replaces the VirtualService's spec with that of another, however often others write meanwhile.
    pub async fn replace_route(&self, new: Value) -> Result<()> {
        let patch = json!([{"op": "replace", "path": "/spec", "value": new["spec"]}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        self.virtual_services().patch(IRIS, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    pub async fn status(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.rollouts().get(IRIS).await?)?["status"].take())
    }

    // === waiting ===

    /// Waits for a status that `holds`.
    pub async fn status_is(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let seen = wait::until(LIMIT, format!("{}: {what}", self.namespace), || async {
            let status = self.status().await.map_err(|error| error.to_string())?;
            if holds(&status) { Ok(status) } else { Err(brief(&status)) }
        });
        Ok(seen.await?)
    }

    /// Waits for the Rollout to be in a phase for a reason.
    pub async fn phase(&self, phase: &str, reason: &str) -> Result<Value> {
        self.status_is(&format!("the phase is {phase} ({reason})"), |status| {
            status["phase"] == phase && status["reason"] == reason
        })
        .await
    }

    /// Waits until a Service's weight on the route is this.
    pub async fn weight_is(&self, service: &str, weight: i64) -> Result<Value> {
        let what = format!("{}: {service} has weight {weight}", self.namespace);
        let seen = wait::until(LIMIT, what, || async {
            let route = self.route().await.map_err(|error| error.to_string())?;
            let weights = oracle::weights(&route, ROUTE);
            if weights.get(service).copied().unwrap_or(0) == weight {
                Ok(route)
            } else {
                Err(format!("{weights:?}"))
            }
        });
        Ok(seen.await?)
    }

    /// Waits until a Service is alone on the route.
    pub async fn only(&self, service: &str) -> Result<Value> {
        let what = format!("{}: {service} is alone on the route", self.namespace);
        let seen = wait::until(LIMIT, what, || async {
            let route = self.route().await.map_err(|error| error.to_string())?;
            let weights = oracle::weights(&route, ROUTE);
            if weights == BTreeMap::from([(service.to_owned(), 100)]) {
                return Ok(route);
            }
            let status = self.status().await.map_err(|error| error.to_string())?;
            Err(format!("{weights:?}, {}", brief(&status)))
        });
        Ok(seen.await?)
    }

    /// Waits until these users are answered by a predictor.
    pub async fn answered_by(&self, users: &Users, predictor: &str) -> Result<()> {
        wait::until(LIMIT, format!("{}: {predictor} answers", self.namespace), || async {
            let answer = users.ask(1).await.remove(0);
            if answer.by == predictor { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await?;
        Ok(())
    }

    /// What a person types after `sluice`, about this namespace. Asked again while the step's traffic is not in place.
    pub async fn says(&self, words: &[&str]) -> Result<()> {
        let kubeconfig = self.shared.cluster.kubeconfig("admin")?;
        wait::until(LIMIT, format!("{}: sluice {}", self.namespace, words.join(" ")), || async {
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
            command.args(words).args(["-n", &self.namespace]).env("KUBECONFIG", &kubeconfig);
            let output = command.output().await.map_err(|error| error.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        })
        .await?;
        Ok(())
    }

    /// A person approves the step.
    pub async fn approve(&self) -> Result<()> {
        self.says(&["approve", IRIS, "--reason", "it is well"]).await
    }

    /// Waits until Envoy sends this share of the managed route to a Service.
    pub async fn obeyed(&self, observed: &Observed, service: &str, weight: u64) -> Result<()> {
        let what = format!("{}: Envoy gives {service} {weight}%", self.namespace);
        wait::until(LIMIT, what, || {
            let sequence = observed.sequence(service);
            let obeys = sequence.last() == Some(&weight);
            std::future::ready(if obeys { Ok(()) } else { Err(format!("{sequence:?}")) })
        })
        .await?;
        Ok(())
    }

    // === what the controller asked for ===

    /// The controller's writes to the VirtualService. That istiod's webhook refused none is seen by [`end`](Self::end).
    pub fn route_writes(&self) -> Result<Vec<AuditEntry>> {
        let mut writes = self.audit.writes_of(CONTROLLER)?;
        writes.retain(|write| write.namespace == self.namespace && write.resource == "virtualservices");
        Ok(writes)
    }

    /// Ends the controller, which has written the VirtualService, and sees that it was [never
    /// refused](Self::never_refused) anything.
    pub fn end(&self, controller: Controller) -> Result<()> {
        self.never_refused(controller)?;
        ensure!(!self.route_writes()?.is_empty(), "the controller wrote nothing");
        Ok(())
    }

    /// Ends the controller, and sees that the server and istiod's webhook never refused it anything.
    pub fn never_refused(&self, mut controller: Controller) -> Result<()> {
        controller.runs()?;
        let killed = Utc::now();
        drop(controller);
        let asked = self.audit.of(CONTROLLER)?.into_iter().filter(|entry| entry.namespace == self.namespace);
        // A conflict or a deletion is nobody's fault, nor is a server that is too busy. One whose client is gone before it has
        // its answer, because it was killed, notes an error of its own; of reads also where the test killed it earlier.
        let reads = |entry: &AuditEntry| ["get", "list", "watch"].contains(&entry.verb.as_str());
        let refused = |entry: &AuditEntry| match entry.code {
            ..400 | 404 | 409 | 429 => false,
            400..500 => true,
            500.. => !reads(entry) && entry.answered < killed,
        };
        let refused: Vec<_> = asked.filter(refused).collect();
        ensure!(refused.is_empty(), "the controller was refused: {refused:?}");
        Ok(())
    }
}

/// The part of a status that tells what went wrong.
fn brief(status: &Value) -> String {
    let decisions = status["decisions"].as_array().cloned().unwrap_or_default();
    let decisions: Vec<String> = decisions
        .iter()
        .map(|d| format!("{} {}->{} {}", d["kind"], d["fromWeight"], d["weight"], d["message"]))
        .collect();
    format!("{} {} {} {decisions:?}", status["phase"], status["reason"], status["message"])
}

/// What was expected and what was found, where they are not the same.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<()> {
    ensure!(seen == expected, "{what}: expected {expected:?}, found {seen:?}");
    Ok(())
}

/// The kinds of the decisions of a status, one after the other.
pub fn decided(status: &Value) -> Vec<String> {
    let decisions = status["decisions"].as_array();
    decisions.into_iter().flatten().map(|d| d["kind"].as_str().unwrap_or_default().to_owned()).collect()
}
