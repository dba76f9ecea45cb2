//! Series that come and go at a real Prometheus: whose first value counts, and what is left of one that was away.

use super::*;

/// Waits until a query is answered with something.
pub async fn holds(prometheus: &Prometheus, promql: &str) {
    wait::until(LIMIT, format!("{promql} holds"), || async {
        let samples = prometheus.query(promql).await.map_err(|error| error.to_string())?;
        if samples.is_empty() { Err("an empty vector".to_owned()) } else { Ok(()) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_first_value_counts_of_who_is_young_and_not_of_whom_nobody_knows_the_age() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let (old, young, unknown) = (Exporter::start().await, Exporter::start().await, Exporter::start().await);
    let target = |exporter: &Exporter, service: &str| {
        Target::new(&exporter.address).label("namespace", "models").label("service", service)
    };
    old.says(mlserver(500, 5));
    prometheus.set_targets([target(&old, "iris-v1")]).await.unwrap();
    scraped(&prometheus, "rest_server_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Mlserver);
    looker.baseline().await;
    let started = Utc::now().timestamp() + 1;
    young.says(format!("process_start_time_seconds {started}.5\n") + &mlserver(3, 40));
    unknown.says(mlserver(700, 300));
    prometheus
        .set_targets([target(&old, "iris-v1"), target(&young, "iris-v2"), target(&unknown, "iris-v2")])
        .await
        .unwrap();
    looker.until((0, 0, 0), (43, 40, 0)).await;
    // From then on the stranger counts like everybody.
    holds(&prometheus, "rest_server_requests_total == 700").await;
    looker.until((0, 0, 0), (43, 40, 0)).await;
    unknown.says(mlserver(705, 301));
    looker.until((0, 0, 0), (49, 41, 0)).await;
    // A process that begins anew says so, and its counters need not be smaller for that.
    while Utc::now().timestamp() < started + 4 {
        // Starts that are closer together are one that jitters.
        tokio::time::sleep(wait::EVERY).await;
    }
    young.says(format!("process_start_time_seconds {}\n", started + 4) + &mlserver(3, 50));
    looker.until((0, 0, 0), (102, 91, 0)).await;
}

#[tokio::test]
async fn a_series_that_was_gone_counts_only_what_came_on_top() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    gateway.says(istio("iris-v1", &[(200, 1000)], 1000) + &istio("iris-v2", &[(500, 10)], 10));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    // Prometheus marks the canary's series as stale, which is no value.
    gateway.says(istio("iris-v1", &[(200, 1100)], 1100));
    looker.until((100, 0, 0), (0, 0, 0)).await;
    let gone = r#"absent(istio_requests_total{destination_service_name="iris-v2"})"#;
    holds(&prometheus, gone).await;
    gateway.says(istio("iris-v1", &[(200, 1100)], 1100) + &istio("iris-v2", &[(500, 14)], 12));
    looker.until((100, 0, 0), (4, 4, 2)).await;
    // The whole gateway goes, and comes back.
    prometheus.set_targets([]).await.unwrap();
    holds(&prometheus, "absent(istio_requests_total)").await;
    gateway.says(istio("iris-v1", &[(200, 1107)], 1107) + &istio("iris-v2", &[(500, 15)], 13));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    looker.until((107, 0, 0), (5, 5, 2)).await;
}

#[tokio::test]
async fn what_was_counted_before_the_step_is_no_evidence() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    gateway.says(istio("iris-v1", &[(200, 1000)], 1000));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    gateway.says(istio("iris-v1", &[(200, 1500), (500, 500)], 1500));
    holds(&prometheus, "istio_requests_total == 1500").await;
    let start = Utc::now();
    looker.began = start + TimeDelta::minutes(5);
    let in_the_step = format!(
        "timestamp(istio_requests_total) > {}.{:03}",
        start.timestamp(),
        start.timestamp_subsec_millis()
    );
    holds(&prometheus, &in_the_step).await;
    looker.until((0, 0, 0), (0, 0, 0)).await;
    gateway.says(istio("iris-v1", &[(200, 1530), (500, 501)], 1528));
    looker.until((31, 1, 3), (0, 0, 0)).await;
}

#[tokio::test]
async fn a_bound_is_found_however_prometheus_writes_it() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    // Half an hour in milliseconds, as Go's clients write it.
    let say = |codes: &[(u16, u32)], quick| {
        gateway.says(istio("iris-v1", codes, quick).replace("\"250\"", "\"1.8e+06\""));
    };
    say(&[(200, 1000)], 1000);
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    holds(&prometheus, r#"istio_request_duration_milliseconds_bucket{le="1.8e+06"}"#).await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.limit = [Bound(1_800_000_000)];
    looker.baseline().await;
    say(&[(200, 1100)], 1090);
    looker.until((100, 0, 10), (0, 0, 0)).await;
    // Now only the needed buckets are asked for.
    say(&[(200, 1200)], 1180);
    looker.until((200, 0, 20), (0, 0, 0)).await;
}
