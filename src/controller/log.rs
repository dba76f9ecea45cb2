//! The line that the log has of a decision. Its fields are an interface: `docs/operations.md` has them, and a test compares
//! the two.

use serde::Serialize;
use sluice_core::api::{CheckRecord, Decision};

use super::{Error, act::Done, subject::Subject};

/// Says what was decided, whether that is on record, and what came of it.
pub(super) fn decided(subject: &Subject, decision: &Decision, recorded: bool, acted: &Result<Done, Error>) {
    line(&subject.namespace, &subject.display(), decision, recorded, done(acted));
}

/// How far acting came, in one word.
fn done(acted: &Result<Done, Error>) -> &'static str {
    match acted {
        Ok(Done::All) => "All",
        Ok(Done::Ahead) => "Ahead",
        Ok(Done::ReadAgain) => "ReadAgain",
        Err(error) => error.kind(),
    }
}

fn line(namespace: &str, rollout: &str, decision: &Decision, recorded: bool, done: &str) {
    tracing::info!(
        rollout,
        namespace,
        seq = decision.seq,
        kind = ?decision.kind,
        reason = %decision.reason,
        revision = decision.revision,
        step = decision.step,
        from_weight = decision.from_weight,
        weight = decision.weight,
        from_beside = (!decision.from_beside.is_nothing()).then(|| decision.from_given().to_string()),
        beside = (!decision.beside.is_nothing()).then(|| decision.given().to_string()),
        by = decision.by,
        checks = list(decision.checks.iter().map(numbers)),
        writes = list(decision.writes.iter()),
        more_writes = (decision.more_writes > 0).then_some(decision.more_writes),
        recorded,
        done,
        "{}",
        decision.message
    );
}

/// What a check said without its sentences, which are in the status: a line of a log is cut where it is too long.
fn numbers(check: &CheckRecord) -> serde_json::Value {
    let mut fields = serde_json::to_value(check).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        for sentence in ["message", "rule"] {
            fields.remove(sentence);
        }
    }
    fields
}

/// A list as JSON; nothing where there is nothing in it. The fields of a line have no structure of their own.
fn list<T: Serialize>(all: impl Iterator<Item = T>) -> Option<String> {
    let all: Vec<T> = all.collect();
    if all.is_empty() { None } else { serde_json::to_string(&all).ok() }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};

    use super::*;

    /// What was written to it.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The line of a decision, as the controller logs it with `--log-format json`.
    fn logged(decision: &Decision, recorded: bool, done: &str) -> Value {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || line("models", "models/iris", decision, recorded, done));
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// One that says all that a decision can say.
    fn whole() -> Decision {
        let decision = json!({
            "seq": 7, "at": "2026-03-14T15:09:26Z", "kind": "RolledBack", "reason": "CheckFailed",
            "message": "errors: too many", "revision": "models/iris-v2:8000", "step": 2,
            "fromWeight": 25, "weight": 0, "fromBeside": {"mirror": 50}, "beside": {"mirror": 10}, "by": "ann",
            "checks": [{
                "name": "errors", "rule": "at most 1% of the requests fail", "verdict": "Fail", "message": "too many",
                "canary": {"requests": 1204, "bad": 90}, "stable": {"requests": 1233, "bad": 2}, "failures": 2,
                "effect": {"ratio": 46.08, "from": 10.0, "worse": 1e9, "better": 0.0, "needed": 100.0,
                           "maxRatio": 1.0, "clearRatio": 2.0},
            }],
            "writes": [{
                "kind": "VirtualService", "namespace": "models", "name": "iris",
                "changes": [{"field": "spec.http[0].route[1].weight", "of": "iris-v2", "from": "25", "to": "0"}],
            }],
            "moreWrites": 3,
        });
        serde_json::from_value(decision).unwrap()
    }

    #[test]
    fn a_decision_is_one_line_with_its_numbers_and_its_writes() {
        let line = logged(&whole(), true, "All");
        let fields = &line["fields"];
        for (field, expected) in [
            ("message", json!("errors: too many")),
            ("rollout", json!("models/iris")),
            ("namespace", json!("models")),
            ("seq", json!(7)),
            ("kind", json!("RolledBack")),
            ("reason", json!("CheckFailed")),
            ("revision", json!("models/iris-v2:8000")),
            ("step", json!(2)),
            ("from_weight", json!(25)),
            ("weight", json!(0)),
            ("from_beside", json!("weight 25%, mirror 50%")),
            ("beside", json!("mirror 10%")),
            ("by", json!("ann")),
            ("more_writes", json!(3)),
            ("recorded", json!(true)),
            ("done", json!("All")),
        ] {
            assert_eq!(fields[field], expected, "{field}");
        }
        assert_eq!(line["level"], "INFO");
        let list = |field: &str| -> Value { serde_json::from_str(fields[field].as_str().unwrap()).unwrap() };
        let check = &list("checks")[0];
        assert_eq!((&check["name"], &check["verdict"]), (&json!("errors"), &json!("Fail")));
        assert_eq!(check["canary"], json!({"requests": 1204, "bad": 90}));
        assert_eq!(check["stable"], json!({"requests": 1233, "bad": 2}));
        assert_eq!(check["effect"]["needed"], 100.0);
        assert_eq!((&check["message"], &check["rule"]), (&Value::Null, &Value::Null));
        assert_eq!(list("writes"), json!(whole().writes));
    }

    #[test]
    fn what_there_is_nothing_of_is_left_out() {
        let mut decision = whole();
        (decision.checks, decision.writes, decision.by) = (Vec::new(), Vec::new(), None);
        let line = logged(&decision, false, "Refused");
        for field in ["checks", "writes", "by"] {
            assert_eq!(line["fields"][field], Value::Null, "{field}");
        }
        assert_eq!(line["fields"]["recorded"], false);
    }

    #[test]
    fn every_field_is_in_the_handbook_and_no_other() {
        let handbook = include_str!("../../docs/operations.md");
        let (_, section) = handbook.split_once("\n### A decision in the log\n").expect("the section");
        let rows = section
            .lines()
            .take_while(|line| !line.starts_with('#'))
            .filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let line = logged(&whole(), true, "All");
        let fields: BTreeSet<&str> = line["fields"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(documented, fields);
        for word in ["All", "Ahead", "ReadAgain"].into_iter().chain(Error::KINDS) {
            // Without kinds there is no controller.
            let is_of_the_start = word.starts_with("Kinds");
            assert!(is_of_the_start || section.contains(&format!("`{word}`")), "{word}");
        }
    }
}
