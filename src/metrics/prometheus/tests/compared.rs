//! Queries that are asked about both arms.

use sluice_core::judge::{Both, Counts, Measurement};

use super::*;
use crate::metrics::Compared;

const GAUGE: &str = r#"avg(accuracy{service="{{canary.service}}"})"#;
const WRONG: &str = r#"wrong_total{service="{{canary.service}}"}"#;
const ALL: &str = r#"answers_total{service="{{canary.service}}"}"#;

fn comparing(fake: &Fake, promql: &str, compared: Compared) -> Asker {
    let mut asker = Asker::new(fake).querying(promql);
    asker.queries[0].compared = Some(compared);
    asker
}

async fn look(asker: &mut Asker, second: i64) -> Result<Both, Trouble> {
    asker.look(second).await.compared.remove("accuracy").unwrap()
}

fn scalar(value: f64) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[0,"{value}"]}}}}"#)
}

/// A fake that answers each query about an arm with these numbers: stable's and the canary's.
fn numbers(fake: &Fake, stable: f64, canary: f64) {
    fake.answers(move |seen| match seen.query() {
        r#"avg(accuracy{service="iris-v1"})"# => json(StatusCode::OK, &scalar(stable)),
        r#"avg(accuracy{service="iris-v2"})"# => json(StatusCode::OK, &scalar(canary)),
        _ => json(StatusCode::OK, VECTOR),
    });
}

#[tokio::test]
async fn the_same_is_asked_about_both_with_their_names() {
    let fake = Fake::start().await;
    let mut asker = comparing(&fake, GAUGE, Compared::Scores);
    numbers(&fake, 0.9, 0.8);
    let look = asker.look(0).await;
    assert_eq!(look.compared["accuracy"], Ok(Both::Scored { canary: 0.8, stable: 0.9 }));
    assert_eq!(look.queries["accuracy"], Ok(0.8), "a limit may stand beside it");
    numbers(&fake, -0.9, 0.8);
    let trouble = self::look(&mut asker, 10).await.unwrap_err();
    assert!(trouble.message.contains("-0.9 about stable"), "{trouble}");
    numbers(&fake, f64::NAN, 0.8);
    let look = asker.look(20).await;
    assert_eq!(
        look.queries["accuracy"],
        Ok(0.8),
        "what stable lacks does not keep a limit from being judged"
    );
    let trouble = look.compared["accuracy"].clone().unwrap_err();
    assert!(
        trouble.kind == TroubleKind::NoData && trouble.message.starts_with("about stable: "),
        "{trouble}"
    );
}

/// A counter of a pod.
fn counter(name: &str, service: &str, pod: &str, points: &[(i64, f64)]) -> serde_json::Value {
    let values: Vec<_> = points.iter().map(|(s, v)| (at(*s).timestamp(), v.to_string())).collect();
    let metric = serde_json::json!({"__name__": name, "service": service, "job": "pods", "instance": pod});
    serde_json::json!({"metric": metric, "values": values})
}

fn counters(fake: &Fake, series: Vec<serde_json::Value>) {
    fake.answers(move |seen| {
        let query = seen.query();
        let asked = |one: &&serde_json::Value| {
            let text = |label: &str| one["metric"][label].as_str().unwrap();
            query.starts_with(&format!("{}{{service=\"{}\"}}[", text("__name__"), text("service")))
        };
        let found: Vec<_> = series.iter().filter(asked).cloned().collect();
        json(StatusCode::OK, &matrix(&found))
    });
}

fn counts(requests: u64, errors: u64) -> Counts {
    Counts { requests, errors, slower: BTreeMap::new() }
}

#[tokio::test]
async fn counters_are_differenced_per_series_over_restarts_and_births() {
    let fake = Fake::start().await;
    let mut asker = comparing(&fake, WRONG, Compared::Shares(ALL.into()));
    counters(
        &fake,
        vec![
            counter("wrong_total", "iris-v1", "a:1", &[(0, 10.0)]),
            counter("answers_total", "iris-v1", "a:1", &[(0, 1000.0)]),
            counter("answers_total", "iris-v2", "b:1", &[(0, 50.0)]),
        ],
    );
    assert_eq!(look(&mut asker, 0).await.unwrap_err().kind, TroubleKind::Baseline);
    counters(
        &fake,
        vec![
            // Stable's pod starts anew on the way, the canary's gives its first wrong answers.
            counter("wrong_total", "iris-v1", "a:1", &[(0, 10.0), (10, 12.0), (20, 1.0)]),
            counter("answers_total", "iris-v1", "a:1", &[(0, 1000.0), (10, 1100.0), (20, 40.0)]),
            counter("wrong_total", "iris-v2", "b:1", &[(10, 3.0), (20, 4.0)]),
            counter("answers_total", "iris-v2", "b:1", &[(0, 50.0), (10, 60.0), (20, 70.0)]),
        ],
    );
    let expected = Measurement { canary: counts(20, 4), stable: counts(140, 3), ..Measurement::default() };
    assert_eq!(look(&mut asker, 20).await, Ok(Both::Counted(expected)));
    // The same samples once more are no news, and after a while there is something wrong.
    for (second, kind) in [(30, TroubleKind::Baseline), (400, TroubleKind::NoData)] {
        let trouble = look(&mut asker, second).await.unwrap_err();
        assert!(trouble.kind == kind && trouble.message.contains("no new sample"), "{trouble}");
    }
}

#[tokio::test]
async fn a_part_that_is_ahead_of_its_total_waits_for_it() {
    let fake = Fake::start().await;
    let mut asker = comparing(&fake, WRONG, Compared::Shares(ALL.into()));
    let series = |points: &[(i64, f64)], total: &[(i64, f64)]| {
        vec![
            counter("wrong_total", "iris-v2", "b:1", points),
            counter("answers_total", "iris-v2", "b:1", total),
            counter("answers_total", "iris-v1", "a:1", total),
        ]
    };
    counters(&fake, series(&[(0, 0.0)], &[(0, 100.0)]));
    assert!(look(&mut asker, 0).await.is_err());
    counters(&fake, series(&[(0, 0.0), (10, 5.0)], &[(0, 100.0), (10, 102.0)]));
    let seen = |both: Both| match both {
        Both::Counted(counted) => (counted.canary.errors, counted.canary.requests),
        Both::Scored { .. } => panic!("{both:?}"),
    };
    assert_eq!(seen(look(&mut asker, 10).await.unwrap()), (2, 2));
    counters(&fake, series(&[(10, 5.0), (20, 5.0)], &[(10, 102.0), (20, 110.0)]));
    assert_eq!(seen(look(&mut asker, 20).await.unwrap()), (3, 8));
}

#[tokio::test]
async fn what_says_the_same_of_both_is_no_comparison() {
    let fake = Fake::start().await;
    numbers(&fake, 0.9, 0.8);
    for (promql, compared) in [(GAUGE, Compared::Scores), (WRONG, Compared::Shares(ALL.into()))] {
        let mut asker = comparing(&fake, promql, compared);
        // Two subsets of one Service have one name.
        asker.stable.predictor.subset = Some("v1".into());
        asker.canary.predictor = Predictor { subset: Some("v2".into()), ..asker.stable.predictor.clone() };
        let trouble = look(&mut asker, 0).await.unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::Misconfigured);
        assert!(trouble.message.contains("says the same of both predictors"), "{trouble}");
    }
}

#[tokio::test]
async fn another_canary_begins_anew() {
    let fake = Fake::start().await;
    let mut asker = comparing(&fake, WRONG, Compared::Shares(ALL.into()));
    let series = || vec![counter("answers_total", "iris-v1", "a:1", &[(0, 1.0), (10, 2.0)])];
    counters(&fake, series());
    assert_eq!(look(&mut asker, 10).await.unwrap_err().kind, TroubleKind::Baseline);
    asker.canary = arm("iris-v3");
    counters(&fake, vec![counter("answers_total", "iris-v1", "a:1", &[(10, 2.0), (20, 9.0)])]);
    assert_eq!(look(&mut asker, 20).await.unwrap_err().kind, TroubleKind::Baseline);
}

#[tokio::test]
async fn a_selector_is_validated_as_a_range_of_samples() {
    let fake = Fake::start().await;
    let asker = Asker::new(&fake);
    let validate = |promql: &'static str| {
        let (metrics, plan) = (asker.metrics.clone(), asker.plan.clone());
        async move { metrics.validate(&plan, For::Samples, promql, Duration::from_secs(30)).await }
    };
    fake.says(200, "application/json", &matrix(&[]));
    assert_eq!(validate(WRONG).await, Ok(()));
    assert_eq!(fake.seen()[0].query(), r#"wrong_total{service="canary"}[1m]"#);
    fake.says(
        400,
        "application/json",
        r#"{"status":"error","errorType":"bad_data","error":"1:8: parse error: ranges only allowed for vector selectors"}"#,
    );
    let trouble = validate("sum(wrong_total)").await.unwrap_err();
    assert!(
        trouble.kind == TroubleKind::BadQuery && trouble.message.contains("vector selectors"),
        "{trouble}"
    );
}
