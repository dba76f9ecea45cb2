//! Comparisons with stable, with their defaults.

use super::PlanErrors;
use crate::api::VersusStable;

/// What counts where a comparison does not say.
pub(super) struct Defaults {
    max_ratio: f64,
    /// A canary is cleared below this ratio, in units of the largest that is all right.
    clearance: f64,
}

/// Of requests, and of events as rare as failed ones.
pub(super) const OF_REQUESTS: Defaults = Defaults { max_ratio: 1.0, clearance: 2.0 };
/// Of scores, like an accuracy: they hardly vary, so that a difference which nobody minds would be found.
pub(super) const OF_SCORES: Defaults = Defaults { max_ratio: 1.05, clearance: 1.05 };

const DEFAULT_ALPHA: f64 = 0.01;
/// Surer than this nobody can be in a lifetime, and nobody needs to be less sure than that.
const ALPHAS: std::ops::RangeInclusive<f64> = 1e-9..=0.5;
const LARGEST_RATIO: f64 = 1000.0;

/// A sequential test of the canary against stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Versus {
    /// The ratio that is still all right, 1 to 1000: canary to stable, or stable to canary where more is better.
    pub max_ratio: f64,
    /// How often the test may be wrong, in either direction: 1 − confidence, above 0 to 0.5.
    pub alpha: f64,
    /// The canary passes when it is shown to be below this ratio; above `max_ratio`.
    pub clear_ratio: f64,
    /// Whether a step ends only when that was shown.
    pub prove: bool,
}

pub(super) fn plan(
    versus: &VersusStable,
    defaults: &Defaults,
    path: &str,
    errors: &mut PlanErrors,
) -> Versus {
    let max_ratio = ratio(versus.max_ratio, defaults.max_ratio, &format!("{path}.maxRatio"), errors);
    let clearance = max_ratio * defaults.clearance;
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
