//! The samples that were scraped, and the one sort of query that is asked of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use regex::Regex;
use serde_json::{Value, json};

/// How long samples are kept, in milliseconds.
const KEPT: i64 = 3 * 60 * 60 * 1000;

type Labels = BTreeMap<String, String>;

/// What was scraped.
#[derive(Default)]
pub(super) struct Samples {
    series: BTreeMap<Labels, Vec<(i64, f64)>>,
    /// What a counter stood at when it was told to begin again.
    bases: HashMap<Labels, f64>,
}

impl Samples {
    /// Takes in what a target exposes at a time.
    pub(super) fn take(&mut self, at: i64, target: &Labels, exposition: &str) {
        let up = (labelled("up", target), 1.0);
        for (labels, value) in samples(exposition, target).chain([up]) {
            let value = value - self.bases.get(&labels).copied().unwrap_or(0.0);
            let points = self.series.entry(labels).or_default();
            points.retain(|(then, _)| at - then <= KEPT);
            points.push((at, value));
        }
    }

    /// What the target exposes now is 0 from now on.
    pub(super) fn reset(&mut self, target: &Labels, exposition: &str) {
        self.bases.extend(samples(exposition, target));
    }

    /// The series of a selector with a range at a time; nothing where the query is another one.
    pub(super) fn select(&self, query: &str, at: i64) -> Option<Vec<Value>> {
        static RANGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\{(.*)\}\[(\d+)(ms|s)\]$"));
        let parts = RANGE.captures(query)?;
        let length: i64 = parts[2].parse().ok()?;
        let from = at - if &parts[3] == "s" { length * 1000 } else { length };
        let matchers = matchers(&parts[1])?;
        let wanted =
            self.series.iter().filter(|(labels, _)| matchers.iter().all(|matcher| matcher.takes(labels)));
        let answers = wanted.filter_map(|(labels, points)| {
            let within = points.iter().filter(|(then, _)| from < *then && *then <= at);
            #[allow(clippy::cast_precision_loss)] // milliseconds of our age
            let values: Vec<Value> =
                within.map(|(then, value)| json!([*then as f64 / 1e3, value.to_string()])).collect();
            (!values.is_empty()).then(|| json!({"metric": labels, "values": values}))
        });
        Some(answers.collect())
    }
}

struct Matcher {
    label: String,
    value: Regex,
    negated: bool,
}

impl Matcher {
    fn takes(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.label).map_or("", String::as_str);
        self.value.is_match(value) != self.negated
    }
}

fn matchers(text: &str) -> Option<Vec<Matcher>> {
    static ONE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"([A-Za-z_][A-Za-z0-9_]*)(=~|!=|!~|=)"((?:[^"\\]|\\.)*)""#));
    let all = ONE.captures_iter(text).map(|parts| {
        let value = unescaped(&parts[3]);
        let value = if parts[2].ends_with('~') { value } else { regex::escape(&value) };
        let value = Regex::new(&format!("^(?:{value})$")).ok()?;
        Some(Matcher { label: parts[1].to_owned(), value, negated: parts[2].starts_with('!') })
    });
    all.collect()
}

/// The lines of a text that [`crate::exposition`] has written.
fn samples<'t>(text: &'t str, target: &'t Labels) -> impl Iterator<Item = (Labels, f64)> + 't {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)$"));
    static LABEL: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)""#));
    text.lines().filter_map(move |line| {
        let parts = LINE.captures(line)?;
        let mut labels = labelled(&parts[1], target);
        for label in LABEL.captures_iter(parts.get(2).map_or("", |labels| labels.as_str())) {
            labels.insert(label[1].to_owned(), unescaped(&label[2]));
        }
        Some((labels, parts[3].parse().ok()?))
    })
}

fn labelled(name: &str, target: &Labels) -> Labels {
    let mut labels = target.clone();
    labels.insert("__name__".to_owned(), name.to_owned());
    labels
}

fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\")
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("a constant: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn values(selected: Option<Vec<Value>>) -> Vec<Value> {
        selected.unwrap().into_iter().map(|series| series["values"].clone()).collect()
    }

    #[test]
    fn a_selector_finds_the_samples_of_its_range_and_no_others() {
        let mut samples = Samples::default();
        let target = labels(&[("job", "lab")]);
        for (at, count) in [(1000, 1), (2000, 2), (3000, 3)] {
            samples.take(at, &target, &format!("# TYPE a counter\na{{code=\"200\"}} {count}\nb 7\n"));
        }
        let two = json!([[2.0, "2"], [3.0, "3"]]);
        assert_eq!(values(samples.select(r#"{__name__="a",code="200"}[2s]"#, 3500)), [two]);
        assert_eq!(values(samples.select(r#"{__name__=~"a|b",code=~"200|"}[1s]"#, 1000)).len(), 2);
        assert_eq!(values(samples.select(r#"{__name__=~"a|b",code!="200",job="lab"}[1s]"#, 1000)).len(), 1);
        assert_eq!(values(samples.select(r#"{__name__="a",code="500"}[9s]"#, 3000)), [json!(null); 0]);
        assert_eq!(samples.select("avg(a)", 3000), None);
    }

    #[test]
    fn a_counter_that_is_reset_begins_at_0() {
        let mut samples = Samples::default();
        samples.take(1000, &Labels::new(), "a 10\n");
        samples.reset(&Labels::new(), "a 12\n");
        samples.take(2000, &Labels::new(), "a 15\n");
        assert_eq!(values(samples.select(r#"{__name__="a"}[9s]"#, 2000)), [json!([[1.0, "10"], [2.0, "3"]])]);
    }
}
