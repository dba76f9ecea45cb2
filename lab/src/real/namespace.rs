//! A network namespace of the process's own, in which any address of `10.244.0.0/16` can be bound.
//!
//! The Kubernetes API refuses loopback addresses as endpoints, so pods need others, and two laboratories on one machine
//! need not see each other. In here a pod is a listener on its pod address, nothing leaves, and root is not needed.
//!
//! A process cannot move all its threads into a namespace without unsafe code, so [`enter`] runs the same program again,
//! inside. It also gets a process namespace, whose first process it is: when that ends, however it ends, the kernel ends
//! every other process in there. And when the waiting process outside is killed, so is the one inside. So no etcd is
//! left behind, ever.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{self, Command, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::binaries::{self, Component};
use super::{Error, Result};

/// The address in the namespace that stands for the machine itself, for what must be neither loopback nor a pod.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

/// Set for the process inside, to the identity of the network outside.
const MARK: &str = "SLUICE_LAB_OUTSIDE";

/// New network, new process numbers; the child dies with `unshare`.
const ISOLATE: [&str; 4] = ["--net", "--pid", "--fork", "--kill-child"];
/// Makes a user root in there and only there.
const AS_ROOT: [&str; 2] = ["--user", "--map-root-user"];

/// The commands that make the namespace's network: `ip` and these arguments.
const NETWORK: [&[&str]; 3] = [
    &["link", "set", "lo", "up"],
    &["addr", "add", "10.244.0.1/32", "dev", "lo"],
    &["route", "add", "local", "10.244.0.0/16", "dev", "lo"],
];

/// Continues inside a namespace.
///
/// Call it first in `main`, before any thread or runtime is started. Outside it makes sure that the programs of the
/// laboratory are there (inside is no network to fetch them by), runs this program again with the same arguments in a
/// namespace, waits, and exits with its exit code: there it returns only in the case of an error. Inside it returns.
///
/// With `--list` among the arguments, as test runners ask for the names of the tests, nothing is entered.
pub fn enter() -> Result<()> {
    enter_with(&Component::KUBERNETES)
}

/// [`enter`] with these programs, of which some may be for Istio.
pub fn enter_with(components: &[Component]) -> Result<()> {
    if env::args_os().any(|argument| argument == "--list") {
        return Ok(());
    }
    match env::var(MARK) {
        Ok(outside) => arrive(&outside),
        Err(_) => leave(components),
    }
}

/// Whether [`enter`] would run this program again: what needs the network outside can be done now.
pub fn is_outside() -> bool {
    env::var_os(MARK).is_none()
}

/// Whether addresses of pods can be bound and reached here, that is, whether [`enter`] returned.
pub fn entered() -> bool {
    // Binding alone shows nothing: a namespace without any address lets one bind all of them.
    let reachable = |address: Ipv4Addr| -> io::Result<()> {
        let listener = TcpListener::bind((address, 0))?;
        TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(1)).map(drop)
    };
    reachable(NODE).is_ok() && reachable(Ipv4Addr::new(10, 244, 255, 254)).is_ok()
}

/// An address for a pod that no other call in this process returned, from `10.244.1.1` up.
pub fn pod_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0x0101);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(10, 244, high, low)
}

/// A loopback address that no other call in this process returned, from `127.1.1.1` up: for servers with a port of their
/// own choice, which is then free also after they were away.
pub(super) fn loopback_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0x0101);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

// === outside ===

fn leave(components: &[Component]) -> Result<()> {
    binaries::locate_all(components)?;
    let program = env::current_exe().map_err(Error::io("find this program"))?;
    let flags = permitted_flags()?;
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(flags)
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .env(MARK, network()?.as_os_str())
        .status()
        .map_err(|error| missing_tool("setpriv", &error))?;
    process::exit(exit_code(status))
}

/// What `unshare` is allowed to do here: as root without a user namespace, or else with one.
fn permitted_flags() -> Result<Vec<&'static str>> {
    let with_user = || [&AS_ROOT[..], &ISOLATE].concat();
    let is_root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let candidates = if is_root { vec![ISOLATE.to_vec(), with_user()] } else { vec![with_user()] };
    let mut refusals = Vec::new();
    for flags in candidates {
        let tried = Command::new("unshare")
            .args(&flags)
            .args(["--", "true"])
            .output()
            .map_err(|error| missing_tool("unshare", &error))?;
        if tried.status.success() {
            return Ok(flags);
        }
        refusals.push(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
    }
    Err(Error::Namespace(format!(
        "the kernel refuses ({}). In a container, give it --cap-add SYS_ADMIN --cap-add NET_ADMIN or --privileged; \
         elsewhere, see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and \
         kernel.apparmor_restrict_unprivileged_userns",
        refusals.join("; ")
    )))
}

/// As a shell would say it: a signal is 128 and its number.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

// === inside ===

fn arrive(outside: &str) -> Result<()> {
    // Somebody may have set the variable by hand, and these commands are not for their real network.
    if network()?.as_os_str() == OsStr::new(outside) {
        return Err(Error::Namespace(format!("{MARK} is set, but this is the network outside; unset it")));
    }
    if entered() {
        return Ok(());
    }
    for arguments in NETWORK {
        let done = Command::new("ip").args(arguments).output().map_err(|error| missing_tool("ip", &error))?;
        if !done.status.success() {
            let refusal = String::from_utf8_lossy(&done.stderr);
            return Err(Error::Namespace(format!("ip {}: {}", arguments.join(" "), refusal.trim())));
        }
    }
    if entered() { Ok(()) } else { Err(Error::NotInNamespace) }
}

// === both ===

/// The identity of the network that this process is in, such as `net:[4026531840]`.
fn network() -> Result<PathBuf> {
    fs::read_link("/proc/self/ns/net")
        .map_err(Error::io("read /proc/self/ns/net (the laboratory needs Linux)"))
}

fn missing_tool(tool: &str, error: &io::Error) -> Error {
    let package = if tool == "ip" { "iproute2" } else { "util-linux" };
    Error::Namespace(format!("cannot run `{tool}` ({error}); it comes with the package {package}"))
}
