//! A cluster with Sluice installed, and Rollouts on it in great number.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Bench;
use super::controller::{Controller, USER};
use super::objects::{Names, Past};
use crate::real::{Audit, AuditEntry, Cluster, Options, install};

/// Requests that are made at the same time.
const AT_ONCE: usize = 32;
/// How long nothing must be written for the controller to count as at rest: longer than a canary that is rolled back
/// takes to leave the route.
const QUIET: Duration = Duration::from_secs(5);
const QUICK_QUIET: Duration = Duration::from_secs(3);
/// The longest that it may take to come to rest.
const REST_WITHIN: Duration = Duration::from_mins(6);

/// A cluster with Sluice installed.
pub struct World {
    /// The cluster.
    pub cluster: Cluster,
    client: Client,
    quiet: Duration,
}

impl World {
    /// Starts one.
    pub async fn start(bench: &Bench) -> Result<Self> {
        let cluster = Cluster::start(Options::new().user(USER)).await?;
        install::install(&cluster, &bench.repository).await.context("install Sluice")?;
        install::allowed(&cluster, USER).await?;
        let client = cluster.admin()?;
        Ok(Self { cluster, client, quiet: if bench.quick { QUICK_QUIET } else { QUIET } })
    }

    /// A client of the user who may do everything.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes an object.
    pub async fn create(&self, object: &Value) -> Result<Value> {
        let what = || format!("create {} {}", object["kind"], object["metadata"]["name"]);
        let request = http::Request::post(collection(object)).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes())?;
        self.client.request(request).await.with_context(what)
    }

    /// An object as it is.
    pub async fn read(&self, object: &Value) -> Result<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let request = http::Request::get(format!("{}/{name}", collection(object))).body(Vec::new())?;
        self.client.request(request).await.with_context(|| format!("read {name}"))
    }

    /// What was hoped of a Rollout; if it did not come to it, with what its status says.
    pub async fn or_status<T>(&self, names: &Names, hoped: Result<T>) -> Result<T> {
        let Err(error) = hoped else { return hoped };
        let rollout = self.read(&names.rollout("", &Value::Null)).await.unwrap_or_default();
        let [phase, reason, message] = ["phase", "reason", "message"].map(|field| &rollout["status"][field]);
        Err(error.context(format!("{} {phase} {reason} {message}", names.name)))
    }

    async fn write_status(&self, object: &Value, status: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let request = http::Request::patch(format!("{}/{name}/status", collection(object)))
            .header("content-type", "application/merge-patch+json")
            .body(json!({"status": status}).to_string().into_bytes())?;
        self.client.request::<Value>(request).await.with_context(|| format!("write the status of {name}"))?;
        Ok(())
    }

    /// The namespaces of so many Rollouts.
    pub async fn namespaces(&self, rollouts: Range<usize>) -> Result<()> {
        let mut names: Vec<String> = rollouts.map(|number| Names::number(number).namespace).collect();
        names.dedup();
        self.each(names, async |name| {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.create(&object).await.map(drop)
        })
        .await
    }

    /// What is around these Rollouts: two Services each with a ready pod, and a VirtualService that has the first.
    pub async fn surroundings(&self, rollouts: Range<usize>) -> Result<()> {
        self.each(rollouts, async |number| {
            self.predictors(number).await?;
            self.create(&Names::number(number).virtual_service(0, None)).await.map(drop)
        })
        .await
    }

    /// These Rollouts with all that is around them and a long past behind them, as an installation that has run for a
    /// while would have them. `past` says of each where it is.
    pub async fn veterans(&self, rollouts: Range<usize>, past: impl Fn(usize) -> Past) -> Result<()> {
        let past = &past;
        self.each(rollouts, async |number| {
            self.predictors(number).await?;
            let (names, past) = (Names::number(number), past(number));
            let (wanted, weight) = match past {
                Past::Rested => (names.stable(), 0),
                Past::Held { weight, .. } => (names.canary(), weight),
            };
            let mut rollout = names.rollout(&wanted, &veteran_spec());
            rollout["metadata"]["finalizers"] = json!(["sluice.dev/routes"]);
            let created = self.create(&rollout).await?;
            let uid = created["metadata"]["uid"].as_str().unwrap_or_default();
            let stamp = names.stamp(&past, uid);
            self.create(&names.virtual_service(weight, Some(&stamp))).await?;
            self.write_status(&rollout, &names.status(&past, &created["spec"], Utc::now())).await
        })
        .await
    }

    async fn predictors(&self, number: usize) -> Result<()> {
        let names = Names::number(number);
        for (service, pod) in [(names.stable(), 2 * number), (names.canary(), 2 * number + 1)] {
            self.create(&names.service(&service)).await?;
            self.create(&names.slice(&service, pod)).await?;
        }
        Ok(())
    }

    /// Does it for each, many at the same time.
    pub async fn each<T, F: Future<Output = Result<()>>>(
        &self,
        of: impl IntoIterator<Item = T>,
        what: impl Fn(T) -> F,
    ) -> Result<()> {
        stream::iter(of.into_iter().map(what)).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Waits until the controller knows so many Rollouts and has written nothing for a while.
    pub async fn at_rest(&self, controller: &mut Controller, rollouts: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            ensure!(begun.elapsed() < REST_WITHIN, "the controller is not at rest after {REST_WITHIN:?}");
            controller.still_runs()?;
            let audit = self.cluster.audit();
            sleep(self.quiet).await;
            let known = controller.rollouts().await?;
            if known == rollouts && writes(&audit)?.is_empty() {
                return Ok(());
            }
        }
    }
}

/// What the controller asked to be changed, its leases apart.
pub fn writes(audit: &Audit) -> Result<Vec<AuditEntry>> {
    let mut writes = audit.writes_of(USER)?;
    writes.retain(|entry| entry.resource != "leases");
    Ok(writes)
}

/// How many steps the veterans' plans have; they may be held at the last one.
pub const VETERAN_STEPS: u32 = 5;
/// The canary's weight in the last step.
pub const VETERAN_WEIGHT: u8 = 50;

/// A spec with all the usual in it. Looked at rarely, so that who waits at a gate is at rest.
fn veteran_spec() -> Value {
    json!({
        "interval": "10m", "settle": "30s",
        "steps": [
            {"weight": 5, "for": "5m"},
            {"weight": 10, "for": "10m", "minRequests": 500},
            {"weight": 25, "for": "10m"},
            {"weight": 40, "for": "10m"},
            {"weight": 50, "for": "10m", "approve": true},
        ],
        "checks": [
            {"name": "errors", "errors": {"max": "1%"}, "consecutiveFailures": 2},
            {"name": "p99", "latency": {"quantile": 0.99, "max": "250ms"}},
        ],
        "metrics": {"source": "default", "profile": "istio"},
        "inconclusive": {"limit": "24h", "then": "Pause"},
        "readyWithin": "10m",
    })
}

/// The path under which objects like this one are.
fn collection(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]).to_lowercase());
    let root = if version.contains('/') { "apis" } else { "api" };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{kind}s"),
        None => format!("/{root}/{version}/{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let names = Names::number(120);
        assert_eq!(collection(&names.service("x")), "/api/v1/namespaces/team-1/services");
        assert_eq!(
            collection(&names.rollout("x", &json!({}))),
            "/apis/sluice.dev/v1alpha1/namespaces/team-1/rollouts"
        );
        assert_eq!(
            collection(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}})),
            "/api/v1/namespaces"
        );
    }

    #[test]
    fn a_veterans_plan_has_the_steps_that_are_said() {
        let steps = veteran_spec()["steps"].clone();
        assert_eq!(steps.as_array().unwrap().len(), VETERAN_STEPS as usize);
        assert_eq!(steps[VETERAN_STEPS as usize - 1]["weight"], VETERAN_WEIGHT);
    }
}
