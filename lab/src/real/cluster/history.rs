//! Every committed state, with who wrote it: what the embedded API's history is, for the real one.
//!
//! It is read from etcd and not from a watch of the API. etcd keeps every revision of every key (the API server is told
//! not to compact), so nothing can be lost by being slow, by a watch that breaks or by a restart of the API server: either
//! all revisions up to the present one come, or it is an error. A revision is what the API calls a resourceVersion. Who
//! wrote it and when is in the audit log, which has the resourceVersion of each answer; that the two agree is
//! [checked](History::commits).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::super::{Error, Result, wait};
use super::audit::{Audit, AuditEntry};
use crate::invariants::Commit;

/// The log is written a moment after the answer, unless the machine is busy.
const LOGGED_WITHIN: Duration = Duration::from_mins(1);

/// Where etcd has the kinds that are told of, and what their resource is called.
const KINDS: [(&str, &str); 6] = [
    ("/registry/sluice.dev/rollouts/", "rollouts"),
    ("/registry/sluice.dev/rolloutactions/", "rolloutactions"),
    ("/registry/networking.istio.io/virtualservices/", "virtualservices"),
    ("/registry/services/specs/", "services"),
    ("/registry/endpointslices/", "endpointslices"),
    ("/registry/events/", "events"),
];

/// The history of a cluster, from when it was first asked for one: see [`Cluster::history`](super::Cluster::history).
pub struct History {
    etcd: String,
    read: Mutex<Read>,
}

/// What has been read so far.
struct Read {
    /// All revisions up to here were.
    revision: u64,
    changes: Vec<Change>,
    audit: Audit,
    /// The writes that were carried out.
    writes: Vec<AuditEntry>,
}

/// A revision of an object.
#[derive(Clone, Debug)]
struct Change {
    version: u64,
    plural: &'static str,
    namespace: String,
    name: String,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

/// What commits may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authors {
    /// Each has its entry in the audit log.
    All,
    /// The API server was killed: what it had committed and not yet answered is in no log.
    Some,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("etcd", &self.etcd).finish_non_exhaustive()
    }
}

impl History {
    /// What comes from now on.
    pub(super) async fn from_now(etcd: String, audit: Audit) -> Result<Self> {
        let revision = revision(&etcd).await?;
        let read = Read { revision, changes: Vec::new(), audit, writes: Vec::new() };
        Ok(Self { etcd, read: Mutex::new(read) })
    }

    /// Every commit in a namespace so far, in the order of versions.
    ///
    /// An error where history and audit log do not agree: a write that was answered with a version that the history does
    /// not have, or, unless the server was killed, a commit that nobody was answered.
    pub async fn commits(&self, namespace: &str, authors: Authors) -> Result<Vec<Commit>> {
        let limit = if authors == Authors::All { LOGGED_WITHIN } else { Duration::from_secs(1) };
        let signed = wait::until(limit, format!("history and audit log of {namespace} agree"), || async {
            // The log first: what it tells of is in the history by then, and what is written meanwhile comes at the next look.
            let entries = self.entries(namespace).await.map_err(|error| error.to_string())?;
            let changes = self.changes(namespace).await.map_err(|error| error.to_string())?;
            let Signed { commits, missing, unsigned } = Signed::new(&changes, &entries);
            if missing.is_empty() && unsigned.is_empty() {
                return Ok(commits);
            }
            Err(format!("not in the history: {missing:?}; not in the log: {unsigned:?}"))
        });
        match signed.await {
            Err(Error::Waited { .. }) if authors == Authors::Some => {
                let entries = self.entries(namespace).await?;
                Ok(Signed::new(&self.changes(namespace).await?, &entries).commits)
            }
            signed => signed,
        }
    }

    /// What the history has of a namespace.
    async fn changes(&self, namespace: &str) -> Result<Vec<Change>> {
        let mut read = self.read.lock().await;
        self.catch_up(&mut read).await?;
        Ok(read.changes.iter().filter(|change| change.namespace == namespace).cloned().collect())
    }

    /// The writes that were carried out in a namespace.
    async fn entries(&self, namespace: &str) -> Result<Vec<AuditEntry>> {
        let mut read = self.read.lock().await;
        let mut more = read.audit.more()?;
        more.retain(|entry| {
            entry.is_write()
                && (200..300).contains(&entry.code)
                && !entry.dry_run
                && KINDS.iter().any(|(_, plural)| *plural == entry.resource)
        });
        read.writes.extend(more);
        Ok(read.writes.iter().filter(|entry| entry.namespace == namespace).cloned().collect())
    }

    /// Reads every revision up to the present one.
    async fn catch_up(&self, read: &mut Read) -> Result<()> {
        let present = revision(&self.etcd).await?;
        if read.revision >= present {
            return Ok(());
        }
        let everything = ByteString(vec![0]);
        let watch = json!({"create_request": {
            "key": everything, "range_end": everything, "start_revision": (read.revision + 1).to_string(),
            "prev_kv": true, "fragment": true,
        }});
        let failed = |error: reqwest::Error| Error::Etcd(error.to_string());
        let answer = reqwest::Client::new().post(format!("{}/v3/watch", self.etcd)).json(&watch).send().await;
        let mut answer = answer.map_err(failed)?;
        let mut buffer: Vec<u8> = Vec::new();
        let mut searched = 0;
        // Every revision is of some key, so the present one comes.
        while read.revision < present {
            let Some(chunk) = answer.chunk().await.map_err(failed)? else {
                return Err(Error::Etcd(format!("the watch ended at {} of {present}", read.revision)));
            };
            buffer.extend_from_slice(&chunk);
            let mut begin = 0;
            while let Some(end) = buffer[searched.max(begin)..].iter().position(|byte| *byte == b'\n') {
                let end = searched.max(begin) + end;
                read.take(&buffer[begin..end])?;
                begin = end + 1;
            }
            buffer.drain(..begin);
            searched = buffer.len();
        }
        Ok(())
    }
}

impl Read {
    fn take(&mut self, line: &[u8]) -> Result<()> {
        let unreadable = |error: serde_json::Error| Error::Etcd(error.to_string());
        let answer: Watched = serde_json::from_slice(line).map_err(unreadable)?;
        let Some(result) = answer.result else {
            return Err(Error::Etcd(String::from_utf8_lossy(line).into_owned()));
        };
        if result.canceled {
            return Err(Error::Etcd(format!("the watch was cancelled: {}", result.cancel_reason)));
        }
        for event in result.events {
            let version = event.kv.mod_revision.parse().unwrap_or_default();
            let key = String::from_utf8_lossy(&event.kv.key.0).into_owned();
            let place = KINDS.iter().find_map(|(prefix, plural)| {
                let (namespace, name) = key.strip_prefix(prefix)?.split_once('/')?;
                Some((*plural, namespace.to_owned(), name.to_owned()))
            });
            if let Some((plural, namespace, name)) = place {
                let before = event.prev_kv.as_ref().map(Kv::object).transpose().map_err(unreadable)?;
                let is_gone = event.r#type == "DELETE";
                let after = if is_gone { None } else { Some(event.kv.object().map_err(unreadable)?) };
                self.changes.push(Change { version, plural, namespace, name, before, after });
            }
            self.revision = self.revision.max(version);
        }
        Ok(())
    }
}

/// The latest revision there is.
async fn revision(etcd: &str) -> Result<u64> {
    let failed = |error: reqwest::Error| Error::Etcd(error.to_string());
    let request = reqwest::Client::new().post(format!("{etcd}/v3/kv/range"));
    let answer = request.json(&json!({"key": ByteString(vec![0]), "count_only": true})).send().await;
    let answer: Ranged = answer.map_err(failed)?.json().await.map_err(failed)?;
    answer
        .header
        .revision
        .parse()
        .map_err(|error| Error::Etcd(format!("{:?}: {error}", answer.header.revision)))
}

// === who wrote it ===

/// Commits, and where the two books differ.
struct Signed {
    commits: Vec<Commit>,
    missing: Vec<String>,
    unsigned: Vec<String>,
}

impl Signed {
    fn new(changes: &[Change], writes: &[AuditEntry]) -> Self {
        // The first with a version made it; later ones changed nothing.
        let mut by_version: HashMap<(&str, &str, u64), &AuditEntry> = HashMap::new();
        for entry in writes {
            if let Some(version) = entry.version {
                by_version.entry((&entry.resource, &entry.name, version)).or_insert(entry);
            }
        }
        let mut signed = Self { commits: Vec::new(), missing: Vec::new(), unsigned: Vec::new() };
        for change in changes {
            let author = by_version.get(&(change.plural, &change.name, change.version)).copied();
            // A deletion is answered with a status or with the last version that there was.
            let author =
                author.or_else(|| change.after.is_none().then(|| removal(change, changes, writes))?);
            let described = format!("{} {} {}", change.plural, change.name, change.version);
            let Some(author) = author else {
                signed.unsigned.push(described);
                // As early as what comes next, see below; the last is of now.
                signed.commits.push(change.commit(None, change.plural.to_owned(), Utc::now()));
                continue;
            };
            let resource = crate::faults::resource(change.plural, &author.subresource);
            signed.commits.push(change.commit(Some(author.user.clone()), resource, author.received));
        }
        for entry in writes {
            let Some(version) = entry.version else { continue };
            let has = |change: &Change| {
                let before = change.before.as_deref().map_or(0, version_of);
                change.plural == entry.resource
                    && change.name == entry.name
                    && (change.version == version || before == version)
            };
            if !changes.iter().any(has) {
                signed.missing.push(format!("{} {} {} {version}", entry.verb, entry.resource, entry.name));
            }
        }
        signed.commits.sort_by_key(|commit| commit.version);
        // Requests overtake each other on their way to the store, and time goes forward only.
        let mut end = DateTime::<Utc>::MAX_UTC;
        for commit in signed.commits.iter_mut().rev() {
            end = end.min(commit.at);
            commit.at = end;
        }
        signed
    }
}

/// The write that took an object away: the last one of it before it was there again.
fn removal<'e>(change: &Change, changes: &[Change], writes: &'e [AuditEntry]) -> Option<&'e AuditEntry> {
    let same = |plural: &str, name: &str| plural == change.plural && name == change.name;
    let nth = changes
        .iter()
        .filter(|other| same(other.plural, &other.name) && other.after.is_none())
        .position(|other| other.version == change.version)?;
    let lives = writes.iter().filter(|entry| same(&entry.resource, &entry.name));
    let mut of_life: Vec<Option<&AuditEntry>> = vec![None];
    for entry in lives {
        if entry.verb == "create" && of_life.last().is_some_and(Option::is_some) && of_life.len() <= nth {
            of_life.push(None);
        }
        let last = of_life.len() - 1;
        of_life[last] = Some(entry);
    }
    let last = of_life.get(nth).copied().flatten()?;
    // A creation takes nothing away: what did is not in the log yet.
    (last.verb != "create").then_some(last)
}

impl Change {
    fn commit(&self, by: Option<String>, resource: String, at: DateTime<Utc>) -> Commit {
        Commit {
            version: self.version,
            at,
            by,
            resource,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            before: self.before.clone(),
            after: self.after.clone(),
        }
    }
}

fn version_of(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

// === etcd's form ===

#[derive(Deserialize)]
struct Ranged {
    header: Header,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct Watched {
    result: Option<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    /// Absent for a change.
    #[serde(default)]
    r#type: String,
    kv: Kv,
    prev_kv: Option<Kv>,
}

#[derive(Deserialize)]
struct Kv {
    key: ByteString,
    mod_revision: String,
    /// Base64, which most need not be read.
    #[serde(default)]
    value: Value,
}

impl Kv {
    /// The object, under the version that the API gives it.
    fn object(&self) -> serde_json::Result<Arc<Value>> {
        let bytes: ByteString = serde_json::from_value(self.value.clone())?;
        let mut object: Value = serde_json::from_slice(&bytes.0)?;
        object["metadata"]["resourceVersion"] = json!(self.mod_revision);
        Ok(Arc::new(object))
    }
}
