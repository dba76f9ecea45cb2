//! What was seen of pods, for all who ask for them: by who looks for the labels of a subset, and by who scrapes. Pods are not
//! watched, because a cluster has many.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use tokio::time::Instant;

use crate::pods::{Labels, SeenPod, carries};

/// How long what was seen is kept: where nobody answers, what was known for long is rather true than not.
const KEPT_FOR: Duration = Duration::from_mins(10);
/// Pods that are remembered.
const KEPT: usize = 1000;

/// Pods as they were last seen, by the uid that they were asked for by.
#[derive(Default)]
pub(in crate::controller) struct Pods(BTreeMap<Box<str>, KnownPod>);

/// What was seen of a pod, and when.
#[derive(Clone, Debug)]
pub(super) struct KnownPod {
    pub(super) at: Instant,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// No more was asked for than its metadata.
    Named { uid: Option<String>, labels: Labels },
    /// All that those want to know who scrape.
    Whole(SeenPod),
}

impl KnownPod {
    /// A pod of which no more than its metadata was asked for.
    pub(super) fn named(metadata: ObjectMeta, at: Instant) -> Self {
        let what = What::Named { uid: metadata.uid, labels: metadata.labels.unwrap_or_default() };
        Self { at, what }
    }

    /// A whole pod.
    pub(super) fn whole(pod: Pod, at: Instant) -> Self {
        Self { at, what: What::Whole(pod.into()) }
    }

    pub(super) fn uid(&self) -> Option<&str> {
        match &self.what {
            What::Named { uid, .. } => uid.as_deref(),
            What::Whole(seen) => seen.uid(),
        }
    }

    /// Whether it has all of these labels.
    pub(super) fn carries(&self, labels: &Labels) -> bool {
        let of_it = match &self.what {
            What::Named { labels, .. } => labels,
            What::Whole(seen) => seen.labels(),
        };
        carries(of_it, labels)
    }

    /// What those want to know who scrape, if it was asked for.
    pub(super) fn seen(&self) -> Option<&SeenPod> {
        match &self.what {
            What::Named { .. } => None,
            What::Whole(seen) => Some(seen),
        }
    }
}

impl Pods {
    pub(super) fn get(&self, uid: &str) -> Option<&KnownPod> {
        self.0.get(uid)
    }

    pub(super) fn insert(&mut self, uid: &str, seen: KnownPod) {
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

    fn seen() -> KnownPod {
        KnownPod::named(ObjectMeta::default(), Instant::now())
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
