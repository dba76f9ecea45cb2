//! Simulated requests of both arms, and what the checks make of them.

use std::{collections::BTreeMap, time::Duration};

use chrono::DateTime;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use sluice_core::{
    api::CheckRecord,
    judge::{Counts, Evidence, Look, Measurement, Moment, Needs, Verdict, judge},
    plan::{PlannedCheck, Rule, Versus},
};

/// Seconds between two looks, and how many there are in an hour.
pub const LOOK: f64 = 30.0;
pub const HOUR: usize = 120;

/// What users send, and what the arms make of it.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Requests a second, of both arms.
    pub rate: f64,
    /// Share of the requests that fail at stable.
    pub errors: f64,
    /// How many times as often the canary fails.
    pub ratio: f64,
    /// Errors come in clumps of so many.
    pub clump: u64,
    /// The canary's share at a look.
    pub share: fn(usize) -> f64,
    /// How many times as often both arms fail at a look.
    pub incident: fn(usize) -> f64,
}

impl Traffic {
    pub fn plain(rate: f64) -> Self {
        Self { rate, errors: 0.01, ratio: 1.0, clump: 1, share: |_| 0.1, incident: |_| 1.0 }
    }

    pub fn look(&self, index: usize, random: &mut ChaCha8Rng) -> Measurement {
        let share = (self.share)(index);
        let errors = self.errors * (self.incident)(index);
        let mut arm = |share: f64, errors: f64| {
            let requests = self.rate * LOOK * share;
            let failed = poisson(requests * errors / count(self.clump), random) * self.clump;
            let answered = poisson(requests * (1.0 - errors).max(0.0), random);
            Counts { requests: answered + failed, errors: failed, slower: BTreeMap::new() }
        };
        let (canary, stable) = (arm(share, errors * self.ratio), arm(1.0 - share, errors));
        Measurement { stable, canary, retiring: BTreeMap::new() }
    }
}

#[allow(clippy::cast_precision_loss)]
pub fn count(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn poisson(mean: f64, random: &mut ChaCha8Rng) -> u64 {
    if mean <= 0.0 { 0 } else { Poisson::new(mean).unwrap().sample(random) as u64 }
}

pub fn check(alpha: f64) -> PlannedCheck {
    let versus = Versus { max_ratio: 1.0, alpha, clear_ratio: 2.0, prove: true };
    PlannedCheck {
        name: "errors".into(),
        rule: Rule::Errors { max: None },
        window: Duration::from_secs(150),
        min_requests: 50,
        consecutive_failures: 1,
        versus: Some(versus),
        advisory: false,
        steps: Vec::new(),
        lag: Duration::ZERO,
        looks_apart: 1,
        without_evidence: None,
    }
}

/// A rollout in which looks are judged until one says Fail.
#[derive(Clone)]
pub struct Judged {
    evidence: Evidence,
    records: Vec<CheckRecord>,
    age: Duration,
}

impl Judged {
    pub fn new() -> Self {
        Self { evidence: Evidence::default(), records: Vec::new(), age: Duration::ZERO }
    }

    pub fn look(&mut self, checks: &[PlannedCheck], seen: Measurement) -> Verdict {
        self.sees(checks, &Look::new(DateTime::UNIX_EPOCH, Ok(seen)));
        self.records[0].verdict
    }

    /// What each of several checks says after a look.
    pub fn sees(&mut self, checks: &[PlannedCheck], look: &Look) -> &[CheckRecord] {
        self.age += Duration::from_secs_f64(LOOK);
        if let Ok(seen) = &look.counts {
            self.evidence.add(self.age, seen, &Needs::default());
        }
        self.evidence.compare(checks.iter(), look);
        let moment = Moment { age: self.age, settled_since: Duration::ZERO };
        self.records = judge(checks.iter(), &self.evidence, moment, look, &self.records);
        &self.records
    }

    /// After so many looks at stable alone.
    pub fn after(traffic: &Traffic, check: &PlannedCheck, looks: usize, random: &mut ChaCha8Rng) -> Self {
        let mut judged = Self::new();
        let alone = Traffic { share: |_| 0.0, incident: |_| 1.0, ..*traffic };
        for index in 0..looks {
            judged.look(std::slice::from_ref(check), alone.look(index, random));
        }
        judged
    }

    /// The look at which the canary is found to be worse, if it is.
    pub fn fails(
        mut self,
        traffic: &Traffic,
        check: &PlannedCheck,
        random: &mut ChaCha8Rng,
    ) -> Option<usize> {
        let checks = std::slice::from_ref(check);
        (0..HOUR).find(|index| self.look(checks, traffic.look(*index, random)) == Verdict::Fail)
    }
}
