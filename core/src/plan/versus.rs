//! Comparisons with stable, with their defaults.

use super::PlanErrors;
use crate::api::VersusStable;

const DEFAULT_MAX_RATIO: f64 = 1.0;
/// A canary is cleared below this ratio, in units of the largest that is all right.
const DEFAULT_CLEARANCE: f64 = 2.0;
const DEFAULT_ALPHA: f64 = 0.01;
/// Surer than this nobody can be in a lifetime, and nobody needs to be less sure than that.
const ALPHAS: std::ops::RangeInclusive<f64> = 1e-9..=0.5;
const LARGEST_RATIO: f64 = 1000.0;

/// A sequential test of the canary against stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Versus {
    /// The ratio canary to stable that is still all right, 1 to 1000.
    pub max_ratio: f64,
    /// How often the test may be wrong, in either direction: 1 − confidence, above 0 to 0.5.
    pub alpha: f64,
    /// The canary passes when it is shown to be below this ratio; above `max_ratio`.
    pub clear_ratio: f64,
    /// Whether a step ends only when that was shown.
    pub prove: bool,
}

pub(super) fn plan(versus: &VersusStable, path: &str, errors: &mut PlanErrors) -> Versus {
    let max_ratio = ratio(versus.max_ratio, DEFAULT_MAX_RATIO, &format!("{path}.maxRatio"), errors);
    let clearance = max_ratio * DEFAULT_CLEARANCE;
    let clear_ratio = ratio(versus.clear_ratio, clearance, &format!("{path}.clearRatio"), errors);
    if clear_ratio <= max_ratio {
        let problem = format!(
            "{clear_ratio} is out of range: more than maxRatio, which is {max_ratio}, is expected, or nobody could tell \
             a canary that is cleared from one that is too bad"
        );
        errors.invalid(&format!("{path}.clearRatio"), problem);
    }
    // 1 − 0.99 is 0.010000000000000009: rounded to what a person meant.
    let alpha =
        versus.confidence.map_or(DEFAULT_ALPHA, |share| ((1.0 - share.fraction()) * 1e12).round() / 1e12);
    if !ALPHAS.contains(&alpha) {
        let confidence = versus.confidence.map_or_else(String::new, |confidence| confidence.to_string());
        let problem = format!("{confidence} is out of range: 50% to 99.9999999% is expected");
        errors.invalid(&format!("{path}.confidence"), problem);
    }
    Versus { max_ratio, alpha, clear_ratio, prove: versus.prove }
}

fn ratio(asked: Option<f64>, default: f64, path: &str, errors: &mut PlanErrors) -> f64 {
    let Some(asked) = asked else { return default };
    if !(1.0..=LARGEST_RATIO).contains(&asked) {
        errors.invalid(path, format!("{asked} is out of range: 1 to {LARGEST_RATIO} is expected"));
        return default;
    }
    asked
}
