//! The way from a port of this machine into the namespace: a socket in a folder, with a connection on either side.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use super::place::Place;
use super::{PORTS, Way};

/// Listens at a port for each way in, writes down which, and passes connections on for as long as this process runs.
pub(super) fn outside(place: &Place) -> Result<()> {
    let mut ports = BTreeMap::new();
    let mut listeners = Vec::new();
    for (way, wanted) in PORTS {
        let listener = listen(wanted).context("listen at a port of 127.0.0.1")?;
        listener.set_nonblocking(true)?;
        ports.insert(way, listener.local_addr()?.port());
        listeners.push((listener, place.socket(way)));
    }
    place.record_ports(&ports)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            for (listener, socket) in listeners {
                tokio::spawn(pass_in(listener, socket));
            }
            std::future::pending::<()>().await;
        });
    });
    Ok(())
}

/// At this port, or where somebody has it, at any.
fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
}

async fn pass_in(listener: TcpListener, socket: PathBuf) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut outer, _) = listener.accept().await?;
        let socket = socket.clone();
        tokio::spawn(async move {
            // Either end may close at any time, and that is all there is to it.
            if let Ok(mut inner) = UnixStream::connect(socket).await {
                let _ = outer.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            }
        });
    }
}

/// Passes what comes by a way on to an address inside, for as long as the runtime runs.
pub(super) fn inside(place: &Place, way: Way, to: SocketAddr) -> Result<()> {
    let socket = place.socket(way);
    let listener = UnixListener::bind(&socket).with_context(|| format!("listen at {}", socket.display()))?;
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut inner) = TcpStream::connect(to).await {
                    let _ = inner.set_nodelay(true);
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                }
            });
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_goes_in_at_a_port_comes_out_inside_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().to_owned());
        let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = echo.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        inside(&place, Way::Gateway, to).unwrap();
        outside(&place).unwrap();
        let port = place.ports().unwrap()[&Way::Gateway];
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer));
        read.await.unwrap().unwrap();
        assert_eq!(answer, b"hello");
    }

    #[test]
    fn a_port_that_somebody_has_is_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(listen(port).unwrap().local_addr().unwrap().port(), port);
    }
}
