//! `PromQL` that we write ourselves, with values that cannot break out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use sluice_core::judge::Bound;

use crate::metrics::{
    Arm,
    profiles::{Group, Value},
};

/// A text as it stands inside a double-quoted `PromQL` string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    out.push_str(&inside(text));
    out.push('"');
    out
}

/// A text as it stands inside quotes of either sort: there is no escape for the other quote, but there is one for its code.
/// In backquotes nothing is an escape, and nothing here ends them.
pub fn inside(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' | '\'' | '`' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A text as a regular expression that matches it alone.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A matcher for any of the values.
pub fn any_of<'v>(label: &str, values: impl IntoIterator<Item = &'v str>) -> String {
    let values: BTreeSet<_> = values.into_iter().collect();
    match values.first() {
        Some(one) if values.len() == 1 => format!("{label}={}", quoted(one)),
        _ => {
            let all: Vec<_> = values.into_iter().map(literal).collect();
            format!("{label}=~{}", quoted(&all.join("|")))
        }
    }
}

/// A matcher for any of the values, some of which have more after them.
fn any_value(label: &str, values: &[Value]) -> String {
    let exact = |value: &Value| match value {
        Value::Exact(value) => Some(value.clone()),
        Value::Prefix(_) | Value::Any => None,
    };
    if let Some(values) = values.iter().map(exact).collect::<Option<Vec<_>>>() {
        return any_of(label, values.iter().map(String::as_str));
    }
    let patterns: BTreeSet<String> = values
        .iter()
        .map(|value| match value {
            Value::Exact(value) => literal(value),
            Value::Prefix(value) => format!("{}.+", literal(value)),
            Value::Any => ".+".to_owned(),
        })
        .collect();
    let all: Vec<_> = patterns.into_iter().collect();
    format!("{label}=~{}", quoted(&all.join("|")))
}

/// A duration as `PromQL` writes it, rounded up to milliseconds.
pub fn duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000).max(1);
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// Whether a text can be the name of a label in a selector.
pub fn is_label_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The selector of all series that a group of a profile's metrics has about the predictors. `bounds` are the buckets that
/// are needed, where that is known; without `latency` none is.
pub fn series<'p>(
    group: &Group,
    arms: &(impl Iterator<Item = &'p Arm> + Clone),
    wanted: &BTreeMap<String, String>,
    bounds: Option<&BTreeSet<Bound>>,
    latency: bool,
) -> String {
    let names = group.names(arms.clone(), latency);
    let mut matchers = vec![any_of("__name__", names.iter().map(String::as_str))];
    matchers.extend(group.fixed.iter().map(|(label, value)| format!("{label}={}", quoted(value))));
    let of_arms = group.arms.matchers(arms.clone());
    matchers.extend(of_arms.iter().map(|(label, values)| any_value(label, values)));
    matchers.extend(wanted.iter().map(|(label, value)| format!("{label}={}", quoted(value))));
    if let Some(bounds) = bounds {
        let spelled = group.les(bounds.iter().copied());
        // The empty alternative is for series without the label: the counters.
        let values = spelled.iter().map(String::as_str).chain([""]);
        matchers.push(any_of("le", values));
    }
    format!("{{{}}}", matchers.join(","))
}

/// A query for the series that there are of a group's counters of requests, by the labels that matter.
pub fn related(group: &Group, arm: &Arm, wanted: &BTreeMap<String, String>, everywhere: bool) -> String {
    let arms = group.arms.matchers([arm].into_iter());
    let of_arms = arms.iter().map(|(label, _)| *label);
    let all = of_arms.chain(group.fixed.keys().chain(wanted.keys()).map(String::as_str)).chain(["__name__"]);
    let labels: BTreeSet<&str> = all.collect();
    let requests: Vec<String> = group.sets.iter().map(|set| set.requests.to_owned()).collect();
    let names = group.arms.spelled(&requests, [arm].into_iter());
    let mut matchers = vec![any_of("__name__", names.iter().map(String::as_str))];
    let home = Value::Exact(arm.predictor.namespace.clone());
    let of_home = arms.iter().filter(|(_, values)| !everywhere && *values == [home.clone()]);
    matchers.extend(of_home.map(|(label, values)| any_value(label, values)));
    let labels: Vec<&str> = labels.into_iter().collect();
    format!("topk(50, count by ({}) ({{{}}}))", labels.join(", "), matchers.join(","))
}

#[cfg(test)]
mod tests {
    use sluice_core::{Predictor, api};

    use super::*;
    use crate::metrics::profiles::Profile;

    #[test]
    fn a_value_cannot_break_out_of_its_quotes() {
        for (value, expected) in [
            ("iris-v1", "iris-v1"),
            (r#"x"} or up{a=""#, r"x\x22} or up{a=\x22"),
            ("it's", r"it\x27s"),
            ("a`b", r"a\x60b"),
            (r"a\", r"a\\"),
            ("a\nb", r"a\u000ab"),
        ] {
            assert_eq!(inside(value), expected);
        }
    }

    #[test]
    fn durations_are_prometheus_durations() {
        for (millis, expected) in [(300_000, "300s"), (1500, "1500ms"), (0, "1ms")] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
        assert_eq!(duration(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn label_names_are_words() {
        for (name, good) in [
            ("route", true),
            ("_x1", true),
            ("", false),
            ("1x", false),
            ("a-b", false),
            (r#"a="b",c"#, false),
        ] {
            assert_eq!(is_label_name(name), good, "{name}");
        }
    }

    #[test]
    fn one_selector_covers_both_arms_and_only_the_needed_buckets() {
        let istio = &Profile::of(api::Profile::Istio).groups[0];
        let arms = ["iris-v1", "iris-v2"].map(|service| Arm::of(Predictor::new("models", service, 8000)));
        let wanted = BTreeMap::from([("route".to_owned(), "a\"b".to_owned())]);
        let bounds = BTreeSet::from([Bound(250_000), Bound(500)]);
        assert_eq!(
            series(istio, &arms.iter(), &wanted, Some(&bounds), true),
            concat!(
                r#"{__name__=~"istio_request_duration_milliseconds|istio_request_duration_milliseconds_bucket|"#,
                r#"istio_request_duration_milliseconds_count|istio_requests_total","#,
                r#"reporter="source",destination_service_name=~"iris-v1|iris-v2","#,
                r#"destination_service_namespace="models",route="a\x22b",le=~"|0\\.5|250|250\\.0"}"#
            )
        );
    }

    #[test]
    fn arms_are_asked_for_as_each_profile_names_them() {
        let arms = [("my-iris", 8000), ("iris.v2", 80)];
        let arms = arms.map(|(service, port)| Arm::of(Predictor::new("models", service, port)));
        let asked = |profile: api::Profile, group: usize| {
            series(&Profile::of(profile).groups[group], &arms.iter(), &BTreeMap::new(), None, false)
        };
        assert_eq!(
            asked(api::Profile::Seldon, 0),
            concat!(
                r#"{__name__=~"seldon_api_executor_server_requests_seconds|"#,
                r#"seldon_api_executor_server_requests_seconds_count","#,
                r#"deployment_name="my",predictor_name="iris",namespace="models"}"#
            )
        );
        let hashed = Predictor::new("models", "seldon-978c480118b2a87ebc26733c8f9cd54d", 8000);
        let seldon = &Profile::of(api::Profile::Seldon).groups[0];
        let of_hashed = series(seldon, &[Arm::of(hashed)].iter(), &BTreeMap::new(), None, false);
        assert!(
            of_hashed.ends_with(r#",deployment_name=~".+",predictor_name=~".+",namespace="models"}"#),
            "{of_hashed}"
        );
        let new = asked(api::Profile::Kserve, 0);
        assert!(
            new.ends_with(r#"pod=~"iris\\.v2-deployment-.+|my-iris-deployment-.+",namespace="models"}"#),
            "{new}"
        );
        assert_eq!(
            asked(api::Profile::Envoy, 0),
            concat!(
                r#"{__name__="envoy_cluster_upstream_rq",cluster_name=~"outbound\\|8000\\|\\|my-iris\\.models\\.svc\\..+|"#,
                r#"outbound\\|80\\|\\|iris\\.v2\\.models\\.svc\\..+"}"#
            )
        );
        let cut = asked(api::Profile::Envoy, 1);
        assert!(
            cut.starts_with(r#"{__name__="envoy_cluster_models_svc_cluster_local_upstream_rq_xx","#),
            "{cut}"
        );
        // Without a limit no bucket is asked for, and with one at first all of them.
        assert!(!cut.contains("_bucket"));
    }
}
