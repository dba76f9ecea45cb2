//! A real Prometheus that is not what the controller expects: another certificate, another password, gone for a while, or
//! with a word of warning.

use std::fs;

use sluice_core::judge::Trouble;
use tempfile::TempDir;

use super::{authority::Authority, *};

/// The configuration of a source that trusts this authority and says this password.
fn source(directory: &TempDir, prometheus: &Prometheus, authority: &Authority, password: &str) -> Config {
    let write = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (ca, password) = (write("ca.crt", &authority.pem), write("password", password));
    let text = format!(
        "sources:\n  default:\n    url: {}\n    caFile: {ca}\n    basic: {{username: sluice, passwordFile: {password}}}\n",
        prometheus.url()
    );
    Config::load(std::path::Path::new(&write("config.yaml", &text))).unwrap()
}

/// What two looks of a controller make of it.
async fn trouble(config: Config) -> Trouble {
    let mut looker = Looker::with(config, api::Profile::Istio);
    looker.look(&[]).await;
    looker.look(&[]).await.counts.unwrap_err()
}

#[tokio::test]
async fn only_the_right_certificate_is_trusted_and_only_the_right_password_let_in() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let directory = tempfile::tempdir().unwrap();
    let good = Prometheus::start_guarded(SCRAPE_INTERVAL, &ours.guard("127.0.0.1", 2090)).await.unwrap();
    let expired = Prometheus::start_guarded(SCRAPE_INTERVAL, &ours.guard("127.0.0.1", 2021)).await.unwrap();
    let misnamed = Prometheus::start_guarded(SCRAPE_INTERVAL, &ours.guard("elsewhere", 2090)).await.unwrap();
    for (prometheus, authority, password, kind, words) in [
        // Well, but nothing is scraped.
        (&good, &ours, "s3cr3t", TroubleKind::NoData, "no series"),
        (&good, &ours, "wr0ng", TroubleKind::Refused, "status 401"),
        (&good, &other, "s3cr3t", TroubleKind::Untrusted, "UnknownIssuer"),
        (&expired, &ours, "s3cr3t", TroubleKind::Untrusted, "expired"),
        (&misnamed, &ours, "s3cr3t", TroubleKind::Untrusted, "not valid for name"),
    ] {
        let trouble = trouble(source(&directory, prometheus, authority, password)).await;
        assert!(trouble.kind == kind && trouble.message.contains(words), "{words}: {trouble:?}");
        assert!(trouble.message.starts_with("metrics source default "), "{trouble}");
        assert!(trouble.message.contains("expected "), "{trouble}");
        for secret in ["s3cr3t", "wr0ng", prometheus.url()] {
            assert!(!trouble.message.contains(secret), "{trouble}");
        }
    }
}

#[tokio::test]
async fn tls_where_there_is_none_is_no_answer() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let config = Config::prometheus(&prometheus.url().replace("http://", "https://")).unwrap();
    let trouble = trouble(config).await;
    assert_eq!(trouble.kind, TroubleKind::BadAnswer, "{trouble}");
    assert!(trouble.message.contains("expected TLS"), "{trouble}");
}

#[tokio::test]
async fn a_prometheus_that_was_gone_has_lost_no_request_and_counts_none_twice() {
    let mut prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    gateway.says(istio("iris-v1", &[(200, 1000)], 1000));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    prometheus.kill();
    gateway.says(istio("iris-v1", &[(200, 1100)], 1100) + &istio("iris-v2", &[(200, 30), (500, 4)], 34));
    let trouble = looker.look(&[]).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Unavailable, "{trouble}");
    assert!(trouble.message.starts_with("metrics source default cannot be asked"), "{trouble}");
    prometheus.start_again().await.unwrap();
    looker.until((100, 0, 0), (34, 4, 0)).await;
    // Gone again, and meanwhile the gateway begins anew.
    prometheus.kill();
    looker.look(&[]).await.counts.unwrap_err();
    gateway.says(istio("iris-v1", &[(200, 5)], 5) + &istio("iris-v2", &[(200, 2)], 2));
    prometheus.start_again().await.unwrap();
    looker.until((105, 0, 0), (36, 4, 0)).await;
}

#[tokio::test]
async fn what_prometheus_itself_warns_of_is_no_number_and_what_it_remarks_is() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let exporter = Exporter::start().await;
    exporter.says("latency_bucket{le=\"1\"} 3\nlatency_bucket{le=\"+Inf\"} 4\naccuracy 0.9\n".to_owned());
    prometheus.set_targets([Target::new(&exporter.address)]).await.unwrap();
    scraped(&prometheus, "accuracy").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    let mut ask = async |promql: &str| {
        let query = Query {
            check: "it".into(),
            promql: promql.into(),
            window: Duration::from_secs(30),
            compared: None,
        };
        looker.look(&[query]).await.queries.remove("it").unwrap()
    };
    let trouble = ask("histogram_quantile(7, latency_bucket)").await.unwrap_err();
    assert!(
        trouble.kind == TroubleKind::BadQuery && trouble.message.contains("PromQL warning"),
        "{trouble:?}"
    );
    // A gauge in a rate is remarked upon, in `infos`.
    let remarked = "sum(rate(accuracy[20s])) * 0 + 0.9";
    wait::until(LIMIT, "Prometheus remarks on a query", || async {
        let url = format!("{}/api/v1/query", prometheus.url());
        let answer = reqwest::Client::new().get(url).query(&[("query", remarked)]).send().await;
        let text = answer.unwrap().text().await.unwrap();
        if text.contains("\"infos\":[") && text.contains("0.9") { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    // A look is at a whole second, which may have been before that.
    let end = tokio::time::Instant::now() + LIMIT;
    while ask(remarked).await != Ok(0.9) {
        assert!(tokio::time::Instant::now() < end, "{:?}", ask(remarked).await);
        tokio::time::sleep(SCRAPE_INTERVAL).await;
    }
    for (promql, words) in [
        ("vector(0) / 0", "NaN"),
        ("vector(1) / 0", "+inf"),
        ("vector(-1) / 0", "-inf"),
        ("accuracy > 1", "an empty vector"),
    ] {
        let trouble = ask(promql).await.unwrap_err();
        assert!(
            trouble.kind == TroubleKind::NoData && trouble.message.contains(words),
            "{promql}: {trouble:?}"
        );
    }
}
