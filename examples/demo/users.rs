//! Users: a steady stream of requests through the gateway, and what became of them as they saw it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::world::{Entry, MODEL};

/// Requests a second.
pub const RATE: u32 = 240;
/// How long single answers are remembered.
const MEMORY: Duration = Duration::from_secs(5);
/// A request of the open inference protocol.
const BODY: &str =
    r#"{"inputs": [{"name": "input", "datatype": "FP64", "shape": [4], "data": [5.1, 3.5, 1.4, 0.2]}]}"#;

/// One answer.
#[derive(Clone, Debug)]
struct Answer {
    at: Instant,
    by: String,
    failed: bool,
    took: Duration,
}

/// Answers of one predictor in a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub requests: u64,
    /// How many of them were answered with 500 or more.
    pub failed: u64,
    /// How long the half of them took at most.
    pub p50: Duration,
    /// How long 99% of them took at most.
    pub p99: Duration,
}

/// All answers of one predictor.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// How many.
    pub requests: u64,
    /// How many of them were answered with 500 or more.
    pub failed: u64,
    /// When the first of these was.
    pub first_failure: Option<DateTime<Utc>>,
    /// When the last of these was.
    pub last_failure: Option<DateTime<Utc>>,
}

#[derive(Default)]
struct Log {
    recent: VecDeque<Answer>,
    /// By predictor; empty where none answered.
    totals: BTreeMap<String, Total>,
}

/// Users who ask until this is dropped.
pub struct Users {
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

impl Users {
    /// Lets them ask.
    pub fn start(entry: Entry) -> Self {
        let log: Arc<Mutex<Log>> = Arc::default();
        let task = tokio::spawn(ask(entry, log.clone()));
        Self { log, task }
    }

    /// The answers of the last `time`, by predictor.
    pub fn last(&self, time: Duration) -> BTreeMap<String, Seen> {
        let mut taken: BTreeMap<String, (Seen, Vec<Duration>)> = BTreeMap::new();
        for answer in lock(&self.log).recent.iter().filter(|answer| answer.at.elapsed() <= time) {
            let (seen, times) = taken.entry(answer.by.clone()).or_default();
            seen.requests += 1;
            seen.failed += u64::from(answer.failed);
            times.push(answer.took);
        }
        taken.into_iter().map(|(by, (seen, times))| (by, timed(&seen, times))).collect()
    }

    /// All answers so far, by predictor; the empty name where no predictor answered.
    pub fn totals(&self) -> BTreeMap<String, Total> {
        lock(&self.log).totals.clone()
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timed(seen: &Seen, mut times: Vec<Duration>) -> Seen {
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied().unwrap_or_default()
    };
    Seen { p50: at(50), p99: at(99), ..seen.clone() }
}

async fn ask(entry: Entry, log: Arc<Mutex<Log>>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    // A busy machine asks late, but never less.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        tokio::spawn(one(entry.clone(), log.clone()));
    }
}

async fn one(entry: Entry, log: Arc<Mutex<Log>>) {
    let started = Instant::now();
    let (status, by) = entry.ask(&format!("/v2/models/{MODEL}/infer"), BODY).await;
    let (took, failed) = (started.elapsed(), status == 0 || status >= 500);
    lock(&log).note(Answer { at: Instant::now(), by, failed, took }, Utc::now());
}

impl Log {
    fn note(&mut self, answer: Answer, now: DateTime<Utc>) {
        let total = self.totals.entry(answer.by.clone()).or_default();
        total.requests += 1;
        if answer.failed {
            total.failed += 1;
            total.first_failure.get_or_insert(now);
            total.last_failure = Some(now);
        }
        while self.recent.front().is_some_and(|oldest| oldest.at.elapsed() > MEMORY) {
            self.recent.pop_front();
        }
        self.recent.push_back(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_ranks() {
        let times = |n: u64| (1..=n).rev().map(Duration::from_millis).collect::<Vec<_>>();
        let of = |n| {
            let seen = timed(&Seen::default(), times(n));
            (seen.p50.as_millis(), seen.p99.as_millis())
        };
        assert_eq!((of(0), of(1), of(2), of(100), of(200)), ((0, 0), (1, 1), (1, 2), (50, 99), (100, 198)));
    }
}
