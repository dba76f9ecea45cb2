//! What the API server wrote down about every request, so that tests can count them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::super::{Error, Result};

/// Everything, without bodies. The first stage of a request has no outcome yet.
pub(super) const POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
"omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}"#;

/// The same, and the answers to writes of the kinds whose history is told, for the versions that they made.
pub(super) const POLICY_WITH_VERSIONS: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
"omitStages": ["RequestReceived"], "omitManagedFields": true, "rules": [
{"level": "RequestResponse", "verbs": ["create", "update", "patch", "delete", "deletecollection"], "resources": [
    {"group": "sluice.dev"}, {"group": "networking.istio.io"}, {"group": "discovery.k8s.io"},
    {"group": "", "resources": ["services", "events"]}, {"group": "events.k8s.io"}]},
{"level": "Metadata"}]}"#;

/// The requests answered since this reader was made: see [`Cluster::audit`](super::Cluster::audit).
#[derive(Debug, Clone)]
pub struct Audit {
    log: PathBuf,
    from: u64,
}

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who asked.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The resource in plural, such as `virtualservices`; empty for paths like `/version`.
    pub resource: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
    /// Empty for what is not namespaced.
    pub namespace: String,
    /// Empty for lists, watches, and creations of generated names of kinds whose answers are not logged.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// The resourceVersion that a write was answered with, where answers are logged: see
    /// [`Options::history`](super::Options::history).
    pub version: Option<u64>,
    /// Whether it only asked what would happen.
    pub dry_run: bool,
    /// When the server had read the request, to the microsecond.
    pub received: DateTime<Utc>,
    /// When it had its answer (of a watch, when that began), to the microsecond. A write is committed before.
    pub answered: DateTime<Utc>,
}

impl AuditEntry {
    /// Whether the request asks for a change, refused or not.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

impl Audit {
    /// A reader of what comes from now on.
    pub(super) fn from_now(log: &Path) -> Self {
        Self { log: log.to_owned(), from: log.metadata().map_or(0, |meta| meta.len()) }
    }

    /// Every request once, in the order of their answers: a watch from when it begins, all others when they are done.
    pub fn entries(&self) -> Result<Vec<AuditEntry>> {
        self.clone().more()
    }

    /// The [`entries`](Self::entries) since the last call of this. A watch that ends is one more.
    pub(super) fn more(&mut self) -> Result<Vec<AuditEntry>> {
        let failed = || Error::path("read", &self.log);
        let mut file = File::open(&self.log).map_err(failed())?;
        file.seek(SeekFrom::Start(self.from)).map_err(failed())?;
        let mut file = BufReader::new(file);
        let (mut seen, mut entries, mut line) = (HashSet::new(), Vec::new(), Vec::new());
        loop {
            line.clear();
            let length = file.read_until(b'\n', &mut line).map_err(failed())?;
            // A line that is only half written now is complete at the next call.
            let Ok(event) = serde_json::from_slice::<Event>(&line) else { break };
            self.from += length as u64;
            if seen.insert(event.audit_id.clone()) {
                entries.push(event.into());
            }
        }
        Ok(entries)
    }

    /// [`entries`](Self::entries) of one user.
    pub fn of(&self, user: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.user == user);
        Ok(entries)
    }

    /// [`of`](Self::of) one user, those that ask for a change.
    pub fn writes_of(&self, user: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = self.of(user)?;
        entries.retain(AuditEntry::is_write);
        Ok(entries)
    }
}

// === the server's form ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    response_object: ResponseObject,
    #[serde(default, rename = "requestURI")]
    request_uri: String,
    request_received_timestamp: DateTime<Utc>,
    stage_timestamp: DateTime<Utc>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseObject {
    metadata: ResponseMetadata,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ResponseMetadata {
    name: String,
    resource_version: String,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        let ObjectRef { resource, subresource, namespace, name } = event.object_ref;
        let answer = event.response_object.metadata;
        Self {
            user: event.user.username,
            verb: event.verb,
            resource,
            subresource,
            namespace,
            name: if name.is_empty() { answer.name } else { name },
            code: event.response_status.code,
            version: answer.resource_version.parse().ok(),
            dry_run: event.request_uri.contains("dryRun=All"),
            received: event.request_received_timestamp,
            answered: event.stage_timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCH_BEGINS: &str = r#"{"auditID":"1","stage":"ResponseStarted","verb":"watch","user":{"username":"sluice"},"objectRef":{"resource":"rollouts"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:04:05.000600Z","stageTimestamp":"2026-01-02T03:04:05.000800Z"}"#;
    const PATCHED: &str = r#"{"auditID":"2","stage":"ResponseComplete","verb":"patch","user":{"username":"sluice"},"objectRef":{"resource":"rollouts","subresource":"status","namespace":"models","name":"iris"},"responseStatus":{"code":409},"requestReceivedTimestamp":"2026-01-02T03:04:05.000600Z","stageTimestamp":"2026-01-02T03:04:05.000800Z"}"#;
    const WATCH_ENDS: &str = r#"{"auditID":"1","stage":"ResponseComplete","verb":"watch","user":{"username":"sluice"},"objectRef":{"resource":"rollouts"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:04:05.000600Z","stageTimestamp":"2026-01-02T03:04:05.000800Z"}"#;

    #[test]
    fn a_request_counts_once_and_a_half_written_line_not_yet() {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), format!("{WATCH_BEGINS}\n")).unwrap();
        let later = Audit::from_now(log.path());
        let all = Audit { log: log.path().to_owned(), from: 0 };
        std::fs::write(log.path(), [WATCH_BEGINS, PATCHED, WATCH_ENDS, &PATCHED[..40]].join("\n")).unwrap();

        let verbs = |audit: &Audit| {
            audit.entries().unwrap().iter().map(|entry| entry.verb.clone()).collect::<Vec<_>>()
        };
        assert_eq!(verbs(&all), ["watch", "patch"]);
        assert_eq!(verbs(&later), ["patch", "watch"]);
        let [write] = &all.writes_of("sluice").unwrap()[..] else { panic!() };
        assert_eq!((write.subresource.as_str(), write.name.as_str(), write.code), ("status", "iris", 409));
        assert_eq!(all.of("somebody").unwrap(), []);
    }
}
