use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use axum::http::{Method, StatusCode};
use sluice_core::{
    Predictor, api,
    judge::{Bound, Look},
    plan::MetricsPlan,
};

use super::{
    fake::{Fake, Seen, VECTOR, json},
    *,
};
use crate::metrics::{Config, Metrics, Pod};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn arm(service: &str) -> Arm {
    Arm { predictor: Predictor::new("models", service, 8000), pods: Vec::new() }
}

fn plan(profile: api::Profile) -> MetricsPlan {
    MetricsPlan::Source { name: "default".to_owned(), profile, labels: BTreeMap::new() }
}

/// What is asked in one test.
struct Asker {
    metrics: Metrics,
    plan: MetricsPlan,
    stable: Arm,
    canary: Arm,
    limits: Vec<Bound>,
    queries: Vec<Query>,
    memory: Memory,
}

impl Asker {
    fn new(fake: &Fake) -> Self {
        Self::with(Config::prometheus(&fake.url).unwrap())
    }

    fn with(config: Config) -> Self {
        Self {
            metrics: Metrics::new(config).unwrap(),
            plan: plan(api::Profile::Istio),
            stable: arm("iris-v1"),
            canary: arm("iris-v2"),
            limits: Vec::new(),
            queries: Vec::new(),
            memory: Memory::default(),
        }
    }

    fn querying(mut self, promql: &str) -> Self {
        self.queries =
            vec![Query { check: "accuracy".into(), promql: promql.into(), window: Duration::from_secs(50) }];
        self
    }

    async fn look(&mut self, second: i64) -> Look {
        let question = Question {
            now: at(second) + TimeDelta::milliseconds(700),
            rollout: "iris",
            namespace: "models",
            metrics: &self.plan,
            stable: &self.stable,
            canary: Some(&self.canary),
            retiring: &[],
            limits: &self.limits,
            queries: &self.queries,
            step_start: at(-30),
            timeout: Duration::from_secs(30),
        };
        self.metrics.look(&question, &mut self.memory).await
    }

    /// What the first query answers, while there are no counters.
    async fn ask(&mut self) -> Result<f64, Trouble> {
        self.look(0).await.queries.remove("accuracy").unwrap()
    }
}

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

fn requests(service: &str, code: &str, points: &[(i64, f64)]) -> serde_json::Value {
    series("istio_requests_total", service, &[("response_code", code)], points)
}

fn histogram(service: &str, suffix: &str, le: &str, points: &[(i64, f64)]) -> serde_json::Value {
    let name = format!("istio_request_duration_milliseconds_{suffix}");
    let le = [("response_code", "200"), ("le", le)];
    series(&name, service, if suffix == "bucket" { &le } else { &le[..1] }, points)
}

fn matrix(series: &[serde_json::Value]) -> String {
    serde_json::json!({"status": "success", "data": {"resultType": "matrix", "result": series}}).to_string()
}

fn is_about_age(seen: &Seen) -> bool {
    seen.query().contains("process_start_time_seconds")
}

// === counters ===

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
    assert_eq!(seen[0].form["time"], "1700000000.000");
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
        let time = seen.form["time"].trim_end_matches(".000");
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

// === queries ===

#[tokio::test]
async fn a_query_gives_one_number() {
    let fake = Fake::start().await;
    for (result, expected) in [
        (r#"{"resultType":"scalar","result":[1.5,"0.95"]}"#, 0.95),
        (r#"{"resultType":"vector","result":[{"metric":{},"value":[1.5,"-3e2"]}]}"#, -300.0),
    ] {
        fake.says(200, "application/json", &format!(r#"{{"status":"success","data":{result}}}"#));
        assert_eq!(Asker::new(&fake).querying("x").ask().await, Ok(expected));
    }
    let mut asker = Asker::new(&fake)
        .querying(r#"a{s="{{canary.service}}",t="{{stable.service}}"}[{{window}}] @ {{step.start}}"#);
    asker.ask().await.unwrap();
    let sent: Vec<_> = fake.seen().into_iter().map(|seen| seen.query().to_owned()).collect();
    // 30 seconds: the step is no older than that, whatever the window.
    let expected = r#"a{s="iris-v2",t="iris-v1"}[30s] @ 1699999970"#;
    assert!(sent.iter().any(|query| query == expected), "{sent:?}");
}

#[tokio::test]
async fn every_bad_answer_is_told_apart() {
    use TroubleKind::{BadQuery, NoData, Unavailable};
    let vector = |series: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    };
    let error =
        |kind: &str, words: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"{words}"}}"#);
    let one = |value: &str| vector(&format!(r#"{{"metric":{{}},"value":[1,"{value}"]}}"#));
    let two =
        r#"{"metric":{"__name__":"a","pod":"x"},"value":[1,"1"]},{"metric":{"pod":"y"},"value":[1,"2"]}"#;
    for (status, body, kind, expected) in [
        (200, VECTOR.to_owned(), NoData, "an empty vector"),
        (200, one("NaN"), NoData, "NaN"),
        (200, one("+Inf"), NoData, "+inf"),
        (200, one("-Inf"), NoData, "-inf"),
        (200, vector(two), BadQuery, r#"a{pod="x"} and {pod="y"}"#),
        (200, vector(r#"{"metric":{},"histogram":[1,{}]}"#), BadQuery, "native histogram"),
        (200, matrix(&[]), BadQuery, "a range of samples"),
        (
            200,
            r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#.to_owned(),
            BadQuery,
            "a text",
        ),
        (
            200,
            VECTOR.replace("\"data\"", "\"warnings\":[\"store-3 timed out\"],\"data\""),
            Unavailable,
            "store-3 timed out",
        ),
        (400, error("bad_data", "parse error: unexpected )"), BadQuery, "parse error: unexpected )"),
        (422, error("execution", "many-to-many matching"), BadQuery, "many-to-many matching"),
        (503, error("timeout", "query timed out"), Unavailable, "query timed out"),
        (500, error("internal", "oops"), Unavailable, "oops"),
        (502, "<html><h1>Bad Gateway</h1></html>".to_owned(), Unavailable, "502"),
        (200, "<html>Please log in</html>".to_owned(), Unavailable, "not the Prometheus API"),
        (401, "no".to_owned(), Unavailable, "refused the credentials"),
        (302, String::new(), Unavailable, "redirect"),
        (200, one("ten"), Unavailable, "no result of a query"),
        (200, r#"{"status":"success"}"#.to_owned(), Unavailable, "no result of a query"),
        (500, VECTOR.to_owned(), Unavailable, "500"),
        (200, "x".repeat((16 << 20) + 1), Unavailable, "more than 16 MiB"),
    ] {
        let fake = Fake::start().await;
        fake.says(status, "text/html", &body);
        let trouble = Asker::new(&fake).querying("x").ask().await.unwrap_err();
        let short: String = body.chars().take(80).collect();
        assert_eq!(trouble.kind, kind, "{short}: {trouble}");
        assert!(trouble.message.contains(expected), "{short}: {trouble}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_named_without_its_password() {
    let mut asker = Asker::with(Config::prometheus("http://bob:s3cr3t@127.0.0.1:1/prom").unwrap());
    let trouble = asker.look(0).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Unavailable);
    assert!(trouble.message.starts_with("metrics source default cannot be asked"), "{trouble}");
    assert!(!trouble.message.contains("s3cr3t") && !trouble.message.contains("127.0.0.1"), "{trouble}");
}

#[tokio::test]
async fn a_question_that_is_not_answered_in_time_is_unavailable() {
    let fake = Fake::start().await;
    let gate = fake.gate.clone().lock_owned().await;
    let asker = Asker::new(&fake);
    let server = asker.metrics.server(&asker.plan).unwrap();
    let trouble = server.query("x", at(0), Instant::now() + Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Unavailable);
    assert!(trouble.message.contains("no answer within"), "{trouble}");
    drop(gate);
}

#[tokio::test]
async fn the_same_question_at_the_same_time_is_asked_once() {
    let fake = Fake::start().await;
    let gate = fake.gate.clone().lock_owned().await;
    let asker = Asker::new(&fake);
    let server = asker.metrics.server(&asker.plan).unwrap();
    let far = Instant::now() + Duration::from_secs(30);
    let questions = [("x", 0), ("x", 0), ("x", 1), ("y", 0)].map(|(promql, second)| {
        let server = server.clone();
        tokio::spawn(async move { server.query(promql, at(second), far).await })
    });
    while fake.seen().len() < 3 {
        tokio::task::yield_now().await;
    }
    drop(gate);
    for question in questions {
        assert!(question.await.unwrap().is_ok());
    }
    assert_eq!(fake.seen().len(), 3);
    server.query("x", at(0), far).await.unwrap();
    assert_eq!(fake.seen().len(), 4, "an answer is not kept");
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_configured() {
    let fake = Fake::start().await;
    let gate = fake.gate.clone().lock_owned().await;
    let asker = Asker::with(config(&format!("url: {}\nmaxConcurrentQueries: 2", fake.url)));
    let server = asker.metrics.server(&asker.plan).unwrap();
    let far = Instant::now() + Duration::from_secs(30);
    let questions: Vec<_> = (0..6)
        .map(|second| {
            let server = server.clone();
            tokio::spawn(async move { server.query("x", at(second), far).await })
        })
        .collect();
    while fake.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    // Those that wait have had every chance to go out as well.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.seen().len(), 2);
    drop(gate);
    for question in questions {
        assert!(question.await.unwrap().is_ok());
    }
    assert_eq!(fake.seen().len(), 6);
}

#[tokio::test]
async fn where_a_post_is_not_allowed_a_get_is_sent() {
    let fake = Fake::start().await;
    fake.answers(|seen| match seen.method {
        Method::GET => {
            json(StatusCode::OK, r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#)
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new()),
    });
    let asker = Asker::new(&fake);
    let server = asker.metrics.server(&asker.plan).unwrap();
    let far = Instant::now() + Duration::from_secs(30);
    for second in [0, 1] {
        let answer = server.query("a + b", at(second), far).await.unwrap();
        assert_eq!(answer::one_number(&answer), Ok(7.0));
    }
    let methods: Vec<_> = fake.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, [Method::POST, Method::GET, Method::GET]);
    assert_eq!(fake.seen()[1].query(), "a + b");
}

// === credentials ===

fn config(source: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let indented = source.replace('\n', "\n    ");
    fs::write(&path, format!("sources:\n  default:\n    {indented}\n")).unwrap();
    Config::load(&path).unwrap()
}

fn write(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn credentials_come_from_files_and_are_read_again_when_they_change() {
    let fake = Fake::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "token", "first\n");
    let tenant = write(directory.path(), "tenant", "team-a\n");
    let source = format!(
        "url: {}/prom/\nbearerTokenFile: {token}\nheaders:\n  X-Scope-OrgID: {{file: {tenant}}}\n  X-Plain: yes-it-is",
        fake.url
    );
    let asker = Asker::with(config(&source));
    let server = asker.metrics.server(&asker.plan).unwrap();
    let far = Instant::now() + Duration::from_secs(30);
    server.query("x", at(0), far).await.unwrap();
    write(directory.path(), "token", "the second\n");
    server.query("x", at(1), far).await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen[0].path, "/prom/api/v1/query");
    assert_eq!(seen[0].header("authorization"), Some("Bearer first"));
    assert_eq!(seen[0].header("x-scope-orgid"), Some("team-a"));
    assert_eq!(seen[0].header("x-plain"), Some("yes-it-is"));
    assert_eq!(seen[1].header("authorization"), Some("Bearer the second"));
    fs::remove_file(directory.path().join("token")).unwrap();
    let trouble = server.query("x", at(2), far).await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Unavailable);
    assert!(trouble.message.contains("token cannot be read"), "{trouble}");
}

#[tokio::test]
async fn no_credential_is_in_a_message_even_if_the_server_repeats_it() {
    let fake = Fake::start().await;
    fake.answers(|seen| {
        (
            StatusCode::FORBIDDEN,
            "text/html",
            format!("you sent {}", seen.header("x-key").unwrap_or("nothing")),
        )
    });
    let mut asker = Asker::with(config(&format!("url: {}\nheaders: {{X-Key: s3cr3t}}", fake.url)));
    let trouble = asker.look(0).await.counts.unwrap_err();
    assert!(trouble.message.contains("you sent <redacted>"), "{trouble}");
}

#[tokio::test]
async fn a_user_in_the_url_is_sent_as_basic_and_never_shown() {
    let fake = Fake::start().await;
    let config = Config::prometheus(&fake.url.replace("http://", "http://bob:p%40ss@")).unwrap();
    assert!(!format!("{config:?}").contains("p@ss") && !format!("{config:?}").contains("p%40ss"));
    let mut asker = Asker::with(config);
    asker.look(0).await;
    assert_eq!(fake.seen()[0].header("authorization"), Some("Basic Ym9iOnBAc3M="));
}

// === admission ===

#[tokio::test]
async fn a_query_is_validated_in_the_servers_own_words() {
    let fake = Fake::start().await;
    let asker = Asker::new(&fake);
    let validate = |promql: &'static str| {
        let (metrics, plan) = (asker.metrics.clone(), asker.plan.clone());
        async move { metrics.validate(&plan, promql, Duration::from_secs(30)).await }
    };
    assert_eq!(validate(r#"avg(a{s="{{canary.service}}"})"#).await, Ok(()));
    assert_eq!(fake.seen()[0].query(), r#"avg(a{s="canary"})"#);
    fake.says(
        400,
        "application/json",
        r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: x"}"#,
    );
    let trouble = validate("avg(").await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::BadQuery);
    assert!(trouble.message.contains("1:5: parse error: x"), "{trouble}");
    fake.says(200, "application/json", &matrix(&[]));
    let trouble = validate("a[5m]").await.unwrap_err();
    assert!(trouble.kind == TroubleKind::BadQuery && trouble.message.contains("range"), "{trouble}");
    fake.says(503, "text/html", "<html>");
    assert_eq!(validate("up").await.unwrap_err().kind, TroubleKind::Unavailable);
    assert_eq!(validate("{{nope}}").await.unwrap_err().kind, TroubleKind::BadQuery);
}

#[tokio::test]
async fn a_query_that_names_no_source_or_no_variable_is_misconfigured() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake).querying("{{nope}}");
    assert_eq!(asker.ask().await.unwrap_err().kind, TroubleKind::Misconfigured);
    asker.plan =
        MetricsPlan::Source { name: "other".into(), profile: api::Profile::Istio, labels: BTreeMap::new() };
    let look = asker.look(0).await;
    assert_eq!(look.queries["accuracy"].clone().unwrap_err().kind, TroubleKind::Misconfigured);
    assert_eq!(look.counts.unwrap_err().kind, TroubleKind::Misconfigured);
}
