//! No credential comes into logs, Events, statuses, metrics or error texts, whatever the servers answer and however much
//! is logged.
//!
//! The log is that of the product, at its finest level and with the libraries' lines in it. This is a program of its own
//! because a process has one log.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use kube::Client;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use sluice::{
    controller::{self, Clock, Options, Telemetry},
    metrics::{Arm, Config, Memory, Metrics, Query, Question},
};
use sluice_core::{HostNames, Predictor, api, plan::MetricsPlan};
use sluice_lab::{
    embedded,
    scene::{Scene, eventually},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

const BEARER: &str = "s3cr3t-bearer\"<&>'/+=~Aa0Zz9";
const PASSWORD: &str = "s3cr3t-password\"<&>'/+= :Bb1Yy8";
const IN_URL: &str = "s3cr3t-url-password-Cc2Xx7";
const HEADER: &str = "s3cr3t-header\"<&>'/+= Dd3Ww6";
const LITERAL: &str = "s3cr3t-literal-Ee4Vv5";
const KUBE: &str = "s3cr3t-kubeconfig-token-Ff5Uu4";
/// What a header of a user and a password is.
const BASIC: [&str; 2] =
    ["Ym9iOnMzY3IzdC1wYXNzd29yZCI8Jj4nLys9IDpCYjFZeTg=", "YWRhOnMzY3IzdC11cmwtcGFzc3dvcmQtQ2MyWHg3"];
/// The names of the sources, each with another kind of credential.
const SOURCES: [&str; 4] = ["bearer", "basic", "url", "header"];

/// What stands nowhere: the start of each secret is as telling as the whole.
fn is_free_of_secrets(what: &str, text: &str) {
    for secret in [BEARER, PASSWORD, IN_URL, HEADER, LITERAL, KUBE].into_iter().chain(BASIC) {
        let start = &secret[..12];
        let found = text.find(start);
        let around = found.map(|at| {
            let from = text[..at].char_indices().rev().nth(200).map_or(0, |(from, _)| from);
            text[from..].chars().take(400).collect::<String>()
        });
        assert!(found.is_none(), "{what} has {start}… in it: {}", around.unwrap_or_default());
    }
}

// === the log ===

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

// === a server that repeats what it is told ===

/// How the server answers, one after the other.
#[derive(Default)]
struct Echo {
    turn: AtomicUsize,
}

const WAYS: usize = 11;

async fn echo(State(echo): State<Arc<Echo>>, headers: HeaderMap, body: Bytes) -> Response {
    let told: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let told = format!("{} {}", told.join(" "), String::from_utf8_lossy(&body));
    let html = told.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let authorization = headers.get("authorization").or(headers.get("x-key"));
    let token = authorization.map_or("", |value| value.to_str().unwrap_or_default()).to_owned();
    let secret =
        token.split_once(' ').filter(|_| token.starts_with('B')).map_or(&*token, |(_, secret)| secret);
    let escaped: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let json =
        |code: StatusCode, body: Value| (code, [("content-type", "application/json")], body.to_string());
    match echo.turn.fetch_add(1, Ordering::Relaxed) % WAYS {
        0 => (StatusCode::BAD_GATEWAY, [("content-type", "text/html")], format!("<html>{html}</html>")).into_response(),
        1 => {
            let to = format!("http://elsewhere.invalid/login?token={escaped}");
            let page = format!("<a href=\"{to}\">{secret}</a>");
            (StatusCode::FOUND, [(header::LOCATION, to)], page).into_response()
        }
        2 => json(
            StatusCode::UNAUTHORIZED,
            json!({"status": "error", "errorType": "unauthorized", "error": format!("no such token: {told}")}),
        )
        .into_response(),
        3 => json(
            StatusCode::BAD_REQUEST,
            json!({"status": "error", "errorType": "bad_data", "error": format!("cannot read: {told}")}),
        )
        .into_response(),
        4 => json(
            StatusCode::OK,
            json!({"status": "success", "warnings": [told], "data": {"resultType": "vector", "result": []}}),
        )
        .into_response(),
        5 => (StatusCode::FORBIDDEN, told).into_response(),
        // The excerpt that a message shows ends in the middle of the secret.
        6 => (StatusCode::FORBIDDEN, format!("{}{secret}", "x".repeat(145))).into_response(),
        7 => {
            let metric = json!({"__name__": "a", "token": secret});
            let other = json!({"__name__": "b", "token": token});
            let at = |metric: Value| json!({"metric": metric, "value": [1.0, "1"]});
            let result = [at(metric), at(other)];
            json(
                StatusCode::OK,
                json!({"status": "success", "data": {"resultType": "vector", "result": result}}),
            )
            .into_response()
        }
        8 => json(StatusCode::OK, json!({"status": secret, "data": token})).into_response(),
        9 => (StatusCode::OK, [("x-token", secret.to_owned())], told).into_response(),
        _ => json(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"status": "error", "errorType": secret, "error": escaped}),
        )
        .into_response(),
    }
}

async fn serve(echo_state: Arc<Echo>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(echo).with_state(echo_state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}

fn configuration(folder: &Path, address: &str) -> Config {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let text = json!({"sources": {
        "bearer": {"url": format!("http://{address}"), "bearerTokenFile": file("bearer", BEARER)},
        "basic": {
            "url": format!("http://{address}"),
            "basic": {"username": "bob", "passwordFile": file("password", PASSWORD)},
        },
        "url": {"url": format!("http://ada:{IN_URL}@{address}")},
        "header": {
            "url": format!("http://{address}"),
            "headers": {"X-Key": {"file": file("header", HEADER)}, "X-Literal": LITERAL},
        },
    }});
    let path = folder.join("config.yaml");
    fs::write(&path, text.to_string()).unwrap();
    Config::load(&path).unwrap()
}

fn rollout(source: &str) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": source},
        "spec": {
            "target": {"service": {"name": "iris-v2"}},
            "routes": [{"virtualService": source}],
            "steps": [{"weight": 50, "for": "1h"}],
            "checks": [
                {"name": "errors", "errors": {"max": "1%"}},
                {"name": "accuracy", "query": {"promql": "avg(accuracy)", "min": 0.9}},
            ],
            "metrics": {"source": source},
            "interval": "200ms", "settle": "0s",
        },
    })
}

/// What a look says about each source, answered in each way.
async fn every_way_of_every_source(config: &Config) {
    let metrics = Metrics::new(config.clone()).unwrap();
    let (mut told, mut hidden) = (0, 0);
    let arm = |service: &str| Arm::of(Predictor::new("models", service, 8000));
    let (stable, canary) = (arm("iris-v1"), arm("iris-v2"));
    for source in SOURCES {
        let plan = MetricsPlan::Source {
            name: source.to_owned(),
            profile: api::Profile::Istio,
            labels: BTreeMap::new(),
        };
        for turn in 0..WAYS {
            let now =
                chrono::DateTime::from_timestamp(1_700_000_000 + i64::try_from(turn).unwrap(), 0).unwrap();
            let query = Query {
                check: "q".into(),
                promql: "up".into(),
                window: Duration::from_secs(10),
                compared: None,
            };
            let question = Question {
                now,
                rollout: "iris",
                namespace: "models",
                metrics: &plan,
                stable: &stable,
                canary: Some(&canary),
                retiring: &[],
                limits: &[],
                shadow: false,
                queries: &[query],
                step_start: now,
                timeout: Duration::from_secs(20),
            };
            // Counters and a query are two questions: each is answered in each way over a while.
            let look = metrics.look(&question, &mut Memory::default()).await;
            let answers = look.queries.into_values().map(|answer| answer.map(drop));
            for trouble in [look.counts.map(drop)].into_iter().chain(answers).filter_map(Result::err) {
                is_free_of_secrets(source, &trouble.message);
                told += 1;
                hidden += usize::from(trouble.message.contains("<redacted>"));
            }
        }
    }
    assert!(
        told >= SOURCES.len() * WAYS && hidden >= told / 3,
        "{told} messages, {hidden} with something hidden"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_is_shown_anywhere() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_ansi(false)
        .with_writer(log.clone())
        .try_init()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let echo = Arc::new(Echo::default());
    let address = serve(echo.clone()).await;

    // The controller reaches its API server as everywhere, with a token.
    let api = embedded::Api::new();
    let served = api.connect("sluice").listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = served.address();
    let mut config = kube::Config::new(format!("http://{server}").parse().unwrap());
    config.auth_info.token = Some(KUBE.into());
    config.default_retry = false;
    let scene = Scene::new(&api.client(), "models").await.unwrap();
    let _predictors = [
        scene.serve("iris-v1", "iris", "v1").await.unwrap(),
        scene.serve("iris-v2", "iris", "v2").await.unwrap(),
    ];
    for source in SOURCES {
        scene
            .virtual_service(source, &format!("{source}.example.com"), &[("iris-v1", Some(100))])
            .await
            .unwrap();
        scene.apply(rollout(source)).await.unwrap();
    }
    let options = Options {
        namespace: None,
        names: HostNames::default(),
        istio: true,
        metrics: Metrics::new(configuration(folder.path(), &address)).unwrap(),
        lease: None,
        clock: Clock::system(),
        telemetry: Telemetry::default(),
    };
    let mut registry = Registry::default();
    options.telemetry.register(&mut registry);
    options.metrics.telemetry().register(&mut registry);
    let controller =
        tokio::spawn(controller::run(Client::try_from(config).unwrap(), options, std::future::pending()));

    // Each source has been answered in each way, several times.
    let enough = WAYS * SOURCES.len() * 6;
    let asked = || async {
        let turns = echo.turn.load(Ordering::Relaxed);
        if turns >= enough { Ok(()) } else { Err(format!("{turns} answers of {enough}")) }
    };
    eventually(Duration::from_mins(2), "the sources were asked", asked).await.unwrap();
    controller.abort();

    let mut messages = 0;
    for write in api.history() {
        let after = write.after.as_deref().map(Value::to_string).unwrap_or_default();
        messages += usize::from(after.contains("metrics source "));
        is_free_of_secrets(&format!("{} {}", write.resource, write.name), &after);
    }
    assert!(messages > 0, "no object tells what the sources said");
    every_way_of_every_source(&configuration(folder.path(), &address)).await;
    let mut exported = String::new();
    encode(&mut exported, &registry).unwrap();
    is_free_of_secrets("/metrics", &exported);

    // The command line, with a kubeconfig that has the token.
    let mut kubeconfig: Value = serde_json::from_str(&embedded::kubeconfig(server)).unwrap();
    kubeconfig["users"][0]["user"]["token"] = json!(KUBE);
    let path = folder.path().join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).unwrap();
    for args in [
        &["get", "-n", "models"][..],
        &["get", "bearer", "-n", "models"],
        &["get", "nobody", "-n", "models"],
        &["abort", "bearer", "-n", "models", "--wait", "0s"],
        &["freeze", "-A", "-r", "x"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(args)
            .env("KUBECONFIG", &path)
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("hyper"), "nothing was logged: {text}");
        is_free_of_secrets(&args.join(" "), &text);
    }

    let log = log.text();
    for expected in ["hyper", "reqwest", "kube_client", "sluice"] {
        assert!(log.contains(expected), "{expected} logged nothing");
    }
    is_free_of_secrets("the log", &log);
}
