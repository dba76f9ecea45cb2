//! Numbers in sentences.

use std::time::Duration;

use super::Bound;
use crate::api::GoDuration;

/// How many of how many, with the share in percent.
#[allow(clippy::cast_precision_loss)]
pub(super) fn ratio(bad: u64, all: u64) -> String {
    if all == 0 {
        "no requests".to_owned()
    } else {
        format!("{} ({bad} of {all})", percent(bad as f64 / all as f64))
    }
}

/// A share in percent with as many digits as tell something.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent >= 10.0 || percent == 0.0 {
        0
    } else if percent >= 1.0 {
        1
    } else {
        2
    };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

/// A latency bound as people write it.
pub(super) fn duration(bound: Bound) -> String {
    GoDuration(Duration::from_micros(bound.0)).to_string()
}

/// A number that was measured, with four digits that count: `0.9127`, `1234`, `0.000012`.
pub(super) fn precise(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    // What is left of 1e-300 or 1e300 in digits nobody reads.
    let before = number.abs().log10().floor().clamp(-12.0, 15.0);
    let scale = 10_f64.powf(3.0 - before);
    ((number * scale).round() / scale).to_string()
}

/// A number with as many digits as tell something: `3`, `1.25`, `0.05`.
pub(super) fn number(number: f64) -> String {
    let digits = if number >= 100.0 { 0 } else { 2 };
    let text = format!("{number:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}
