//! What judgement costs: a look of a thousand Rollouts, a thousand rehearsals, ten megabytes of exposition text, and the
//! memory of evidence. It prints the figures as JSON, as `cargo lab bench` does; `docs/benchmarks.md` has them.
//!
//! ```console
//! $ cargo bench --bench judge
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark, which ends when something is wrong; its counts are small"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    hint::black_box,
    process::Command,
    time::{Duration, Instant},
};

use chrono::DateTime;
use serde_json::json;
use sluice::metrics::exposition::{self, Dialect};
use sluice_core::{
    api::CheckRecord,
    judge::{Counts, Evidence, Look, Measurement, Moment, judge},
    plan::Plan,
};
use sluice_lab::bench::{Figure, Latencies, Machine};

const ROLLOUTS: usize = 1000;

fn main() {
    let machine = Machine::here();
    let figures: Vec<Figure> = [look(), evidence(), rehearsals(), reading()].into_iter().flatten().collect();
    for figure in &figures {
        eprintln!(
            "{}: {} {}, limit {:?}, holds {:?}",
            figure.name, figure.value, figure.unit, figure.limit, figure.holds
        );
    }
    let report = json!({"machine": machine.ended(), "figures": figures});
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}

/// A Rollout with the checks that most have: a limit and a comparison of errors, and a limit on latencies.
fn usual() -> Plan {
    plan(&json!({"quantile": 0.99, "max": "250ms"}))
}

/// The same with a comparison of latencies, which is one of each bound.
fn comparing() -> Plan {
    plan(&json!({"quantile": 0.99, "max": "250ms", "versusStable": {}}))
}

fn plan(latency: &serde_json::Value) -> Plan {
    of_checks(&json!([
        {"name": "errors", "errors": {"max": "1%", "versusStable": {}}, "consecutiveFailures": 2},
        {"name": "latency", "latency": latency},
    ]))
}

fn of_checks(checks: &serde_json::Value) -> Plan {
    let spec = json!({
        "target": {"service": {"name": "canary"}}, "routes": [{"virtualService": "iris"}],
        "steps": [{"weight": 10, "for": "1h"}], "interval": "10s", "checks": checks,
    });
    Plan::new(&serde_json::from_value(spec).unwrap(), "bench").unwrap()
}

/// What a look saw, in units of 1,000 requests; which one does not matter, but no two are the same.
fn seen(plan: &Plan, number: u64, busy: u64) -> Measurement {
    let counts = |requests: u64| {
        let bounds = plan.latency_bounds();
        let slower =
            bounds.iter().enumerate().map(|(index, bound)| (*bound, (requests + number % 5) >> (index + 1)));
        Counts { requests, errors: number % 3, slower: slower.collect() }
    };
    Measurement {
        stable: counts(busy * (900 + number % 50)),
        canary: counts(busy * (100 + number % 7)),
        retiring: BTreeMap::new(),
    }
}

/// The evidence of an hour.
fn an_hour(plan: &Plan, offset: u64, busy: u64) -> Evidence {
    let mut evidence = Evidence::default();
    for look in 1..=360 {
        let seen = seen(plan, offset + look, busy);
        evidence.add(Duration::from_secs(look * 10), &seen, &plan.needs());
        evidence.compare(plan.checks.iter(), &Look::new(DateTime::UNIX_EPOCH, Ok(seen)));
    }
    evidence
}

/// One look of a thousand Rollouts, judged by one core.
fn look() -> Vec<Figure> {
    let how = "evidence, comparisons and verdicts of 1,000 Rollouts after an hour each, on one core, 500 times; two checks each";
    let [p50, p99, max] =
        judged(&usual()).figures("judge.look", &format!("{how}: errors with limit and comparison, latency"));
    let [compared, ..] = judged(&comparing())
        .figures("judge.look_comparing_latency", &format!("{how}: both with limit and comparison"));
    vec![p50.at_most(5.0), p99, max, compared]
}

fn judged(plan: &Plan) -> Latencies {
    let mut rollouts: Vec<(Evidence, Vec<CheckRecord>)> =
        (0..ROLLOUTS as u64).map(|number| (an_hour(plan, number, 1), Vec::new())).collect();
    let measured = (0..500).map(|round| {
        let age = Duration::from_secs(3610 + round * 10);
        let moment = Moment { age, settled_since: Duration::ZERO };
        let looks: Vec<Look> = (0..ROLLOUTS as u64)
            .map(|number| Look::new(DateTime::UNIX_EPOCH + age, Ok(seen(plan, number + round, 1))))
            .collect();
        let began = Instant::now();
        for ((evidence, records), look) in rollouts.iter_mut().zip(&looks) {
            let seen = look.counts.as_ref().unwrap();
            evidence.add(age, seen, &plan.needs());
            evidence.compare(plan.checks.iter(), look);
            *records = judge(plan.checks.iter(), evidence, moment, look, records);
        }
        black_box(&rollouts);
        began.elapsed()
    });
    measured.collect()
}

/// What is kept of an hour: of the window, which all checks share, and of the comparison that needs most; as text in the
/// status, and in memory.
fn evidence() -> Vec<Figure> {
    let latency = json!([{"name": "latency", "latency": {"quantile": 0.99, "max": "250ms"}}]);
    let window = kept(&of_checks(&latency));
    let latency =
        json!([{"name": "latency", "latency": {"quantile": 0.99, "max": "250ms", "versusStable": {}}}]);
    let all = kept(&of_checks(&latency));
    let figures = |name: &str, (text, memory): (f64, f64), how: &str| {
        let memory_of = format!("{how}: what 20,000 copies added to VmRSS");
        let text =
            Figure::new(format!("{name}.status"), text, "KiB", format!("{how}, as JSON, after 360 looks"));
        [text.at_most(4.0), Figure::new(format!("{name}.memory"), memory, "KiB", memory_of).at_most(4.0)]
    };
    let comparison = (all.0 - window.0, all.1 - window.1);
    let window = figures("judge.window", window, "the window of a Rollout, which all its checks share");
    let comparison = figures(
        "judge.comparison",
        comparison,
        "a comparison of latencies at eight bounds, the largest there is",
    );
    window.into_iter().chain(comparison).collect()
}

fn kept(plan: &Plan) -> (f64, f64) {
    // So many that all bounds tell something.
    let one = an_hour(plan, 0, 100);
    let text = serde_json::to_string(&one).unwrap().len() as f64 / 1024.0;
    let copies = 20_000;
    let before = resident();
    let all: Vec<Evidence> = (0..copies).map(|_| one.clone()).collect();
    let memory = (resident() - before) / f64::from(copies);
    black_box(&all);
    (text, memory)
}

/// KiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// The release program rehearses a rollout of an hour a thousand times.
fn rehearsals() -> Vec<Figure> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let rollout = file(
        "rollout.yaml",
        "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: iris}, spec: {target: {service: {name: v2}}, \
         routes: [{virtualService: iris}], steps: [{weight: 10, for: 20m}, {weight: 30, for: 20m}, {weight: 60, for: 20m}], \
         interval: 10s, checks: [{name: errors, errors: {max: 2%, versusStable: {}}, consecutiveFailures: 3}]}}",
    );
    let scenario = file("scenario.yaml", "{requests: 100, stable: {errors: 0.5%}, canary: {errors: 0.5%}}");
    let measured = (0..5).map(|_| {
        let began = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["simulate", "--runs", "1000", "-o", "json", "-f"])
            .arg(&rollout)
            .arg("--scenario")
            .arg(&scenario)
            .output()
            .unwrap();
        let took = began.elapsed();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(told["promoted"].as_u64().unwrap() > 900, "most go all the way: {told}");
        took
    });
    let latencies: Latencies = measured.collect();
    let how = "sluice simulate --runs 1000 of a rollout of an hour with a look every 10 s, on all cores, start and end of the \
               program included; the median of five";
    let seconds = latencies.quantile(0.5).as_secs_f64();
    vec![Figure::new("judge.simulate", seconds, "s", how).of(latencies.len()).at_most(2.0)]
}

/// Ten megabytes of what an Istio gateway exposes.
fn reading() -> Vec<Figure> {
    let mut text = String::new();
    let mut number = 0_u32;
    while text.len() < 10_000_000 {
        number += 1;
        writeln!(
            text,
            r#"istio_request_duration_milliseconds_bucket{{reporter="source",source_workload="gateway",destination_service="iris-{number}.models.svc.cluster.local",destination_service_name="iris-{number}",destination_service_namespace="models",response_code="200",le="250"}} {number}"#
        )
        .unwrap();
    }
    let megabytes = text.len() as f64 / 1e6;
    let measured = (0..10).map(|_| {
        let began = Instant::now();
        let samples = exposition::read(&text, Dialect::Text).flatten().count();
        let took = began.elapsed();
        assert_eq!(u32::try_from(samples), Ok(number));
        took
    });
    let latencies: Latencies = measured.collect();
    let took = latencies.quantile(0.5);
    let how = "of 10 MB in lines of 250 bytes with 7 labels, by Sluice's own reader (src/metrics/exposition.rs), one core; the \
               median of ten";
    let milliseconds = took.as_secs_f64() * 1e3;
    vec![
        Figure::new("judge.exposition", milliseconds, "ms", how).of(10).at_most(megabytes * 10.0),
        Figure::new("judge.exposition.rate", megabytes / took.as_secs_f64(), "MB/s", how).of(10),
        Figure::new(
            "judge.exposition.samples",
            took.as_secs_f64() * 1e9 / f64::from(number),
            "ns",
            "for each sample",
        ),
    ]
}
