//! The dashboard and the alerts: every query is asked of a real Prometheus that scrapes a real `/metrics`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use prometheus_client::registry::Registry;
use serde_json::Value;
use sluice::{
    controller::Telemetry,
    metrics::{Config, For, Metrics},
    server,
};
use sluice_core::{api::Profile, plan::MetricsPlan};
use sluice_lab::real::{Prometheus, Target, wait};
use tokio::net::TcpListener;

use crate::{read, resources, yaml};

/// Nothing here takes this long; a busy machine may.
pub const LIMIT: Duration = Duration::from_mins(1);
pub const SCRAPE_INTERVAL: Duration = Duration::from_millis(300);

/// A query, and what shows or asks it.
struct Asked {
    by: String,
    promql: String,
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap()
}

/// Every query of the dashboard, as Grafana would ask it.
fn shown() -> Vec<Asked> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let mut all: Vec<_> = panels
        .flat_map(|panel| {
            let title = panel["title"].as_str().unwrap();
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            assert!(panel["type"] == "row" || !targets.is_empty(), "{title} shows nothing");
            targets.into_iter().map(move |target| (title.to_owned(), target["expr"].clone()))
        })
        .collect();
    let notes = dashboard["annotations"]["list"].as_array().unwrap().iter();
    all.extend(notes.map(|note| (note["name"].to_string(), note["expr"].clone())));
    all.into_iter().map(|(by, expr)| Asked { by, promql: filled_in(expr.as_str().unwrap()) }).collect()
}

/// With values for the dashboard's variables.
fn filled_in(promql: &str) -> String {
    let values = [
        ("$__rate_interval", "1m"),
        ("$job", ".*"),
        ("$namespace", "models"),
        ("$stable", "iris-v1"),
        ("$canary", "iris-v2"),
    ];
    let text = values.iter().fold(promql.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!text.contains('$'), "a variable that nobody knows: {text}");
    text
}

pub fn rules() -> Vec<Value> {
    let groups = yaml("deploy/monitoring/rules.yaml")["spec"]["groups"].as_array().cloned().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap()).collect()
}

fn alerts() -> Vec<Asked> {
    let asked = |rule: &Value| Asked {
        by: rule["alert"].as_str().unwrap().to_owned(),
        promql: rule["expr"].as_str().unwrap().to_owned(),
    };
    rules().iter().map(asked).collect()
}

/// Serves what it is told to.
pub async fn exporter(text: Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/metrics", get(move || async move { text.lock().unwrap().clone() }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// The `/metrics` of a controller that has just started and has asked its metrics source once.
async fn controller(prometheus: &Prometheus) -> String {
    let metrics = Metrics::new(Config::prometheus(prometheus.url()).unwrap()).unwrap();
    let plan = MetricsPlan::Source {
        name: "default".to_owned(),
        profile: Profile::Istio,
        labels: BTreeMap::default(),
    };
    metrics.validate(&plan, For::Number, "up", LIMIT).await.unwrap();
    let telemetry = Telemetry::default();
    let mut registry = Registry::with_prefix("sluice");
    telemetry.register(&mut registry);
    metrics.telemetry().register(&mut registry);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    tokio::spawn(server::serve(address, registry, telemetry));
    address.to_string()
}

/// What the gateway, a sidecar and Seldon's executor say of two arms.
fn arms() -> String {
    let mut text = String::new();
    for (reporter, service) in [("source", "iris-v1"), ("source", "iris-v2"), ("destination", "iris-v2")] {
        let to = format!(
            r#"reporter="{reporter}",destination_service_name="{service}",destination_service_namespace="models",destination_version="v""#
        );
        for code in [200, 503] {
            writeln!(text, r#"istio_requests_total{{{to},response_code="{code}"}} 10"#).unwrap();
        }
        for le in ["250", "+Inf"] {
            writeln!(text, r#"istio_request_duration_milliseconds_bucket{{{to},le="{le}"}} 20"#).unwrap();
        }
    }
    let of = r#"deployment_name="iris",predictor_name="main",service="predictions",method="post",code="200""#;
    for le in ["0.5", "+Inf"] {
        writeln!(text, r#"seldon_api_executor_server_requests_seconds_bucket{{{of},le="{le}"}} 20"#).unwrap();
    }
    writeln!(text, "seldon_api_executor_server_requests_seconds_count{{{of}}} 20").unwrap();
    text
}

/// Waits until Prometheus has scraped a metric twice, which rates need.
async fn scraped(prometheus: &Prometheus, metric: &str) {
    let promql = format!("count_over_time({metric}[1m]) >= 2");
    wait::until(LIMIT, format!("{metric} was scraped twice"), || async {
        let samples = prometheus.query(&promql).await.map_err(|error| error.to_string())?;
        if samples.is_empty() { Err("an empty vector".to_owned()) } else { Ok(()) }
    })
    .await
    .unwrap();
}

/// The names of all metrics that queries name.
fn names(promql: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = promql.split(|c| !is_name(c));
    words
        .filter(|word| ["sluice_", "istio_", "seldon_"].iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_an_answer_of_a_real_prometheus() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let controller = controller(&prometheus).await;
    let arms = exporter(Arc::new(Mutex::new(arms()))).await;
    prometheus.set_targets([Target::new(&controller), Target::new(&arms)]).await.unwrap();
    for metric in ["sluice_slots_held", "sluice_metrics_query_duration_seconds_count", "istio_requests_total"]
    {
        scraped(&prometheus, metric).await;
    }
    let (shown, alerts) = (shown(), alerts());
    assert!(shown.len() > 15 && alerts.len() > 8, "{} and {}", shown.len(), alerts.len());
    for Asked { by, promql } in shown.iter().chain(&alerts) {
        let firing = prometheus.query(promql).await.unwrap_or_else(|error| panic!("{by}: {promql}: {error}"));
        // A comparison hides what it is about: with `bool` it is shown.
        let plain = promql.replace(" > ", " > bool ").replace(" < ", " < bool ");
        let series = prometheus.query(&plain).await.unwrap_or_else(|error| panic!("{by}: {plain}: {error}"));
        let about_absence = promql.starts_with("absent(");
        assert_eq!(series.is_empty(), about_absence, "{by}: {plain}: {series:?}");
        assert!(!about_absence || firing.is_empty(), "{by} fires beside a controller");
    }
}

#[test]
fn every_metric_that_is_asked_for_is_one_that_the_product_exports() {
    let mut exported = BTreeSet::new();
    for file in ["src/controller/telemetry.rs", "src/metrics/telemetry.rs"] {
        for call in read(file).split("registry.register(").skip(1) {
            exported.insert(format!("sluice_{}", call.split('"').nth(1).unwrap()));
        }
    }
    let plain = |name: &str| {
        let suffixes = ["_total", "_bucket", "_count", "_sum"];
        suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned()
    };
    let asked: BTreeSet<String> =
        shown().iter().chain(&alerts()).flat_map(|asked| names(&asked.promql)).collect();
    let ours: BTreeSet<String> =
        asked.iter().filter(|name| name.starts_with("sluice_")).map(|name| plain(name)).collect();
    assert_eq!(ours, exported, "asked for, and exported");
}

#[test]
fn every_alert_says_how_urgent_it_is_and_what_to_do() {
    for rule in rules() {
        let name = &rule["alert"];
        assert!(
            ["page", "ticket"].iter().any(|level| rule["labels"]["severity"] == *level),
            "{name}: {rule}"
        );
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].as_str().is_some_and(|text| text.len() > 20), "{name}: {text}");
        }
    }
    let severities: BTreeSet<String> =
        rules().iter().map(|rule| rule["labels"]["severity"].to_string()).collect();
    assert_eq!(severities.len(), 2);
}

#[test]
fn the_kustomization_and_the_service_that_is_scraped_are_there() {
    for file in resources("deploy/monitoring/kustomization.yaml") {
        let document = yaml(&format!("deploy/monitoring/{file}"));
        assert_eq!(document["apiVersion"], "monitoring.coreos.com/v1", "{file}");
    }
    let service = yaml("deploy/base/service.yaml");
    let monitor = yaml("deploy/monitoring/service-monitor.yaml");
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let label = "app.kubernetes.io/component";
    assert_eq!(monitor["spec"]["selector"]["matchLabels"][label], service["metadata"]["labels"][label]);
    let generated = &yaml("deploy/monitoring/kustomization.yaml")["configMapGenerator"][0]["files"][0];
    assert_eq!(generated, "sluice.json=dashboard.json");
}
