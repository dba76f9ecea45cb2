//! A small world for tests: an API server's truth about one Rollout and its routes, with virtual time.
//!
//! It keeps real JSON, counts resourceVersions and refuses writes under an old one. Nothing here decides anything.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sluice_core::{
    Predictor,
    api::{ActionPhase, Do, RolloutSpec, RolloutStatus, STAMP},
    judge::{Counts, Look, Measurement, Trouble, TroubleKind},
    machine::{Asked, Frozen},
};

pub const NAMESPACE: &str = "models";
pub const ROLLOUT: &str = "models/iris";

/// What the API server, the endpoint controllers and the metrics say.
pub struct World {
    pub spec: Value,
    pub generation: i64,
    pub uid: String,
    pub status: RolloutStatus,
    /// resourceVersion of the Rollout.
    pub version: u64,
    pub finalizer: bool,
    pub deleted: bool,
    /// The finalizer went, and the Rollout with it.
    pub gone: bool,
    pub virtual_services: BTreeMap<String, Value>,
    /// Ready endpoints by Service; a Service that is not here does not exist.
    pub ready: BTreeMap<String, usize>,
    /// Why nobody answers for a Service that has ready endpoints.
    pub missing: BTreeMap<String, String>,
    pub actions: Vec<Action>,
    pub frozen: Option<Frozen>,
    /// What predictors serve, by Service.
    pub serves: BTreeMap<String, String>,
    /// Requests that a Service gets at each look although no route leads there.
    pub lingering: BTreeMap<String, u64>,
    pub now: Duration,
    /// The last number that was given out.
    pub last: u64,
}

/// A `RolloutAction`.
#[derive(Clone, Debug)]
pub struct Action {
    pub asked: Asked,
    pub answer: Option<ActionPhase>,
    pub message: String,
}

/// What a look at the metrics finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    /// The metrics are not asked.
    NotAsked,
    /// The first look after a start.
    Baseline,
    /// The source does not answer.
    Outage,
    /// Requests and errors of the canary; stable has a thousand good ones.
    Requests(u64, u64),
}

/// Enough good requests.
pub const GOOD: Saw = Saw::Requests(100, 0);
/// A breach that no window can hide.
pub const BAD: Saw = Saw::Requests(10_000_000, 9_000_000);
/// Good ones, but too few for a verdict.
pub const FEW: Saw = Saw::Requests(3, 0);

impl World {
    /// A Rollout of `v1` with two steps (10% for 20s, 50% for 20s), a check, and the route `a`.
    pub fn new() -> Self {
        let mut world = Self {
            spec: json!({
                "target": {"service": {"name": "v1"}},
                "routes": [{"virtualService": "a", "http": ["primary"]}],
                "steps": [{"weight": 10, "for": "20s"}, {"weight": 50, "for": "20s"}],
                "checks": [{"name": "errors", "errors": {"max": "1%"}}],
                "interval": "10s", "settle": "10s", "readyWithin": "60s",
                "inconclusive": {"limit": "60s"},
            }),
            generation: 1,
            uid: "uid-1".to_owned(),
            status: RolloutStatus::default(),
            version: 1,
            finalizer: false,
            deleted: false,
            gone: false,
            virtual_services: BTreeMap::new(),
            ready: ["v1", "v2", "v3", "v4"].map(|name| (name.to_owned(), 2)).into(),
            missing: BTreeMap::new(),
            actions: Vec::new(),
            frozen: None,
            serves: BTreeMap::new(),
            lingering: BTreeMap::new(),
            now: Duration::ZERO,
            last: 1,
        };
        world.put(virtual_service("a", &[("v1", 100)]));
        world
    }

    pub fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Creates or replaces a VirtualService.
    pub fn put(&mut self, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!(self.next().to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.virtual_services.insert(name, object);
    }

    /// Edits a VirtualService by hand.
    pub fn edit(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        if let Some(mut object) = self.virtual_services.get(name).cloned() {
            change(&mut object);
            self.put(object);
        }
    }

    /// Edits the spec.
    pub fn edit_spec(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.spec);
        self.generation += 1;
        self.version = self.next();
    }

    pub fn want(&mut self, service: &str) {
        self.edit_spec(|spec| spec["target"]["service"]["name"] = json!(service));
    }

    /// Somebody writes the status who is not the controller.
    pub fn set_status(&mut self, status: RolloutStatus) {
        self.status = status;
        self.version = self.next();
    }

    /// The Rollout is deleted and created again at once, without anybody giving the routes back.
    pub fn recreate(&mut self) {
        self.uid = format!("uid-{}", self.next());
        self.finalizer = false;
        self.deleted = false;
        self.gone = false;
        self.actions.clear();
        self.set_status(RolloutStatus::default());
    }

    pub fn delete(&mut self) {
        self.deleted = true;
        self.version = self.next();
        if !self.finalizer {
            self.gone = true;
        }
    }

    /// A Freeze is made, or goes.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen.then(|| Frozen {
            namespace: "sluice-system".to_owned(),
            name: "freeze-1".to_owned(),
            everywhere: true,
            by: Some("ada".to_owned()),
            reason: "incident 42".to_owned(),
        });
    }

    pub fn ask(&mut self, what: Do, revision: Option<String>, step: Option<u32>) -> String {
        let uid = format!("action-{}", self.next());
        let asked = Asked {
            uid: uid.clone(),
            what,
            revision,
            step,
            reason: Some("because".to_owned()),
            by: Some("ann".to_owned()),
            rollout_uid: Some(self.uid.clone()),
        };
        self.actions.push(Action { asked, answer: None, message: String::new() });
        uid
    }

    pub fn action(&self, uid: &str) -> &Action {
        self.actions.iter().find(|action| action.asked.uid == uid).unwrap()
    }

    pub fn parsed_spec(&self) -> RolloutSpec {
        serde_json::from_value(self.spec.clone()).unwrap()
    }

    pub fn time(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + self.now
    }

    /// The service's weight on the managed route of a VirtualService, read off the raw object.
    pub fn weight(&self, virtual_service: &str, service: &str) -> u64 {
        self.virtual_services.get(virtual_service).map_or(0, |object| weight(object, service))
    }

    /// The Rollout's raw stamp on a VirtualService.
    pub fn stamp(&self, virtual_service: &str) -> Option<Value> {
        stamp(self.virtual_services.get(virtual_service)?)
    }

    /// What one look finds now: losers without weight get no request.
    pub fn look(&self, saw: Saw) -> Option<Look> {
        let trouble = |kind| Err(Trouble { kind, message: "no answer".to_owned() });
        let counts = |requests, errors| Counts { requests, errors, slower: BTreeMap::new() };
        let names: Vec<&String> = self.virtual_services.keys().collect();
        let busy = |service: &str| {
            names.iter().any(|name| {
                let object = &self.virtual_services[*name];
                let by_match = own_routes(object)
                    .iter()
                    .any(|route| route["route"][0]["destination"]["host"] == service);
                weight(object, service) > 0 || by_match || mirrors(object).contains_key(service)
            })
        };
        let lingers = |service: &str| self.lingering.get(service).copied().unwrap_or(0);
        let asks = |service: &str| if busy(service) { 10 } else { lingers(service) };
        let stable = self.status.stable.as_ref().map_or("", |stable| stable.service.as_str());
        let counts = match saw {
            Saw::NotAsked => return None,
            Saw::Baseline => trouble(TroubleKind::Baseline),
            Saw::Outage => trouble(TroubleKind::Unavailable),
            Saw::Requests(requests, errors) => Ok(Measurement {
                stable: counts(if busy(stable) { 1000 } else { 0 }, 0),
                canary: counts(requests, errors),
                retiring: (self.ready.keys()).map(|service| (revision(service), asks(service))).collect(),
            }),
        };
        Some(Look::new(self.time(), counts))
    }
}

pub fn predictor(service: &str) -> Predictor {
    Predictor::new(NAMESPACE, service, 8000)
}

pub fn revision(service: &str) -> String {
    format!("{NAMESPACE}/{service}:8000")
}

/// A VirtualService whose managed route is the second of three.
pub fn virtual_service(name: &str, weights: &[(&str, u64)]) -> Value {
    let route: Vec<Value> = weights
        .iter()
        .map(|(host, weight)| json!({"destination": {"host": host}, "weight": weight, "headers": {"x": "y"}}))
        .collect();
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "iris"}},
        "spec": {
            "hosts": [name], "novel": {"field": [1, 2]},
            "http": [
                {"name": "old", "redirect": {"uri": "/"}},
                {"name": "primary", "timeout": "3s", "retries": {"attempts": 2}, "route": route},
                {"name": "other", "route": [{"destination": {"host": "v1"}}]},
            ],
        },
    })
}

/// The entries of the managed route.
pub fn entries(object: &Value) -> &[Value] {
    let routes = object["spec"]["http"].as_array().map_or(&[][..], Vec::as_slice);
    let managed = routes.iter().find(|route| route["name"] == "primary");
    managed.and_then(|route| route["route"].as_array()).map_or(&[], Vec::as_slice)
}

/// The service's weight on the managed route: what is missing is 0, but 100 where it is alone.
pub fn weight(object: &Value, service: &str) -> u64 {
    let entries = entries(object);
    let of_service = entries.iter().filter(|entry| entry["destination"]["host"] == service);
    let alone = entries.len() == 1;
    of_service
        .map(|entry| match entry["weight"].as_u64() {
            None | Some(0) if alone => 100,
            weight => weight.unwrap_or(0),
        })
        .sum()
}

/// The routes that the Rollout put there, for requests that a step matches.
pub fn own_routes(object: &Value) -> Vec<&Value> {
    let routes = object["spec"]["http"].as_array().map_or(&[][..], Vec::as_slice);
    let is_own = |route: &&Value| route["name"].as_str().is_some_and(|name| name.starts_with("sluice-"));
    routes.iter().filter(is_own).collect()
}

/// The shares in percent that the managed route copies to each host.
pub fn mirrors(object: &Value) -> BTreeMap<String, f64> {
    let routes = object["spec"]["http"].as_array().map_or(&[][..], Vec::as_slice);
    let managed = routes.iter().find(|route| route["name"] == "primary");
    let all = managed.and_then(|route| route["mirrors"].as_array()).map_or(&[][..], Vec::as_slice);
    let of = |mirror: &Value| {
        (
            mirror["destination"]["host"].as_str().unwrap().to_owned(),
            mirror["percentage"]["value"].as_f64().unwrap(),
        )
    };
    all.iter().map(of).collect()
}

pub fn stamp(object: &Value) -> Option<Value> {
    let text = object["metadata"]["annotations"][STAMP].as_str()?;
    let entries: Value = serde_json::from_str(text).ok()?;
    entries.get(ROLLOUT).cloned()
}
