//! What a real Prometheus has recorded is looked at again, and every look is the one that was made at the time.

use std::process::Command;

use chrono::SubsecRound;
use serde_json::Value;
use sluice::metrics::{Compared, Past};

use super::*;

/// So long ago a look is: what is scraped by then is there, on a busy machine as well.
const AGO: TimeDelta = TimeDelta::seconds(3);
const EVERY: TimeDelta = TimeDelta::milliseconds(500);

fn queries() -> Vec<Query> {
    let query = |check: &str, promql: &str, compared| Query {
        check: check.to_owned(),
        promql: promql.to_owned(),
        window: Duration::from_secs(2),
        compared,
    };
    vec![
        query("accuracy", r#"avg(model_accuracy{service="{{canary.service}}"})"#, None),
        query("window", r"count_over_time(vector({{step.start}})[{{window}}:1s])", None),
        query("scores", r#"max(model_accuracy{service="{{canary.service}}"})"#, Some(Compared::Scores)),
        query(
            "shares",
            r#"istio_requests_total{destination_service_name="{{canary.service}}",response_code="503"}"#,
            Some(Compared::Shares(
                r#"istio_requests_total{destination_service_name="{{canary.service}}"}"#.to_owned(),
            )),
        ),
    ]
}

/// The same question at any time.
fn question<'a>(looker: &'a Looker, queries: &'a [Query], now: DateTime<Utc>) -> Question<'a> {
    Question {
        now,
        rollout: "iris",
        namespace: "models",
        metrics: &looker.plan,
        stable: &looker.stable,
        canary: Some(&looker.canary),
        retiring: &[],
        limits: &[QUARTER],
        shadow: false,
        queries,
        step_start: looker.began,
        timeout: LIMIT,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_looked_at_as_it_was() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    let says = |stable: u32, failed: u32| {
        let accuracy =
            |service: &str, value: f64| format!("model_accuracy{{service=\"{service}\"}} {value}\n");
        let canary = istio("iris-v2", &[(200, stable / 2), (503, failed)], stable / 2);
        let arms = istio("iris-v1", &[(200, stable)], stable - 10) + &canary;
        gateway.says(arms + &accuracy("iris-v1", 0.9) + &accuracy("iris-v2", 0.95));
    };
    says(1000, 0);
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    let queries = queries();
    looker.began = Utc::now().trunc_subsecs(0);
    let (mut now, mut count, mut failed) = (looker.began, 1000, 0);
    let (mut made, mut seen) = (Vec::new(), 0);
    let end = tokio::time::Instant::now() + LIMIT;
    // Until fifty failed requests of the canary were seen, which are sent from the second second on.
    while seen < 50 {
        assert!(tokio::time::Instant::now() < end, "only {seen} were seen");
        count += 20;
        failed += if made.len() > 8 { 10 } else { 0 };
        says(count, failed);
        let due = now + EVERY + AGO;
        tokio::time::sleep((due - Utc::now()).to_std().unwrap_or_default()).await;
        now += EVERY;
        let mut memory = std::mem::take(&mut looker.memory);
        let look = looker.metrics.look(&question(&looker, &queries, now), &mut memory).await;
        looker.memory = memory;
        seen += look.counts.as_ref().map_or(0, |seen| seen.canary.errors);
        made.push(look);
    }
    let past = Past { until: now, every: EVERY.to_std().unwrap() };
    let mut history = looker.metrics.history(&looker.plan, past).unwrap();
    for look in &made {
        let again = history.look(&question(&looker, &queries, look.at)).await.unwrap();
        assert_eq!(&again, look, "{:?} after the start", look.at - looker.began);
    }
    let last = made.last().unwrap();
    assert_eq!(
        (last.queries["accuracy"].clone(), last.compared["shares"].is_ok()),
        (Ok(0.95), true),
        "{last:?}"
    );
    replayed_by_the_program(&prometheus, looker.began, now).await;
}

/// The program finds the breach, and the query that held all the time.
async fn replayed_by_the_program(prometheus: &Prometheus, from: DateTime<Utc>, to: DateTime<Utc>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollout.yaml");
    let rollout = "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: iris, namespace: models}, spec: {\
        target: {service: {name: iris-v2, port: 8000}}, routes: [{virtualService: iris}], interval: 1s, checks: [\
        {name: errors, errors: {max: 1%, minRequests: 20}}, \
        {name: accuracy, query: {promql: 'avg(model_accuracy{service=\"{{canary.service}}\"})', min: 0.9}}]}}";
    std::fs::write(&file, rollout).unwrap();
    let (from, to) = (from.to_rfc3339(), to.to_rfc3339());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["replay", "--prometheus", prometheus.url(), "--stable", "iris-v1", "-o", "json", "-f"]);
    command.arg(&file).args(["--from", &from, "--to", &to]).env_clear();
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(8), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [errors, accuracy] = [&told["checks"][0], &told["checks"][1]];
    assert!(errors["fail"].as_u64().unwrap() > 0 && errors["pass"].as_u64().unwrap() > 0, "{errors}");
    assert_eq!((&accuracy["fail"], accuracy["pass"].as_u64().unwrap() > 3), (&0.into(), true), "{accuracy}");
}
