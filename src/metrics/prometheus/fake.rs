//! A server for the tests that answers what it is told to, over real HTTP.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// A question that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub form: BTreeMap<String, String>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn query(&self) -> &str {
        &self.form["query"]
    }
}

type Answer = Arc<dyn Fn(&Seen) -> (StatusCode, &'static str, String) + Send + Sync>;

/// The server.
#[derive(Clone)]
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Mutex<Answer>>,
    /// How far its clock is ahead of the times that it is asked about, in seconds.
    pub ahead: Arc<AtomicI64>,
    /// Answers wait while it is locked.
    pub gate: Arc<tokio::sync::Mutex<()>>,
}

impl Fake {
    /// A server that answers everything with an empty vector.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answer: Answer = Arc::new(|_| json(StatusCode::OK, VECTOR));
        let fake = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            seen: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
            ahead: Arc::default(),
            gate: Arc::default(),
        };
        let router = Router::new().fallback(handle).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub fn answers(
        &self,
        answer: impl Fn(&Seen) -> (StatusCode, &'static str, String) + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    /// Answers everything with this.
    pub fn says(&self, status: u16, kind: &'static str, body: &str) {
        let (status, body) = (StatusCode::from_u16(status).unwrap(), body.to_owned());
        self.answers(move |_| (status, kind, body.clone()));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// An empty vector.
pub const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

pub fn json(status: StatusCode, body: &str) -> (StatusCode, &'static str, String) {
    (status, "application/json", body.to_owned())
}

async fn handle(
    State(fake): State<Fake>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = if method == Method::GET { uri.query().unwrap_or("").as_bytes() } else { &body };
    // The parser of form data that reqwest writes with is not at hand, the one of URLs reads the same.
    let form = reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(text))).unwrap();
    let form: BTreeMap<String, String> =
        form.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    // Without a date of ours the server would send the machine's.
    let asked_about = form.get("time").and_then(|time| time.split('.').next()?.parse::<i64>().ok());
    let time = asked_about.unwrap_or_default() + fake.ahead.load(Ordering::SeqCst);
    let date = chrono::DateTime::from_timestamp(time, 0).unwrap().to_rfc2822();
    let seen = Seen { method, path: uri.path().to_owned(), headers, form };
    fake.seen.lock().unwrap().push(seen.clone());
    drop(fake.gate.lock().await);
    let answer = fake.answer.lock().unwrap().clone();
    let (status, kind, body) = answer(&seen);
    (status, [(header::CONTENT_TYPE, kind.to_owned()), (header::DATE, date)], body).into_response()
}
