//! `sluice metrics check` with a real Prometheus.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use sluice_core::api::Rollout;
use sluice_lab::real::{Prometheus, Target, wait};

use crate::commands::sluice;
use crate::lab::{LIMIT, Lab, VIEWER};

/// What a gateway exposes about two Services.
async fn gateway() -> Result<(String, Arc<std::sync::Mutex<String>>)> {
    let text = Arc::new(std::sync::Mutex::new(String::new()));
    let told = text.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let handler = move || async move { told.lock().unwrap().clone() };
    let router = axum::Router::new().route("/metrics", axum::routing::get(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((address, text))
}

pub async fn metrics_that_a_real_prometheus_has_are_shown_and_others_are_missed(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("measured").await?;
    let checks = json!([
        {"name": "errors", "errors": {"max": "1%"}},
        {"name": "p99", "latency": {"max": "300ms"}},
        {"name": "accuracy", "query": {"promql": "max(accuracy{service=\"{{canary.service}}\"})", "min": 0.5}},
    ]);
    let rollouts: Api<Rollout> = Api::namespaced(cluster.admin()?, "measured");
    let patch = Patch::Merge(json!({"spec": {"checks": checks}}));
    rollouts.patch("iris", &PatchParams::default(), &patch).await?;
    let predictor = |service: &str| json!({"namespace": "measured", "service": service, "port": 8000});
    let status = json!({"status": {
        "phase": "Healthy", "reason": "Live", "message": "it is live", "seq": 1, "stage": "idle",
        "stable": predictor("iris-v1"),
    }});
    rollouts.patch_status("iris", &PatchParams::default(), &Patch::Merge(status)).await?;

    let prometheus = Prometheus::start(Duration::from_millis(200)).await?;
    let (address, text) = gateway().await?;
    let say = |requests: u32| {
        let to = r#"reporter="source",destination_service_name="iris-v1",destination_service_namespace="measured""#;
        let histogram = "istio_request_duration_milliseconds";
        *text.lock().unwrap() = format!(
            "istio_requests_total{{{to},response_code=\"200\"}} {requests}\n{histogram}_bucket{{{to},le=\"250\"}} {requests}\n\
             {histogram}_bucket{{{to},le=\"500\"}} {requests}\n{histogram}_bucket{{{to},le=\"+Inf\"}} {requests}\n\
             {histogram}_count{{{to}}} {requests}\naccuracy{{service=\"iris-v2\"}} 0.75\n"
        );
    };
    say(1000);
    prometheus.set_targets([Target::new(&address)]).await?;
    let counted = async |least: f64| {
        wait::until(LIMIT, "the gateway was scraped", || async {
            let samples =
                prometheus.query("istio_requests_total").await.map_err(|error| error.to_string())?;
            if samples.iter().any(|sample| sample.value >= least) {
                Ok(())
            } else {
                Err(format!("{samples:?}"))
            }
        })
        .await
    };
    counted(1000.0).await?;
    say(1100);
    counted(1100.0).await?;
    let args = ["metrics", "check", "iris", "-n", "measured", "--prometheus", prometheus.url()];
    let output = sluice(cluster, VIEWER, &args)?;
    let shown = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "profile istio, from source default, the last 5m",
        "stable  100       0 (0%)",
        "measured/iris-v2:8000",
        "300ms is no bound of the histograms: it is judged by 250ms and 500ms",
        "answers 0.75",
        r#"no series about measured/iris-v2:8000; there are others, labelled {destination_service_name="iris-v1""#,
    ] {
        ensure!(
            shown.contains(expected),
            "{expected:?} is not in\n{shown}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // The canary has not been given anything yet, so nothing is wrong with that.
    ensure!(output.status.code() == Some(0), "{:?}", output.status);
    // A comparison needs the number of both, and stable's version does not have it.
    let compared = json!([{"name": "accuracy", "query": {
        "promql": "max(accuracy{service=\"{{canary.service}}\"})", "versusStable": {}, "direction": "MoreIsBetter",
    }}]);
    let patch = Patch::Merge(json!({"spec": {"checks": compared}}));
    rollouts.patch("iris", &PatchParams::default(), &patch).await?;
    let output = sluice(cluster, VIEWER, &args)?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(shown.contains("check accuracy: about stable: metrics source default"), "{shown}");
    ensure!(output.status.code() == Some(10), "{:?}", output.status);
    let in_flight = json!({"status": {
        "phase": "Progressing", "canary": predictor("iris-v2"),
        "progress": {"number": 1, "of": 1, "name": "1", "needsApproval": false},
    }});
    rollouts.patch_status("iris", &PatchParams::default(), &Patch::Merge(in_flight)).await?;
    let output = sluice(cluster, VIEWER, &[&args[..], &["-o", "json"]].concat())?;
    ensure!(output.status.code() == Some(10), "{:?}", output.status);
    let object: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(object["arms"][1]["counters"] == 0 && object["missing"][0]["matters"] == true, "{object}");
    // A source that is not there is said with its name, and the password of its URL is not said at all.
    let output = sluice(
        cluster,
        VIEWER,
        &["metrics", "check", "iris", "-n", "measured", "--prometheus", "http://u:s3cr3t@127.0.0.1:1"],
    )?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(shown.contains("metrics source default cannot be asked") && !shown.contains("s3cr3t"), "{shown}");
    ensure!(output.status.code() == Some(10), "{:?}", output.status);
    Ok(())
}
