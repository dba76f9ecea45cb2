//! YAML that people wrote: what is wrong with it in their words, with the line and the name of the file.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

/// Reads one document of a file that is called `shown`.
///
/// # Errors
/// Why it cannot be read, with its place.
pub fn one<T: DeserializeOwned>(text: &str, shown: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| told(&error, shown))
}

/// Reads all documents of a file that is called `shown`.
///
/// # Errors
/// Why they cannot be read, with the place.
pub fn several<T: DeserializeOwned>(text: &str, shown: &str) -> Result<Vec<T>, String> {
    serde_saphyr::from_multiple(text).map_err(|error| told(&error, shown))
}

/// What is wrong, and below it the lines around.
fn told(error: &Error, shown: &str) -> String {
    let formatter = InWords;
    let options = serde_saphyr::render_options! { formatter: &formatter, source_name: Some(shown) };
    let rendered = match in_words(innermost(error)) {
        // No line is at fault.
        Some(problem) if is_too_much(innermost(error)) => problem,
        Some(_) | None => error.render_with_options(options),
    };
    let problem = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    match error.location() {
        Some(place) if !problem.contains("line ") => {
            format!("line {} column {}: {}", place.line(), place.column(), problem.trim_end())
        }
        Some(_) | None => problem.trim_end().to_owned(),
    }
}

/// The formatter of messages.
struct InWords;

impl MessageFormatter for InWords {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        let error = innermost(error);
        match in_words(error) {
            Some(words) => Cow::Owned(words),
            None => UserMessageFormatter.format_message(error),
        }
    }
}

/// What went wrong where it began.
fn innermost(mut error: &Error) -> &Error {
    loop {
        error = match error {
            Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => error,
            other => return other,
        };
    }
}

/// Whether a text is more than is read, by itself or by its aliases.
fn is_too_much(error: &Error) -> bool {
    matches!(
        error,
        Error::Budget { .. }
            | Error::AliasReplayCounterOverflow { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
    )
}

fn in_words(error: &Error) -> Option<String> {
    Some(match error {
        error if is_too_much(error) => {
            "it is too large or too deep, by itself or by what its aliases stand for".to_owned()
        }
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("the key {key} is there twice"),
            None => "a key is there twice".to_owned(),
        },
        Error::MultipleDocuments { .. } => "another document begins here: one is expected".to_owned(),
        Error::Unexpected { expected: wanted, .. } => format!("{} is expected", expected(wanted)),
        Error::InvalidScalar { ty, .. } => format!("{} is expected", expected(ty)),
        Error::SerdeInvalidType { unexpected, expected: wanted, .. }
        | Error::SerdeInvalidValue { unexpected, expected: wanted, .. } => {
            format!("{} is out of place: {} is expected", found(unexpected), expected(wanted))
        }
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("there is no field {field}: {} is expected", any_of(expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("{variant:?} is not known: {} is expected", any_of(expected))
        }
        Error::SerdeMissingField { field, .. } => format!("the field {field} is missing"),
        _ => return None,
    })
}

/// What serde found, without its words for types.
fn found(unexpected: &str) -> Cow<'_, str> {
    let value = ["string ", "integer ", "floating point ", "boolean "]
        .into_iter()
        .find_map(|kind| unexpected.strip_prefix(kind));
    match (value, unexpected) {
        (Some(value), _) => Cow::Owned(value.replace('`', "")),
        (None, "map") => "a map".into(),
        (None, "sequence") => "a list".into(),
        (None, "unit value" | "null" | "Option value") => "nothing".into(),
        (None, other) => other.into(),
    }
}

/// What serde wants, in words for people who do not write Rust.
pub fn expected(wanted: &str) -> Cow<'_, str> {
    match wanted {
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more,".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" | "bool" | "boolean" => "true or false".into(),
        "a string" | "a borrowed string" | "string" | "string scalar" | "scalar" => "a text".into(),
        "a sequence" | "sequence start" => "a list".into(),
        "a map" | "mapping start" => "a map".into(),
        other if other.starts_with("struct ") || other.starts_with("a struct") => "a map".into(),
        other if other.starts_with("enum ") => "one of its words".into(),
        // Some say themselves that it is expected.
        other => other.strip_suffix(" is expected").unwrap_or(other).into(),
    }
}

/// `a, b or c`.
pub fn any_of<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.as_ref().to_owned(),
        [others @ .., last] => {
            let others: Vec<&str> = others.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", others.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        count: u32,
        #[serde(default)]
        inner: Option<Box<Example>>,
    }

    #[test]
    fn what_is_wrong_is_said_in_words_with_the_line_and_the_file() {
        for (text, problem) in [
            ("a: 1\na: 2\n", "line 2 column 1: the key a is there twice\n --> x.yaml:2:1"),
            ("{a: [", "line 1 column 5: unclosed bracket '['\n --> x.yaml:1:5"),
        ] {
            let error = several::<Value>(text, "x.yaml").unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
        for (text, problem) in [
            ("count: 1\n---\ncount: 2\n", "another document begins here: one is expected"),
            ("count: -1\n", "a whole number, 0 or more, is expected"),
            ("count: five\n", "a whole number, 0 or more, is expected"),
            ("count: 1\ncont: 2\n", "line 2 column 1: there is no field cont: count or inner is expected"),
            ("inner: {}\n", "the field count is missing"),
            ("count: 1\ninner: [1]\n", "a map is expected"),
        ] {
            let error = one::<Example>(text, "x.yaml").unwrap_err();
            assert!(error.contains(problem) && error.contains("line "), "{problem}: {error}");
            for jargon in ["u32", "struct", "invalid type", "<input>", "from_"] {
                assert!(!error.contains(jargon), "{error}");
            }
        }
    }

    #[test]
    fn a_text_that_is_too_much_is_no_report_of_the_reader() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", "));
        }
        for text in [text, format!("a: [{}]", "1,".repeat(300_000)), "[".repeat(20_000)] {
            let error = several::<Value>(&text, "x.yaml").unwrap_err();
            assert!(error.contains("line ") && error.lines().count() < 12, "{error}");
            assert!(!error.contains("Nodes {") && !error.contains("breached"), "{error}");
        }
    }
}
