//! What must hold between a `VirtualService` before and after an edit: its own arithmetic on the raw objects.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_core::{Predictor, traffic::Setting};

/// Where an entry sends requests: full host, port and subset.
pub type Key = (String, Option<u64>, Option<String>);

/// What the oracle knows of the cluster.
pub struct World {
    pub domain: &'static str,
    /// Namespace of the `VirtualService`.
    pub namespace: &'static str,
    /// Ports by `service.namespace`.
    pub ports: BTreeMap<&'static str, Vec<u16>>,
}

impl World {
    pub fn ports_of(&self, namespace: &str, service: &str) -> Option<Vec<u16>> {
        self.ports.get(format!("{service}.{namespace}").as_str()).cloned()
    }

    pub fn key_of(&self, predictor: &Predictor) -> Key {
        let Predictor { namespace, service, port, subset } = predictor;
        (format!("{service}.{namespace}.svc.{}", self.domain), Some(u64::from(*port)), subset.clone())
    }

    pub fn key(&self, entry: &Value) -> Key {
        let destination = &entry["destination"];
        let written = destination["host"].as_str().unwrap();
        let host = if written.contains('.') {
            written.to_owned()
        } else {
            format!("{written}.{}.svc.{}", self.namespace, self.domain)
        };
        let service = host.strip_suffix(self.domain).and_then(|host| host.strip_suffix(".svc."));
        let only_port = || match self.ports.get(service?)?.as_slice() {
            [port] => Some(u64::from(*port)),
            _ => None,
        };
        let port = destination["port"]["number"].as_u64().or_else(only_port);
        (host, port, destination["subset"].as_str().map(str::to_owned))
    }
}

/// The keys that a setting manages.
pub struct Managed {
    pub stable: Key,
    pub canary: Option<Key>,
    pub retiring: Vec<Key>,
    pub known: Vec<Key>,
}

impl Managed {
    pub fn of(world: &World, setting: &Setting) -> Self {
        let stable = world.key_of(&setting.stable);
        let canary = setting.canary.iter().map(|it| world.key_of(it)).find(|key| *key != stable);
        let arms = [Some(&stable), canary.as_ref()];
        let others = |list: &[Predictor]| {
            let keys = list.iter().map(|it| world.key_of(it));
            keys.filter(|key| !arms.contains(&Some(key))).collect::<Vec<_>>()
        };
        let retiring = others(&setting.retiring);
        let known = others(&setting.known).into_iter().filter(|key| !retiring.contains(key)).collect();
        Self { stable, canary, retiring, known }
    }

    pub fn has(&self, key: &Key) -> bool {
        *key == self.stable
            || self.canary.as_ref() == Some(key)
            || self.retiring.contains(key)
            || self.known.contains(key)
    }
}

/// The destinations of a route; none for one that has no such list.
pub fn entries(route: &Value) -> &[Value] {
    route["route"].as_array().map_or(&[], Vec::as_slice)
}

/// What an entry's weight counts as.
pub fn weight(entries: &[Value], index: usize) -> u64 {
    match entries[index]["weight"].as_u64().unwrap_or(0) {
        0 if entries.len() == 1 => 100,
        weight => weight,
    }
}

/// Weights by key.
pub fn weights(world: &World, route: &Value) -> BTreeMap<Key, u64> {
    let list = entries(route);
    (0..list.len()).map(|index| (world.key(&list[index]), weight(list, index))).collect()
}

/// Indexes of the routes that a setting moves: those of `names`, or those that list anybody managed.
pub fn moved(world: &World, managed: &Managed, vs: &Value, names: &[&str]) -> Vec<usize> {
    let http = vs["spec"]["http"].as_array().unwrap();
    let is_moved = |route: &Value| match names {
        [] => entries(route).iter().any(|entry| managed.has(&world.key(entry))),
        names => route["name"].as_str().is_some_and(|name| names.contains(&name)),
    };
    (0..http.len()).filter(|index| is_moved(&http[*index])).collect()
}

/// Panics with what is wrong if `after` is not what `setting` makes of the routes `moved` of `before`.
pub fn check(world: &World, setting: &Setting, before: &Value, after: &Value, moved: &[usize]) {
    let managed = Managed::of(world, setting);
    assert_eq!(
        without_destinations(before, moved),
        without_destinations(after, moved),
        "the rest is as it was"
    );
    for &index in moved {
        check_route(world, setting, &managed, &before["spec"]["http"][index], &after["spec"]["http"][index]);
    }
}

fn without_destinations(vs: &Value, moved: &[usize]) -> Value {
    let mut vs = vs.clone();
    for &index in moved {
        vs["spec"]["http"][index]["route"] = Value::Null;
    }
    vs
}

fn check_route(world: &World, setting: &Setting, managed: &Managed, before: &Value, after: &Value) {
    let (old, new) = (entries(before), entries(after));
    let foreign = |list: &[Value]| -> Vec<Value> {
        list.iter().filter(|entry| !managed.has(&world.key(entry))).cloned().collect()
    };
    assert_eq!(foreign(old), foreign(new), "others keep place, weight and fields");

    let managed_sum = |list: &[Value]| -> u64 {
        let indexes = 0..list.len();
        indexes.filter(|it| managed.has(&world.key(&list[*it]))).map(|it| weight(list, it)).sum()
    };
    let everything: u64 = (0..old.len()).map(|it| weight(old, it)).sum();
    let share = if everything == 0 { 100 } else { managed_sum(old) };
    assert_eq!(managed_sum(new), share, "the pair keeps its share: {before} {after}");
    assert!((0..new.len()).any(|it| weight(new, it) > 0), "never all zero: {after}");
    assert!((0..new.len()).all(|it| weight(new, it) <= 100), "weights are 0 to 100: {after}");

    let find = |list: &[Value], key: &Key| {
        let found: Vec<_> = (0..list.len()).filter(|it| world.key(&list[*it]) == *key).collect();
        assert!(found.len() <= 1, "listed once: {after}");
        found.first().copied()
    };
    let stable = find(new, &managed.stable).expect("stable is listed");
    if let Some(canary) = &managed.canary {
        let canary = find(new, canary).expect("the canary is listed");
        assert_eq!(weight(new, canary), share * u64::from(setting.weight.min(100)) / 100, "rounded down");
        assert!(new[stable]["weight"].is_u64() && new[canary]["weight"].is_u64(), "both are written");
        if find(old, managed.canary.as_ref().unwrap()).is_none() {
            assert_eq!(canary, stable + 1, "right after stable");
            assert_eq!(beside_destination(&new[canary]), beside_destination(&new[stable]), "a copy");
        }
    }
    for key in &managed.retiring {
        let place = find(new, key);
        assert_eq!(place.is_some(), find(old, key).is_some(), "retiring ones neither come nor go");
        assert!(place.is_none_or(|place| weight(new, place) == 0), "retiring ones have nothing");
    }
    assert!(managed.known.iter().all(|key| find(new, key).is_none()), "predictors of the past are gone");

    for entry in new.iter().filter(|entry| managed.has(&world.key(entry))) {
        if let Some(place) = find(old, &world.key(entry)) {
            assert_eq!(beside_weight(entry), beside_weight(&old[place]), "only its weight");
        } else {
            let mut models = old.iter().filter(|entry| managed.has(&world.key(entry)));
            assert!(models.any(|model| beside_destination(model) == beside_destination(entry)));
        }
    }
}

fn beside_weight(entry: &Value) -> Value {
    let mut entry = entry.clone();
    entry["weight"] = Value::Null;
    entry
}

fn beside_destination(entry: &Value) -> Value {
    let mut entry = beside_weight(entry);
    for field in ["host", "port", "subset"] {
        entry["destination"][field] = Value::Null;
    }
    entry
}
