//! The controller: watches, and for each Rollout observe → decide → persist → act.
//!
//! [`run`] is what `sluice run` does and what the demo and the tests run: take the lease, fill the caches, reconcile
//! until told to stop or until the lease is lost.

mod act;
mod backoff;
mod claims;
mod clock;
mod context;
mod error;
mod events;
mod lease;
mod memory;
mod observe;
mod persist;
mod reconcile;
mod relist;
mod stores;
mod subject;
mod telemetry;

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Client,
    runtime::controller::{self, Action, Config as ControllerConfig, Controller},
};
use sluice_core::HostNames;
use tokio_util::sync::CancellationToken;

pub use self::{
    clock::Clock,
    error::Error,
    lease::{Leadership, LeaseOptions},
    telemetry::Telemetry,
};
use self::{context::Context, stores::Watches, subject::RolloutObject};
use crate::metrics::Metrics;

/// Reconciles at the same time. Each may wait for a metrics source; more would only queue there.
const CONCURRENCY: u16 = 128;

/// How the controller runs.
#[derive(Clone)]
pub struct Options {
    /// Watch this namespace only.
    pub namespace: Option<String>,
    /// How hosts become Services.
    pub names: HostNames,
    /// Where numbers come from.
    pub metrics: Metrics,
    /// The lease that keeps two controllers apart; nothing to run without one.
    pub lease: Option<LeaseOptions>,
    /// What time it is.
    pub clock: Clock,
    /// Counters for the controller's own `/metrics`.
    pub telemetry: Telemetry,
}

/// Runs until `stop` resolves, then finishes what is in progress and gives the lease back.
///
/// # Errors
/// The custom resources are not installed, or the API server refuses to talk to us at all.
pub async fn run(
    client: Client,
    options: Options,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    subject::require_kinds(&client, options.namespace.as_deref()).await?;
    let stopping = CancellationToken::new();
    let leading = async {
        match options.lease.clone() {
            None => lead(&client, &options, Leadership::always(), stopping.child_token()).await,
            Some(lease) => {
                let claim = lease::Claim::new(client.clone(), lease);
                claim
                    .while_held(stopping.clone(), |leadership, lost| {
                        lead(&client, &options, leadership, lost)
                    })
                    .await;
            }
        }
    };
    let stop = async {
        stop.await;
        tracing::info!("stopping: finishing what is in progress");
        stopping.cancel();
    };
    // The stop signal is only listened to while there is something to stop.
    tokio::pin!(leading);
    tokio::select! {
        () = &mut leading => {}
        () = stop => leading.await,
    }
    Ok(())
}

/// Reconciles for as long as `lost` is not cancelled.
async fn lead(client: &Client, options: &Options, leadership: Leadership, lost: CancellationToken) {
    let watches = Watches::new(client, options.namespace.as_deref());
    let context = Arc::new(Context::new(client.clone(), options, leadership, watches.stores()));
    options.telemetry.leading(true);
    let stores = watches.stores();
    let mapper = Arc::new(watches.stores());
    let controller = Controller::for_stream_with(watches.rollouts, stores.rollouts.clone(), ())
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .trigger_backoff(backoff::OfAll)
        .watches_stream_with(
            watches.virtual_services,
            stores::Stores::of_virtual_service(&mapper),
            stores::virtual_service(),
        )
        .watches_stream(watches.services, stores::Stores::of_service(&mapper))
        .watches_stream(watches.slices, stores::Stores::of_slice(&mapper))
        .watches_stream(watches.actions, stores::Stores::of_action(&mapper))
        .graceful_shutdown_on(lost.clone().cancelled_owned());
    let (telemetry, ending) = (options.telemetry.clone(), lost.clone());
    tokio::spawn(async move {
        if ending.run_until_cancelled(stores.ready()).await.is_some() {
            telemetry.synced();
        }
    });
    let seen = context.clone();
    controller
        .run(reconcile::reconcile, on_error, context)
        .for_each(|outcome| {
            match outcome {
                // A watch that fails, for want of a permission above all, would leave the controller blind.
                Err(controller::Error::QueueError(error)) => tracing::warn!(%error, "a watch failed"),
                Err(controller::Error::RunnerError(error)) => tracing::warn!(%error, "the runner failed"),
                Err(controller::Error::ObjectNotFound(_)) => seen.forget_the_gone(),
                // Said where it happened.
                Err(controller::Error::ReconcilerFailed(..)) | Ok(_) => {}
            }
            std::future::ready(())
        })
        .await;
    options.telemetry.leading(false);
}

/// What cannot be done now is tried again, later each time, but never much later: traffic may wait for it.
#[allow(clippy::needless_pass_by_value)] // kube's signature
fn on_error(rollout: Arc<RolloutObject>, error: &Error, context: Arc<Context>) -> Action {
    let failures = context.failed(&rollout);
    context.telemetry.reconcile_failed(error);
    tracing::warn!(rollout = %rollout.display(), %error, failures, "reconcile failed");
    Action::requeue(
        (Duration::from_millis(100) * 2_u32.saturating_pow(failures.min(7))).min(Duration::from_secs(10)),
    )
}
