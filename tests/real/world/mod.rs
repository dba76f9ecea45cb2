//! The world of one test: a namespace with predictors, users, a VirtualService, and a Rollout to come.

mod oracles;
mod people;
mod waiting;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, anyhow, ensure};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use sluice_lab::gateway::{Load, Running};
use sluice_lab::predictor::Predictor;
use sluice_lab::real::pods::{self, LabPod, PodSpec, pod_address};
use sluice_lab::real::{Audit, Target};

use crate::controller::Controller;
use crate::lab::{Lab, Shared};
use crate::oracle;

/// Name of the Rollout and of its VirtualService.
pub const IRIS: &str = "iris";
/// Name of the managed route.
pub const ROUTE: &str = "primary";
/// The port of pods, metrics included.
pub const POD_PORT: u16 = 8082;

/// The world of one test.
pub struct World<'a> {
    pub shared: &'a Shared,
    pub namespace: String,
    pub client: Client,
    /// What the API server was asked since the test began.
    pub audit: Audit,
    served: BTreeMap<String, (Predictor, LabPod)>,
}

/// A kind as the API's paths have it.
fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    let plural = format!("{}s", kind.to_lowercase());
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}

impl<'a> World<'a> {
    /// A namespace with the predictors `iris-v1` and `iris-v2`, and a VirtualService whose route has the first.
    pub async fn new(lab: &'a Lab, namespace: &str) -> Result<Self> {
        Self::on(lab.shared().await?, namespace).await
    }

    /// [`new`](Self::new) on a cluster of one's own.
    pub async fn on(shared: &'a Shared, namespace: &str) -> Result<Self> {
        let mut world = Self::empty_on(shared, namespace).await?;
        world.serve("v1").await?;
        world.serve("v2").await?;
        world.create("networking.istio.io", "v1", &world.virtual_service()).await?;
        Ok(world)
    }

    /// A namespace with nothing in it.
    pub async fn empty(lab: &'a Lab, namespace: &str) -> Result<Self> {
        Self::empty_on(lab.shared().await?, namespace).await
    }

    /// [`empty`](Self::empty) on a cluster of one's own.
    pub async fn empty_on(shared: &'a Shared, namespace: &str) -> Result<Self> {
        let client = shared.cluster.admin()?;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &resource("", "v1", "Namespace"));
        namespaces.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        let audit = shared.cluster.audit();
        Ok(Self { shared, namespace: namespace.to_owned(), client, audit, served: BTreeMap::new() })
    }

    /// Starts `iris-<version>`: a predictor on a pod address, its pod, and its Service on port 8000.
    pub async fn serve(&mut self, version: &str) -> Result<()> {
        self.service(version).await?;
        self.pod(version).await
    }

    /// The Service `iris-<version>` without anything behind it.
    pub async fn service(&self, version: &str) -> Result<()> {
        let name = format!("{IRIS}-{version}");
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 8000, "targetPort": "http"}]},
        });
        self.create("", "v1", &service).await.map(drop)
    }

    /// The predictor `iris-<version>` in a ready pod.
    pub async fn pod(&mut self, version: &str) -> Result<()> {
        let name = format!("{IRIS}-{version}");
        let address = pod_address();
        let listener = TcpListener::bind(SocketAddr::from((address, POD_PORT)))?;
        let predictor = Predictor::on(listener, IRIS, version)?;
        let spec = PodSpec::new(&self.namespace, format!("{name}-0"), address);
        let pod = pods::run(
            &self.client,
            &spec.label("app", &name).label("version", version).port("http", POD_PORT),
        )
        .await?;
        self.served.insert(version.to_owned(), (predictor, pod));
        Ok(())
    }

    pub fn predictor(&self, version: &str) -> &Predictor {
        &self.served[version].0
    }

    pub fn pod_of(&self, version: &str) -> &LabPod {
        &self.served[version].1
    }

    /// The host that users ask.
    pub fn host(&self) -> String {
        format!("{}.example.com", self.namespace)
    }

    /// As a person writes it, with what a route can carry besides destinations, known to Istio or not.
    pub fn virtual_service(&self) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": IRIS, "labels": {"team": "flowers"}},
            "spec": {
                "hosts": [self.host()],
                "http": [
                    {
                        "name": "internal",
                        "match": [{"headers": {"x-internal": {"exact": "yes"}}}],
                        "route": [{"destination": {"host": "elsewhere.example.com"}}],
                    },
                    {
                        "name": ROUTE,
                        "match": [{"uri": {"prefix": "/v2/"}}],
                        "timeout": "10s",
                        "retries": {"attempts": 2, "perTryTimeout": "3s", "retryOn": "5xx,reset"},
                        "headers": {"request": {"set": {"x-forwarded-proto": "https"}}},
                        "unheardOf": {"deep": [1, {"list": null}]},
                        "route": [{
                            "destination": {"host": "iris-v1", "port": {"number": 8000}},
                            "headers": {"response": {"remove": ["server"]}},
                            "weight": 100,
                        }],
                    },
                ],
            },
        })
    }

    /// A Rollout that wants `iris-<version>`, with these parts of the spec besides. Looks every 300 ms; no checks.
    pub fn rollout(&self, version: &str, more: Value) -> Value {
        let mut spec = json!({
            "target": {"service": {"name": format!("{IRIS}-{version}")}},
            "routes": [{"virtualService": IRIS, "http": [ROUTE]}],
            "interval": "300ms",
            "settle": "300ms",
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": IRIS, "namespace": self.namespace}, "spec": spec,
        })
    }

    /// Users who ask so many times a second.
    pub fn users(&self, per_second: f64) -> Running {
        Load::infer(&self.host(), IRIS).rate(per_second).start(&self.shared.gateway)
    }

    /// Users who send a header with what they ask.
    pub fn users_with(&self, per_second: f64, name: &str, value: &str) -> Running {
        Load::infer(&self.host(), IRIS).header(name, value).rate(per_second).start(&self.shared.gateway)
    }

    /// A controller of this namespace.
    pub fn controller(&self) -> Result<Controller> {
        Controller::start(self.shared, &self.namespace, "one")
    }

    // === objects ===

    pub fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(group, version, kind))
    }

    pub fn virtual_services(&self) -> Api<DynamicObject> {
        self.api("networking.istio.io", "v1", "VirtualService")
    }

    pub fn rollouts(&self) -> Api<DynamicObject> {
        self.api("sluice.dev", "v1alpha1", "Rollout")
    }

    pub fn actions(&self) -> Api<DynamicObject> {
        self.api("sluice.dev", "v1alpha1", "RolloutAction")
    }

    pub async fn create(&self, group: &str, version: &str, object: &Value) -> Result<Value> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let created = self.api(group, version, kind).create(&PostParams::default(), &object).await;
        Ok(serde_json::to_value(created.with_context(|| format!("create {kind}"))?)?)
    }

    pub async fn create_rollout(&self, rollout: &Value) -> Result<Value> {
        self.create("sluice.dev", "v1alpha1", rollout).await
    }

    /// Creates a Rollout as `kubectl` does: what the schema does not know is an error and not dropped. A dry run changes
    /// nothing.
    pub async fn create_strictly(&self, rollout: &Value, dry_run: bool) -> kube::Result<DynamicObject> {
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let path = format!(
            "/apis/sluice.dev/v1alpha1/namespaces/{}/rollouts?fieldValidation=Strict{dry_run}",
            self.namespace
        );
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(rollout.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    /// The VirtualService as it is.
    pub async fn route(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.virtual_services().get(IRIS).await?)?)
    }

    /// The VirtualService as it is; null where there is none.
    pub async fn route_if_any(&self) -> Result<Value> {
        let route = self.virtual_services().get_opt(IRIS).await?;
        Ok(route.map(serde_json::to_value).transpose()?.unwrap_or_default())
    }

    /// The Rollout as it is.
    pub async fn status(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.rollouts().get(IRIS).await?)?["status"].take())
    }

    /// Changes the Rollout's spec, as `kubectl patch --type merge` does.
    pub async fn edit(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.rollouts().patch(IRIS, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Wants another version.
    pub async fn want(&self, version: &str) -> Result<()> {
        self.edit(json!({"target": {"service": {"name": format!("{IRIS}-{version}")}}})).await
    }

    /// Makes the controller look without giving it a reason to write: annotations change that are nothing to it.
    pub async fn touch(&self, turn: u32) -> Result<()> {
        let patch = touched(turn);
        // A Service's annotations are nothing to the controller.
        match turn % 2 {
            0 => self.touch_rollout(turn).await?,
            _ => drop(self.virtual_services().patch(IRIS, &PatchParams::default(), &patch).await?),
        }
        Ok(())
    }

    /// [`touch`](Self::touch) by the Rollout itself.
    pub async fn touch_rollout(&self, turn: u32) -> Result<()> {
        self.rollouts().patch(IRIS, &PatchParams::default(), &touched(turn)).await?;
        Ok(())
    }

    pub async fn delete_rollout(&self) -> Result<()> {
        self.rollouts().delete(IRIS, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Prometheus scrapes the predictors.
    pub async fn scraped(&self) -> Result<()> {
        self.shared.scrape_too(self.targets()).await
    }

    /// The predictors as an operator's `ServiceMonitor` labels them.
    pub fn targets(&self) -> Vec<Target> {
        let targets = self.served.iter().map(|(version, (predictor, pod))| {
            Target::new(predictor.address())
                .label("namespace", &self.namespace)
                .label("service", format!("{IRIS}-{version}"))
                .label("pod", pod.name())
        });
        targets.collect()
    }
}

fn touched(turn: u32) -> Patch<Value> {
    Patch::Merge(json!({"metadata": {"annotations": {oracle::TOUCHED: turn.to_string()}}}))
}

fn version(object: &Value) -> Result<u64> {
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    version.parse().with_context(|| format!("resourceVersion {version:?}"))
}

/// The part of a status that tells what went wrong.
pub fn brief(status: &Value) -> String {
    let decisions = status["decisions"].as_array().cloned().unwrap_or_default();
    let decisions: Vec<String> = decisions
        .iter()
        .map(|d| format!("{} {}->{} {}", d["kind"], d["fromWeight"], d["weight"], d["message"]))
        .collect();
    format!(
        "phase {} ({}): {}; step {}, stage {}, checks {}; decisions:\n  {}",
        status["phase"],
        status["reason"],
        status["message"],
        status["step"],
        status["stage"],
        status["checks"],
        decisions.join("\n  ")
    )
}

/// Fails with both sides unless they are equal.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<()> {
    ensure!(seen == expected, "{what}: expected {expected:?}, found {seen:?}");
    Ok(())
}

/// [`same`] for JSON, which is printed as such.
pub fn same_json(what: &str, seen: &Value, expected: &Value) -> Result<()> {
    ensure!(seen == expected, "{what}: expected\n  {expected}\nfound\n  {seen}");
    Ok(())
}

/// A condition of a status.
pub fn condition(status: &Value, kind: &str) -> Result<Value> {
    let conditions = status["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.cloned().ok_or_else(|| anyhow!("no condition {kind}: {}", brief(status)))
}

/// The kinds of the decisions of a status, one after the other.
pub fn decided(status: &Value) -> Vec<String> {
    let decisions = status["decisions"].as_array();
    decisions.into_iter().flatten().map(|d| d["kind"].as_str().unwrap_or_default().to_owned()).collect()
}
