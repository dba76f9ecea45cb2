//! Whether the kinds in the cluster can hold what this version reads and writes.
//!
//! An API server drops, without a word, every field that its definition of a kind does not know. A controller that is
//! newer than the definitions would lose parts of its memory at each write, and people parts of their specs. So the
//! schema that is served is compared with ours, at the start and twice a minute, and each answer to a write of a status
//! with what was sent. The schema is read from the `OpenAPI` document, which everybody who may log in may read: no right
//! is needed for it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::{Client, CustomResourceExt};
use serde_json::Value;
use sluice_core::{
    api::{GROUP, Reason, Rollout, RolloutAction, VERSION},
    machine::Refusal,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::Error;

/// How long a definition may take to be in the document after it was written.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);
/// How often the document is read while it is waited for.
const WAITING: Duration = Duration::from_secs(1);
/// How often the document is read later on.
const EVERY: Duration = Duration::from_secs(30);
/// The same while the kinds are too old: somebody waits for it.
const WHILE_OUTDATED: Duration = Duration::from_secs(5);
/// The longest that reading it may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);
/// How many of the missing fields are named.
const NAMED: usize = 3;

/// How the served kinds compare with ours.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    /// They hold all that ours hold.
    Fits,
    /// They hold more: an older controller, after a downgrade perhaps, which does no harm.
    Newer(Lacking),
    /// They do not hold all that ours hold.
    Older(Lacking),
    /// The document cannot be read.
    Unknown(String),
}

/// What one definition of a kind has not that another one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    kind: &'static str,
    fields: BTreeSet<String>,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<&str> = self.fields.iter().map(String::as_str).take(NAMED).collect();
        write!(f, "{} has no {}", self.kind, named.join(", "))?;
        match self.fields.len() - named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What is known of the served kinds while the controller runs.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// Why nothing may start or grow.
    outdated: Mutex<Option<String>>,
}

impl Kinds {
    /// What keeps every Rollout from starting and growing, where something does.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let outdated = self.outdated.lock().unwrap_or_else(PoisonError::into_inner).clone();
        outdated.map(|why| Refusal::new(Reason::KindsOutdated, why))
    }

    /// Fails where the server dropped something of a status: what was `sent` is not all in what it `kept`.
    pub(super) fn compare(&self, sent: &Value, kept: &Value) {
        let Some(path) = lost(sent, kept, "status") else { return };
        let why = format!(
            "the cluster dropped {path}: its kind Rollout is older than the controller, version {}; {UPDATE}",
            env!("CARGO_PKG_VERSION")
        );
        self.set(Some(why));
    }

    fn set(&self, outdated: Option<String>) {
        let mut known = self.outdated.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.as_ref(), &outdated) {
            (None, Some(why)) => tracing::error!("nothing starts or grows from now on: {why}"),
            (Some(_), None) => tracing::info!("the kinds hold all that is written again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        *known = outdated;
    }

    /// Reads the document again and again, for ever: a definition can be replaced by an older one at any time. What grows
    /// stops then, and what takes traffic away goes on.
    pub(super) async fn watch(&self, client: &Client) {
        loop {
            sleep(if self.refusal().is_some() { WHILE_OUTDATED } else { EVERY }).await;
            match look(client).await {
                Fit::Older(lacking) => self.set(Some(outdated(&lacking))),
                Fit::Fits | Fit::Newer(_) => self.set(None),
                Fit::Unknown(why) => tracing::debug!("the schema of the kinds cannot be read: {why}"),
            }
        }
    }
}

/// What to do about definitions that are too old.
const UPDATE: &str = "update it with `kubectl apply --server-side -k crds` of that version";

/// The sentence that people read.
pub(super) fn outdated(lacking: &Lacking) -> String {
    format!(
        "the kinds in the cluster are older than the controller, version {}: {lacking}; {UPDATE}",
        env!("CARGO_PKG_VERSION")
    )
}

/// Waits a little for definitions that were just written, and fails where the served ones are older than ours.
pub(super) async fn require(client: &Client) -> Result<(), Error> {
    let limit = Instant::now() + PUBLISHED_WITHIN;
    let mut said = false;
    loop {
        match look(client).await {
            Fit::Fits => return Ok(()),
            Fit::Newer(lacking) => {
                tracing::info!("the kinds in the cluster are newer than this version, whose {lacking}");
                return Ok(());
            }
            Fit::Older(lacking) if Instant::now() >= limit => return Err(Error::KindsOutdated(lacking)),
            Fit::Older(lacking) => {
                if !said {
                    tracing::warn!("waiting for an update: {}", outdated(&lacking));
                    said = true;
                }
                sleep(WAITING).await;
            }
            Fit::Unknown(why) => {
                tracing::warn!(
                    "whether the kinds in the cluster are as new as this version cannot be told: {why}"
                );
                return Ok(());
            }
        }
    }
}

async fn look(client: &Client) -> Fit {
    let request = http::Request::get(format!("/openapi/v3/apis/{GROUP}/{VERSION}")).body(Vec::new());
    let answer = async { client.request_text(request.map_err(kube::Error::HttpError)?).await };
    match timeout(REQUEST_LIMIT, answer).await {
        // The trees of two schemas take megabytes. On a thread of its own the allocator gives them back as a whole.
        Ok(Ok(document)) => spawn_blocking(move || read(&document))
            .await
            .unwrap_or_else(|error| Fit::Unknown(error.to_string())),
        Ok(Err(error)) => Fit::Unknown(error.to_string()),
        Err(_) => Fit::Unknown(format!("no answer within {}s", REQUEST_LIMIT.as_secs())),
    }
}

fn read(document: &str) -> Fit {
    serde_json::from_str(document)
        .map_or_else(|error| Fit::Unknown(error.to_string()), |document| judge(&document))
}

/// Compares all kinds of a document with ours. One that lacks something counts before one that has more.
fn judge(document: &Value) -> Fit {
    let mut fit = Fit::Fits;
    for (kind, definition) in [("Rollout", Rollout::crd()), ("RolloutAction", RolloutAction::crd())] {
        let version = definition.spec.versions.into_iter().find(|version| version.name == VERSION);
        let ours = version.and_then(|version| version.schema?.open_api_v3_schema);
        let (Ok(ours), Some(served)) = (serde_json::to_value(ours), served(document, kind)) else {
            return Fit::Unknown(format!("the OpenAPI document has no {kind}"));
        };
        let lacking = |of: &Value, than: &Value| {
            let mut fields = BTreeSet::new();
            for part in ["spec", "status"] {
                compare(&than["properties"][part], &of["properties"][part], part, &mut fields);
            }
            (!fields.is_empty()).then_some(Lacking { kind, fields })
        };
        if let Some(missing) = lacking(served, &ours) {
            return Fit::Older(missing);
        }
        if let Some(more) = lacking(&ours, served) {
            fit = Fit::Newer(more);
        }
    }
    fit
}

fn served<'d>(document: &'d Value, kind: &str) -> Option<&'d Value> {
    let is_it = |schema: &&Value| {
        let names = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
        names
            .into_iter()
            .any(|name| name["group"] == GROUP && name["version"] == VERSION && name["kind"] == kind)
    };
    document.pointer("/components/schemas")?.as_object()?.values().find(is_it)
}

/// Notes every field and every word of `wanted` that `there` does not hold.
fn compare(wanted: &Value, there: &Value, path: &str, missing: &mut BTreeSet<String>) {
    const ANYTHING: &str = "x-kubernetes-preserve-unknown-fields";
    if there[ANYTHING] == true {
        return;
    }
    if there.is_null() || wanted[ANYTHING] == true {
        missing.insert(path.to_owned());
        return;
    }
    for (name, field) in wanted["properties"].as_object().into_iter().flatten() {
        compare(field, &there["properties"][name], &format!("{path}.{name}"), missing);
    }
    if wanted["items"].is_object() {
        compare(&wanted["items"], &there["items"], &format!("{path}[]"), missing);
    }
    if wanted["additionalProperties"].is_object() {
        compare(
            &wanted["additionalProperties"],
            &there["additionalProperties"],
            &format!("{path}.*"),
            missing,
        );
    }
    if let (Some(wanted), Some(there)) = (wanted["enum"].as_array(), there["enum"].as_array()) {
        let unknown = wanted.iter().filter(|word| !word.is_null() && !there.contains(word));
        missing.extend(unknown.map(|word| format!("{path}={}", word.as_str().unwrap_or_default())));
    }
}

/// The path of something that was `sent` and is not in what the server `kept`.
fn lost(sent: &Value, kept: &Value, path: &str) -> Option<String> {
    match (sent, kept) {
        (Value::Null, _) => None,
        (_, Value::Null) => Some(path.to_owned()),
        (Value::Object(sent), kept) => {
            sent.iter().find_map(|(name, value)| lost(value, &kept[name], &format!("{path}.{name}")))
        }
        (Value::Array(sent), kept) => sent
            .iter()
            .enumerate()
            .find_map(|(index, value)| lost(value, &kept[index], &format!("{path}[{index}]"))),
        (Value::Bool(_) | Value::Number(_) | Value::String(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The document of a server that has our definitions.
    fn document(change: impl FnOnce(&mut Value)) -> Value {
        let schema = |definition: Value, kind: &str| {
            let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": "sluice.dev", "version": "v1alpha1", "kind": kind}]);
            schema
        };
        let rollout = schema(serde_json::to_value(Rollout::crd()).unwrap(), "Rollout");
        let action = schema(serde_json::to_value(RolloutAction::crd()).unwrap(), "RolloutAction");
        let mut document = json!({"components": {"schemas": {"a": rollout, "b": action}}});
        change(&mut document);
        document
    }

    fn remove(document: &mut Value, parent: &str, field: &str) {
        let parent = document.pointer_mut(&format!("/components/schemas/{parent}")).unwrap();
        assert!(parent.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }

    fn older(change: impl FnOnce(&mut Value)) -> String {
        match judge(&document(change)) {
            Fit::Older(lacking) => lacking.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn our_own_definitions_fit() {
        assert_eq!(judge(&document(|_| ())), Fit::Fits);
    }

    #[test]
    fn a_field_that_is_missing_anywhere_makes_a_kind_older() {
        let status = "a/properties/status/properties";
        assert_eq!(older(|d| remove(d, status, "retiring")), "Rollout has no status.retiring");
        let nested = format!("{status}/decisions/items/properties");
        assert_eq!(older(|d| remove(d, &nested, "by")), "Rollout has no status.decisions[].by");
        let spec = "a/properties/spec/properties/checks/items/properties";
        assert_eq!(older(|d| remove(d, spec, "query")), "Rollout has no spec.checks[].query");
        assert_eq!(
            older(|d| remove(d, "b/properties/spec/properties", "reason")),
            "RolloutAction has no spec.reason"
        );
        let many = older(|d| {
            for field in ["retiring", "known", "handled", "pinned", "pause"] {
                remove(d, status, field);
            }
        });
        assert_eq!(many, "Rollout has no status.handled, status.known, status.pause and 2 more");
    }

    #[test]
    fn a_word_that_is_missing_makes_a_kind_older() {
        let path = "/components/schemas/a/properties/status/properties/phase/enum";
        let missing = older(|d| {
            let words = d.pointer_mut(path).unwrap().as_array_mut().unwrap();
            words.retain(|word| word != "Promoting");
        });
        assert_eq!(missing, "Rollout has no status.phase=Promoting");
    }

    #[test]
    fn a_memory_that_may_hold_anything_must_stay_so() {
        let path = "a/properties/status/properties/stage";
        let missing = older(|d| remove(d, path, "x-kubernetes-preserve-unknown-fields"));
        assert_eq!(missing, "Rollout has no status.stage");
    }

    #[test]
    fn more_than_ours_makes_a_kind_newer_and_less_counts_before_more() {
        let add = |d: &mut Value| {
            let status = d.pointer_mut("/components/schemas/a/properties/status/properties").unwrap();
            status["novel"] = json!({"type": "string"});
        };
        assert!(matches!(judge(&document(add)), Fit::Newer(more) if more.fields.contains("status.novel")));
        let both = older(|d| {
            add(d);
            remove(d, "a/properties/status/properties", "known");
        });
        assert_eq!(both, "Rollout has no status.known");
    }

    #[test]
    fn a_document_without_a_kind_tells_nothing() {
        assert!(matches!(judge(&json!({})), Fit::Unknown(_)));
    }

    #[test]
    fn what_the_server_dropped_is_found_wherever_it_was() {
        let sent = json!({"a": 1, "list": [{"x": 1, "y": [2]}], "nothing": null, "empty": {}});
        assert_eq!(lost(&sent, &sent, "status"), None);
        let mut kept = sent.clone();
        kept.as_object_mut().unwrap().remove("nothing");
        kept["more"] = json!(1);
        assert_eq!(lost(&sent, &kept, "status"), None);
        kept["list"][0].as_object_mut().unwrap().remove("y");
        assert_eq!(lost(&sent, &kept, "status").as_deref(), Some("status.list[0].y"));
    }

    #[test]
    fn what_was_dropped_stops_growth_until_the_kinds_fit() {
        let kinds = Kinds::default();
        assert!(kinds.refusal().is_none());
        kinds.compare(&json!({"known": []}), &json!({}));
        let refusal = kinds.refusal().unwrap();
        assert_eq!(refusal.reason, Reason::KindsOutdated);
        assert!(refusal.message.contains("status.known"), "{}", refusal.message);
        kinds.set(None);
        assert!(kinds.refusal().is_none());
    }
}
