//! A metrics source that does as it is told and notes who asked what when.
//!
//! It speaks as much of Prometheus' HTTP API as the controller asks for: instant queries with a range selector, answered
//! with raw samples, and a query for one number. A real Prometheus would be as good for what the controller decides, but
//! only this one knows to the microsecond which answer showed a breach first.

mod asked;
mod script;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Deserialize;

use self::asked::Asked;
use self::script::Script;
use super::objects::Names;
use crate::http::Server;

/// One question and its answer.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Whose predictors it is about: the Rollout's; nothing where it names none.
    pub about: Option<Names>,
    /// The query, whole.
    pub query: String,
    /// The time that it is to be evaluated at, as it was written.
    pub time: String,
    /// When it had arrived.
    pub arrived: DateTime<Utc>,
    /// When its answer went out.
    pub answered: DateTime<Utc>,
    /// Whether the answer shows requests that failed.
    pub shows_errors: bool,
}

/// The running server. Dropping it stops it.
pub struct Source {
    books: Arc<Mutex<Books>>,
    server: Server,
}

struct Books {
    scraped_every: Duration,
    /// By namespace and Service.
    scripts: HashMap<(String, String), Script>,
    asks: Vec<Ask>,
}

impl Source {
    /// A server whose predictors are all well, each with a new sample so often.
    pub fn start(scraped_every: Duration) -> std::io::Result<Self> {
        let books = Books { scraped_every, scripts: HashMap::new(), asks: Vec::new() };
        let books = Arc::new(Mutex::new(books));
        let router = Router::new().fallback(answer).with_state(books.clone());
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), router)?;
        Ok(Self { books, server })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// From its next sample on, every request to this Service fails. Says when that sample is taken: from then on a query
    /// shows the breach.
    pub fn fail(&self, namespace: &str, service: &str) -> DateTime<Utc> {
        open(&self.books).script(namespace, service).fail_after(Utc::now())
    }

    /// This Service gets no more requests.
    pub fn silence(&self, namespace: &str, service: &str) {
        open(&self.books).script(namespace, service).silence_after(Utc::now());
    }

    /// How often it was asked about a Rollout since then.
    pub fn looks(&self, about: &Names, since: DateTime<Utc>) -> usize {
        let books = open(&self.books);
        let later = books.asks.iter().rev().take_while(|ask| ask.arrived >= since);
        later.filter(|ask| ask.about.as_ref() == Some(about)).count()
    }

    /// All that was asked so far, in the order of the answers; asked twice, only the news.
    pub fn take_asks(&self) -> Vec<Ask> {
        std::mem::take(&mut open(&self.books).asks)
    }
}

impl Books {
    fn script(&mut self, namespace: &str, service: &str) -> &mut Script {
        let every = self.scraped_every;
        let key = (namespace.to_owned(), service.to_owned());
        self.scripts.entry(key).or_insert_with(|| Script::new(namespace, service, every, Utc::now()))
    }
}

fn open(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
struct Form {
    query: String,
    time: String,
}

async fn answer(State(books): State<Arc<Mutex<Books>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let arrived = Utc::now();
    let form = if method == Method::GET {
        uri.query().unwrap_or_default().to_owned()
    } else {
        String::from_utf8_lossy(&body).into_owned()
    };
    // A form in a body is written as one in a URL.
    let form = format!("/?{form}").parse::<Uri>().ok().and_then(|uri| Query::<Form>::try_from_uri(&uri).ok());
    let Some(Query(Form { query, time })) = form else {
        return (StatusCode::BAD_REQUEST, "query and time are expected").into_response();
    };
    let Some(at) = seconds(&time) else {
        return (StatusCode::BAD_REQUEST, "a time in seconds is expected").into_response();
    };
    let mut books = open(&books);
    let asked = Asked::read(&query);
    let (text, shows_errors) = match &asked {
        Asked::Counters(counters) => {
            let mut result = script::Matrix::default();
            for service in &counters.services {
                let script = books.script(&counters.namespace, service);
                script.write(&mut result, counters, at);
            }
            result.finish()
        }
        Asked::Other { range: true } => script::Matrix::default().finish(),
        Asked::Other { range: false } => (script::one_number(at), false),
    };
    let about = match asked {
        Asked::Counters(counters) => counters.rollout(),
        Asked::Other { .. } => None,
    };
    books.asks.push(Ask { about, query, time, arrived, answered: Utc::now(), shows_errors });
    drop(books);
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[allow(clippy::cast_possible_truncation)]
fn seconds(text: &str) -> Option<DateTime<Utc>> {
    let seconds: f64 = text.parse().ok()?;
    DateTime::from_timestamp_millis((seconds * 1e3).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(source: &Source, query: &str, at: DateTime<Utc>) -> serde_json::Value {
        crate::real::use_ring();
        let time = format!("{}.{:03}", at.timestamp(), at.timestamp_subsec_millis());
        let url = format!("{}/api/v1/query", source.url());
        let form = [("query", query), ("time", &time)];
        let answer = reqwest::Client::new().post(url).form(&form).send().await.unwrap();
        answer.json().await.unwrap()
    }

    #[tokio::test]
    async fn a_failure_shows_from_its_sample_on_and_the_question_is_noted() {
        let source = Source::start(Duration::from_millis(50)).unwrap();
        let names = Names::number(3);
        let query = concat!(
            r#"{__name__=~"istio_request_duration_milliseconds|istio_requests_total",reporter="source","#,
            r#"destination_service_name=~"model-3-v1|model-3-v2",destination_service_namespace="team-0"}[130s]"#
        );
        let first = ask(&source, query, Utc::now()).await;
        assert_eq!(first["data"]["resultType"], "matrix");
        let visible = source.fail("team-0", "model-3-v2");
        let millis = chrono::TimeDelta::milliseconds(1);
        let (before, after) =
            (ask(&source, query, visible - millis).await, ask(&source, query, visible + millis).await);
        let failed = |answer: &serde_json::Value| answer.to_string().contains(r#""response_code":"500""#);
        assert_eq!((failed(&before), failed(&after)), (false, true));

        assert_eq!(source.looks(&names, DateTime::UNIX_EPOCH), 3);
        let asks = source.take_asks();
        assert_eq!(asks.iter().map(|ask| ask.shows_errors).collect::<Vec<_>>(), [false, false, true]);
        assert!(asks.iter().all(|ask| ask.about.as_ref() == Some(&names) && ask.answered >= ask.arrived));
        assert_eq!(source.take_asks().len(), 0);
    }

    #[tokio::test]
    async fn a_query_for_one_number_has_one() {
        let source = Source::start(Duration::from_secs(1)).unwrap();
        let answer = ask(&source, "sum(rate(queue_length[1m]))", Utc::now()).await;
        assert_eq!(answer["data"]["result"][0]["value"][1], "1");
    }
}
