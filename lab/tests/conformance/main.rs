//! One set of questions to both Kubernetes APIs of the laboratory, the one in memory and the real one.
//!
//! The controller's thousands of runs under faults happen on the API in memory; they show something about a cluster
//! only as far as the two answer alike. So every test here runs twice, as `embedded::...` and as `real::...`, and knows
//! nothing but a [`kube::Client`] and a namespace. Where the two differ, the embedded API is wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicUsize},
};

use anyhow::anyhow;
use libtest_mimic::{Arguments, Trial};
use sluice_lab::{
    embedded,
    real::{Cluster, Error, Options, crds, namespace},
};
use tokio::{runtime::Runtime, sync::OnceCell};

mod suite;
mod world;

use world::World;

fn main() -> anyhow::Result<ExitCode> {
    namespace::enter()?;
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let real = Arc::new(Real::default());
    let mut trials = Vec::new();
    for (name, test) in suite::all() {
        let (on_real, ours) = (real.clone(), runtime.clone());
        trials.push(Trial::test(format!("embedded::{name}"), {
            let runtime = runtime.clone();
            move || {
                runtime.block_on(async {
                    test(World::new(embedded::Api::new().client(), 0, false).await).await;
                });
                Ok(())
            }
        }));
        trials.push(Trial::test(format!("real::{name}"), move || {
            ours.block_on(async {
                test(on_real.world().await?).await;
                anyhow::Ok(())
            })
            .map_err(|e| format!("{e:#}").into())
        }));
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// The real API, started by the first test that asks for it. If that fails, the others fail by it too, at once.
#[derive(Default)]
struct Real {
    cluster: OnceCell<Result<Cluster, Error>>,
    worlds: AtomicUsize,
}

impl Real {
    async fn world(&self) -> anyhow::Result<World> {
        let started = self.cluster.get_or_init(|| async {
            let cluster = Cluster::start(Options::new()).await?;
            cluster.apply_yaml(crds::VIRTUAL_SERVICES).await?;
            Ok(cluster)
        });
        let started = started.await;
        let cluster = started.as_ref().map_err(|e| anyhow!("the cluster did not start: {e}"))?;
        let n = self.worlds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(World::new(cluster.admin()?, n, true).await)
    }
}
