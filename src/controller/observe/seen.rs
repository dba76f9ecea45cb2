//! What was seen of pods, for all who ask for them: by who looks for the labels of a subset, and by who scrapes. Pods are not
//! watched, because a cluster has many.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use chrono::{DateTime, Utc};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use tokio::time::Instant;

/// How long what was seen is kept: where nobody answers, what was known for long is rather true than not.
const KEPT_FOR: Duration = Duration::from_mins(10);
/// Pods that are remembered.
const KEPT: usize = 1000;

/// The labels of a pod, or those by which pods are chosen.
pub(in crate::controller) type Labels = BTreeMap<String, String>;

/// Pods as they were last seen, by the uid that they were asked for by.
#[derive(Default)]
pub(in crate::controller) struct Pods(BTreeMap<Box<str>, SeenPod>);

/// What was seen of a pod.
#[derive(Clone, Debug)]
pub(super) struct SeenPod {
    pub(super) at: Instant,
    pub(super) uid: Option<String>,
    pub(super) labels: Labels,
    /// What only those who scrape ask for.
    pub(super) whole: Option<Whole>,
}

/// What a pod says of itself beside its metadata.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host_network: bool,
    pub(super) running: bool,
}

impl SeenPod {
    /// A pod of which no more than its metadata was asked for.
    pub(super) fn named(metadata: ObjectMeta, at: Instant) -> Self {
        Self { at, uid: metadata.uid, labels: metadata.labels.unwrap_or_default(), whole: None }
    }

    /// A whole pod.
    pub(super) fn of(pod: Pod, at: Instant) -> Self {
        let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        let addresses = status.pod_ips.into_iter().flatten().filter_map(|it| it.ip.parse().ok()).collect();
        let whole = Whole {
            addresses,
            started: status.start_time.and_then(|start| DateTime::from_timestamp(start.0.as_second(), 0)),
            host_network: spec.host_network.unwrap_or(false),
            // One that has ended keeps its address in the status, and loses it to others.
            running: status.phase.as_deref() == Some("Running"),
        };
        Self { whole: Some(whole), ..Self::named(pod.metadata, at) }
    }

    /// Whether it has all of these labels.
    pub(super) fn carries(&self, labels: &Labels) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

impl Pods {
    pub(super) fn get(&self, uid: &str) -> Option<&SeenPod> {
        self.0.get(uid)
    }

    pub(super) fn insert(&mut self, uid: &str, seen: SeenPod) {
        self.0.insert(uid.into(), seen);
    }

    pub(super) fn remove(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Forgets pods that are gone, and those of Services that nobody asks about any more: of two Services one may have many, and
    /// they take turns.
    pub(super) fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, seen| now.saturating_duration_since(seen.at) < KEPT_FOR);
        if self.0.len() > KEPT {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> SeenPod {
        SeenPod::named(ObjectMeta::default(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_forgotten_for_their_age_and_not_for_those_of_another_service() {
        let mut pods = Pods::default();
        for number in 0..100 {
            pods.insert(&format!("uid-{number}"), seen());
        }
        tokio::time::advance(KEPT_FOR / 2).await;
        pods.insert("young", seen());
        pods.make_room(Instant::now());
        assert!(pods.get("young").is_some() && pods.get("uid-99").is_some());
        tokio::time::advance(KEPT_FOR / 2).await;
        pods.make_room(Instant::now());
        assert!(pods.get("young").is_some() && pods.get("uid-99").is_none());
    }

    #[test]
    fn there_is_room_for_a_thousand() {
        let mut pods = Pods::default();
        for number in 0..=KEPT {
            pods.make_room(Instant::now());
            assert_eq!(pods.0.len(), number);
            pods.insert(&format!("uid-{number}"), seen());
        }
        pods.make_room(Instant::now());
        assert_eq!(pods.0.len(), 0);
    }
}
