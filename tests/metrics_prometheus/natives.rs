//! Native histograms of a real Prometheus: made by itself of classic ones, and scraped as such.

use axum::http::{HeaderMap, header};
use sluice_lab::real::Histograms;

use super::*;

#[tokio::test]
async fn classic_histograms_that_prometheus_made_native_are_read() {
    let prometheus = Prometheus::start_with(SCRAPE_INTERVAL, Histograms::Converted).await.unwrap();
    let gateway = Exporter::start().await;
    // Only of what is said to be a histogram.
    let say = |text: String| {
        gateway.says("# TYPE istio_request_duration_milliseconds histogram\n".to_owned() + &text);
    };
    say(istio("iris-v1", &[(200, 1000)], 1000));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let series = prometheus.query("{__name__=~\"istio_request_duration_milliseconds_.+\"}").await.unwrap();
    assert_eq!(series, [], "no bucket is a series");
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    say(istio("iris-v1", &[(200, 1100), (503, 3)], 1090) + &istio("iris-v2", &[(500, 40)], 35));
    looker.until((103, 3, 13), (40, 40, 5)).await;
    say(istio("iris-v1", &[(200, 7)], 6) + &istio("iris-v2", &[(200, 2), (500, 1)], 3));
    looker.until((110, 3, 14), (43, 41, 5)).await;
}

/// An exposition in Prometheus' own protocol: a counter of requests and a native histogram of resolution 0, whose bounds are
/// powers of two, in milliseconds. `slow` are the requests between 256 and 512 ms, `quick` those between 64 and 128.
fn protocol(service: &str, quick: u64, slow: u64) -> Vec<u8> {
    let labels: Vec<u8> = [
        ("reporter", "source"),
        ("destination_service_name", service),
        ("destination_service_namespace", "models"),
        ("response_code", "200"),
    ]
    .into_iter()
    .flat_map(|(name, value)| bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat()))
    .collect();
    let all = quick + slow;
    #[allow(clippy::cast_precision_loss)]
    let counter = [labels.clone(), bytes(3, &double(1, all as f64))].concat();
    // The bucket of index 7 ends at 2^7; the two that follow it are 8, empty, and 9.
    let span = [number(1, zigzag(7)), number(2, 3)].concat();
    let deltas = [quick, 0, slow].into_iter().scan(0, |before, count| {
        let delta = i64::try_from(count).unwrap() - *before;
        *before = i64::try_from(count).unwrap();
        Some(number(13, zigzag(delta)))
    });
    let histogram = [
        number(1, all),
        double(2, 1.0),
        number(5, zigzag(0)),
        double(6, 1e-9),
        number(7, 0),
        bytes(12, &span),
        deltas.flatten().collect(),
    ]
    .concat();
    let histogram = [labels, bytes(7, &histogram)].concat();
    let family = |name: &str, kind: u64, metric: &[u8]| {
        let family = [bytes(1, name.as_bytes()), number(3, kind), bytes(4, metric)].concat();
        [varint(family.len() as u64), family].concat()
    };
    [
        family("istio_requests_total", 0, &counter),
        family("istio_request_duration_milliseconds", 4, &histogram),
    ]
    .concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn zigzag(value: i64) -> u64 {
    #[allow(clippy::cast_sign_loss)]
    let folded = ((value << 1) ^ (value >> 63)) as u64;
    folded
}

type Told = Arc<Mutex<Vec<u8>>>;

/// Something that speaks Prometheus' own protocol alone.
async fn speaker() -> (String, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let told = Told::default();
    let answer = told.clone();
    let handler = move |headers: HeaderMap| async move {
        let accepted = headers.get(header::ACCEPT).map(|accept| accept.to_str().unwrap().to_owned());
        assert!(accepted.unwrap_or_default().contains("io.prometheus.client.MetricFamily"));
        let kind =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        ([(header::CONTENT_TYPE, kind)], answer.lock().unwrap().clone())
    };
    let router = Router::new().route("/metrics", get(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, told)
}

#[tokio::test]
async fn native_histograms_are_read_and_a_limit_within_a_bucket_is_judged_by_its_bounds() {
    let prometheus = Prometheus::start_with(SCRAPE_INTERVAL, Histograms::Native).await.unwrap();
    let (address, told) = speaker().await;
    *told.lock().unwrap() = [protocol("iris-v1", 1000, 0), protocol("iris-v2", 10, 0)].concat();
    prometheus.set_targets([Target::new(&address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;
    let mut looker = Looker::new(&prometheus, api::Profile::Istio);
    looker.baseline().await;
    *told.lock().unwrap() = [protocol("iris-v1", 1090, 10), protocol("iris-v2", 40, 5)].concat();
    // 250 ms are in no bucket that has anything: as good as a bound.
    looker.until((100, 0, 10), (35, 0, 5)).await;

    let within = Bound(300_000);
    let mut memory = Memory::default();
    let mut seen = Measurement::default();
    let end = tokio::time::Instant::now() + LIMIT;
    let (mut quick, mut slow) = (1090, 10);
    while seen.stable.requests == 0 {
        (quick, slow) = (quick + 100, slow + 10);
        *told.lock().unwrap() = [protocol("iris-v1", quick, slow), protocol("iris-v2", 40, 5)].concat();
        let limits = [within];
        let question = Question { limits: &limits, ..looker.question(&[]) };
        if let Ok(counts) = looker.metrics.look(&question, &mut memory).await.counts {
            seen = counts;
        }
        assert!(tokio::time::Instant::now() < end, "no request was counted");
        tokio::time::sleep(SCRAPE_INTERVAL).await;
    }
    // The slow ones are above its lower bound, and none is above its upper one.
    let bounds: Vec<_> = seen.stable.slower.keys().map(|bound| bound.0).collect();
    assert_eq!(bounds, [256_000, 512_000]);
    assert_eq!(seen.stable.slower[&Bound(256_000)], seen.stable.requests / 11);
    assert_eq!(seen.stable.slower[&Bound(512_000)], 0);
}
