//! A real Kubernetes with a real Istio and a real Prometheus as plain processes: no containers, no root, no cluster to
//! share.
//!
//! An in-memory API can be fast and can inject faults, but only the real server has admission, schemas, RBAC and its
//! own idea of what a write means. So what must be true of Sluice on a cluster is shown here: etcd, kube-apiserver,
//! kube-controller-manager and Prometheus, the same programs that a cluster runs, started in about three seconds; and, where a test is about
//! traffic, istiod and Envoy in a few seconds more.
//!
//! | module | what it gives |
//! |---|---|
//! | [`binaries`] | the programs: found on this machine, or built once with Go and cached |
//! | [`namespace`] | a network namespace of the process's own, where any `10.244.x.y` can be bound |
//! | [`Cluster`] | the Kubernetes API with users, RBAC, an audit log and controllers |
//! | [`proxy`] | faults between one client and the API server |
//! | [`install`] | Sluice on it, as `kubectl apply -k deploy` does |
//! | [`pods`] | what scheduler and kubelet would do for a pod whose process is part of the test |
//! | [`Prometheus`] | a server that scrapes the addresses it is given |
//! | [`Istio`] | istiod, whose validating webhook fails closed |
//! | [`Envoy`] | a proxy that istiod tells what to do: the ingress gateway, or a client's own |
//! | [`Kubelet`] | runs pods as processes on their addresses |
//! | [`Users`] | requests in a steady stream over the wire, and every answer |
//! | [`wait`] | waiting for a condition with a limit, instead of sleeping |
//!
//! A test binary of its own (`harness = false`) enters the namespace first and then starts what it needs:
//!
//! ```no_run
//! use sluice_lab::real::{Cluster, Options, crds, namespace};
//!
//! fn main() -> anyhow::Result<()> {
//!     namespace::enter()?; // before any thread: runs this very program again, inside
//!     tokio::runtime::Runtime::new()?.block_on(async {
//!         let cluster = Cluster::start(Options::new().user("sluice")).await?;
//!         cluster.apply_yaml(crds::VIRTUAL_SERVICES).await?;
//!         let _client = cluster.user("sluice")?; // may do nothing until RBAC says so
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Everything ends with the process, however it ends: see [`namespace`].

mod alerts;
pub mod binaries;
mod cluster;
pub mod crds;
mod error;
mod folder;
pub mod install;
mod istio;
mod kubelet;
pub mod namespace;
pub mod pods;
pub(crate) mod process;
mod prometheus;
pub mod proxy;
pub mod tls;
mod trials;
pub mod users;
pub mod wait;
mod wire;

pub use alerts::{Alert, Rule};
pub use cluster::{Audit, AuditEntry, Authors, Cluster, History, Options, apply_yaml};
pub use error::Error;
pub use istio::{Envoy, Istio};
pub use kubelet::Kubelet;
pub use process::of_group;
pub use prometheus::{Guard, Histograms, Prometheus, Sample, Target};
pub use proxy::Proxy;
pub use users::{Answer, Answers, Users};

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Both HTTP clients (kube's and reqwest's) take the process's TLS provider; that it may be set already is fine.
pub(crate) fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
