//! Whether a pod's process is ready.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Kubernetes' own default.
const LIMIT: Duration = Duration::from_secs(1);

/// What says that a process is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    /// That it runs.
    Started,
    /// That it takes connections.
    Listens(SocketAddr),
    /// That a page answers with success.
    Answers(String),
}

impl Probe {
    pub(super) async fn holds(&self) -> bool {
        match self {
            Self::Started => true,
            Self::Listens(address) => {
                timeout(LIMIT, TcpStream::connect(address)).await.is_ok_and(|connected| connected.is_ok())
            }
            Self::Answers(url) => {
                let answer = timeout(LIMIT, reqwest::get(url)).await;
                answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success()))
            }
        }
    }
}
