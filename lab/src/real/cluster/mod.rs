//! The Kubernetes API of one test: etcd, kube-apiserver and kube-controller-manager.

mod apply;
mod audit;
mod credentials;
mod history;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use kube::api::DynamicObject;
use kube::{Client, Config};
use tokio::sync::Mutex;

use super::binaries::Component;
use super::folder::Folder;
use super::process::{Process, free_ports, start_anew};
use super::{Error, Result, namespace, use_ring};
pub use apply::apply_yaml;
pub use audit::{Audit, AuditEntry};
use credentials::{ADMIN, Credentials};
pub use history::{Authors, History};

/// What a cluster is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    users: Vec<String>,
    history: bool,
}

impl Options {
    /// A cluster with an admin and nobody else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user without any group but `system:authenticated`, so that RBAC decides about everything they do. A name
    /// like `system:serviceaccount:sluice-system:sluice` is one that a role binding to that service account is about.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.users.push(name.into());
        self
    }

    /// The cluster keeps its [`history`](Cluster::history). Its server is a little slower for it.
    #[must_use]
    pub fn history(mut self) -> Self {
        self.history = true;
        self
    }
}

/// A running Kubernetes API with its store and its controllers. Dropping it ends all three and removes their data; with
/// `SLUICE_LAB_KEEP` in the environment the data and the logs stay.
///
/// Several can run side by side. Its controllers are those for Deployments, `ReplicaSets`, `EndpointSlices`, namespaces
/// and garbage. There is no scheduler and no kubelet: see [`pods`](super::pods). Service accounts get no tokens.
pub struct Cluster {
    // Dropped in this order: nobody outlives what they talk to.
    _controllers: Process,
    api_server: Mutex<Option<Process>>,
    _etcd: Process,
    plan: Plan,
    folder: Folder,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts everything and waits until it is ready, which takes about three seconds once the programs are there.
    ///
    /// Only in a [`namespace`].
    pub async fn start(options: Options) -> Result<Self> {
        if !namespace::entered() {
            return Err(Error::NotInNamespace);
        }
        use_ring();
        start_anew(|| Self::try_start(&options)).await
    }

    async fn try_start(options: &Options) -> Result<Self> {
        let folder = Folder::new()?;
        let plan = Plan::new(folder.path(), options)?;
        let etcd = plan.start_etcd().await?;
        let api_server = plan.start_api_server().await?;
        let controllers = plan.start_controllers().await?;
        Ok(Self {
            _controllers: controllers,
            api_server: Mutex::new(Some(api_server)),
            _etcd: etcd,
            plan,
            folder,
        })
    }

    /// A client of the user who may do everything.
    ///
    /// Each call makes a new one with connections of its own, and it lives in the runtime that called.
    pub fn admin(&self) -> Result<Client> {
        self.user(ADMIN)
    }

    /// A client of a user that the [`Options`] named.
    pub fn user(&self, name: &str) -> Result<Client> {
        let config = self.config_for(name)?;
        Client::try_from(config).map_err(Error::kube(format!("make a client for {name}")))
    }

    /// What a client of the user is made from: no retries, and a time-out on every step.
    pub fn config_for(&self, user: &str) -> Result<Config> {
        self.plan.credentials.config(user)
    }

    /// [`config_for`](Self::config_for), by way of something else that listens there.
    pub(super) fn config_at(&self, url: &str, user: &str) -> Result<Config> {
        self.plan.credentials.config_at(url, user)
    }

    /// A file for `KUBECONFIG`, with which another process acts as the user.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        self.plan.credentials.kubeconfig(user)
    }

    /// The text of such a file with the namespace that the process counts as its own.
    pub fn kubeconfig_in(&self, user: &str, namespace: &str) -> Result<String> {
        let path = self.kubeconfig(user)?;
        let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
        let mut kubeconfig: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Error::Yaml(error.to_string()))?;
        kubeconfig["contexts"][0]["context"]["namespace"] = namespace.into();
        Ok(kubeconfig.to_string())
    }

    /// A reader of the requests that are answered from now on.
    pub fn audit(&self) -> Audit {
        Audit::from_now(&self.plan.audit_log())
    }

    /// A reader of every committed state from now on. Only where the [`Options`] asked for it.
    pub async fn history(&self) -> Result<History> {
        if !self.plan.history {
            return Err(Error::Etcd("this cluster was started without its history".to_owned()));
        }
        History::from_now(self.plan.etcd(), self.audit()).await
    }

    /// Applies a YAML stream of any kinds as the admin, server-side and by force, and returns the objects as stored.
    ///
    /// Objects without a namespace go to `default`. A custom resource definition is waited for until it is served, so
    /// objects of it may follow in the same stream.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        apply_yaml(&self.admin()?, yaml, "default").await
    }

    /// Kills the API server, as a crash would. Nothing is lost, nobody is answered. Does nothing if it is stopped.
    pub async fn stop_api_server(&self) {
        drop(self.api_server.lock().await.take());
    }

    /// Starts the API server again at the same address, with the same data and users, and waits until it is ready. Does
    /// nothing if it runs.
    pub async fn start_api_server(&self) -> Result<()> {
        let mut api_server = self.api_server.lock().await;
        if api_server.is_none() {
            *api_server = Some(self.plan.start_api_server().await?);
        }
        Ok(())
    }

    /// Stops the API server's process without ending it (SIGSTOP): connections stay open and nobody is answered.
    pub async fn freeze_api_server(&self) -> Result<()> {
        self.signal_api_server("STOP").await
    }

    /// Lets the API server go on after [`freeze_api_server`](Self::freeze_api_server).
    pub async fn thaw_api_server(&self) -> Result<()> {
        self.signal_api_server("CONT").await
    }

    async fn signal_api_server(&self, signal: &str) -> Result<()> {
        match self.api_server.lock().await.as_ref() {
            Some(process) => process.signal(signal),
            None => Ok(()),
        }
    }

    /// Where logs, credentials and data are, for as long as the cluster lives.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Everything that is fixed before the first process starts: addresses and files.
struct Plan {
    folder: PathBuf,
    credentials: Credentials,
    etcd_port: u16,
    peer_port: u16,
    api_port: u16,
    controllers_port: u16,
    history: bool,
}

impl Plan {
    fn new(folder: &Path, options: &Options) -> Result<Self> {
        let [etcd_port, peer_port, api_port, controllers_port] = free_ports()?;
        let credentials = Credentials::create(folder, api_port, &options.users)?;
        let (folder, history) = (folder.to_owned(), options.history);
        let plan = Self { folder, credentials, etcd_port, peer_port, api_port, controllers_port, history };
        let policy = plan.folder.join("audit-policy.yaml");
        let text = if history { audit::POLICY_WITH_VERSIONS } else { audit::POLICY };
        fs::write(&policy, text).map_err(Error::path("write", &policy))?;
        Ok(plan)
    }

    fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn etcd(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    async fn start_etcd(&self) -> Result<Process> {
        let (clients, peers) = (self.etcd_port, self.peer_port);
        let args = [
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls=http://127.0.0.1:{clients}"),
            format!("--advertise-client-urls=http://127.0.0.1:{clients}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
            // The data need not survive the machine.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let mut etcd = self.spawn(Component::Etcd, args)?;
        let health = format!("{}/health", self.etcd());
        etcd.ready(|| async {
            let answer = reqwest::get(&health).await.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await?;
        Ok(etcd)
    }

    async fn start_api_server(&self) -> Result<Process> {
        let file = |name| self.credentials.file(name);
        let mut args = vec![
            format!("--etcd-servers={}", self.etcd()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.api_port),
            // There is no default route to take it from.
            format!("--advertise-address={}", namespace::NODE),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            // It would hold back every pod until its service account has a token.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
            format!("--audit-log-path={}", self.audit_log().display()),
            // Never begin a new file (the unit is MB), or readers would lose their place.
            "--audit-log-maxsize=100000".to_owned(),
        ];
        if self.history {
            // Every revision, and none of them in protobuf.
            args.push("--etcd-compaction-interval=0".to_owned());
            args.push("--storage-media-type=application/json".to_owned());
        }
        let mut api_server = self.spawn(Component::KubeApiserver, args)?;
        api_server.ready(|| self.probe(self.api_port, "/readyz")).await?;
        Ok(api_server)
    }

    async fn start_controllers(&self) -> Result<Process> {
        let file = |name| self.credentials.file(name);
        let kubeconfig = self.credentials.kubeconfig(ADMIN)?;
        let args = [
            format!("--kubeconfig={}", kubeconfig.display()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.controllers_port),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            "--controllers=deployment-controller,replicaset-controller,endpointslice-controller,\
             garbage-collector-controller,namespace-controller"
                .to_owned(),
            "--leader-elect=false".to_owned(),
            // Waiting for its own rate limit is not what tests are about.
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        let mut controllers = self.spawn(Component::KubeControllerManager, args)?;
        controllers.ready(|| self.probe(self.controllers_port, "/healthz")).await?;
        Ok(controllers)
    }

    fn spawn(&self, component: Component, args: impl IntoIterator<Item = String>) -> Result<Process> {
        Process::spawn(component.program(), &component.locate()?, args, &self.folder)
    }

    /// Asks a Kubernetes component for its health; what is not well is in the error.
    async fn probe(&self, port: u16, path: &str) -> Result<(), String> {
        let config = self.credentials.config_at(&format!("https://127.0.0.1:{port}"), ADMIN);
        let client = config
            .map_err(|error| error.to_string())
            .and_then(|config| Client::try_from(config).map_err(|error| error.to_string()))?;
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        client.request_text(request).await.map(drop).map_err(|error| error.to_string())
    }
}
