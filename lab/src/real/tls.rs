//! TLS that ends at the predictor, and at no proxy before it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{Error, Result, use_ring};

/// Who a server is: a name, and a certificate that it has made for itself.
pub struct Identity {
    name: ServerName<'static>,
    certificate: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    /// Of the host with this name.
    pub fn new(host: &str) -> Result<Self> {
        use_ring();
        let failed =
            |error: &dyn fmt::Display| Error::Tls { host: host.to_owned(), problem: error.to_string() };
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([host.to_owned()])?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let certificate = cert.der().clone();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.clone()], key);
        Ok(Self { name, certificate, config: Arc::new(config.map_err(|error| failed(&error))?) })
    }

    pub(super) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }
}

/// Takes TLS connections and passes on what is in them. Dropping it breaks them.
#[derive(Debug)]
pub struct Secured(JoinHandle<()>);

impl Secured {
    /// Listens there as this identity, for a server of the same pod.
    pub fn start(
        listener: std::net::TcpListener,
        identity: &Identity,
        server: SocketAddr,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let acceptor = TlsAcceptor::from(identity.config.clone());
        Ok(Self(tokio::spawn(accept(listener, acceptor, server))))
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, server: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(pass(stream, acceptor.clone(), server));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that breaks is its client's to notice.
async fn pass(stream: TcpStream, acceptor: TlsAcceptor, server: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut outside = acceptor.accept(stream).await?;
    let mut inside = TcpStream::connect(server).await?;
    inside.set_nodelay(true)?;
    copy_bidirectional(&mut outside, &mut inside).await.map(drop)
}
