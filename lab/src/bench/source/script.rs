//! What one predictor's counters show: a steady stream of requests, from some time on failing, from some time on none.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::asked::Counters;

/// Requests between two samples: enough for a verdict at every look.
const REQUESTS: i64 = 40;
/// How long ago the counters began, when they are first asked for.
const AGE: TimeDelta = TimeDelta::hours(1);
/// Istio's buckets in milliseconds, and how many of a hundred requests are at most as slow.
const BUCKETS: [(&str, i64); 14] = [
    ("0.5", 0),
    ("1", 0),
    ("5", 10),
    ("10", 40),
    ("25", 80),
    ("50", 100),
    ("100", 100),
    ("250", 100),
    ("500", 100),
    ("1000", 100),
    ("2500", 100),
    ("5000", 100),
    ("10000", 100),
    ("+Inf", 100),
];

/// One predictor's counters. Their samples are numbered; number 0 has zeros.
#[derive(Clone, Debug)]
pub struct Script {
    labels: String,
    born: i64,
    every: i64,
    /// The first sample with failed requests in it.
    fails_from: Option<i64>,
    /// The last sample with a new request in it.
    last: Option<i64>,
}

impl Script {
    /// A predictor that is well, sampled so often (whole milliseconds), at times that its name decides.
    pub fn new(namespace: &str, service: &str, every: Duration, now: DateTime<Utc>) -> Self {
        let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
        let mut hasher = DefaultHasher::new();
        (namespace, service).hash(&mut hasher);
        let phase = i64::try_from(hasher.finish() >> 1).unwrap_or(0) % every;
        let labels = format!(
            r#""job":"envoy-stats","instance":"10.244.0.9:15090","pod":"gateway-6f5d8c7b9-abcde","namespace":"istio-system","reporter":"source","source_workload":"gateway","source_workload_namespace":"istio-system","destination_workload":"{service}","destination_workload_namespace":"{namespace}","destination_service":"{service}.{namespace}.svc.cluster.local","destination_service_name":"{service}","destination_service_namespace":"{namespace}","request_protocol":"http","connection_security_policy":"unknown","response_flags":"-""#
        );
        let born = (now - AGE).timestamp_millis();
        Self { labels, born: born - born.rem_euclid(every) + phase, every, fails_from: None, last: None }
    }

    /// From the next sample after `now` on, every request fails. Says when that one is taken.
    pub fn fail_after(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let next = self.number(now.timestamp_millis()) + 1;
        let number = *self.fails_from.get_or_insert(next);
        DateTime::from_timestamp_millis(self.time(number)).unwrap_or(now)
    }

    /// After the sample that is the newest at `now` there are no more requests.
    pub fn silence_after(&mut self, now: DateTime<Utc>) {
        let newest = self.number(now.timestamp_millis());
        self.last.get_or_insert(newest);
    }

    /// Writes the samples that a query evaluated at `at` gets.
    pub fn write(&self, result: &mut Matrix, wanted: &Counters, at: DateTime<Utc>) {
        let at = at.timestamp_millis();
        // A range is open at its early end.
        let first = (self.number(at - wanted.reach) + 1).max(0);
        let span = first..=self.number(at);
        let failing = self.fails_from.filter(|from| span.contains(from) || *from < first);
        let name = "istio_requests_total";
        result.series(name, &self.labels, r#""response_code":"200""#, self.samples(&span, |n| self.good(n)));
        if let Some(from) = failing {
            let from = from.max(first)..=*span.end();
            let samples = self.samples(&from, |n| self.all(n) - self.good(n));
            result.series(name, &self.labels, r#""response_code":"500""#, samples);
            result.shows_errors = true;
        }
        let name = "istio_request_duration_milliseconds_count";
        result.series(name, &self.labels, r#""response_code":"200""#, self.samples(&span, |n| self.all(n)));
        for (le, percent) in BUCKETS {
            if wanted.bounds.as_ref().is_none_or(|bounds| bounds.iter().any(|bound| bound == le)) {
                let label = format!(r#""response_code":"200","le":"{le}""#);
                let samples = self.samples(&span, |n| self.all(n) * percent / 100);
                result.series("istio_request_duration_milliseconds_bucket", &self.labels, &label, samples);
            }
        }
    }

    fn samples(
        &self,
        span: &std::ops::RangeInclusive<i64>,
        value: impl Fn(i64) -> i64,
    ) -> impl Iterator<Item = (i64, i64)> {
        span.clone().map(move |number| (self.time(number), value(number)))
    }

    /// Number of the newest sample at a time; below 0 where there was none yet.
    fn number(&self, millis: i64) -> i64 {
        (millis - self.born).div_euclid(self.every)
    }

    fn time(&self, number: i64) -> i64 {
        self.born + number * self.every
    }

    /// All requests up to a sample.
    fn all(&self, number: i64) -> i64 {
        REQUESTS * self.last.map_or(number, |last| number.min(last))
    }

    /// Those that were answered well.
    fn good(&self, number: i64) -> i64 {
        self.all(self.fails_from.map_or(number, |from| number.min(from - 1)))
    }
}

/// An answer with series of samples.
#[derive(Debug, Default)]
pub struct Matrix {
    series: String,
    shows_errors: bool,
}

impl Matrix {
    /// Adds a series; times are in milliseconds since the epoch. Without samples there is none.
    fn series(&mut self, name: &str, labels: &str, more: &str, samples: impl Iterator<Item = (i64, i64)>) {
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return;
        }
        let comma = if self.series.is_empty() { "" } else { "," };
        let text = &mut self.series;
        // Writing to a text cannot fail.
        let _ = write!(text, r#"{comma}{{"metric":{{"__name__":"{name}",{labels},{more}}},"values":["#);
        for (at, value) in samples {
            let _ = write!(text, r#"[{}.{:03},"{value}"],"#, at / 1000, at % 1000);
        }
        text.pop();
        text.push_str("]}");
    }

    /// The answer as it is sent, and whether it shows failed requests.
    pub fn finish(self) -> (String, bool) {
        let text =
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#, self.series);
        (text, self.shows_errors)
    }
}

/// An answer that is one number, which is 1.
pub fn one_number(at: DateTime<Utc>) -> String {
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[{},"1"]}}]}}}}"#,
        at.timestamp()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + millis).unwrap()
    }

    fn wanted(bounds: Option<&[&str]>) -> Counters {
        Counters {
            namespace: "n".to_owned(),
            services: Vec::new(),
            bounds: bounds.map(|bounds| bounds.iter().map(|bound| (*bound).to_owned()).collect()),
            reach: 10_000,
        }
    }

    /// Increases between neighbours of the series with this label, and the last sample's time.
    fn increases(script: &Script, now: DateTime<Utc>, label: &str) -> Vec<i64> {
        let mut matrix = Matrix::default();
        script.write(&mut matrix, &wanted(Some(&["250"])), now);
        let (text, _) = matrix.finish();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let series = answer["data"]["result"].as_array().unwrap();
        let found = series.iter().find(|series| series["metric"].to_string().contains(label));
        let values: Vec<i64> = found
            .iter()
            .flat_map(|series| series["values"].as_array().unwrap())
            .map(|sample| sample[1].as_str().unwrap().parse().unwrap())
            .collect();
        values.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn samples_are_as_far_apart_as_said_and_reach_back_as_far_as_asked() {
        let script = Script::new("n", "x-v1", Duration::from_secs(1), at(0));
        let steady = increases(&script, at(0), "istio_requests_total");
        assert_eq!((steady.len(), steady.iter().all(|grown| *grown == REQUESTS)), (9, true));
    }

    #[test]
    fn a_failure_begins_with_the_next_sample_and_nothing_is_lost() {
        let mut script = Script::new("n", "x-v1", Duration::from_secs(1), at(0));
        let visible = script.fail_after(at(0));
        assert!(visible > at(0) && visible <= at(1000), "{visible}");
        assert_eq!(script.fail_after(at(5000)), visible, "it fails already");
        let later = at(3500);
        let (good, all) = (increases(&script, later, r#""200""#), increases(&script, later, r#""le":"250""#));
        assert_eq!(all.iter().sum::<i64>(), 9 * REQUESTS);
        assert!(good.iter().sum::<i64>() < all.iter().sum::<i64>());
        assert_eq!(good.last(), Some(&0));
        assert!(increases(&script, later, r#""500""#).iter().all(|grown| *grown == REQUESTS));
    }

    #[test]
    fn a_silent_predictor_keeps_its_counts() {
        let mut script = Script::new("n", "x-v1", Duration::from_secs(1), at(0));
        script.silence_after(at(0));
        assert!(increases(&script, at(20_000), "istio_requests_total").iter().all(|grown| *grown == 0));
    }

    #[test]
    fn all_buckets_come_unless_some_are_named() {
        let script = Script::new("n", "x-v1", Duration::from_secs(1), at(0));
        for (bounds, expected) in [(None, BUCKETS.len()), (Some(&["250", "250.0"][..]), 1)] {
            let mut matrix = Matrix::default();
            script.write(&mut matrix, &wanted(bounds), at(0));
            assert_eq!(matrix.finish().0.matches(r#""le":"#).count(), expected);
        }
    }
}
