use sluice_core::api;

use super::{
    super::{
        counters::{Advance, Increase, Ledger, Span},
        native::RawBucket,
    },
    *,
};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + second, 0).unwrap()
}

/// Name, labels, second, value.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], i64, f64);

fn gather(rows: &[Row<'_>], latency: bool) -> Result<Reading, Trouble> {
    let profile = Profile::of(api::Profile::Istio);
    let wanted = BTreeMap::from([("route".to_owned(), "primary".to_owned())]);
    let mut gatherer = Gatherer::new(&profile, &wanted);
    let (arm, reporter) = ("canary".into(), "gateway".into());
    for (name, pairs, second, value) in rows {
        let mut labels = labels(pairs);
        labels.entry("reporter".into()).or_insert("source".into());
        labels.entry("route".into()).or_insert("primary".into());
        let sample = Observed {
            arm: &arm,
            reporter: &reporter,
            name,
            labels: &labels,
            at: at(*second),
            value: *value,
        };
        gatherer.add(&sample)?;
    }
    Ok(gatherer.finish(if latency { &[QUARTER] } else { &[] }))
}

const QUARTER: Bound = Bound(250_000);
const REQUESTS: &str = "istio_requests_total";
const BUCKET: &str = "istio_request_duration_milliseconds_bucket";
const COUNT: &str = "istio_request_duration_milliseconds_count";

#[test]
fn buckets_and_count_become_one_histogram() {
    let reading = gather(
        &[
            (BUCKET, &[("le", "250")], 1, 7.0),
            (BUCKET, &[("le", "500.0")], 1, 8.0),
            (BUCKET, &[("le", "+Inf")], 1, 9.0),
            (COUNT, &[], 1, 9.0),
        ],
        true,
    )
    .unwrap();
    let points: Vec<_> = reading.cells.into_values().flatten().collect();
    let within = BTreeMap::from([(Bound(250_000), 7.0), (Bound(500_000), 8.0)]);
    assert_eq!(points, [Point { at: at(1), total: 9.0, within, native: None }]);
}

#[test]
fn series_with_other_labels_than_asked_for_are_passed_over() {
    for pairs in [&[("reporter", "destination")][..], &[("route", "other")], &[("route", "")]] {
        let reading = gather(&[(REQUESTS, pairs, 1, 7.0)], false).unwrap();
        assert_eq!(reading.cells.len(), 0, "{pairs:?}");
    }
    assert_eq!(gather(&[(REQUESTS, &[], 1, 7.0)], false).unwrap().cells.len(), 1);
}

#[test]
fn a_counter_that_is_no_count_is_no_data_and_is_named() {
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        let trouble = gather(&[(REQUESTS, &[("response_code", "200")], 1, value)], false).unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::NoData);
        assert!(trouble.message.contains(r#"response_code="200""#), "{trouble}");
    }
}

/// A native histogram in milliseconds, at a second: its buckets with their ends and counts.
fn native_at(gatherer: &mut Gatherer<'_>, second: i64, buckets: &[(f64, f64, f64)]) {
    let (arm, reporter) = ("canary".into(), "gateway".into());
    let labels = labels(&[("reporter", "source")]);
    let name = "istio_request_duration_milliseconds";
    let observed =
        Observed { arm: &arm, reporter: &reporter, name, labels: &labels, at: at(second), value: 0.0 };
    let buckets =
        buckets.iter().map(|(left, right, count)| RawBucket { left: *left, right: *right, count: *count });
    let buckets: Vec<RawBucket> = buckets.collect();
    let raw = RawHistogram { count: buckets.iter().map(|bucket| bucket.count).sum(), buckets };
    gatherer.add_native(&observed, &raw).unwrap();
}

#[test]
fn a_native_histogram_is_read_at_the_limit_or_at_the_bounds_of_its_bucket() {
    let profile = Profile::of(api::Profile::Istio);
    let wanted = BTreeMap::new();
    for (limit, expected) in [
        // No bucket has it within: it is as good as a bound.
        (300_000, vec![(300_000, 9.0)]),
        (250_000, vec![(250_000, 9.0)]),
        // Between 125 and 250 ms, and nobody knows where.
        (200_000, vec![(125_000, 4.0), (250_000, 9.0)]),
        (900_000, vec![(512_000, 9.0)]),
    ] {
        let mut gatherer = Gatherer::new(&profile, &wanted);
        native_at(&mut gatherer, 1, &[(50.0, 100.0, 4.0), (125.0, 250.0, 5.0), (512.0, f64::INFINITY, 1.0)]);
        let points: Vec<Point> = gatherer.finish(&[Bound(limit)]).cells.into_values().flatten().collect();
        let within: Vec<_> = points[0].within.iter().map(|(bound, count)| (bound.0, *count)).collect();
        assert_eq!((points[0].total, within), (10.0, expected), "{limit}");
    }
}

#[test]
fn buckets_that_were_not_there_before_are_differenced_with_those_that_were() {
    let profile = Profile::of(api::Profile::Istio);
    let wanted = BTreeMap::new();
    let read = |second, buckets: &[(f64, f64, f64)]| {
        let mut gatherer = Gatherer::new(&profile, &wanted);
        native_at(&mut gatherer, second, buckets);
        gatherer.finish(&[Bound(200_000)])
    };
    let span = |now| Span { watched: at(0), step_start: at(0), now: at(now) };
    // Only quick ones at first, so that nothing is known of a bucket that the limit lies in.
    let first = Ledger::default().advance(&read(1, &[(50.0, 100.0, 4.0)]), span(1)).ledger;
    let second =
        first.advance(&read(2, &[(50.0, 100.0, 5.0), (125.0, 250.0, 5.0), (250.0, 500.0, 1.0)]), span(2));
    let increase = |advance: &Advance| advance.increases.values().next().unwrap().clone();
    let within = BTreeMap::from([(Bound(125_000), 1.0), (Bound(250_000), 6.0)]);
    assert_eq!(increase(&second), Increase { total: 7.0, within });
    // A coarser resolution: its bucket has the finer ones in it.
    let third = second.ledger.advance(&read(3, &[(0.0, 125.0, 6.0), (125.0, 500.0, 8.0)]), span(3));
    let within = BTreeMap::from([(Bound(125_000), 1.0), (Bound(500_000), 3.0)]);
    assert_eq!(increase(&third), Increase { total: 3.0, within });
    // After a restart the buckets begin anew.
    let fourth = third.ledger.advance(&read(4, &[(125.0, 250.0, 2.0)]), span(4));
    let within = BTreeMap::from([(Bound(125_000), 0.0), (Bound(250_000), 2.0)]);
    assert_eq!(increase(&fourth), Increase { total: 2.0, within });
}

#[test]
fn of_half_a_sample_nothing_is_taken_until_it_is_whole() {
    let mut rows: Vec<Row<'_>> = vec![
        (REQUESTS, &[], 1, 10.0),
        (COUNT, &[], 1, 10.0),
        (BUCKET, &[("le", "250")], 1, 9.0),
        (REQUESTS, &[], 2, 20.0),
        (COUNT, &[], 2, 20.0),
    ];
    let newest = |rows: &[Row<'_>]| {
        let reading = gather(rows, true).unwrap();
        let seen = reading.reporters["gateway"].newest().unwrap();
        assert!(reading.cells.values().all(|points| points.last().unwrap().at == seen));
        seen
    };
    assert_eq!(newest(&rows), at(1));
    rows.push((BUCKET, &[("le", "250")], 2, 18.0));
    assert_eq!(newest(&rows), at(2));
}

#[test]
fn label_values_never_make_two_series_one() {
    let rows: [Row<'_>; 2] =
        [(REQUESTS, &[("a", "1,b=\"2\"")], 1, 1.0), (REQUESTS, &[("a", "1"), ("b", "2")], 1, 1.0)];
    assert_eq!(gather(&rows, false).unwrap().cells.len(), 2);
}
