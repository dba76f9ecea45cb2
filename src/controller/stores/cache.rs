//! What is kept of one kind, found by name and by what it belongs to.
//!
//! kube's own store keeps whole objects, holds two of each while a watch lists again, and can only be searched from one end
//! to the other. This one keeps what is read and no more, has an index, and says what a change touches: an object that
//! is as it was touches nothing, and one that went while nobody was looking is found missing at the end of the list.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::runtime::watcher::Event;
use tokio::sync::watch;

/// `namespace/name`, in one piece.
pub(super) type Name = Arc<str>;

/// The name of an object.
pub(super) fn name(namespace: &str, name: &str) -> Name {
    format!("{namespace}/{name}").into()
}

/// What is kept of an object.
pub(super) trait Entry: PartialEq {
    /// What it can belong to.
    type Group: Clone + Eq + Hash;

    /// What it belongs to. Each once.
    fn groups(&self) -> Vec<Self::Group>;
}

/// An object that changed, and all that it belonged to before or belongs to now.
#[derive(Debug, PartialEq)]
pub(super) struct Touched<G> {
    pub(super) name: Name,
    pub(super) groups: Vec<G>,
}

/// What is kept of one kind.
pub(super) struct Cache<T: Entry> {
    inner: RwLock<Inner<T>>,
    filled: watch::Sender<bool>,
}

struct Inner<T: Entry> {
    there: HashMap<Name, Arc<T>>,
    groups: HashMap<T::Group, Vec<Name>>,
    /// The names that a list that is underway has shown.
    listed: Option<HashSet<Name>>,
}

impl<T: Entry> Default for Cache<T> {
    fn default() -> Self {
        let inner = Inner { there: HashMap::new(), groups: HashMap::new(), listed: None };
        Self { inner: RwLock::new(inner), filled: watch::Sender::new(false) }
    }
}

impl<T: Entry> Cache<T> {
    /// Takes up what a watch says. What is nothing to keep is as good as gone.
    pub(super) fn apply(&self, event: Event<(Name, Option<T>)>) -> Vec<Touched<T::Group>> {
        let mut inner = self.write();
        match event {
            Event::Init => {
                inner.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply((name, entry)) => {
                if let Some(listed) = &mut inner.listed {
                    listed.insert(name.clone());
                }
                inner.put(name, entry).into_iter().collect()
            }
            Event::InitDone => {
                let touched = inner.drop_unlisted();
                self.filled.send_replace(true);
                touched
            }
            Event::Apply((name, entry)) => inner.put(name, entry).into_iter().collect(),
            Event::Delete((name, _)) => inner.put(name, None).into_iter().collect(),
        }
    }

    /// What is kept under a name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<T>> {
        self.read().there.get(name).cloned()
    }

    /// The names of all.
    pub(super) fn names(&self) -> Vec<Name> {
        self.read().there.keys().cloned().collect()
    }

    /// Nobody will fill it.
    pub(super) fn stays_empty(&self) {
        self.filled.send_replace(true);
    }

    /// The names of all that belong to `group`.
    pub(super) fn names_of(&self, group: &T::Group) -> Vec<Name> {
        self.read().groups.get(group).cloned().unwrap_or_default()
    }

    /// All that belong to `group`, with their names.
    pub(super) fn all_of(&self, group: &T::Group) -> Vec<(Name, Arc<T>)> {
        let inner = self.read();
        let names = inner.groups.get(group).into_iter().flatten();
        names.filter_map(|name| Some((name.clone(), inner.there.get(name)?.clone()))).collect()
    }

    /// Resolves when all was listed once.
    pub(super) async fn filled(&self) {
        // It fails when nobody can fill it any more, and nobody is: we hold the sender.
        let _ = self.filled.subscribe().wait_for(|filled| *filled).await;
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<T>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<T>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Entry> Inner<T> {
    fn put(&mut self, name: Name, entry: Option<T>) -> Option<Touched<T::Group>> {
        let before = self.there.get(&name).cloned();
        if before.as_deref() == entry.as_ref() {
            return None;
        }
        let left = before.map(|before| before.groups()).unwrap_or_default();
        let joined = entry.as_ref().map(Entry::groups).unwrap_or_default();
        // The name is kept once, however often it stands in the index.
        let name = self.there.get_key_value(&name).map_or(name, |(name, _)| name.clone());
        for group in left.iter().filter(|group| !joined.contains(group)) {
            self.leave(group, &name);
        }
        for group in joined.iter().filter(|group| !left.contains(group)) {
            self.groups.entry(group.clone()).or_default().push(name.clone());
        }
        match entry {
            Some(entry) => drop(self.there.insert(name.clone(), Arc::new(entry))),
            None => drop(self.there.remove(&name)),
        }
        let mut groups = left;
        groups.extend(joined);
        Some(Touched { name, groups })
    }

    fn leave(&mut self, group: &T::Group, name: &Name) {
        if let Some(names) = self.groups.get_mut(group) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    fn drop_unlisted(&mut self) -> Vec<Touched<T::Group>> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone: Vec<Name> = self.there.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        gone.into_iter().filter_map(|name| self.put(name, None)).collect()
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
