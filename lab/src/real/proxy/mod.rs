//! A proxy between one client and the real API server, which does to requests and watch events what the embedded API can
//! do by itself: see [`faults`](crate::faults).
//!
//! One proxy is one connection of one incarnation of a controller. It listens on a loopback address of its own, without
//! TLS, and asks the server as the user it is for. It compresses nothing, so that the events of a watch are lines.
//! Besides the faults it can be away: answer nothing for a while, as a server that is stopped, or refuse connections, as
//! one that is gone.

mod service;
mod watch;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError};

use kube::{Client, Config};
use tokio::sync::Mutex;

use super::{Cluster, Error, Result, namespace};
use crate::faults::{Faults, When, numbered};
use crate::http::Server;
use service::{Endpoint, Shared};

/// The port that proxies listen on, each on its own address.
const PORT: u16 = 6443;

/// A proxy for one client. Dropping it ends it, and nothing that came by it is carried out any more.
pub struct Proxy {
    address: SocketAddr,
    user: String,
    /// What clients are made from.
    config: Config,
    shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A proxy to this API server for clients that are this user.
    pub fn proxy(&self, user: &str) -> Result<Proxy> {
        let address = SocketAddr::from((namespace::loopback_address(), PORT));
        let mut upstream = self.config_for(user)?;
        upstream.disable_compression = true;
        let upstream =
            Client::try_from(upstream).map_err(Error::kube(format!("make a client for {user}")))?;
        let config = self.config_at(&format!("http://{address}"), user)?;
        let shared = Arc::new(Shared::new(upstream));
        let server = listen(address, &shared)?;
        Ok(Proxy { address, user: user.to_owned(), config, shared, server: Mutex::new(Some(server)) })
    }
}

fn listen(address: SocketAddr, shared: &Arc<Shared>) -> Result<Server> {
    let failed = || Error::io(format!("listen on {address}"));
    let listener = TcpListener::bind(address).map_err(failed())?;
    Server::serve(listener, Endpoint::new(shared.clone())).map_err(failed())
}

impl Proxy {
    /// A client that comes by this proxy: no retries, and a time-out on every step.
    pub fn client(&self) -> Result<Client> {
        Client::try_from(self.config.clone()).map_err(Error::kube(format!("make a client for {}", self.user)))
    }

    /// The faults of this connection.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Every request that would write, in the order they came, each as the condition that strikes exactly it when the same
    /// is run again: the n-th write to its object.
    pub fn crash_points(&self) -> Vec<When> {
        numbered(self.shared.written.lock().unwrap_or_else(PoisonError::into_inner).iter())
    }

    /// From now on nothing passes in either direction, and nobody is told: connections stay open, new ones too.
    pub fn pause(&self) {
        self.shared.paused.send_replace(true);
    }

    /// What was held by [`pause`](Self::pause) passes, also what its sender gave up meanwhile.
    pub fn resume(&self) {
        self.shared.paused.send_replace(false);
    }

    /// From now on connections are refused; those that are open break.
    pub async fn refuse_connections(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.killed().await;
        }
    }

    /// Connections are taken again, at the same address.
    pub async fn accept_connections(&self) -> Result<()> {
        let mut server = self.server.lock().await;
        if server.is_none() {
            *server = Some(listen(self.address, &self.shared)?);
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Writes that are late would else arrive after its end.
        self.shared.faults.crash();
    }
}
