//! HTTP as both sources need it: bounded in time and size, without redirects, with errors that can be shown.

use std::{error::Error, sync::Arc, time::Duration};

use reqwest::{ClientBuilder, RequestBuilder, StatusCode, header, redirect};
use sluice_core::judge::{Trouble, TroubleKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that is read of one answer, in bytes.
pub const BODY_LIMIT: usize = 16 << 20;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that an answer may have, in bytes, without waiting for room.
const SMALL: usize = 256 << 10;

/// Room in memory for answers that are large. One source has one at a time, from its first bytes until it was read through:
/// text that is parsed takes several times its length.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

#[cfg(test)]
impl Room {
    /// Whether no large answer is in memory.
    pub fn is_free(&self) -> bool {
        self.0.available_permits() > 0
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The type of the body, as the server says.
    pub content_type: Option<String>,
    /// The time by the server's clock, as it says.
    pub date: Option<String>,
    /// The body, as text; what is no UTF-8 is replaced.
    pub body: String,
    /// Held while the body is in memory, where it is large.
    _room: Option<OwnedSemaphorePermit>,
}

impl Response {
    /// What a server might have answered.
    pub fn of(status: StatusCode, body: String) -> Self {
        Self { status, content_type: None, date: None, body, _room: None }
    }

    /// The start of the body in one line, for a message.
    pub fn excerpt(&self) -> String {
        let words: Vec<_> = self.body.split_whitespace().take(40).collect();
        let line: String = words.join(" ").chars().filter(|c| !c.is_control()).take(160).collect();
        if line.is_empty() { "an empty body".to_owned() } else { line }
    }
}

/// A client's builder with what all of ours have in common. A redirect is never followed: it would take credentials, or
/// the controller's place in the network, to where the platform did not send it.
pub fn client() -> ClientBuilder {
    reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        // After a start everybody looks at once. The connections that took need not be kept, with their buffers.
        .pool_max_idle_per_host(16)
        .retry(reqwest::retry::never())
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
}

/// Sends the request and reads the whole answer. Messages say what is wrong, without the URL.
pub async fn send(request: RequestBuilder, limit: Duration, room: &Room) -> Result<Response, Trouble> {
    match tokio::time::timeout(limit, exchange(request, room)).await {
        Ok(result) => result,
        Err(_) => Err(unavailable(format!("no answer within {}", seconds(limit)))),
    }
}

async fn exchange(request: RequestBuilder, room: &Room) -> Result<Response, Trouble> {
    let mut response = request.send().await.map_err(failed)?;
    let said = |name| response.headers().get(name)?.to_str().ok().map(ToOwned::to_owned);
    let (content_type, date) = (said(header::CONTENT_TYPE), said(header::DATE));
    let (mut body, mut taken) = (Vec::new(), None);
    // The chunks are what comes out of decompression: a few bytes on the wire may be gigabytes here.
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        let length = body.len() + chunk.len();
        if length > BODY_LIMIT {
            let limit = BODY_LIMIT >> 20;
            return Err(bad_answer(format!("an answer of more than {limit} MiB: expected a smaller one")));
        }
        if length > SMALL && taken.is_none() {
            // A closed semaphore is impossible: nobody closes it.
            let room = room.0.clone().acquire_owned().await;
            taken = Some(room.map_err(|error| unavailable(error.to_string()))?);
        }
        body.extend_from_slice(&chunk);
    }
    let body = String::from_utf8(body)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Ok(Response { status: response.status(), content_type, date, body, _room: taken })
}

/// How a connection ends that the other side has closed.
const ENDED: [&str; 3] = ["connection closed", "broken pipe", "reset"];

/// Sorts out whom a failed exchange is to blame on.
#[allow(clippy::needless_pass_by_value)] // for map_err
fn failed(error: reqwest::Error) -> Trouble {
    let decoding = error.is_decode();
    let secure = error.url().is_some_and(|url| url.scheme() == "https");
    let error = error.without_url();
    let message = describe(&error);
    match tls_error(&error) {
        // Their word about us.
        Some(rustls::Error::AlertReceived(_)) => Trouble {
            kind: TroubleKind::Refused,
            message: format!("{message}: expected the TLS connection to be accepted"),
        },
        Some(rustls::Error::InvalidCertificate(_)) => Trouble {
            kind: TroubleKind::Untrusted,
            message: format!(
                "{message}: expected a certificate for its host name, of an authority that the source's caFile \
                 or the system trusts, and valid now"
            ),
        },
        Some(_) => bad_answer(format!("{message}: expected TLS")),
        None if decoding => bad_answer(message),
        // Also what becomes of it where a server wants a client certificate: it says so, and closes before that was read.
        None if secure && ENDED.into_iter().any(|word| message.contains(word)) => unavailable(format!(
            "{message}: expected an answer; a server that asks for a client certificate closes like this, too"
        )),
        None => unavailable(message),
    }
}

/// What TLS says, where it is the cause.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An I/O error names as its source that of what it wraps, and not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| tls_error(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The error with its causes: the outermost one says little.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// A duration in seconds, as short as it goes.
pub fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// Trouble of the sort that passes.
pub fn unavailable(message: String) -> Trouble {
    Trouble { kind: TroubleKind::Unavailable, message }
}

/// Trouble with something that is no answer.
pub fn bad_answer(message: String) -> Trouble {
    Trouble { kind: TroubleKind::BadAnswer, message }
}

/// What a status other than success says about the source, where the body says nothing that can be read.
pub fn kind_of(status: StatusCode) -> TroubleKind {
    match status.as_u16() {
        401 | 403 | 407 => TroubleKind::Refused,
        408 | 425 | 429 | 500.. => TroubleKind::Unavailable,
        _ => TroubleKind::BadAnswer,
    }
}
