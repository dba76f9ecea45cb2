//! One set of questions to both Kubernetes APIs of the laboratory, the one in memory and the real one.
//!
//! The controller's thousands of runs under faults happen on the API in memory; they show something about a cluster
//! only as far as the two answer alike. So every test here runs as `embedded::...` and as `real::...`, and knows nothing
//! but a [`kube::Client`] and a namespace. Where the two differ, the embedded API is wrong. It runs as `proxied::...`,
//! too: by the proxy that faults on the real API come from, which without any must not be noticed. And the faults
//! themselves are the same before both.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicUsize},
};

use anyhow::anyhow;
use libtest_mimic::{Arguments, Trial};
use sluice_lab::{
    embedded,
    real::{Cluster, Error, Options, Proxy, crds, namespace},
};
use tokio::{runtime::Runtime, sync::OnceCell};

mod away;
mod faults;
mod suite;
mod world;

use faults::{Connection, Struck};
use world::World;

fn main() -> anyhow::Result<ExitCode> {
    namespace::enter()?;
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let real = Arc::new(Real::default());
    let mut trials = Vec::new();
    for (name, test) in suite::all() {
        trials.push(Trial::test(format!("embedded::{name}"), {
            let runtime = runtime.clone();
            move || {
                runtime.block_on(async {
                    test(World::new(embedded::Api::new().client(), 0, false).await).await;
                });
                Ok(())
            }
        }));
        let real = real.clone();
        trials.push(on_real(&runtime, format!("real::{name}"), {
            let real = real.clone();
            async move || {
                test(real.world().await?).await;
                Ok(())
            }
        }));
        trials.push(on_real(&runtime, format!("proxied::{name}"), async move || {
            let proxy = real.cluster().await?.proxy(faults::USER)?;
            test(World::new(proxy.client()?, real.next(), true).await).await;
            Ok(())
        }));
    }
    for (name, test) in faults::all() {
        let ours = runtime.clone();
        trials.push(Trial::test(format!("embedded::{name}"), move || {
            ours.block_on(async {
                let api = embedded::Api::new();
                let connection = Connection::Embedded(api.clone(), api.connect(faults::USER));
                test(Struck::new(connection, api.client(), "default")).await;
            });
            Ok(())
        }));
        let real = real.clone();
        trials.push(on_real(&runtime, format!("proxied::{name}"), async move || {
            let (proxy, world) = real.proxied_world().await?;
            test(Struck::new(Connection::Proxy(Box::new(proxy)), world.client, &world.namespace)).await;
            Ok(())
        }));
    }
    macro_rules! proxied {
        ($($name:ident),* $(,)?) => {$(
            let ours = real.clone();
            trials.push(on_real(&runtime, format!("proxied::away::{}", stringify!($name)), async move || {
                let (proxy, world) = ours.proxied_world().await?;
                away::$name(proxy, &world.namespace).await;
                Ok(())
            }));
        )*};
    }
    proxied![while_it_is_paused_nothing_passes_and_then_all_does, connections_are_refused_and_taken_again,];
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn on_real(
    runtime: &Arc<Runtime>,
    name: String,
    test: impl AsyncFnOnce() -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    let runtime = runtime.clone();
    Trial::test(name, move || runtime.block_on(test()).map_err(|e| format!("{e:#}").into()))
}

/// The real API, started by the first test that asks for it. If that fails, the others fail by it too, at once.
#[derive(Default)]
struct Real {
    cluster: OnceCell<Result<Cluster, Error>>,
    worlds: AtomicUsize,
}

impl Real {
    async fn cluster(&self) -> anyhow::Result<&Cluster> {
        let started = self.cluster.get_or_init(|| async {
            let cluster = Cluster::start(Options::new()).await?;
            cluster.apply_yaml(crds::VIRTUAL_SERVICES).await?;
            Ok(cluster)
        });
        started.await.as_ref().map_err(|e| anyhow!("the cluster did not start: {e}"))
    }

    /// A number that no other world has.
    fn next(&self) -> usize {
        self.worlds.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    async fn world(&self) -> anyhow::Result<World> {
        Ok(World::new(self.cluster().await?.admin()?, self.next(), true).await)
    }

    /// A proxy, and a world past it.
    async fn proxied_world(&self) -> anyhow::Result<(Proxy, World)> {
        Ok((self.cluster().await?.proxy(faults::USER)?, self.world().await?))
    }
}
