//! An in-memory Kubernetes API behind a real [`kube::Client`]: no sockets, no schema, ready in microseconds.
//!
//! It exists so that the controller, unchanged, can be run thousands of times under faults and in virtual time, and so
//! that the demo needs nothing but Rust. Where it differs from the real API server it is wrong; the conformance tests
//! run the same questions against both. Known to be left out: schemas, defaulting and CEL rules, admission other than
//! [`Api::webhook`], server-side apply (415), `managedFields`, authorization, paging (a `limit` may be ignored by a
//! server), and a pod's graceful deletion.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use kube::api::PostParams;
//!
//! let api = sluice_lab::embedded::Api::new();
//! let maps: kube::Api<ConfigMap> = kube::Api::namespaced(api.client_as("me"), "default");
//! let map: ConfigMap = serde_json::from_value(serde_json::json!({"metadata": {"name": "a"}})).unwrap();
//! maps.create(&PostParams::default(), &map).await.unwrap();
//! assert_eq!(api.history().len(), 1);
//! assert_eq!(api.history()[0].user, "me");
//! # });
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::watch as signal;

use crate::{faults::numbered, http::Server};

mod change;
mod collect;
mod crd;
mod discovery;
mod kind;
mod object;
mod patch;
mod record;
mod refusal;
mod request;
mod selector;
mod service;
mod store;
mod verbs;
mod watch;

pub use crate::faults::{EventThen, Faults, Tamper, Then, Verb, When};
pub use kind::Kind;
pub use record::{Asked, Count, GARBAGE_COLLECTOR, Write};
pub use refusal::Refusal;

pub(crate) use service::{Body, refused};
use store::{Key, Store};

/// The namespaces every API starts with.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

struct Shared {
    store: Mutex<Store>,
    /// The latest version, for watches to wait on.
    changed: signal::Sender<u64>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API. Clones are the same API.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

/// How an [`Api`] is made.
pub struct Builder {
    kinds: Vec<Kind>,
    clock: store::Clock,
    keep: usize,
}

impl Builder {
    /// The clock behind `creationTimestamp` and the record of writes; the real one unless given.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How many changes are kept for watches, 100,000 unless given. A watch from before them is answered 410.
    #[must_use]
    pub fn keep_changes(mut self, changes: usize) -> Self {
        self.keep = changes;
        self
    }

    /// Serves one more kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Makes the API, with the namespaces `default` and `kube-system`.
    pub fn build(self) -> Api {
        let mut store = Store::new(Vec::new(), self.clock, self.keep);
        for kind in self.kinds {
            store.register(kind);
        }
        let api =
            Api { shared: Arc::new(Shared { store: Mutex::new(store), changed: signal::Sender::new(1) }) };
        for name in NAMESPACES {
            api.seed_namespace(name);
        }
        let mut store = api.shared.store();
        store.writes.clear();
        // As on a server that has been up for a while, the first versions are history.
        store.expire();
        drop(store);
        api
    }
}

impl Default for Api {
    fn default() -> Self {
        Self::new()
    }
}

impl Api {
    /// An API with the [standard kinds](Kind::standard) and the real clock.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// An API with choices of one's own.
    pub fn builder() -> Builder {
        Builder { kinds: Kind::standard(), clock: Arc::new(Utc::now), keep: 100_000 }
    }

    /// A client without faults whose requests are recorded as `lab`. Like all of these it needs a tokio runtime.
    pub fn client(&self) -> kube::Client {
        self.client_as("lab")
    }

    /// A client without faults whose requests are recorded under this name.
    pub fn client_as(&self, user: &str) -> kube::Client {
        self.connect(user).client()
    }

    /// A connection with faults of its own, for instance one incarnation of a controller.
    pub fn connect(&self, user: &str) -> Connection {
        let endpoint = service::Endpoint {
            shared: self.shared.clone(),
            faults: Arc::new(Faults::new()),
            user: user.into(),
        };
        Connection { endpoint }
    }

    /// Serves one more kind from now on.
    pub fn register(&self, kind: Kind) {
        self.shared.store().register(kind);
    }

    /// Adds a webhook: it sees every write that is about to be committed, `after` with the version it would get, and
    /// may refuse it. It must not use the API.
    pub fn webhook(&self, webhook: impl Fn(&Write) -> Result<(), Refusal> + Send + Sync + 'static) {
        self.shared.store().webhooks.push(Arc::new(webhook));
    }

    /// Forgets the history that watches start from: the next watch from an earlier version is answered 410. Watches
    /// that have read all changes go on, others have lost some and are answered 410 too.
    pub fn expire_history(&self) {
        let mut store = self.shared.store();
        store.expire();
    }

    /// Every committed write so far, in order. What the API began with is not among them.
    pub fn history(&self) -> Vec<Write> {
        self.shared.store().writes.clone()
    }

    /// How often each client asked for what so far.
    pub fn requests(&self) -> BTreeMap<Asked, Count> {
        self.shared.store().requests.clone()
    }

    /// How many requests of this client would change something, refused ones and those without effect among them, by
    /// resource (`plural` or `plural/status`).
    pub fn write_requests(&self, user: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (asked, count) in self.requests() {
            if asked.user == user && asked.verb.writes() {
                *counts.entry(asked.resource).or_default() += count.total;
            }
        }
        counts
    }

    /// Every request of this client that would write, in the order they came, each as the condition that strikes
    /// exactly it when the same is run again: the n-th write to its object. After a run without faults these are the
    /// places where to crash.
    pub fn crash_points(&self, user: &str) -> Vec<When> {
        let store = self.shared.store();
        numbered(store.written.iter().filter(|(by, _)| &**by == user).map(|(_, when)| when))
    }

    /// The object as stored, without a request: for oracles. `resource` is `plural.group` (`plural` in the core group),
    /// the namespace is empty for cluster-scoped kinds.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = Key { resource: resource.into(), namespace: namespace.into(), name: name.into() };
        self.shared.store().get(&key)
    }

    /// The latest resourceVersion.
    pub fn version(&self) -> u64 {
        self.shared.store().version()
    }

    fn seed_namespace(&self, name: &str) {
        let mut store = self.shared.store();
        let uid = store.next_uid();
        let created = store.timestamp();
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": name, "uid": uid, "creationTimestamp": created,
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        let author =
            store::Author { user: "system".into(), verb: Verb::Create, resource: "namespaces".into() };
        let key = Key { resource: "namespaces".into(), namespace: String::new(), name: name.into() };
        // Only a webhook could refuse, and there is none yet.
        let _ = store.commit(&author, &key, Some(object));
    }
}

/// One client's connection: its name, its faults, and as many [`kube::Client`]s over it as wanted.
#[derive(Clone)]
pub struct Connection {
    endpoint: service::Endpoint,
}

impl Connection {
    /// A client over this connection, with `default` as its namespace. It has no retry layer.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.endpoint.clone(), "default")
    }

    /// Serves this connection over HTTP, for other processes: the command line, `kubectl`, a controller of its own.
    /// [`kubeconfig`] says how they find it. Everybody who comes this way is this one client, faults included.
    pub fn listen(&self, address: SocketAddr) -> io::Result<Server> {
        Server::serve(TcpListener::bind(address)?, self.endpoint.clone())
    }

    /// The name under which its requests are recorded.
    pub fn user(&self) -> &str {
        &self.endpoint.user
    }

    /// The faults of this connection.
    pub fn faults(&self) -> &Faults {
        &self.endpoint.faults
    }
}

/// A file for `KUBECONFIG` with which other processes reach an API that [listens](Connection::listen) there.
pub fn kubeconfig(address: SocketAddr) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "lab", "user": {}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": "default"}}],
    })
    .to_string()
}
