use super::*;

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
    use TroubleKind::{BadAnswer, BadQuery, NoData, Partial, Refused, Unavailable};
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
            Partial,
            "store-3 timed out",
        ),
        (
            200,
            VECTOR.replace("\"data\"", "\"warnings\":[\"PromQL warning: a mix of histograms\"],\"data\""),
            BadQuery,
            "a mix of histograms",
        ),
        (
            200,
            VECTOR.replace("\"data\"", "\"infos\":[\"PromQL info: x\"],\"data\""),
            NoData,
            "an empty vector",
        ),
        (400, error("bad_data", "parse error: unexpected )"), BadQuery, "parse error: unexpected )"),
        (422, error("execution", "many-to-many matching"), BadQuery, "many-to-many matching"),
        (503, error("timeout", "query timed out"), Unavailable, "query timed out"),
        (500, error("internal", "oops"), Unavailable, "oops"),
        (502, "<html><h1>Bad Gateway</h1></html>".to_owned(), Unavailable, "502"),
        (504, "<html>".to_owned(), Unavailable, "504"),
        (429, "slow down".to_owned(), Unavailable, "429"),
        (200, "<html>Please log in</html>".to_owned(), BadAnswer, "not the Prometheus API"),
        (404, "404 page not found".to_owned(), BadAnswer, "404 page not found"),
        (401, "no".to_owned(), Refused, "refused the credentials"),
        (403, error("unauthorized", "no such tenant"), Refused, "no such tenant"),
        (422, error("422", "too many series"), BadQuery, "too many series"),
        (302, String::new(), BadAnswer, "redirect"),
        (200, one("ten"), BadAnswer, "no result of a query"),
        (200, r#"{"status":"success"}"#.to_owned(), BadAnswer, "no result of a query"),
        (500, VECTOR.to_owned(), Unavailable, "500"),
        (200, "x".repeat((16 << 20) + 1), BadAnswer, "more than 16 MiB"),
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
    assert_eq!(fake.seen().len(), 3, "nor by one who comes later");
    server.query("x", at(20), far).await.unwrap();
    server.query("x", at(0), far).await.unwrap();
    assert_eq!(fake.seen().len(), 5, "an old answer is not kept");
}

#[tokio::test]
async fn counters_are_kept_for_one_time_only() {
    let fake = Fake::start().await;
    fake.says(200, "application/json", &matrix(&[]));
    let asker = Asker::new(&fake);
    let server = asker.metrics.server(&asker.plan).unwrap();
    let far = Instant::now() + Duration::from_secs(30);
    for (promql, second, asked) in [("x", 0, 1), ("x", 0, 1), ("y", 0, 2), ("x", 1, 3), ("y", 0, 4)] {
        server.query(promql, at(second), far).await.unwrap();
        assert_eq!(fake.seen().len(), asked, "{promql} at {second}");
    }
}

#[test]
fn a_look_is_evaluated_when_it_is_made_and_neighbours_share_a_time() {
    let millis = |millis| at(0) + TimeDelta::milliseconds(millis);
    for (now, evaluated) in [(0, 0), (19, 0), (20, 20), (999, 980), (-1, -20)] {
        assert_eq!(super::server::evaluated_at(millis(now)), millis(evaluated));
    }
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

#[tokio::test]
async fn a_query_is_validated_in_the_servers_own_words() {
    let fake = Fake::start().await;
    let asker = Asker::new(&fake);
    let validate = |promql: &'static str| {
        let (metrics, plan) = (asker.metrics.clone(), asker.plan.clone());
        async move { metrics.validate(&plan, For::Number, promql, Duration::from_secs(30)).await }
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
