//! The source of the metrics misbehaves, in the middle of a step, at its start and at the promotion: nothing is promoted
//! and nothing rolled back, one condition and one Event say what is wrong, and all goes on by itself when it is over.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::metrics::{Config, Metrics};
use sluice_lab::prometheus::{Misbehaviour, Prometheus};

use crate::{
    oracle,
    world::{CONTROLLER, NAMESPACE, Sluice, World, rollout, same},
};

/// How long everything goes wrong.
const OUTAGE: Duration = Duration::from_mins(5);
/// How often Prometheus scrapes and the controller looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// A world with a Prometheus that scrapes its gateway.
pub struct Observed {
    pub world: World,
    pub prometheus: Prometheus,
}

impl Observed {
    pub async fn new() -> Self {
        let world = World::without_routes().await.in_steps_of(Duration::from_millis(20));
        world.scene.virtual_service("iris", crate::world::HOST, &[("iris-v1", Some(100))]).await.unwrap();
        let world = world.with_users(6.0);
        let clock = world.clock;
        let prometheus = Prometheus::start(INTERVAL, move || clock.now()).unwrap();
        let gateway = world.gateway.clone();
        prometheus.scrapes(&[], move || gateway.metrics());
        prometheus.answers("model_accuracy", 0.95);
        Self { world, prometheus }
    }

    pub fn controller(&self) -> Sluice {
        let config = Config::prometheus(&self.prometheus.url()).unwrap();
        self.world.controller_asking(Metrics::new(config).unwrap())
    }

    /// A canary has half of the traffic, and its step is not half over.
    async fn in_the_middle_of_a_step(wanted: Value) -> (Self, Sluice) {
        let observed = Self::new().await;
        observed.world.create(wanted).await;
        let sluice = observed.controller();
        observed.world.weighs(50, 50).await;
        tokio::time::sleep(Duration::from_secs(45)).await;
        (observed, sluice)
    }

    /// The condition about the metrics; null where there is none.
    fn condition(&self) -> Value {
        condition(&self.world.status())
    }

    /// How often anything was written so far, and what was said about the metrics.
    fn written(&self) -> Written {
        let history = self.world.api.history();
        let mut written = Written::default();
        let mut before = Value::Null;
        for write in &history {
            let Some(after) = &write.after else { continue };
            if write.resource == "events" && write.user == CONTROLLER {
                let reason = after["reason"].as_str().unwrap();
                let note = after["note"].as_str().unwrap();
                if note.contains("requests of both arms: ") || note.contains("query of check ") {
                    let sort = after["type"].as_str().unwrap();
                    written.events.push(format!("{sort} {reason}"));
                }
            }
            if write.resource == "rollouts/status" && write.user == CONTROLLER {
                written.statuses += 1;
                let now = condition(&after["status"]);
                if now["status"] != before["status"] || now["message"] != before["message"] {
                    written.conditions.push(format!("{} {}", now["status"], now["reason"]).replace('"', ""));
                }
                before = now;
            }
        }
        written
    }

    fn delivered(&self) -> u64 {
        self.world.gateway.delivered_to(NAMESPACE, "iris-v2").total()
    }
}

#[derive(Clone, Debug, Default)]
struct Written {
    statuses: usize,
    /// What the condition said, where it was something else than before.
    conditions: Vec<String>,
    events: Vec<String>,
}

fn condition(status: &Value) -> Value {
    condition_of(status, "MetricsAvailable")
}

fn condition_of(status: &Value, kind: &str) -> Value {
    let all = status["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

/// A rollout that looks as often as Prometheus scrapes, and waits long for evidence.
pub fn wanted() -> Value {
    let mut wanted = rollout(&json!([{"weight": 50, "for": "90s"}]));
    wanted["spec"]["metrics"] = json!({"source": "default"});
    wanted["spec"]["interval"] = json!("5s");
    wanted["spec"]["inconclusive"] = json!({"limit": "1h"});
    wanted
}

fn querying() -> Value {
    let mut wanted = wanted();
    let query = json!({"name": "accuracy", "query": {"promql": "avg(model_accuracy)", "min": 0.9}});
    wanted["spec"]["checks"].as_array_mut().unwrap().push(query);
    wanted
}

/// Misbehaves for five minutes from now on, and checks all that must hold meanwhile.
async fn misbehaves(observed: &Observed, how: Misbehaviour, reason: &str, weights: (u64, u64)) {
    let (before, what) = (observed.written(), format!("{how:?}"));
    let decisions = oracle::decisions(&observed.world.api);
    observed.prometheus.misbehaves(how);
    tokio::time::sleep(OUTAGE).await;
    let (after, status) = (observed.written(), observed.world.status());
    same(&oracle::weights(&observed.world.virtual_service()), &weights, &format!("{what}: the traffic"));
    same(&oracle::decisions(&observed.world.api), &decisions, &format!("{what}: the decisions"));
    let said = condition(&status);
    same(&(&said["status"], &said["reason"]), &(&"False".into(), &reason.into()), &format!("{what}: {said}"));
    let message = said["message"].as_str().unwrap();
    let asked =
        message.starts_with("requests of both arms: ") || message.starts_with("query of check accuracy: ");
    assert!(asked && message.contains("metrics source default"), "{what}: {message}");
    assert!(!message.contains("127.0.0.1:") && !message.contains("http://"), "{what}: {message}");
    same(&condition_of(&status, "Stalled")["status"], &"False".into(), &format!("{what}: stalled"));
    // Of all that was said since the Rollout is there: that they can be had may have been said before.
    let missing: Vec<_> = after.conditions.iter().filter(|said| said.starts_with("False")).collect();
    same(&missing, &vec![&format!("False {reason}")], &format!("{what}: changes of the condition"));
    same(&after.events, &vec![format!("Warning {reason}")], &format!("{what}: Events"));
    // One a minute, one when the metrics were missed, one when the step came to wait for nothing else.
    let written = after.statuses - before.statuses;
    assert!(written <= 7, "{what}: {written} writes of the status in five minutes");
}

/// Behaves again, and all goes on to the promotion by itself.
async fn recovers(observed: &Observed, what: &str) {
    let before = observed.written();
    observed.prometheus.behaves().unwrap();
    observed.world.stands("Healthy", "Live").await;
    observed.world.weighs(0, 100).await;
    let after = observed.written();
    let events = after.events[before.events.len()..].to_vec();
    same(&events, &vec!["Normal MetricsRecovered".to_owned()], &format!("{what}: Events at the recovery"));
    same(&observed.condition(), &Value::Null, "what is said of metrics that nobody asks for");
}

/// How many requests the step was passed on.
fn passed_on(status: &Value) -> u64 {
    let decisions = status["decisions"].as_array().unwrap();
    let promoting = decisions.iter().find(|decision| decision["kind"] == "Promoting").unwrap();
    let message = promoting["message"].as_str().unwrap();
    let requests = message.split(", ").find_map(|part| part.split_once(" requests")).unwrap();
    requests.0.parse().unwrap_or_else(|_| panic!("{message}"))
}

async fn in_the_middle_of_a_step_no_traffic_changes(
    ways: impl IntoIterator<Item = (Misbehaviour, &'static str)>,
) {
    for (how, reason) in ways {
        let what = format!("{how:?}");
        let (observed, _sluice) = Observed::in_the_middle_of_a_step(querying()).await;
        let before = observed.delivered();
        misbehaves(&observed, how, reason, (50, 50)).await;
        let in_the_gap = observed.delivered() - before;
        recovers(&observed, &what).await;
        // What was answered in the meantime is counted, and nothing twice.
        let (counted, all) = (passed_on(&observed.world.status()), observed.delivered());
        assert!(in_the_gap > 600, "{what}: {in_the_gap} requests in the gap");
        assert!(in_the_gap <= counted && counted <= all, "{what}: {in_the_gap} <= {counted} <= {all}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_refuses_changes_no_traffic() {
    use Misbehaviour::{Page, Refuses};
    in_the_middle_of_a_step_no_traffic_changes([
        (Refuses(400, "bad_data"), "BadQuery"),
        (Refuses(422, "execution"), "BadQuery"),
        (Refuses(503, "timeout"), "SourceUnavailable"),
        (Refuses(500, "internal"), "SourceUnavailable"),
        (Page(401), "SourceRefused"),
        (Page(403), "SourceRefused"),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_gone_or_hangs_changes_no_traffic() {
    use Misbehaviour::{Gone, Hangs, Page};
    in_the_middle_of_a_step_no_traffic_changes([
        (Page(503), "SourceUnavailable"),
        (Hangs, "SourceUnavailable"),
        (Gone, "SourceUnavailable"),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_answers_nonsense_changes_no_traffic() {
    use Misbehaviour::{Floods, Page, Redirects, Twice, Warns};
    in_the_middle_of_a_step_no_traffic_changes([
        (Page(200), "BadAnswer"),
        (Redirects("http://127.0.0.1:9/login".into()), "BadAnswer"),
        (Floods(100), "BadAnswer"),
        (Twice, "BadQuery"),
        (Warns("store-3 timed out"), "PartialAnswer"),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_no_numbers_changes_no_traffic() {
    use Misbehaviour::{Empty, Values};
    in_the_middle_of_a_step_no_traffic_changes([
        (Values("NaN"), "NoData"),
        (Values("+Inf"), "NoData"),
        (Empty, "NoData"),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_misbehaves_from_the_start_lets_nothing_pass_the_first_step() {
    use Misbehaviour::{Empty, Gone, Hangs, Page, Values};
    for (how, reason) in [
        (Gone, "SourceUnavailable"),
        (Hangs, "SourceUnavailable"),
        (Page(200), "BadAnswer"),
        (Page(401), "SourceRefused"),
        (Empty, "NoData"),
        (Values("NaN"), "NoData"),
    ] {
        let what = format!("{how:?}");
        let observed = Observed::new().await;
        let sluice = observed.controller();
        observed.prometheus.misbehaves(how.clone());
        observed.world.create(wanted()).await;
        observed.world.weighs(50, 50).await;
        // It was seen before the first decision was made.
        misbehaves(&observed, how, reason, (50, 50)).await;
        recovers(&observed, &what).await;
        drop(sluice);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_at_the_promotion_keeps_the_old_stable_on_the_route() {
    let observed = Observed::new().await;
    observed.world.create(wanted()).await;
    let _sluice = observed.controller();
    observed.world.stands("Promoting", "Promoting").await;
    let decisions = oracle::decisions(&observed.world.api);
    observed.prometheus.misbehaves(Misbehaviour::Gone);
    tokio::time::sleep(Duration::from_mins(4)).await;
    same(&oracle::decisions(&observed.world.api), &decisions, "the decisions");
    let route = observed.world.virtual_service()["spec"]["http"][0]["route"].clone();
    same(&route.as_array().unwrap().len(), &2, "destinations on the route");
    same(&observed.condition()["reason"], &"SourceUnavailable".into(), "the condition");
    recovers(&observed, "at the promotion").await;
    let decisions = observed.world.status()["decisions"].clone();
    let promoted = decisions.as_array().unwrap().iter().find(|decision| decision["kind"] == "Promoted");
    let message = promoted.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(!message.contains("nobody could tell"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_went_bad_in_an_outage_is_rolled_back_after_it() {
    use Misbehaviour::{Empty, Gone, Page};
    for how in [Gone, Page(503), Empty] {
        let (observed, _sluice) = Observed::in_the_middle_of_a_step(wanted()).await;
        observed.prometheus.misbehaves(how);
        tokio::time::sleep(Duration::from_mins(1)).await;
        observed.world.v2.predictor.set_errors(0.5);
        tokio::time::sleep(Duration::from_mins(4)).await;
        same(&oracle::weights(&observed.world.virtual_service()), &(50, 50), "the traffic in the outage");
        observed.prometheus.behaves().unwrap();
        observed.world.weighs(100, 0).await;
        observed.world.stands("RolledBack", "CheckFailed").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_breach_that_was_seen_before_an_outage_is_not_forgotten_in_it() {
    let mut twice = wanted();
    twice["spec"]["checks"][0]["consecutiveFailures"] = json!(2);
    let (observed, sluice) = Observed::in_the_middle_of_a_step(twice).await;
    observed.world.v2.predictor.set_errors(0.5);
    let failed_once = |status: &Value| status["checks"][0]["failures"] == 1;
    observed.world.sees("a look that failed", failed_once).await;
    observed.prometheus.misbehaves(Misbehaviour::Gone);
    tokio::time::sleep(OUTAGE / 2).await;
    // Another controller knows it too.
    drop(sluice);
    let _sluice = observed.controller();
    tokio::time::sleep(OUTAGE / 2).await;
    same(&oracle::weights(&observed.world.virtual_service()), &(50, 50), "the traffic in the outage");
    assert!(failed_once(&observed.world.status()), "{:#}", observed.world.status()["checks"]);
    observed.prometheus.behaves().unwrap();
    observed.world.weighs(100, 0).await;
    let status = observed.world.status();
    same(
        &status["decisions"].as_array().unwrap().last().unwrap()["checks"][0]["failures"],
        &json!(2),
        "looks",
    );
}

#[tokio::test(start_paused = true)]
async fn counters_that_begin_anew_are_no_trouble_and_no_negative_numbers() {
    let (observed, _sluice) = Observed::in_the_middle_of_a_step(wanted()).await;
    for in_the_gap in [false, true] {
        if in_the_gap {
            observed.prometheus.misbehaves(Misbehaviour::Gone);
        }
        observed.prometheus.reset_counters();
        tokio::time::sleep(Duration::from_secs(15)).await;
        observed.prometheus.behaves().unwrap();
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    observed.world.stands("Healthy", "Live").await;
    let (counted, all) = (passed_on(&observed.world.status()), observed.delivered());
    assert!(100 < counted && counted <= all, "{counted} of {all}");
}

/// What becomes of a rollout whose evidence never comes.
async fn after_the_limit(then: &str) -> (Observed, Sluice) {
    let mut wanted = wanted();
    wanted["spec"]["inconclusive"] = json!({"limit": "2m", "then": then});
    let (observed, sluice) = Observed::in_the_middle_of_a_step(wanted).await;
    observed.prometheus.misbehaves(Misbehaviour::Page(503));
    // The rest of the step, and the time after it in which evidence alone is missing.
    tokio::time::sleep(Duration::from_secs(45 + 110)).await;
    same(&oracle::weights(&observed.world.virtual_service()), &(50, 50), "the traffic before the limit");
    same(&observed.world.status()["reason"], &"NoEvidence".into(), "the reason before the limit");
    same(&condition_of(&observed.world.status(), "Stalled")["status"], &"False".into(), "stalled");
    (observed, sluice)
}

#[tokio::test(start_paused = true)]
async fn after_the_limit_it_pauses_and_a_person_lets_it_go_on() {
    let (observed, _sluice) = after_the_limit("Pause").await;
    observed.world.stands("Waiting", "Paused").await;
    same(&oracle::weights(&observed.world.virtual_service()), &(50, 50), "the traffic");
    same(&condition_of(&observed.world.status(), "Stalled")["status"], &"True".into(), "stalled");
    observed.prometheus.behaves().unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    observed.world.stands("Waiting", "Paused").await;
    same(&observed.condition()["status"], &"True".into(), "whether the metrics can be had");
    observed.world.ask("Resume", "go-on").await;
    observed.world.stands("Healthy", "Live").await;
}

#[tokio::test(start_paused = true)]
async fn after_the_limit_it_rolls_back_where_the_spec_says_so() {
    let (observed, _sluice) = after_the_limit("Rollback").await;
    observed.world.stands("RolledBack", "Inconclusive").await;
    observed.world.weighs(100, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_in_an_outage_says_nothing_anew() {
    let (observed, sluice) = Observed::in_the_middle_of_a_step(wanted()).await;
    observed.prometheus.misbehaves(Misbehaviour::Page(503));
    tokio::time::sleep(Duration::from_mins(2)).await;
    let before = observed.written();
    same(&before.events, &vec!["Warning SourceUnavailable".to_owned()], "Events");
    drop(sluice);
    let _sluice = observed.controller();
    tokio::time::sleep(Duration::from_mins(2)).await;
    let after = observed.written();
    same(&(after.events, after.conditions), &(before.events, before.conditions), "what is said");
    recovers(&observed, "another controller").await;
}

/// What is said in five minutes at a gate, which nobody opens, while the source does these things in turn.
async fn at_a_gate(turns: Vec<Option<Misbehaviour>>) -> Written {
    let mut gated = wanted();
    gated["spec"]["steps"][0]["approve"] = json!(true);
    gated["spec"]["steps"][0]["for"] = json!("10s");
    let (observed, _sluice) = Observed::in_the_middle_of_a_step(gated).await;
    observed.world.stands("Waiting", "WaitingForApproval").await;
    let before = observed.written();
    observed.prometheus.misbehaves(Misbehaviour::InTurn(turns));
    tokio::time::sleep(OUTAGE).await;
    same(&oracle::weights(&observed.world.virtual_service()), &(50, 50), "the traffic at the gate");
    let after = observed.written();
    Written {
        statuses: after.statuses - before.statuses,
        conditions: after.conditions[before.conditions.len()..].to_vec(),
        events: after.events[before.events.len()..].to_vec(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_every_other_look_makes_no_noise() {
    let written = at_a_gate(vec![None, Some(Misbehaviour::Page(503))]).await;
    same(&written.events, &vec![], "Events");
    assert!(written.statuses <= 5, "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_with_ever_another_trouble_is_said_to_be_missing_once() {
    let troubles = [Misbehaviour::Page(503), Misbehaviour::Page(200), Misbehaviour::Redirects("/x".into())];
    let written = at_a_gate(troubles.map(Some).to_vec()).await;
    same(&written.events.len(), &1, &format!("Events of {written:?}"));
    same(&written.conditions.len(), &1, &format!("changes of {written:?}"));
    assert!(written.statuses <= 7, "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_refuses_every_other_look_is_said_to_at_most_every_two_minutes() {
    let written = at_a_gate(vec![None, Some(Misbehaviour::Page(401))]).await;
    let warnings = written.events.iter().filter(|event| *event == "Warning SourceRefused").count();
    assert!((1..=3).contains(&warnings) && written.events.len() <= 2 * warnings, "{written:?}");
    assert!(written.statuses <= 5 + 4 * warnings, "{written:?}");
}

/// A rollout that reads the pods themselves, two behind the canary's Service, one of which misbehaves for five minutes in
/// the middle of a step.
async fn a_pod_misbehaves(how: Misbehaviour, reason: &str) {
    let observed = Observed::new().await;
    let pod = observed.world.scene.replica("iris-v2", "1", "iris", "v2").await.unwrap();
    let mut scraping = wanted();
    scraping["spec"]["metrics"] = json!({"scrape": {"port": sluice_lab::scene::POD_PORT}});
    observed.world.create(scraping).await;
    let _sluice = observed.controller();
    observed.world.weighs(50, 50).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    let (decisions, what) = (oracle::decisions(&observed.world.api), format!("a pod that does {how:?}"));
    pod.predictor.set_metrics(Some(how));
    tokio::time::sleep(OUTAGE).await;
    same(&oracle::weights(&observed.world.virtual_service()), &(50, 50), &what);
    same(&oracle::decisions(&observed.world.api), &decisions, &what);
    let written = observed.written();
    same(&written.events, &vec![format!("Warning {reason}")], &what);
    let message = observed.condition()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("requests of both arms: pod iris-v2-1 (port"), "{message}");
    pod.predictor.set_metrics(None);
    observed.world.stands("Healthy", "Live").await;
    let events = vec![format!("Warning {reason}"), "Normal MetricsRecovered".to_owned()];
    same(&observed.written().events, &events, &what);
    let (counted, all) = (passed_on(&observed.world.status()), observed.delivered());
    assert!(600 < counted && counted <= all, "{what}: {counted} of {all}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_answer_changes_no_traffic() {
    a_pod_misbehaves(Misbehaviour::Page(500), "SourceUnavailable").await;
    a_pod_misbehaves(Misbehaviour::Hangs, "SourceUnavailable").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_answers_nonsense_changes_no_traffic() {
    a_pod_misbehaves(Misbehaviour::Page(404), "BadAnswer").await;
    a_pod_misbehaves(Misbehaviour::Page(200), "BadAnswer").await;
    a_pod_misbehaves(Misbehaviour::Floods(100), "BadAnswer").await;
}
