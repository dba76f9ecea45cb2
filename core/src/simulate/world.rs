//! The world of a rehearsal: a clock, two arms, users and people, and routes that show what was decided.

use std::{collections::BTreeMap, time::Duration};

use chrono::DateTime;

use super::{
    Users, arms,
    chance::Chance,
    ending::{Ending, Held},
    queries::Answer,
    replies::{Reply, replies},
    scenario::{Arm, Event, Scenario},
};
use crate::{
    Predictor,
    api::{Decision, Do, Given, RolloutStatus},
    judge::{Availability, Bound, Counts, HISTORY, Look, Measurement, Trouble, TroubleKind},
    machine::{self, Asked, Change, Facts, Frozen, Outcome, SeenTraffic, State},
    plan::{Divided, MetricsPlan, Plan, Rule},
};

/// Decisions that follow from one another at once.
const MOST_TURNS: usize = 6;
const UID: &str = "rehearsal";
const GONE: &str = "the metrics source does not answer";

/// What both arms answered.
#[derive(Clone, Debug, Default)]
struct Answered {
    stable: Counts,
    to_users: Counts,
    copies: Counts,
}

pub(super) struct World<'a> {
    plan: &'a Plan,
    /// How everything is now: the scenario with what has happened.
    scenario: Scenario,
    /// What is still to happen, the next one last.
    to_come: Vec<Event>,
    chance: Chance,
    now: Duration,
    looked: Duration,
    /// What was answered since a look last saw anything: counters go on while nobody can read them.
    unseen: Answered,
    state: State,
    status: RolloutStatus,
    availability: Availability,
    metrics: bool,
    frozen: bool,
    asked: Vec<Asked>,
    replies: Vec<Reply>,
    bounds: Vec<Bound>,
    users: Users,
    /// What stable answered before the canary was wanted, once that is of interest.
    before: Option<Vec<Measurement>>,
    over: Option<Ending>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, scenario: &Scenario, seed: Option<u64>) -> Self {
        let mut to_come = scenario.events.clone();
        // Of one time they happen in the order in which they are written.
        to_come.reverse();
        to_come.sort_by_key(|event| std::cmp::Reverse(event.at));
        Self {
            plan,
            scenario: scenario.clone(),
            to_come,
            chance: Chance::new(seed),
            now: Duration::ZERO,
            looked: Duration::ZERO,
            unseen: Answered::default(),
            state: State::default(),
            status: RolloutStatus::default(),
            availability: Availability::default(),
            metrics: true,
            frozen: false,
            asked: Vec::new(),
            replies: Vec::new(),
            bounds: bounds(plan),
            users: Users::default(),
            before: None,
            over: None,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn users(&self) -> Users {
        self.users
    }

    /// What people were answered without a decision.
    pub(super) fn replies(self) -> Vec<Reply> {
        self.replies
    }

    pub(super) fn wait(&mut self) {
        self.now += self.plan.interval;
    }

    /// Lets happen what is due, looks, and decides until there is nothing more to decide.
    pub(super) fn turn(&mut self) -> Vec<Decision> {
        let mut since = self.looked;
        while let Some(event) = self.to_come.pop_if(|event| event.at.0 <= self.now) {
            let at = event.at.0.max(since);
            self.users_ask(at.saturating_sub(since));
            since = at;
            self.happen(event);
        }
        self.users_ask(self.now.saturating_sub(since));
        let mut look = self.look();
        let mut elapsed = self.now.saturating_sub(self.looked);
        self.looked = self.now;
        let mut decisions = Vec::new();
        for _ in 0..MOST_TURNS {
            let facts = self.facts(elapsed, look.take());
            elapsed = Duration::ZERO;
            let (state, change) = machine::step(Some(self.plan), &self.state, &facts);
            self.replies.extend(replies(self.now, &self.asked, &self.state, &state));
            let decision = match change {
                Change::Decision(decision) => Some(decision),
                Change::Nothing | Change::Checkpoint => None,
            };
            self.state = state;
            let Some(decision) = decision else { break };
            // What was answered before a step is no evidence of it.
            self.unseen = Answered::default();
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
        let outcome = self.state.outcome(&canary());
        // What is in flight, or is about to be tried again, has not ended, whatever became of it before.
        if self.state.in_flight() || outcome.is_some_and(|ended| ended.outcome == Outcome::Retried) {
            self.over = None;
            return;
        }
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
        self.scenario.stable.change(stable.as_ref());
        self.scenario.canary.change(canary.as_ref());
        self.scenario.queries.extend(queries);
        self.metrics = metrics.unwrap_or(self.metrics);
        self.frozen = frozen.unwrap_or(self.frozen);
        if let Some(what) = what {
            // Several may ask between two looks, and each is heard.
            let uid = format!("{UID}-{}", self.asked.len());
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

    /// Users send requests for a while, as things are now.
    fn users_ask(&mut self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let given = self.given();
        let matching = self.scenario.matching.map_or(0.0, crate::api::Share::fraction);
        let requests = self.scenario.requests * time.as_secs_f64();
        let Divided { stable: of_stable, canary: of_canary, copies } =
            Divided::of(requests, matching, &given);
        let clump = self.scenario.clump.unwrap_or(1);
        let mut answers = |number, arm: &Arm, requests| {
            arms::answers(&mut self.chance, number, arm, requests, clump, &self.bounds)
        };
        let stable = answers(0, &self.scenario.stable, of_stable);
        let to_users = answers(1, &self.scenario.canary, of_canary);
        let copied = answers(2, &self.scenario.canary, copies);
        self.users.requests = self.users.requests.saturating_add(to_users.requests);
        self.users.errors = self.users.errors.saturating_add(to_users.errors);
        let before = std::mem::take(&mut self.unseen);
        self.unseen = Answered {
            stable: sum(stable, &before.stable),
            to_users: sum(to_users, &before.to_users),
            copies: sum(copied, &before.copies),
        };
    }

    /// What a look sees of it.
    fn look(&mut self) -> Option<Look> {
        self.plan.metrics.as_ref()?;
        let (now, first) = (self.now, self.now.is_zero());
        let trouble = |kind, message: &str| Trouble { kind, message: message.to_owned() };
        let counts = match (self.metrics, first) {
            (false, _) => Err(trouble(TroubleKind::Unavailable, GONE)),
            (true, true) => Err(trouble(TroubleKind::Baseline, "first look")),
            (true, false) => {
                let Answered { stable, to_users, copies } = std::mem::take(&mut self.unseen);
                let retiring = BTreeMap::from([
                    (canary().revision(), to_users.requests),
                    (self::stable().revision(), stable.requests),
                ]);
                Ok(Measurement { stable, canary: sum(to_users, &copies), retiring })
            }
        };
        let requests = counts.as_ref().map_or((0, 0), |seen| (seen.canary.requests, seen.stable.requests));
        let mut look = Look::new(DateTime::UNIX_EPOCH + now, counts);
        self.queries(&mut look, requests);
        if self.state.step().is_some_and(|step| step.evidence.lacks_history(self.plan.checks.iter())) {
            look.history.clone_from(self.history());
        }
        self.availability.saw(&look, true, now);
        Some(look)
    }

    /// What stable answered before the canary was wanted. Pods that are scraped know nothing of it.
    fn history(&mut self) -> &Vec<Measurement> {
        let looks = match self.plan.metrics {
            Some(MetricsPlan::Source { .. }) => HISTORY,
            Some(MetricsPlan::Scrape { .. }) | None => 0,
        };
        let requests = self.scenario.requests * self.plan.interval.as_secs_f64();
        let (arm, clump) = (self.scenario.stable.clone(), self.scenario.clump.unwrap_or(1));
        let (chance, bounds) = (&mut self.chance, &self.bounds);
        self.before.get_or_insert_with(|| {
            let stable = |_| arms::answers(chance, 3, &arm, requests, clump, bounds);
            (0..looks).map(stable).map(|stable| Measurement { stable, ..Measurement::default() }).collect()
        })
    }

    /// What the queries answer; the arms had so many `requests`, the canary's first.
    fn queries(&mut self, look: &mut Look, (canary, stable): (u64, u64)) {
        let trouble = |kind, message: &str| Trouble { kind, message: message.to_owned() };
        for (index, check) in self.plan.checks.iter().enumerate() {
            let Rule::Query { total, .. } = &check.rule else { continue };
            let answer = match self.scenario.queries.get(&check.name).copied() {
                _ if !self.metrics => Err(trouble(TroubleKind::Unavailable, GONE)),
                None => Err(trouble(TroubleKind::NoData, "the scenario has no answer to this query")),
                Some(answer) => Ok(answer),
            };
            if check.has_limit() {
                look.queries.insert(check.name.clone(), answer.clone().map(Answer::about_the_canary));
            }
            if check.versus.is_some() {
                let sort = arms::FREE_SORTS + 2 * index;
                let both = answer.and_then(|answer| match total {
                    Some(_) => answer.counted(&mut self.chance, sort, canary, stable),
                    None => answer.scored(&mut self.chance),
                });
                look.compared.insert(check.name.clone(), both);
            }
        }
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
            stable_missing: None,
            canary_missing: None,
            serves: BTreeMap::new(),
            look,
            metrics: self.availability.said().cloned(),
            actions: self.asked.clone(),
        }
    }
}

fn sum(one: Counts, other: &Counts) -> Counts {
    let mut slower = one.slower;
    for (bound, count) in &other.slower {
        let both = slower.entry(*bound).or_default();
        *both = both.saturating_add(*count);
    }
    let requests = one.requests.saturating_add(other.requests);
    Counts { requests, errors: one.errors.saturating_add(other.errors), slower }
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
