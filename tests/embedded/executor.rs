//! Predictors that Seldon Core's executor measures, whose Services are called otherwise than it calls them.

use std::time::Duration;

use serde_json::json;
use sluice::metrics::{Config, Metrics};
use sluice_lab::prometheus::Prometheus;

use crate::{
    expose::{gateway, users},
    seldon::{deployment, rollout},
    world::{NAMESPACE, World, same},
};

/// How often Prometheus scrapes and the controller looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// The Service of the predictor `green`, as an annotation has it.
const GREEN: &str = "the-green-one";

/// What executors expose that got the requests which a gateway has sent.
fn executors(gateway: &str) -> String {
    let exposition = [("iris-main", "main"), (GREEN, "green")].map(|(service, predictor)| {
        let of_it = format!("destination_service_name=\"{service}\"");
        let lines = gateway.lines().filter(|line| line.starts_with("istio_requests_total{"));
        let counts = lines.filter(|line| line.contains(&of_it) && line.contains("reporter=\"source\""));
        let sum: f64 = counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        format!(
            "seldon_api_executor_server_requests_seconds_count{{code=\"200\",deployment_name=\"iris\",method=\"post\",\
             predictor_name=\"{predictor}\",predictor_version=\"\",service=\"predictions\"}} {sum}\n"
        )
    });
    exposition.concat()
}

#[tokio::test(start_paused = true)]
async fn a_predictor_is_measured_under_the_name_that_its_deployment_has_for_it() {
    let world = World::without_routes().await.in_steps_of(Duration::from_millis(20));
    gateway(&world).await;
    let mut served = Vec::new();
    for (service, predictor) in [("iris-main", "main"), (GREEN, "green")] {
        served.push(world.scene.serve(service, "iris", "v1").await.unwrap());
        world.scene.label(&format!("{service}-0"), "version", predictor).await.unwrap();
    }
    let green = json!({"name": "green", "traffic": 0, "annotations": {"seldon.io/svc-name": GREEN}});
    world.create(deployment(&json!([{"name": "main", "traffic": 100}, green]))).await;
    let mut rollout = rollout("iris", "green");
    rollout["spec"]["metrics"] = json!({"source": "default", "profile": "seldon"});
    rollout["spec"]["interval"] = "5s".into();
    world.create(rollout).await;
    let users = users(&world, "/seldon/models/iris");
    let (clock, exposing) = (world.clock, world.gateway.clone());
    let prometheus = Prometheus::start(INTERVAL, move || clock.now()).unwrap();
    prometheus.scrapes(&[("namespace", NAMESPACE)], move || executors(&exposing.metrics()));
    let metrics = Metrics::new(Config::prometheus(&prometheus.url()).unwrap()).unwrap();
    let _sluice = world.controller_asking(metrics);
    world.stands("Healthy", "Live").await;
    let status = world.status();
    same(&status["stable"]["service"], &json!(GREEN), "the Service of stable");
    let decisions = status["decisions"].as_array().unwrap();
    let passed = decisions.iter().find(|decision| decision["kind"] == "Promoting").unwrap();
    assert!(passed["checks"][0]["verdict"] == "Pass", "{passed}");
    users.stop().await;
}
