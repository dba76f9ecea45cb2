//! A small kubelet, and the scheduler with it: it runs a pod's command as a process on the pod's address.
//!
//! A Deployment of a test then does what one does on a cluster: pods start, become ready when their probe says so, are told
//! to end, get their grace, and are killed. There are no containers, so an image is a name for a program of this machine,
//! and pods have no files of their own. A pod has one container here. Of probes it knows `readinessProbe.httpGet`; a pod
//! without one is ready when it listens at its first port. Of hooks it knows `preStop.sleep`.

mod plan;
mod probe;
mod runner;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Result;
use super::folder::Folder;
use super::pods::{NODE_NAME, ensure_node};
use plan::runs;
use runner::Runner;

/// What runs for an image: a program and its first arguments, as an image's entry point.
pub(crate) type Images = BTreeMap<String, Vec<String>>;

/// A kubelet that runs. Dropping it kills all that it runs, and changes no object.
#[derive(Debug)]
pub struct Kubelet {
    task: JoinHandle<()>,
    folder: Arc<Folder>,
}

impl Kubelet {
    /// Starts one that runs every pod without a node which names a `command`, or an image of these. `client` needs to be an
    /// admin's. Only in a [`namespace`](super::namespace), where pods have addresses.
    pub async fn start(client: &Client, images: BTreeMap<String, Vec<String>>) -> Result<Self> {
        ensure_node(client).await?;
        let folder = Arc::new(Folder::new()?);
        let agent = Agent {
            client: client.clone(),
            images: Arc::new(images),
            folder: folder.path().to_owned(),
            running: HashMap::new(),
            pods: JoinSet::new(),
        };
        Ok(Self { task: tokio::spawn(agent.run()), folder })
    }

    /// What the processes of a pod have printed so far, those before a restart first.
    pub fn log(&self, namespace: &str, pod: &str) -> String {
        let path = self.folder.path().join(log_file(namespace, pod));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        // With the task goes the set of pods, with each its process.
        self.task.abort();
    }
}

fn log_file(namespace: &str, pod: &str) -> String {
    format!("{namespace}_{pod}.log")
}

struct Agent {
    client: Client,
    images: Arc<Images>,
    folder: PathBuf,
    /// By the pod's uid, what tells it to end.
    running: HashMap<String, CancellationToken>,
    pods: JoinSet<String>,
}

impl Agent {
    async fn run(mut self) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let mut events = pin!(watcher(pods, watcher::Config::default()).default_backoff());
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => self.seen(pod),
                    Some(Ok(watcher::Event::Delete(pod))) => self.stop(&pod),
                    Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
                    // The watch begins anew by itself.
                    Some(Err(error)) => tracing::debug!(%error, "kubelet: watch pods"),
                    None => return,
                },
                Some(ended) = self.pods.join_next() => if let Ok(uid) = ended {
                    self.running.remove(&uid);
                },
            }
        }
    }

    fn seen(&mut self, pod: Pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            self.stop(&pod);
        }
        let uid = pod.uid().unwrap_or_default();
        if self.running.contains_key(&uid) || !self.is_ours(&pod) {
            return;
        }
        let stop = CancellationToken::new();
        self.running.insert(uid.clone(), stop.clone());
        let runner = Runner::new(&self.client, pod, &self.images, &self.folder, stop);
        self.pods.spawn(async move {
            runner.run().await;
            uid
        });
    }

    fn stop(&self, pod: &Pod) {
        if let Some(stop) = self.running.get(&pod.uid().unwrap_or_default()) {
            stop.cancel();
        }
    }

    /// A pod that has ended stays as it is.
    fn is_ours(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        node.is_none_or(|node| node == NODE_NAME)
            && !matches!(phase, Some("Failed" | "Succeeded"))
            && runs(pod, &self.images)
    }
}
