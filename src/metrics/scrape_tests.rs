use std::sync::Mutex;

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use sluice_core::{Predictor, judge::TroubleKind, plan::MetricsPlan};
use tokio::net::TcpListener;

use crate::metrics::{Config, Memory, Metrics, Question};

use super::*;

/// A pod on an address of its own that answers what it is told to.
#[derive(Clone)]
struct FakePod {
    pod: Pod,
    answer: Arc<Mutex<(StatusCode, String)>>,
}

impl FakePod {
    fn says(&self, ok: u32, failed: u32) {
        self.says_text(&exposition(ok, failed));
    }

    fn says_text(&self, text: &str) {
        *self.answer.lock().unwrap() = (StatusCode::OK, text.to_owned());
    }

    fn fails(&self) {
        *self.answer.lock().unwrap() = (StatusCode::SERVICE_UNAVAILABLE, "loading".to_owned());
    }
}

fn exposition(ok: u32, failed: u32) -> String {
    let path = "/v2/models/{model_name}/infer";
    let all = ok + failed;
    format!(
        "# HELP rest_server_requests_total Total HTTP requests\n\
         # TYPE rest_server_requests_total counter\n\
         rest_server_requests_total{{app_name=\"mlserver\",method=\"POST\",path=\"{path}\",status_code=\"200\"}} {ok}.0\n\
         rest_server_requests_total{{app_name=\"mlserver\",method=\"POST\",path=\"{path}\",status_code=\"500\"}} {failed}.0\n\
         rest_server_requests_total{{app_name=\"mlserver\",method=\"GET\",path=\"/v2/models/iris/ready\",status_code=\"500\"}} 99.0\n\
         rest_server_request_duration_seconds_bucket{{le=\"0.25\",path=\"{path}\",status_code=\"200\"}} {ok}.0\n\
         rest_server_request_duration_seconds_bucket{{le=\"+Inf\",path=\"{path}\",status_code=\"200\"}} {all}.0\n\
         rest_server_request_duration_seconds_count{{path=\"{path}\",status_code=\"200\"}} {all}.0\n\
         rest_server_request_duration_seconds_sum{{path=\"{path}\",status_code=\"200\"}} 1.5\n"
    )
}

/// Pods at 127.0.0.1, 127.0.0.2, ..., all on one port.
async fn pods(count: u8) -> (u16, Vec<FakePod>) {
    let mut port = 0;
    let mut pods = Vec::new();
    for number in 1..=count {
        let address = IpAddr::from([127, 0, 0, number]);
        let listener = TcpListener::bind((address, port)).await.unwrap();
        port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new((StatusCode::OK, String::new())));
        let told = answer.clone();
        let handler = move || async move { told.lock().unwrap().clone().into_response() };
        let router = Router::new().route("/metrics", get(handler));
        tokio::spawn(async move { axum::serve(listener, router).await });
        pods.push(FakePod { pod: Pod { name: format!("pod-{number}"), address, started: None }, answer });
    }
    (port, pods)
}

fn arm(service: &str, pods: &[&FakePod]) -> Arm {
    let pods = pods.iter().map(|fake| fake.pod.clone()).collect();
    Arm { pods, ..Arm::of(Predictor::new("models", service, 8000)) }
}

fn plan(port: u16) -> MetricsPlan {
    MetricsPlan::Scrape {
        port,
        path: "/metrics".to_owned(),
        profile: sluice_core::api::Profile::Mlserver,
        labels: BTreeMap::new(),
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn question<'a>(
    plan: &'a MetricsPlan,
    second: i64,
    stable: &'a Arm,
    canary: Option<&'a Arm>,
) -> Question<'a> {
    Question {
        now: at(second),
        rollout: "iris",
        namespace: "models",
        metrics: plan,
        stable,
        canary,
        retiring: &[],
        limits: &[],
        shadow: false,
        queries: &[],
        step_start: at(0),
        timeout: Duration::from_secs(30),
    }
}

fn metrics() -> Metrics {
    Metrics::new(Config::default()).unwrap()
}

#[tokio::test]
async fn both_arms_are_counted_since_the_look_before() {
    let (port, pods) = pods(3).await;
    let [a, b, c] = &pods[..] else { panic!() };
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let (stable, canary) = (arm("iris-v1", &[a, b]), arm("iris-v2", &[c]));
    let limits = [sluice_core::judge::Bound(250_000)];
    a.says(1000, 10);
    b.says(500, 0);
    c.says(0, 0);
    let ask = |second| Question { limits: &limits, ..question(&plan, second, &stable, Some(&canary)) };
    let look = metrics.look(&ask(0), &mut memory).await;
    assert_eq!(look.counts.unwrap_err().kind, TroubleKind::Baseline);

    a.says(1080, 11);
    b.says(520, 0);
    c.says(3, 2);
    let look = metrics.look(&ask(10), &mut memory).await;
    assert_eq!(look.at, at(10));
    let counts = look.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.stable.errors), (101, 1));
    assert_eq!((counts.canary.requests, counts.canary.errors), (5, 2));
    assert_eq!(counts.stable.slower[&limits[0]], 1);
    assert_eq!(counts.canary.slower[&limits[0]], 2);
}

#[tokio::test]
async fn a_ready_pod_that_does_not_answer_is_trouble_and_nothing_is_lost_by_it() {
    let (port, pods) = pods(2).await;
    let [a, b] = &pods[..] else { panic!() };
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let (stable, canary) = (arm("iris-v1", &[a]), arm("iris-v2", &[b]));
    a.says(100, 0);
    b.says(100, 0);
    metrics.look(&question(&plan, 0, &stable, Some(&canary)), &mut memory).await;
    a.says(200, 0);
    b.fails();
    let look = metrics.look(&question(&plan, 10, &stable, Some(&canary)), &mut memory).await;
    let trouble = look.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Unavailable);
    assert!(trouble.message.contains("pod-2") && trouble.message.contains("503"), "{trouble}");
    a.says(300, 0);
    b.says(150, 7);
    let look = metrics.look(&question(&plan, 20, &stable, Some(&canary)), &mut memory).await;
    let counts = look.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.canary.requests, counts.canary.errors), (200, 57, 7));
}

#[tokio::test]
async fn a_pod_that_comes_back_counts_only_what_came_on_top() {
    let (port, pods) = pods(2).await;
    let [a, b] = &pods[..] else { panic!() };
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let (both, one) = (arm("iris-v1", &[a, b]), arm("iris-v1", &[a]));
    a.says(100, 0);
    b.says(100, 0);
    metrics.look(&question(&plan, 0, &both, None), &mut memory).await;
    let look = metrics.look(&question(&plan, 10, &one, None), &mut memory).await;
    assert_eq!(look.counts.unwrap().stable.requests, 0);
    b.says(104, 0);
    let look = metrics.look(&question(&plan, 20, &both, None), &mut memory).await;
    assert_eq!(look.counts.unwrap().stable.requests, 4);
}

#[tokio::test]
async fn a_restart_counts_from_zero_and_so_does_a_new_series_of_an_old_pod() {
    let (port, pods) = pods(1).await;
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let stable = arm("iris-v1", &[&pods[0]]);
    // No 500 was ever answered, so there is no series for it.
    let only = |ok: u32| {
        exposition(ok, 0)
            .lines()
            .filter(|line| !line.contains("status_code=\"500\"") || line.contains("ready"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    pods[0].says_text(&only(100));
    metrics.look(&question(&plan, 0, &stable, None), &mut memory).await;
    pods[0].says(110, 30);
    let counts = metrics.look(&question(&plan, 10, &stable, None), &mut memory).await.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.stable.errors), (40, 30));
    pods[0].says(7, 2);
    let counts = metrics.look(&question(&plan, 20, &stable, None), &mut memory).await.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.stable.errors), (9, 2), "it began anew");
}

#[tokio::test]
async fn the_first_burst_of_a_pod_that_is_young_counts() {
    let (port, pods) = pods(3).await;
    let [a, b, c] = &pods[..] else { panic!() };
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    a.says(100, 0);
    metrics.look(&question(&plan, 0, &arm("iris-v1", &[a]), None), &mut memory).await;
    b.says(2, 40);
    c.says(7, 7);
    let mut arm = arm("iris-v1", &[a, b, c]);
    arm.pods[1].started = Some(at(5));
    let look = metrics.look(&question(&plan, 10, &arm, None), &mut memory).await;
    let counts = look.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.stable.errors), (42, 40), "nobody knows how old pod-3 is");
}

#[tokio::test]
async fn other_arms_or_other_limits_begin_anew() {
    let (port, pods) = pods(2).await;
    let [a, b] = &pods[..] else { panic!() };
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let (stable, canary) = (arm("iris-v1", &[a]), arm("iris-v2", &[b]));
    let limits = [sluice_core::judge::Bound(250_000)];
    let base = |second| question(&plan, second, &stable, None);
    let with_canary = |second| question(&plan, second, &stable, Some(&canary));
    for (question, baseline) in [
        (base(0), true),
        (base(10), false),
        (with_canary(20), true),
        (with_canary(30), false),
        (Question { limits: &limits, ..with_canary(40) }, true),
        (Question { limits: &limits, ..with_canary(50) }, false),
        // The clock went back.
        (Question { limits: &limits, ..with_canary(45) }, true),
        (base(60), true),
    ] {
        let look = metrics.look(&question, &mut memory).await;
        let is_baseline = look.counts.is_err_and(|trouble| trouble.kind == TroubleKind::Baseline);
        assert_eq!(is_baseline, baseline, "{}", question.now);
    }
}

#[tokio::test]
async fn requests_to_a_retiring_predictor_are_told_only_where_its_pods_answer() {
    let (port, pods) = pods(2).await;
    let [a, b] = &pods[..] else { panic!() };
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let (stable, old) = (arm("iris-v2", &[a]), [arm("iris-v1", &[b])]);
    let revision = old[0].predictor.revision();
    let ask = |second| Question { retiring: &old, ..question(&plan, second, &stable, None) };
    b.says(10, 0);
    metrics.look(&ask(0), &mut memory).await;
    b.says(13, 0);
    let counts = metrics.look(&ask(10), &mut memory).await.counts.unwrap();
    assert_eq!(counts.retiring, BTreeMap::from([(revision.clone(), 3)]));
    b.fails();
    let counts = metrics.look(&ask(20), &mut memory).await.counts.unwrap();
    assert_eq!(counts.retiring, BTreeMap::new());
    b.says(13, 0);
    let counts = metrics.look(&ask(30), &mut memory).await.counts.unwrap();
    assert_eq!(counts.retiring, BTreeMap::from([(revision, 0)]));
}

#[tokio::test]
async fn stable_may_be_asked_about_as_retiring_too() {
    let (port, pods) = pods(2).await;
    let [a, b] = &pods[..] else { panic!() };
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let (stable, canary) = ([arm("iris-v1", &[a])], arm("iris-v2", &[b]));
    let revision = stable[0].predictor.revision();
    let ask = |second| Question { retiring: &stable, ..question(&plan, second, &stable[0], Some(&canary)) };
    a.says(10, 0);
    metrics.look(&ask(0), &mut memory).await;
    a.says(12, 0);
    let counts = metrics.look(&ask(10), &mut memory).await.counts.unwrap();
    assert_eq!((counts.stable.requests, counts.retiring), (2, BTreeMap::from([(revision, 2)])));
}

#[tokio::test]
async fn a_zero_is_said_only_of_a_time_that_is_of_the_step() {
    let (port, pods) = pods(1).await;
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let stable = arm("iris-v1", &[&pods[0]]);
    pods[0].says(10, 0);
    let ask = |second| Question { step_start: at(15), ..question(&plan, second, &stable, None) };
    metrics.look(&ask(10), &mut memory).await;
    pods[0].says(12, 0);
    let straddles = metrics.look(&ask(20), &mut memory).await.counts;
    assert_eq!(straddles.unwrap_err().kind, TroubleKind::Baseline);
    assert_eq!(metrics.look(&ask(30), &mut memory).await.counts.unwrap().stable.requests, 0);
}

/// An exposition that says when it was made.
fn made_at(second: i64, ok: u32) -> String {
    let text = exposition(ok, 0);
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.map(|line| format!("{line} {}\n", at(second).timestamp_millis())).collect()
}

#[tokio::test]
async fn what_a_pod_made_before_the_step_is_none_of_it_and_one_text_is_no_two_looks() {
    let (port, pods) = pods(1).await;
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let stable = arm("iris-v1", &[&pods[0]]);
    let ask = |second| Question { step_start: at(15), ..question(&plan, second, &stable, None) };
    for (second, made, ok, expected) in [
        (10, 8, 100, Err(TroubleKind::Baseline)),
        // Read in the step, made before it.
        (20, 14, 170, Err(TroubleKind::Baseline)),
        (30, 28, 180, Err(TroubleKind::Baseline)),
        (40, 38, 185, Ok(5)),
        // The same once more, as from a cache: nobody knows whether there were requests since.
        (50, 38, 185, Err(TroubleKind::NoData)),
        (60, 58, 190, Ok(5)),
    ] {
        pods[0].says_text(&made_at(made, ok));
        let counts = metrics.look(&ask(second), &mut memory).await.counts;
        let requests = counts.map(|counts| counts.stable.requests).map_err(|trouble| trouble.kind);
        assert_eq!(requests, expected, "at {second}");
    }
}

#[tokio::test]
async fn a_pod_whose_clock_is_ahead_counts_by_ours() {
    let (port, pods) = pods(1).await;
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let stable = arm("iris-v1", &[&pods[0]]);
    let ask = |second| Question { step_start: at(15), ..question(&plan, second, &stable, None) };
    for (second, ok, expected) in [
        (10, 100, Err(TroubleKind::Baseline)),
        // An hour ahead it would all be of the step.
        (20, 170, Err(TroubleKind::Baseline)),
        (30, 180, Ok(10)),
    ] {
        pods[0].says_text(&made_at(second + 3600, ok));
        let counts = metrics.look(&ask(second), &mut memory).await.counts;
        let requests = counts.map(|counts| counts.stable.requests).map_err(|trouble| trouble.kind);
        assert_eq!(requests, expected, "at {second}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_exposition_is_trouble() {
    let (port, pods) = pods(1).await;
    let (plan, metrics) = (plan(port), metrics());
    let stable = arm("iris-v1", &[&pods[0]]);
    let twice = exposition(1, 1).repeat(2);
    for (text, expected) in [
        ("<html>proxy</html>", "no line of a metrics exposition"),
        (twice.as_str(), "is there twice"),
        ("rest_server_requests_total{path=\"/v2/models/a/infer\",status_code=\"200\"} NaN", "NaN"),
    ] {
        pods[0].says_text(text);
        let look = metrics.look(&question(&plan, 0, &stable, None), &mut Memory::default()).await;
        let message = look.counts.unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("pod-1"), "{message}");
    }
}

#[tokio::test]
async fn whose_fault_it_is_is_told_apart() {
    let (port, pods) = pods(1).await;
    let (plan, metrics) = (plan(port), metrics());
    let stable = arm("iris-v1", &[&pods[0]]);
    for (status, text, kind) in [
        (500, "oops", TroubleKind::Unavailable),
        (503, "loading", TroubleKind::Unavailable),
        (404, "Not Found", TroubleKind::BadAnswer),
        (302, "", TroubleKind::BadAnswer),
        (204, "", TroubleKind::BadAnswer),
        (401, "who are you?", TroubleKind::Refused),
        (403, "RBAC: access denied", TroubleKind::Refused),
        (200, "<html>proxy</html>", TroubleKind::BadAnswer),
        (200, "\u{0}\u{1f}\u{fffd}", TroubleKind::BadAnswer),
    ] {
        *pods[0].answer.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), text.to_owned());
        let look = metrics.look(&question(&plan, 0, &stable, None), &mut Memory::default()).await;
        let trouble = look.counts.unwrap_err();
        assert_eq!(trouble.kind, kind, "{status} {text}: {trouble}");
        assert!(trouble.message.starts_with("pod pod-1 (port"), "{trouble}");
        assert!(trouble.message.contains("expected") || status == 200, "{trouble}");
    }
}

#[tokio::test]
async fn of_what_a_pod_exposes_no_more_is_kept_than_a_predictor_needs() {
    let (port, pods) = pods(1).await;
    let (plan, metrics, mut memory) = (plan(port), metrics(), Memory::default());
    let stable = arm("iris-v1", &[&pods[0]]);
    let lines = |name: &str, count: usize| {
        (0..count).map(|n| format!("{name}{{path=\"/v2/models/m/infer\",n=\"{n}\"}} 1\n")).collect::<String>()
    };
    // Much that is not asked for is passed over.
    pods[0].says_text(&(exposition(5, 0) + &lines("process_things", 30_000)));
    metrics.look(&question(&plan, 0, &stable, None), &mut memory).await;
    pods[0].says_text(&(exposition(12, 0) + &lines("process_things", 30_000)));
    let look = metrics.look(&question(&plan, 10, &stable, None), &mut memory).await;
    assert_eq!(look.counts.unwrap().stable.requests, 7);
    pods[0].says_text(&lines("rest_server_requests_total", 20_001));
    let look = metrics.look(&question(&plan, 20, &stable, None), &mut memory).await;
    let trouble = look.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::BadAnswer);
    assert!(trouble.message.contains("more than 20000 series of mlserver"), "{trouble}");
}

#[tokio::test]
async fn nobody_to_ask_is_no_data() {
    let (plan, metrics, mut memory) = (plan(1), metrics(), Memory::default());
    let stable = arm("iris-v1", &[]);
    metrics.look(&question(&plan, 0, &stable, None), &mut memory).await;
    let look = metrics.look(&question(&plan, 10, &stable, None), &mut memory).await;
    let trouble = look.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::NoData);
    assert!(trouble.message.contains("no ready pod behind models/iris-v1:8000"), "{trouble}");
}

#[tokio::test]
async fn a_look_takes_no_longer_than_it_may() {
    // A listener that never accepts: the connection stands, the answer does not come.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pod = Pod { name: "silent".into(), address: address.ip(), started: None };
    let stable = Arm { pods: vec![pod], ..Arm::of(Predictor::new("models", "iris-v1", 8000)) };
    let plan = plan(address.port());
    let asked = Question { timeout: Duration::from_millis(50), ..question(&plan, 0, &stable, None) };
    let trouble = metrics().look(&asked, &mut Memory::default()).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Unavailable);
    assert!(trouble.message.starts_with("pod silent (port"), "{trouble}");
}

#[test]
fn a_path_never_leads_to_another_host() {
    for (path, expected) in [
        ("/metrics", "http://10.0.0.1:8082/metrics"),
        ("//evil.example/x", "http://10.0.0.1:8082//evil.example/x"),
        ("/a?b=c", "http://10.0.0.1:8082/a?b=c"),
        ("/../x@evil", "http://10.0.0.1:8082/x@evil"),
    ] {
        let url = url("http", IpAddr::from([10, 0, 0, 1]), 8082, path).unwrap();
        assert_eq!((url.as_str(), url.host_str()), (expected, Some("10.0.0.1")));
    }
    let v6 = url("http", "fd00::1".parse().unwrap(), 80, "/metrics").unwrap();
    assert_eq!(v6.as_str(), "http://[fd00::1]/metrics");
}

#[path = "scrape_settings_tests.rs"]
mod settings;
