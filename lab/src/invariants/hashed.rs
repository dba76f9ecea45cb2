//! Requests that the hash in a header binds to the canary, counted one by one.

use regex::Regex;
use serde_json::Value;

use super::objects::{list, text};

/// What the first four hexadecimal digits of a hash can be.
const NUMBERS: u64 = 65_536;
/// Of those far from the edge every so many are tried.
const STRIDE: usize = 17;

/// A number that meets the condition of a route on a header and is not one of the lowest, as many as `weight` percent are;
/// nothing where there is none, or no condition by an expression.
pub(super) fn beyond(route: &Value, header: &str, weight: u64) -> Option<u64> {
    let bound = NUMBERS * weight / 100;
    let conditions = list(&route["match"]).map(|one| text(&one["headers"][header]["regex"]));
    let conditions: Vec<Regex> = conditions
        .filter(|regex| !regex.is_empty())
        .filter_map(|regex| Regex::new(&format!("^(?:{regex})$")).ok())
        .collect();
    let tried = (bound..NUMBERS).take(STRIDE).chain((bound..NUMBERS).step_by(STRIDE));
    tried.into_iter().find(|number| {
        let hash = format!("{number:04x}");
        conditions.iter().any(|condition| condition.is_match(&hash))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_beyond_the_weight_is_found() {
        let route = |regex: &str| json!({"match": [{"headers": {"x-hash": {"regex": regex}}}]});
        let half = route("(?i)[0-7][0-9a-f]{3}.*");
        assert_eq!(beyond(&half, "x-hash", 50), None);
        assert_eq!(beyond(&half, "x-other", 10), None);
        assert_eq!(beyond(&half, "x-hash", 49), Some(32_112));
        assert!(beyond(&route("[0-7f].*"), "x-hash", 50).is_some());
    }
}
