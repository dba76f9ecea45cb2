//! The controller as users run it: the program's own process, under the rights of `deploy/`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::machine::Observed;
use crate::cargo;
use crate::real::process::{Process, free_ports};
use crate::real::{Cluster, wait};

/// Who the controller is: what `deploy/` binds its roles to, and nothing else.
pub const USER: &str = "system:serviceaccount:sluice-system:sluice-controller";
/// The namespace of `deploy/`, where the lease is.
const HOME: &str = "sluice-system";

/// Nothing takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_mins(2);
/// How often memory is looked at.
const SAMPLED_EVERY: Duration = Duration::from_millis(100);

/// A running `sluice run`, which leads. Killed when dropped.
pub struct Controller {
    process: Process,
    observed: Observed,
    url: String,
}

/// Memory in MiB and processor time over a while.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The largest of the samples.
    pub resident: f64,
    /// The peak that the kernel saw since the process began, or since it was last forgotten.
    pub peak: f64,
    /// How many samples there were.
    pub samples: usize,
    /// Processor time as a share of one core, in percent.
    pub processor: f64,
}

impl Controller {
    /// Starts `program` with this metrics source, on one core only if `core` names it, and waits until it leads.
    pub async fn start(program: &Path, cluster: &Cluster, source: &str, core: Option<usize>) -> Result<Self> {
        let kubeconfig = cluster.folder().join("controller.kubeconfig");
        fs::write(&kubeconfig, cluster.kubeconfig_in(USER, HOME)?)?;
        let [port] = free_ports()?;
        let address = format!("127.0.0.1:{port}");
        let pinned = core.map(|core| ["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        let pinned = pinned.iter().flatten().map(OsString::from);
        let run = ["run", "--prometheus", source, "--http", &address, "--kubeconfig"].map(OsString::from);
        let mut words = pinned.chain([program.into()]).chain(run).chain([kubeconfig.into()]);
        let first = words.next().map(PathBuf::from).unwrap_or_default();
        let mut process = Process::spawn("sluice", &first, words, cluster.folder())?;
        let url = format!("http://{address}/metrics");
        process
            .ready(|| async {
                let page = reqwest::get(&url).await.map_err(|error| error.to_string())?;
                let page = page.text().await.map_err(|error| error.to_string())?;
                let all = page.lines().any(|line| line == "sluice_slots_held 16");
                if all { Ok(()) } else { Err("it does not hold all slots".to_owned()) }
            })
            .await?;
        let observed = Observed::find(process.id()).context("find the controller's process")?;
        Ok(Self { process, observed, url })
    }

    /// Memory and processor time over so long.
    pub async fn watched_for(&mut self, time: Duration) -> Result<Usage> {
        let (begun, before) = (Instant::now(), self.observed.processor_time()?);
        let mut usage = Usage { resident: 0.0, peak: 0.0, samples: 0, processor: 0.0 };
        while begun.elapsed() < time {
            let memory = self.observed.memory().with_context(|| self.process.tail())?;
            usage.resident = usage.resident.max(memory.resident);
            usage.peak = usage.peak.max(memory.peak);
            usage.samples += 1;
            sleep(SAMPLED_EVERY.min(time.saturating_sub(begun.elapsed()))).await;
        }
        let spent = self.observed.processor_time()?.saturating_sub(before);
        usage.processor = 100.0 * spent.as_secs_f64() / begun.elapsed().as_secs_f64();
        self.still_runs()?;
        Ok(usage)
    }

    /// The peak of its memory counts from now on.
    pub fn forget_peak(&self) -> Result<()> {
        self.observed.forget_peak().context("reset the peak of the controller's memory")
    }

    /// How many Rollouts it knows, as it says itself.
    pub async fn rollouts(&self) -> Result<usize> {
        Ok(self.phases().await?.values().sum())
    }

    /// How many of them are in a phase.
    pub async fn in_phase(&self, phase: &str) -> Result<usize> {
        Ok(self.phases().await?.remove(phase).unwrap_or(0))
    }

    async fn phases(&self) -> Result<BTreeMap<String, usize>> {
        let page = reqwest::get(&self.url).await?.error_for_status()?.text().await?;
        Ok(page.lines().filter_map(phase).collect())
    }

    /// Fails with its last words if it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        ensure!(!self.process.has_ended(), "the controller has ended:\n{}", self.process.tail());
        Ok(())
    }

    /// Tells it to stop and waits until it has, so that the next one need not wait for the lease.
    pub async fn stop(mut self) -> Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        ensure!(told.success(), "kill: {told}");
        wait::until(LIMIT, "the controller has ended", || {
            std::future::ready(if self.process.has_ended() { Ok(()) } else { Err("it runs") })
        })
        .await?;
        Ok(())
    }
}

/// A phase and how many Rollouts are in it, from a line of the controller's own metrics.
fn phase(line: &str) -> Option<(String, usize)> {
    let (phase, count) = line.strip_prefix("sluice_rollouts{phase=\"")?.split_once("\"} ")?;
    Some((phase.to_owned(), count.parse().ok()?))
}

/// What a program says to `--version`, without its name.
pub fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(text.strip_prefix("sluice ").map_or(text.clone(), str::to_owned))
}

/// Builds the release program with cargo, where [`beside_this`] says.
pub fn build(repository: &Path) -> Result<()> {
    let built = cargo::build(repository, &["--release", "--package", "sluice", "--bin", "sluice"]);
    built.context("build the controller; name its program by --controller where that cannot be")
}

/// Where the release program of the same build is.
pub fn beside_this() -> Result<PathBuf> {
    Ok(cargo::target_folder()?.join("release").join("sluice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_off_the_controllers_own_metrics() {
        assert_eq!(phase(r#"sluice_rollouts{phase="Healthy"} 12"#), Some(("Healthy".to_owned(), 12)));
        assert_eq!(phase("sluice_slots_held 16"), None);
    }
}
