//! Numbers in sentences. Every look says a dozen of them about every check: they are written where they belong, with no text
//! of their own in between.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use super::Bound;
use crate::api::GoDuration;

/// Behind the point of a share in percent.
const MOST_DIGITS: u8 = 6;

/// How many of how many, with the share in percent.
#[allow(clippy::cast_precision_loss)]
pub(super) fn ratio(bad: u64, all: u64) -> impl Display {
    fmt::from_fn(move |f| match all {
        0 => f.write_str("no requests"),
        _ => write!(f, "{} ({bad} of {all})", percent(bad as f64 / all as f64)),
    })
}

/// The same beside a limit on the share: with so many digits that one sees on which side of it the share is.
#[allow(clippy::cast_precision_loss)]
pub(super) fn ratio_beside(limit: f64, bad: u64, all: u64) -> impl Display {
    fmt::from_fn(move |f| {
        if all == 0 {
            return f.write_str("no requests");
        }
        let share = bad as f64 / all as f64;
        let looks_alike = |digits: i32| {
            let scale = 100.0 * 10_f64.powi(digits);
            // Both are whole.
            ((share * scale).round_ties_even() - (limit * scale).round_ties_even()).abs() < 0.5
        };
        let mut digits = digits_of(share * 100.0);
        // Of one that is the limit the zeros are not written.
        while digits < MOST_DIGITS && looks_alike(digits.into()) {
            digits += 1;
        }
        write!(f, "{}% ({bad} of {all})", decimal(share * 100.0, digits))
    })
}

/// A share in percent with as many digits as tell something.
pub(super) fn percent(share: f64) -> impl Display {
    let percent = share * 100.0;
    fmt::from_fn(move |f| write!(f, "{}%", decimal(percent, digits_of(percent))))
}

fn digits_of(percent: f64) -> u8 {
    if percent >= 10.0 || percent == 0.0 {
        0
    } else if percent >= 1.0 {
        1
    } else {
        2
    }
}

/// A latency bound as people write it.
pub(super) fn duration(bound: Bound) -> GoDuration {
    GoDuration(Duration::from_micros(bound.0))
}

/// A number that was measured, with four digits that count: `0.9127`, `1234`, `0.000012`.
pub(super) fn precise(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    // What is left of 1e-300 or 1e300 in digits nobody reads.
    let before = number.abs().log10().floor().clamp(-12.0, 15.0);
    let scale = 10_f64.powf(3.0 - before);
    (number * scale).round() / scale
}

/// A number with as many digits as tell something: `3`, `1.25`, `0.05`.
pub(super) fn number(number: f64) -> impl Display {
    decimal(number, if number >= 100.0 { 0 } else { 2 })
}

/// A number with at most so many digits behind the point, and none that says nothing.
fn decimal(number: f64, digits: u8) -> impl Display {
    fmt::from_fn(move |f| {
        let scale = 10_u64.pow(digits.into());
        #[allow(clippy::cast_precision_loss, reason = "of a few digits")]
        let scaled = (number * scale as f64).round_ties_even();
        // Where whole numbers are exact they do, at a fraction of what it costs to print a float.
        if !(0.0..1e15).contains(&scaled) {
            let text = format!("{number:.*}", usize::from(digits));
            let trimmed = text.trim_end_matches('0').trim_end_matches('.');
            return f.write_str(if text.contains('.') { trimmed } else { &text });
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range above")]
        let scaled = scaled as u64;
        let (mut rest, mut places) = (scaled % scale, usize::from(digits));
        write!(f, "{}", scaled / scale)?;
        while rest > 0 && rest % 10 == 0 {
            (rest, places) = (rest / 10, places - 1);
        }
        if rest > 0 { write!(f, ".{rest:0places$}") } else { Ok(()) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_the_digits_that_tell_something() {
        let numbers = [0.0, 0.05, 0.125, 1.0, 1.25, 3.004, 99.999, 1234.5, 1e9, 1e300, f64::INFINITY, -0.5];
        let told: Vec<String> = numbers.iter().map(|one| number(*one).to_string()).collect();
        let large = format!("{:.0}", 1e300);
        let expected =
            ["0", "0.05", "0.12", "1", "1.25", "3", "100", "1234", "1000000000", &large, "inf", "-0.5"];
        assert_eq!(told, expected);
        let shares = [0.0, 0.0005, 0.0123, 0.1, 1.0];
        let told: Vec<String> = shares.iter().map(|one| percent(*one).to_string()).collect();
        assert_eq!(told, ["0%", "0.05%", "1.2%", "10%", "100%"]);
        assert_eq!(ratio(3, 0).to_string(), "no requests");
    }

    proptest! {
        #[test]
        fn a_decimal_is_what_the_standard_library_prints(whole in 0..10_000_000_u32, digits in 0..3_u8) {
            // Exact in a float, and so are the ties.
            let number = f64::from(whole) / 1024.0;
            let text = format!("{number:.*}", usize::from(digits));
            let trimmed = text.trim_end_matches('0').trim_end_matches('.');
            let expected = if text.contains('.') { trimmed } else { &text };
            prop_assert_eq!(decimal(number, digits).to_string(), expected);
        }
    }
}
