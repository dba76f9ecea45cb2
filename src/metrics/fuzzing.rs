//! The readers of metrics and of queries, each with what it promises: see [`crate::fuzzing`].

use ::http::StatusCode;
use chrono::DateTime;

use super::{
    exposition::{self, Dialect, Sample},
    http::Response,
    prometheus::{
        answer::{self, Answer},
        template::{self, Variables},
    },
};
use crate::fuzzing::text;

/// The reader of a predictor's `/metrics`.
///
/// # Panics
/// The reader breaks its word.
pub fn exposition(data: &[u8]) {
    let text = text(data);
    let lines = text.split('\n').count();
    for dialect in [Dialect::Text, Dialect::OpenMetrics] {
        let mut read = 0;
        for one in exposition::read(&text, dialect) {
            read += 1;
            match one {
                Ok(sample) => comes_back(&sample, dialect),
                Err(wrong) => {
                    assert!((1..=lines).contains(&wrong.line), "line {} of {lines}", wrong.line);
                    assert!(!wrong.what.is_empty(), "line {}", wrong.line);
                }
            }
        }
        assert!(read <= lines, "{read} samples in {lines} lines");
    }
}

/// What was read is the same once it is written again.
fn comes_back(sample: &Sample, dialect: Dialect) {
    assert!(!sample.name.is_empty(), "{sample:?}");
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<String> = sample
        .labels
        .iter()
        .map(|(name, value)| format!("\"{}\"=\"{}\"", escaped(name), escaped(value)))
        .collect();
    let labels = [vec![format!("\"{}\"", escaped(&sample.name))], labels].concat().join(",");
    let line = format!("{{{labels}}} {:?}", sample.value);
    let again = exposition::read(&line, dialect).next();
    let same = matches!(&again, Some(Ok(again)) if again.name == sample.name && again.labels == sample.labels
        && (again.value.to_bits() == sample.value.to_bits() || again.value.is_nan() && sample.value.is_nan()));
    assert!(same, "{sample:?} as {line} is {again:?}");
}

/// The reader of a Prometheus server's answers.
///
/// # Panics
/// The reader breaks its word.
pub fn answer(data: &[u8]) {
    let text = text(data);
    for status in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE] {
        let response = Response::of(status, text.clone());
        let read = match answer::read(&response) {
            Ok(read) => read,
            Err(trouble) => {
                assert!(!trouble.message.is_empty() && trouble.message.chars().count() < 1500, "{trouble:?}");
                assert!(!trouble.message.contains(char::is_control), "{trouble:?}");
                continue;
            }
        };
        assert!(status.is_success(), "{status} is no success");
        let samples = match &read {
            Answer::Scalar(_) | Answer::Text => 1,
            Answer::Vector(series) => series.len(),
            Answer::Matrix(series) => series.iter().map(|series| series.points.len()).sum(),
        };
        assert!(samples <= text.len(), "{samples} samples in {} bytes", text.len());
        if let Ok(number) = answer::one_number(&read) {
            assert!(number.is_finite() && read.is_one_number(), "{number}");
        }
    }
}

/// The template of a query check.
///
/// # Panics
/// The reader breaks its word.
pub fn template(data: &[u8]) {
    let text = text(data);
    // Names that no Service could have, to see that nothing gets out of its quotes.
    let hostile = "v2\"} or vector(1) #";
    let variables = Variables {
        canary: Some(hostile),
        stable: hostile,
        rollout: hostile,
        step_start: DateTime::UNIX_EPOCH,
        ..Variables::example()
    };
    let named = text.matches("{{").count();
    match template::fill(&text, &variables) {
        Ok(filled) => {
            assert!(filled.len() <= text.len() + 100 * named, "{} bytes of {}", filled.len(), text.len());
            assert!(text.contains(hostile) || !filled.contains(hostile), "{filled}");
            if named == 0 {
                // The engine leaves out a last line end.
                assert_eq!(filled.trim_end_matches(['\r', '\n']), text.trim_end_matches(['\r', '\n']));
            }
        }
        Err(problem) => assert!(problem.contains("at character "), "{problem}"),
    }
}
