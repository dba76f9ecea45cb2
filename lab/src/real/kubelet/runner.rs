//! The life of one pod: bound, started, ready, told to end, gone.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::pods::{bind, pod_address};
use super::super::{Error, Result};
use super::plan::Plan;
use super::status::{State, failed, status};
use super::{Images, log_file};

/// Between two looks at a pod. Kubernetes' own 10 s would make every test wait.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// So many failed probes in turn make a ready pod unready, as in Kubernetes.
const FAILURES: u32 = 3;
/// Before a process is started again, twice as long each time up to the last.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Runner {
    client: Client,
    api: Api<Pod>,
    pod: Pod,
    images: Arc<Images>,
    address: Ipv4Addr,
    log: PathBuf,
    started: Timestamp,
    stop: CancellationToken,
}

impl Runner {
    pub(super) fn new(
        client: &Client,
        pod: Pod,
        images: &Arc<Images>,
        folder: &Path,
        stop: CancellationToken,
    ) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        Self {
            client: client.clone(),
            api: Api::namespaced(client.clone(), &namespace),
            images: Arc::clone(images),
            address: pod_address(),
            log: folder.join(log_file(&namespace, &pod.name_any())),
            started: Timestamp::now(),
            stop,
            pod,
        }
    }

    /// Runs the pod until it is deleted, and takes it out of the API then. What goes wrong is in the pod's status.
    pub(super) async fn run(self) {
        if let Err(error) = self.live().await {
            tracing::warn!(pod = self.pod.name_any(), %error, "kubelet");
            self.report(&failed(&error.to_string())).await;
            self.stop.cancelled().await;
        }
        self.remove().await;
    }

    async fn live(&self) -> Result<()> {
        let plan = Plan::of(&self.pod, self.address, &self.images).map_err(Error::Kubelet)?;
        if self.pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
            let bound = bind(&self.client, &self.pod).await;
            bound.map_err(Error::kube(format!("bind pod {}", self.pod.name_any())))?;
        }
        let [mut back_off, longest] = BACK_OFF;
        for restarts in 0.. {
            let mut child = self.spawn(&plan)?;
            let told = tokio::select! {
                () = self.watch(&plan, restarts) => true,
                _ = child.wait() => false,
            };
            if told {
                sleep(plan.linger).await;
                return end(&mut child, plan.grace).await;
            }
            self.report(&status(&plan, self.address, self.started, restarts, State::BackOff)).await;
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = sleep(back_off) => back_off = (back_off * 2).min(longest),
            }
        }
        Ok(())
    }

    fn spawn(&self, plan: &Plan) -> Result<Child> {
        let open = || File::options().create(true).append(true).open(&self.log);
        let output = open().map_err(Error::path("open", &self.log))?;
        let copy = output.try_clone().map_err(Error::path("open", &self.log))?;
        let (program, args) =
            plan.command.split_first().ok_or_else(|| Error::Kubelet("no command".into()))?;
        Command::new(program)
            .args(args)
            .envs(&plan.environment)
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::path("run", Path::new(program)))
    }

    /// Says how the process is until the pod is told to end.
    async fn watch(&self, plan: &Plan, restarts: u32) {
        let (mut said, mut failures) = (None, 0);
        loop {
            let holds = plan.probe.holds().await;
            failures = if holds { 0 } else { failures + 1 };
            let ready = holds || (said == Some(true) && failures < FAILURES);
            if said != Some(ready) {
                let state = State::Running { ready };
                self.report(&status(plan, self.address, self.started, restarts, state)).await;
                said = Some(ready);
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(PROBE_EVERY) => {}
            }
        }
    }

    /// Writes a status, again and again until the API has it or the pod is to end.
    async fn report(&self, status: &Value) {
        let name = self.pod.name_any();
        loop {
            let written =
                self.api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
            match written {
                Ok(_) => return,
                Err(kube::Error::Api(error)) if error.is_not_found() => return,
                Err(error) => tracing::debug!(pod = name, %error, "kubelet: status"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(RETRY) => {}
            }
        }
    }

    /// Confirms that nothing runs any more. A pod of the same name that came after it stays.
    async fn remove(&self) {
        let (name, uid) = (self.pod.name_any(), self.pod.uid());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default().grace_period(0)
        };
        while let Err(error) = self.api.delete(&name, &params).await {
            if matches!(&error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict()) {
                return;
            }
            tracing::debug!(pod = name, %error, "kubelet: confirm the end");
            sleep(RETRY).await;
        }
    }
}

/// Tells a process to end, and kills it when its grace is over.
async fn end(child: &mut Child, grace: Duration) -> Result<()> {
    if let Some(id) = child.id() {
        let told = Command::new("kill").args(["-TERM", &id.to_string()]).status().await;
        told.map_err(Error::io("tell a pod's process to end"))?;
    }
    if timeout(grace, child.wait()).await.is_err() {
        child.kill().await.map_err(Error::io("kill a pod's process"))?;
    }
    Ok(())
}
