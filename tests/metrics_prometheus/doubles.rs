//! What a real Prometheus has twice, because two of its jobs scrape one exporter: each request counts once.

use super::*;

/// An exporter as two jobs scrape it, the second of which says more about it.
fn jobs(exporter: &Exporter, names: &[&str]) -> Vec<Target> {
    let target = |name: &&str| {
        let target = Target::new(&exporter.address).label("job", *name);
        if *name == "monitor" {
            target.label("container", "istio-proxy").label("endpoint", "metrics")
        } else {
            target
        }
    };
    names.iter().map(target).collect()
}

#[tokio::test]
async fn a_gateway_that_two_jobs_scrape_counts_once_and_on_when_one_of_them_stops() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let (gateway, other) = (Exporter::start().await, Exporter::start().await);
    let says = |stable: u32, failed: u32| {
        let text =
            istio("iris-v1", &[(200, stable)], stable - 10) + &istio("iris-v2", &[(500, failed)], failed);
        gateway.says(text);
    };
    says(1000, 10);
    // A second gateway is no double of the first.
    other.says(istio("iris-v1", &[(200, 300)], 300));
    let with = |names: &[&str]| [jobs(&gateway, names), jobs(&other, &["pods"])].concat();
    prometheus.set_targets(with(&["pods", "monitor"])).await.unwrap();
    scraped(&prometheus, r#"istio_requests_total{job="monitor"}"#).await;
    scraped(&prometheus, r#"istio_requests_total{job="pods"}"#).await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    for step in 1..=4_u32 {
        says(1000 + 100 * step, 10 + 7 * step);
        looker.until((100 * u64::from(step), 0, 0), (7 * u64::from(step), 7 * u64::from(step), 0)).await;
    }
    other.says(istio("iris-v1", &[(200, 330)], 320));
    looker.until((430, 0, 10), (28, 28, 0)).await;
    prometheus.set_targets(with(&["pods"])).await.unwrap();
    says(1500, 40);
    looker.until((530, 0, 10), (30, 30, 0)).await;
    // And the other way round.
    prometheus.set_targets(with(&["monitor"])).await.unwrap();
    says(1600, 41);
    looker.until((630, 0, 10), (31, 31, 0)).await;
}
