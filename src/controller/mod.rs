//! The controller: watches, and for each Rollout observe → decide → persist → act.
//!
//! [`run`] is what `sluice run` does and what the demo and the tests run: fill the caches, share the Rollouts with the
//! other replicas, and reconcile those that are ours until told to stop.

mod act;
mod backoff;
mod clock;
mod context;
mod decide;
mod error;
mod events;
mod freezes;
mod generate;
mod kinds;
mod log;
mod memory;
mod observe;
mod optional;
mod packed;
mod persist;
mod reconcile;
mod relist;
mod shards;
mod slots;
mod stores;
mod subject;
mod telemetry;
mod wiring;
mod writes;

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Client, ResourceExt,
    runtime::{
        controller::{self, Action, Config as ControllerConfig, Controller},
        reflector::ObjectRef,
    },
};
use sluice_core::HostNames;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::{
    clock::Clock,
    error::Error,
    kinds::Lacking,
    shards::{LeaseOptions, SLOTS, slot_of},
    telemetry::Telemetry,
};
use self::{
    context::Common,
    kinds::Kinds,
    shards::{Change, Shards},
    stores::{Optional, SeldonObject, Watches},
    subject::RolloutObject,
};
use crate::metrics::Metrics;

/// Reconciles at the same time. Each holds its Rollout's parsed spec and status, so after a start, when all come at once,
/// this is what bounds the memory.
const CONCURRENCY: u16 = 96;

/// How the controller runs.
#[derive(Clone)]
pub struct Options {
    /// Watch this namespace only.
    pub namespace: Option<String>,
    /// Whether Istio's kinds are read and written. Without them routes are refused.
    pub istio: bool,
    /// How hosts become Services, and where generated routes are served.
    pub names: HostNames,
    /// Where numbers come from.
    pub metrics: Metrics,
    /// The leases by which several controllers share the Rollouts; nothing to act on all of them without.
    pub lease: Option<LeaseOptions>,
    /// What time it is.
    pub clock: Clock,
    /// Counters for the controller's own `/metrics`.
    pub telemetry: Telemetry,
}

impl Options {
    /// The controller's own namespace: a Freeze there is for the whole cluster.
    fn home(&self, client: &Client) -> String {
        self.lease.as_ref().map_or_else(|| client.default_namespace(), |lease| &lease.namespace).to_owned()
    }
}

/// Runs until `stop` resolves, then finishes what is in progress and gives up what it holds.
///
/// # Errors
/// The custom resources are not installed or older than this version, or the API server refuses to talk to us at all.
pub async fn run(
    client: Client,
    options: Options,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    tokio::pin!(stop);
    let kinds = async {
        subject::require_kinds(&client, options.namespace.as_deref(), &options.home(&client)).await?;
        kinds::require(&client).await
    };
    let optional = async {
        kinds.await?;
        let seldon = optional::is_there::<SeldonObject>(&client, options.namespace.as_deref()).await?;
        Ok::<_, Error>(Optional { istio: options.istio, seldon })
    };
    let optional = tokio::select! {
        optional = optional => optional?,
        () = &mut stop => return Ok(()),
    };
    let kinds = Arc::new(Kinds::default());
    let stopping = CancellationToken::new();
    let mut working = Box::pin(work(&client, &options, &kinds, optional, stopping.clone()));
    let stop = async {
        stop.await;
        tracing::info!("stopping: finishing what is in progress");
        stopping.cancel();
    };
    // The stop signal is only listened to while there is something to stop.
    tokio::select! {
        () = &mut working => {}
        () = kinds.watch(&client) => {}
        () = stop => working.await,
    }
    Ok(())
}

/// Reconciles what is ours until `stopping`.
async fn work(
    client: &Client,
    options: &Options,
    kinds: &Arc<Kinds>,
    optional: Optional,
    stopping: CancellationToken,
) {
    let shards = if options.lease.is_some() { Shards::nothing() } else { Shards::always() };
    let watches = Watches::new(client, options.namespace.as_deref(), &options.home(client), optional);
    let context = Arc::new(Common::new(
        client.clone(),
        options,
        kinds.clone(),
        optional,
        shards.clone(),
        watches.stores(),
    ));
    options.telemetry.holds(shards.count());
    let stores = watches.stores();
    let (gained, ours) = mpsc::unbounded_channel();
    let stopping_too = stopping.clone();
    let controller = Controller::for_stream_with(watches.rollouts, stores.rollouts.clone(), ())
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .trigger_backoff(backoff::OfAll)
        .reconcile_on(watches.concerned)
        .reconcile_on(queued(ours, stores.clone()))
        .graceful_shutdown_on(stopping.clone().cancelled_owned());
    let share = {
        let (context, shards, telemetry) = (context.clone(), shards.clone(), options.telemetry.clone());
        async move {
            // A replica that sees nothing yet would do nothing with a slot.
            if stopping.run_until_cancelled(stores.ready()).await.is_none() {
                return;
            }
            telemetry.synced();
            let Some(lease) = options.lease.clone() else { return };
            let counted = shards.clone();
            let changed = move |change| {
                match change {
                    Change::Lost(slots) => context.forget_slots(&slots),
                    // The receiver goes with the controller, when there is nothing to queue for any more.
                    Change::Gained(slots) => drop(gained.send(slots)),
                }
                telemetry.holds(counted.count());
            };
            shards::run(client.clone(), lease, shards, stopping, changed).await;
        }
    };
    let wiring = wiring::run(context.clone(), watches.deployments, stopping_too);
    let seen = context.clone();
    let reconciling = controller.run(reconcile::reconcile, on_error, context).for_each(|outcome| {
        match outcome {
            // A watch that fails, for want of a permission above all, would leave the controller blind.
            Err(controller::Error::QueueError(error)) => tracing::warn!(%error, "a watch failed"),
            Err(controller::Error::RunnerError(error)) => tracing::warn!(%error, "the runner failed"),
            Err(controller::Error::ObjectNotFound(_)) => seen.forget_the_gone(),
            // Said where it happened.
            Err(controller::Error::ReconcilerFailed(..)) | Ok(_) => {}
        }
        std::future::ready(())
    });
    futures::join!(reconciling, share, wiring);
}

/// The Rollouts of slots that were gained.
fn queued(
    gained: mpsc::UnboundedReceiver<Vec<usize>>,
    stores: Arc<stores::Stores>,
) -> impl futures::Stream<Item = ObjectRef<RolloutObject>> + Send + 'static {
    let of = move |slots: Vec<usize>| {
        let ours = |rollout: &&Arc<RolloutObject>| {
            slots.contains(&slot_of(&rollout.namespace().unwrap_or_default(), &rollout.name_any()))
        };
        let all = stores.rollouts.state();
        let queued: Vec<_> =
            all.iter().filter(ours).map(|rollout| ObjectRef::from_obj(rollout.as_ref())).collect();
        futures::stream::iter(queued)
    };
    futures::stream::unfold(gained, async |mut gained| Some((gained.recv().await?, gained))).flat_map(of)
}

/// What cannot be done now is tried again, later each time, but never much later: traffic may wait for it.
#[allow(clippy::needless_pass_by_value)] // kube's signature
fn on_error(rollout: Arc<RolloutObject>, error: &Error, context: Arc<Common>) -> Action {
    let failures = context.failed(&rollout);
    context.telemetry.reconcile_failed(error);
    tracing::warn!(rollout = %rollout.display(), %error, failures, "reconcile failed");
    Action::requeue(
        (Duration::from_millis(100) * 2_u32.saturating_pow(failures.min(7))).min(Duration::from_secs(10)),
    )
}
