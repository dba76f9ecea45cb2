//! What was measured, beside what it may be at most.

use std::time::Duration;

use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Scenario and figure, such as `breach.answer_to_commit.p99`.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// Of the value and the limit: `s`, `ms`, `MiB`, `%` (of one core), or what is counted.
    pub unit: &'static str,
    /// What it may be at most; nothing where the figure only informs, or where the run was of another size than the
    /// limit is for.
    pub limit: Option<f64>,
    /// Whether the value is within the limit.
    pub holds: Option<bool>,
    /// How many samples the value is of.
    pub samples: usize,
    /// How it was measured.
    pub how: String,
}

impl Figure {
    /// A figure that informs.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, how: impl Into<String>) -> Self {
        let value = (value * 1e3).round() / 1e3;
        Self { name: name.into(), value, unit, limit: None, holds: None, samples: 1, how: how.into() }
    }

    /// With what it may be at most.
    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self.holds = Some(self.value <= limit);
        self
    }

    /// [`at_most`](Self::at_most) if the run is of the size that the limit is for.
    #[must_use]
    pub fn at_most_if(self, applies: bool, limit: f64) -> Self {
        if applies { self.at_most(limit) } else { self }
    }

    /// With how many samples it is of.
    #[must_use]
    pub fn of(mut self, samples: usize) -> Self {
        self.samples = samples;
        self
    }
}

/// Durations of one kind, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest one that at least this share (above 0, at most 1) of all does not exceed: the nearest rank, so
    /// always one that was measured. Zero where there is none.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or_default()
    }

    /// The longest one.
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// Median, 99th percentile and longest as figures in milliseconds: `name.p50`, `name.p99`, `name.max`.
    pub fn figures(&self, name: &str, how: &str) -> [Figure; 3] {
        [("p50", self.quantile(0.5)), ("p99", self.quantile(0.99)), ("max", self.max())].map(
            |(which, value)| {
                Figure::new(format!("{name}.{which}"), value.as_secs_f64() * 1e3, "ms", how).of(self.len())
            },
        )
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: impl IntoIterator<Item = u64>) -> Latencies {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_quantile_is_one_of_the_values_by_nearest_rank() {
        let hundred = millis((1..=100).rev());
        for (share, expected) in [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)] {
            assert_eq!(hundred.quantile(share).as_millis(), expected, "{share}");
        }
        let three = millis([30, 10, 20]);
        assert_eq!([0.5, 0.99].map(|share| three.quantile(share).as_millis()), [20, 30]);
        assert_eq!((three.max().as_millis(), three.len()), (30, 3));
    }

    #[test]
    fn of_nothing_everything_is_zero() {
        let nothing = millis([]);
        assert_eq!((nothing.quantile(0.99), nothing.max()), (Duration::ZERO, Duration::ZERO));
        assert!(nothing.is_empty());
    }

    #[test]
    fn a_figure_at_its_limit_holds_and_one_above_does_not() {
        let figure = |value| Figure::new("x", value, "ms", "").at_most(30.0);
        assert_eq!(
            [29.9, 30.0, 30.1].map(|value| figure(value).holds),
            [Some(true), Some(true), Some(false)]
        );
        let free = Figure::new("x", 1.0, "ms", "").at_most_if(false, 0.5);
        assert_eq!((free.limit, free.holds), (None, None));
    }

    #[test]
    fn latencies_are_told_in_milliseconds_with_their_count() {
        let [p50, p99, max] = millis([1, 2, 3, 4]).figures("a.b", "by watching");
        assert_eq!((p50.name.as_str(), p50.value, p50.unit, p50.samples), ("a.b.p50", 2.0, "ms", 4));
        assert_eq!((p99.value, max.value), (4.0, 4.0));
    }
}
