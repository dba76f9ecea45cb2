//! What follows from the evidence.

use super::{
    Comparison, Indicator, Series,
    dispersion::LOOKS,
    ratio::{Grid, interval, log_better, log_mean_exp, log_worse},
    score::{PAIRS, Scores},
};
use crate::{
    api::{ArmRecord, Direction},
    judge::{Bound, Verdict},
    plan::Versus,
};

/// How the canary compares with stable: the effect and how sure one can be of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// What was seen of both in all looks.
    pub saw: Saw,
    /// What the canary gave over what stable gave; nothing where stable gave none.
    pub ratio: Option<f64>,
    /// Where the ratio lies with the check's confidence, whenever one looks; no upper end where none is known.
    pub interval: (f64, Option<f64>),
}

/// What was seen of both arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Saw {
    /// Counts.
    Counted {
        /// The bound that slow requests were slower than; nothing where other things are counted.
        bound: Option<Bound>,
        /// What the canary gave.
        canary: ArmRecord,
        /// What stable gave.
        stable: ArmRecord,
    },
    /// Numbers: the mean of those that were compared.
    Scored {
        /// Of the canary.
        canary: f64,
        /// Of stable.
        stable: f64,
        /// How many pairs there were.
        pairs: u32,
    },
}

impl Saw {
    /// Whether nothing of what is compared was counted, of either arm.
    pub fn is_none_of_any(&self) -> bool {
        match self {
            Self::Counted { canary, stable, .. } => canary.bad == 0 && stable.bad == 0,
            Self::Scored { .. } => false,
        }
    }
}

/// What is known of the canary against stable, for one check.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Stable was not seen often enough to know how much its bad answers vary: so often, of so often.
    Learning(u32, u32),
    /// There are too few pairs of numbers: so many, of so many.
    Gathering(u32, u32),
    /// Stable has answered nothing yet, or nothing faster than the highest bound that the histograms of both arms share.
    Nothing,
    /// There is evidence.
    Known(Finding),
}

/// The evidence for and against a canary.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Logarithm of the evidence that it is worse than the check allows.
    pub log_worse: f64,
    /// Logarithm of the evidence that it is better than the ratio it is cleared at.
    pub log_better: f64,
    /// The effect where the evidence against the canary is strongest.
    pub effect: Effect,
}

impl Finding {
    /// The verdict, as far as this check alone is concerned.
    pub fn verdict(&self, versus: &Versus) -> Verdict {
        let needed = -versus.alpha.ln();
        if self.log_worse >= needed {
            Verdict::Fail
        } else if self.log_better >= needed {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        }
    }
}

/// Where a comparison stands.
pub fn stand(comparison: &Comparison, versus: &Versus, indicator: Indicator) -> Standing {
    match (&comparison.scores, indicator) {
        (scores, Indicator::Scores(direction, _)) => {
            scores.as_ref().map_or(Standing::Gathering(0, PAIRS), |scores| scored(scores, versus, direction))
        }
        (_, Indicator::Errors | Indicator::Latency | Indicator::Shares(_)) => {
            counted(comparison, versus, indicator.direction())
        }
    }
}

fn scored(scores: &Scores, versus: &Versus, direction: Direction) -> Standing {
    if !scores.is_whole() {
        return Standing::Gathering(0, PAIRS);
    }
    if scores.pairs < PAIRS {
        return Standing::Gathering(scores.pairs, PAIRS);
    }
    let (canary, stable) = scores.means();
    let effect = Effect {
        saw: Saw::Scored { canary, stable, pairs: scores.pairs },
        ratio: (stable > 0.0).then(|| canary / stable),
        interval: of_the_canary(scores.interval(versus.alpha), direction),
    };
    Standing::Known(Finding { log_worse: scores.log_worse(), log_better: scores.log_better(), effect })
}

fn counted(comparison: &Comparison, versus: &Versus, direction: Direction) -> Standing {
    let series = comparison.series.iter();
    let known: Vec<(&Series, [f64; Grid::LEN])> =
        series.filter_map(|series| Some((series, series.log_likelihoods()?))).collect();
    let Some(looks) = known.iter().map(|(series, _)| series.dispersion.looks).min() else {
        return Standing::Nothing;
    };
    if looks < LOOKS {
        return Standing::Learning(looks, LOOKS);
    }
    let worse: Vec<f64> = known.iter().map(|(_, sums)| log_worse(sums)).collect();
    let strongest = known.iter().zip(&worse).max_by(|(_, one), (_, other)| one.total_cmp(other));
    let Some(((strongest, sums), _)) = strongest else { return Standing::Nothing };
    let (canary, stable) = comparison.of(strongest);
    let effect = Effect {
        saw: Saw::Counted { bound: strongest.bound, canary, stable },
        ratio: ratio_of(canary, stable),
        interval: of_the_canary(interval(sums, versus.alpha), direction),
    };
    // Worse at any bound is worse, and the mean of e-values is one. No worse is no worse at all of them, but for those that
    // nothing was slower than: they never tell anything, and would keep a proof from coming for ever.
    let told = known.iter().filter(|(series, _)| series.canary_bad > 0 || series.stable_bad > 0);
    let log_better = told.map(|(_, sums)| log_better(sums)).reduce(f64::min).unwrap_or(0.0);
    Standing::Known(Finding { log_worse: log_mean_exp(worse), log_better, effect })
}

/// The interval of canary over stable, where that of stable over canary was tested.
fn of_the_canary((from, to): (f64, Option<f64>), direction: Direction) -> (f64, Option<f64>) {
    match direction {
        Direction::MoreIsWorse => (from, to),
        Direction::MoreIsBetter => (to.map_or(0.0, |to| 1.0 / to), (from > 0.0).then(|| 1.0 / from)),
    }
}

#[allow(clippy::cast_precision_loss)] // for people to read
fn ratio_of(canary: ArmRecord, stable: ArmRecord) -> Option<f64> {
    let share = |arm: ArmRecord| (arm.requests > 0).then(|| arm.bad as f64 / arm.requests as f64);
    let (canary, stable) = (share(canary)?, share(stable).filter(|share| *share > 0.0)?);
    Some(canary / stable)
}
