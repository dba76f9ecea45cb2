//! Rollouts by chance, and when each rule would have rolled them back.

use std::{collections::BTreeMap, time::Duration};

use chrono::DateTime;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Binomial, Distribution, Poisson};
use serde_json::json;
use sluice_core::{
    judge::{Counts, Evidence, Look, Measurement, Moment, Verdict, judge},
    plan::Plan,
};

/// Looks of an hour.
pub const LOOKS: usize = 120;
/// Half a minute each.
pub const MINUTES_A_LOOK: f64 = 0.5;
/// Looks at stable before the canary gets anything.
const BEFORE: usize = 10;
/// The canary's share of the requests.
const SHARE: f64 = 0.1;
/// One of a hundred normal values is larger.
const ONE_IN_A_HUNDRED: f64 = 2.326_347_874_040_841;

/// How a canary does.
#[derive(Clone, Copy)]
pub struct Canary {
    pub requests_a_second: f64,
    /// Stable's share of errors.
    pub errors: f64,
    /// How many times as often the canary fails.
    pub times: f64,
}

/// Which rules are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    All,
    Compared,
}

/// The look, from 1, at which each rule rolled back; and the evidence after each.
#[derive(Default)]
pub struct Run {
    pub threshold: Option<usize>,
    pub three_in_a_row: Option<usize>,
    pub z_test: Option<usize>,
    pub compared: Option<usize>,
    pub evidence: Vec<f64>,
}

impl Run {
    /// An hour of a canary.
    pub fn of(canary: Canary, seed: u64, rules: Rules) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let plan = plan();
        let mut evidence = Evidence::default();
        let (mut run, mut looks, mut records, mut in_a_row) = (Self::default(), Vec::new(), Vec::new(), 0);
        for number in 0..BEFORE + LOOKS {
            let share = if number < BEFORE { 0.0 } else { SHARE };
            let requests = canary.requests_a_second * MINUTES_A_LOOK * 60.0;
            let mut counts = |requests: f64, errors: f64| {
                let all =
                    if requests > 0.0 { Poisson::new(requests).unwrap().sample(&mut chance) } else { 0.0 };
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
                let requests = all as u64;
                let errors = Binomial::new(requests, errors).unwrap().sample(&mut chance);
                Counts { requests, errors, slower: BTreeMap::new() }
            };
            let stable = counts(requests * (1.0 - share), canary.errors);
            let canary = counts(requests * share, canary.errors * canary.times);
            let seen = Measurement { stable, canary, retiring: BTreeMap::new() };
            let age = Duration::from_secs(30 * (number as u64 + 1));
            let pair = (seen.canary.clone(), seen.stable.clone());
            let look = Look::new(DateTime::UNIX_EPOCH + age, Ok(seen));
            evidence.compare(plan.checks.iter(), &look);
            if number < BEFORE {
                continue;
            }
            looks.push(pair);
            let now = looks.len();
            let moment = Moment { age, settled_since: Duration::ZERO };
            records = judge(plan.checks.iter(), &evidence, moment, &look, &records);
            run.evidence.push(records[0].effect.map_or(1.0, |effect| effect.worse));
            if records[0].verdict == Verdict::Fail {
                run.compared.get_or_insert(now);
            }
            if rules == Rules::All {
                let breached = is_over(&looks[now.saturating_sub(2)..], 0.02);
                in_a_row = if breached { in_a_row + 1 } else { 0 };
                let mut alarm = |which: fn(&mut Self) -> &mut Option<usize>, yes: bool| {
                    if yes {
                        which(&mut run).get_or_insert(now);
                    }
                };
                alarm(|run| &mut run.threshold, breached);
                alarm(|run| &mut run.three_in_a_row, in_a_row >= 3);
                alarm(|run| &mut run.z_test, z(&looks) > ONE_IN_A_HUNDRED);
            }
        }
        run
    }
}

fn plan() -> Plan {
    let spec = json!({
        "target": {"service": {"name": "canary"}}, "routes": [{"virtualService": "iris"}],
        "steps": [{"weight": 10, "for": "1h"}], "interval": "30s",
        "checks": [{"name": "errors", "errors": {"versusStable": {}}}],
    });
    Plan::new(&serde_json::from_value(spec).unwrap(), "pictures").unwrap()
}

/// Whether more than a share of the canary's requests failed.
fn is_over(looks: &[(Counts, Counts)], share: f64) -> bool {
    let (requests, errors) = looks
        .iter()
        .fold((0, 0), |(requests, errors), (canary, _)| (requests + canary.requests, errors + canary.errors));
    errors as f64 > requests as f64 * share
}

/// The statistic of the pooled test of two proportions, over all looks so far.
fn z(looks: &[(Counts, Counts)]) -> f64 {
    let sum = |of: fn(&(Counts, Counts)) -> u64| looks.iter().map(of).sum::<u64>() as f64;
    let (canary, failed) = (sum(|look| look.0.requests), sum(|look| look.0.errors));
    let (stable, stable_failed) = (sum(|look| look.1.requests), sum(|look| look.1.errors));
    let pooled = (failed + stable_failed) / (canary + stable);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / canary + 1.0 / stable)).sqrt();
    if deviation > 0.0 { (failed / canary - stable_failed / stable) / deviation } else { 0.0 }
}
