//! Every profile on a real Prometheus: what its programs expose, under the labels that scraping adds, comes out as it was
//! counted.

use sluice::metrics::SeldonNames;
use sluice_core::target::seldon::service_name;

use super::*;

/// An exporter for each arm, or one for both.
struct World {
    prometheus: Prometheus,
    exporters: Vec<Exporter>,
}

impl World {
    /// Targets with these labels, each of which says one of the texts.
    async fn new(targets: &[&[(&str, &str)]], texts: &[String], metric: &str) -> Self {
        let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
        let (mut exporters, mut scraped_ones) = (Vec::new(), Vec::new());
        for (labels, text) in targets.iter().zip(texts) {
            let exporter = Exporter::start().await;
            exporter.says(text.clone());
            let target = Target::new(&exporter.address);
            scraped_ones
                .push(labels.iter().fold(target, |target, (name, value)| target.label(*name, *value)));
            exporters.push(exporter);
        }
        prometheus.set_targets(scraped_ones).await.unwrap();
        scraped(&prometheus, metric).await;
        Self { prometheus, exporters }
    }

    fn say(&self, texts: &[String]) {
        for (exporter, text) in self.exporters.iter().zip(texts) {
            exporter.says(text.clone());
        }
    }
}

fn seldon(predictor: &str, ok: u32, failed: u32, quick: u32) -> String {
    let name = "seldon_api_executor_server_requests_seconds";
    let mut text = "process_start_time_seconds 1.7e9\n".to_owned();
    for (service, code, count, quick) in [
        ("predictions", "200", ok, quick),
        ("/seldon.protos.Seldon/Predict", "Internal", failed, 0),
        ("feedback", "500", 7 * ok, 0),
    ] {
        let labels = format!(
            r#"code="{code}",deployment_name="iris",method="post",predictor_name="{predictor}",predictor_version="",service="{service}""#
        );
        writeln!(text, "{name}_bucket{{{labels},le=\"0.25\"}} {quick}").unwrap();
        writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}").unwrap();
        writeln!(text, "{name}_sum{{{labels}}} 1\n{name}_count{{{labels}}} {count}").unwrap();
    }
    text
}

#[tokio::test]
async fn seldons_executors_are_told_apart_by_the_names_of_their_predictors() {
    // Behind a ServiceMonitor the executor's own label gives way to the Service's.
    let targets: [&[(&str, &str)]; 2] = [
        &[("namespace", "models"), ("service", "iris-v1")],
        &[("namespace", "models"), ("pod", "iris-v2-0")],
    ];
    let texts =
        |a: (u32, u32, u32), b: (u32, u32, u32)| [seldon("v1", a.0, a.1, a.2), seldon("v2", b.0, b.1, b.2)];
    let name = "seldon_api_executor_server_requests_seconds_count";
    let world = World::new(&targets, &texts((1000, 5, 1000), (0, 0, 0)), name).await;
    let mut looker = Looker::new(&world.prometheus, api::Profile::Seldon);
    looker.baseline().await;
    world.say(&texts((1100, 8, 1090), (20, 30, 15)));
    looker.until((103, 3, 13), (50, 30, 35)).await;
}

#[tokio::test]
async fn seldons_executors_are_found_where_their_services_are_called_by_a_hash_or_by_an_annotation() {
    let targets: [&[(&str, &str)]; 2] = [&[("namespace", "models")], &[("namespace", "models")]];
    let long = "iris-classifier-for-the-garden-of-the-botanical-institute-of-the-university-of-bern";
    let texts = |a: (u32, u32, u32), b: (u32, u32, u32)| {
        let both = [seldon("v1", a.0, a.1, a.2), seldon("v2", b.0, b.1, b.2)];
        both.map(|text| text.replace("\"iris\"", &format!("{long:?}")))
    };
    let name = "seldon_api_executor_server_requests_seconds_count";
    let world = World::new(&targets, &texts((1000, 5, 1000), (0, 0, 0)), name).await;
    let mut looker = Looker::new(&world.prometheus, api::Profile::Seldon);
    let hashed = service_name(long, "v1");
    looker.stable = Arm::of(Predictor::new("models", &hashed, 8000));
    // As its SeldonDeployment says, which the controller has read.
    let names = SeldonNames { deployment: long.to_owned(), predictor: "v2".to_owned() };
    looker.canary = Arm { seldon: Some(names), ..Arm::of(Predictor::new("models", "the-new-iris", 8000)) };
    looker.baseline().await;
    world.say(&texts((1100, 8, 1090), (20, 30, 15)));
    looker.until((103, 3, 13), (50, 30, 35)).await;
}

fn knative(target: &str, ok: u32, failed: u32, quick: u32) -> String {
    let name = "kn_serving_invocation_duration_seconds";
    let mut text = format!("target_info{{kn_revision_name=\"{target}\"}} 1\n");
    for (code, count, quick) in [(200, ok, quick), (503, failed, 0)] {
        let labels =
            format!(r#"http_response_status_code="{code}",otel_scope_name="knative.dev/serving/pkg/queue""#);
        writeln!(text, "{name}_bucket{{{labels},le=\"0.25\"}} {quick}").unwrap();
        writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n{name}_count{{{labels}}} {count}")
            .unwrap();
    }
    text
}

fn older_knative(revision: &str, ok: u32, failed: u32, quick: u32) -> String {
    let mut text = String::new();
    for (code, count, quick) in [(200, ok, quick), (503, failed, 0)] {
        let labels = format!(
            r#"configuration_name="iris",namespace_name="models",pod_name="p",response_code="{code}",revision_name="{revision}""#
        );
        let name = "revision_request_latencies";
        writeln!(text, "revision_request_count{{{labels}}} {count}").unwrap();
        writeln!(text, "{name}_bucket{{{labels},le=\"250\"}} {quick}").unwrap();
        writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n{name}_count{{{labels}}} {count}")
            .unwrap();
    }
    text
}

#[tokio::test]
async fn knatives_queue_proxies_are_read_under_their_old_and_their_new_names() {
    // Stable's pods are of the new version, the canary's of an old one, as in an upgrade.
    let targets: [&[(&str, &str)]; 2] =
        [&[("namespace", "models"), ("pod", "iris-v1-deployment-7d9-x")], &[("namespace", "knative")]];
    let texts = |a: (u32, u32, u32), b: (u32, u32, u32)| {
        [knative("iris-v1", a.0, a.1, a.2), older_knative("iris-v2", b.0, b.1, b.2)]
    };
    let world = World::new(&targets, &texts((1000, 5, 1000), (10, 0, 10)), "revision_request_count").await;
    scraped(&world.prometheus, "kn_serving_invocation_duration_seconds_count").await;
    let mut looker = Looker::new(&world.prometheus, api::Profile::Kserve);
    looker.baseline().await;
    world.say(&texts((1100, 8, 1090), (30, 30, 25)));
    looker.until((103, 3, 13), (50, 30, 35)).await;
}

/// What a proxy exposes about the clusters of two Services, by Istio's tags or by Envoy's own.
fn envoy(of_istio: bool, v1: (u32, u32, u32), v2: (u32, u32, u32)) -> String {
    let mut text = String::new();
    for (service, (ok, failed, quick)) in [("iris-v1", v1), ("iris-v2", v2)] {
        let (prefix, cluster) = if of_istio {
            let name = format!("outbound|8000||{service}.models.svc.cluster.local");
            ("envoy_cluster_", format!("cluster_name=\"{name}\""))
        } else {
            (
                "envoy_cluster_models_svc_cluster_local_",
                format!("envoy_cluster_name=\"outbound|8000||{service}\""),
            )
        };
        for (class, code, count) in [("2", "200", ok), ("5", "503", failed)] {
            if of_istio {
                writeln!(text, "{prefix}upstream_rq{{{cluster},response_code_class=\"{class}xx\"}} {count}")
                    .unwrap();
                writeln!(text, "{prefix}upstream_rq{{{cluster},response_code=\"{code}\"}} {count}").unwrap();
            } else {
                writeln!(
                    text,
                    "{prefix}upstream_rq_xx{{{cluster},envoy_response_code_class=\"{class}\"}} {count}"
                )
                .unwrap();
                writeln!(text, "{prefix}upstream_rq{{{cluster},envoy_response_code=\"{code}\"}} {count}")
                    .unwrap();
            }
        }
        let all = ok + failed;
        writeln!(text, "{prefix}upstream_rq_time_bucket{{{cluster},le=\"250\"}} {quick}").unwrap();
        writeln!(text, "{prefix}upstream_rq_time_bucket{{{cluster},le=\"+Inf\"}} {all}").unwrap();
        writeln!(text, "{prefix}upstream_rq_time_count{{{cluster}}} {all}").unwrap();
    }
    text
}

#[tokio::test]
async fn envoys_clusters_are_read_by_istios_tags_and_by_its_own() {
    for of_istio in [true, false] {
        let text = |a, b| [envoy(of_istio, a, b)];
        let metric = if of_istio {
            "envoy_cluster_upstream_rq"
        } else {
            "envoy_cluster_models_svc_cluster_local_upstream_rq"
        };
        let world = World::new(&[&[]], &text((1000, 5, 1005), (10, 0, 10)), metric).await;
        let mut looker = Looker::new(&world.prometheus, api::Profile::Envoy);
        looker.baseline().await;
        world.say(&text((1100, 8, 1095), (30, 30, 25)));
        looker.until((103, 3, 13), (50, 30, 35)).await;
    }
}

#[tokio::test]
async fn copies_are_read_at_the_predictors_own_proxies() {
    let sidecar = |count: u32| {
        istio("iris-v2", &[(200, count), (503, 1)], count).replace("\"source\"", "\"destination\"")
    };
    let stable = |count: u32| {
        let text = istio("iris-v1", &[(200, count)], count);
        text.clone() + &text.replace("\"source\"", "\"destination\"")
    };
    let world = World::new(&[&[], &[]], &[stable(1000), sidecar(0)], "istio_requests_total").await;
    let mut users = Looker::new(&world.prometheus, api::Profile::Istio);
    let mut copies = Looker::new(&world.prometheus, api::Profile::Istio);
    copies.shadow = true;
    users.baseline().await;
    copies.baseline().await;
    world.say(&[stable(1100), sidecar(90)]);
    users.until((100, 0, 0), (0, 0, 0)).await;
    copies.until((100, 0, 0), (90, 0, 0)).await;
}
