//! A process of the laboratory: its log in a file, its end with ours.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Error, Result, wait};

/// Two processes may be given one port by the kernel; hardly three times in turn.
const ATTEMPTS: usize = 3;

/// A start on a busy machine is slow, and only a hang is an error.
const READY_WITHIN: Duration = Duration::from_mins(3);
/// How much of a log goes into an error.
const TAIL: usize = 25;

/// A running process; killed when dropped.
///
/// `std`'s child and not tokio's: a process then does not depend on the runtime that started it, and tests of one binary
/// may have a runtime each.
#[derive(Debug)]
pub(crate) struct Process {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `binary`; what it prints goes on at the end of `<program>.log` in `folder`.
    pub(crate) fn spawn<A: AsRef<OsStr>>(
        program: &'static str,
        binary: &Path,
        args: impl IntoIterator<Item = A>,
        folder: &Path,
    ) -> Result<Self> {
        Self::spawn_with(program, binary, args, [], folder)
    }

    /// [`spawn`](Self::spawn) with more in its environment.
    pub(crate) fn spawn_with<A: AsRef<OsStr>>(
        program: &'static str,
        binary: &Path,
        args: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (&'static str, String)>,
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("{program}.log"));
        let output =
            File::options().create(true).append(true).open(&log).map_err(Error::path("open", &log))?;
        let copy = output.try_clone().map_err(Error::path("open", &log))?;
        let child = Command::new(binary)
            .args(args)
            .envs(environment)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(output)
            .spawn()
            .map_err(Error::path("run", binary))?;
        Ok(Self { program, child, log })
    }

    /// Sends it a signal, such as `STOP`.
    pub(super) fn signal(&self, signal: &str) -> Result<()> {
        let what = format!("send {signal} to {}", self.program);
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        match sent.map_err(Error::io(what.clone()))? {
            status if status.success() => Ok(()),
            status => Err(Error::Io { what, cause: std::io::Error::other(status.to_string()) }),
        }
    }

    /// Its number, as processes of the same process namespace know it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    pub(crate) fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits until `probe` gives `Ok`. That the process ends meanwhile, or the limit, is an error with the end of its log.
    pub(crate) async fn ready<Fut>(&mut self, mut probe: impl FnMut() -> Fut) -> Result<()>
    where
        Fut: Future<Output = Result<(), String>>,
    {
        let (program, log) = (self.program, self.log.clone());
        let mut ended = None;
        let look = || {
            ended = ended.or_else(|| self.child.try_wait().ok().flatten());
            let probe = ended.is_none().then(&mut probe);
            async move {
                match probe {
                    Some(probe) => probe.await.map(|()| None),
                    None => Ok(ended),
                }
            }
        };
        match wait::poll(READY_WITHIN, look).await {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::Exited { program, status, tail: tail(&log), log }),
            Err(last) => Err(Error::NotReady { program, limit: READY_WITHIN, last, tail: tail(&log), log }),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where there is no process any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command lines of the processes of a process group: of the one that leads it and of all that came of it, unless they
/// left the group.
pub fn of_group(leader: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = entries.filter(|entry| {
        fs::read_to_string(entry.join("stat")).is_ok_and(|stat| group_in(&stat) == Some(leader))
    });
    let line = |entry: PathBuf| {
        let line = fs::read(entry.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    };
    ours.map(line).collect()
}

/// From a line of proc(5), where the program's name is in parentheses and may contain anything; nothing where only what is
/// left of a process is there.
fn group_in(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(1)?.parse().ok() }
}

/// The last lines of a log, as far as it can be read.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// Ports of 127.0.0.1 that are free now, different ones. Somebody may take one before it is used: see [`start_anew`].
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // All are held until the last is known, or the kernel could name one twice.
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("find a free port"))?;
        *port = listener.local_addr().map_err(Error::io("find a free port"))?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Calls `start` again where a port was taken between [`free_ports`] and the start of the process that it was for.
pub(crate) async fn start_anew<T, Fut>(mut start: impl FnMut() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T>>,
{
    for _ in 1..ATTEMPTS {
        match start().await {
            Err(Error::Exited { tail, .. }) if tail.contains("address already in use") => {}
            outcome => return outcome,
        }
    }
    start().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        Process::spawn("shell", Path::new("/bin/sh"), ["-c", script], folder).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_an_error_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo no such flag >&2; exit 3", folder.path());
        let error = process.ready(|| std::future::ready(Err("not yet".into()))).await.unwrap_err();
        let Error::Exited { program, status, tail, .. } = error else { panic!("{error}") };
        assert_eq!((program, status.code(), tail.as_str()), ("shell", Some(3), "no such flag"));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 600", folder.path());
        let entry = PathBuf::from(format!("/proc/{}", process.child.id()));
        assert!(entry.exists());
        drop(process);
        assert!(!entry.exists());
    }

    #[test]
    fn a_group_has_what_its_leader_started() {
        use std::os::unix::process::CommandExt;
        let script = ["-c", "sleep 600 & exec sleep 601"];
        let mut leader = Command::new("/bin/sh").args(script).process_group(0).spawn().unwrap();
        let group = leader.id();
        let both = ["sleep 600 ", "sleep 601 "].map(str::to_owned);
        let started = std::time::Instant::now();
        loop {
            let mut seen = of_group(group);
            seen.sort();
            if seen == both {
                break;
            }
            assert!(started.elapsed() < Duration::from_mins(1), "{seen:?}");
            std::thread::yield_now();
        }
        let told = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status().unwrap();
        assert!(told.success());
        leader.wait().unwrap();
        while !of_group(group).is_empty() {
            assert!(started.elapsed() < Duration::from_mins(1), "somebody is left");
            std::thread::yield_now();
        }
        assert_eq!(group_in("7 (a) b) Z 1 8 9"), None, "nobody runs there any more");
        assert_eq!(group_in("7 (a) b) S 1 8 9"), Some(8));
    }

    #[test]
    fn free_ports_are_different_ones() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
