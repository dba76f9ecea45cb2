//! `PromQL` that we write ourselves, with values that cannot break out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use sluice_core::{Predictor, judge::Bound};

use crate::metrics::profiles::Profile;

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

/// The selector of all series that a profile has about the predictors. `bounds` are the buckets that are needed, where
/// that is known.
pub fn series<'p>(
    profile: &Profile,
    predictors: &(impl Iterator<Item = &'p Predictor> + Clone),
    wanted: &BTreeMap<String, String>,
    bounds: Option<&BTreeSet<Bound>>,
) -> String {
    let names = profile.names();
    let mut matchers = vec![any_of("__name__", names.iter().map(String::as_str))];
    matchers.extend(profile.fixed.iter().map(|(label, value)| format!("{label}={}", quoted(value))));
    let arms = &profile.arms;
    matchers.push(any_of(&arms.service, predictors.clone().map(|predictor| &*predictor.service)));
    matchers.push(any_of(&arms.namespace, predictors.clone().map(|predictor| &*predictor.namespace)));
    matchers.extend(wanted.iter().map(|(label, value)| format!("{label}={}", quoted(value))));
    if let Some(bounds) = bounds {
        let spelled: Vec<_> = bounds.iter().flat_map(|bound| profile.le(*bound)).collect();
        // The empty alternative is for series without the label: the counters.
        let values = spelled.iter().map(String::as_str).chain([""]);
        matchers.push(any_of("le", values));
    }
    format!("{{{}}}", matchers.join(","))
}

#[cfg(test)]
mod tests {
    use sluice_core::api;

    use super::*;

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
        let istio = Profile::of(api::Profile::Istio).unwrap();
        let arms = [Predictor::new("models", "iris-v1", 8000), Predictor::new("models", "iris-v2", 8000)];
        let wanted = BTreeMap::from([("route".to_owned(), "a\"b".to_owned())]);
        let bounds = BTreeSet::from([Bound(250_000), Bound(500)]);
        assert_eq!(
            series(&istio, &arms.iter(), &wanted, Some(&bounds)),
            concat!(
                r#"{__name__=~"istio_request_duration_milliseconds|istio_request_duration_milliseconds_bucket|"#,
                r#"istio_request_duration_milliseconds_count|istio_requests_total","#,
                r#"reporter="source",destination_service_name=~"iris-v1|iris-v2","#,
                r#"destination_service_namespace="models",route="a\x22b",le=~"|0\\.5|250|250\\.0"}"#
            )
        );
    }
}
