//! How users reach a proxy: always at its address, whatever host they ask for, by TLS where they are told to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::tls::Identity;

/// The way to a proxy.
#[derive(Clone)]
pub(super) struct Way {
    proxy: SocketAddr,
    secured: Option<(TlsConnector, ServerName<'static>)>,
}

impl Way {
    pub(super) fn to(proxy: SocketAddr) -> Self {
        Self { proxy, secured: None }
    }

    /// By TLS with whoever has this identity.
    pub(super) fn secured(self, identity: &Identity) -> Result<Self, rustls::Error> {
        super::use_ring();
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate())?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { secured: Some((Arc::new(config).into(), identity.name())), ..self })
    }
}

impl Service<Uri> for Way {
    type Response = Link;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Link>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { proxy, secured } = self.clone();
        async move {
            let stream = TcpStream::connect(proxy).await?;
            // Without it, small requests wait for the other side's acknowledgement.
            stream.set_nodelay(true)?;
            let both: Box<dyn Both> = match secured {
                None => Box::new(stream),
                Some((connector, name)) => Box::new(connector.connect(name, stream).await?),
            };
            Ok(Link(TokioIo::new(both)))
        }
        .boxed()
    }
}

/// What can be read and written.
trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// A connection, with or without TLS.
pub(super) struct Link(TokioIo<Box<dyn Both>>);

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
