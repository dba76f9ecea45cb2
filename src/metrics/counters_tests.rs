use proptest::prelude::*;

use super::*;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + second, 0).unwrap()
}

fn cell(series: &str) -> Cell {
    Cell {
        arm: "canary".into(),
        reporter: "gateway".into(),
        family: Family::Requests { failed: false },
        series: series.into(),
    }
}

fn point(second: i64, total: f64) -> Point {
    Point { at: at(second), total, ..Point::default() }
}

/// Series of the one reporter, with their samples as second and value.
fn reading(cells: &[(&str, &[(i64, f64)])]) -> Reading {
    let mut reading = Reading::default();
    let gateway = reading.reporters.entry("gateway".into()).or_default();
    for (series, samples) in cells {
        gateway.seen.extend(samples.iter().map(|(second, _)| at(*second)));
        let points = samples.iter().map(|(second, total)| point(*second, *total)).collect();
        reading.cells.insert(cell(series), points);
    }
    reading
}

fn span(watched: i64, now: i64) -> Span {
    Span { watched: at(watched), step_start: at(0), now: at(now) }
}

fn totals(advance: &Advance) -> Vec<f64> {
    advance.increases.values().map(|increase| increase.total).collect()
}

/// What the second of two looks, at 10 s and 20 s, counts.
fn second_look(first: &Reading, second: &Reading) -> Advance {
    Ledger::default().advance(first, span(0, 10)).ledger.advance(second, span(10, 20))
}

#[test]
fn a_first_look_counts_nothing() {
    let advance = Ledger::default().advance(&reading(&[("a", &[(10, 500.0)])]), span(10, 10));
    assert_eq!(totals(&advance), [0.0]);
}

#[test]
fn an_increase_is_the_difference_and_a_smaller_value_counts_from_zero() {
    for (case, first, samples, expected) in [
        ("grown", 100.0, &[(20, 130.0)][..], 30.0),
        ("at rest", 100.0, &[(20, 100.0)], 0.0),
        ("restarted", 100.0, &[(20, 7.0)], 7.0),
        ("restarted and idle", 100.0, &[(20, 0.0)], 0.0),
        ("restarted between two looks", 100.0, &[(13, 110.0), (16, 4.0), (20, 9.0)], 19.0),
        ("the sample of the look before", 100.0, &[(10, 100.0)], 0.0),
        ("an older sample again", 100.0, &[(5, 90.0), (10, 100.0), (20, 101.0)], 1.0),
        ("fractions", 0.5, &[(20, 2.25)], 1.75),
    ] {
        let advance = second_look(&reading(&[("a", &[(10, first)])]), &reading(&[("a", samples)]));
        assert_eq!(totals(&advance), [expected], "{case}");
    }
}

#[test]
fn a_new_series_of_an_old_reporter_counts_from_zero() {
    let first = reading(&[("200", &[(10, 100.0)])]);
    let second = reading(&[("200", &[(20, 100.0)]), ("500", &[(20, 3.0)])]);
    assert_eq!(totals(&second_look(&first, &second)), [0.0, 3.0]);
}

#[test]
fn a_new_series_counts_from_zero_where_a_sample_between_the_looks_lacks_it() {
    // The reporter itself is new, but Prometheus has read it once without the series.
    let second = reading(&[("200", &[(12, 40.0), (17, 50.0)]), ("500", &[(17, 3.0)])]);
    assert_eq!(totals(&second_look(&Reading::default(), &second)), [10.0, 3.0]);
}

#[test]
fn a_new_reporter_counts_from_zero_only_if_it_is_young() {
    for (case, process, container, expected) in [
        ("age unknown", None, None, 0.0),
        ("process older than the first look", Some(9), None, 0.0),
        ("process younger", Some(11), None, 5.0),
        ("container younger", None, Some(15), 5.0),
        ("container older", None, Some(-500), 0.0),
        ("young by a clock that is ahead", Some(60), None, 5.0),
        ("container old, its process restarted", Some(15), Some(-500), 5.0),
    ] {
        let mut second = reading(&[("a", &[(20, 5.0)])]);
        let gateway = second.reporters.get_mut("gateway").unwrap();
        gateway.process_started = process.map(at);
        gateway.container_started = container.map(at);
        assert_eq!(totals(&second_look(&Reading::default(), &second)), [expected], "{case}");
    }
}

#[test]
fn a_restart_is_seen_by_the_start_time_even_if_the_counter_is_larger() {
    let aged = |mut reading: Reading, second| {
        reading.reporters.get_mut("gateway").unwrap().process_started = Some(at(second));
        reading
    };
    let first = aged(reading(&[("a", &[(10, 5.0)])]), -100);
    let second = reading(&[("a", &[(20, 8.0)])]);
    assert_eq!(totals(&second_look(&first, &aged(second.clone(), 12))), [8.0]);
    assert_eq!(totals(&second_look(&first, &aged(second, -99))), [3.0], "the same start, computed anew");
}

#[test]
fn a_series_that_vanishes_adds_nothing_and_counts_on_when_it_is_back() {
    let first = reading(&[("a", &[(10, 100.0)]), ("b", &[(10, 1.0)])]);
    let without = second_look(&first, &reading(&[("b", &[(20, 1.0)])]));
    assert_eq!(totals(&without), [0.0]);
    let back = without.ledger.advance(&reading(&[("a", &[(30, 104.0)]), ("b", &[(30, 1.0)])]), span(20, 30));
    assert_eq!(totals(&back), [4.0, 0.0]);
}

#[test]
fn a_series_is_forgotten_after_an_hour() {
    let first = reading(&[("a", &[(10, 100.0)])]);
    let later =
        Ledger::default().advance(&first, span(0, 10)).ledger.advance(&Reading::default(), span(10, 4000));
    assert_eq!(later.ledger, Ledger::default());
}

#[test]
fn what_was_counted_before_the_step_is_no_evidence() {
    let span = |step_start| Span { watched: at(10), step_start: at(step_start), now: at(40) };
    let samples = reading(&[("a", &[(20, 110.0), (30, 125.0), (40, 150.0)])]);
    let known = Ledger::default().advance(&reading(&[("a", &[(10, 100.0)])]), span(0)).ledger;
    for (step_start, expected) in [(10, 50.0), (11, 40.0), (20, 40.0), (25, 25.0), (40, 0.0), (50, 0.0)] {
        assert_eq!(totals(&known.advance(&samples, span(step_start))), [expected], "{step_start}");
    }
}

#[test]
fn the_first_burst_of_a_counter_that_stood_at_zero_is_evidence() {
    let step = Span { watched: at(10), step_start: at(15), now: at(20) };
    let first = reading(&[("a", &[(10, 0.0)]), ("z", &[(10, 7.0)])]);
    let known = Ledger::default().advance(&first, span(10, 10)).ledger;
    let second = reading(&[("a", &[(20, 9.0)]), ("born", &[(20, 2.0)]), ("z", &[(20, 8.0)])]);
    assert_eq!(totals(&known.advance(&second, step)), [9.0, 2.0, 0.0]);
    // Before the step it is not.
    let early = reading(&[("a", &[(12, 9.0)])]);
    assert_eq!(totals(&known.advance(&early, step)), [0.0]);
}

#[test]
fn buckets_are_differenced_with_their_histogram() {
    let histogram = |second, total, within: &[(u64, f64)]| {
        let mut reading = reading(&[]);
        reading.reporters.get_mut("gateway").unwrap().seen.insert(at(second));
        let within = within.iter().map(|(bound, count)| (Bound(*bound), *count)).collect();
        let cell = Cell { family: Family::Latency, ..cell("a") };
        reading.cells.insert(cell, vec![Point { at: at(second), total, within, native: None }]);
        reading
    };
    let first = histogram(10, 100.0, &[(250, 80.0), (500, 90.0)]);
    for (case, second, total, within) in [
        ("grown", histogram(20, 110.0, &[(250, 85.0), (500, 99.0)]), 10.0, vec![(250, 5.0), (500, 9.0)]),
        // The whole histogram restarts with one bucket, though its total is larger than before.
        (
            "restarted",
            histogram(20, 150.0, &[(250, 20.0), (500, 120.0)]),
            150.0,
            vec![(250, 20.0), (500, 120.0)],
        ),
        ("a bound is new", histogram(20, 110.0, &[(250, 85.0), (300, 86.0)]), 10.0, vec![(250, 5.0)]),
    ] {
        let advance = second_look(&first, &second);
        let expected = within.into_iter().map(|(bound, count)| (Bound(bound), count)).collect();
        assert_eq!(
            advance.increases.into_values().next(),
            Some(Increase { total, within: expected }),
            "{case}"
        );
    }
}

#[test]
fn a_reporter_is_fresh_with_a_new_sample_and_covers_the_step_if_its_last_one_was_in_it() {
    let first = reading(&[("a", &[(10, 1.0)])]);
    let second = reading(&[("a", &[(20, 1.0)])]);
    let known = Ledger::default().advance(&first, span(10, 10)).ledger;
    let step = |step_start, seen: &Reading| {
        let span = Span { watched: at(10), step_start: at(step_start), now: at(20) };
        let advance = known.advance(seen, span);
        (advance.fresh.len(), advance.covered.len())
    };
    assert_eq!(step(5, &second), (1, 1));
    assert_eq!(step(15, &second), (1, 0));
    assert_eq!(step(5, &first), (0, 0));
}

/// What happens to one pod between two looks.
#[derive(Clone, Debug)]
enum Event {
    Requests(u32),
    Restart,
    Silence,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0u32..1000).prop_map(Event::Requests),
        1 => Just(Event::Restart),
        1 => Just(Event::Silence),
    ]
}

proptest! {
    /// Pods serve, restart, are born and are not heard of for a while. A restart is known by the container's start time,
    /// and takes with it what the pod counted since it was last read: nobody can know that.
    #[test]
    fn the_increases_add_up_to_the_true_count(
        lives in proptest::collection::vec((0usize..6, proptest::collection::vec(event(), 0..20)), 1..5),
    ) {
        let mut ledger = Ledger::default();
        let (mut seen, mut readable) = (0.0, 0.0);
        // Per pod: its counter, when it started, what it counted that was not read yet, and whether it was read before.
        let mut pods: Vec<Option<(f64, i64, f64, bool)>> = vec![None; lives.len()];
        for look in 0..22usize {
            let now = i64::try_from(look).unwrap() * 10;
            let mut reading = Reading::default();
            for (index, (birth, events)) in lives.iter().enumerate() {
                let Some(event) = look.checked_sub(*birth).and_then(|age| events.get(age)) else { continue };
                let (counter, started, unread, known) =
                    pods[index].get_or_insert((0.0, now - 5, 0.0, false));
                match event {
                    Event::Requests(requests) => {
                        *counter += f64::from(*requests);
                        *unread += f64::from(*requests);
                    }
                    Event::Restart => (*counter, *started, *unread) = (0.0, now - 5, 0.0),
                    Event::Silence => continue,
                }
                let name: Arc<str> = format!("pod-{index}").into();
                let reporter = reading.reporters.entry(name.clone()).or_default();
                reporter.seen.insert(at(now));
                reporter.container_started = Some(at(*started));
                let cell = Cell { reporter: name, ..cell("a") };
                reading.cells.insert(cell, vec![point(now, *counter)]);
                // Only a baseline: the first look of all, and a pod that was there then, unread.
                if look > 0 && (*known || *started > 0) {
                    readable += *unread;
                }
                (*unread, *known) = (0.0, true);
            }
            let span = Span { watched: at(0), step_start: at(-1000), now: at(now) };
            let advance = ledger.advance(&reading, span);
            for total in totals(&advance) {
                prop_assert!(total >= 0.0);
                seen += total;
            }
            ledger = advance.ledger;
        }
        prop_assert!((seen - readable).abs() < 0.5, "{} {}", seen, readable);
    }

    /// Whatever is exposed, an increase is a number that is not negative.
    #[test]
    fn an_increase_is_never_negative(values in proptest::collection::vec(0.0f64..1e12, 1..50), step_start in 0i64..500) {
        let mut ledger = Ledger::default();
        for (index, value) in values.iter().enumerate() {
            let now = i64::try_from(index).unwrap() * 10;
            let span = Span { watched: at(0), step_start: at(step_start), now: at(now) };
            let advance = ledger.advance(&reading(&[("a", &[(now, *value)])]), span);
            prop_assert!(totals(&advance).iter().all(|total| total.is_finite() && *total >= 0.0));
            ledger = advance.ledger;
        }
    }
}
