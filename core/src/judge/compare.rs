//! Comparisons with stable: all of a Rollout's together, and what each of them says.

use super::{
    Evidence, Look, Verdict,
    opinion::Opinion,
    versus::{Effect, Finding, Standing, log_mean_exp, stand},
    words::{duration, number, percent, ratio},
};
use crate::{
    api::EffectRecord,
    plan::{PlannedCheck, Versus},
};

/// More evidence than this is written as this.
const MOST_EVIDENCE: f64 = 1e9;

/// Where the comparison of one check stands.
pub(super) struct Compared {
    versus: Versus,
    standing: Standing,
    /// Whether the evidence of all comparisons together is enough to act on.
    together: bool,
}

/// Where each of the `checks` stands that compares anything. Several comparisons would each be wrong once in a while;
/// together they are wrong as seldom as one where the mean of their evidence, each in units of what it needs, is 1 at
/// least, whatever they have to do with one another.
pub(super) fn all<'a>(
    checks: impl Iterator<Item = &'a PlannedCheck> + Clone,
    evidence: &Evidence,
) -> Vec<Option<Compared>> {
    let compared: Vec<Option<(Versus, Standing)>> = checks
        .clone()
        .map(|check| {
            let (versus, _) = check.comparison()?;
            let standing = evidence.comparison(&check.name);
            Some((*versus, standing.map_or(Standing::Nothing, |comparison| stand(comparison, versus))))
        })
        .collect();
    let acting = checks.zip(&compared).filter(|(check, _)| !check.advisory);
    let evidence: Vec<f64> = acting.filter_map(|(_, compared)| compared.as_ref()).map(in_units).collect();
    let together = log_mean_exp(&evidence) >= 0.0;
    compared
        .into_iter()
        .map(|compared| compared.map(|(versus, standing)| Compared { versus, standing, together }))
        .collect()
}

/// The logarithm of the evidence against the canary, in units of what its check needs.
fn in_units((versus, standing): &(Versus, Standing)) -> f64 {
    match standing {
        Standing::Known(finding) => finding.log_worse + versus.alpha.ln(),
        // No evidence is evidence of 1.
        Standing::Learning(..) | Standing::Nothing => versus.alpha.ln(),
    }
}

impl Compared {
    /// What the check says of it after `look`.
    pub(super) fn opinion(&self, check: &PlannedCheck, look: &Look) -> Opinion {
        if let Err(trouble) = &look.counts {
            return Opinion::trouble(trouble);
        }
        let finding = match &self.standing {
            Standing::Nothing => {
                return Opinion::unknown("nothing to compare: both arms need requests, and bounds in common");
            }
            Standing::Learning(looks, of) => {
                return Opinion::unknown(format!(
                    "stable was seen {looks} of the {of} times that tell how much its bad answers vary"
                ));
            }
            Standing::Known(finding) => finding,
        };
        let Effect { canary, stable, .. } = finding.effect;
        let enough = canary.requests >= check.min_requests;
        let verdict = match finding.verdict(&self.versus) {
            // One of several alone is not enough.
            Verdict::Fail if !self.together && !check.advisory => Verdict::Inconclusive,
            Verdict::Pass if !enough => Verdict::Inconclusive,
            verdict => verdict,
        };
        Opinion {
            verdict,
            arms: Some((canary, stable)),
            effect: Some(record(finding, &self.versus)),
            suffices: verdict == Verdict::Inconclusive && enough && !self.versus.prove,
            ..Opinion::unknown(self.message(finding, verdict, check))
        }
    }

    fn message(&self, finding: &Finding, verdict: Verdict, check: &PlannedCheck) -> String {
        let Effect { bound, canary, stable, ratio: times, interval: (from, to) } = &finding.effect;
        let bad = bound
            .map_or_else(|| "failed".to_owned(), |bound| format!("took longer than {}", duration(bound)));
        let times = times.map_or_else(String::new, |times| format!(", {} times stable's", number(times)));
        let to = to.map_or_else(|| "unknown".to_owned(), number);
        let Versus { max_ratio, alpha, clear_ratio, .. } = self.versus;
        let needed = number(1.0 / alpha);
        let seen = format!(
            "{} of the canary's requests {bad}{times}, against {}; with {} confidence between {} and {to} times as many",
            ratio(canary.bad, canary.requests),
            ratio(stable.bad, stable.requests),
            percent(1.0 - alpha),
            number(*from),
        );
        let evidence = |log: f64| number(log.exp().min(MOST_EVIDENCE));
        let worse = evidence(finding.log_worse);
        match verdict {
            Verdict::Fail => format!(
                "{seen}: evidence of {worse} that it is more than {} times, {needed} was needed",
                number(max_ratio)
            ),
            Verdict::Pass => format!(
                "{seen}: evidence of {} that it is less than {} times, {needed} was needed",
                evidence(finding.log_better),
                number(clear_ratio)
            ),
            Verdict::Inconclusive if canary.requests < check.min_requests => format!(
                "the canary answered {} of the {} requests that a comparison needs",
                canary.requests, check.min_requests
            ),
            Verdict::Inconclusive => format!(
                "{seen}: evidence of {worse} of the {needed} that a rollback needs, and of {} of the {needed} that clear it",
                evidence(finding.log_better)
            ),
        }
    }
}

fn record(finding: &Finding, versus: &Versus) -> EffectRecord {
    let (from, to) = finding.effect.interval;
    let evidence = |log: f64| log.exp().min(MOST_EVIDENCE);
    EffectRecord {
        ratio: finding.effect.ratio,
        from,
        to,
        worse: evidence(finding.log_worse),
        better: evidence(finding.log_better),
        needed: 1.0 / versus.alpha,
        max_ratio: versus.max_ratio,
        clear_ratio: versus.clear_ratio,
    }
}
