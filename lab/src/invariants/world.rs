//! The world as the commits so far make it, and what was ever recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{
    objects::{self, Given, Name, Predictor, plural},
    run::{Commit, Limits, Mark, Run},
};

/// A decision as it was first recorded.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) decision: Value,
    /// When it was committed.
    pub(super) at: DateTime<Utc>,
}

/// A Rollout, and what is left of it when it is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Rollout {
    /// Nothing when it is gone.
    pub(super) object: Option<Arc<Value>>,
    /// What was ever recorded under a number. Several under one, where a status was lost or edited.
    pub(super) recorded: BTreeMap<u64, Vec<Recorded>>,
}

impl Rollout {
    /// Its status; null where there is none.
    pub(super) fn status(&self) -> &Value {
        self.object.as_ref().map_or(&Value::Null, |object| &object["status"])
    }

    /// The latest decision that was recorded and is like that.
    pub(super) fn last(&self, like: impl Fn(&Value) -> bool) -> Option<&Recorded> {
        self.recorded.values().rev().flatten().find(|recorded| like(&recorded.decision))
    }

    /// The largest weight that was recorded under a number.
    pub(super) fn weight_of(&self, seq: u64) -> Option<u64> {
        self.given_by(seq)?.iter().map(|given| given.weight).max()
    }

    /// All that was recorded under a number.
    pub(super) fn given_by(&self, seq: u64) -> Option<Vec<Given>> {
        let all = self.recorded.get(&seq)?;
        Some(all.iter().map(|recorded| Given::after(&recorded.decision)).collect())
    }
}

/// The objects of one moment.
pub(super) struct World<'r> {
    pub(super) run: &'r Run,
    pub(super) rollouts: BTreeMap<Name, Rollout>,
    pub(super) virtual_services: BTreeMap<Name, Arc<Value>>,
    /// Of all other kinds, by plural.
    pub(super) others: BTreeMap<(String, Name), Arc<Value>>,
    /// Since when a Service has, or has not, a ready endpoint.
    readiness: BTreeMap<Name, (bool, DateTime<Utc>)>,
    pub(super) now: DateTime<Utc>,
    pub(super) version: u64,
}

impl<'r> World<'r> {
    pub(super) fn new(run: &'r Run) -> Self {
        Self {
            run,
            rollouts: BTreeMap::new(),
            virtual_services: BTreeMap::new(),
            others: BTreeMap::new(),
            readiness: BTreeMap::new(),
            now: run.commits.first().map_or(run.until, |commit| commit.at),
            version: 0,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.run.limits
    }

    /// Takes a commit over.
    pub(super) fn apply(&mut self, commit: &Commit) {
        let name = (commit.namespace.clone(), commit.name.clone());
        (self.now, self.version) = (commit.at, commit.version);
        match plural(&commit.resource) {
            "rollouts" => {
                let rollout = self.rollouts.entry(name).or_default();
                rollout.object.clone_from(&commit.after);
                let status = commit.after.as_ref().map_or(&Value::Null, |after| &after["status"]);
                for decision in objects::decisions(status) {
                    let seq = decision["seq"].as_u64().unwrap_or(0);
                    let all = rollout.recorded.entry(seq).or_default();
                    if all.iter().all(|recorded| recorded.decision != *decision) {
                        all.push(Recorded { decision: decision.clone(), at: commit.at });
                    }
                }
            }
            "virtualservices" => put(&mut self.virtual_services, name, commit.after.as_ref()),
            plural => put(&mut self.others, (plural.to_owned(), name), commit.after.as_ref()),
        }
        if plural(&commit.resource) == "endpointslices" {
            let both = [&commit.before, &commit.after].into_iter().flatten();
            let services: BTreeSet<Name> =
                both.map(|slice| (commit.namespace.clone(), service(slice).to_owned())).collect();
            for service in services {
                let ready = self.endpoints(&service) > 0;
                let known = self.readiness.entry(service).or_insert((ready, commit.at));
                if known.0 != ready {
                    *known = (ready, commit.at);
                }
            }
        }
    }

    pub(super) fn rollout(&self, name: &Name) -> Option<&Rollout> {
        self.rollouts.get(name)
    }

    /// Those that exist, with their object.
    pub(super) fn existing(&self) -> impl Iterator<Item = (&Name, &Rollout, &Arc<Value>)> {
        self.rollouts.iter().filter_map(|(name, rollout)| Some((name, rollout, rollout.object.as_ref()?)))
    }

    /// Objects of a kind in a namespace.
    pub(super) fn all<'w>(
        &'w self,
        plural: &'w str,
        namespace: &'w str,
    ) -> impl Iterator<Item = &'w Arc<Value>> {
        let of_kind =
            self.others.iter().filter(move |((kind, name), _)| kind == plural && name.0 == namespace);
        of_kind.map(|(_, object)| object)
    }

    /// An action by its uid.
    pub(super) fn action<'w>(&'w self, namespace: &'w str, uid: &str) -> Option<&'w Arc<Value>> {
        self.all("rolloutactions", namespace).find(|action| action["metadata"]["uid"] == uid)
    }

    /// How many ready endpoints a Service has.
    pub(super) fn endpoints(&self, service: &Name) -> usize {
        let slices = self.all("endpointslices", &service.0).filter(|slice| self::service(slice) == service.1);
        // As Kubernetes says: an endpoint that does not tell is ready.
        let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != false;
        slices.map(|slice| objects::list(&slice["endpoints"]).filter(ready).count()).sum()
    }

    /// How many ready endpoints a predictor has: of a subset those whose pods carry its labels. A subset that no
    /// DestinationRule has counts as its Service, and so does a pod that nobody knows.
    pub(super) fn ready_of(&self, predictor: &Predictor) -> usize {
        let Some(labels) = self.labels_of(predictor) else { return self.endpoints(&predictor.name()) };
        let (namespace, service) = predictor.name();
        let slices = self.all("endpointslices", &namespace).filter(|slice| self::service(slice) == service);
        let endpoints = slices.flat_map(|slice| objects::list(&slice["endpoints"]));
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        let is_of_it = |endpoint: &&Value| {
            let pod = (namespace.clone(), objects::text(&endpoint["targetRef"]["name"]).to_owned());
            let pod = self.others.get(&("pods".to_owned(), pod));
            let carries = |pod: &Arc<Value>| {
                labels.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value)
            };
            pod.is_none_or(carries)
        };
        ready.filter(is_of_it).count()
    }

    fn labels_of(&self, predictor: &Predictor) -> Option<BTreeMap<String, Value>> {
        let name = predictor.subset.as_deref()?;
        let of_it = |rule: &&Arc<Value>| {
            let host = objects::service_of(objects::text(&rule["spec"]["host"]), &predictor.namespace);
            host == Some(predictor.name())
        };
        let rules = self.all("destinationrules", &predictor.namespace).filter(of_it);
        let mut subsets = rules.flat_map(|rule| objects::list(&rule["spec"]["subsets"]));
        let subset = subsets.find(|subset| subset["name"] == name)?;
        let labels = subset["labels"].as_object().into_iter().flatten();
        Some(labels.map(|(label, value)| (label.clone(), value.clone())).collect())
    }

    /// Since when a Service has had no ready endpoint; nothing when it has one.
    pub(super) fn unready_since(&self, service: &Name) -> Option<DateTime<Utc>> {
        match self.readiness.get(service) {
            Some((true, _)) => None,
            Some((false, since)) => Some(*since),
            None => Some(DateTime::<Utc>::MIN_UTC),
        }
    }

    /// Whether everybody knows by now that a predictor has no ready endpoint.
    pub(super) fn is_known_unready(&self, predictor: &Predictor, now: DateTime<Utc>) -> bool {
        // Since when a subset has had none nobody has kept.
        if predictor.subset.is_some() && self.endpoints(&predictor.name()) > 0 {
            return false;
        }
        let since = self.unready_since(&predictor.name());
        since.is_some_and(|since| now.signed_duration_since(since) > self.limits().news)
    }

    /// How long something has lasted in which something could be done about it.
    pub(super) fn waited(&self, since: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
        let mut away: Vec<_> = self
            .run
            .marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::Away { from, to } => Some(((*from).max(since), to.unwrap_or(now).min(now))),
                Mark::Breach { .. } | Mark::Outage { .. } | Mark::Rest { .. } => None,
            })
            .filter(|(from, to)| from < to)
            .collect();
        away.sort();
        let (mut lost, mut counted) = (TimeDelta::zero(), since);
        for (from, to) in away {
            let from = from.max(counted);
            if from < to {
                lost += to - from;
                counted = to;
            }
        }
        now - since - lost
    }

    /// The Rollouts that a write of this VirtualService is about: those whose stamp it changed; where it changed none,
    /// those that move routes of it.
    pub(super) fn concerned(&self, commit: &Commit) -> Vec<Name> {
        let stamps = |object: &Option<Arc<Value>>| {
            object.as_ref().map(|object| objects::stamps(object)).unwrap_or_default()
        };
        let (before, after) = (stamps(&commit.before), stamps(&commit.after));
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let stamped: Vec<Name> = keys
            .into_iter()
            .filter(|key| before.get(*key) != after.get(*key))
            .filter_map(|key| name(key))
            .collect();
        if !stamped.is_empty() {
            return stamped;
        }
        let object = (commit.namespace.clone(), commit.name.clone());
        let moves = self
            .existing()
            .filter(|(name, _, rollout)| objects::routes(rollout, &name.0).contains_key(&object));
        moves.map(|(name, ..)| name.clone()).collect()
    }

    /// All objects that can have a stamp.
    pub(super) fn stamped(&self) -> impl Iterator<Item = &Arc<Value>> {
        let deployments = self.others.iter().filter(|((plural, _), _)| plural == "seldondeployments");
        self.virtual_services.values().chain(deployments.map(|(_, object)| object))
    }

    /// The predictors whose weights a Rollout manages on an object: all that its status and the object's stamps name.
    pub(super) fn managed(&self, rollout: &Name, objects: &[&Value]) -> BTreeSet<Predictor> {
        let status = self.rollout(rollout).map_or(&Value::Null, Rollout::status);
        let lists = [&status["known"]].into_iter().flat_map(objects::list);
        let nested = ["retiring", "outcomes"].into_iter().flat_map(|field| objects::list(&status[field]));
        let nested = nested.map(|item| &item["predictor"]);
        let mut all: BTreeSet<Predictor> = [&status["stable"], &status["canary"]]
            .into_iter()
            .chain(lists)
            .chain(nested)
            .filter_map(Predictor::of)
            .collect();
        for object in objects {
            if let Some(stamp) = objects::stamps(object).get(&key(rollout)) {
                let outcomes = stamp["outcomes"].as_object();
                let revisions = [&stamp["revision"], &stamp["stable"]].into_iter().filter_map(Value::as_str);
                let revisions =
                    revisions.chain(outcomes.into_iter().flat_map(|all| all.keys().map(String::as_str)));
                all.extend(revisions.filter_map(Predictor::parse));
            }
        }
        all
    }
}

/// The key of a Rollout in stamps.
pub(super) fn key(rollout: &Name) -> String {
    format!("{}/{}", rollout.0, rollout.1)
}

fn name(key: &str) -> Option<Name> {
    key.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
}

/// The Service that an EndpointSlice belongs to.
fn service(slice: &Value) -> &str {
    objects::text(&slice["metadata"]["labels"]["kubernetes.io/service-name"])
}

fn put<K: Ord>(objects: &mut BTreeMap<K, Arc<Value>>, key: K, object: Option<&Arc<Value>>) {
    match object {
        Some(object) => drop(objects.insert(key, object.clone())),
        None => drop(objects.remove(&key)),
    }
}
