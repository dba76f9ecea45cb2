use chrono::DateTime;

use super::*;
use crate::metrics::counters::{Ledger, Reading, Span};

type Pairs<'a> = &'a [(&'a str, &'a str)];
type Samples<'a> = &'a [(i64, f64)];

fn labels(pairs: Pairs<'_>) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn point(second: i64, total: f64) -> Point {
    Point { at: DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap(), total, ..Point::default() }
}

/// A counter of failed requests, by who scraped it: reporter and labels.
fn cell(reporter: &str) -> Cell {
    let family = Family::Requests { failed: true };
    Cell { arm: "v2".into(), reporter: reporter.into(), family, series: String::new() }
}

/// What two series with these labels beside `code="500"`, and with these samples, become: one or two, with all samples.
fn merged(series: [(Pairs<'_>, Samples<'_>); 2]) -> (Vec<Vec<f64>>, usize) {
    let (mut doubles, mut cells) = (Doubles::default(), BTreeMap::new());
    for (name, (more, points)) in ["a", "b"].into_iter().zip(series) {
        let cell = cell(name);
        doubles.met(&cell, &labels(&[&[("code", "500")], more].concat()));
        cells.insert(cell, points.iter().map(|(second, total)| point(*second, *total)).collect());
    }
    let doubles = doubles.merge(&mut cells);
    (
        cells.into_values().map(|points| points.iter().map(|point| point.total).collect()).collect(),
        doubles.len(),
    )
}

const ONE: Samples<'_> = &[(0, 10.0), (10, 20.0), (20, 30.0)];
const OTHER: Samples<'_> = &[(4, 14.0), (14, 24.0)];

#[test]
fn what_differs_only_in_whose_scrape_it_is_and_counts_alike_is_one() {
    let pods = [("job", "pods"), ("instance", "10.0.0.9:15020"), ("pod", "gw-0")];
    let cases: [(&str, Pairs<'_>, Pairs<'_>); 4] = [
        (
            "two jobs",
            &[("job", "a"), ("instance", "10.0.0.9:1")],
            &[("job", "b"), ("instance", "10.0.0.9:1")],
        ),
        (
            "two servers",
            &[("job", "a"), ("instance", "h:1"), ("prometheus_replica", "0")],
            &[("job", "a"), ("instance", "h:1"), ("prometheus_replica", "1")],
        ),
        ("labels of one job alone", &pods, &[("job", "b"), ("instance", "10.0.0.9:15020"), ("app", "gw")]),
        ("names for instances", &[("job", "a"), ("instance", "gw")], &[("job", "b"), ("instance", "gw")]),
    ];
    for (case, one, other) in cases {
        let expected = vec![vec![10.0, 14.0, 20.0, 24.0, 30.0]];
        assert_eq!(merged([(one, ONE), (other, OTHER)]), (expected, 1), "{case}");
    }
    let restarted = [(0, 10.0), (10, 1.0)];
    let seen_twice = merged([(&pods, &restarted), (&[("job", "b"), pods[1]], &[(4, 12.0), (14, 3.0)])]);
    assert_eq!(seen_twice.1, 1, "a reset is one reset");
}

#[test]
fn what_counts_something_else_stays_apart() {
    let pod = [("job", "a"), ("instance", "10.0.0.9:1")];
    let cases: [(&str, Pairs<'_>, Samples<'_>); 6] = [
        ("another pod", &[("job", "b"), ("instance", "10.0.0.8:1")], OTHER),
        // Which may be another program of the same host.
        ("another port", &[("job", "b"), ("instance", "10.0.0.9:2")], OTHER),
        ("another code", &[("job", "b"), ("instance", "10.0.0.9:1"), ("code", "503")], OTHER),
        ("other numbers", &[("job", "b"), ("instance", "10.0.0.9:1")], &[(4, 3.0), (14, 4.0)]),
        ("another cluster", &[("job", "b"), ("instance", "10.0.0.9:1"), ("cluster", "east")], OTHER),
        // Two series of one scrape are never one.
        ("the same scrape", &pod, OTHER),
    ];
    for (case, other, points) in cases {
        assert_eq!(merged([(&pod, ONE), (other, points)]).1, 0, "{case}");
    }
    // Nobody says where they are; or they were not scraped by a Prometheus.
    for series in [[("job", "a"), ("x", "1")], [("pod", "a"), ("x", "1")]] {
        assert_eq!(merged([(&series, ONE), (&[series[0]], OTHER)]).1, 0, "{series:?}");
    }
}

#[test]
fn a_double_counts_once_and_goes_on_when_the_other_is_gone() {
    let reading = |a: Samples<'_>, b: Samples<'_>| {
        let (mut doubles, mut cells) = (Doubles::default(), BTreeMap::new());
        for (name, points) in [("a", a), ("b", b)] {
            let points: Vec<Point> = points.iter().map(|(second, total)| point(*second, *total)).collect();
            if !points.is_empty() {
                doubles.met(&cell(name), &labels(&[("job", name), ("instance", "gw:1")]));
                cells.insert(cell(name), points);
            }
        }
        let mut reading = Reading { doubles: doubles.merge(&mut cells), cells, ..Reading::default() };
        for cell in [cell("a"), cell("b")] {
            for at in reading.cells.values().flatten().map(|point| point.at).collect::<Vec<_>>() {
                reading.saw(&cell.reporter, at);
            }
        }
        reading
    };
    let mut ledger = Ledger::default();
    let mut counted = Vec::new();
    for reading in [
        reading(&[(0, 10.0)], &[(5, 15.0)]),
        reading(&[(0, 10.0), (10, 20.0)], &[(5, 15.0), (15, 25.0)]),
        // The first job is gone, and the second goes on where both were.
        reading(&[], &[(15, 25.0), (25, 45.0)]),
        // It is back.
        reading(&[(30, 50.0)], &[(25, 45.0), (35, 55.0)]),
    ] {
        let (watched, now) = (point(-5, 0.0).at, point(40, 0.0).at);
        let advance = ledger.advance(&reading, Span { watched, step_start: watched, now });
        counted.push(advance.increases.values().map(|increase| increase.total).sum::<f64>());
        ledger = advance.ledger;
    }
    assert_eq!(counted[1..], [10.0, 20.0, 10.0]);
}
