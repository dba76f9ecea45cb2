use std::{collections::BTreeMap, sync::Arc};

use sluice_core::api;

use super::{
    super::{Arm, Config, Query},
    *,
};

/// A Prometheus that says one thing to range selectors and another to everything else.
async fn fake(matrix: serde_json::Value, vector: serde_json::Value) -> String {
    answering(move |query| {
        // `]`, as a form has it, ends a query with a range.
        if query.contains("topk") { ("vector", vector.clone()) } else { ("matrix", matrix.clone()) }
    })
    .await
}

/// A Prometheus that answers a query, in the form that it was sent in, with the kind and the result that are said.
async fn answering(
    answer: impl Fn(&str) -> (&'static str, serde_json::Value) + Send + Sync + 'static,
) -> String {
    let answer = Arc::new(answer);
    let handler = move |body: String| {
        let (kind, result) = answer(&body);
        let data = serde_json::json!({"resultType": kind, "result": result});
        async move { axum::Json(serde_json::json!({"status": "success", "data": data})) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/api/v1/query", axum::routing::post(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn arm(service: &str) -> Arm {
    Arm::of(sluice_core::Predictor::new("models", service, 8000))
}

fn series(
    service: &str,
    more: &[(&str, &str)],
    points: &[(i64, &str)],
    now: DateTime<Utc>,
) -> serde_json::Value {
    let mut metric = BTreeMap::from([
        ("__name__", "istio_requests_total"),
        ("reporter", "source"),
        ("destination_service_name", service),
        ("destination_service_namespace", "models"),
        ("response_code", "200"),
        ("instance", "gateway"),
    ]);
    metric.extend(more.iter().copied());
    let values: Vec<_> = points.iter().map(|(ago, value)| (now.timestamp() - ago, *value)).collect();
    serde_json::json!({"metric": metric, "values": values})
}

async fn survey(url: &str, now: DateTime<Utc>, labels: &[(&str, &str)], in_flight: bool) -> Survey {
    survey_with(url, now, labels, in_flight, &[]).await
}

async fn survey_with(
    url: &str,
    now: DateTime<Utc>,
    labels: &[(&str, &str)],
    in_flight: bool,
    queries: &[Query],
) -> Survey {
    let metrics = Metrics::new(Config::prometheus(url).unwrap()).unwrap();
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let plan = MetricsPlan::Source { name: "default".to_owned(), profile: api::Profile::Istio, labels };
    let (stable, canary) = (arm("iris-v1"), arm("iris-v2"));
    let question = Question {
        now,
        rollout: "iris",
        namespace: "models",
        metrics: &plan,
        stable: &stable,
        canary: Some(&canary),
        retiring: &[],
        limits: &[],
        queries,
        shadow: false,
        step_start: now,
        timeout: Duration::from_secs(20),
    };
    metrics.survey(&question, Duration::ZERO, in_flight).await
}

#[tokio::test]
async fn both_arms_are_counted_over_the_last_minutes_with_the_query_of_a_look() {
    let now = Utc::now();
    let matrix = serde_json::json!([
        series("iris-v1", &[], &[(120, "100"), (60, "160"), (0, "200")], now),
        series("iris-v1", &[("response_code", "503")], &[(60, "4"), (0, "5")], now),
        series("iris-v2", &[], &[(60, "30")], now),
    ]);
    let url = fake(matrix, serde_json::json!([])).await;
    let survey = survey(&url, now, &[], true).await;
    let counts = survey.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.stable.errors), (105, 5));
    // The gateway was there before, so the canary's first series began at 0.
    assert_eq!(counts.canary.requests, 30);
    assert_eq!((survey.arms[0].counters, survey.arms[0].reporters), (2, 1));
    assert!(survey.asked[0].contains("istio_requests_total") && survey.asked[0].ends_with("[300s]"));
    assert_eq!(survey.gaps, []);
    assert_eq!((survey.until - survey.since).num_seconds(), 300);
}

#[tokio::test]
async fn what_two_jobs_have_scraped_counts_once_and_is_told() {
    let now = Utc::now();
    let matrix = serde_json::json!([
        series("iris-v1", &[("job", "a")], &[(120, "100"), (60, "160"), (0, "200")], now),
        series("iris-v1", &[("job", "b")], &[(110, "110"), (50, "164"), (1, "199")], now),
        series("iris-v2", &[("job", "a")], &[(60, "0"), (0, "30")], now),
    ]);
    let survey = survey(&fake(matrix, serde_json::json!([])).await, now, &[], true).await;
    let counts = survey.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.canary.requests), (100, 30));
    let [gap] = &survey.gaps[..] else { panic!("{:?}", survey.gaps) };
    assert!(
        !gap.matters && gap.what.contains("iris-v1:8000 are recorded more than once, by /a/gateway and"),
        "{gap:?}"
    );
}

#[tokio::test]
async fn what_is_missing_is_explained_by_what_is_there() {
    let now = Utc::now();
    let only_stable = || serde_json::json!([series("iris-v1", &[], &[(60, "160"), (0, "200")], now)]);
    let related = |service: &str, reporter: &str| {
        let metric = serde_json::json!({
            "__name__": "istio_requests_total", "destination_service_name": service,
            "destination_service_namespace": "models", "reporter": reporter,
        });
        serde_json::json!({"metric": metric, "value": [0, "3"]})
    };
    for (vector, labels, words) in [
        (serde_json::json!([]), vec![], "none of istio_requests_total about anybody"),
        (
            serde_json::json!([related("iris", "source")]),
            vec![],
            r#"labelled {destination_service_name="iris", "#,
        ),
        (
            serde_json::json!([related("iris-v2", "destination")]),
            vec![],
            r#"have reporter="destination", and none has "source""#,
        ),
        (
            serde_json::json!([related("iris-v2", "source")]),
            vec![("route", "primary")],
            r#"have route="", and none has "primary""#,
        ),
    ] {
        let url = fake(only_stable(), vector).await;
        let survey = survey(&url, now, &labels, true).await;
        let gap = survey.gaps.iter().find(|gap| gap.what.contains("iris-v2:8000")).unwrap();
        assert!(gap.matters && gap.what.contains(words), "{gap:?}");
        assert!(!gap.advice.is_empty());
    }
    // A canary that nobody was sent to has none to be missed.
    let url = fake(only_stable(), serde_json::json!([])).await;
    assert!(survey(&url, now, &[], false).await.gaps.iter().all(|gap| !gap.matters));
}

#[tokio::test]
async fn a_source_that_cannot_be_asked_is_the_gap() {
    let survey = survey("http://127.0.0.1:1", Utc::now(), &[], true).await;
    let [gap] = &survey.gaps[..] else { panic!("{:?}", survey.gaps) };
    assert!(gap.matters && gap.what.contains("metrics source default cannot be asked"), "{gap:?}");
    assert!(gap.advice.contains("forward a port"), "{gap:?}");
    assert_eq!(survey.asked.len(), 1, "what was asked is said");
}

#[tokio::test]
async fn a_comparison_lacks_what_stable_does_not_export() {
    let now = Utc::now();
    let counted = ["iris-v1", "iris-v2"].map(|service| series(service, &[], &[(60, "160"), (0, "200")], now));
    let query = Query {
        check: "accuracy".to_owned(),
        promql: r#"avg(model_accuracy{service="{{canary.service}}"})"#.to_owned(),
        window: Duration::from_mins(1),
        compared: Some(Compared::Scores),
    };
    for (exported_by, what) in [
        (&["iris-v1", "iris-v2"][..], None),
        (&["iris-v2"], Some("check accuracy: about stable: metrics source default ")),
        (&["iris-v1"], Some("check accuracy: about the canary: metrics source default ")),
    ] {
        let counted = serde_json::json!(counted);
        let url = answering(move |query| {
            if !query.contains("model_accuracy") {
                return ("matrix", counted.clone());
            }
            let there = exported_by.iter().any(|service| query.contains(service));
            let sample = serde_json::json!({"metric": {}, "value": [now.timestamp(), "0.9"]});
            ("vector", if there { serde_json::json!([sample]) } else { serde_json::json!([]) })
        });
        let queries = std::slice::from_ref(&query);
        let survey = survey_with(&url.await, now, &[], true, queries).await;
        let gap = survey.gaps.first();
        assert_eq!(gap.map(|gap| gap.matters), what.map(|_| true), "{gap:?}");
        assert!(gap.is_none_or(|gap| gap.what.starts_with(what.unwrap())), "{gap:?}");
        assert!(survey.gaps.len() <= 1, "{:?}", survey.gaps);
    }
}
