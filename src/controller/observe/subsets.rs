//! Whether a subset of a Service has a ready endpoint.
//!
//! A subset is those pods of a Service that carry the labels which a DestinationRule gives it, and EndpointSlices do not say
//! what labels pods carry. So the pods that they name are asked for by name, each once in a while, and no more of them than
//! it takes to find one of the subset. Who has no subset costs nothing of this.
//!
//! A subset that no DestinationRule has, as when a tool has pruned it, answers nobody whatever pods there are: proxies fail
//! every request to it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use sluice_core::{Predictor, carrier, plan::Plan};
use tokio::time::{Instant, timeout};

use super::{endpoints::ready_endpoints, seen::KnownPod};
use crate::{
    controller::{
        Error, context::Context, memory::Memory, optional::tell_of_missing_right, stores::Endpoint,
        subject::Subject,
    },
    foreign::{ROOT_NAMESPACE, istio},
    pods::{Claimed, Labels, subset_labels},
};

/// How long the labels of a pod are believed. Those of a running pod hardly ever change.
const BELIEVED: Duration = Duration::from_mins(5);
/// How long those of a subset are: nobody says when one is gone.
const RULES_BELIEVED: Duration = Duration::from_secs(10);
/// How long nobody asks again after an answer that did not come: all else that concerns the Rollout waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a pod is waited for.
const POD_LIMIT: Duration = Duration::from_secs(1);
/// Pods that are asked for at the same time.
const CONCURRENCY: usize = 16;

/// What is remembered of subsets.
#[derive(Default)]
pub(in crate::controller) struct Subsets {
    /// What is known of their labels, and since when.
    labels: BTreeMap<Predictor, (Known, Instant)>,
    /// What was last found out, for while it cannot be.
    last: BTreeMap<Predictor, usize>,
    /// Until when nobody is asked, because an answer did not come.
    patience: Option<Instant>,
}

/// The labels of a subset, or that no DestinationRule has it, in a sentence; nothing where nobody knows.
type Known = Option<Result<Labels, String>>;

/// Who is ready to answer for a predictor.
#[derive(Default)]
pub(super) struct Ready {
    /// Ready endpoints.
    pub(super) endpoints: usize,
    /// Why there is none although its Service has some, in a sentence.
    pub(super) missing: Option<String>,
}

impl From<usize> for Ready {
    fn from(endpoints: usize) -> Self {
        Self { endpoints, missing: None }
    }
}

/// The ready endpoints behind a predictor; 1 for a subset that has any, none for one that is in no DestinationRule. Where it
/// cannot be told whether a subset has one, what was last found out counts, or else the Service.
pub(super) async fn ready(
    context: &Context,
    subject: &Subject,
    plan: Option<&Plan>,
    predictor: &Predictor,
    memory: &mut Memory,
) -> Ready {
    let endpoints = ready_endpoints(context, predictor);
    // Pods of other namespaces are nobody's to read here.
    if predictor.subset.is_none() || endpoints.is_empty() || predictor.namespace != subject.namespace {
        return endpoints.len().into();
    }
    let labels = match known_labels(context, plan, predictor, memory).await {
        Some(Ok(labels)) => labels,
        Some(Err(missing)) => return Ready { endpoints: 0, missing: Some(missing) },
        None => return endpoints.len().into(),
    };
    let found = has_one(context, predictor, &endpoints, &labels, memory).await.map(usize::from);
    if let Some(found) = found {
        memory.subsets.last.insert(predictor.clone(), found);
    }
    let last = || memory.subsets.last.get(predictor).copied();
    found.or_else(last).unwrap_or(endpoints.len()).into()
}

// === pods ===

/// Whether one of the endpoints is a pod with these labels; nothing where that cannot be told.
async fn has_one(
    context: &Context,
    predictor: &Predictor,
    endpoints: &[Endpoint],
    labels: &Labels,
    memory: &mut Memory,
) -> Option<bool> {
    if labels.is_empty() {
        return Some(true);
    }
    let now = Instant::now();
    let mut claims: Vec<&Claimed> = endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()).collect();
    claims.retain(|claimed| &*claimed.kind == "Pod");
    // Of what is no pod, as a virtual machine, nobody knows the labels.
    let all_are_pods = claims.len() == endpoints.len();
    claims.dedup();
    memory.pods.make_room(now);
    let fresh = |seen: &KnownPod| now.saturating_duration_since(seen.at) < BELIEVED;
    let (believed, due): (Vec<&Claimed>, Vec<&Claimed>) =
        claims.iter().partition(|claimed| known(memory, claimed).is_some_and(fresh));
    let any = |memory: &Memory, claims: &[&Claimed]| {
        claims.iter().any(|claimed| known(memory, claimed).is_some_and(|seen| seen.carries(labels)))
    };
    if any(memory, &believed) {
        return Some(true);
    }
    // What was known for long is rather true than not.
    let supposed = any(memory, &due).then_some(true);
    if memory.subsets.patience.is_some_and(|until| until > now) && !due.is_empty() {
        return supposed;
    }
    for some in due.chunks(CONCURRENCY) {
        if !look(context, &predictor.namespace, some, memory).await {
            memory.subsets.patience = Some(now + PATIENCE);
            return supposed;
        }
        if any(memory, some) {
            return Some(true);
        }
    }
    all_are_pods.then_some(false)
}

/// What was seen of a pod, and not of another that took its name.
fn known<'m>(memory: &'m Memory, claimed: &Claimed) -> Option<&'m KnownPod> {
    memory.pods.get(&claimed.uid).filter(|known| known.uid() == Some(&*claimed.uid))
}

/// Asks for pods. Whether all was answered.
async fn look(context: &Context, namespace: &str, claims: &[&Claimed], memory: &mut Memory) -> bool {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let pods = &pods;
    // Collected first: a stream that holds the closure is a future that the compiler cannot show to be `Send`.
    let reads: Vec<_> = claims
        .iter()
        .map(|claimed| async move {
            let what = format!("reading Pod {namespace}/{}", claimed.name);
            let read = context.read(what.clone(), pods.get_metadata(&claimed.name));
            timeout(POD_LIMIT, read).await.unwrap_or(Err(Error::TimedOut { what, limit: POD_LIMIT }))
        })
        .collect();
    let answers: Vec<_> = stream::iter(reads).buffered(CONCURRENCY).collect().await;
    let mut all = true;
    for (claimed, answer) in claims.iter().zip(answers) {
        match answer {
            // One that took the name of another is asked for when the slices have heard of it.
            Ok(pod) if pod.metadata.uid.as_deref() == Some(&*claimed.uid) => {
                memory.pods.insert(&claimed.uid, KnownPod::named(pod.metadata, Instant::now()));
            }
            Ok(_) | Err(Error::Refused { code: 404, .. }) => memory.pods.remove(&claimed.uid),
            Err(error) => {
                tell_of_missing_right(&error);
                all = false;
            }
        }
    }
    all
}

// === labels of subsets ===

/// The labels of a predictor's subset; nothing where it has none, or nobody knows them.
pub(super) async fn labels(
    context: &Context,
    plan: Option<&Plan>,
    predictor: &Predictor,
    memory: &mut Memory,
) -> Option<Labels> {
    known_labels(context, plan, predictor, memory).await?.ok()
}

/// What is known of the labels of a predictor's subset.
async fn known_labels(
    context: &Context,
    plan: Option<&Plan>,
    predictor: &Predictor,
    memory: &mut Memory,
) -> Known {
    predictor.subset.as_ref()?;
    let now = Instant::now();
    let remembered = memory.subsets.labels.get(predictor).cloned();
    let is_fresh = |since: Instant| now.saturating_duration_since(since) < RULES_BELIEVED;
    let waits = memory.subsets.patience.is_some_and(|until| until > now);
    let (before, since) = remembered.unzip();
    let before = before.flatten();
    if waits || since.is_some_and(is_fresh) {
        return before;
    }
    let rules = match rules(context, &predictor.namespace).await {
        Ok(rules) => rules,
        Err(error) => {
            tell_of_missing_right(&error);
            memory.subsets.patience = Some(now + PATIENCE);
            return before;
        }
    };
    let is_generated = plan.is_some_and(|plan| plan.expose.is_some());
    let known = match subset_labels(&context.names, predictor, &rules, is_generated) {
        Some(labels) => Some(Ok(labels)),
        // One that was never seen may be in a rule for all namespaces, which is not for everybody to read.
        None if before.is_none() && !context.watches(ROOT_NAMESPACE) => None,
        None => carrier::accept_subset(&context.names, predictor, &rules)
            .err()
            .map(|refusal| Err(refusal.message)),
    };
    memory.subsets.labels.insert(predictor.clone(), (known.clone(), now));
    known
}

/// The DestinationRules that count for a namespace.
///
/// # Errors
/// They cannot be read.
pub(super) async fn rules(context: &Context, namespace: &str) -> Result<Vec<Value>, Error> {
    let mut namespaces = vec![namespace];
    if context.watches(ROOT_NAMESPACE) {
        namespaces.push(ROOT_NAMESPACE);
    }
    let mut rules = Vec::new();
    for namespace in namespaces {
        let kind = istio("DestinationRule", "destinationrules");
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
        let what = format!("listing DestinationRules of namespace {namespace}");
        let listed = context.read(what, api.list(&ListParams::default())).await?;
        rules.extend(listed.items.iter().filter_map(|rule| serde_json::to_value(rule).ok()));
    }
    Ok(rules)
}
