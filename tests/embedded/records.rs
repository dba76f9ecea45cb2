//! What a decision leaves behind: what it wrote, in the status, and a line in the log.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{
    expose::users,
    oracle, seldon,
    world::{CONTROLLER, NAMESPACE, World, rollout, same},
};

/// What is said to change, a line each.
fn said(changes: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("nothing").to_owned();
    let line = |change: &Value| {
        let [field, of, from, to] = ["field", "of", "from", "to"].map(|name| text(&change[name]));
        format!("{field} of {of}: {from} -> {to}")
    };
    changes.as_array().into_iter().flatten().map(line).collect()
}

/// What changed in the destinations of a VirtualService's http routes, which neither come nor go themselves.
fn changed(before: &Value, after: &Value) -> Vec<String> {
    let routes = |object: &Value| object["spec"]["http"].as_array().unwrap().clone();
    let mut lines = Vec::new();
    for (index, (before, after)) in routes(before).iter().zip(&routes(after)).enumerate() {
        let [before, after] = [before, after].map(|route| route["route"].as_array().unwrap());
        for at in 0..before.len().max(after.len()) {
            let place = format!("spec.http[{index}].route[{at}]");
            let host = |entry: &Value| entry["destination"]["host"].as_str().unwrap().to_owned();
            match (before.get(at), after.get(at)) {
                (Some(old), Some(new)) if old == new => {}
                (Some(old), Some(new)) => {
                    same(&host(old), &host(new), "the destination that stays");
                    lines.push(format!(
                        "{place}.weight of {}: {} -> {}",
                        host(new),
                        old["weight"],
                        new["weight"]
                    ));
                }
                (Some(old), None) => {
                    lines.push(format!("{place} of {}: weight {} -> nothing", host(old), old["weight"]));
                }
                (None, Some(new)) => {
                    lines.push(format!("{place} of {}: nothing -> weight {}", host(new), new["weight"]));
                }
                (None, None) => unreachable!(),
            }
        }
    }
    lines
}

fn decisions(world: &World) -> Vec<Value> {
    world.status()["decisions"].as_array().unwrap().clone()
}

/// A rollout that goes two steps and is rolled back, to its very end.
async fn rolled_back() -> World {
    let world = World::new().await;
    world.create(rollout(&json!([{"weight": 20, "for": "2s"}, {"weight": 50, "for": "10m"}]))).await;
    let sluice = world.controller();
    world.weighs(50, 50).await;
    world.fails(0.5);
    world.stands("RolledBack", "CheckFailed").await;
    world.sees("the loser has left", |status| status["retiring"].is_null()).await;
    world.weighs(100, 0).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    sluice.stop().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_decision_says_what_was_then_written() {
    let world = rolled_back().await;
    let history = world.api.history();
    let mut seen = 0;
    for write in oracle::routes_written(&history).filter(|write| write.user == CONTROLLER) {
        let (before, after) = (write.before.as_ref().unwrap(), write.after.as_ref().unwrap());
        let seq = oracle::stamp(after);
        let decided = decisions(&world).into_iter().find(|decision| decision["seq"] == seq).unwrap();
        let writes = decided["writes"].as_array().unwrap();
        same(&writes.len(), &1, "objects that are written");
        let object = [&writes[0]["kind"], &writes[0]["namespace"], &writes[0]["name"]];
        same(&object, &[&json!("VirtualService"), &json!(NAMESPACE), &json!("iris")], "the object");
        same(&said(&writes[0]["changes"]), &changed(before, after), &format!("what decision {seq} writes"));
        seen += 1;
    }
    same(&seen, &decisions(&world).len(), "decisions that were written");
    let moved = |kind: &str| {
        let decision = decisions(&world).into_iter().rev().find(|decision| decision["kind"] == kind).unwrap();
        said(&decision["writes"][0]["changes"])
    };
    let back = [
        "spec.http[0].route[0].weight of iris-v1: 50 -> 100",
        "spec.http[0].route[1].weight of iris-v2: 50 -> 0",
    ];
    same(&moved("RolledBack"), &back.map(str::to_owned).to_vec(), "what the rollback writes");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_predictors_and_to_the_route_of_their_operator_is_said() {
    let (world, [_main, green]) = seldon::operated().await;
    let operator = seldon::operator(&world);
    let _users = users(&world, "/seldon/models/iris");
    world.create(seldon::slotted(json!([{"weight": 50, "for": "10m"}]))).await;
    let _sluice = world.controller();
    world.sees("half is decided", |status| status["weight"] == 50).await;
    let settled = |status: &Value| status["reason"] == "StepInProgress";
    world.sees("half is on the route", settled).await;
    operator.stand_still();
    green.predictor.set_errors(0.5);
    world.stands("RolledBack", "CheckFailed").await;
    let of = |kind: &str| {
        let decision = decisions(&world).into_iter().find(|decision| decision["kind"] == kind).unwrap();
        let writes = decision["writes"].as_array().unwrap().clone();
        let told = |write: &Value| (write["kind"].as_str().unwrap().to_owned(), said(&write["changes"]));
        writes.iter().map(told).collect::<Vec<_>>()
    };
    let traffic = |main: &str, green: &str| {
        let lines = [
            format!("spec.predictors[0].traffic of main: {main}"),
            format!("spec.predictors[1].traffic of green: {green}"),
        ];
        ("SeldonDeployment".to_owned(), lines.to_vec())
    };
    same(&of("Entered"), &vec![traffic("100 -> 50", "0 -> 50")], "what the step writes");
    let back = of("RolledBack");
    same(&back[0], &traffic("50 -> 100", "50 -> 0"), "what the rollback writes to the predictors");
    let (kind, changes) = &back[1];
    same(&kind.as_str(), &"VirtualService", "what else the rollback writes to");
    assert!(changes.iter().any(|line| line.ends_with("50 -> 0")), "{changes:?}");
}

/// What was logged, a line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The fields of the lines about decisions.
    fn decisions(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["fields"].clone()).filter(|fields| fields["seq"].is_u64()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_has_a_line_for_each_decision_with_what_the_status_says() {
    let log = Log::default();
    let writer = log.clone();
    let json = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let logging = tracing::subscriber::set_default(json);
    let world = rolled_back().await;
    drop(logging);
    let (lines, decided) = (log.decisions(), decisions(&world));
    let numbers = |all: &[Value]| all.iter().map(|one| one["seq"].clone()).collect::<Vec<_>>();
    same(&numbers(&lines), &numbers(&decided), "the decisions in the log");
    for (line, decision) in lines.iter().zip(&decided) {
        for (field, of) in [
            ("message", "message"),
            ("kind", "kind"),
            ("reason", "reason"),
            ("revision", "revision"),
            ("step", "step"),
            ("from_weight", "fromWeight"),
            ("weight", "weight"),
            ("by", "by"),
        ] {
            same(&line[field], &decision[of], field);
        }
        let whose = [&line["rollout"], &line["namespace"], &line["recorded"], &line["done"]];
        same(
            &whose,
            &[&json!("models/iris"), &json!("models"), &json!(true), &json!("All")],
            "whose, and what came of it",
        );
        let list = |field: &str| match line[field].as_str() {
            Some(text) => serde_json::from_str::<Value>(text).unwrap(),
            None => Value::Null,
        };
        same(&list("writes"), &decision["writes"], "what was written");
        let mut checks = decision["checks"].clone();
        for check in checks.as_array_mut().into_iter().flatten() {
            for sentence in ["message", "rule"] {
                check.as_object_mut().unwrap().remove(sentence);
            }
        }
        same(&list("checks"), &checks, "the numbers of the checks");
    }
    let end = lines.iter().find(|line| line["kind"] == "RolledBack").unwrap();
    let checks: Value = serde_json::from_str(end["checks"].as_str().unwrap()).unwrap();
    let bad = |arm: &str| checks[0][arm]["bad"].as_u64().unwrap();
    assert!(bad("canary") > 0 && bad("stable") == 0, "{checks}");
    assert!(
        decided.iter().any(|decision| decision["checks"][0]["rule"] == "at most 1% of the requests fail")
    );
}
