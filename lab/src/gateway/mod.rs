//! A gateway that obeys VirtualServices: it watches them, Services and EndpointSlices through any [`kube::Client`], and
//! sends each request where they say.
//!
//! It knows of an http route: `match` (uri, method, authority, headers, withoutHeaders, queryParams), `route` with
//! weights, `mirror`, `mirrors` and percentages, `rewrite.uri`, `delegate`; then any ready endpoint of the destination's
//! Service. Weights are dealt out by smooth weighted round robin, so that 1,000 requests at 75/25 are exactly 750 and 250,
//! as long as the weights stay. It does not know of `gateways` (it obeys every VirtualService that names a host of the
//! request), subsets (all endpoints of the host serve all of its subsets), retries, timeouts, faults, and header changes but
//! those of a destination's answers; it is no reference for those.
//!
//! It exports Istio's metric names on an address of its own: as a source sees requests, copies left out, and as proxies
//! beside the predictors would, copies counted like requests.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;

use crate::http::Server;

mod balance;
mod delegate;
mod load;
mod metrics;
mod route;
mod send;
mod view;

pub use load::{Load, Report, Running};

/// Bodies above this many bytes are refused by the listener.
const BODY_LIMIT: usize = 16 << 20;

/// What went to one Service, as the gateway saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Answered requests by status code; 503 also where no endpoint could be reached.
    pub by_code: BTreeMap<u16, u64>,
    /// Copies of requests, whose answers nobody saw.
    pub mirrored: u64,
}

impl Delivered {
    /// All requests but the mirrored ones.
    pub fn total(&self) -> u64 {
        self.by_code.values().sum()
    }

    /// Those answered with 500 or more.
    pub fn errors(&self) -> u64 {
        self.by_code.iter().filter(|(code, _)| **code >= 500).map(|(_, n)| n).sum()
    }
}

struct Inner {
    view: view::View,
    http: send::Upstream,
    balance: Mutex<balance::Balance>,
    metrics: Mutex<metrics::Metrics>,
    /// By namespace and name of the Service.
    delivered: Mutex<BTreeMap<(String, String), Delivered>>,
    watches: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running gateway. Clones are the same gateway; it ends with the last of them.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

impl Gateway {
    /// Starts to watch, in all namespaces. Hosts are read as Istio reads them in the cluster domain `cluster.local`.
    /// Requests may be sent at once, but only once [`synced`](Self::synced) they find their way.
    pub fn start(client: &kube::Client) -> Self {
        let (view, watches) = view::View::start(client);
        let inner = Inner {
            view,
            http: send::upstream(),
            balance: Mutex::default(),
            metrics: Mutex::default(),
            delivered: Mutex::default(),
            watches,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Waits until everything was listed once.
    pub async fn synced(&self) {
        self.inner.view.synced().await;
    }

    /// Sends one request on its way. The host is the `Host` header's, or the URI's where there is none. Always an
    /// answer: 404 where no route takes the request, 503 where it has nowhere to go.
    pub async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        send::send(&self.inner, request).await
    }

    /// Serves requests over HTTP.
    pub fn listen(&self, address: SocketAddr) -> io::Result<Server> {
        let router = Router::new().fallback(forward).with_state(self.clone());
        Server::bind(address, router)
    }

    /// Serves `/metrics`, and the same as `/stats/prometheus` as Istio's proxies do.
    pub fn listen_metrics(&self, address: SocketAddr) -> io::Result<Server> {
        let metrics = |State(gateway): State<Self>| async move { gateway.metrics() };
        let router = Router::new().route("/metrics", get(metrics)).route("/stats/prometheus", get(metrics));
        Server::bind(address, router.with_state(self.clone()))
    }

    /// What `/metrics` says now.
    pub fn metrics(&self) -> String {
        lock(&self.inner.metrics).exposition()
    }

    /// What went to each Service so far, by namespace and name.
    pub fn delivered(&self) -> BTreeMap<(String, String), Delivered> {
        lock(&self.inner.delivered).clone()
    }

    /// What went to one Service so far.
    pub fn delivered_to(&self, namespace: &str, service: &str) -> Delivered {
        let delivered = lock(&self.inner.delivered);
        delivered.get(&(namespace.into(), service.into())).cloned().unwrap_or_default()
    }

    /// How many ready endpoints the gateway knows behind the Service's only port.
    pub fn ready_endpoints(&self, namespace: &str, service: &str) -> usize {
        let service = view::Found { namespace: namespace.into(), name: service.into() };
        self.inner.view.endpoints(&service, None).map_or(0, |endpoints| endpoints.len())
    }

    /// The resourceVersion of the VirtualService as the gateway obeys it now, `None` when it knows none of that name.
    pub fn obeys(&self, namespace: &str, name: &str) -> Option<String> {
        self.inner.view.version_of(namespace, name)
    }
}

async fn forward(
    State(gateway): State<Gateway>,
    request: axum::extract::Request,
) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    match http_body_util::Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => gateway.send(Request::from_parts(parts, body.to_bytes())).await.map(Into::into),
        Err(e) => (http::StatusCode::BAD_REQUEST, e.to_string()).into_response(),
    }
}
