//! The Prometheus text format, written by hand: the laboratory imitates exporters whose names, labels and bounds are
//! given, down to how they write numbers.

use std::fmt::Write;

/// Text under construction.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family: `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            let _ = write!(self.0, "{{{}}}", labels.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// All samples of one histogram.
    #[allow(clippy::cast_precision_loss)] // counts of a laboratory stay far below 2^52
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let (bucket, mut below) = (format!("{name}_bucket"), 0);
        for (at, count) in histogram.counts.iter().enumerate() {
            below += count;
            let bound = histogram.bounds.get(at).map_or("+Inf", |(_, text)| *text);
            let mut labels = labels.to_vec();
            labels.push(("le", bound));
            self.sample(&bucket, &labels, below as f64);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, below as f64);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Upper bounds of buckets, each with how its exporter writes it; the last one, `+Inf`, is implied.
pub type Bounds = &'static [(f64, &'static str)];

/// A histogram with given bounds.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: Bounds,
    /// Per bucket, not cumulative; one more than there are bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts one value, in the unit of the bounds.
    pub fn observe(&mut self, value: f64) {
        let at = self.bounds.iter().position(|(bound, _)| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[at] += 1;
        self.sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let mut histogram = Histogram::new(&[(1.0, "1.0"), (2.0, "2.0")]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let mut text = Text::default();
        text.histogram("h", &[("a", "b\"c")], &histogram);
        let expected = "h_bucket{a=\"b\\\"c\",le=\"1.0\"} 2\nh_bucket{a=\"b\\\"c\",le=\"2.0\"} 3\n\
            h_bucket{a=\"b\\\"c\",le=\"+Inf\"} 4\nh_sum{a=\"b\\\"c\"} 12\nh_count{a=\"b\\\"c\"} 4\n";
        assert_eq!(text.finish(), expected);
    }
}
