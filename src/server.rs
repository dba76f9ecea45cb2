//! What the controller serves about itself: `/metrics`, `/livez`, `/readyz`.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;

use crate::controller::Telemetry;

#[derive(Clone)]
struct Served {
    registry: Arc<Registry>,
    telemetry: Telemetry,
}

/// Serves on `address` until the future is dropped.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, registry: Registry, telemetry: Telemetry) -> io::Result<()> {
    let served = Served { registry: Arc::new(registry), telemetry };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served);
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /metrics, /livez and /readyz");
    axum::serve(listener, router).await
}

async fn ready(State(served): State<Served>) -> (StatusCode, &'static str) {
    if served.telemetry.is_synced() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet\n")
    }
}

async fn metrics(State(served): State<Served>) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let mut text = String::new();
    let status = match encode(&mut text, &served.registry) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
