//! The pods of a predictor, asked for before they are scraped: whose an address is [`crate::pods`] says.

use std::{net::IpAddr, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use sluice_core::{
    Predictor,
    judge::{Trouble, TroubleKind},
    plan::Plan,
};
use tokio::time::{Instant, timeout};

use super::{
    endpoints::{ready_endpoints, seldon_names},
    seen::KnownPod,
    subsets,
};
use crate::{
    controller::{Error, context::Context, memory::Memory},
    metrics::Arm,
    pods::{Behind, Claimed, claim},
};

/// The longest that a pod is waited for.
const POD_LIMIT: Duration = Duration::from_secs(1);
/// How long what was seen of a pod counts. A pod may end and its address become another's, while a slice that nobody
/// should have written still names it.
const SEEN_FOR: Duration = Duration::from_secs(30);
/// How long it counts where the API server does not answer: a breach must not go unseen for want of its answer.
const SEEN_AT_MOST: Duration = Duration::from_mins(5);
/// Pods that are asked for at the same time.
const CONCURRENCY: usize = 16;

/// A predictor with its ready pods and their ages, for metrics that come from the pods themselves.
///
/// # Errors
/// An address that is not that of such a pod: it is not asked, and neither are the others, because what they counted is not
/// all that there was.
pub(super) async fn arm(
    context: &Context,
    namespace: &str,
    plan: &Plan,
    predictor: Predictor,
    memory: &mut Memory,
) -> Result<Arm, Trouble> {
    let endpoints = ready_endpoints(context, &predictor);
    let claims: Vec<_> = endpoints
        .iter()
        .map(|endpoint| claim(namespace, &predictor, &endpoint.address, endpoint.pod.as_ref()))
        .collect::<Result<_, _>>()?;
    look_at_pods(context, namespace, &claims, memory).await?;
    let subset = subsets::labels(context, Some(plan), &predictor, memory).await;
    let selector = context.stores.selector(&predictor.namespace, &predictor.service);
    let behind = Behind { predictor: &predictor, selector: selector.as_ref(), subset: subset.as_ref() };
    let pods = behind.pods(&claims, |claimed| memory.pods.get(&claimed.uid)?.seen());
    let pods = pods.map_err(|not_asked| {
        if let Some(uid) = not_asked.uid {
            // It may have been mended by the next look.
            memory.pods.remove(&uid);
        }
        not_asked.trouble
    })?;
    Ok(Arm { seldon: seldon_names(context, &predictor), predictor, pods })
}

/// Asks for the pods of which nothing was seen, or not all, or not for a while.
///
/// # Errors
/// Where one could not be asked for, and what was seen of it is too old.
async fn look_at_pods(
    context: &Context,
    namespace: &str,
    claims: &[(IpAddr, &Claimed)],
    memory: &mut Memory,
) -> Result<(), Trouble> {
    let now = Instant::now();
    // What is forgotten is asked for again.
    memory.pods.make_room(now);
    let age = |memory: &Memory, uid: &str| {
        let seen = memory.pods.get(uid).filter(|known| known.seen().is_some());
        seen.map(|seen| now.saturating_duration_since(seen.at))
    };
    let mut due: Vec<&Claimed> = claims.iter().map(|(_, claimed)| *claimed).collect();
    due.retain(|claimed| age(memory, &claimed.uid).is_none_or(|age| age >= SEEN_FOR));
    due.dedup();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let pods = &pods;
    // Collected first: a stream that holds the closure is a future that the compiler cannot show to be `Send`.
    let reads: Vec<_> = due
        .into_iter()
        .map(|claimed| async move {
            let what = format!("reading Pod {namespace}/{}", claimed.name);
            let read = context.read(what.clone(), pods.get(&claimed.name));
            let limit = POD_LIMIT;
            // Not for long: a look waits for it.
            let read = timeout(limit, read).await.unwrap_or(Err(Error::TimedOut { what, limit }));
            (claimed, read)
        })
        .collect();
    let answers: Vec<_> = stream::iter(reads).buffered(CONCURRENCY).collect().await;
    for (claimed, answer) in answers {
        match answer {
            Ok(pod) => memory.pods.insert(&claimed.uid, KnownPod::whole(pod, now)),
            Err(Error::Refused { code: 404, .. }) => memory.pods.remove(&claimed.uid),
            Err(Error::Unreachable { .. } | Error::TimedOut { .. })
                if age(memory, &claimed.uid).is_some_and(|age| age < SEEN_AT_MOST) => {}
            Err(error) => {
                return Err(Trouble { kind: TroubleKind::Unavailable, message: error.to_string() });
            }
        }
    }
    Ok(())
}
