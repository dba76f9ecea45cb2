//! The files by which `up`, `down` and the process that stays find each other.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Way;

/// A socket's path may be so long: see unix(7).
const LONGEST: usize = 107;

/// The folder of one laboratory that is up.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

/// The process that stays. Numbers of processes are used again, so the time of its start is a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) pid: u32,
    /// In ticks since the machine's start: see proc(5).
    started: u64,
}

/// How to reach it. Written when all of it is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) kubeconfig: PathBuf,
    pub(super) gateway: String,
    pub(super) prometheus: String,
    /// The controller's program, if one runs.
    pub(super) controller: Option<PathBuf>,
}

impl Place {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Makes the folder, for nobody else: who can read the kubeconfig may do everything.
    pub(super) fn make(&self) -> Result<()> {
        let longest = self.socket(Way::Prometheus);
        let length = longest.as_os_str().len();
        ensure!(
            length <= LONGEST,
            "{} has {length} characters, and a socket's path may have {LONGEST}: name a shorter folder by --at",
            longest.display()
        );
        fs::create_dir_all(&self.0).with_context(|| format!("create {}", self.0.display()))?;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    /// Held by who brings it up, and by nobody else at the same time.
    pub(super) fn lock(&self) -> Result<Option<File>> {
        let path = self.0.join("up.lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("lock"),
        }
    }

    /// Where the two sides of a way meet.
    pub(super) fn socket(&self, way: Way) -> PathBuf {
        self.0.join(match way {
            Way::Api => "api.sock",
            Way::Gateway => "gateway.sock",
            Way::Prometheus => "prometheus.sock",
        })
    }

    pub(super) fn record(&self, pid: u32) -> Result<()> {
        let started = started(pid).context("the process has ended already")?;
        self.write("process.json", &Running { pid, started })
    }

    /// The process that stays, if it does.
    pub(super) fn running(&self) -> Option<Running> {
        let running: Running = self.read("process.json")?;
        (started(running.pid) == Some(running.started)).then_some(running)
    }

    /// Whether what is inside still takes connections.
    pub(super) fn answers(&self) -> bool {
        UnixStream::connect(self.socket(Way::Api)).is_ok()
    }

    pub(super) fn record_ports(&self, ports: &BTreeMap<Way, u16>) -> Result<()> {
        self.write("ports.json", ports)
    }

    /// The ports of this machine that lead inside.
    pub(super) fn ports(&self) -> Result<BTreeMap<Way, u16>> {
        self.read("ports.json").context("the ports are not known")
    }

    pub(super) fn record_ready(&self, ready: &Ready) -> Result<()> {
        self.write("ready.json", ready)
    }

    pub(super) fn ready(&self) -> Option<Ready> {
        self.read("ready.json")
    }

    /// Removes what says that it is up. The log stays for who wants to know what happened.
    pub(super) fn clear(&self) -> Result<()> {
        let ways = [Way::Api, Way::Gateway, Way::Prometheus].map(|way| self.socket(way));
        let files = ["process.json", "ports.json", "ready.json", "kubeconfig"].map(|name| self.0.join(name));
        for path in ways.into_iter().chain(files) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// In one step, for somebody may be reading.
    fn write(&self, name: &str, content: &impl Serialize) -> Result<()> {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&new, serde_json::to_vec(content)?).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("write {}", path.display()))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.0.join(name)).ok()?).ok()
    }
}

/// When a process was started; nothing where there is none, or only what is left of one.
fn started(pid: u32) -> Option<u64> {
    started_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// From a line of proc(5): the program's name is in parentheses and may contain anything.
fn started_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // The third field is the state; the 22nd the start.
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("up"));
        place.make().unwrap();
        assert_eq!(place.running(), None);
        place.record(std::process::id()).unwrap();
        let running = place.running().unwrap();
        assert_eq!(running.pid, std::process::id());
        place.write("process.json", &Running { started: running.started + 1, ..running }).unwrap();
        assert_eq!(place.running(), None, "another process has the number now");
        place.clear().unwrap();
        assert_eq!(place.running(), None);
    }

    #[test]
    fn the_start_is_read_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(started_in(stat), Some(4242));
        assert_eq!(started_in(&stat.replace(" S ", " Z ")), None, "nobody runs there any more");
    }

    #[test]
    fn one_at_a_time_brings_it_up() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().to_owned());
        let first = place.lock().unwrap();
        assert!(first.is_some() && place.lock().unwrap().is_none());
        drop(first);
        assert!(place.lock().unwrap().is_some());
    }

    #[test]
    fn a_folder_that_is_too_deep_for_a_socket_is_refused_with_what_to_do() {
        let deep = Place::new(std::env::temp_dir().join("x".repeat(120)));
        let error = deep.make().unwrap_err().to_string();
        assert!(error.contains("--at"), "{error}");
    }
}
