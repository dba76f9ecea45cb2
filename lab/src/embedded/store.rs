//! The objects, their versions, and the history that watches read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::{
    kind::Kind,
    object,
    record::{Asked, Count, Write},
    request::Request,
};
use crate::faults::{Verb, When};

/// Where an object is: kind (`plural.group`), namespace (empty for cluster-scoped ones), name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One change, as watches see it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) before: Option<Arc<Value>>,
    pub(super) after: Option<Arc<Value>>,
}

/// Who does what to which resource: what a committed write is recorded with.
#[derive(Clone, Debug)]
pub(super) struct Author {
    pub(super) user: String,
    pub(super) verb: Verb,
    pub(super) resource: String,
}

impl Author {
    pub(super) fn of(user: &str, request: &Request) -> Self {
        Self { user: user.into(), verb: request.verb, resource: request.resource() }
    }
}

/// A webhook: sees the request's author and the object before and after, may refuse.
pub(super) type Webhook = Arc<dyn Fn(&Write) -> Result<(), super::Refusal> + Send + Sync>;

/// Tells the time.
pub(super) type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

pub(super) struct Store {
    kinds: Vec<Arc<Kind>>,
    objects: BTreeMap<Key, Arc<Value>>,
    /// The latest resourceVersion; one counter for all, as etcd's.
    version: u64,
    /// What watches can still be given, oldest first.
    changes: VecDeque<Arc<Change>>,
    /// The oldest version a watch may start from.
    oldest: u64,
    /// The version of the newest change that is no longer kept; a running watch that has not read it has lost it.
    lost: u64,
    /// How many changes are kept.
    pub(super) keep: usize,
    uids: u64,
    clock: Clock,
    pub(super) webhooks: Vec<Webhook>,
    pub(super) writes: Vec<Write>,
    pub(super) requests: BTreeMap<Asked, Count>,
    /// Each request that would write, in the order they came: who, and what to strike it by.
    pub(super) written: Vec<(Arc<str>, When)>,
}

impl Store {
    pub(super) fn new(kinds: Vec<Kind>, clock: Clock, keep: usize) -> Self {
        Self {
            kinds: kinds.into_iter().map(Arc::new).collect(),
            objects: BTreeMap::new(),
            version: 1,
            changes: VecDeque::new(),
            oldest: 1,
            lost: 0,
            keep,
            uids: 0,
            clock,
            webhooks: Vec::new(),
            writes: Vec::new(),
            requests: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    // === kinds ===

    /// Adds a kind, or replaces the one of that group and plural.
    pub(super) fn register(&mut self, kind: Kind) {
        self.kinds.retain(|k| (&k.group, &k.plural) != (&kind.group, &kind.plural));
        self.kinds.push(Arc::new(kind));
    }

    pub(super) fn forget(&mut self, group: &str, plural: &str) {
        self.kinds.retain(|k| (k.group.as_str(), k.plural.as_str()) != (group, plural));
    }

    pub(super) fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    pub(super) fn kind(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let served = |k: &&Arc<Kind>| {
            k.group == group && k.plural == plural && k.versions.iter().any(|v| v == version)
        };
        self.kinds.iter().find(served).cloned()
    }

    pub(super) fn kind_of(&self, key: &Key) -> Option<Arc<Kind>> {
        self.kinds.iter().find(|k| k.resource() == key.resource).cloned()
    }

    // === objects ===

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    /// All objects of a kind, of one namespace or of all, in the order of namespace and name.
    pub(super) fn all<'a>(
        &'a self,
        kind: &Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let start = Key {
            resource: kind.resource(),
            namespace: namespace.unwrap_or_default().into(),
            name: String::new(),
        };
        let resource = start.resource.clone();
        self.objects
            .range(start..)
            .take_while(move |(k, _)| k.resource == resource && namespace.is_none_or(|n| k.namespace == n))
    }

    /// Every object there is.
    pub(super) fn everything(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Writes one object (or removes it) under the next version, unless a webhook objects.
    pub(super) fn commit(
        &mut self,
        author: &Author,
        key: &Key,
        after: Option<Value>,
    ) -> Result<Arc<Value>, super::Refusal> {
        let kind = self.kind_of(key).ok_or_else(super::Refusal::no_such_path)?;
        let version = self.version + 1;
        let before = self.objects.get(key).cloned();
        let after = after.map(|object| Arc::new(object::at_version(&object, version)));
        let write = Write {
            version,
            at: self.now(),
            user: author.user.clone(),
            verb: author.verb,
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            resource: author.resource.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            before: before.clone(),
            after: after.clone(),
        };
        for webhook in &self.webhooks {
            webhook(&write)?;
        }
        self.version = version;
        self.writes.push(write);
        match &after {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(key),
        };
        // What a delete leaves behind is the last object under the version of its deletion.
        let left = match (&after, &before) {
            (Some(object), _) => object.clone(),
            (None, Some(object)) => Arc::new(object::at_version(object, version)),
            (None, None) => Arc::default(),
        };
        let before = if after.is_none() { Some(left.clone()) } else { before };
        self.changes.push_back(Arc::new(Change { version, key: key.clone(), before, after }));
        while self.changes.len() > self.keep {
            if let Some(dropped) = self.changes.pop_front() {
                self.oldest = dropped.version;
                self.lost = dropped.version;
            }
        }
        Ok(left)
    }

    /// The objects of a kind as they were at an earlier version, as far as its changes are kept.
    pub(super) fn all_as_of(&self, kind: &Kind, namespace: Option<&str>, version: u64) -> Vec<Arc<Value>> {
        let now = self.all(kind, namespace).map(|(key, object)| (key.clone(), object.clone()));
        let mut objects: BTreeMap<Key, Arc<Value>> = now.collect();
        let is_here = |key: &Key| {
            key.resource == kind.resource() && namespace.is_none_or(|namespace| key.namespace == namespace)
        };
        let later = self.changes.iter().rev().take_while(|change| change.version > version);
        for change in later.filter(|change| is_here(&change.key)) {
            match &change.before {
                Some(before) => drop(objects.insert(change.key.clone(), before.clone())),
                None => drop(objects.remove(&change.key)),
            }
        }
        objects.into_values().collect()
    }

    // === history ===

    /// Whether a watch may start from here; if not, the oldest version it may start from.
    pub(super) fn can_start(&self, version: u64) -> Result<(), u64> {
        if version < self.oldest { Err(self.oldest) } else { Ok(()) }
    }

    /// Changes after `version`, or the oldest version to start from when some of them are lost.
    pub(super) fn changes_after(&self, version: u64) -> Result<impl Iterator<Item = &Arc<Change>>, u64> {
        if version < self.lost {
            return Err(self.oldest);
        }
        let first = self.changes.partition_point(|c| c.version <= version);
        Ok(self.changes.range(first..))
    }

    /// Forgets all history: a watch that starts from any version so far is answered 410. The counter goes on by one,
    /// or a client that has seen the latest version would not notice.
    pub(super) fn expire(&mut self) {
        if let Some(last) = self.changes.back() {
            self.lost = last.version;
        }
        self.changes.clear();
        self.version += 1;
        self.oldest = self.version;
    }

    // === what the server fills in ===

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// The time as metadata carries it: whole seconds.
    pub(super) fn timestamp(&self) -> Value {
        self.now().to_rfc3339_opts(SecondsFormat::Secs, true).into()
    }

    /// The next uid: unique in this API, the same in every run.
    pub(super) fn next_uid(&mut self) -> String {
        self.uids += 1;
        format!("5100ce00-0000-4000-8000-{:012x}", self.uids)
    }

    /// Five characters as `generateName` appends them, from the counter instead of from chance.
    pub(super) fn next_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.uids += 1;
        let mut rest = self.uids;
        let mut suffix = String::with_capacity(5);
        for _ in 0..5 {
            let digit = usize::try_from(rest % ALPHABET.len() as u64).unwrap_or_default();
            suffix.insert(0, char::from(ALPHABET[digit]));
            rest /= ALPHABET.len() as u64;
        }
        suffix
    }
}
