//! Comparisons with stable: all of a Rollout's together, and what each of them says.

use std::fmt;

use super::{
    Comparison, Evidence, Indicator, Look, Verdict,
    opinion::Opinion,
    versus::{Effect, Finding, Saw, Standing, log_mean_exp, stand},
    words::{duration, number, percent, precise, ratio},
};
use crate::{
    api::{ArmRecord, Direction, EffectRecord},
    plan::{PlannedCheck, Versus},
};

/// More evidence than this is written as this.
const MOST_EVIDENCE: f64 = 1e9;

/// Where the comparison of one check stands.
pub(super) struct Compared {
    versus: Versus,
    indicator: Indicator,
    standing: Standing,
    together: Together,
}

/// The evidence of all comparisons that may act.
#[derive(Clone, Copy, Default)]
struct Together {
    comparisons: usize,
    /// The logarithm of the mean, each in units of what its check needs: at 0 it is enough to act on.
    log_mean: f64,
}

impl Together {
    fn is_enough(self) -> bool {
        self.log_mean >= 0.0
    }
}

/// Where each of the `checks` stands that compares anything. Several comparisons would each be wrong once in a while;
/// together they are wrong as seldom as one where the mean of their evidence, each in units of what it needs, is 1 at
/// least, whatever they have to do with one another.
pub(super) fn all<'a>(
    checks: impl Iterator<Item = &'a PlannedCheck> + Clone,
    evidence: &Evidence,
) -> Vec<Option<Compared>> {
    let nothing = Comparison::default();
    let mut all: Vec<Option<Compared>> = checks
        .clone()
        .map(|check| {
            let (versus, indicator) = check.comparison()?;
            let comparison = evidence.comparison(&check.name).unwrap_or(&nothing);
            let standing = stand(comparison, versus, indicator);
            Some(Compared { versus: *versus, indicator, standing, together: Together::default() })
        })
        .collect();
    let acting = checks.zip(&all).filter(|(check, _)| !check.advisory);
    let acting = acting.filter_map(|(_, one)| one.as_ref());
    let log_mean = log_mean_exp(acting.clone().map(Compared::in_units));
    let together = Together { comparisons: acting.count(), log_mean };
    all.iter_mut().flatten().for_each(|one| one.together = together);
    all
}

impl Compared {
    /// The logarithm of the evidence against the canary, in units of what its check needs.
    fn in_units(&self) -> f64 {
        match &self.standing {
            Standing::Known(finding) => finding.log_worse + self.versus.alpha.ln(),
            // No evidence is evidence of 1.
            Standing::Learning(..) | Standing::Gathering(..) | Standing::Nothing => self.versus.alpha.ln(),
        }
    }

    /// What the check says of it after `look`.
    pub(super) fn opinion(&self, check: &PlannedCheck, look: &Look) -> Opinion {
        if let Some(nothing_new) = self.trouble(check, look) {
            return nothing_new;
        }
        let finding = match &self.standing {
            Standing::Nothing => {
                return Opinion::unknown(
                    "nothing to compare yet: stable has answered nothing, or nothing faster than the highest bound that the \
                     histograms of both have",
                );
            }
            Standing::Learning(looks, of) => {
                return Opinion::unknown(format!(
                    "stable was seen {looks} of the {of} times that tell how much its bad answers vary"
                ));
            }
            Standing::Gathering(pairs, of) => {
                return Opinion::unknown(format!(
                    "{pairs} of the {of} pairs of numbers, a window apart, that a comparison needs"
                ));
            }
            Standing::Known(finding) => finding,
        };
        let arms = match finding.effect.saw {
            Saw::Counted { canary, stable, .. } => Some((canary, stable)),
            Saw::Scored { .. } => None,
        };
        let enough = arms.is_none_or(|(canary, _)| canary.requests >= check.min_requests);
        let verdict = match finding.verdict(&self.versus) {
            // One of several alone is not enough.
            Verdict::Fail if !self.together.is_enough() && !check.advisory => Verdict::Inconclusive,
            Verdict::Pass if !enough => Verdict::Inconclusive,
            verdict => verdict,
        };
        let message = match arms {
            Some((canary, _)) if verdict == Verdict::Inconclusive && !enough => too_few(canary, check),
            _ => format!("{}: {}", self.seen(&finding.effect), self.evidence(finding, verdict)),
        };
        Opinion {
            verdict,
            arms,
            effect: Some(self.record(finding)),
            // What is enough for this check alone must not give the canary more users.
            suffices: verdict == Verdict::Inconclusive
                && enough
                && !self.versus.prove
                && finding.verdict(&self.versus) != Verdict::Fail,
            ..Opinion::unknown(message)
        }
    }

    /// What the check says where this look brought nothing to compare.
    fn trouble(&self, check: &PlannedCheck, look: &Look) -> Option<Opinion> {
        match self.indicator {
            Indicator::Errors | Indicator::Latency => look.counts.as_ref().err().map(Opinion::trouble),
            Indicator::Shares(_) | Indicator::Scores(..) => match look.compared.get(&check.name) {
                None => Some(Opinion::unknown("the query was not asked about both")),
                Some(seen) => seen.as_ref().err().map(Opinion::trouble),
            },
        }
    }

    fn seen(&self, effect: &Effect) -> String {
        let Effect { saw, ratio: times, interval: (from, to) } = effect;
        let times = fmt::from_fn(|f| match times {
            Some(times) => write!(f, ", {} times stable's", number(*times)),
            None => Ok(()),
        });
        let sure = fmt::from_fn(|f| {
            let sure = percent(1.0 - self.versus.alpha);
            match to {
                Some(to) => {
                    write!(f, "with {sure} confidence between {} and {} times", number(*from), number(*to))
                }
                None => write!(f, "with {sure} confidence between {} and unknown times", number(*from)),
            }
        });
        let of = |arm: &ArmRecord| ratio(arm.bad, arm.requests);
        match saw {
            Saw::Counted { bound: None, canary, stable }
                if matches!(self.indicator, Indicator::Shares(_)) =>
            {
                format!(
                    "the counters have {} for the canary{times}, against {}; {sure} as many",
                    of(canary),
                    of(stable)
                )
            }
            Saw::Counted { bound, canary, stable } => {
                let bad = fmt::from_fn(|f| match bound {
                    Some(bound) => write!(f, "took longer than {}", duration(*bound)),
                    None => f.write_str("failed"),
                });
                format!(
                    "{} of the canary's requests {bad}{times}, against {}; {sure} as many",
                    of(canary),
                    of(stable)
                )
            }
            Saw::Scored { canary, stable, pairs } => format!(
                "the query answered {} for the canary{times}, against {}, the mean of {pairs} pairs; {sure} as much",
                precise(*canary),
                precise(*stable)
            ),
        }
    }

    fn evidence(&self, finding: &Finding, verdict: Verdict) -> String {
        let needed = number(1.0 / self.versus.alpha);
        let (worse, better) = (number(evidence(finding.log_worse)), number(evidence(finding.log_better)));
        let Versus { max_ratio, clear_ratio, .. } = self.versus;
        let (too_bad, good_enough) = match self.indicator.direction() {
            Direction::MoreIsWorse => (("more", max_ratio), ("less", clear_ratio)),
            Direction::MoreIsBetter => (("less", 1.0 / max_ratio), ("more", 1.0 / clear_ratio)),
        };
        let times = |(side, ratio)| fmt::from_fn(move |f| write!(f, "{side} than {} times", number(ratio)));
        match verdict {
            Verdict::Fail => {
                format!("evidence of {worse} that it is {}, {needed} was needed", times(too_bad))
            }
            Verdict::Pass => {
                format!("evidence of {better} that it is {}, {needed} was needed", times(good_enough))
            }
            Verdict::Inconclusive if finding.verdict(&self.versus) == Verdict::Fail => format!(
                "evidence of {worse} that it is {}; but a rollback needs {needed} of the {} comparisons together, and they \
                 have {}",
                times(too_bad),
                self.together.comparisons,
                number(evidence(self.together.log_mean) / self.versus.alpha)
            ),
            Verdict::Inconclusive if finding.effect.saw.is_none_of_any() => {
                "neither has any, so that there is nothing to compare yet".to_owned()
            }
            Verdict::Inconclusive => format!(
                "evidence of {worse} of the {needed} that a rollback needs, and of {better} of the {needed} that clear it"
            ),
        }
    }

    fn record(&self, finding: &Finding) -> EffectRecord {
        let (from, to) = finding.effect.interval;
        EffectRecord {
            ratio: finding.effect.ratio,
            from,
            to,
            worse: evidence(finding.log_worse),
            better: evidence(finding.log_better),
            needed: 1.0 / self.versus.alpha,
            max_ratio: self.versus.max_ratio,
            clear_ratio: self.versus.clear_ratio,
            more_is_better: self.indicator.direction() == Direction::MoreIsBetter,
        }
    }
}

fn too_few(canary: ArmRecord, check: &PlannedCheck) -> String {
    format!(
        "the canary answered {} of the {} requests that a comparison needs",
        canary.requests, check.min_requests
    )
}

fn evidence(log: f64) -> f64 {
    log.exp().min(MOST_EVIDENCE)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
