//! A cluster with two predictors, users, and as many controllers, one after another, as a test wants.

use std::{fmt::Debug, future::Future, time::Duration};

use chrono::{DateTime, Utc};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use sluice::{
    controller::{self, Clock, LeaseOptions, Options, Telemetry},
    metrics::{Config, Metrics},
};
use sluice_core::HostNames;
use sluice_lab::{
    embedded::{self, Connection},
    gateway::{Gateway, Load, Running},
    invariants::{self, Limits, Run, Violation},
    scene::{POD_PORT, Scene, Served, eventually},
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::journal::Journal;

/// The namespace of everything.
pub const NAMESPACE: &str = "models";
/// The host that users ask.
pub const HOST: &str = "iris.example.com";
/// The name under which a controller's requests are recorded.
pub const CONTROLLER: &str = "sluice";
/// Nothing in these tests takes longer (virtual time).
pub const LIMIT: Duration = Duration::from_mins(5);

/// The cluster. All of it lives on the test's own thread, so that virtual time cannot run away from it.
pub struct World {
    pub api: embedded::Api,
    pub scene: Scene,
    pub v2: Served,
    _v1: Served,
    pub gateway: Gateway,
    load: Option<Running>,
    pub clock: Clock,
    heartbeat: JoinHandle<()>,
    journal: Journal,
    /// Whether every guarantee is to be kept, as it is unless the test says otherwise.
    sound: bool,
    /// What "soon" is for the guarantees.
    pub limits: Limits,
}

/// One incarnation of the controller. Dropping it is a kill.
pub struct Sluice {
    pub connection: Connection,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), controller::Error>>,
    journal: Journal,
}

impl World {
    /// Services `iris-v1`, with all traffic of the VirtualService `iris`, and `iris-v2`, both with a ready pod; fifty
    /// requests a second.
    pub async fn new() -> Self {
        Self::new_for(50.0).await
    }

    /// The same with so many requests a second.
    pub async fn new_for(users: f64) -> Self {
        let world = Self::without_routes().await;
        world.scene.virtual_service("iris", HOST, &[("iris-v1", Some(100))]).await.unwrap();
        world.with_users(users)
    }

    /// The same without a VirtualService and without users.
    pub async fn without_routes() -> Self {
        // While a socket is waited for, paused time would jump to the next timer, and that may be a time-out. So the next
        // timer is never far.
        let heartbeat = beats_every(Duration::from_millis(2));
        let start: DateTime<Utc> = "2026-03-14T15:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(start);
        let api = embedded::Api::builder().clock(move || clock.now()).build();
        let scene = Scene::new(&api.client(), NAMESPACE).await.unwrap();
        let v1 = scene.serve("iris-v1", "iris", "v1").await.unwrap();
        let v2 = scene.serve("iris-v2", "iris", "v2").await.unwrap();
        assert_eq!(
            v1.predictor.address().port(),
            POD_PORT,
            "these tests want a loopback address for each pod"
        );
        let gateway = Gateway::start(&api.client_as("gateway"));
        gateway.synced().await;
        let journal = Journal::starting_with(clock);
        let limits = Limits::default();
        Self { api, scene, v2, _v1: v1, gateway, load: None, clock, heartbeat, journal, sound: true, limits }
    }

    /// Users send so many requests a second from now on.
    pub fn with_users(mut self, per_second: f64) -> Self {
        self.load = Some(Load::infer(HOST, "iris").rate(per_second).start(&self.gateway));
        self
    }

    /// Virtual time moves in steps of this while sockets are waited for: long ones make a long test short, and requests slow.
    pub fn in_steps_of(mut self, step: Duration) -> Self {
        self.heartbeat.abort();
        self.heartbeat = beats_every(step);
        self
    }

    /// No more requests from users.
    pub async fn without_users(mut self) -> Self {
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
        self
    }

    /// Starts a controller without a lease.
    pub fn controller(&self) -> Sluice {
        self.controller_over(self.api.connect(CONTROLLER), None)
    }

    /// Starts a controller that asks these sources.
    pub fn controller_asking(&self, metrics: Metrics) -> Sluice {
        self.controller_with(self.api.connect(CONTROLLER), None, metrics)
    }

    /// Starts a controller over a connection that may have faults already.
    pub fn controller_over(&self, connection: Connection, lease: Option<LeaseOptions>) -> Sluice {
        self.controller_with(connection, lease, Metrics::new(Config::default()).unwrap())
    }

    /// Starts a controller that watches this namespace only.
    pub fn controller_watching(&self, namespace: &str) -> Sluice {
        let metrics = Metrics::new(Config::default()).unwrap();
        let options = Options { namespace: Some(namespace.to_owned()), ..self.options(None, metrics) };
        self.controller_of(self.api.connect(CONTROLLER), options)
    }

    /// Starts a controller with Istio off.
    pub fn controller_without_istio(&self) -> Sluice {
        let metrics = Metrics::new(Config::default()).unwrap();
        let options = Options { istio: false, ..self.options(None, metrics) };
        self.controller_of(self.api.connect(CONTROLLER), options)
    }

    fn controller_with(
        &self,
        connection: Connection,
        lease: Option<LeaseOptions>,
        metrics: Metrics,
    ) -> Sluice {
        let options = self.options(lease, metrics);
        self.controller_of(connection, options)
    }

    fn options(&self, lease: Option<LeaseOptions>, metrics: Metrics) -> Options {
        Options {
            namespace: None,
            names: HostNames::default(),
            istio: true,
            metrics,
            clock: lease.as_ref().map_or(self.clock, |lease| lease.clock),
            lease,
            telemetry: Telemetry::default(),
        }
    }

    fn controller_of(&self, connection: Connection, options: Options) -> Sluice {
        self.journal.begins(connection.user());
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or(()) };
        let task = tokio::spawn(controller::run(connection.client(), options, stopped));
        Sluice { connection, stop: Some(stop), task, journal: self.journal.clone() }
    }

    /// Leases of 15 s for this identity.
    pub fn lease(&self, identity: &str) -> LeaseOptions {
        LeaseOptions {
            namespace: "default".into(),
            name: "sluice-controller".into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            clock: self.clock,
        }
    }

    // === what the checker is told ===

    /// From now on so many of the requests to `iris-v2` fail; none of them ends a breach.
    pub fn fails(&self, share: f64) {
        self.v2.predictor.set_errors(share);
        self.journal.breach(NAMESPACE, "iris-v2", share > 0.0);
    }

    /// Whether what controllers ask for gets through: while it does not, nothing is too late.
    pub fn reachable(&self, yes: bool) {
        self.journal.away(!yes);
    }

    /// Whether the metrics say nothing that could be believed.
    pub fn metrics_are_out(&self, yes: bool) {
        self.journal.outage(yes);
    }

    /// From `from` on, a moment of [`World::now`], nothing was to be written, and so many requests asked for it.
    pub fn rested(&self, from: DateTime<Utc>, requests: u64) {
        self.journal.rested(from, requests);
    }

    /// How many requests of controllers would have changed something, but for leases.
    pub fn writes(&self) -> u64 {
        let all = self.api.write_requests(CONTROLLER);
        all.iter().filter(|(resource, _)| *resource != "leases").map(|(_, count)| count).sum()
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The run so far.
    pub fn run(&self) -> Run {
        self.journal.run(&self.api, self.limits)
    }

    /// What was broken so far. It is expected: the guarantees are not checked again at the end.
    pub fn broken(&mut self) -> Vec<Violation> {
        self.sound = false;
        invariants::check(&self.run())
    }

    // === what people do ===

    /// Creates any object.
    pub async fn create(&self, object: Value) {
        self.scene.apply(object).await.unwrap();
    }

    /// Merges a change into the Rollout `iris`.
    pub async fn patch_rollout(&self, change: Value) {
        self.objects("sluice.dev", "v1alpha1", "Rollout")
            .patch("iris", &merge(), &Patch::Merge(change))
            .await
            .unwrap();
    }

    /// Merges a change into the status of the Rollout `iris`, past the controller.
    pub async fn patch_status(&self, change: Value) {
        let rollouts = self.objects("sluice.dev", "v1alpha1", "Rollout");
        rollouts.patch_status("iris", &merge(), &Patch::Merge(json!({ "status": change }))).await.unwrap();
    }

    /// Wants another Service.
    pub async fn want(&self, service: &str) {
        self.patch_rollout(json!({"spec": {"target": {"service": {"name": service}}}})).await;
    }

    /// Deletes the Rollout `iris`.
    pub async fn delete_rollout(&self) {
        self.objects("sluice.dev", "v1alpha1", "Rollout")
            .delete("iris", &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Merges a change into the VirtualService `iris`, as a person or Git would.
    pub async fn patch_virtual_service(&self, change: Value) {
        let objects = self.objects("networking.istio.io", "v1", "VirtualService");
        objects.patch("iris", &merge(), &Patch::Merge(change)).await.unwrap();
    }

    /// Asks for an action on the current revision and step, as the command line does.
    pub async fn ask(&self, what: &str, name: &str) {
        let rollout = self.api.object("rollouts.sluice.dev", NAMESPACE, "iris").expect("a Rollout");
        let owner = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "name": "iris", "uid": rollout["metadata"]["uid"],
        });
        let status = self.status();
        let mut spec = json!({"rollout": "iris", "do": what, "reason": "a test says so"});
        let revision = |of: &Value| {
            let subset = of["subset"].as_str().map(|subset| format!("#{subset}")).unwrap_or_default();
            format!(
                "{}/{}:{}{subset}",
                of["namespace"].as_str().unwrap(),
                of["service"].as_str().unwrap(),
                of["port"].as_u64().unwrap()
            )
        };
        spec["revision"] = revision(&status["canary"]).into();
        if matches!(what, "Approve" | "Promote" | "DecideStable" | "DecideCanary") {
            spec["step"] = status["progress"]["number"].clone();
        }
        let params = PostParams::default();
        let object = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction",
            "metadata": {"name": name, "ownerReferences": [owner]}, "spec": spec,
        });
        let actions = self.objects("sluice.dev", "v1alpha1", "RolloutAction");
        actions.create(&params, &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    pub fn objects(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.api.client(), NAMESPACE, &kind)
    }

    // === what there is to see ===

    /// The status of the Rollout `iris`; null where there is none.
    pub fn status(&self) -> Value {
        let rollout = self.api.object("rollouts.sluice.dev", NAMESPACE, "iris");
        rollout.map_or(Value::Null, |rollout| rollout["status"].clone())
    }

    /// The VirtualService `iris`.
    pub fn virtual_service(&self) -> Value {
        self.virtual_service_named("iris")
    }

    /// A VirtualService.
    pub fn virtual_service_named(&self, name: &str) -> Value {
        let object = self.api.object("virtualservices.networking.istio.io", NAMESPACE, name);
        object.unwrap().as_ref().clone()
    }

    /// The status of an action; null while there is none.
    pub fn action(&self, name: &str) -> Value {
        let action = self.api.object("rolloutactions.sluice.dev", NAMESPACE, name);
        action.map_or(Value::Null, |action| action["status"].clone())
    }

    /// Waits until the Rollout `iris` is in this phase, for this reason.
    pub async fn stands(&self, phase: &str, reason: &str) {
        let what = format!("the Rollout is {phase}: {reason}");
        self.sees(&what, |status| status["phase"] == phase && status["reason"] == reason).await;
    }

    /// Waits until the status of the Rollout `iris` is like that.
    pub async fn sees(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let look = || async {
            let status = self.status();
            if holds(&status) { Ok(()) } else { Err(summary(&status)) }
        };
        or_fail(eventually(LIMIT, what, look)).await;
    }

    /// Waits until all that was decided is on the route, and users notice.
    pub async fn weighs(&self, v1: u64, v2: u64) {
        let what = format!("the route gives {v1} to iris-v1 and {v2} to iris-v2");
        let look = || async {
            let weights = crate::oracle::weights(&self.virtual_service());
            if weights == (v1, v2) {
                Ok(())
            } else {
                Err(format!("{weights:?}, {}", summary(&self.status())))
            }
        };
        or_fail(eventually(LIMIT, &what, look)).await;
    }
}

impl Drop for World {
    /// Every test keeps every guarantee.
    fn drop(&mut self) {
        self.heartbeat.abort();
        if self.sound && !std::thread::panicking() {
            let found = invariants::check(&self.run());
            assert!(found.is_empty(), "{}", invariants::told(&found));
        }
    }
}

impl Sluice {
    /// Whether it has crashed by now.
    pub fn has_crashed(&self) -> bool {
        self.connection.faults().has_crashed()
    }

    /// Waits until it has ended by itself; what it ended with.
    pub async fn ended(mut self) -> Result<(), controller::Error> {
        tokio::time::timeout(LIMIT, &mut self.task).await.expect("a controller that ends").unwrap()
    }

    /// Lets it finish and waits for its end.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).expect("a controller that listens");
        }
        let ended = tokio::time::timeout(LIMIT, &mut self.task).await.expect("a controller that ends");
        ended.unwrap().unwrap();
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        self.connection.faults().crash();
        self.task.abort();
        self.journal.ends();
    }
}

fn beats_every(step: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(step).await;
        }
    })
}

fn merge() -> PatchParams {
    PatchParams::default()
}

async fn or_fail<T, E: std::fmt::Display>(looked: impl Future<Output = Result<T, E>>) -> T {
    match looked.await {
        Ok(seen) => seen,
        Err(error) => panic!("{error}"),
    }
}

/// Where a status stands, and what was decided.
pub fn summary(status: &Value) -> String {
    let stands =
        format!("{} {}: {} at {}%", status["phase"], status["reason"], status["message"], status["weight"]);
    let decisions = status["decisions"].as_array().into_iter().flatten();
    let decisions = decisions.map(|d| {
        format!("\n  #{} {} {} -> {}: {}", d["seq"], d["kind"], d["fromWeight"], d["weight"], d["message"])
    });
    stands + &decisions.collect::<String>()
}

/// A Rollout `iris` from `iris-v1` to `iris-v2` that looks every second, scrapes, and tolerates 1% of errors, with
/// these steps.
pub fn rollout(steps: &Value) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"},
        "spec": {
            "target": {"service": {"name": "iris-v2"}},
            "routes": [{"virtualService": "iris", "http": ["primary"]}],
            "steps": steps,
            "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}],
            "metrics": {"scrape": {"port": POD_PORT}},
            "interval": "1s",
            "settle": "1s",
        },
    })
}

/// Fails where two things differ, with both in full.
pub fn same<T: PartialEq + Debug>(seen: &T, expected: &T, what: &str) {
    assert!(seen == expected, "{what}\n     seen: {seen:#?}\n expected: {expected:#?}");
}
