//! What is found in Rollouts that differ from a careful one in one thing each.

use serde_json::{Value, json};

use super::*;
use crate::api::Share;

/// Two steps with a limit on errors and one on latency, changed.
fn findings(load: Option<Load>, change: impl FnOnce(&mut Value)) -> Vec<Finding> {
    let mut spec = json!({
        "target": {"service": {"name": "v2"}},
        "routes": [{"virtualService": "iris"}],
        "steps": [{"weight": 5, "for": "5m"}, {"weight": 50, "for": "5m"}],
        "checks": [{"name": "errors", "errors": {"max": "1%"}}, {"name": "p99", "latency": {"max": "250ms"}}],
    });
    change(&mut spec);
    let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
    let plan = Plan::new(&spec, "models").unwrap();
    lint(&plan, &spec, load)
}

fn at(rate: f64) -> Load {
    Load { rate, matching: Share::new(0.1).unwrap() }
}

/// Field and problem of what is found where there are enough requests.
fn found(change: impl FnOnce(&mut Value)) -> Vec<String> {
    told(&findings(Some(at(100.0)), change))
}

fn told(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{}: {}", finding.path, finding.problem)).collect()
}

/// What is found at so many requests a second: sort, field, problem and advice.
fn found_at(rate: f64, change: impl FnOnce(&mut Value)) -> Vec<(Code, String, String, String)> {
    let found = findings(Some(at(rate)), change).into_iter();
    found.map(|finding| (finding.code, finding.path, finding.problem, finding.advice)).collect()
}

#[test]
fn a_careful_rollout_has_no_risk() {
    assert_eq!(found(|_| ()), [""; 0]);
}

#[test]
fn every_risk_is_named_with_its_field() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 10] = [
        (|s| s["steps"] = json!([]), "spec.steps: there are no steps"),
        (|s| s["steps"][0]["weight"] = json!(25), "spec.steps[0].weight: the first users"),
        (|s| s["steps"][1]["weight"] = json!(3), "spec.steps[1].weight: the canary gets less"),
        (
            |s| {
                s["checks"] = json!([]);
                s["steps"][1] = json!({"weight": 50});
            },
            "spec.steps[1].for: the step ends",
        ),
        (|s| s["checks"] = json!([]), "spec.checks: no check acts"),
        (|s| s["checks"][0]["errors"]["max"] = json!("0%"), "spec.checks[0].errors.max: a single failed"),
        (|s| s["checks"][1]["latency"]["max"] = json!("300ms"), "spec.checks[1].latency.max: 300ms lies"),
        (|s| s["interval"] = json!("2s"), "spec.checks[0]: a look reaches back 10s"),
        (
            |s| s["steps"][0]["sticky"] = json!({"header": "x-user"}),
            "spec.steps[1].sticky: step 1 bound users by the hash in x-user",
        ),
        (
            |s| {
                let spec = s.as_object_mut().unwrap();
                spec.remove("routes");
                spec.insert("expose".into(), json!({}));
                s["annotations"] = json!({"seldon.io/istio-retries-timeout": "2"});
            },
            "spec.annotations[seldon.io/istio-retries-timeout]: means nothing without",
        ),
    ];
    for (change, expected) in cases {
        let found = found(change);
        assert!(found.iter().any(|one| one.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn a_preview_makes_a_large_first_step_no_risk() {
    let previewed = found(|s| {
        s["steps"] = json!([
            {"match": [{"headers": {"x": {"exact": "beta"}}}], "for": "5m"},
            {"weight": 100, "for": "5m"},
        ]);
    });
    assert_eq!(previewed, [""; 0]);
}

#[test]
fn comparisons_alone_are_a_risk_where_they_are_too_slow() {
    let compares = |s: &mut Value| {
        s["checks"] = json!([{"name": "e", "errors": {"versusStable": {}}}]);
        s["steps"] = json!([{"weight": 5, "for": "10m"}, {"weight": 50, "for": "10m"}]);
    };
    assert_eq!(found(compares), [""; 0]);
    let slow = found_at(2.0, compares);
    assert_eq!(slow.len(), 1, "{slow:?}");
    let (code, path, problem, _) = &slow[0];
    assert_eq!((*code, path.as_str()), (Code::NoLimit, "spec.checks"));
    assert!(
        problem.contains("at 2 requests/s") && problem.contains("gets through step 1, and is stopped after"),
        "{problem}"
    );
    let unknown = told(&findings(None, compares));
    assert!(unknown[0].starts_with("spec.checks: all checks compare with stable: on little"), "{unknown:?}");
    // A comparison of latencies alone never sees an error, however many there are.
    let of_latency =
        found_at(1000.0, |s| s["checks"] = json!([{"name": "l", "latency": {"versusStable": {}}}]));
    assert_eq!(of_latency.len(), 1, "{of_latency:?}");
    assert!(of_latency[0].2.contains("and no check stops it"), "{of_latency:?}");
}

#[test]
fn a_step_that_ends_before_a_check_has_its_requests_is_told_how_long_it_takes() {
    // 0.1 requests/s of the canary's: 50 take 500 s, and 15 s pass before any counts.
    let found = found_at(2.0, |_| ());
    let problem =
        "at 2 requests/s 28 of the canary's count in it, and errors needs 50: step 1 takes 9m in place of 5m";
    let advice =
        "let it last 9m, or give it a larger weight; a smaller minRequests of errors is more often wrong";
    assert_eq!(
        found,
        [(Code::StepTooShort, "spec.steps[0].for".to_owned(), problem.to_owned(), advice.to_owned())]
    );
    // A step that waits for the requests says so itself.
    let waits = found_at(2.0, |s| s["steps"][0]["minRequests"] = json!(50));
    assert!(waits.is_empty(), "{waits:?}");
    let ramp = found_at(2.0, |s| {
        s["steps"] = json!([{"ramp": {"from": 5, "to": 20, "by": 5, "every": "5m"}}]);
    });
    let fields: Vec<&str> = ramp.iter().map(|(_, path, ..)| path.as_str()).collect();
    assert_eq!(fields, ["spec.steps[0].ramp.every"]);
    // What is said of the traffic of a while ago counts when that while has passed in the step.
    let late = found_at(100.0, |s| s["checks"][0]["lag"] = json!("10m"));
    assert!(late[0].2.contains("0 of the canary's count in it"), "{late:?}");
}

#[test]
fn requests_that_never_come_in_time_are_told_with_what_follows() {
    // 0.025 requests/s of the canary's: 50 take 2,000 s, and there are 300 and 900.
    let found = found_at(0.5, |s| {
        s["checks"] = json!([{"name": "errors", "errors": {"max": "5%"}}]);
        s["steps"][1]["for"] = json!("30m");
    });
    let problem = "at 0.5 requests/s 29 of the canary's count in 20m of step 1, and errors needs 50: then the rollout pauses";
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].0, found[0].1.as_str()),
        (Code::RequestsOutOfReach, "spec.checks[0].errors.minRequests")
    );
    assert_eq!(found[0].2, problem);
    assert_eq!(
        found[0].3,
        "let the step last 34m, give it a larger weight, or ask for fewer requests (minRequests)"
    );
    let of_step = found_at(100.0, |s| {
        s["steps"][0]["minRequests"] = json!(10_000);
        s["inconclusive"] = json!({"limit": "15m", "then": "Rollback"});
    });
    assert_eq!(
        (of_step[0].0, of_step[0].1.as_str()),
        (Code::RequestsOutOfReach, "spec.steps[0].minRequests")
    );
    assert!(of_step[0].2.ends_with("needs 10000: then the canary is rolled back"), "{of_step:?}");
    let nobody = found_at(0.0, |_| ());
    assert!(nobody.iter().all(|(code, _, _, advice)| {
        *code == Code::RequestsOutOfReach && advice == "give the canary requests in this step"
    }));
    assert_eq!(nobody.len(), 2, "{nobody:?}");
}

#[test]
fn a_proof_that_does_not_come_in_time_is_told_with_how_long_it_takes() {
    let proves = |s: &mut Value| {
        s["checks"][0]["errors"] = json!({"max": "5%", "versusStable": {"prove": true}});
        s["steps"] = json!([{"weight": 5, "for": "10m"}, {"weight": 50, "for": "10m"}]);
    };
    let found = found_at(20.0, proves);
    assert_eq!(found.len(), 1, "{found:?}");
    let (code, path, problem, advice) = &found[0];
    assert_eq!((*code, path.as_str()), (Code::ProofOutOfReach, "spec.checks[0].errors.versusStable.prove"));
    assert!(problem.contains("step 1 has no proof after 25m"), "{problem}");
    assert!(advice.starts_with("let the step last ") && !advice.contains("last 10m"), "{advice}");
}

#[test]
fn a_proof_that_needs_errors_is_a_note_for_services_that_have_none() {
    let proves = |errors: Value| {
        let notes = findings(Some(at(1000.0)), |s| {
            s["checks"][0]["errors"] = errors;
            s["steps"] = json!([{"weight": 5, "for": "10m"}, {"weight": 50, "for": "10m"}]);
            s["inconclusive"] = json!({"then": "Rollback"});
        });
        assert_eq!(notes.len(), 1, "{notes:?}");
        notes.into_iter().next().unwrap()
    };
    let note = proves(json!({"max": "5%", "versusStable": {"prove": true}}));
    assert_eq!((note.severity, note.code), (Severity::Note, Code::ProofOutOfReach));
    assert_eq!(note.path, "spec.checks[0].errors.versusStable.prove");
    assert_eq!(
        note.problem,
        "if neither predictor ever fails there is nothing to compare, and the proof never comes: then the canary is rolled back"
    );
    assert!(note.advice.contains("leave prove out: there is a limit"), "{note:?}");
    // The limit on latency keeps the whole from being one of comparisons alone.
    let alone = proves(json!({"versusStable": {"prove": true}}));
    assert!(alone.advice.contains("put a limit in place of prove"), "{alone:?}");
    // What is not to be proven needs no errors.
    let not_proven =
        found_at(1000.0, |s| s["checks"][0]["errors"] = json!({"max": "5%", "versusStable": {}}));
    assert!(not_proven.is_empty(), "{not_proven:?}");
}

#[test]
fn steps_without_a_weight_are_looked_at_too() {
    let of = |step: Value, finish: &str| {
        findings(None, |s| {
            s["steps"] = json!([step]);
            s["checks"] = json!([]);
            s["finish"] = json!(finish);
        })
    };
    let beta = json!({"match": [{"headers": {"x": {"exact": "beta"}}}]});
    let codes = |findings: &[Finding]| findings.iter().map(|finding| finding.code).collect::<Vec<_>>();
    let found = of(beta, "Promote");
    assert_eq!(codes(&found), [Code::StepWithoutEnd, Code::NoCheck]);
    assert_eq!(found[0].path, "spec.steps[0].for");
    assert_eq!(codes(&of(json!({"mirror": 100}), "KeepStable")), [Code::StepWithoutEnd]);
    assert_eq!(of(json!({"mirror": 100, "for": "10m"}), "KeepStable"), []);
}

/// What is found of one check, looked at so often.
fn found_of(check: &Value, interval: &str) -> Vec<(Code, String, String, String)> {
    found_at(1000.0, |s| {
        // A limit that reaches back for long enough keeps comparisons from being alone.
        let limit = json!({"name": "errors", "errors": {"max": "1%", "window": "1m"}});
        s["checks"] = json!([check, limit]);
        s["interval"] = json!(interval);
    })
}

#[test]
fn a_window_is_short_where_one_is_used() {
    let short = |check: Value, interval| found_of(&check, interval);
    let query = |promql: &str, more: Value| {
        let mut query = json!({"promql": promql, "max": 1});
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"name": "q", "query": query})
    };
    let rate = "sum(rate(x[{{window}}]))";
    for (check, interval, problem) in [
        (query(rate, json!({"window": "10s"})), "10s", "rate(...[{{window}}]) reaches back 10s"),
        (query(rate, json!({})), "5s", "rate(...[{{window}}]) reaches back 25s"),
        (query("irate(x[20s])", json!({})), "10s", "irate(...[20s]) reaches back 20s"),
    ] {
        let found = short(check, interval);
        assert_eq!(found.len(), 1, "{found:?}");
        let (code, path, told, _) = &found[0];
        assert_eq!((*code, path.as_str()), (Code::ShortWindow, "spec.checks[0].query.promql"));
        assert!(told.starts_with(problem) && told.ends_with("two scrapes are 30s"), "{told}");
    }
    let limited = short(json!({"name": "e", "errors": {"max": "5%", "versusStable": {}}}), "5s");
    assert!(limited.len() == 1 && limited[0].2.starts_with("a look reaches back 25s"), "{limited:?}");
    for unused in [
        // What all looks saw is added up.
        json!({"name": "e", "errors": {"versusStable": {}}}),
        json!({"name": "l", "latency": {"versusStable": {}}}),
        query(rate, json!({"window": "30s"})),
        query("max(x)", json!({})),
        query("max_over_time(x[{{window}}])", json!({"window": "10s"})),
    ] {
        assert_eq!(short(unused.clone(), "5s"), [], "{unused}");
    }
}

#[test]
fn a_share_of_counts_is_not_compared_as_a_number() {
    let of = |part: &str, all: &str, more: Value| {
        let series = |name: &str| format!(r#"sum(rate({name}{{service="{{{{canary.service}}}}"}}[5m]))"#);
        let mut query = json!({"promql": format!("{} / {}", series(part), series(all))});
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        found_of(&json!({"name": "clicks", "query": query}), "10s")
    };
    let found = of("clicks", "answers", json!({"versusStable": {}, "direction": "MoreIsBetter"}));
    assert_eq!(found.len(), 1, "{found:?}");
    let (code, path, _, advice) = &found[0];
    assert_eq!((*code, path.as_str()), (Code::ShareAsNumber, "spec.checks[0].query.total"));
    assert_eq!(advice, "give total: then both are counted, and compared as shares");
    let limited =
        of("clicks", "answers", json!({"min": 0.1, "versusStable": {}, "direction": "MoreIsBetter"}));
    assert!(limited[0].3.ends_with("; the limit goes into a check of its own"), "{limited:?}");
    // A limit alone compares nothing, and a mean is no share.
    assert_eq!(of("clicks", "answers", json!({"min": 0.1})), []);
    assert_eq!(of("tokens_sum", "tokens_count", json!({"versusStable": {}, "direction": "MoreIsWorse"})), []);
}

#[test]
fn without_a_rate_it_is_said_which_one_is_needed() {
    // 50 requests of 5% in the 285 s that count: 3.51 requests/s.
    let notes = findings(None, |_| ());
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!((notes[0].severity, notes[0].code), (Severity::Note, Code::StepTooShort));
    assert_eq!(
        told(&notes),
        [
            "spec.steps[0].for: below 3.6 requests/s of all users step 1 takes longer: errors needs 50 of the canary's"
        ]
    );
    assert!(found_at(3.6, |_| ()).is_empty());
    assert_eq!(found_at(3.5, |_| ()).len(), 1);
    let proves = findings(None, |s| s["checks"][0]["errors"]["versusStable"] = json!({"prove": true}));
    let proof = proves.iter().find(|note| note.code == Code::ProofOutOfReach).unwrap();
    assert_eq!(proof.severity, Severity::Note);
    assert!(proof.problem.ends_with("without any errors it never comes"), "{proof:?}");
}

#[test]
fn names_are_unique_and_plain() {
    let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert!(names.iter().all(|name| name.bytes().all(|c| c.is_ascii_lowercase() || c == b'-')), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Code::ALL.len());
    assert_eq!(json!(Code::LargeFirstStep), json!("large-first-step"));
}
