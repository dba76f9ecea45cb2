//! One request's way through the gateway.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header, request::Parts, uri::Authority};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;

use super::{Inner, lock, metrics::Labels, route, view};

pub(super) type Upstream = Client<HttpConnector, Full<Bytes>>;

/// Headers that are about one connection and not about the request.
const HOP_BY_HOP: [header::HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::PROXY_AUTHORIZATION];

pub(super) fn upstream() -> Upstream {
    Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build_http()
}

/// What became of a request that reached nobody.
struct Lost {
    code: StatusCode,
    flags: &'static str,
    why: String,
}

impl Lost {
    fn unavailable(flags: &'static str, why: impl Into<String>) -> Self {
        Self { code: StatusCode::SERVICE_UNAVAILABLE, flags, why: why.into() }
    }

    fn answer(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.why.clone()));
        *response.status_mut() = self.code;
        response
    }
}

pub(super) async fn send(inner: &Arc<Inner>, request: Request<Bytes>) -> Response<Bytes> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let host = host(&parts);
    let asked =
        route::Asked { method: &parts.method, uri: &parts.uri, host: host.as_str(), headers: &parts.headers };
    let Some((vs, route)) = inner.view.route(&asked) else {
        let lost = Lost {
            code: StatusCode::NOT_FOUND,
            flags: "NR",
            why: format!("no route for {host}{}", parts.uri.path()),
        };
        report(inner, None, lost.code, lost.flags, started.elapsed());
        return lost.answer();
    };
    let turn = format!("{}/{}/{}", vs.namespace, vs.name, route.at);
    mirror(inner, &vs.namespace, &turn, &route, &parts, &body);
    let destination = lock(&inner.balance).destination(&turn, &route.destinations).cloned();
    let service = destination.as_ref().and_then(|d| view::find_service(&d.host, &vs.namespace));
    let outcome = match (&destination, &service) {
        (Some(destination), Some(service)) => {
            deliver(inner, service, destination.port, &route.path, &parts, body).await
        }
        (Some(destination), None) => {
            Err(Lost::unavailable("NC", format!("{} is no Service of this cluster", destination.host)))
        }
        (None, _) => Err(Lost::unavailable("NC", "no destination has weight")),
    };
    let (answer, flags) = match outcome {
        Ok(answer) => (with_headers(answer, destination.as_ref()), "-"),
        Err(lost) => (lost.answer(), lost.flags),
    };
    report(inner, service.as_ref(), answer.status(), flags, started.elapsed());
    answer
}

/// An answer with the changes that its destination asks for; what is no header is left out.
fn with_headers(mut answer: Response<Bytes>, destination: Option<&route::Destination>) -> Response<Bytes> {
    let parsed = |(name, value): &(String, String)| {
        Some((name.parse::<header::HeaderName>().ok()?, value.parse::<header::HeaderValue>().ok()?))
    };
    let Some(headers) = destination.map(|destination| &destination.headers) else { return answer };
    for (name, value) in headers.set.iter().filter_map(parsed) {
        answer.headers_mut().insert(name, value);
    }
    for (name, value) in headers.add.iter().filter_map(parsed) {
        answer.headers_mut().append(name, value);
    }
    answer
}

/// The host that was asked for, without port.
fn host(parts: &Parts) -> String {
    let given = parts.headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let authority =
        given.and_then(|h| h.parse::<Authority>().ok()).or_else(|| parts.uri.authority().cloned());
    authority.map(|a| a.host().to_string()).unwrap_or_default()
}

fn report(
    inner: &Inner,
    service: Option<&view::Found>,
    code: StatusCode,
    flags: &'static str,
    took: Duration,
) {
    let unknown = || "unknown".to_string();
    let labels = Labels {
        reporter: "source",
        name: service.map_or_else(unknown, |s| s.name.clone()),
        namespace: service.map_or_else(unknown, |s| s.namespace.clone()),
        host: service.map_or_else(unknown, view::Found::host),
        code: code.as_u16(),
        flags,
    };
    lock(&inner.metrics).served(labels, took);
    if let Some(service) = service {
        let mut delivered = lock(&inner.delivered);
        let to = delivered.entry((service.namespace.clone(), service.name.clone())).or_default();
        *to.by_code.entry(code.as_u16()).or_default() += 1;
    }
}

/// Sends copies where the route says so, and waits for none of them.
fn mirror(
    inner: &Arc<Inner>,
    namespace: &str,
    turn: &str,
    route: &route::Route,
    parts: &Parts,
    body: &Bytes,
) {
    for mirror in &route.mirrors {
        if !lock(&inner.balance).mirrors(turn, mirror) {
            continue;
        }
        let Some(service) = view::find_service(&mirror.destination.host, namespace) else { continue };
        let key = (service.namespace.clone(), service.name.clone());
        lock(&inner.delivered).entry(key).or_default().mirrored += 1;
        let mut parts = parts.clone();
        // Envoy marks a copy by its host.
        if let Ok(shadow) = format!("{}-shadow", host(&parts)).parse() {
            parts.headers.insert(header::HOST, shadow);
        }
        let (inner, port, path, body) =
            (inner.clone(), mirror.destination.port, route.path.clone(), body.clone());
        tokio::spawn(async move { deliver(&inner, &service, port, &path, &parts, body).await.map(drop) });
    }
}

async fn deliver(
    inner: &Inner,
    service: &view::Found,
    port: Option<u16>,
    path: &str,
    parts: &Parts,
    body: Bytes,
) -> Result<Response<Bytes>, Lost> {
    let host = service.host();
    let endpoints = inner
        .view
        .endpoints(service, port)
        .ok_or_else(|| Lost::unavailable("NC", format!("there is no Service {host} with that port")))?;
    let turn = format!("{host}:{}", port.unwrap_or_default());
    let endpoint = lock(&inner.balance)
        .endpoint(&turn, &endpoints)
        .ok_or_else(|| Lost::unavailable("UH", format!("no ready endpoint of {host}")))?;
    let failed = |e: &dyn std::fmt::Display| Lost::unavailable("UF", format!("{endpoint} of {host}: {e}"));
    let mut request = Request::builder().method(&parts.method).uri(format!("http://{endpoint}{path}"));
    if let Some(headers) = request.headers_mut() {
        *headers = end_to_end(&parts.headers);
    }
    let request = request.body(Full::new(body)).map_err(|e| failed(&e))?;
    let started = Instant::now();
    let (parts, body) = inner.http.request(request).await.map_err(|e| failed(&e))?.into_parts();
    let body = body.collect().await.map_err(|e| failed(&e))?.to_bytes();
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = end_to_end(&parts.headers);
    // What a proxy beside the predictor would count: copies like requests.
    let labels = Labels {
        reporter: "destination",
        name: service.name.clone(),
        namespace: service.namespace.clone(),
        host,
        code: parts.status.as_u16(),
        flags: "-",
    };
    lock(&inner.metrics).served(labels, started.elapsed());
    Ok(response)
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}
