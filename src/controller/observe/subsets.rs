//! Whether a subset of a Service has a ready endpoint.
//!
//! A subset is those pods of a Service that carry the labels which a DestinationRule gives it, and EndpointSlices do not say
//! what labels pods carry. So the pods that they name are asked for by name, each once in a while, and no more of them than
//! it takes to find one of the subset. Who has no subset costs nothing of this.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use sluice_core::{Predictor, plan::Plan};
use tokio::time::{Instant, timeout};

use super::endpoints::ready_endpoints;
use crate::{
    controller::{
        Error, context::Context, memory::Memory, optional::tell_of_missing_right, stores::Endpoint,
        subject::Subject,
    },
    foreign::{ROOT_NAMESPACE, istio},
    pods::{Claimed, Labels, carries, subset_labels},
};

/// How long the labels of a pod are believed. Those of a running pod hardly ever change.
const BELIEVED: Duration = Duration::from_mins(5);
/// How long those of a subset are.
const RULES_BELIEVED: Duration = Duration::from_secs(30);
/// How long nobody asks again after an answer that did not come: all else that concerns the Rollout waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a pod is waited for.
const POD_LIMIT: Duration = Duration::from_secs(1);
/// Pods that are asked for at the same time.
const CONCURRENCY: usize = 16;

/// What is remembered of subsets and of the pods that may be theirs.
#[derive(Default)]
pub(in crate::controller) struct Subsets {
    /// The labels of pods by uid, and since when they are known.
    pods: BTreeMap<Box<str>, (Labels, Instant)>,
    /// The labels of subsets, and since when they are known; none where no DestinationRule has the subset.
    labels: BTreeMap<Predictor, (Option<Labels>, Instant)>,
    /// What was last found out, for while it cannot be.
    last: BTreeMap<Predictor, usize>,
    /// Until when nobody is asked, because an answer did not come.
    patience: Option<Instant>,
}

/// The ready endpoints behind a predictor; 1 for a subset that has any. Where it cannot be told whether a subset has one,
/// what was last found out counts, or else the Service.
pub(super) async fn ready(
    context: &Context,
    subject: &Subject,
    plan: Option<&Plan>,
    predictor: &Predictor,
    memory: &mut Memory,
) -> usize {
    let endpoints = ready_endpoints(context, predictor);
    // Pods of other namespaces are nobody's to read here.
    if predictor.subset.is_none() || endpoints.is_empty() || predictor.namespace != subject.namespace {
        return endpoints.len();
    }
    let Some(labels) = labels(context, plan, predictor, memory).await else { return endpoints.len() };
    match has_one(context, predictor, &endpoints, &labels, &mut memory.subsets).await {
        Some(found) => {
            let found = usize::from(found);
            memory.subsets.last.insert(predictor.clone(), found);
            found
        }
        None => memory.subsets.last.get(predictor).copied().unwrap_or(endpoints.len()),
    }
}

// === pods ===

/// Whether one of the endpoints is a pod with these labels; nothing where that cannot be told.
async fn has_one(
    context: &Context,
    predictor: &Predictor,
    endpoints: &[Endpoint],
    labels: &Labels,
    subsets: &mut Subsets,
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
    subsets.forget_all_but(&claims);
    let known = |subsets: &Subsets, claimed: &Claimed| subsets.pods.get(&claimed.uid).cloned();
    let is_of_it = |known: &(Labels, Instant)| carries(&known.0, labels);
    let fresh = |known: &(Labels, Instant)| now.saturating_duration_since(known.1) < BELIEVED;
    let (believed, due): (Vec<&Claimed>, Vec<&Claimed>) =
        claims.iter().partition(|claimed| known(subsets, claimed).is_some_and(|known| fresh(&known)));
    let any = |subsets: &Subsets, claims: &[&Claimed]| {
        claims.iter().any(|claimed| known(subsets, claimed).is_some_and(|known| is_of_it(&known)))
    };
    if any(subsets, &believed) {
        return Some(true);
    }
    // What was known for long is rather true than not.
    let supposed = any(subsets, &due).then_some(true);
    if subsets.patience.is_some_and(|until| until > now) && !due.is_empty() {
        return supposed;
    }
    for some in due.chunks(CONCURRENCY) {
        if !look(context, &predictor.namespace, some, subsets).await {
            subsets.patience = Some(now + PATIENCE);
            return supposed;
        }
        if any(subsets, some) {
            return Some(true);
        }
    }
    all_are_pods.then_some(false)
}

/// Asks for pods. Whether all was answered.
async fn look(context: &Context, namespace: &str, claims: &[&Claimed], subsets: &mut Subsets) -> bool {
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
                let labels = pod.metadata.labels.unwrap_or_default();
                subsets.pods.insert(claimed.uid.clone(), (labels, Instant::now()));
            }
            Ok(_) | Err(Error::Refused { code: 404, .. }) => drop(subsets.pods.remove(&claimed.uid)),
            Err(error) => {
                tell_of_missing_right(&error);
                all = false;
            }
        }
    }
    all
}

impl Subsets {
    /// Of the pods of two Services, or of one that changes, no more is kept than is of use.
    fn forget_all_but(&mut self, claims: &[&Claimed]) {
        if self.pods.len() > 2 * claims.len() + CONCURRENCY {
            self.pods.retain(|uid, _| claims.iter().any(|claimed| claimed.uid == *uid));
        }
    }
}

// === labels of subsets ===

/// The labels of a predictor's subset; nothing where it has none, or nobody knows them.
pub(super) async fn labels(
    context: &Context,
    plan: Option<&Plan>,
    predictor: &Predictor,
    memory: &mut Memory,
) -> Option<Labels> {
    predictor.subset.as_ref()?;
    let now = Instant::now();
    if let Some((labels, since)) = memory.subsets.labels.get(predictor)
        && now.saturating_duration_since(*since) < if labels.is_some() { RULES_BELIEVED } else { PATIENCE }
    {
        return labels.clone();
    }
    if memory.subsets.patience.is_some_and(|until| until > now) {
        return memory.subsets.labels.get(predictor).and_then(|(labels, _)| labels.clone());
    }
    let rules = match rules(context, &predictor.namespace).await {
        Ok(rules) => rules,
        Err(error) => {
            tell_of_missing_right(&error);
            memory.subsets.patience = Some(now + PATIENCE);
            return memory.subsets.labels.get(predictor).and_then(|(labels, _)| labels.clone());
        }
    };
    let is_generated = plan.is_some_and(|plan| plan.expose.is_some());
    let labels = subset_labels(&context.names, predictor, &rules, is_generated);
    memory.subsets.labels.insert(predictor.clone(), (labels.clone(), now));
    labels
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
