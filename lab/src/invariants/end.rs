//! Guarantee 7: "A fault at any write leads to the same final state as no fault."
//!
//! Compared is what people and Istio see in the end: phase, reason, weights, stable and canary, how many decisions there
//! were of which kind from what to what weight, what became of revisions and of actions, the whole spec of every VirtualService and the stamp. Not
//! compared are times, uids, versions, measurements and sentences, which differ between any two runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    objects::{self, Given, STAMP, plural},
    report::{Violation, difference},
    run::{Commit, Run},
};

/// How a run ended, by object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End(BTreeMap<String, Value>);

/// How `run` ended.
pub fn end(run: &Run) -> End {
    let mut end = End::default();
    for commit in &run.commits {
        let name = name(commit);
        match &commit.after {
            None => drop(end.0.remove(&name)),
            Some(after) => {
                if let Some(essence) = essence(plural(&commit.resource), after) {
                    end.0.insert(name, essence);
                }
            }
        }
    }
    end
}

fn name(commit: &Commit) -> String {
    format!("{} {}/{}", plural(&commit.resource), commit.namespace, commit.name)
}

fn essence(plural: &str, object: &Value) -> Option<Value> {
    let status = &object["status"];
    match plural {
        "rollouts" => {
            // A loser leaves the route when it is quiet, whatever else goes on: its place among the others may differ.
            let decisions = objects::decisions(status).map(|decision| {
                let [from, to] = [Given::before(decision), Given::after(decision)];
                format!("{} {from} -> {to}", decision["kind"])
            });
            let mut decisions: Vec<_> = decisions.collect();
            decisions.sort();
            let outcomes = objects::list(&status["outcomes"])
                .map(|outcome| json!([outcome["predictor"], outcome["outcome"], outcome["reason"]]));
            Some(json!({
                "phase": status["phase"], "reason": status["reason"], "given": Given::after(status).to_string(),
                "step": status["step"], "seq": status["seq"],
                "stable": status["stable"], "canary": status["canary"],
                "retiring": objects::list(&status["retiring"]).map(|r| r["predictor"].clone()).collect::<Vec<_>>(),
                "decisions": decisions,
                "outcomes": outcomes.collect::<Vec<_>>(),
                "deleted": !object["metadata"]["deletionTimestamp"].is_null(),
            }))
        }
        "virtualservices" => {
            let mut stamps = objects::stamps(object);
            for stamp in stamps.values_mut() {
                stamp["uid"] = Value::Null;
            }
            let mut annotations = object["metadata"]["annotations"].clone();
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.remove(STAMP);
            }
            Some(json!({"spec": object["spec"], "annotations": annotations, "stamps": stamps}))
        }
        "rolloutactions" => Some(json!({"do": object["spec"]["do"], "phase": status["phase"]})),
        _ => None,
    }
}

/// What of the end of `run` is not as in the end of the calm one.
pub(super) fn compare(calm: &End, run: &Run) -> Vec<Violation> {
    let ended = end(run);
    let names = calm.0.keys().chain(ended.0.keys().filter(|name| !calm.0.contains_key(*name)));
    let differ = names.filter(|name| calm.0.get(*name) != ended.0.get(*name));
    differ
        .map(|name| {
            let last = run.commits.iter().rev().find(|commit| self::name(commit) == **name);
            Violation {
                guarantee: 7,
                version: last.map_or(0, |commit| commit.version),
                object: name.clone(),
                what:
                    "the final state is not that of the same run without faults; below: that one -> this one"
                        .to_owned(),
                change: difference(calm.0.get(name), ended.0.get(name)),
                decisions: Vec::new(),
            }
        })
        .collect()
}
