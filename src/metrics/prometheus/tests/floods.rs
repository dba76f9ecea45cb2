//! Answers that are far too large: they are never in memory whole, however they were packed.

use std::{
    convert::Infallible,
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use tokio::net::TcpListener;

use super::*;

const MEGABYTE: usize = 1 << 20;
/// What is in buffers on the way, of the kernel and of both sides: far less than the flood.
const UNDER_WAY: u64 = 20;

/// A server that answers a hundred megabytes, and how many of them were taken.
#[derive(Clone, Default)]
struct Flood {
    taken: Arc<AtomicU64>,
}

impl Flood {
    async fn start(self, packed: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = if packed { Router::new().fallback(bomb) } else { Router::new().fallback(pour) };
        let router = router.with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

async fn pour(State(flood): State<Flood>) -> Response {
    let chunk = Bytes::from(vec![b' '; MEGABYTE]);
    let chunks = (0..100).map(move |_| {
        flood.taken.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(chunk.clone())
    });
    Body::from_stream(futures::stream::iter(chunks)).into_response()
}

/// A hundred megabytes in about a hundred kilobytes.
async fn bomb(State(_): State<Flood>) -> Response {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let chunk = vec![b' '; MEGABYTE];
    for _ in 0..100 {
        packed.write_all(&chunk).unwrap();
    }
    ([(header::CONTENT_ENCODING, "gzip")], packed.finish().unwrap()).into_response()
}

#[tokio::test]
async fn of_a_flood_no_more_is_taken_than_may_be_kept() {
    let flood = Flood::default();
    let url = flood.clone().start(false).await;
    let mut asker = Asker::with(Config::prometheus(&url).unwrap());
    let trouble = asker.look(0).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::BadAnswer, "{trouble}");
    assert!(trouble.message.contains("more than 16 MiB"), "{trouble}");
    let taken = flood.taken.load(Ordering::Relaxed);
    assert!((16..16 + UNDER_WAY).contains(&taken), "{taken} MiB were taken of 100");
}

#[tokio::test]
async fn what_counts_is_what_comes_out_of_a_packed_answer() {
    let url = Flood::default().start(true).await;
    let mut asker = Asker::with(Config::prometheus(&url).unwrap());
    let trouble = asker.look(0).await.counts.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::BadAnswer, "{trouble}");
    assert!(trouble.message.contains("more than 16 MiB"), "{trouble}");
}

/// A large answer that stops half way, held until told to go on.
async fn dam(State(gate): State<Arc<tokio::sync::Semaphore>>) -> Response {
    let begin = futures::stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b' '; MEGABYTE]))]);
    let rest = futures::stream::once(async move {
        gate.acquire().await.unwrap().forget();
        Ok(Bytes::from_static(VECTOR.as_bytes()))
    });
    Body::from_stream(futures::StreamExt::chain(begin, rest)).into_response()
}

#[tokio::test]
async fn large_answers_of_a_source_take_turns_and_small_ones_do_not_wait() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let small = axum::routing::any(|| async { VECTOR });
    let router = Router::new().route("/small", small).fallback(dam).with_state(gate.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let room = http::Room::default();
    let client = http::client().tls_certs_only([]).build().unwrap();
    let ask = |path: &str| {
        let (request, room) = (client.get(format!("{url}{path}")), room.clone());
        tokio::spawn(async move { http::send(request, Duration::from_secs(30), &room).await })
    };
    let (one, other) = (ask("/one"), ask("/other"));
    // Both stand at the dam, one of them with a megabyte in hand.
    while room.is_free() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask("/small").await.unwrap().unwrap().body, VECTOR);
    gate.add_permits(2);
    // Whoever was second gets the room when the first answer was read through.
    let (one, other) =
        tokio::join!(async { one.await.unwrap().map(|response| response.body.len()) }, async {
            other.await.unwrap().map(|response| response.body.len())
        },);
    assert_eq!((one, other), (Ok(MEGABYTE + VECTOR.len()), Ok(MEGABYTE + VECTOR.len())));
    assert!(room.is_free());
}
