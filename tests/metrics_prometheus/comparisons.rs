//! Queries of checks that compare, at a real Prometheus: counters that begin, restart and vanish, and answers that are no number.

use sluice::metrics::Compared;
use sluice_core::judge::{Both, Counts, Trouble};

use super::*;

const PART: &str = r#"model_fallbacks_total{service="{{canary.service}}"}"#;
const TOTAL: &str = r#"model_predictions_total{service="{{canary.service}}"}"#;

fn query(promql: &str, compared: Compared) -> [Query; 1] {
    let window = Duration::from_secs(30);
    [Query { check: "it".to_owned(), promql: promql.to_owned(), window, compared: Some(compared) }]
}

fn shares() -> [Query; 1] {
    query(PART, Compared::Shares(TOTAL.to_owned()))
}

/// What a model server exposes about its own answers; of the part there may be nothing yet.
fn model(part: Option<u32>, total: u32) -> String {
    let part = part.map_or_else(String::new, |part| format!("model_fallbacks_total {part}\n"));
    format!("{part}model_predictions_total {total}\n")
}

fn target(exporter: &Exporter, service: &str) -> Target {
    Target::new(&exporter.address).label("namespace", "models").label("service", service)
}

/// What the looks of a comparison of counters add up to.
struct Comparison {
    looker: Looker,
    stable: (u64, u64),
    canary: (u64, u64),
}

impl Comparison {
    /// After a first look.
    async fn begun(prometheus: &Prometheus) -> Self {
        let looker = Looker::new(prometheus, api::Profile::Mlserver);
        let mut comparison = Self { looker, stable: (0, 0), canary: (0, 0) };
        assert_eq!(comparison.look().await.unwrap_err().kind, TroubleKind::Baseline);
        comparison
    }

    async fn look(&mut self) -> Result<(), Trouble> {
        let queries = shares();
        match self.looker.look(&queries).await.compared.remove("it").unwrap()? {
            Both::Counted(Measurement { stable, canary, .. }) => {
                let add = |sum: &mut (u64, u64), more: &Counts| {
                    *sum = (sum.0 + more.requests, sum.1 + more.errors);
                };
                add(&mut self.stable, &stable);
                add(&mut self.canary, &canary);
                Ok(())
            }
            Both::Scored { .. } => panic!("numbers, where counters were asked for"),
        }
    }

    /// Looks until the predictions, and the part of them, of both arms add up to this.
    async fn until(&mut self, stable: (u64, u64), canary: (u64, u64)) {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            let look = self.look().await;
            let seen = (self.stable, self.canary);
            if seen == (stable, canary) {
                return;
            }
            assert!(
                seen.0.0 <= stable.0 && seen.1.0 <= canary.0 && tokio::time::Instant::now() < end,
                "{seen:?}, expected {stable:?} and {canary:?}; last look {look:?}"
            );
            tokio::time::sleep(wait::EVERY).await;
        }
    }
}

#[tokio::test]
async fn counters_that_are_compared_count_over_births_restarts_and_deaths() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let (old, young, unknown) = (Exporter::start().await, Exporter::start().await, Exporter::start().await);
    old.says(model(Some(5), 500));
    prometheus.set_targets([target(&old, "iris-v1")]).await.unwrap();
    scraped(&prometheus, "model_predictions_total").await;
    let mut comparison = Comparison::begun(&prometheus).await;
    // A canary that began after the first look, and one of which nobody knows when.
    let started = Utc::now().timestamp() + 1;
    young.says(format!("process_start_time_seconds {started}.5\n") + &model(None, 30));
    unknown.says(model(Some(300), 700));
    let all = [target(&old, "iris-v1"), target(&young, "iris-v2"), target(&unknown, "iris-v2")];
    prometheus.set_targets(all.clone()).await.unwrap();
    comparison.until((0, 0), (30, 0)).await;
    // From then on the stranger counts like everybody.
    lives::holds(&prometheus, "model_predictions_total == 700").await;
    comparison.until((0, 0), (30, 0)).await;
    // The first of the part: a series of one that was there without it.
    young.says(format!("process_start_time_seconds {started}.5\n") + &model(Some(4), 40));
    unknown.says(model(Some(301), 710));
    comparison.until((0, 0), (50, 5)).await;
    // Stable's process begins anew, and its counters with it.
    old.says(model(Some(2), 100));
    comparison.until((100, 2), (50, 5)).await;
    // A pod ends, and takes nothing with it.
    prometheus.set_targets(all[..2].iter().cloned()).await.unwrap();
    old.says(model(Some(3), 110));
    comparison.until((110, 3), (50, 5)).await;
    prometheus.set_targets(all).await.unwrap();
    unknown.says(model(Some(302), 720));
    comparison.until((110, 3), (60, 6)).await;
}

/// Stable and a canary that have been scraped: 5 of 500 predictions, and 1 of 10.
async fn both(prometheus: &Prometheus) -> (Exporter, Exporter) {
    let (stable, canary) = (Exporter::start().await, Exporter::start().await);
    stable.says(model(Some(5), 500));
    canary.says(model(Some(1), 10));
    prometheus.set_targets([target(&stable, "iris-v1"), target(&canary, "iris-v2")]).await.unwrap();
    scraped(prometheus, r#"model_predictions_total{service="iris-v2"}"#).await;
    scraped(prometheus, r#"model_predictions_total{service="iris-v1"}"#).await;
    (stable, canary)
}

#[tokio::test]
async fn what_was_counted_before_the_step_is_no_evidence_of_a_comparison() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let (stable, canary) = both(&prometheus).await;
    let mut comparison = Comparison::begun(&prometheus).await;
    stable.says(model(Some(50), 600));
    canary.says(model(Some(40), 60));
    lives::holds(&prometheus, "model_predictions_total == 60").await;
    lives::holds(&prometheus, "model_predictions_total == 600").await;
    let start = Utc::now();
    comparison.looker.began = start + TimeDelta::minutes(5);
    for service in ["iris-v1", "iris-v2"] {
        let promql = format!(
            "timestamp(model_predictions_total{{service=\"{service}\"}}) > {}.{:03}",
            start.timestamp(),
            start.timestamp_subsec_millis()
        );
        lives::holds(&prometheus, &promql).await;
    }
    comparison.until((0, 0), (0, 0)).await;
    stable.says(model(Some(51), 620));
    canary.says(model(Some(43), 65));
    comparison.until((20, 1), (5, 3)).await;
}

#[tokio::test]
async fn a_source_that_was_away_loses_nothing_of_what_is_compared() {
    let mut prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let (stable, canary) = both(&prometheus).await;
    let mut comparison = Comparison::begun(&prometheus).await;
    prometheus.kill();
    stable.says(model(Some(6), 530));
    canary.says(model(Some(9), 40));
    // A second look within one second has the answer of the first.
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let kind = comparison.look().await.unwrap_err().kind;
        if kind == TroubleKind::Unavailable {
            break;
        }
        assert_eq!(kind, TroubleKind::Baseline);
        assert!(tokio::time::Instant::now() < end, "the outage is not seen");
        tokio::time::sleep(wait::EVERY).await;
    }
    prometheus.start_again().await.unwrap();
    comparison.until((30, 1), (30, 8)).await;
}

#[tokio::test]
async fn of_two_series_where_one_number_is_expected_both_are_named() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let exporter = Exporter::start().await;
    let accuracy = |version: &str, model: &str, value: f64| {
        format!("model_accuracy{{service=\"iris-{version}\",model=\"{model}\"}} {value}\n")
    };
    let stable = accuracy("v1", "iris", 0.9);
    let one = stable.clone() + &accuracy("v2", "iris", 0.95);
    exporter.says(one.clone() + &accuracy("v2", "wine", 0.2));
    prometheus.set_targets([Target::new(&exporter.address)]).await.unwrap();
    scraped(&prometheus, "model_accuracy").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    let promql = r#"model_accuracy{service="{{canary.service}}"}"#;
    let compared = query(promql, Compared::Scores);
    let look = looker.look(&compared).await;
    for (trouble, begin) in [
        (look.queries["it"].clone().unwrap_err(), "metrics source default gave 2 series"),
        (look.compared["it"].clone().unwrap_err(), "about the canary: metrics source default gave 2 series"),
    ] {
        assert_eq!(trouble.kind, TroubleKind::BadQuery, "{trouble}");
        assert!(trouble.message.starts_with(begin), "{trouble}");
        for model in ["iris", "wine"] {
            let labels = format!(r#"model="{model}", service="iris-v2""#);
            assert!(trouble.message.contains(&labels), "{labels} is not in {trouble}");
        }
    }
    // Of stable there were one all the time, and of both there is one when the other is gone.
    exporter.says(one);
    let end = tokio::time::Instant::now() + LIMIT;
    let expected = Ok(Both::Scored { canary: 0.95, stable: 0.9 });
    while looker.look(&compared).await.compared["it"] != expected {
        assert!(tokio::time::Instant::now() < end, "{:?}", looker.look(&compared).await.compared);
        tokio::time::sleep(SCRAPE_INTERVAL).await;
    }
    exporter.says(stable);
    let none = |trouble: &Trouble| {
        trouble.message.contains("about the canary: metrics source default gave an empty vector")
    };
    while !looker.look(&compared).await.compared["it"].as_ref().is_err_and(none) {
        assert!(tokio::time::Instant::now() < end, "{:?}", looker.look(&compared).await.compared);
        tokio::time::sleep(SCRAPE_INTERVAL).await;
    }
}

#[tokio::test]
async fn what_is_no_counter_is_not_compared_as_one() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let (stable, canary) = (Exporter::start().await, Exporter::start().await);
    for exporter in [&stable, &canary] {
        exporter.says("model_fallbacks_total -3\nmodel_predictions_total 7\n".to_owned());
    }
    prometheus.set_targets([target(&stable, "iris-v1"), target(&canary, "iris-v2")]).await.unwrap();
    scraped(&prometheus, r#"model_fallbacks_total{service="iris-v2"}"#).await;
    let mut looker = Looker::new(&prometheus, api::Profile::Mlserver);
    let trouble = looker.look(&shares()).await.compared["it"].clone().unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::BadQuery, "{trouble}");
    assert!(trouble.message.contains("is -3: expected a counter"), "{trouble}");
    for (part, words) in [
        ("rate(model_fallbacks_total{service=\"{{canary.service}}\"}", "parse error"),
        ("sum(model_fallbacks_total{service=\"{{canary.service}}\"})", "vector selectors"),
    ] {
        let queries = query(part, Compared::Shares(TOTAL.to_owned()));
        let trouble = looker.look(&queries).await.compared["it"].clone().unwrap_err();
        assert!(
            trouble.kind == TroubleKind::BadQuery && trouble.message.contains(words),
            "{part}: {trouble}"
        );
    }
}
