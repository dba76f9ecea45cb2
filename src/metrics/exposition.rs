//! Reads the Prometheus text format, strictly.
//!
//! The crates at hand split label sets at every comma and end them at the first `}`: `MLServer`'s own
//! `path="/v2/models/{model_name}/infer"` then vanishes without a word, and a series that vanishes reads as "no
//! requests". So this reader knows quotes and escapes, and one line that it cannot read refuses the whole text, as
//! Prometheus itself does: half an exposition is no evidence.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// The labels of a series, without its name.
pub type Labels = BTreeMap<String, String>;

/// One line of the text: a series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric, with its suffix (`_total`, `_bucket`, ...).
    pub name: String,
    /// The labels, escapes undone.
    pub labels: Labels,
    /// The value; may be NaN or infinite.
    pub value: f64,
    /// When the value was taken, in milliseconds since the epoch, where the exposition says so.
    pub millis: Option<i64>,
}

/// How timestamps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The text format 0.0.4: whole milliseconds.
    Text,
    /// `OpenMetrics`: seconds.
    OpenMetrics,
}

impl Dialect {
    /// What a response's `Content-Type` announces.
    pub fn of(content_type: Option<&str>) -> Self {
        match content_type {
            Some(kind) if kind.trim_start().starts_with("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Text,
        }
    }
}

/// A text is not an exposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no line of a metrics exposition: {what}")]
pub struct Malformed {
    /// Number of the line, from 1.
    pub line: usize,
    /// What was expected. What was there is not said: it may be for others' eyes.
    pub what: &'static str,
}

/// All samples of `text`, in its order; comments, types and help texts are passed over.
pub fn read(text: &str, dialect: Dialect) -> impl Iterator<Item = Result<Sample, Malformed>> {
    read_only(text, dialect, |_| true)
}

/// The samples of `text` whose metric is wanted by its name. The others are read as strictly, and nothing is kept of them: a
/// pod may expose ten thousand series beside the dozen that a profile has.
pub fn read_only(
    text: &str,
    dialect: Dialect,
    wanted: impl Fn(&str) -> bool,
) -> impl Iterator<Item = Result<Sample, Malformed>> {
    text.split('\n').enumerate().filter_map(move |(index, line)| {
        let line = line.trim_matches(is_blank);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        match read_line(line, dialect) {
            Ok(read) => wanted(&read.name).then(|| Ok(read.into_sample())),
            Err(what) => Some(Err(Malformed { line: index + 1, what })),
        }
    })
}

/// A line that was read, with as little of its own as can be.
struct Line<'t> {
    name: Cow<'t, str>,
    labels: Vec<(Cow<'t, str>, Cow<'t, str>)>,
    value: f64,
    millis: Option<i64>,
}

impl Line<'_> {
    fn into_sample(self) -> Sample {
        let labels = self.labels.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned()));
        Sample {
            name: self.name.into_owned(),
            labels: labels.collect(),
            value: self.value,
            millis: self.millis,
        }
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

fn read_line(line: &str, dialect: Dialect) -> Result<Line<'_>, &'static str> {
    let mut cursor = Cursor { rest: line };
    let bare_name = cursor.word(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    if bare_name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a name that starts with a digit");
    }
    cursor.skip_blanks();
    let mut name = (!bare_name.is_empty()).then_some(Cow::Borrowed(bare_name));
    let mut labels = Vec::new();
    if cursor.eat('{') {
        cursor.labels(&mut name, &mut labels)?;
    }
    let name = name.ok_or("no name of a metric")?;

    let mut fields = cursor.rest.split([' ', '\t']).filter(|field| !field.is_empty());
    let value = fields.next().and_then(number).ok_or("no number for a value")?;
    let millis = match fields.next() {
        // An exemplar follows; it is about one request and no sample.
        None | Some("#") => None,
        Some(stamp) => {
            let millis = match dialect {
                Dialect::Text => stamp.parse().ok(),
                Dialect::OpenMetrics => number(stamp).and_then(whole_millis),
            };
            if fields.next().is_some_and(|field| field != "#") {
                return Err("more than a value and a timestamp");
            }
            Some(millis.ok_or("no number for a timestamp")?)
        }
    };
    Ok(Line { name, labels, value, millis })
}

/// A float as Go writes it. Rust's reader is case-insensitive about `NaN` and `Inf` and also takes `infinity`,
/// as Go does.
pub fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// A number that comes as text, as the HTTP API of Prometheus writes them in JSON. It is read where it stands: a text of its
/// own for each would take more memory than a whole answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text(pub f64);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                number(text).map(Text).ok_or_else(|| E::custom("no number"))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[allow(clippy::cast_possible_truncation)]
fn whole_millis(seconds: f64) -> Option<i64> {
    // Beyond the year 9999 it is no time that anybody meant.
    (seconds.abs() < 253_402_300_800.0).then(|| (seconds * 1e3).round() as i64)
}

/// Whether a label is there twice. There may be many of them, so they are not compared each with each.
fn has_twice(labels: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
    let mut names: Vec<&str> = labels.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

struct Cursor<'t> {
    rest: &'t str,
}

impl<'t> Cursor<'t> {
    /// What is left after so many bytes.
    fn skip(&mut self, bytes: usize) -> &'t str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        skipped
    }

    /// As much as belongs, all of which is ASCII.
    fn word(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let length = self.rest.bytes().position(|b| !belongs(b)).unwrap_or(self.rest.len());
        self.skip(length)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(is_blank);
    }

    fn eat(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Everything up to and with the closing brace. A quoted text without a value is the metric's name, as
    /// Prometheus 3 writes names that are not plain words.
    fn labels(
        &mut self,
        name: &mut Option<Cow<'t, str>>,
        labels: &mut Vec<(Cow<'t, str>, Cow<'t, str>)>,
    ) -> Result<(), &'static str> {
        loop {
            self.skip_blanks();
            if self.eat('}') {
                return if has_twice(labels) { Err("a label that is there twice") } else { Ok(()) };
            }
            let quoted = self.rest.starts_with('"');
            let label = if quoted {
                self.quoted()?
            } else {
                Cow::Borrowed(self.word(|b| b.is_ascii_alphanumeric() || b == b'_'))
            };
            self.skip_blanks();
            if self.eat('=') {
                if label.is_empty() {
                    return Err("a label without a name");
                }
                self.skip_blanks();
                let value = self.quoted()?;
                labels.push((label, value));
            } else if quoted && name.is_none() {
                if label.is_empty() {
                    return Err("no name of a metric");
                }
                *name = Some(label);
            } else {
                return Err("a label without a value");
            }
            self.skip_blanks();
            if !self.eat(',') && !self.rest.starts_with('}') {
                return Err("no comma and no closing brace after a label");
            }
        }
    }

    fn quoted(&mut self) -> Result<Cow<'t, str>, &'static str> {
        const NO_END: &str = "a quoted text without an end";
        if !self.eat('"') {
            return Err("no quoted text");
        }
        let mut value = Cow::Borrowed("");
        loop {
            let stop = self.rest.bytes().position(|b| matches!(b, b'"' | b'\\')).ok_or(NO_END)?;
            let plain = self.skip(stop);
            if value.is_empty() {
                value = Cow::Borrowed(plain);
            } else {
                value.to_mut().push_str(plain);
            }
            if self.eat('"') {
                return Ok(value);
            }
            self.skip(1);
            let escaped = self.rest.chars().next().ok_or(NO_END)?;
            self.skip(escaped.len_utf8());
            match escaped {
                'n' => value.to_mut().push('\n'),
                '\\' | '"' => value.to_mut().push(escaped),
                // The format names three escapes; Prometheus keeps any other as it stands.
                other => value.to_mut().extend(['\\', other]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn all(text: &str, dialect: Dialect) -> Result<Vec<Sample>, Malformed> {
        read(text, dialect).collect()
    }

    fn one(line: &str) -> Sample {
        let mut samples = all(line, Dialect::Text).unwrap();
        assert_eq!(samples.len(), 1, "{line}");
        samples.remove(0)
    }

    #[test]
    fn label_values_may_hold_braces_commas_equals_signs_and_escapes() {
        for (line, expected) in [
            (r#"a{path="/v2/models/{model_name}/infer"} 1"#, "/v2/models/{model_name}/infer"),
            (r#"a{path="x=1,y=2"} 1"#, "x=1,y=2"),
            (r#"a{path="say \"hi\" \\ \n"} 1"#, "say \"hi\" \\ \n"),
            (r#"a{path="C:\dir"} 1"#, "C:\\dir"),
            (r#"a{path=" # no comment "} 1"#, " # no comment "),
            (r#"a{path=""} 1"#, ""),
            (r#"a{path="grüße"} 1"#, "grüße"),
        ] {
            assert_eq!(one(line).labels, labels(&[("path", expected)]), "{line}");
        }
    }

    #[test]
    fn odd_but_valid_lines_are_read() {
        for (line, name, pairs, value, millis) in [
            ("a 1", "a", vec![], 1.0, None),
            ("  a\t1\r", "a", vec![], 1.0, None),
            ("a:b_c{} 1e3", "a:b_c", vec![], 1000.0, None),
            ("a 1 1700000000123", "a", vec![], 1.0, Some(1_700_000_000_123)),
            (r#"a { x = "1" , y = "2" , } 3"#, "a", vec![("x", "1"), ("y", "2")], 3.0, None),
            (r#"{"my.metric", x="1"} 3"#, "my.metric", vec![("x", "1")], 3.0, None),
            (r#"a{"my.label"="1"} 3"#, "a", vec![("my.label", "1")], 3.0, None),
            (r#"a{x="1"}3"#, "a", vec![("x", "1")], 3.0, None),
            (r#"a 1 # {trace_id="x"} 0.5"#, "a", vec![], 1.0, None),
            ("a +Inf", "a", vec![], f64::INFINITY, None),
            ("a -Inf", "a", vec![], f64::NEG_INFINITY, None),
        ] {
            let expected = Sample { name: name.into(), labels: labels(&pairs), value, millis };
            assert_eq!(one(line), expected, "{line}");
        }
        assert!(one("a NaN").value.is_nan());
    }

    #[test]
    fn what_is_not_wanted_is_read_as_strictly() {
        let text = "a{x=\"1\"} 1\nb{x=\"\\n1\\\"\"} 2\n";
        let only = |name: &'static str, text: &str| {
            read_only(text, Dialect::Text, move |found| found == name).collect::<Result<Vec<_>, _>>()
        };
        assert_eq!(only("b", text).unwrap()[0].labels, labels(&[("x", "\n1\"")]));
        assert_eq!(only("b", &format!("{text}c{{x=1}} 1")).unwrap_err().line, 3);
    }

    #[test]
    fn comments_types_and_blank_lines_are_passed_over() {
        let text = "# HELP a It's \"odd\" {\n# TYPE a counter\n\na 1\n#comment\n# EOF\n";
        assert_eq!(all(text, Dialect::Text).unwrap().len(), 1);
    }

    #[test]
    fn openmetrics_writes_timestamps_in_seconds() {
        let dialect = Dialect::of(Some("application/openmetrics-text; version=1.0.0"));
        assert_eq!(all("a_total 1 1700000000.123", dialect).unwrap()[0].millis, Some(1_700_000_000_123));
        assert_eq!(Dialect::of(Some("text/plain; version=0.0.4")), Dialect::Text);
    }

    #[test]
    fn a_text_that_is_no_exposition_is_refused_and_says_where() {
        for line in [
            "<html>",
            "a",
            "a x",
            "1a 1",
            "a{x=1} 1",
            r#"a{x="1} 1"#,
            r#"a{x="1",x="2"} 1"#,
            r#"a{x="1" y="2"} 1"#,
            "a{x} 1",
            r#"a{="x"} 1"#,
            "{} 1",
            "a 1 2 3",
            "a 1 soon",
            r#"a{x="1"}"#,
        ] {
            let text = format!("ok 1\n{line}\n");
            let error = all(&text, Dialect::Text).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.to_string().contains("line 2"), "{error}");
        }
    }
}
