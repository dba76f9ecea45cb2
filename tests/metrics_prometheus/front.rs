//! What stands between the controller and a real Prometheus, and what answers in its place: login pages, stores that are
//! down, clocks that are wrong, targets that fail.

use axum::{
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use sluice_core::judge::Trouble;

use super::*;

/// What a front does with a question.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    /// It lets everything through.
    #[default]
    Open,
    /// It wants people to log in first, and says so with the status of a good answer.
    LoginPage,
    /// It knows of nobody behind it.
    BadGateway,
    /// It leads somewhere else.
    Redirect,
    /// It ends an answer half-way.
    Cut,
    /// Its clock, which dates the answers, is an hour ahead.
    HourAhead,
}

/// An HTTP proxy before a real Prometheus.
struct Front {
    url: String,
    mood: Arc<Mutex<Mood>>,
}

type Behind = (String, Arc<Mutex<Mood>>);

impl Front {
    async fn before(prometheus: &Prometheus) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mood = Arc::new(Mutex::new(Mood::default()));
        let router = Router::new().fallback(forward).with_state((prometheus.url().to_owned(), mood.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, mood }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

async fn forward(State((url, mood)): State<Behind>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mood = *mood.lock().unwrap();
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    match mood {
        Mood::LoginPage => {
            return (html, "<!DOCTYPE html>\n<html><title>Log in</title></html>").into_response();
        }
        Mood::BadGateway => {
            return (StatusCode::BAD_GATEWAY, html, "<html><h1>502 Bad Gateway</h1></html>").into_response();
        }
        Mood::Redirect => {
            return (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response();
        }
        Mood::Open | Mood::Cut | Mood::HourAhead => {}
    }
    let request = reqwest::Client::new().request(method, format!("{url}{uri}")).body(body);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let mut text = answer.bytes().await.unwrap();
    if mood == Mood::Cut {
        text.truncate(text.len() / 2);
    }
    let ahead = if mood == Mood::HourAhead { TimeDelta::hours(1) } else { TimeDelta::zero() };
    let date = (Utc::now() + ahead).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    (status, [(header::CONTENT_TYPE, "application/json".to_owned()), (header::DATE, date)], text)
        .into_response()
}

/// A Prometheus with a gateway that has answered for both arms.
async fn world() -> (Prometheus, Exporter) {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    gateway.says(both(1000, 100));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    (prometheus, gateway)
}

fn both(stable: u32, canary: u32) -> String {
    istio("iris-v1", &[(200, stable)], stable) + &istio("iris-v2", &[(200, canary)], canary)
}

/// A query beside the counters.
fn accuracy() -> [Query; 1] {
    let window = Duration::from_secs(30);
    [Query { check: "it".into(), promql: "scalar(vector(0.9))".into(), window, compared: None }]
}

#[tokio::test]
async fn what_a_front_answers_in_its_own_words_is_trouble_and_no_request_is_lost_by_it() {
    let (prometheus, gateway) = world().await;
    let front = Front::before(&prometheus).await;
    let mut looker = Looker::with(Config::prometheus(&front.url).unwrap(), api::Profile::Istio);
    looker.baseline().await;
    let (mut stable, mut canary) = (0, 0);
    for (mood, kind, words) in [
        (
            Mood::LoginPage,
            TroubleKind::BadAnswer,
            "status 200 OK with something that is not the Prometheus API",
        ),
        (Mood::BadGateway, TroubleKind::Unavailable, "502 Bad Gateway"),
        (Mood::Redirect, TroubleKind::BadAnswer, "a redirect, status 302 Found, which is not followed"),
        (Mood::Cut, TroubleKind::BadAnswer, "not the Prometheus API"),
        (Mood::HourAhead, TroubleKind::Unavailable, "has a clock that is more than a minute ahead of"),
    ] {
        front.is(mood);
        (stable, canary) = (stable + 40, canary + 4);
        gateway.says(both(1000 + stable, 100 + canary));
        let look = looker.look(&accuracy()).await;
        let (counts, query) = (look.counts.unwrap_err(), look.queries["it"].clone().unwrap_err());
        for trouble in [counts, query] {
            assert_eq!(trouble.kind, kind, "{trouble}");
            assert!(trouble.message.starts_with("metrics source default "), "{trouble}");
            assert!(trouble.message.contains(words), "{words}: {trouble}");
        }
        front.is(Mood::Open);
        looker.until((stable.into(), 0, 0), (canary.into(), 0, 0)).await;
    }
    assert_eq!(looker.look(&accuracy()).await.queries["it"], Ok(0.9));
}

#[tokio::test]
async fn a_store_that_is_down_makes_the_whole_answer_partial() {
    // What is behind a remote read: it is down, then it has nothing to add.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("http://{}/read", listener.local_addr().unwrap());
    let down = Arc::new(Mutex::new(true));
    let state = down.clone();
    // No series to one query, in snappy: 2 bytes, both literal.
    let nothing: &[u8] = &[2, 1 << 2, 0x0a, 0x00];
    let read = move || async move {
        if *state.lock().unwrap() {
            return (StatusCode::SERVICE_UNAVAILABLE, "the store is down").into_response();
        }
        let kind = [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
        (kind, nothing).into_response()
    };
    let router = Router::new().route("/read", axum::routing::post(read));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let prometheus = Prometheus::start_beside(SCRAPE_INTERVAL, &remote).await.unwrap();
    let gateway = Exporter::start().await;
    gateway.says(both(1000, 100));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    let query = Query { promql: "sum(istio_requests_total)".into(), ..accuracy()[0].clone() };
    let look = looker.look(std::slice::from_ref(&query)).await;
    for trouble in [look.counts.unwrap_err(), look.queries["it"].clone().unwrap_err()] {
        assert_eq!(trouble.kind, TroubleKind::Partial, "{trouble}");
        assert!(trouble.message.contains("gave a partial answer: remote_read"), "{trouble}");
    }
    *down.lock().unwrap() = false;
    looker.baseline().await;
    gateway.says(both(1050, 108));
    looker.until((50, 0, 0), (8, 0, 0)).await;
    // In the middle of a rollout: what came meanwhile is counted when the store is back.
    *down.lock().unwrap() = true;
    gateway.says(both(1060, 109));
    // Looks that are closer together share an answer.
    tokio::time::sleep(wait::EVERY).await;
    assert_eq!(looker.look(&[]).await.counts.unwrap_err().kind, TroubleKind::Partial);
    *down.lock().unwrap() = false;
    looker.until((60, 0, 0), (9, 0, 0)).await;
}

/// One look of a controller whose clock is so far from the source's.
async fn look_at(looker: &Looker, memory: &mut Memory, apart: TimeDelta) -> Result<Measurement, Trouble> {
    let question = looker.question(&[]);
    let question = Question { now: question.now + apart, ..question };
    looker.metrics.look(&question, memory).await.counts
}

#[tokio::test]
async fn a_controller_whose_clock_is_not_the_sources_is_told_so_and_counts_right_within_seconds() {
    let (prometheus, gateway) = world().await;
    let looker = Looker::new(&prometheus, api::Profile::Istio);
    for (apart, words) in [
        (TimeDelta::minutes(-5), "more than a minute ahead of the controller's"),
        (TimeDelta::hours(2), "more than an hour behind the controller's"),
    ] {
        let trouble = look_at(&looker, &mut Memory::default(), apart).await.unwrap_err();
        assert!(trouble.kind == TroubleKind::Unavailable && trouble.message.contains(words), "{trouble}");
    }
    for (number, apart) in (1..).zip([TimeDelta::seconds(-4), TimeDelta::seconds(4)]) {
        let mut memory = Memory::default();
        let before = (1000 + 30 * (number - 1), 100 + 3 * (number - 1));
        lives::holds(&prometheus, &format!("istio_requests_total offset 5s == {}", before.0)).await;
        let trouble = look_at(&looker, &mut memory, apart).await.unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::Baseline, "{trouble}");
        gateway.says(both(before.0 + 30, before.1 + 3));
        let (mut seen, end) = ((0, 0), tokio::time::Instant::now() + LIMIT);
        while seen != (30, 3) {
            if let Ok(counts) = look_at(&looker, &mut memory, apart).await {
                seen = (seen.0 + counts.stable.requests, seen.1 + counts.canary.requests);
            }
            assert!(seen.0 <= 30 && tokio::time::Instant::now() < end, "{seen:?}");
            tokio::time::sleep(wait::EVERY).await;
        }
    }
}

#[tokio::test]
async fn samples_that_come_late_under_their_own_time_count_in_the_step_of_that_time() {
    let prometheus = Prometheus::start(SCRAPE_INTERVAL).await.unwrap();
    let gateway = Exporter::start().await;
    // As federation and some exporters do: every sample says when it was taken, here two seconds ago.
    let say = |count: u32| {
        let taken = (Utc::now() - TimeDelta::seconds(2)).timestamp_millis();
        let lines = istio("iris-v1", &[(200, count)], count);
        gateway.says(lines.lines().map(|line| format!("{line} {taken}\n")).collect());
    };
    say(1000);
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    // Counted before the step, and scraped in it.
    let start = Utc::now();
    looker.began = start + TimeDelta::minutes(5);
    say(1700);
    lives::holds(&prometheus, "istio_requests_total == 1700").await;
    assert!(looker.look(&[]).await.counts.is_err(), "no time of the step is covered");
    let end = tokio::time::Instant::now() + LIMIT;
    while (Utc::now() - TimeDelta::seconds(2)) <= start {
        tokio::time::sleep(wait::EVERY).await;
    }
    say(1710);
    lives::holds(&prometheus, "istio_requests_total == 1710").await;
    assert!(looker.look(&[]).await.counts.is_err() && tokio::time::Instant::now() < end);
    say(1723);
    looker.until((13, 0, 0), (0, 0, 0)).await;
}

#[tokio::test]
async fn of_targets_that_fail_there_is_no_data_and_nothing_is_lost_when_they_are_back() {
    let (prometheus, gateway) = world().await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    // Half a line: Prometheus takes nothing of it, and marks every series as stale.
    gateway.says(both(1100, 110) + "istio_requests_total{");
    lives::holds(&prometheus, "up == 0").await;
    looker.look(&[]).await;
    let trouble = looker.look(&[]).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::NoData, "{trouble}");
    assert!(trouble.message.contains("has no new sample about"), "{trouble}");
    gateway.says(both(1130, 113));
    looker.until((130, 0, 0), (13, 0, 0)).await;
}
