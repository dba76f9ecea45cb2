//! A session against an API in memory, whose output can be read while a command still runs.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Parser;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use sluice::cli::{Ask, Cli, Command, Failure, Session, view::Screen};
use sluice_core::api::Rollout;
use sluice_lab::embedded;
use tokio::sync::watch;

/// Where the Rollouts of the tests are.
pub const NAMESPACE: &str = "default";

/// A writer that can be read, and waited for.
#[derive(Clone)]
pub struct Output(watch::Sender<String>);

impl Output {
    pub fn new() -> Self {
        Self(watch::Sender::new(String::new()))
    }

    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until the output holds `expected`, which it does soon or never.
    pub async fn holds(&self, expected: &str) {
        let mut changes = self.0.subscribe();
        let arrived = changes.wait_for(|text| text.contains(expected));
        let waited = tokio::time::timeout(Duration::from_secs(20), arrived).await;
        assert!(waited.is_ok_and(|arrived| arrived.is_ok()), "{expected:?} is not in {:?}", self.text());
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|text| text.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command did.
pub struct Ran {
    pub result: Result<(), Failure>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn code(&self) -> u8 {
        self.result.as_ref().map_or_else(|failure| failure.exit().code(), |()| 0)
    }

    pub fn failure(&self) -> String {
        self.result.as_ref().expect_err("the command should have failed").to_string()
    }
}

/// Runs `sluice ARGS` as `user` against `api`, where there is no terminal.
pub async fn sluice(api: &embedded::Api, args: &str) -> Ran {
    let (out, err) = (Output::new(), Output::new());
    let result = session(api.client_as("ann"), args, out.clone(), err.clone()).await;
    Ran { result, out: out.text(), err: err.text() }
}

/// The same, with output that can be read meanwhile.
pub async fn session(client: Client, args: &str, mut out: Output, mut err: Output) -> Result<(), Failure> {
    let cli = Cli::try_parse_from(["sluice"].into_iter().chain(args.split_whitespace())).expect("arguments");
    let mut session = Session {
        client,
        cluster: "https://in.memory".to_owned(),
        namespace: cli.cluster.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned()),
        screen: Screen { program: "sluice".to_owned(), ..Screen::default() },
        out: &mut out,
        err: &mut err,
    };
    if let Command::Plan(args) = &cli.command {
        return sluice::cli::plan_in_cluster(&mut session, args).await;
    }
    ask(cli.command).run(&mut session).await
}

pub fn ask(command: Command) -> Ask {
    match command {
        Command::Ask(ask) => ask,
        Command::Crd(_)
        | Command::Run(_)
        | Command::Plan(_)
        | Command::Simulate(_)
        | Command::Replay(_)
        | Command::Lint(_) => {
            panic!("not asked of a cluster")
        }
    }
}

pub fn rollouts(api: &embedded::Api) -> Api<Rollout> {
    Api::namespaced(api.client_as("bob"), NAMESPACE)
}

pub fn predictor(service: &str) -> Value {
    json!({ "namespace": NAMESPACE, "service": service, "port": 8000 })
}

/// Creates a Rollout from `{name}-v1` to `{name}-v2` with a gate in its second step.
pub async fn create(api: &embedded::Api, name: &str) -> Rollout {
    let rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": { "name": name },
        "spec": {
            "target": { "service": { "name": format!("{name}-v2"), "port": 8000 } },
            "routes": [{ "virtualService": name }],
            "steps": [{ "weight": 10, "for": "1m" }, { "weight": 50, "approve": true }],
        },
    });
    let rollout = serde_json::from_value(rollout).expect("a Rollout");
    rollouts(api).create(&PostParams::default(), &rollout).await.expect("created")
}

/// Creates an object of any kind.
pub async fn put(api: &embedded::Api, object: Value) -> DynamicObject {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap_or(("", "v1"));
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    let objects: Api<DynamicObject> =
        Api::namespaced_with(api.client_as("owner"), NAMESPACE, &ApiResource::from_gvk(&kind));
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    objects.create(&PostParams::default(), &object).await.unwrap()
}

/// Writes a status as a controller would, also one of another version.
pub async fn set_status(api: &embedded::Api, name: &str, status: Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    let kind = ApiResource::erase::<Rollout>(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(api.client_as("controller"), NAMESPACE, &kind);
    objects.patch_status(name, &PatchParams::default(), &patch).await.expect("patched");
}

/// In the gate of step 2.
pub fn in_the_gate(name: &str) -> Value {
    json!({
        "phase": "Waiting", "reason": "WaitingForApproval", "message": "step 2 waits for approval",
        "step": "2/2", "weight": 50, "seq": 4,
        "progress": { "number": 2, "of": 2, "name": "2", "needsApproval": true },
        "stable": predictor(&format!("{name}-v1")), "canary": predictor(&format!("{name}-v2")),
        "stage": { "step": { "index": 1 } },
    })
}

/// Nothing in flight.
pub fn healthy(name: &str) -> Value {
    json!({
        "phase": "Healthy", "reason": "Live", "message": "it is live", "seq": 6,
        "stable": predictor(&format!("{name}-v2")), "stage": "idle",
    })
}
