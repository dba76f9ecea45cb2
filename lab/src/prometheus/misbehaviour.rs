//! What goes wrong with a Prometheus, and with what stands before it.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::json_response;

/// A megabyte.
const MEGABYTE: usize = 1 << 20;

/// A way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Refuses a query: status, and Prometheus' word for the sort of error.
    Refuses(u16, &'static str),
    /// Answers a page with this status, as proxies and login forms do.
    Page(u16),
    /// Takes the question and never answers.
    Hangs,
    /// Sends to somewhere else.
    Redirects(String),
    /// Answers so many megabytes of what begins like an answer.
    Floods(usize),
    /// Every value is this text, like `NaN` or `+Inf`.
    Values(&'static str),
    /// Finds no series.
    Empty,
    /// Finds two series where a query has one answer.
    Twice,
    /// Warns that its answer is partial.
    Warns(&'static str),
    /// Nobody listens where it was, and nothing is scraped.
    Gone,
    /// One of these at each question, in turn; where there is none it does its work.
    InTurn(Vec<Option<Misbehaviour>>),
}

impl Misbehaviour {
    /// What it comes to at the `nth` question.
    pub(super) fn at(self, nth: u64) -> Option<Self> {
        match self {
            Self::InTurn(all) => {
                let turn = usize::try_from(nth).unwrap_or(0).checked_rem(all.len())?;
                all.into_iter().nth(turn)?
            }
            how => Some(how),
        }
    }

    /// The answer to a question; `well` is what it would be.
    pub(crate) async fn respond(self, well: impl FnOnce() -> Value) -> Response {
        match self {
            Self::Refuses(status, kind) => {
                let words = json!({"status": "error", "errorType": kind, "error": "told to refuse"});
                json_response(status_of(status), &words)
            }
            Self::Page(status) => {
                let page = "<html><body><h1>Please log in</h1></body></html>";
                (status_of(status), [(header::CONTENT_TYPE, "text/html")], page).into_response()
            }
            // One that is gone went while this question was under way.
            Self::Hangs | Self::Gone => std::future::pending().await,
            Self::Redirects(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
            Self::Floods(megabytes) => flood(megabytes).into_response(),
            Self::Values(text) => changed(well(), |series| values(series, text)),
            Self::Empty => changed(well(), Vec::clear),
            Self::Twice => changed(well(), |series| {
                let mut others = series.clone();
                others.retain(|series| series["value"].is_array());
                for other in &mut others {
                    other["metric"]["replica"] = "other".into();
                }
                series.extend(others);
            }),
            Self::Warns(warning) => {
                let mut answer = well();
                answer["warnings"] = json!([warning]);
                json_response(StatusCode::OK, &answer)
            }
            Self::InTurn(_) => json_response(StatusCode::OK, &well()),
        }
    }
}

fn status_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn changed(mut answer: Value, change: impl FnOnce(&mut Vec<Value>)) -> Response {
    if let Some(series) = answer["data"]["result"].as_array_mut() {
        change(series);
    }
    json_response(StatusCode::OK, &answer)
}

fn values(all: &mut [Value], text: &str) {
    for series in all {
        if let Some(points) = series["values"].as_array_mut() {
            points.iter_mut().for_each(|point| point[1] = text.into());
        }
        if let Some(point) = series.get_mut("value") {
            point[1] = text.into();
        }
    }
}

/// Made as it is taken: whoever stops reading stops it.
fn flood(megabytes: usize) -> Body {
    let begin = Bytes::from_static(br#"{"status":"success","data":{"resultType":"matrix","result":["#);
    let more = Bytes::from(vec![b' '; MEGABYTE]);
    let chunks = std::iter::once(begin).chain(std::iter::repeat_n(more, megabytes));
    Body::from_stream(futures::stream::iter(chunks.map(Ok::<_, Infallible>)))
}
