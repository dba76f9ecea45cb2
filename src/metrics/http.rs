//! HTTP as both sources need it: bounded in time and size, without redirects, with errors that can be shown.

use std::{error::Error, time::Duration};

use reqwest::{ClientBuilder, RequestBuilder, StatusCode, header, redirect};
use sluice_core::judge::{Trouble, TroubleKind};

/// The most that is read of one answer, in bytes.
pub const BODY_LIMIT: usize = 16 << 20;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What was answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The type of the body, as the server says.
    pub content_type: Option<String>,
    /// The time by the server's clock, as it says.
    pub date: Option<String>,
    /// The body, as text; what is no UTF-8 is replaced.
    pub body: String,
}

impl Response {
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
        .retry(reqwest::retry::never())
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
}

/// Sends the request and reads the whole answer. Messages say what is wrong, without the URL.
pub async fn send(request: RequestBuilder, limit: Duration) -> Result<Response, String> {
    match tokio::time::timeout(limit, exchange(request)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {}", seconds(limit))),
    }
}

async fn exchange(request: RequestBuilder) -> Result<Response, String> {
    let mut response = request.send().await.map_err(|error| describe(&error.without_url()))?;
    let said = |name| response.headers().get(name)?.to_str().ok().map(ToOwned::to_owned);
    let (content_type, date) = (said(header::CONTENT_TYPE), said(header::DATE));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error.without_url()))? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(format!("an answer of more than {} MiB", BODY_LIMIT >> 20));
        }
        body.extend_from_slice(&chunk);
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Response { status: response.status(), content_type, date, body })
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
