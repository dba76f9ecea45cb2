//! What a query asks for, as far as the controller writes queries.

use super::super::objects::Names;

/// A query, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Istio's counters of some predictors.
    Counters(Counters),
    /// Anything else; with a range selector or for one number.
    Other {
        /// Whether raw samples are asked for.
        range: bool,
    },
}

/// Istio's counters of some predictors, over a range of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Their namespace.
    pub namespace: String,
    /// Their Services.
    pub services: Vec<String>,
    /// The buckets wanted, by their `le`; nothing where all are.
    pub bounds: Option<Vec<String>>,
    /// How far back the samples are wanted, in milliseconds.
    pub reach: i64,
}

impl Asked {
    /// Reads a query.
    pub fn read(query: &str) -> Self {
        counters(query).map_or_else(
            || Self::Other { range: query.starts_with('{') && reach(query).is_some() },
            Self::Counters,
        )
    }
}

impl Counters {
    /// The Rollout whose predictors these are: its name is theirs without the version.
    pub fn rollout(&self) -> Option<Names> {
        let (name, _) = self.services.first()?.rsplit_once('-')?;
        Some(Names { namespace: self.namespace.clone(), name: name.to_owned() })
    }
}

fn counters(query: &str) -> Option<Counters> {
    Some(Counters {
        namespace: matcher(query, "destination_service_namespace")?.pop()?,
        services: matcher(query, "destination_service_name")?,
        bounds: matcher(query, "le"),
        reach: reach(query)?,
    })
}

/// The values that a label may have: `label="value"` or `label=~"one|other"`.
fn matcher(query: &str, label: &str) -> Option<Vec<String>> {
    let start = [format!("{{{label}="), format!(",{label}=")];
    let (_, rest) = start.iter().find_map(|start| query.split_once(start.as_str()))?;
    let text = rest.strip_prefix('~').unwrap_or(rest).strip_prefix('"')?;
    let (values, _) = text.split_once('"')?;
    // In a regular expression a point is escaped, and in its string the backslash is again.
    Some(values.split('|').map(|value| value.replace("\\\\.", ".")).collect())
}

/// The range in milliseconds: `[130s]`, `[1500ms]`.
fn reach(query: &str) -> Option<i64> {
    let (_, range) = query.strip_suffix(']')?.rsplit_once('[')?;
    match range.strip_suffix("ms") {
        Some(millis) => millis.parse().ok(),
        None => range.strip_suffix('s')?.parse::<i64>().ok().map(|seconds| seconds * 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_two_predictors_are_read() {
        let query = concat!(
            r#"{__name__=~"istio_request_duration_milliseconds|istio_requests_total",reporter="source","#,
            r#"destination_service_name=~"model-7-v1|model-7-v2",destination_service_namespace="team-0","#,
            r#"le=~"|0\\.5|250|250\\.0"}[130s]"#
        );
        let Asked::Counters(counters) = Asked::read(query) else { panic!("{query}") };
        assert_eq!(counters.services, ["model-7-v1", "model-7-v2"]);
        assert_eq!(counters.bounds.as_ref().unwrap()[1..3], ["0.5", "250"]);
        assert_eq!(counters.reach, 130_000);
        assert_eq!(counters.rollout(), Some(Names::number(7)));
    }

    #[test]
    fn one_predictor_and_all_its_buckets() {
        let query =
            r#"{__name__="a",destination_service_name="x-v1",destination_service_namespace="n"}[1500ms]"#;
        let Asked::Counters(counters) = Asked::read(query) else { panic!("{query}") };
        assert_eq!(
            (counters.services, counters.bounds, counters.reach),
            (vec!["x-v1".to_owned()], None, 1500)
        );
    }

    #[test]
    fn what_is_about_no_predictor_is_told_by_its_range() {
        assert_eq!(Asked::read(r#"{__name__="up",instance="x"}[300s]"#), Asked::Other { range: true });
        assert_eq!(Asked::read("sum(rate(x[1m]))"), Asked::Other { range: false });
    }
}
