use sluice_core::api;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + second, 0).unwrap()
}

/// Name, labels, second, value.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], i64, f64);

fn gather(rows: &[Row<'_>], latency: bool) -> Result<Reading, Trouble> {
    let profile = Profile::of(api::Profile::Istio).unwrap();
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
    gatherer.finish(latency)
}

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
    assert_eq!(points, [Point { at: at(1), total: 9.0, within }]);
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

#[test]
fn a_native_histogram_is_trouble_only_where_latency_matters() {
    let rows: [Row<'_>; 2] =
        [(REQUESTS, &[], 1, 7.0), ("istio_request_duration_milliseconds", &[("pod", "a")], 1, 7.0)];
    assert!(gather(&rows, false).is_ok());
    let trouble = gather(&rows, true).unwrap_err();
    assert!(trouble.message.contains("native histogram"), "{trouble}");
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
