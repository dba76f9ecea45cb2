//! What the checks of a plan would have said of looks that were recorded: the same evidence, limits and comparisons as in
//! a rollout, over one step that began with the first look and does not end.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    api::CheckRecord,
    judge::{Counts, Evidence, Look, Measurement, Moment, Trouble, Verdict, judge, lacks_evidence, overall},
    plan::{Plan, PlannedCheck, Rule},
};

/// So many changes of a verdict are kept; the others are counted.
const KEPT_CHANGES: usize = 10_000;
/// Between two scrapes looks see nothing new. Only what lasts longer is told: that nobody knows anything then.
const SILENCE: TimeDelta = TimeDelta::minutes(2);

/// A replay under way.
#[derive(Clone, Debug)]
pub struct Replay {
    plan: Plan,
    began: DateTime<Utc>,
    evidence: Evidence,
    /// What stable alone answered before the first look.
    before: Vec<Measurement>,
    records: Vec<CheckRecord>,
    /// Since when no look saw anything new.
    silent_since: Option<DateTime<Utc>>,
    /// What each check said last that was told.
    shown: Vec<Option<Verdict>>,
    told: Replayed,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// How many looks there were.
    pub looks: u64,
    /// How many of them saw no new sample of the arms, as between two scrapes.
    pub silent: u64,
    /// The first and the last look at which the counters of the arms had something new.
    pub counted: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Why the last look without new counters had none.
    pub trouble: Option<Trouble>,
    /// What stable answered in all.
    pub stable: Counts,
    /// What the canary answered in all.
    pub canary: Counts,
    /// What became of each check, in the order of the plan.
    pub checks: Vec<Summary>,
    /// Every change of a verdict, in the order of time; what it was at looks that saw nothing new only where that lasted.
    pub changes: Vec<(DateTime<Utc>, CheckRecord)>,
    /// Changes that were too many to be kept.
    pub more_changes: u64,
    /// When a rollout would have been rolled back, and the checks that did it.
    pub stopped: Option<(DateTime<Utc>, Vec<CheckRecord>)>,
    /// Whether after the last look some check lacked the evidence that a step needs in order to end.
    pub lacks_evidence: bool,
}

/// What one check said over all looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Name of the check.
    pub name: String,
    /// Whether it reports and never acts.
    pub advisory: bool,
    /// Looks after which it said Pass, Inconclusive and Fail.
    pub said: [u64; 3],
    /// The first look after which it said Fail, and what it said.
    pub first_fail: Option<(DateTime<Utc>, CheckRecord)>,
}

/// What follows from a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No check failed, and after the last look none lacked evidence.
    Passed,
    /// A check failed: a rollout would have been rolled back.
    RolledBack,
    /// No check failed, and some could not tell.
    Unknown,
}

impl Replay {
    /// A replay of a step that began at `began`, its traffic in place, with a look `every` so often, which need not be the
    /// plan's interval; `before` is what stable alone answered before that.
    pub fn new(plan: &Plan, every: Duration, began: DateTime<Utc>, before: Vec<Measurement>) -> Self {
        let plan = plan.looking_every(every);
        let summary = |check: &PlannedCheck| Summary {
            name: check.name.clone(),
            advisory: check.advisory,
            said: [0; 3],
            first_fail: None,
        };
        let told = Replayed {
            looks: 0,
            silent: 0,
            counted: None,
            trouble: None,
            stable: Counts::default(),
            canary: Counts::default(),
            checks: plan.checks.iter().map(summary).collect(),
            changes: Vec::new(),
            more_changes: 0,
            stopped: None,
            lacks_evidence: true,
        };
        let (evidence, records, shown) = (Evidence::default(), Vec::new(), vec![None; plan.checks.len()]);
        Self { plan, began, evidence, before, records, silent_since: None, shown, told }
    }

    /// Takes in a look. All checks are asked, those too that are for some steps only.
    pub fn saw(&mut self, look: &Look) {
        let age = (look.at - self.began).to_std().unwrap_or(Duration::ZERO);
        let moment = Moment { age, settled_since: Duration::ZERO };
        match &look.counts {
            Ok(seen) => {
                self.silent_since = None;
                self.evidence.add(age, seen, &self.plan.needs());
                let first = self.told.counted.map_or(look.at, |(first, _)| first);
                self.told.counted = Some((first, look.at));
                for (all, more) in
                    [(&mut self.told.stable, &seen.stable), (&mut self.told.canary, &seen.canary)]
                {
                    all.requests = all.requests.saturating_add(more.requests);
                    all.errors = all.errors.saturating_add(more.errors);
                }
            }
            Err(trouble) => {
                self.told.silent += 1;
                self.told.trouble = Some(trouble.clone());
                self.silent_since.get_or_insert(look.at);
            }
        }
        let comparing = self.plan.checks.iter().filter(|check| moment.is_past(check.lag));
        if self.evidence.lacks_history(self.plan.checks.iter()) {
            let look = Look { history: self.before.clone(), ..look.clone() };
            self.evidence.compare(comparing, &look);
        } else {
            self.evidence.compare(comparing, look);
        }
        let records = judge(self.plan.checks.iter(), &self.evidence, moment, look, &self.records);
        self.told.note(look.at, &records);
        self.changed(look.at, &records);
        self.records = records;
    }

    /// Notes what each check says that said something else before.
    fn changed(&mut self, at: DateTime<Utc>, records: &[CheckRecord]) {
        let silent = self.silent_since.is_some_and(|since| at - since < SILENCE);
        for ((record, check), shown) in records.iter().zip(&self.plan.checks).zip(&mut self.shown) {
            let nothing_new = silent && is_counted(check);
            if !nothing_new && *shown != Some(record.verdict) {
                *shown = Some(record.verdict);
                self.told.change(at, record);
            }
        }
        let new = |(record, check): &(&CheckRecord, &PlannedCheck)| {
            !(silent && is_counted(check)) && lacks_evidence(record)
        };
        let counted_before = silent && self.told.lacks_evidence;
        self.told.lacks_evidence =
            counted_before || records.iter().zip(&self.plan.checks).any(|pair| new(&pair));
    }

    /// What was found.
    pub fn end(self) -> Replayed {
        self.told
    }
}

impl Replayed {
    fn note(&mut self, at: DateTime<Utc>, records: &[CheckRecord]) {
        self.looks += 1;
        for (summary, record) in self.checks.iter_mut().zip(records) {
            summary.said[record.verdict as usize] += 1;
            if record.verdict == Verdict::Fail && summary.first_fail.is_none() {
                summary.first_fail = Some((at, record.clone()));
            }
        }
        if overall(records) == Verdict::Fail && self.stopped.is_none() {
            let acts = |record: &&CheckRecord| record.verdict == Verdict::Fail && !record.advisory;
            self.stopped = Some((at, records.iter().filter(acts).cloned().collect()));
        }
    }

    fn change(&mut self, at: DateTime<Utc>, record: &CheckRecord) {
        if self.changes.len() < KEPT_CHANGES {
            self.changes.push((at, record.clone()));
        } else {
            self.more_changes += 1;
        }
    }

    /// What follows.
    pub fn outcome(&self) -> Outcome {
        match (&self.stopped, self.lacks_evidence) {
            (Some(_), _) => Outcome::RolledBack,
            (None, true) => Outcome::Unknown,
            (None, false) => Outcome::Passed,
        }
    }
}

/// Whether any check of the plan needs the counters of the arms.
pub fn counts_requests(plan: &Plan) -> bool {
    plan.checks.iter().any(is_counted)
}

fn is_counted(check: &PlannedCheck) -> bool {
    match check.rule {
        Rule::Errors { .. } | Rule::Latency { .. } => true,
        Rule::Query { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::judge::{Both, TroubleKind};

    fn plan(checks: &serde_json::Value) -> Plan {
        let spec = json!({
            "target": {"service": {"name": "canary"}}, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 10, "for": "60s"}], "checks": checks, "interval": "10s",
        });
        Plan::new(&serde_json::from_value(spec).unwrap(), "replay").unwrap()
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    fn look(second: i64, canary: (u64, u64)) -> Look {
        let counts = |(requests, errors)| Counts { requests, errors, ..Counts::default() };
        let seen =
            Measurement { stable: counts((900, 9)), canary: counts(canary), retiring: BTreeMap::new() };
        Look::new(at(second), Ok(seen))
    }

    fn replayed(plan: &Plan, looks: impl IntoIterator<Item = Look>) -> Replayed {
        replayed_every(plan.interval, plan, looks)
    }

    fn replayed_every(every: Duration, plan: &Plan, looks: impl IntoIterator<Item = Look>) -> Replayed {
        let mut replay = Replay::new(plan, every, at(0), Vec::new());
        looks.into_iter().for_each(|look| replay.saw(&look));
        replay.end()
    }

    #[test]
    fn a_breach_is_found_at_its_look_and_everything_after_it_is_still_told() {
        let plan = plan(
            &json!([{"name": "errors", "errors": {"max": "1%", "window": "10s"}, "consecutiveFailures": 2}]),
        );
        let looks = (1..=10).map(|n| look(n * 10, (100, if (4..=6).contains(&n) { 9 } else { 0 })));
        let told = replayed(&plan, looks);
        let verdicts: Vec<(i64, Verdict)> = told
            .changes
            .iter()
            .map(|(when, record)| ((*when - at(0)).num_seconds(), record.verdict))
            .collect();
        // One bad look is not enough, the second one is.
        assert_eq!(
            verdicts,
            [(10, Verdict::Pass), (40, Verdict::Inconclusive), (50, Verdict::Fail), (70, Verdict::Pass)]
        );
        assert_eq!(told.checks[0].said, [7, 1, 2]);
        assert_eq!(told.checks[0].first_fail.as_ref().unwrap().0, at(50));
        let (when, by) = told.stopped.clone().unwrap();
        assert_eq!((when, by[0].canary.unwrap().bad), (at(50), 9));
        assert_eq!((told.outcome(), told.looks, told.canary.errors), (Outcome::RolledBack, 10, 27));
    }

    #[test]
    fn a_comparison_goes_on_over_all_looks() {
        let plan = plan(&json!([{"name": "errors", "errors": {"versusStable": {}}}]));
        let even = replayed(&plan, (1..=40).map(|n| look(n * 10, (100, 1))));
        assert_eq!(even.outcome(), Outcome::Passed);
        let worse = replayed(&plan, (1..=40).map(|n| look(n * 10, (100, 3))));
        assert_eq!(worse.outcome(), Outcome::RolledBack);
        let effect = worse.checks[0].first_fail.as_ref().unwrap().1.effect.unwrap();
        assert!(effect.worse >= 100.0, "{effect:?}");
    }

    #[test]
    fn numbers_are_compared_a_window_apart_however_often_one_looks() {
        let query = json!({
            "promql": "accuracy{service=\"{{canary.service}}\"}", "direction": "MoreIsBetter", "versusStable": {},
        });
        let plan = plan(&json!([{"name": "accuracy", "query": query}]));
        let found_after = |seconds: i64| {
            let looks = (1..=4000 / seconds).map(|n| {
                let mut look = look(n * seconds, (100, 0));
                let both = Both::Scored { canary: 0.8, stable: 0.9 };
                look.compared.insert("accuracy".to_owned(), Ok(both));
                look
            });
            let told = replayed_every(Duration::from_secs(seconds.unsigned_abs()), &plan, looks);
            (told.stopped.expect("it is worse").0 - at(0)).num_seconds()
        };
        let as_planned = found_after(10);
        assert!(as_planned > 600, "some twenty windows of 50 s: {as_planned}");
        for seconds in [1, 2, 5, 7, 25, 50] {
            let found = found_after(seconds);
            let late = found - as_planned;
            // Seven seconds are no part of a window: eight looks are 56.
            let longer = if seconds == 7 { as_planned / 8 + 7 } else { 50 };
            assert!((-50..=longer).contains(&late), "{found} and not {as_planned}, a look every {seconds} s");
        }
        // Where looks are further apart than a window each of them is a pair.
        assert!(found_after(100) > as_planned);
    }

    #[test]
    fn what_was_not_recorded_is_neither_good_nor_bad() {
        let plan = plan(&json!([{"name": "errors", "errors": {"max": "1%"}}]));
        let missing = || Trouble { kind: TroubleKind::NoData, message: "no new sample".to_owned() };
        let nothing = |second| Look::new(at(second), Err(missing()));
        // Between two scrapes it is as it was.
        let told = replayed(&plan, [look(10, (100, 0)), nothing(20), nothing(30)]);
        assert_eq!((told.outcome(), told.silent, told.changes.len()), (Outcome::Passed, 2, 1));
        // What lasts is an outage.
        let told = replayed(&plan, [look(10, (100, 0))].into_iter().chain((2..=20).map(|n| nothing(n * 10))));
        assert_eq!((told.outcome(), told.counted), (Outcome::Unknown, Some((at(10), at(10)))));
        assert_eq!(
            told.changes.last().map(|(when, record)| (*when, record.verdict)),
            Some((at(140), Verdict::Inconclusive))
        );
        assert_eq!(told.trouble.unwrap().message, "no new sample");
        assert_eq!(replayed(&plan, []).outcome(), Outcome::Unknown);
    }

    #[test]
    fn an_advisory_check_stops_nothing() {
        let plan = plan(&json!([{"name": "errors", "errors": {"max": "1%"}, "advisory": true}]));
        let told = replayed(&plan, (1..=5).map(|n| look(n * 10, (100, 50))));
        assert!(told.checks[0].first_fail.is_some());
        assert_eq!((told.stopped.is_none(), told.outcome()), (true, Outcome::Passed));
    }
}
