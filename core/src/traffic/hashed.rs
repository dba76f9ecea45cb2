//! A header that carries a hash of the user: which of its values an arm has.
//!
//! Istio cannot hash a header to divide requests between two hosts (a `consistentHash` divides those of one), so the hash
//! comes with the request: hexadecimal digits, of which the first four are one of 65,536 numbers that are equally likely. The
//! canary has the lowest ones, as many of them as its weight says, so that a larger weight only adds to them and nobody who
//! met the canary in one step meets stable in a later one. Nothing is remembered anywhere.

use serde_json::{Value, json};

/// So many hexadecimal digits count: a percent is 655 of the numbers, and a share is at most 0.0015 percentage points off.
const DIGITS: u32 = 4;
/// How many numbers they make.
const NUMBERS: u32 = 1 << (4 * DIGITS);

/// How many of the numbers are the canary's at `weight` percent: rounded down, as weights are.
fn numbers_of_canary(weight: u8) -> u32 {
    NUMBERS * u32::from(weight.min(100)) / 100
}

/// A condition that a hash of the canary's meets at `weight` percent; nothing where it has none.
pub(super) fn of_canary(weight: u8) -> Option<Value> {
    let count = numbers_of_canary(weight);
    (count > 0).then(|| whole(&below(count, DIGITS)))
}

/// A condition that any hash meets.
pub(super) fn of_anybody() -> Value {
    whole(&any(DIGITS))
}

/// The whole value, as Istio compares: RE2, upper and lower case alike, and what follows the digits says nothing.
fn whole(digits: &str) -> Value {
    json!({ "regex": format!("(?i){digits}.*") })
}

/// Numbers of so many digits that are less than `bound`, which is from 1 to the first that has more digits.
fn below(bound: u32, digits: u32) -> String {
    if bound == 1 << (4 * digits) {
        return any(digits);
    }
    let each = 1 << (4 * (digits - 1));
    let (whole, rest) = (bound / each, bound % each);
    let mut cases = Vec::new();
    if whole > 0 {
        cases.push(format!("{}{}", first(whole), any(digits - 1)));
    }
    if rest > 0 {
        cases.push(format!("{whole:x}{}", below(rest, digits - 1)));
    }
    match cases.as_slice() {
        [only] => only.clone(),
        several => format!("({})", several.join("|")),
    }
}

/// One of the first `count` digits, 1 to 16.
fn first(count: u32) -> String {
    match count {
        1 => "0".to_owned(),
        2..=10 => format!("[0-{}]", count - 1),
        11 => "[0-9a]".to_owned(),
        more => format!("[0-9a-{:x}]", more - 1),
    }
}

fn any(digits: u32) -> String {
    match digits {
        0 => String::new(),
        1 => first(16),
        several => format!("{}{{{several}}}", first(16)),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn compiled(condition: &Value) -> Regex {
        Regex::new(&format!("^(?:{})$", condition["regex"].as_str().unwrap())).unwrap()
    }

    #[test]
    fn every_weight_has_exactly_its_lowest_numbers() {
        assert!(of_canary(0).is_none());
        for weight in 1..=100 {
            let regex = compiled(&of_canary(weight).unwrap());
            let expected = 65_536 * u32::from(weight) / 100;
            let edge = expected.saturating_sub(300)..65_536.min(expected + 300);
            let wrong = (0..65_536_u32).step_by(97).chain(edge).find(|number| {
                let text = if number % 2 == 0 { format!("{number:04x}") } else { format!("{number:04X}") };
                regex.is_match(&text) != (*number < expected)
            });
            assert_eq!(wrong, None, "{weight}%: {regex}");
        }
    }

    #[test]
    fn the_expressions_can_be_read() {
        let text = |weight| of_canary(weight).unwrap()["regex"].as_str().unwrap().to_owned();
        assert_eq!(text(1), "(?i)0([0-1][0-9a-f]{2}|2([0-7][0-9a-f]|8[0-9a-e])).*");
        assert_eq!(text(50), "(?i)[0-7][0-9a-f]{3}.*");
        assert_eq!(text(100), "(?i)[0-9a-f]{4}.*");
        assert_eq!(of_anybody()["regex"], "(?i)[0-9a-f]{4}.*");
        assert!((1..=100).all(|weight| text(weight).len() <= 80));
    }

    #[test]
    fn whole_hashes_and_random_uuids_have_a_number_and_other_values_have_none() {
        let (anybody, half) = (compiled(&of_anybody()), compiled(&of_canary(50).unwrap()));
        for value in ["7fff", "0123456789abcdef", "6BA7B810-9dad-41d1-80b4-00c04fd430c8", "4e07, ffff"] {
            assert!(anybody.is_match(value) && half.is_match(value), "{value}");
        }
        for value in ["", "7ff", "user-17", "0x7fff", " 7fff", "sha256:7fff"] {
            assert!(!anybody.is_match(value) && !half.is_match(value), "{value}");
        }
    }
}
