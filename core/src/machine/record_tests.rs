use std::{collections::BTreeMap, time::Duration};

use kube_core::CustomResourceExt;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    api::{
        CheckRecord, DecisionKind, MOST_CHANGES, MOST_WRITES, Reason, Rollout, RolloutStatus, WriteRecord,
        WrittenKind,
    },
    judge::{Counts, Evidence, LADDER, Look, Measurement, Verdict},
    machine::StepState,
    plan::Plan,
};

/// What etcd takes of one object, when nobody has set it otherwise.
const ETCD: usize = 1536 * 1024;

/// The schema of a Rollout's status.
fn schema() -> Value {
    let definition = serde_json::to_value(Rollout::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"].clone()
}

/// The longest value that a schema allows for the field `name`, with texts of `letter`.
fn longest(name: &str, schema: &Value, letter: char) -> Value {
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().max_by_key(|word| word.to_string().len()).cloned().unwrap_or_default();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.map(|(name, field)| (name.clone(), longest(name, field, letter)));
            fields.collect::<Map<_, _>>().into()
        }
        Some("array") => {
            let most =
                schema["maxItems"].as_u64().unwrap_or_else(|| panic!("{name} is a list without a limit"));
            (0..most).map(|_| longest(name, &schema["items"], letter)).collect()
        }
        Some("string") if schema["format"] == "date-time" => json!("2026-03-14T15:09:26.123456789Z"),
        // The others that have one are bounded by it.
        Some("string") if schema.get("pattern").is_some() => json!("12345h59m59.999999999s"),
        Some("string") => {
            let most =
                schema["maxLength"].as_u64().unwrap_or_else(|| panic!("{name} is a text without a limit"));
            (0..most).map(|_| letter).collect::<String>().into()
        }
        Some("integer") if schema["maximum"] == 65535.0 => json!(u16::MAX),
        Some("integer") => match name {
            "requests" | "bad" | "seq" | "decision" => json!(u64::MAX),
            "observedGeneration" => json!(i64::MAX),
            "weight" | "fromWeight" => json!(i32::MIN),
            _ => json!(u32::MAX),
        },
        Some("number") if schema["maximum"] == 100.0 => json!(99.9999),
        Some("number") => json!(-1.234_567_890_123_456_7e-300),
        Some("boolean") => json!(true),
        // The machine's own notes and the pinned spec: nobody checks them, and they are no records.
        _ => Value::Null,
    }
}

/// A decision at every limit of the API.
fn largest(letter: char) -> Decision {
    let mut decision = longest("", &schema()["properties"]["decisions"]["items"], letter);
    decision["abridged"] = json!(false);
    let read: Decision = serde_json::from_value(decision).unwrap();
    assert_eq!(
        (read.checks.len(), read.writes.len()),
        (32, MOST_WRITES),
        "nothing was left out as unreadable"
    );
    assert!(read.writes.iter().all(|write| write.changes.len() == MOST_CHANGES));
    read
}

fn together(decisions: &[Decision]) -> usize {
    decisions.iter().map(length).sum()
}

/// The record after so many decisions like this one.
fn after(number: u64, decision: &Decision) -> Vec<Decision> {
    (1..=number).fold(Vec::new(), |before, seq| with(&before, Some(&Decision { seq, ..decision.clone() })))
}

#[test]
fn decisions_at_every_limit_of_the_api_leave_the_newest_whole_and_the_others_as_far_as_there_is_room() {
    let largest = largest('x');
    let kept = after(25, &largest);
    let newest = kept.last().unwrap();
    assert_eq!((newest.seq, newest.abridged), (25, false));
    assert_eq!((newest.checks.len(), newest.writes.len()), (32, MOST_WRITES));
    // One alone may be longer than all may be together.
    assert!(together(&kept) <= MOST_BYTES.max(length(newest)), "{}", together(&kept));
    assert!(length(newest) < 160 * 1024, "{}", length(newest));
}

#[test]
fn a_status_at_every_limit_of_the_api_stays_well_below_what_etcd_takes() {
    // As messages are, and as they would be in a script of four bytes a letter.
    for (letter, most) in [('x', 256 * 1024), ('𝔵', ETCD * 2 / 3)] {
        let mut status = longest("status", &schema(), letter);
        status["decisions"] = json!(after(25, &largest(letter)));
        let length = status.to_string().len();
        assert!(length < most, "{letter}: {length} bytes of {most}");
        // It is one that the API server would take.
        status["stage"] = json!("idle");
        assert!(serde_json::from_value::<RolloutStatus>(status).is_ok());
    }
}

/// The machine's notes in a step with 32 checks that look at latencies of their own and compare, after an hour of very many
/// requests.
fn notes() -> Value {
    let check = |at: u64| {
        let versus = json!({"maxRatio": 1.5, "confidence": "99%"});
        let name = format!("{at:0>63}");
        if at.is_multiple_of(2) {
            json!({"name": name, "latency": {"quantile": 0.99, "max": format!("{}ms", 3 + at * 37), "versusStable": versus}})
        } else {
            json!({"name": name, "errors": {"max": "1%", "versusStable": versus}})
        }
    };
    let spec = json!({
        "target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}], "steps": [{"weight": 5}],
        "checks": (0..32).map(check).collect::<Vec<_>>(),
    });
    let plan = Plan::new(&serde_json::from_value(spec).unwrap(), "models").unwrap();
    let mut evidence = Evidence::default();
    for look in 1..=360 {
        let counts = |bad: u64| Counts {
            requests: 9_000_000_000 + look,
            errors: bad * 10_000_000 + look,
            slower: (0..).zip(LADDER).map(|(at, bound)| (bound, bad * (90_000_000 >> at) + look)).collect(),
        };
        let measurement = Measurement { stable: counts(1), canary: counts(2), ..Measurement::default() };
        let age = Duration::from_secs(10 * look);
        evidence.add(age, &measurement, &plan.needs());
        let look = Look::new(chrono::DateTime::UNIX_EPOCH, Ok(measurement));
        evidence.compare(plan.checks.iter(), &look);
    }
    json!({"step": StepState { evidence, ..StepState::default() }})
}

#[test]
fn the_machines_notes_beside_the_record_leave_room_for_the_spec_and_the_pinned_one() {
    let mut status = longest("status", &schema(), 'x');
    status["decisions"] = json!(after(25, &largest('x')));
    let records = status.to_string().len();
    status["stage"] = notes();
    let length = status.to_string().len();
    assert!(length - records > 32 * 1024, "the notes have everything in them: {}", length - records);
    assert!(length < ETCD / 3, "{length} bytes, {records} without the notes");
}

#[test]
fn the_oldest_lose_their_numbers_before_any_decision_goes() {
    // Thirty-two checks that explain themselves in three hundred letters, as long as such sentences get.
    let mut decision = largest('x');
    decision.message = "m".repeat(400);
    for check in &mut decision.checks {
        (check.message, check.rule, check.name) = ("m".repeat(300), "r".repeat(60), "n".repeat(20));
    }
    decision.writes.truncate(1);
    (decision.beside, decision.from_beside) = Default::default();
    let kept = after(25, &decision);
    let numbers: Vec<u64> = kept.iter().map(|decision| decision.seq).collect();
    assert_eq!(numbers, (6..=25).collect::<Vec<_>>(), "all twenty are there");
    let whole = kept.iter().filter(|decision| !decision.abridged).count();
    assert!((2..20).contains(&whole), "{whole} are whole");
    assert!(kept.iter().all(|decision| decision.abridged == decision.checks.is_empty()));
    assert!(kept.iter().all(|decision| decision.message.len() == 400));
}

#[test]
fn what_fits_is_kept_as_it_is() {
    let decision = decision(1, 2, 50, 1);
    let kept = after(19, &decision);
    assert!(kept.iter().all(|kept| *kept == Decision { seq: kept.seq, ..decision.clone() }));
    assert_eq!(with(&kept, None), kept);
}

/// One with so many checks, each with a message of this length, and so many writes.
fn decision(seq: u64, checks: usize, message: usize, writes: usize) -> Decision {
    let check = CheckRecord {
        name: "errors".into(),
        rule: String::new(),
        verdict: Verdict::Pass,
        message: "m".repeat(message),
        canary: None,
        stable: None,
        value: None,
        failures: 0,
        effect: None,
        suffices: false,
        advisory: false,
    };
    let write = WriteRecord {
        kind: WrittenKind::VirtualService,
        namespace: "models".into(),
        name: "iris".into(),
        created: false,
        changes: Vec::new(),
        more_changes: 0,
    };
    Decision {
        seq,
        at: chrono::DateTime::UNIX_EPOCH,
        kind: DecisionKind::Entered,
        reason: Reason::StepsPassed,
        message: "m".repeat(message),
        revision: None,
        step: None,
        from_weight: 0,
        weight: 0,
        from_beside: crate::api::Beside::default(),
        beside: crate::api::Beside::default(),
        by: None,
        checks: vec![check; checks],
        writes: vec![write; writes],
        more_writes: 0,
        abridged: false,
    }
}

proptest! {
    // Each is a history of megabytes.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_is_decided_the_newest_is_whole_and_the_rest_fits(
        sizes in proptest::collection::vec((0usize..=32, 0usize..=1024, 0usize..=17), 1..40),
    ) {
        let mut kept = Vec::new();
        let mut made = BTreeMap::new();
        for (seq, (checks, message, writes)) in (1..).zip(sizes) {
            let new = decision(seq, checks, message, writes);
            made.insert(seq, new.clone());
            let before = kept;
            kept = with(&before, Some(&new));
            prop_assert_eq!(kept.last(), Some(&new));
            prop_assert!(kept.len() <= KEPT_DECISIONS);
            prop_assert!(together(&kept) <= MOST_BYTES.max(length(&new)));
            // The newest ones, in their order, without a gap.
            let first = kept[0].seq;
            prop_assert!(kept.iter().map(|decision| decision.seq).eq(first..=seq));
            // What is abridged is older than what is not, unless there was nothing to take off, and says all else still.
            let newest_abridged = kept.iter().rposition(|decision| decision.abridged).map_or(0, |at| at + 1);
            for (at, decision) in kept.iter().enumerate() {
                let mut expected = made[&decision.seq].clone();
                if decision.abridged {
                    abridge(&mut expected);
                }
                prop_assert_eq!(decision, &expected);
                let has_numbers = !decision.checks.is_empty() || !decision.writes.is_empty();
                prop_assert!(at >= newest_abridged || !has_numbers);
            }
            // Nothing is written because nothing is decided.
            prop_assert_eq!(with(&kept, None), kept.clone());
            // Nothing is cut that would have fit.
            if kept.len() < KEPT_DECISIONS.min(before.len() + 1) {
                prop_assert!(kept[..kept.len() - 1].iter().all(|decision| decision.checks.is_empty()));
            }
        }
    }
}
