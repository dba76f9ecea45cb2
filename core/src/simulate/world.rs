//! The world of a rehearsal: a clock, two arms, users and people, and routes that show what was decided.

use std::{collections::BTreeMap, time::Duration};

use chrono::DateTime;

use super::{
    Users, arms,
    chance::Chance,
    ending::{Ending, Held},
    scenario::{Arm, Event, Scenario},
};
use crate::{
    Predictor,
    api::{Decision, Do, Given, RolloutStatus},
    judge::{Availability, Bound, Counts, Look, Measurement, Trouble, TroubleKind},
    machine::{self, Asked, Change, Facts, Frozen, SeenTraffic, State},
    plan::{Plan, Rule},
};

/// Decisions that follow from one another at once.
const MOST_TURNS: usize = 6;
const UID: &str = "rehearsal";

pub(super) struct World<'a> {
    plan: &'a Plan,
    /// How everything is now: the scenario with what has happened.
    scenario: Scenario,
    /// What is still to happen, the next one last.
    to_come: Vec<Event>,
    chance: Chance,
    now: Duration,
    looked: Duration,
    state: State,
    status: RolloutStatus,
    availability: Availability,
    metrics: bool,
    frozen: bool,
    asked: Vec<Asked>,
    bounds: Vec<Bound>,
    users: Users,
    over: Option<Ending>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, scenario: &Scenario, seed: Option<u64>) -> Self {
        let mut to_come = scenario.events.clone();
        to_come.sort_by_key(|event| std::cmp::Reverse(event.at));
        Self {
            plan,
            scenario: scenario.clone(),
            to_come,
            chance: Chance::new(seed),
            now: Duration::ZERO,
            looked: Duration::ZERO,
            state: State::default(),
            status: RolloutStatus::default(),
            availability: Availability::default(),
            metrics: true,
            frozen: false,
            asked: Vec::new(),
            bounds: bounds(plan),
            users: Users::default(),
            over: None,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn users(&self) -> Users {
        self.users
    }

    pub(super) fn wait(&mut self) {
        self.now += self.plan.interval;
    }

    /// Lets happen what is due, looks, and decides until there is nothing more to decide.
    pub(super) fn turn(&mut self) -> Vec<Decision> {
        while let Some(event) = self.to_come.pop_if(|event| event.at.0 <= self.now) {
            self.happen(event);
        }
        let mut look = self.look();
        let mut elapsed = self.now.saturating_sub(self.looked);
        self.looked = self.now;
        let mut decisions = Vec::new();
        for _ in 0..MOST_TURNS {
            let facts = self.facts(elapsed, look.take());
            elapsed = Duration::ZERO;
            let (state, change) = machine::step(Some(self.plan), &self.state, &facts);
            let decision = match change {
                Change::Decision(decision) => Some(decision),
                Change::Nothing | Change::Checkpoint => None,
            };
            self.state = state;
            let Some(decision) = decision else { break };
            self.end_of(&decision);
            decisions.push(decision);
        }
        if self.over.is_none() && self.now >= self.scenario.length() {
            let facts = self.facts(Duration::ZERO, None);
            let status = machine::report(Some(self.plan), &self.state, &facts, None, &self.status, None);
            let held = Held { phase: status.phase, reason: status.reason, message: status.message };
            self.over = Some(Ending::Held(held));
        }
        decisions
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.over.clone()
    }

    fn end_of(&mut self, decision: &Decision) {
        let outcome = self.state.outcome(&canary()).filter(|_| !self.state.in_flight());
        // A retry that is still to come may make more of it.
        let more = self.to_come.iter().any(|event| event.what == Some(Do::Retry));
        self.over = match outcome {
            Some(_) if self.state.stable.as_ref() == Some(&canary()) => Some(Ending::Promoted),
            Some(ended) if ended.seq == decision.seq && !more => {
                Some(Ending::Over { outcome: ended.outcome, reason: ended.reason, at: self.now })
            }
            Some(_) | None => self.over.take(),
        };
    }

    fn happen(&mut self, event: Event) {
        let Event { at: _, requests, stable, canary, queries, metrics, what, frozen } = event;
        self.scenario.requests = requests.unwrap_or(self.scenario.requests);
        change(&mut self.scenario.stable, stable.as_ref());
        change(&mut self.scenario.canary, canary.as_ref());
        self.scenario.queries.extend(queries);
        self.metrics = metrics.unwrap_or(self.metrics);
        self.frozen = frozen.unwrap_or(self.frozen);
        if let Some(what) = what {
            let uid = format!("{UID}-{}", self.now.as_nanos());
            let by = Some("someone".to_owned());
            let rollout_uid = Some(UID.to_owned());
            // They name what the status shows them, as the command does.
            let revision = Some(self::canary().revision());
            let step = self.state.step().and_then(|step| u32::try_from(step.index + 1).ok());
            self.asked.push(Asked { uid, what, revision, step, reason: None, by, rollout_uid });
        }
    }

    /// What the canary gets.
    fn given(&self) -> Given {
        let Some(setting) = machine::desired(Some(self.plan), &self.state) else { return Given::default() };
        if setting.takes_away() {
            return Given::default();
        }
        self.state.step().map_or_else(Given::default, |step| self.plan.given(step.index))
    }

    /// What both arms answered since the last look.
    fn look(&mut self) -> Option<Look> {
        let seconds = self.now.saturating_sub(self.looked).as_secs_f64();
        let given = self.given();
        let matching = self.scenario.matching.map_or(0.0, crate::api::Share::fraction);
        let (of_stable, of_canary, copies) =
            arms::divided(self.scenario.requests * seconds, matching, &given);
        let clump = self.scenario.clump.unwrap_or(1);
        let mut answers = |number, arm: &Arm, requests| {
            arms::answers(&mut self.chance, number, arm, requests, clump, &self.bounds)
        };
        let stable = answers(0, &self.scenario.stable, of_stable);
        let seen_by_users = answers(1, &self.scenario.canary, of_canary);
        let copied = answers(2, &self.scenario.canary, copies);
        self.users.requests += seen_by_users.requests;
        self.users.errors += seen_by_users.errors;
        self.plan.metrics.as_ref()?;
        let (now, first) = (self.now, self.now.is_zero());
        let trouble = |kind, message: &str| Trouble { kind, message: message.to_owned() };
        let gone = trouble(TroubleKind::Unavailable, "the metrics source does not answer");
        let counts = match (self.metrics, first) {
            (false, _) => Err(gone.clone()),
            (true, true) => Err(trouble(TroubleKind::Baseline, "first look")),
            (true, false) => {
                let retiring = BTreeMap::from([
                    (canary().revision(), seen_by_users.requests),
                    (self::stable().revision(), stable.requests),
                ]);
                Ok(Measurement { stable, canary: sum(seen_by_users, &copied), retiring })
            }
        };
        let queries =
            self.plan.checks.iter().filter(|check| matches!(check.rule, Rule::Query { .. })).map(|check| {
                let nothing = || trouble(TroubleKind::NoData, "the scenario has no answer to this query");
                let answer = self.scenario.queries.get(&check.name).copied().ok_or_else(nothing);
                (check.name.clone(), if self.metrics { answer } else { Err(gone.clone()) })
            });
        let look = Look { at: DateTime::UNIX_EPOCH + now, counts, queries: queries.collect() };
        self.availability.saw(&look, true, now);
        Some(look)
    }

    fn facts(&self, elapsed: Duration, look: Option<Look>) -> Facts {
        let ready = |arm: &Arm| arm.ready.unwrap_or(1) as usize;
        let weighted = vec![self.state.stable.clone().unwrap_or_else(stable)];
        let stamp = self.state.stable.is_some().then(|| machine::stamp(Some(self.plan), &self.state, UID));
        Facts {
            now: DateTime::UNIX_EPOCH + self.now,
            elapsed,
            wanted: Some(canary()),
            refusal: None,
            deleted: false,
            paused: false,
            frozen: self.frozen.then(|| Frozen {
                namespace: "sluice-system".to_owned(),
                name: "rehearsal".to_owned(),
                everywhere: true,
                by: None,
                reason: "the scenario says so".to_owned(),
            }),
            uid: UID.to_owned(),
            had_status: self.state.stable.is_some(),
            traffic: Some(SeenTraffic { in_place: true, stamp, weighted, ..SeenTraffic::default() }),
            stable_ready: ready(&self.scenario.stable),
            canary_ready: ready(&self.scenario.canary),
            serves: BTreeMap::new(),
            look,
            metrics: self.availability.said().cloned(),
            actions: self.asked.clone(),
        }
    }
}

fn change(arm: &mut Arm, to: Option<&Arm>) {
    let Some(Arm { errors, latency, ready }) = to else { return };
    arm.errors = errors.or(arm.errors);
    arm.latency = latency.or(arm.latency);
    arm.ready = ready.or(arm.ready);
}

fn sum(one: Counts, other: &Counts) -> Counts {
    let mut slower = one.slower;
    for (bound, count) in &other.slower {
        *slower.entry(*bound).or_default() += count;
    }
    Counts { requests: one.requests + other.requests, errors: one.errors + other.errors, slower }
}

/// The bounds that histograms have here: those that are looked for.
fn bounds(plan: &Plan) -> Vec<Bound> {
    let mut bounds = plan.latency_bounds();
    bounds.sort_unstable();
    bounds.dedup();
    bounds
}

/// What the two predictors of a rehearsal are called.
fn stable() -> Predictor {
    Predictor::new("rehearsal", "stable", 80)
}

fn canary() -> Predictor {
    Predictor::new("rehearsal", "canary", 80)
}
