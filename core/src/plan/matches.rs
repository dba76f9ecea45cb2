//! What a step matches requests by.

use regex::RegexBuilder;

use super::PlanErrors;
use crate::{
    api::{Match, StringMatch},
    text::digest,
};

/// Requests that go to the canary whatever the weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMatch {
    /// Where it stands, like `spec.steps[1].match[0]`.
    pub path: String,
    /// What a request must meet, all of it; something that not every request does is among it.
    pub condition: Match,
}

/// More characters than these are not written down of a match.
const LONGEST_WORDS: usize = 200;

/// What Istio takes no headers by these names for: they would be ignored, and the match take all.
const IGNORED_HEADERS: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// One that takes more bytes is not looked into any further: it says something.
const LARGEST_REGEX: usize = 1 << 18;

/// Texts of which a condition that means something does not match every one.
const ANYTHING: [&str; 5] =
    ["/", "/v2/models/iris/infer", "/q7#~ x?y=1", "/seldon/models/iris/api/v1.0/predictions", "/0"];

pub(super) fn plan(matches: &[Match], path: &str, errors: &mut PlanErrors) -> Vec<PlannedMatch> {
    let planned = matches.iter().enumerate().map(|(index, condition)| {
        let path = format!("{path}.match[{index}]");
        refuse_what_cannot_be(condition, &path, errors);
        PlannedMatch { path, condition: condition.clone() }
    });
    planned.collect()
}

/// The matches in words, sorted and each once: what they are compared by.
pub(super) fn words(matches: &[PlannedMatch]) -> Vec<String> {
    let mut words: Vec<String> = matches.iter().map(|one| in_words(&one.condition)).collect();
    words.sort();
    words.dedup();
    words
}

fn refuse_what_cannot_be(condition: &Match, path: &str, errors: &mut PlanErrors) {
    let Match { headers, uri, query_params } = condition;
    for (name, text) in headers {
        let path = format!("{path}.headers[{name}]");
        refuse_header(name, &path, errors);
        refuse_text(text, &path, errors);
    }
    for (name, text) in query_params {
        let path = format!("{path}.queryParams[{name}]");
        if name.is_empty() || name.chars().count() > 128 {
            errors.invalid(&path, "a name of 1 to 128 characters is expected");
        }
        if text.prefix.is_some() {
            errors.invalid(&path, "Istio compares query parameters by exact and regex only");
        }
        refuse_text(text, &path, errors);
    }
    if let Some(uri) = uri {
        refuse_text(uri, &format!("{path}.uri"), errors);
    }
    // Requests without a header or a parameter exist, whatever its value may be; one without these does not.
    let always_there =
        |name: &String| name.starts_with(':') || matches!(name.as_str(), "host" | "user-agent");
    let real_header = headers.iter().any(|(name, text)| !always_there(name) || !is_anything(text));
    let real_uri = uri.as_ref().is_some_and(|uri| !is_anything(uri));
    if !real_header && !real_uri && query_params.is_empty() {
        errors.invalid(path, "it would take all requests: expected a condition that not every request meets");
    }
}

fn refuse_text(text: &StringMatch, path: &str, errors: &mut PlanErrors) {
    let given: Vec<&String> = [&text.exact, &text.prefix, &text.regex].into_iter().flatten().collect();
    match given.as_slice() {
        [one] if one.is_empty() => {
            errors.invalid(path, "an empty text says nothing: expected some characters");
        }
        [_] => {}
        several => errors.invalid(
            path,
            format!("exactly one of exact, prefix and regex is expected, {} were given", several.len()),
        ),
    }
    // Read and not compiled: a spec can have thousands, and compiling one may take long.
    if let Some(Err(error)) = text.regex.as_deref().map(regex_syntax::parse) {
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim();
        errors.invalid(&format!("{path}.regex"), format!("no regular expression: {why}"));
    }
}

/// Whether every path meets it.
fn is_anything(text: &StringMatch) -> bool {
    let whole = |regex| RegexBuilder::new(&format!("^(?:{regex})$")).size_limit(LARGEST_REGEX).build().ok();
    let regex = text.regex.as_deref().and_then(whole);
    let prefix = text.prefix.as_deref();
    match (regex, prefix) {
        (Some(regex), _) => ANYTHING.iter().all(|text| regex.is_match(text)),
        (None, Some(prefix)) => ANYTHING.iter().all(|text| text.starts_with(prefix)),
        (None, None) => false,
    }
}

/// Refuses what is no name of a header that Istio matches.
pub(super) fn refuse_header(name: &str, path: &str, errors: &mut PlanErrors) {
    if IGNORED_HEADERS.contains(&name) {
        errors.invalid(path, format!("Istio matches no header called {name}: expected another one"));
    } else if !is_header_name(name) {
        errors.invalid(path, format!("{name:?} is no name of a header in lower case"));
    }
}

fn is_header_name(name: &str) -> bool {
    let bare = name.strip_prefix(':').unwrap_or(name);
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&c);
    (1..=128).contains(&bare.len()) && bare.bytes().all(fits)
}

fn in_words(condition: &Match) -> String {
    let uri = condition.uri.iter().map(|text| format!("uri {}", text_in_words(text)));
    let headers = condition.headers.iter().map(|(name, text)| format!("{name} {}", text_in_words(text)));
    let parameters = condition
        .query_params
        .iter()
        .map(|(name, text)| format!("parameter {} {}", quoted(name), text_in_words(text)));
    let words: Vec<String> = headers.chain(uri).chain(parameters).collect();
    let words = words.join(" and ");
    if words.chars().count() <= LONGEST_WORDS {
        return words;
    }
    // Two long ones that begin alike are still two.
    let begin: String = words.chars().take(LONGEST_WORDS).collect();
    format!("{begin}… ({})", digest(&words))
}

fn text_in_words(text: &StringMatch) -> String {
    match (&text.exact, &text.prefix, &text.regex) {
        (Some(exact), ..) => format!("is {}", quoted(exact)),
        (None, Some(prefix), _) => format!("begins with {}", quoted(prefix)),
        (None, None, regex) => format!("matches {}", quoted(regex.as_deref().unwrap_or_default())),
    }
}

/// In quotation marks where it could be mistaken for other words.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(condition: Value) -> Result<Vec<String>, String> {
        let condition: Match = serde_json::from_value(condition).unwrap();
        let mut errors = PlanErrors::default();
        let planned = plan(&[condition], "spec.steps[0]", &mut errors);
        errors.into_result(words(&planned)).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_match_can_be_read() {
        for (condition, expected) in [
            (json!({"headers": {"x-group": {"exact": "beta"}}}), "x-group is beta"),
            (
                json!({"uri": {"prefix": "/v2/"}, "headers": {"x-a": {"regex": "b|c"}, "x-b": {"exact": "c and d"}}}),
                r#"x-a matches "b|c" and x-b is "c and d" and uri begins with /v2/"#,
            ),
            (json!({"queryParams": {"debug": {"exact": "1"}}}), "parameter debug is 1"),
        ] {
            assert_eq!(planned(condition).unwrap(), [expected]);
        }
    }

    #[test]
    fn long_matches_are_told_apart() {
        let long = |end: &str| planned(json!({"headers": {"x": {"exact": "a".repeat(900) + end}}})).unwrap();
        assert_ne!(long("b"), long("c"));
        assert!(long("b")[0].chars().count() <= 256);
    }

    #[test]
    fn what_would_take_all_requests_is_refused() {
        for condition in [
            json!({}),
            json!({"uri": {"prefix": "/"}}),
            json!({"uri": {"regex": ".*"}}),
            json!({"uri": {"regex": "^/.*$"}}),
            json!({"uri": {"regex": "/|/.+"}}),
            json!({"headers": {":path": {"regex": ".+"}}}),
            json!({"headers": {"user-agent": {"regex": ".*"}}, "uri": {"prefix": "/"}}),
        ] {
            let error = planned(condition.clone()).unwrap_err();
            assert!(
                error.contains("spec.steps[0].match[0]: it would take all requests"),
                "{condition}: {error}"
            );
        }
        for condition in [
            json!({"uri": {"regex": "/v2/.*"}}),
            json!({"headers": {"x-beta": {"regex": ".*"}}}),
            json!({"uri": {"prefix": "/"}, "queryParams": {"q": {"exact": "1"}}}),
        ] {
            assert!(planned(condition.clone()).is_ok(), "{condition}");
        }
    }

    #[test]
    fn what_istio_would_not_take_is_named_with_its_field() {
        for (condition, field) in [
            (json!({"headers": {"X-Group": {"exact": "a"}}}), "headers[X-Group]: "),
            (json!({"headers": {"method": {"exact": "POST"}}}), "headers[method]: Istio matches no header"),
            (json!({"headers": {"x": {"exact": "a", "prefix": "b"}}}), "headers[x]: exactly one"),
            (json!({"headers": {"x": {}}}), "headers[x]: exactly one"),
            (json!({"headers": {"x": {"exact": ""}}}), "headers[x]: an empty text"),
            (json!({"headers": {"x": {"regex": "("}}}), "headers[x].regex: no regular expression"),
            (json!({"queryParams": {"q": {"prefix": "a"}}}), "queryParams[q]: Istio compares"),
        ] {
            let error = planned(condition.clone()).unwrap_err();
            assert!(error.contains(&format!("spec.steps[0].match[0].{field}")), "{condition}: {error}");
        }
    }
}
