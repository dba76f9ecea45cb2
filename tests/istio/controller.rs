//! The controller's own program, of one namespace: it can be killed as the kernel kills, and started again.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::lab::{CONTROLLER, Shared};

/// A `sluice run`. Killed when dropped.
pub struct Controller {
    child: Child,
    namespace: String,
    kubeconfig: PathBuf,
    prometheus: String,
    folder: TempDir,
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Both fail only where there is no process any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Controller {
    pub fn start(shared: &Shared, namespace: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        // Where a pod of `deploy/` would be: there are the leases, and the right to them.
        fs::write(&kubeconfig, shared.cluster.kubeconfig_in(CONTROLLER, "sluice-system")?)?;
        let (namespace, prometheus) = (namespace.to_owned(), shared.prometheus.url().to_owned());
        let child = spawn(&namespace, &kubeconfig, &prometheus, &folder)?;
        Ok(Self { child, namespace, kubeconfig, prometheus, folder })
    }

    /// Kills it at once (SIGKILL): nothing of what it has in hand is finished.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`kill`](Self::kill).
    pub fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.namespace, &self.kubeconfig, &self.prometheus, &self.folder)?;
        Ok(())
    }

    /// It still runs; what it logged, if not.
    pub fn runs(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the controller ended ({ended:?}): {}", self.log());
        Ok(())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn spawn(namespace: &str, kubeconfig: &PathBuf, prometheus: &str, folder: &TempDir) -> Result<Child> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let log = File::options().create(true).append(true).open(folder.path().join("log"))?;
    let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["run", "-n", namespace, "--prometheus", prometheus, "--http", &format!("127.0.0.1:{port}")])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(child)
}
