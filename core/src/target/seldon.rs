//! Predictors of a SeldonDeployment, as Seldon Core's operator runs them: a Service for each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::names::{hash, hashed_deployments};
pub use super::names::{service_name, virtual_service_name};
use crate::{
    Predictor,
    api::{PredictorTarget, Reason},
    machine::Refusal,
};

/// The annotation by which a predictor's Service is called otherwise.
const SERVICE_NAME: &str = "seldon.io/svc-name";
/// The port on which predictors speak HTTP.
pub const HTTP_PORT: u16 = 8000;
/// The port on which they speak gRPC.
pub const GRPC_PORT: u16 = 5001;
/// The longest name that a Service may have.
const LONGEST_NAME: usize = 63;

/// What is read of a SeldonDeployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeldonView {
    /// Its name.
    pub name: String,
    /// Its predictors, in their order.
    pub predictors: Vec<PredictorView>,
    /// Deployments that have no available replica though they want some.
    pub unavailable: Vec<String>,
}

/// What is read of a predictor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PredictorView {
    /// Its name.
    pub name: String,
    /// Name of its Service.
    pub service: String,
    /// Its share of the requests as the SeldonDeployment has it.
    pub traffic: i64,
    /// Whether it gets copies only.
    pub shadow: bool,
    /// A hash that changes when what it serves changes; of nothing that has to do with traffic and replicas.
    pub serves: String,
    /// Its Deployments whose names are a hash, as they may be called.
    pub hashed: Vec<String>,
}

impl SeldonView {
    /// Reads an object. What is missing has Kubernetes' default.
    pub fn read(object: &Value) -> Self {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let predictors = object.pointer("/spec/predictors").and_then(Value::as_array);
        let statuses: BTreeMap<String, Value> = object
            .pointer("/status/deploymentStatus")
            .and_then(|status| serde_json::from_value(status.clone()).ok())
            .unwrap_or_default();
        let number = |status: &Value, field: &str| status[field].as_i64().unwrap_or(0);
        let unavailable = statuses
            .iter()
            .filter(|(_, status)| number(status, "replicas") > 0 && number(status, "availableReplicas") == 0)
            .map(|(name, _)| name.clone());
        Self {
            name: name.to_owned(),
            predictors: predictors
                .into_iter()
                .flatten()
                .map(|predictor| PredictorView::read(name, predictor))
                .collect(),
            unavailable: unavailable.collect(),
        }
    }

    /// A predictor by its name.
    pub fn predictor(&self, name: &str) -> Option<&PredictorView> {
        self.predictors.iter().find(|predictor| predictor.name == name)
    }

    /// That it has no predictor of this name, and which it has.
    pub(super) fn has_no_predictor(&self, namespace: &str, name: &str) -> String {
        let names: Vec<&str> = self.predictors.iter().map(|predictor| predictor.name.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("SeldonDeployment {namespace}/{} has no predictor {name:?}, only {there}", self.name)
    }

    /// The predictor behind a Service.
    pub fn behind(&self, service: &str) -> Option<&PredictorView> {
        self.predictors.iter().find(|predictor| predictor.service == service)
    }

    /// Whether the status says that a part of a predictor has nobody to answer.
    pub fn is_unavailable(&self, predictor: &str) -> bool {
        self.unavailable.iter().any(|deployment| {
            let begins =
                |one: &&PredictorView| deployment.starts_with(&format!("{}-{}-", self.name, one.name));
            let is_of = |one: &&PredictorView| begins(one) || one.hashed.contains(deployment);
            // Where the name of one predictor goes on as another's, it is the other's.
            let owner = self.predictors.iter().filter(is_of).max_by_key(|one| one.name.len());
            owner.is_some_and(|owner| owner.name == predictor)
        })
    }

    /// The predictor that a SeldonDeployment which names none wants to be live: the last one that is no shadow, for a
    /// new version is added behind the old one.
    pub fn newest(&self) -> Option<&PredictorView> {
        self.predictors.iter().rev().find(|predictor| !predictor.shadow)
    }
}

impl PredictorView {
    fn read(deployment: &str, predictor: &Value) -> Self {
        let name = predictor["name"].as_str().unwrap_or_default();
        let service = predictor["annotations"][SERVICE_NAME].as_str().filter(|name| !name.is_empty());
        Self {
            name: name.to_owned(),
            service: service.map_or_else(|| service_name(deployment, name), str::to_owned),
            traffic: predictor["traffic"].as_i64().unwrap_or(0),
            shadow: predictor["shadow"].as_bool().unwrap_or(false),
            serves: served(predictor),
            hashed: hashed_deployments(deployment, predictor),
        }
    }
}

/// A hash of all that makes a predictor what it is, but not of how much of it there is and who asks it.
fn served(predictor: &Value) -> String {
    let mut predictor = predictor.clone();
    without(Some(&mut predictor), &["traffic", "replicas", "shadow"]);
    without(predictor.get_mut("svcOrchSpec"), &["replicas"]);
    let parts = predictor.get_mut("componentSpecs").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        without(Some(part), &["replicas", "hpaSpec", "kedaSpec", "pdbSpec"]);
    }
    // Fields are in the order of their names, whoever wrote them.
    hash(&predictor.to_string())
}

fn without(object: Option<&mut Value>, fields: &[&str]) {
    if let Some(all) = object.and_then(Value::as_object_mut) {
        all.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

/// The predictor that is wanted, as the SeldonDeployment is there.
///
/// # Errors
/// There is none, it has no such predictor, or it is one that Seldon Core refuses itself.
pub(super) fn predictor(
    target: &PredictorTarget,
    namespace: &str,
    there: Option<&SeldonView>,
) -> Result<Predictor, Refusal> {
    let name = &target.name;
    let Some(view) = there else {
        let message = format!(
            "spec.target.seldonDeployment.name: there is no SeldonDeployment {name} in namespace {namespace}"
        );
        return Err(Refusal::new(Reason::TargetNotFound, message));
    };
    let Some(wanted) = view.predictor(&target.predictor) else {
        let problem = view.has_no_predictor(namespace, &target.predictor);
        let message = format!("spec.target.seldonDeployment.predictor: {problem}");
        return Err(Refusal::new(Reason::TargetNotFound, message));
    };
    refuse_what_seldon_refuses(view, namespace)?;
    if wanted.service.len() > LONGEST_NAME {
        let message = format!(
            "spec.target.seldonDeployment.predictor: the predictor's annotation {SERVICE_NAME} names the Service {}: at most \
             {LONGEST_NAME} characters are expected",
            wanted.service
        );
        return Err(Refusal::new(Reason::TargetNotFound, message));
    }
    let predictor = Predictor::new(namespace, &wanted.service, HTTP_PORT);
    Ok(Predictor { subset: Some(wanted.name.clone()), ..predictor })
}

/// Who has users before any route was generated: the predictor that the target says, else all that have traffic in the
/// SeldonDeployment, else the wanted one.
pub fn first(target: &PredictorTarget, namespace: &str, view: &SeldonView) -> Vec<Predictor> {
    let of = |predictor: &PredictorView| Predictor {
        subset: Some(predictor.name.clone()),
        ..Predictor::new(namespace, &predictor.service, HTTP_PORT)
    };
    if let Some(from) = target.from.as_deref() {
        return view.predictor(from).map(of).into_iter().collect();
    }
    let live = view.predictors.iter().filter(|predictor| !predictor.shadow && predictor.traffic > 0);
    let live: Vec<Predictor> = live.map(of).collect();
    if live.is_empty() { view.predictor(&target.predictor).map(of).into_iter().collect() } else { live }
}

/// Seldon Core's own rules: where its webhook is not installed nobody else asks for them.
fn refuse_what_seldon_refuses(view: &SeldonView, namespace: &str) -> Result<(), Refusal> {
    let refused = |problem: String| {
        let message = format!("SeldonDeployment {namespace}/{}: {problem}", view.name);
        Err(Refusal::new(Reason::InvalidTarget, message))
    };
    let (shadows, live): (Vec<_>, Vec<_>) = view.predictors.iter().partition(|predictor| predictor.shadow);
    if live.is_empty() {
        return refused(format!(
            "predictor {} is a shadow and there is no other one: one that answers is expected",
            shadows.first().map_or("?", |shadow| shadow.name.as_str())
        ));
    }
    if shadows.len() > 1 {
        return refused(format!("{} predictors are shadows: at most one is expected", shadows.len()));
    }
    let sum: i64 = live.iter().map(|predictor| predictor.traffic).sum();
    if live.len() > 1 && sum != 100 {
        let each: Vec<String> =
            live.iter().map(|predictor| format!("{} {}", predictor.name, predictor.traffic)).collect();
        return refused(format!(
            "the traffic of its predictors adds up to {sum} ({}): 100 is expected",
            each.join(", ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(predictors: &Value) -> Value {
        json!({"metadata": {"name": "iris"}, "spec": {"predictors": predictors}})
    }

    fn wanted(predictor: &str, predictors: &Value) -> Result<Predictor, Refusal> {
        let target = PredictorTarget { name: "iris".into(), predictor: predictor.into(), from: None };
        super::predictor(&target, "models", Some(&SeldonView::read(&deployment(predictors))))
    }

    #[test]
    fn a_predictor_is_a_subset_of_its_service() {
        let both = json!([{"name": "main", "traffic": 100}, {"name": "green", "traffic": 0}]);
        let green = wanted("green", &both).unwrap();
        assert_eq!(green.revision(), "models/iris-green:8000#green");
        let named = json!([{"name": "main", "annotations": {"seldon.io/svc-name": "classifier"}}]);
        assert_eq!(wanted("main", &named).unwrap().revision(), "models/classifier:8000#main");
    }

    #[test]
    fn a_service_whose_name_would_be_too_long_is_called_by_a_hash() {
        let long = "g".repeat(60);
        let found = wanted(&long, &json!([{"name": long}])).unwrap();
        assert_eq!(found.service, "seldon-48eaf314806dc013fffdf0e0cf566ef8");
        assert_eq!(found.subset, Some(long));
        let named = json!([{"name": "main", "annotations": {"seldon.io/svc-name": "x".repeat(64)}}]);
        let refusal = wanted("main", &named).unwrap_err();
        assert!(refusal.message.contains("annotation seldon.io/svc-name"), "{}", refusal.message);
    }

    #[test]
    fn what_seldon_core_refuses_is_refused_by_name() {
        let target = PredictorTarget { name: "iris".into(), predictor: "main".into(), from: None };
        let none = super::predictor(&target, "models", None).unwrap_err();
        assert_eq!(none.reason, Reason::TargetNotFound);
        assert!(
            none.message.contains("there is no SeldonDeployment iris in namespace models"),
            "{}",
            none.message
        );
        for (name, predictors, reason, expected) in [
            (
                "blue",
                json!([{"name": "main"}]),
                Reason::TargetNotFound,
                "has no predictor \"blue\", only main",
            ),
            (
                "main",
                json!([{"name": "main", "traffic": 60}, {"name": "green", "traffic": 30}]),
                Reason::InvalidTarget,
                "the traffic of its predictors adds up to 90 (main 60, green 30): 100 is expected",
            ),
            (
                "main",
                json!([{"name": "main", "shadow": true}]),
                Reason::InvalidTarget,
                "predictor main is a shadow and there is no other one",
            ),
            (
                "main",
                json!([{"name": "main"}, {"name": "a", "shadow": true}, {"name": "b", "shadow": true}]),
                Reason::InvalidTarget,
                "2 predictors are shadows",
            ),
        ] {
            let refusal = wanted(name, &predictors).unwrap_err();
            assert_eq!(refusal.reason, reason, "{}", refusal.message);
            assert!(refusal.message.contains(expected), "{}", refusal.message);
        }
    }

    #[test]
    fn who_has_traffic_there_is_who_has_users_at_first() {
        let view = SeldonView::read(&deployment(&json!([
            {"name": "main", "traffic": 75}, {"name": "green", "traffic": 25}, {"name": "blue", "traffic": 0},
        ])));
        let first = |predictor: &str, from: Option<&str>| -> Vec<String> {
            let from = from.map(str::to_owned);
            let target = PredictorTarget { name: "iris".into(), predictor: predictor.into(), from };
            super::first(&target, "models", &view).into_iter().filter_map(|found| found.subset).collect()
        };
        assert_eq!(first("blue", None), ["main", "green"]);
        assert_eq!(first("blue", Some("main")), ["main"]);
        assert!(first("blue", Some("nobody")).is_empty());
        let alone = SeldonView::read(&deployment(&json!([{"name": "main"}])));
        let target = PredictorTarget { name: "iris".into(), predictor: "main".into(), from: None };
        assert_eq!(super::first(&target, "models", &alone).len(), 1);
    }

    #[test]
    fn a_shadow_that_is_wanted_is_a_canary_like_any_other() {
        let both = json!([{"name": "main"}, {"name": "shadow", "shadow": true, "traffic": 30}]);
        assert_eq!(wanted("shadow", &both).unwrap().service, "iris-shadow");
    }

    #[test]
    fn traffic_and_replicas_are_not_what_a_predictor_serves() {
        let view = |traffic: u8, image: &str| {
            let predictors = json!([{"name": "main", "traffic": traffic, "replicas": traffic, "graph": {"modelUri": image}}]);
            SeldonView::read(&deployment(&predictors)).predictors[0].serves.clone()
        };
        assert_eq!(view(1, "a"), view(2, "a"));
        let part = |replicas: u8, image: &str| {
            let spec = json!({"replicas": replicas, "hpaSpec": {"maxReplicas": replicas}, "spec": {"containers": [{"image": image}]}});
            let predictors =
                json!([{"name": "main", "componentSpecs": [spec], "svcOrchSpec": {"replicas": replicas}}]);
            SeldonView::read(&deployment(&predictors)).predictors[0].serves.clone()
        };
        assert_eq!(part(1, "a"), part(2, "a"));
        assert_ne!(part(1, "a"), part(1, "b"));
        // By Python's hashlib.md5: it is kept in statuses, so a later version has to say the same.
        let predictors =
            json!([{"name": "main", "traffic": 100, "graph": {"name": "c", "modelUri": "gs://a"}}]);
        let view_of = SeldonView::read(&deployment(&predictors));
        assert_eq!(view_of.predictors[0].serves, "b31f65d9da796d447fc7b6653bb64cf2");
        assert_ne!(view(1, "a"), view(1, "b"));
    }

    #[test]
    fn the_status_tells_who_has_nobody_to_answer() {
        let long = "l".repeat(60);
        let parts = json!([{"spec": {"containers": [{"name": "m"}]}}]);
        let mut object = deployment(&json!([
            {"name": "main"}, {"name": long, "componentSpecs": parts}, {"name": "green-2"}, {"name": "green"},
        ]));
        let none = json!({"replicas": 1});
        object["status"] = json!({"deploymentStatus": {
            "iris-main-0-classifier": {"replicas": 2, "availableReplicas": 1},
            "iris-green-2-0-classifier": none,
            "seldon-f5f93cf1bd3f2d5ede456eab9bb2498d": none,
        }});
        let view = SeldonView::read(&object);
        let unavailable = |name: &str| view.is_unavailable(name);
        assert!(
            !unavailable("main") && unavailable("green-2") && !unavailable("green") && unavailable(&long)
        );
        assert_eq!(view.newest().map(|predictor| predictor.name.as_str()), Some("green"));
        object["status"] = json!({"deploymentStatus": {"iris-green-svc-orch": none}});
        let view = SeldonView::read(&object);
        assert!(view.is_unavailable("green") && !view.is_unavailable("green-2"));
    }
}
