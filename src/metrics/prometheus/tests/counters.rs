use super::*;

/// A series of a gateway about a Service.
fn series(name: &str, service: &str, more: &[(&str, &str)], points: &[(i64, f64)]) -> serde_json::Value {
    let mut metric: BTreeMap<&str, &str> = BTreeMap::from([
        ("__name__", name),
        ("reporter", "source"),
        ("destination_service_name", service),
        ("destination_service_namespace", "models"),
        ("job", "gateways"),
        ("instance", "10.0.0.9:15020"),
    ]);
    metric.extend(more.iter().copied());
    let values: Vec<_> = points.iter().map(|(s, v)| (at(*s).timestamp(), v.to_string())).collect();
    serde_json::json!({"metric": metric, "values": values})
}

pub(super) fn requests(service: &str, code: &str, points: &[(i64, f64)]) -> serde_json::Value {
    series("istio_requests_total", service, &[("response_code", code)], points)
}

fn histogram(service: &str, suffix: &str, le: &str, points: &[(i64, f64)]) -> serde_json::Value {
    let name = format!("istio_request_duration_milliseconds_{suffix}");
    let le = [("response_code", "200"), ("le", le)];
    series(&name, service, if suffix == "bucket" { &le } else { &le[..1] }, points)
}

fn is_about_age(seen: &Seen) -> bool {
    seen.query().contains("process_start_time_seconds")
}

#[tokio::test]
async fn one_query_at_one_time_counts_both_arms() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    asker.limits = vec![Bound(250_000)];
    let bucket = |service, points: &[(i64, f64)]| histogram(service, "bucket", "250", points);
    fake.says(
        200,
        "application/json",
        &matrix(&[
            requests("iris-v1", "200", &[(-15, 900.0), (0, 1000.0)]),
            bucket("iris-v1", &[(-15, 890.0), (0, 990.0)]),
            histogram("iris-v1", "bucket", "500", &[(-15, 900.0), (0, 1000.0)]),
            histogram("iris-v1", "count", "", &[(-15, 900.0), (0, 1000.0)]),
        ]),
    );
    assert_eq!(asker.look(0).await.counts.unwrap_err().kind, TroubleKind::Baseline);

    fake.says(
        200,
        "application/json",
        &matrix(&[
            requests("iris-v1", "200", &[(0, 1000.0), (15, 1100.0)]),
            bucket("iris-v1", &[(0, 990.0), (15, 1085.0)]),
            histogram("iris-v1", "count", "", &[(0, 1000.0), (15, 1100.0)]),
            requests("iris-v2", "200", &[(15, 8.0)]),
            requests("iris-v2", "503", &[(15, 2.0)]),
            bucket("iris-v2", &[(15, 7.0)]),
            histogram("iris-v2", "count", "", &[(15, 10.0)]),
            requests("iris-v3", "200", &[(15, 77.0)]),
        ]),
    );
    let counts = asker.look(20).await.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.stable.errors), (100, 0));
    assert_eq!((counts.canary.requests, counts.canary.errors), (10, 2), "the gateway was there before");
    assert_eq!((counts.stable.slower[&Bound(250_000)], counts.canary.slower[&Bound(250_000)]), (5, 3));

    let seen = fake.seen();
    assert_eq!(seen.len(), 2, "one query a look");
    assert_eq!(seen[0].form["time"], "1700000000.700");
    assert!(seen[0].query().ends_with("}[300s]") && !seen[0].query().contains("le="));
    assert!(seen[1].query().ends_with(r#"le=~"|250|250\\.0"}[140s]"#), "{}", seen[1].query());
    assert_eq!(seen[0].path, "/api/v1/query");
}

#[tokio::test]
async fn a_sample_that_was_seen_is_no_new_look_and_loses_nothing() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    let at_ten = matrix(&[requests("iris-v1", "200", &[(0, 1000.0), (10, 1010.0)])]);
    fake.says(200, "application/json", &at_ten);
    asker.look(12).await;
    let trouble = asker.look(20).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::NoData);
    assert!(trouble.message.contains("2023-11-14T22:13:30Z"), "{trouble}");
    fake.says(200, "application/json", &matrix(&[requests("iris-v1", "200", &[(10, 1010.0), (25, 1040.0)])]));
    assert_eq!(asker.look(30).await.counts.unwrap().stable.requests, 30);
}

#[tokio::test]
async fn a_reset_between_two_looks_is_seen() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    fake.says(200, "application/json", &matrix(&[requests("iris-v1", "200", &[(0, 50.0)])]));
    asker.look(0).await;
    let restarted = [(0, 50.0), (15, 60.0), (30, 5.0), (45, 70.0)];
    fake.says(200, "application/json", &matrix(&[requests("iris-v1", "200", &restarted)]));
    assert_eq!(asker.look(50).await.counts.unwrap().stable.requests, 80);
}

#[tokio::test]
async fn no_series_at_all_is_no_data() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    fake.says(200, "application/json", &matrix(&[]));
    asker.look(0).await;
    let trouble = asker.look(10).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::NoData);
    assert!(trouble.message.contains("iris-v1") && trouble.message.contains("iris-v2"), "{trouble}");
}

#[tokio::test]
async fn a_gateway_that_was_never_seen_is_asked_for_its_age() {
    let up = |first: i64| {
        let labels = [("__name__", "up"), ("job", "gateways"), ("instance", "10.0.0.9:15020")];
        let points: Vec<_> = [(first, "1"), (15, "1")].map(|(s, v)| (at(s).timestamp(), v)).into();
        serde_json::json!({"metric": BTreeMap::from(labels), "values": points})
    };
    let started = |second: i64| {
        let labels =
            [("__name__", "process_start_time_seconds"), ("job", "gateways"), ("instance", "10.0.0.9:15020")];
        let value = at(second).timestamp().to_string();
        serde_json::json!({"metric": BTreeMap::from(labels), "values": [(at(15).timestamp(), value)]})
    };
    for (case, age, expected) in [
        ("unknown", vec![], Err(TroubleKind::Baseline)),
        ("read before without the series", vec![up(0)], Ok(30)),
        ("read the first time", vec![up(15)], Err(TroubleKind::Baseline)),
        ("started after the first look", vec![up(15), started(5)], Ok(30)),
        ("started long before", vec![up(15), started(-5000)], Err(TroubleKind::Baseline)),
    ] {
        let fake = Fake::start().await;
        let mut asker = Asker::new(&fake);
        fake.says(200, "application/json", &matrix(&[]));
        asker.look(0).await;
        fake.answers(move |seen| {
            let burst = [requests("iris-v2", "500", &[(15, 30.0)])];
            json(StatusCode::OK, &matrix(if is_about_age(seen) { &age } else { &burst }))
        });
        let errors = asker.look(20).await.counts.map(|counts| counts.canary.errors);
        assert_eq!(errors.map_err(|trouble| trouble.kind), expected, "{case}");
        let seen = fake.seen();
        assert!(seen[2].query().contains(r#"instance="10.0.0.9:15020""#));
        asker.look(30).await;
        assert_eq!(fake.seen().len(), 4, "{case}: it is known now");
    }
}

#[tokio::test]
async fn pods_with_other_buckets_are_found_and_bounds_that_all_have_are_used() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    asker.limits = vec![Bound(250_000)];
    // Answers only the buckets that were asked for, as a server does.
    fake.answers(|seen| {
        let time = seen.form["time"].trim_end_matches(".700");
        let now: i32 = time.trim_start_matches("17000000").parse().unwrap();
        let value = |share: f64| [(i64::from(now), share * f64::from(now))];
        let wanted = |le: &str| !seen.query().contains("le=~") || seen.query().contains(&format!("|{le}|"));
        let mut result =
            vec![requests("iris-v1", "200", &value(10.0)), histogram("iris-v1", "count", "", &value(10.0))];
        for (le, share) in [("100", 5.0), ("250", 8.0), ("500", 9.0)] {
            if wanted(le) {
                result.push(histogram("iris-v1", "bucket", le, &value(share)));
            }
        }
        if now >= 30 {
            result.push(requests("iris-v2", "200", &value(1.0)));
            result.push(histogram("iris-v2", "count", "", &value(1.0)));
            for (le, share) in [("100", 0.5), ("500", 0.9)] {
                if wanted(le) {
                    result.push(histogram("iris-v2", "bucket", le, &value(share)));
                }
            }
        }
        json(StatusCode::OK, &matrix(&result))
    });
    let mut slower = Vec::new();
    for second in [10, 20, 30, 40, 50, 60] {
        let counts = asker.look(second).await.counts;
        slower.push(counts.map(|counts| counts.stable.slower.keys().map(|b| b.0 / 1000).collect::<Vec<_>>()));
    }
    let slower: Vec<_> = slower.into_iter().map(Result::unwrap_or_default).collect();
    assert_eq!(slower, [vec![], vec![250], vec![], vec![], vec![100, 500], vec![100, 500]]);
}

#[tokio::test]
async fn mlserver_by_prometheus_knows_its_pods_before_their_first_request() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    asker.plan = plan(api::Profile::Mlserver);
    asker.canary.pods =
        vec![Pod { name: "b".into(), address: IpAddr::from([10, 0, 0, 2]), started: Some(at(5)) }];
    let row = |name: &str, service: &str, instance: &str, path: &str, points: &[(i64, f64)]| {
        let metric = BTreeMap::from([
            ("__name__", name),
            ("namespace", "models"),
            ("service", service),
            ("instance", instance),
            ("path", path),
            ("status_code", "500"),
        ]);
        let values: Vec<_> = points.iter().map(|(s, v)| (at(*s).timestamp(), v.to_string())).collect();
        serde_json::json!({"metric": metric, "values": values})
    };
    let up = |points: &[(i64, f64)]| row("up", "iris-v1", "10.0.0.1:8082", "", points);
    fake.says(200, "application/json", &matrix(&[up(&[(0, 1.0)])]));
    asker.look(0).await;
    let infer = "/v2/models/iris/infer";
    let name = "rest_server_requests_total";
    fake.says(
        200,
        "application/json",
        &matrix(&[
            up(&[(0, 1.0), (15, 1.0)]),
            row(name, "iris-v1", "10.0.0.1:8082", infer, &[(15, 4.0)]),
            row(name, "iris-v1", "10.0.0.1:8082", "/v2/models/iris/ready", &[(15, 400.0)]),
            row(name, "iris-v2", "10.0.0.2:8082", infer, &[(15, 6.0)]),
        ]),
    );
    let counts = asker.look(20).await.counts.unwrap();
    assert_eq!((counts.stable.errors, counts.canary.errors), (4, 6));
    let sent = fake.seen()[1].query().to_owned();
    assert!(sent.contains(r#"service=~"iris-v1|iris-v2",namespace="models""#), "{sent}");
}

#[tokio::test]
async fn what_was_gathered_before_the_source_was_away_is_counted_with_the_first_sample_after_it() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    let both = |points: &[(i64, f64)]| {
        matrix(&[requests("iris-v1", "200", points), requests("iris-v2", "200", points)])
    };
    fake.says(200, "application/json", &both(&[(0, 100.0)]));
    assert_eq!(asker.look(0).await.counts.unwrap_err().kind, TroubleKind::Baseline);

    fake.says(503, "text/html", "away");
    assert_eq!(asker.look(20).await.counts.unwrap_err().kind, TroubleKind::Unavailable);

    // It is back, with what it gathered before it went.
    fake.says(200, "application/json", &both(&[(0, 100.0), (15, 115.0)]));
    let trouble = asker.look(30).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::NoData, "{trouble}");

    fake.says(200, "application/json", &both(&[(0, 100.0), (15, 115.0), (35, 135.0)]));
    let measured = asker.look(40).await.counts.unwrap();
    assert_eq!((measured.stable.requests, measured.canary.requests), (35, 35));
}
