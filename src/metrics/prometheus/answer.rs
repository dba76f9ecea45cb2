//! Reads what a Prometheus server answers, and trusts none of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_core::judge::{Trouble, TroubleKind};

use crate::metrics::{
    exposition::{Labels, Text},
    http::{self, Response, bad_answer},
    native::RawHistogram,
    reading::describe,
};

/// The data of a successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One number, without labels.
    Scalar(f64),
    /// One sample of each series.
    Vector(Vec<Instant>),
    /// The samples of each series.
    Matrix(Vec<Series>),
    /// A text.
    Text,
}

impl Answer {
    /// Whether it is what one expects of a query check, and no more.
    pub fn is_one_number(&self) -> bool {
        match self {
            Self::Scalar(_) => true,
            Self::Vector(series) => series.len() <= 1,
            Self::Matrix(_) | Self::Text => false,
        }
    }
}

/// A series with its value at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Instant {
    /// The labels, `__name__` among them.
    pub labels: Labels,
    /// The value; nothing where it is a native histogram.
    pub value: Option<f64>,
}

/// A series with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The labels, `__name__` among them.
    pub labels: Labels,
    /// Milliseconds since the epoch, and the value.
    pub points: Vec<(i64, f64)>,
    /// Milliseconds since the epoch, and the native histogram.
    pub histograms: Vec<(i64, RawHistogram)>,
}

// === impl Series ===

impl Series {
    /// The part of it after one time and until another, in milliseconds; nothing where there is none.
    pub fn between(&self, after: i64, until: i64) -> Option<Self> {
        let (points, histograms) = (part(&self.points, after, until), part(&self.histograms, after, until));
        let there = !points.is_empty() || !histograms.is_empty();
        there.then(|| Self {
            labels: self.labels.clone(),
            points: points.to_vec(),
            histograms: histograms.to_vec(),
        })
    }
}

/// The samples after one time and until another; they come in order.
fn part<T>(samples: &[(i64, T)], after: i64, until: i64) -> &[(i64, T)] {
    let at = |limit: i64| samples.partition_point(|(at, _)| *at <= limit);
    samples.get(at(after)..at(until)).unwrap_or_default()
}

#[derive(Deserialize)]
struct Envelope<'a> {
    status: &'a str,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    result_type: &'a str,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct RawInstant {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(f64, Text)>,
}

#[derive(Deserialize)]
struct RawSeries {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, Text)>,
    #[serde(default)]
    histograms: Vec<(f64, RawHistogram)>,
}

/// The data, or why there is none. Messages begin after the source's name: "... says: parse error".
pub fn read(response: &Response) -> Result<Answer, Trouble> {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&response.body) else {
        return Err(no_envelope(response));
    };
    match envelope.status {
        "success" if response.status.is_success() => {}
        "error" => return Err(refusal(&envelope, response)),
        _ => return Err(no_envelope(response)),
    }
    if let Some(warning) = envelope.warnings.unwrap_or_default().first() {
        // Thanos and others answer with what they have: half of the series is not evidence about both arms.
        return Err(warned(warning));
    }
    let data = envelope.data.map(RawValue::get).unwrap_or_default();
    data_of(data).ok_or_else(|| {
        let at = place_of_mistake(data, &response.body)
            .map_or_else(String::new, |byte| format!(", at byte {byte} of the answer"));
        bad_answer(format!(
            "answered something that is no result of a query{at}: expected a vector or a matrix"
        ))
    })
}

/// Where in an answer its data stop to be what they should be, in bytes; nothing where there are none, or a time is no time.
fn place_of_mistake(data: &str, body: &str) -> Option<usize> {
    let byte = |part: &str, error: &serde_json::Error| {
        let before: usize =
            part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let start = (part.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
        Some(start + before + error.column())
    };
    if data.is_empty() {
        return None;
    }
    let envelope: Data<'_> = match serde_json::from_str(data) {
        Ok(envelope) => envelope,
        Err(error) => return byte(data, &error),
    };
    let result = envelope.result.get();
    let error = match envelope.result_type {
        "scalar" => serde_json::from_str::<(f64, Text)>(result).err(),
        "vector" => serde_json::from_str::<Vec<RawInstant>>(result).err(),
        _ => serde_json::from_str::<Vec<RawSeries>>(result).err(),
    };
    byte(result, &error?)
}

fn warned(warning: &str) -> Trouble {
    let warning = short(warning);
    // What Prometheus itself warns of is in the query: it left out samples that the query mixes up.
    if warning.starts_with("PromQL warning") {
        let message = format!("warns of the query: {warning}: expected an answer without warnings");
        return Trouble { kind: TroubleKind::BadQuery, message };
    }
    let message = format!("gave a partial answer: {warning}: expected a whole one");
    Trouble { kind: TroubleKind::Partial, message }
}

fn data_of(json: &str) -> Option<Answer> {
    let data: Data<'_> = serde_json::from_str(json).ok()?;
    let result = data.result.get();
    match data.result_type {
        "scalar" => {
            let (_, Text(value)): (f64, Text) = serde_json::from_str(result).ok()?;
            Some(Answer::Scalar(value))
        }
        "string" => Some(Answer::Text),
        "vector" => {
            let raw: Vec<RawInstant> = serde_json::from_str(result).ok()?;
            let instant = |raw: RawInstant| Instant {
                labels: raw.metric,
                value: raw.value.map(|(_, Text(value))| value),
            };
            Some(Answer::Vector(raw.into_iter().map(instant).collect()))
        }
        "matrix" => {
            let raw: Vec<RawSeries> = serde_json::from_str(result).ok()?;
            let series = |raw: RawSeries| {
                let point = |(at, Text(value)): (f64, Text)| Some((millis(at)?, value));
                let points = raw.values.into_iter().map(point).collect::<Option<_>>()?;
                let native = |(at, histogram): (f64, RawHistogram)| Some((millis(at)?, histogram));
                let histograms = raw.histograms.into_iter().map(native).collect::<Option<_>>()?;
                Some(Series { labels: raw.metric, points, histograms })
            };
            Some(Answer::Matrix(raw.into_iter().map(series).collect::<Option<_>>()?))
        }
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation)]
fn millis(seconds: f64) -> Option<i64> {
    (seconds.abs() < 253_402_300_800.0).then(|| (seconds * 1e3).round() as i64)
}

fn refusal(envelope: &Envelope<'_>, response: &Response) -> Trouble {
    let error_type = envelope.error_type.as_deref().unwrap_or("");
    let kind = match (error_type, response.status.as_u16()) {
        // What the question itself is to blame for: it does not parse, or it cannot be evaluated. Not every server has
        // Prometheus' words for it.
        ("bad_data" | "execution", _) | (_, 400 | 422) => TroubleKind::BadQuery,
        (_, status) if status < 400 => TroubleKind::Unavailable,
        (_, _) => match http::kind_of(response.status) {
            TroubleKind::Refused => TroubleKind::Refused,
            _ => TroubleKind::Unavailable,
        },
    };
    let words = envelope.error.as_deref().map_or_else(|| response.status.to_string(), short);
    let message = match error_type {
        "" => format!("says: {words}"),
        named => format!("says: {words} ({})", short(named)),
    };
    Trouble { kind, message }
}

/// Some servers refuse a query in words of their own, and proxies answer in HTML.
fn no_envelope(response: &Response) -> Trouble {
    let status = response.status;
    let what = match status.as_u16() {
        401 | 403 | 407 => format!("refused the credentials with status {status}"),
        300..=399 => format!("answered with a redirect, status {status}, which is not followed"),
        _ => format!(
            "answered status {status} with something that is not the Prometheus API, from {} on",
            place_in_json(&response.body)
        ),
    };
    let expected = match http::kind_of(status) {
        TroubleKind::Refused => "the credentials that the source is configured with to be good",
        _ => "JSON with a status",
    };
    Trouble {
        kind: http::kind_of(status),
        message: format!("{what} ({}): expected {expected}", response.excerpt()),
    }
}

/// Where a text stops to be the JSON that is expected.
fn place_in_json(body: &str) -> String {
    match serde_json::from_str::<Envelope<'_>>(body) {
        Err(error) => format!("line {}, column {}", error.line().max(1), error.column()),
        Ok(_) => "its status".to_owned(),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The one number that an answer is, or why it is none.
pub fn one_number(answer: &Answer) -> Result<f64, Trouble> {
    let no_data = |message: String| Trouble { kind: TroubleKind::NoData, message };
    let bad = |message: String| Trouble { kind: TroubleKind::BadQuery, message };
    let value = match answer {
        Answer::Scalar(value) => *value,
        Answer::Vector(series) => match &series[..] {
            [] => return Err(no_data("gave an empty vector: expected one number".to_owned())),
            [one] => {
                one.value.ok_or_else(|| bad("gave a native histogram: expected one number".to_owned()))?
            }
            [one, other, ..] => {
                return Err(bad(format!(
                    "gave {} series where one number is expected, among them {} and {}",
                    series.len(),
                    labels(one),
                    labels(other)
                )));
            }
        },
        Answer::Matrix(_) => {
            return Err(bad("gave a range of samples: expected one number".to_owned()));
        }
        Answer::Text => return Err(bad("gave a text: expected one number".to_owned())),
    };
    if value.is_nan() {
        return Err(no_data("gave NaN, as 0/0 does: expected a number".to_owned()));
    }
    if value.is_infinite() {
        return Err(no_data(format!("gave {value:+}, as a division by 0 does: expected a finite number")));
    }
    Ok(value)
}

fn labels(series: &Instant) -> String {
    describe(series.labels.get("__name__").map_or("", String::as_str), &series.labels)
}
