//! What can be told of a PromQL query without asking anybody: the ranges that it looks back over, and what it divides by what.
//!
//! It is read word by word and not parsed: a query that no server takes is the server's to refuse, and finds nothing here.

use std::time::Duration;

/// Functions that answer nothing where a range has not two samples in it.
const NEED_TWO_SAMPLES: [&str; 7] =
    ["rate", "irate", "increase", "delta", "idelta", "deriv", "predict_linear"];
/// Functions that make of a counter how much it grew.
const GROWTHS: [&str; 3] = ["rate", "irate", "increase"];
/// What a counter of amounts ends in, as its unit stands there: a mean is made of it, and no share.
const AMOUNTS: [&str; 3] = ["_sum", "_seconds_total", "_bytes_total"];
/// What ends an operand of a division, as it binds less.
const LOOSER: [&str; 3] = ["and", "or", "unless"];
/// What ends the right operand of a division, as it binds as much, in words.
const AS_TIGHT: &str = "atan2";

/// A query in words.
pub(super) struct Query<'a> {
    words: Vec<(Word<'a>, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word<'a> {
    /// A metric, a function, a label or a keyword.
    Name(&'a str),
    Open,
    Close,
    /// What is between brackets.
    Range(&'a str),
    Divided,
    /// Another operator that binds as a division does.
    Times,
    /// An operator that binds less, or a comma.
    Looser,
    /// A number, a text, label matchers.
    Other,
}

/// How far a function looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range<'a> {
    /// As far as the check's window says.
    Window,
    /// So far, as it is written.
    Fixed(&'a str, Duration),
}

impl<'a> Query<'a> {
    pub(super) fn new(promql: &'a str) -> Self {
        Self { words: words(promql) }
    }

    /// The functions that need two samples, with the range in which they look for them.
    pub(super) fn needs_two_samples(&self) -> impl Iterator<Item = (&'a str, Range<'a>)> {
        self.words.iter().enumerate().filter_map(|(index, (word, depth))| {
            let Word::Range(text) = word else { return None };
            let function = self.function_around(index, *depth)?;
            Some((function, range(text)?)).filter(|_| NEED_TWO_SAMPLES.contains(&function))
        })
    }

    /// Whether it divides how much one counter grew by how much another one did, so that the number is a share of what was
    /// counted. A mean, as of what a histogram or a summary observed, is none.
    pub(super) fn is_a_share_of_counts(&self) -> bool {
        let mut divisions = self.words.iter().enumerate().filter(|(_, (word, _))| *word == Word::Divided);
        divisions.any(|(index, (_, depth))| {
            let part = counters(self.before(index, *depth)).filter(|names| !are_amounts(names));
            part.is_some() && counters(self.behind(index, *depth)).is_some()
        })
    }

    /// The function whose parentheses are around the word.
    fn function_around(&self, index: usize, depth: usize) -> Option<&'a str> {
        let is_open = |(word, at): &(Word<'_>, usize)| *word == Word::Open && *at + 1 == depth;
        let open = self.words.get(..index)?.iter().rposition(is_open)?;
        match self.words.get(open.checked_sub(1)?)? {
            (Word::Name(name), _) => Some(*name),
            _ => None,
        }
    }

    /// The left operand of the operator there.
    fn before(&self, index: usize, depth: usize) -> &[(Word<'a>, usize)] {
        let words = self.words.get(..index).unwrap_or_default();
        let ends = |(word, at): &(Word<'_>, usize)| *at < depth || (*at == depth && *word == Word::Looser);
        let from = words.iter().rposition(ends).map_or(0, |last| last + 1);
        &words[from..]
    }

    /// The right operand of the operator there.
    fn behind(&self, index: usize, depth: usize) -> &[(Word<'a>, usize)] {
        let words = self.words.get(index + 1..).unwrap_or_default();
        let ends = |(word, at): &(Word<'_>, usize)| {
            *at < depth || (*at == depth && matches!(word, Word::Looser | Word::Divided | Word::Times))
        };
        let until = words.iter().position(ends).unwrap_or(words.len());
        &words[..until]
    }
}

/// The names of the counters of which an operand says how much they grew; nothing where it says no such thing. What a quantile
/// is made of is none: it is no count any more.
fn counters<'a>(operand: &[(Word<'a>, usize)]) -> Option<Vec<&'a str>> {
    let mut found: Option<Vec<&str>> = None;
    let mut index = 0;
    while let Some((word, depth)) = operand.get(index) {
        index += 1;
        let (Word::Name(name), Some((Word::Open, _))) = (word, operand.get(index)) else { continue };
        let rest = operand.get(index + 1..).unwrap_or_default();
        let until = rest.iter().position(|(word, at)| *word == Word::Close && at == depth);
        let inside = rest.get(..until.unwrap_or(rest.len())).unwrap_or_default();
        if GROWTHS.contains(name) {
            let names = inside.iter().filter_map(|(word, _)| match word {
                Word::Name(name) => Some(*name),
                _ => None,
            });
            found.get_or_insert_default().extend(names);
        }
        if GROWTHS.contains(name) || name.starts_with("histogram_") {
            index += inside.len() + 1;
        }
    }
    found
}

/// Whether counters count seconds or the like, and not what happened.
fn are_amounts(names: &[&str]) -> bool {
    let is_one = |name: &&str| AMOUNTS.iter().any(|end| name.ends_with(end));
    !names.is_empty() && names.iter().all(is_one)
}

fn range(text: &str) -> Option<Range<'_>> {
    let text = text.trim();
    let variable = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    if variable.is_some_and(|name| name.trim() == "window") {
        return Some(Range::Window);
    }
    Some(Range::Fixed(text, duration(text)?))
}

/// A duration as PromQL has it, like `1m30s`; a number is one of seconds. Nothing of a subquery, which looks at what was made of
/// samples.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut whole, mut rest) = (None, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, units) = rest.split_at(digits);
        let letters = units.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(units.len());
        let (unit, after) = units.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        let more = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        whole = Some(whole.unwrap_or(Duration::ZERO).checked_add(more)?);
        rest = after;
    }
    whole
}

/// The words of a query, each with how many parentheses are around it; those have the number of what is around themselves.
fn words(promql: &str) -> Vec<(Word<'_>, usize)> {
    let mut words = Vec::new();
    let (mut rest, mut depth) = (promql, 0_usize);
    while let Some(first) = rest.chars().next() {
        let (word, length) = next(rest, first);
        if word == Some(Word::Close) {
            depth = depth.saturating_sub(1);
        }
        words.extend(word.map(|word| (word, depth)));
        if word == Some(Word::Open) {
            depth += 1;
        }
        rest = &rest[length..];
    }
    words
}

/// The first word, which begins with this character, and its length; spaces and comments are none.
fn next(text: &str, first: char) -> (Option<Word<'_>>, usize) {
    let run = |goes_on: fn(char) -> bool| text.find(|c| !goes_on(c)).unwrap_or(text.len());
    let until = |end: char| text.find(end).map_or(text.len(), |end| end + 1);
    match first {
        c if c.is_whitespace() => (None, c.len_utf8()),
        '#' => (None, until('\n')),
        '(' => (Some(Word::Open), 1),
        ')' => (Some(Word::Close), 1),
        '[' => {
            let end = text.find(']').unwrap_or(text.len());
            (Some(Word::Range(&text[1..end])), (end + 1).min(text.len()))
        }
        '{' => (Some(Word::Other), matchers(text)),
        '"' | '\'' | '`' => (Some(Word::Other), quoted(text, first)),
        '/' => (Some(Word::Divided), 1),
        '*' | '%' => (Some(Word::Times), 1),
        '+' | '-' | '=' | '!' | '<' | '>' | ',' => (Some(Word::Looser), 1),
        c if c.is_ascii_alphabetic() || c == '_' || c == ':' => {
            let length = run(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            (Some(name(&text[..length])), length)
        }
        c if c.is_ascii_digit() => (Some(Word::Other), run(|c| c.is_ascii_alphanumeric() || c == '.')),
        c => (Some(Word::Other), c.len_utf8()),
    }
}

fn name(name: &str) -> Word<'_> {
    let is = |keyword: &&str| name.eq_ignore_ascii_case(keyword);
    if LOOSER.iter().any(is) {
        Word::Looser
    } else if is(&AS_TIGHT) {
        Word::Times
    } else {
        Word::Name(name)
    }
}

/// How long a text is, with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How long label matchers are, or a variable: up to their brace, past those in texts.
fn matchers(text: &str) -> usize {
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        at += match c {
            '}' => return at + 1,
            '"' | '\'' | '`' => quoted(&text[at..], c),
            c => c.len_utf8(),
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_a_share(promql: &str) -> bool {
        Query::new(promql).is_a_share_of_counts()
    }

    #[test]
    fn growths_on_both_sides_of_a_division_are_a_share() {
        for promql in [
            r#"sum(rate(clicks_total{s="{{canary.service}}"}[{{window}}])) / sum(rate(answers_total{s="{{canary.service}}"}[{{window}}]))"#,
            "increase(a[5m])/increase(b[5m])",
            "1 - (sum by (pod) (irate(a[1m])) / on (pod) group_left sum by (pod) (irate(b[1m])))",
            "avg(rate(a[1m]) / rate(b[1m]))",
            "100 * sum(rate(a[1m])) / sum(rate(b[1m])) or vector(0)",
            "(sum(rate(a[1m])) or vector(0)) / (sum(rate(b[1m])) + 1)",
            "rate(a[1m]) # per second\n / rate(b[1m])",
            r#"rate({__name__="a_total", path="/a(b"}[1m]) / rate({__name__='b_total'}[1m])"#,
            "sum(rate(a_total[1m])) * 100 / sum(rate(b_total[1m]))",
        ] {
            assert!(is_a_share(promql), "{promql}");
        }
    }

    #[test]
    fn other_numbers_are_none() {
        for promql in [
            r#"avg(model_accuracy{service="{{canary.service}}"})"#,
            "sum(rate(a[1m]))",
            "sum(rate(a[1m])) / 60",
            "sum(rate(a[1m])) / count(up)",
            "rate(a[1m]) / 60 + rate(b[1m])",
            "rate(a[1m]) / 60 * rate(b[1m])",
            "max(rate(a[1m]), 1 / 2)",
            "sum(rate(t_sum[1m])) / sum(rate(t_count[1m]))",
            "sum(rate(cpu_seconds_total[1m])) / sum(rate(answers_total[1m]))",
            "histogram_quantile(0.9, sum by (le) (rate(a_bucket[1m]))) / histogram_quantile(0.5, rate(a_bucket[1m]))",
            r#"avg(a{path="rate(x) / rate(y)"})"#,
            "rate / rate",
            "sum by (rate) (a) / sum by (rate) (b)",
            "a # rate(a[1m]) / rate(b[1m])",
        ] {
            assert!(!is_a_share(promql), "{promql}");
        }
    }

    #[test]
    fn ranges_are_of_the_functions_that_need_two_samples() {
        let found = |promql| Query::new(promql).needs_two_samples().collect::<Vec<_>>();
        assert_eq!(found("sum(rate(x[{{window}}]))"), [("rate", Range::Window)]);
        assert_eq!(
            found(r#"increase(x{a="]"}[1m30s] offset 5m) + irate(y[ {{ window }} ])"#),
            [("increase", Range::Fixed("1m30s", Duration::from_secs(90))), ("irate", Range::Window)]
        );
        assert_eq!(found("deriv(x[20])"), [("deriv", Range::Fixed("20", Duration::from_secs(20)))]);
        for promql in [
            "max_over_time(x[{{window}}])",
            "max_over_time(rate(x)[5m:10s])",
            "x[5m]",
            "rate(x[5q])",
            "rate(x[])",
        ] {
            assert_eq!(found(promql), [], "{promql}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(promql in r#"([a-z(){}\[\]"'`/*+,#é\\ 0-9]|rate\(|\{\{window\}\}|\n){0,60}"#) {
            let query = Query::new(&promql);
            prop_assert!(query.needs_two_samples().count() <= promql.len());
            prop_assert!(!query.is_a_share_of_counts() || promql.contains('/'));
        }
    }
}
