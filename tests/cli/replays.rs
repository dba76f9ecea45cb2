//! `sluice replay` against a Prometheus whose history was made here: what it finds, and that its looks are those that a
//! controller made at the time.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sluice::metrics::{Arm, Config, Memory, Metrics, Past, Query, Question};
use sluice_core::{Predictor, api, judge::Bound, plan::MetricsPlan};
use sluice_lab::prometheus::Prometheus;

/// What the gateway has counted of one predictor.
#[derive(Clone, Copy, Default)]
struct Counted {
    good: u64,
    failed: u64,
    slow: u64,
}

/// A Prometheus with a gateway whose counters the test sets, and a clock that the test moves.
struct Recorder {
    prometheus: Prometheus,
    clock: Arc<Mutex<DateTime<Utc>>>,
    arms: Arc<Mutex<[Counted; 2]>>,
}

const NAMES: [&str; 2] = ["iris-v1", "iris-v2"];
const BEGIN: &str = "2024-03-14T15:00:00Z";

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl Recorder {
    fn start() -> Self {
        let clock = Arc::new(Mutex::new(time(BEGIN)));
        let arms = Arc::new(Mutex::new([Counted::default(); 2]));
        let shown = clock.clone();
        let prometheus = Prometheus::start(Duration::from_hours(24), move || *shown.lock().unwrap()).unwrap();
        let counted = arms.clone();
        prometheus.scrapes(&[], move || exposition(*counted.lock().unwrap()));
        Self { prometheus, clock, arms }
    }

    /// Time passes, users ask, and the gateway is scraped.
    fn pass(&self, seconds: i64, more: [Counted; 2]) {
        *self.clock.lock().unwrap() += TimeDelta::seconds(seconds);
        for (arm, more) in self.arms.lock().unwrap().iter_mut().zip(more) {
            arm.good += more.good;
            arm.failed += more.failed;
            arm.slow += more.slow;
        }
        self.prometheus.scrape();
    }

    fn now(&self) -> DateTime<Utc> {
        *self.clock.lock().unwrap()
    }

    /// So many minutes, a scrape every 15 s, with so many failed requests of the canary's 150 in each.
    fn minutes(&self, minutes: i64, failed: u64) {
        for _ in 0..minutes * 4 {
            let stable = Counted { good: 1350, failed: 1, slow: 20 };
            self.pass(15, [stable, Counted { good: 150 - failed, failed, slow: 2 }]);
        }
    }

    /// Runs the command beside the server.
    async fn replay(&self, file: &PathBuf, args: &[&str]) -> Output {
        let mut all = vec!["--prometheus".to_owned(), self.prometheus.url()];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        replay(file, all).await
    }
}

async fn replay(file: &PathBuf, args: Vec<String>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("replay").arg("-f").arg(file).args(args).env_clear().env("HOME", "/nowhere");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Series are there from the first request on, as with Istio.
fn exposition(arms: [Counted; 2]) -> String {
    let mut text = String::new();
    for (name, Counted { good, failed, slow }) in NAMES.iter().zip(arms) {
        let to = format!(
            r#"reporter="source",destination_service_name="{name}",destination_service_namespace="models""#
        );
        for (code, count) in [(200, good), (503, failed)] {
            if count > 0 {
                writeln!(text, r#"istio_requests_total{{{to},response_code="{code}"}} {count}"#).unwrap();
            }
        }
        let all = good + failed;
        if all > 0 {
            for (le, count) in [("100", all - slow), ("250", all - slow), ("500", all), ("+Inf", all)] {
                writeln!(text, r#"istio_request_duration_milliseconds_bucket{{{to},le="{le}"}} {count}"#)
                    .unwrap();
            }
            writeln!(text, "istio_request_duration_milliseconds_count{{{to}}} {all}").unwrap();
        }
    }
    text
}

/// A file with a Rollout with these checks, and the VirtualService that says who is stable.
fn file(folder: &tempfile::TempDir, checks: &str) -> PathBuf {
    let path = folder.path().join("rollout.yaml");
    let text = format!(
        "{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: iris, namespace: models}}, spec: {{\
           target: {{service: {{name: iris-v2, port: 8000}}}}, routes: [{{virtualService: iris}}],\
           steps: [{{weight: 10, for: 10m}}], interval: 10s, checks: [{checks}]}}}}\n---\n\
         {{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: iris, namespace: models}}, spec: {{\
           hosts: [iris], http: [{{route: [{{destination: {{host: iris-v1, port: {{number: 8000}}}}}}]}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: iris-v1, namespace: models}}, spec: {{ports: [{{port: 8000}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: iris-v2, namespace: models}}, spec: {{ports: [{{port: 8000}}]}}}}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const ERRORS: &str = "{name: errors, errors: {max: 1%}, consecutiveFailures: 2}";

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_breach_is_found_when_it_happened() {
    let recorder = Recorder::start();
    recorder.minutes(75, 0);
    let breach = recorder.now();
    recorder.minutes(5, 15);
    recorder.minutes(40, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = file(&folder, &format!("{ERRORS}, {{name: compared, errors: {{versusStable: {{}}}}}}"));
    let asked = recorder.prometheus.asked();
    let span = ["--from", "2024-03-14T15:10:00Z", "--to", "2024-03-14T17:00:00Z"];
    let output = recorder.replay(&file, &[&span[..], &["-o", "json"]].concat()).await;
    assert_eq!(output.status.code(), Some(8), "{}{}", out(&output), err(&output));
    // Every look by itself would have been 661 questions.
    assert!(recorder.prometheus.asked() - asked < 10, "{} questions", recorder.prometheus.asked() - asked);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["stable"], &told["canary"]),
        (&"models/iris-v1:8000".into(), &"models/iris-v2:8000".into())
    );
    assert_eq!((&told["outcome"], &told["looks"]), (&"RolledBack".into(), &661.into()));
    for (index, within) in [(0, 60), (1, 90)] {
        let check = &told["checks"][index];
        let at = time(check["firstFail"]["at"].as_str().unwrap());
        assert!(at > breach && at <= breach + TimeDelta::seconds(within), "{check}");
        let said = ["pass", "inconclusive", "fail"].map(|word| check[word].as_u64().unwrap());
        assert_eq!(said.iter().sum::<u64>(), 661, "{check}");
    }
    let first = &told["checks"][0]["firstFail"]["check"];
    assert!(first["canary"]["bad"].as_u64().unwrap() >= 15, "{first}");
    assert_eq!(told["rolledBack"]["at"], told["checks"][0]["firstFail"]["at"]);

    let output = recorder.replay(&file, &span).await;
    let text = out(&output);
    for expected in [
        "iris, replayed from 2024-03-14T15:10:00Z to 2024-03-14T17:00:00Z, a look every 10s",
        "stable models/iris-v1:8000, canary models/iris-v2:8000, metrics of profile istio",
        "✗ errors",
        "CHECKS  661 looks",
        "A rollout would have been rolled back at 2024-03-14T16:1",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(err(&output), "error: a rollout over this time would have been rolled back\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_time_passes_and_one_that_nobody_recorded_does_not() {
    let recorder = Recorder::start();
    recorder.minutes(30, 0);
    let folder = tempfile::tempdir().unwrap();
    let checks = format!(
        "{ERRORS}, {{name: p99, latency: {{quantile: 0.9, max: 250ms}}}}, {{name: accuracy, query: {{promql: \
         'avg(model_accuracy{{s=\"{{{{canary.service}}}}\"}}[{{{{window}}}}])', min: 0.9}}}}"
    );
    let file = file(&folder, &checks);
    recorder.prometheus.answers("model_accuracy", 0.95);
    let span = |from, to| ["--from", from, "--to", to];
    let good = span("2024-03-14T15:05:00Z", "2024-03-14T15:30:00Z");
    let output = recorder.replay(&file, &good).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    recorder.prometheus.answers("model_accuracy", 0.5);
    let output = recorder.replay(&file, &good).await;
    assert_eq!(output.status.code(), Some(8), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("✗ accuracy"), "{}", out(&output));
    recorder.prometheus.answers("model_accuracy", 0.95);

    // It ends before the time does.
    let output = recorder.replay(&file, &span("2024-03-14T14:30:00Z", "2024-03-14T16:00:00Z")).await;
    assert_eq!(output.status.code(), Some(9), "{}{}", out(&output), err(&output));
    for expected in [
        "The history begins at 2024-03-14T15:00:",
        "The history ends at 2024-03-14T15:30:00Z",
        "some lacked evidence",
    ] {
        assert!(out(&output).contains(expected), "{expected:?} is not in\n{}", out(&output));
    }
    // Nothing at all is a mistake of whoever asks.
    let output = recorder.replay(&file, &span("2024-03-13T14:30:00Z", "2024-03-13T16:00:00Z")).await;
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    assert!(
        said.contains("nothing is recorded about models/iris-v1:8000 and models/iris-v2:8000 from"),
        "{said}"
    );
    let others = [&good[..], &["--canary", "iris-v3"]].concat();
    let output = recorder.replay(&file, &others).await;
    assert_eq!(output.status.code(), Some(9), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("No request of models/iris-v3:8000 is recorded"), "{}", out(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_said_clearly() {
    let recorder = Recorder::start();
    recorder.minutes(1, 0);
    let folder = tempfile::tempdir().unwrap();
    let manifest = file(&folder, ERRORS);
    let source = ["--prometheus".to_owned(), recorder.prometheus.url()];
    let config = folder.path().join("sources.yaml");
    fs::write(&config, format!("sources: {{other: {{url: '{}'}}}}", recorder.prometheus.url())).unwrap();
    let with =
        |args: &[&str]| [&source[..], &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()].concat();
    let past = ["--from", "2024-03-14T15:00:00Z", "--to", "2024-03-14T15:01:00Z"];
    let nowhere =
        ["--prometheus", "http://127.0.0.1:1"].iter().chain(&past).map(|arg| (*arg).to_owned()).collect();
    let configured = vec!["--config".to_owned(), config.display().to_string()];
    let configured = [configured, past.iter().map(|arg| (*arg).to_owned()).collect()].concat();
    for (args, code, expected) in [
        (nowhere, 1, "--prometheus: metrics source default cannot be asked"),
        (configured, 1, "no metrics source \"default\" is configured on the controller: it knows other"),
        (with(&["--from", "now", "--to", "-1h"]), 1, "is not before --to"),
        (with(&["--from", "-1h", "--to", "2999-01-01T00:00:00Z"]), 1, "is still to come"),
        (with(&["--from", "-1h", "--step", "2h"]), 1, "less than the 2h between two looks"),
        (with(&["--from", "-9000h", "--step", "1ms"]), 1, "looks are too many"),
        (with(&["--from", "yesterday"]), 2, "expected a time like 2026-03-14T15:00:00Z"),
        (vec!["--from".into(), "-1h".into()], 2, "--prometheus <URL>"),
        (with(&[&past[..], &["--stable", "iris-v2"]].concat()), 1, "is stable and the canary"),
    ] {
        let output = replay(&manifest, args.clone()).await;
        assert!(err(&output).contains(expected), "{args:?}: {}", err(&output));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", err(&output));
    }
    let alone = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, alone.split("---").next().unwrap()).unwrap();
    let output = replay(&manifest, with(&past)).await;
    assert!(
        err(&output).contains("which predictor is stable? Its VirtualService is not in the file"),
        "{}",
        err(&output)
    );
    fs::write(&manifest, alone.replace("[{name: errors, errors: {max: 1%}, consecutiveFailures: 2}]", "[]"))
        .unwrap();
    let output = replay(&manifest, with(&past)).await;
    assert!(err(&output).contains("spec.checks: there are none"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_step_compares_no_nearer_numbers_and_says_what_it_changes() {
    let recorder = Recorder::start();
    recorder.minutes(45, 0);
    for (name, score) in NAMES.iter().zip([0.9, 0.8]) {
        recorder.prometheus.answers(&format!("accuracy{{s=\"{name}\"}}"), score);
    }
    let folder = tempfile::tempdir().unwrap();
    let query = "{promql: 'accuracy{s=\"{{canary.service}}\"}', direction: MoreIsBetter, versusStable: {}}";
    let file = file(&folder, &format!("{ERRORS}, {{name: accuracy, query: {query}}}"));
    let begin = time("2024-03-14T15:05:00Z");
    let mut found = Vec::new();
    for (step, remark) in
        [(None, None), (Some("1s"), Some("errors, 2 looks in a row, are 2s here and 20s there."))]
    {
        let mut args = vec!["--from", "2024-03-14T15:05:00Z", "--to", "2024-03-14T15:45:00Z", "-o", "json"];
        args.extend(step.iter().flat_map(|step| ["--step", step]));
        let output = recorder.replay(&file, &args).await;
        assert_eq!(output.status.code(), Some(8), "{}{}", out(&output), err(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let first = &told["checks"][1]["firstFail"];
        found.push(time(first["at"].as_str().unwrap_or_else(|| panic!("{told}"))) - begin);
        let remarks = told["remarks"].to_string();
        match remark {
            Some(remark) => assert!(
                remarks.contains("Looks are 1s apart here and 10s") && remarks.contains(remark),
                "{remarks}"
            ),
            None => assert!(!remarks.contains("apart"), "{remarks}"),
        }
    }
    // Some twenty numbers, a window of 50 s from one to the next.
    assert!(found[0] > TimeDelta::minutes(15), "{found:?}");
    assert!((found[0] - found[1]).abs() <= TimeDelta::seconds(50), "{found:?}");
}

/// Everything that happens to counters happens here, and afterwards the history shows each look as it was.
#[tokio::test(flavor = "multi_thread")]
async fn replayed_looks_are_those_that_were_made() {
    let recorder = Recorder::start();
    recorder.minutes(2, 1);
    recorder.prometheus.answers("accuracy", 0.9);
    let metrics = Metrics::new(Config::prometheus(&recorder.prometheus.url()).unwrap()).unwrap();
    let plan = MetricsPlan::Source {
        name: "default".to_owned(),
        profile: api::Profile::Istio,
        labels: std::collections::BTreeMap::new(),
    };
    let arm = |name: &str| Arm::of(Predictor::new("models", name, 8000));
    let (stable, canary) = (arm(NAMES[0]), arm(NAMES[1]));
    let began = recorder.now();
    let queries = [Query {
        check: "q".to_owned(),
        promql: "accuracy[{{window}}]".to_owned(),
        window: Duration::from_secs(50),
        compared: None,
    }];
    let question = |now| Question {
        now,
        rollout: "iris",
        namespace: "models",
        metrics: &plan,
        stable: &stable,
        canary: Some(&canary),
        retiring: &[],
        limits: &[Bound(250_000)],
        queries: &queries,
        shadow: false,
        step_start: began,
        timeout: Duration::from_secs(30),
    };
    let (mut memory, mut made) = (Memory::default(), Vec::new());
    for second in 0..1200_u64 {
        let failed = u64::from(second % 7 == 0);
        match second {
            // Nobody scrapes for four minutes.
            500..740 => *recorder.clock.lock().unwrap() += TimeDelta::seconds(1),
            300 => {
                recorder.prometheus.reset_counters();
                recorder.pass(1, [Counted::default(); 2]);
            }
            _ if second % 15 == 0 => {
                let more = Counted { good: second, failed, slow: second % 3 };
                recorder.pass(1, [Counted { good: 10 * second, failed, slow: 5 }, more]);
            }
            _ => *recorder.clock.lock().unwrap() += TimeDelta::seconds(1),
        }
        if second % 10 == 9 {
            made.push(metrics.look(&question(recorder.now()), &mut memory).await);
        }
    }
    let every = Duration::from_secs(10);
    let mut history = metrics.history(&plan, Past { until: made.last().unwrap().at, every }).unwrap();
    for look in &made {
        assert_eq!(&history.look(&question(look.at)).await.unwrap(), look, "at {}", look.at - began);
    }
    let counted = made.iter().filter(|look| look.counts.is_ok()).count();
    assert!(counted > 60 && counted < made.len() - 20, "{counted} of {}", made.len());
}
