//! The story: two releases, what happens to them, and whether it was what should happen.

use std::time::Duration;

use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use sluice_core::api::{Phase, Rollout};

use crate::{
    check::{self, Finding, Version},
    diff,
    moment::{Moment, Point},
    screen::Screen,
    users::{Total, Users},
    words,
    world::World,
};

/// How often the world is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a point is added to the history.
const POINT_EVERY: Duration = Duration::from_millis(500);
/// The longest that a release may take: several times what it needs, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
/// The share of its requests that the bad release fails once it is broken.
const BROKEN: f64 = 0.2;
/// The weight at which it breaks.
const BREAKS_AT: u64 = 25;

/// Tells the story.
pub struct Story<'a> {
    world: &'a World,
    screen: &'a mut Screen,
    users: Users,
    began: DateTime<Utc>,
    /// The last decision that was told.
    told: u64,
    history: Vec<Point>,
    next_point: Duration,
    /// Whether the bad release is to break, and when it did.
    breaks: bool,
    broke: Option<DateTime<Utc>>,
}

/// What the world looks like.
struct Seen {
    rollout: Rollout,
    route: Vec<(String, u64)>,
}

impl Seen {
    fn is(&self, phase: Phase) -> bool {
        self.rollout.status.as_ref().is_some_and(|status| status.phase == phase)
    }

    fn is_alone(&self, service: &str) -> bool {
        self.route == [(service.to_owned(), 100)]
    }
}

impl<'a> Story<'a> {
    /// The beginning: users ask already.
    pub fn new(world: &'a World, screen: &'a mut Screen) -> Self {
        Self {
            users: Users::start(world.entry()),
            world,
            screen,
            began: Utc::now(),
            told: 0,
            history: Vec::new(),
            next_point: Duration::ZERO,
            breaks: false,
            broke: None,
        }
    }

    /// Tells it to the end. Whether it ended as it should.
    pub async fn tell(mut self) -> Result<bool> {
        self.screen.say(&words::beginning(self.world.is_real()), 14)?;
        self.until("the controller adopts iris-v1", |seen| seen.is(Phase::Healthy)).await?;
        self.watch(Duration::from_secs(2)).await?;
        let good = self.good_release().await?;
        self.watch(Duration::from_millis(1500)).await?;
        let bad = self.bad_release().await?;
        self.watch(Duration::from_millis(500)).await?;
        self.screen.close()?;
        let versions = self.versions();
        let mut all: Vec<Finding> = good.into_iter().chain(bad).collect();
        all.extend([check::weights_add_up(&versions), check::rest_is_unchanged(&versions)]);
        let well = all.iter().all(|finding| finding.holds);
        self.screen.say(&words::end(well, self.elapsed(), self.world.counted_by()), 2)?;
        self.screen.say(&words::findings(&all), 4)?;
        self.screen.say(&words::what_next(), 26)?;
        Ok(well)
    }

    async fn good_release(&mut self) -> Result<Vec<Finding>> {
        let from = self.versions().len();
        let way: Vec<u64> = [0].into_iter().chain(self.weights()?).collect();
        self.release("A good release", "iris-v2").await?;
        let promoted = |seen: &Seen| seen.is_alone("iris-v2") && seen.is(Phase::Healthy);
        self.until("iris-v2 is promoted", promoted).await?;
        let before = self.world.delivered();
        let versions = self.versions();
        let (first, last) = (&versions[from - 1], &versions[versions.len() - 1]);
        let diff = diff::changes(&first.object, &last.object);
        let title = "the VirtualService, before and after";
        self.screen.say(&words::difference(title, diff, "no difference"), 6)?;
        self.watch(Duration::from_secs(2)).await?;
        let failed: u64 = self.users.totals().values().map(|total| total.failed).sum();
        let took = last.at - versions.get(from).map_or(first.at, |version| version.at);
        let took = format!("{}.{} s", took.num_seconds(), took.num_milliseconds() % 1000 / 100);
        Ok(vec![
            check::took_this_way(&versions[from - 1..], "iris-v2", &way, "iris-v2"),
            check::all_went_to(self.world.counted_by(), "iris-v2", &before, &self.world.delivered()),
            Finding::new(failed == 0, format!("it took {took}, and {} failed", requests(failed))),
        ])
    }

    async fn bad_release(&mut self) -> Result<Vec<Finding>> {
        let from = self.versions().len();
        let asked = self.requests();
        let weights = self.weights()?;
        let broken = weights.iter().position(|weight| *weight >= BREAKS_AT).unwrap_or(weights.len());
        let way: Vec<u64> = [0].into_iter().chain(weights.into_iter().take(broken + 1)).chain([0]).collect();
        self.breaks = true;
        self.release(&format!("A release that breaks when it gets {BREAKS_AT}%"), "iris-v3").await?;
        let gone = |seen: &Seen| seen.is_alone("iris-v2") && seen.is(Phase::RolledBack);
        self.until("iris-v3 is rolled back", gone).await?;
        let before = self.world.delivered();
        let versions = self.versions()[from - 1..].to_vec();
        let (first, last) = (&versions[0], &versions[versions.len() - 1]);
        let heaviest = versions.iter().max_by_key(|version| check::weight(&version.route, "iris-v3"));
        let diff = diff::changes(&first.object, &heaviest.unwrap_or(first).object);
        self.screen.say(
            &words::difference("the VirtualService, before and at its height", diff, "no difference"),
            6,
        )?;
        let diff = diff::changes(&first.object, &last.object);
        self.screen.say(&words::difference("before and after the rollback", diff, "no difference"), 6)?;
        self.watch(Duration::from_secs(2)).await?;
        let mut findings = vec![
            check::took_this_way(&versions, "iris-v3", &way, "iris-v2"),
            check::all_went_to(self.world.counted_by(), "iris-v2", &before, &self.world.delivered()),
        ];
        findings.push(self.price(&versions, asked));
        Ok(findings)
    }

    /// What the bad release cost: how long it failed requests, and how many.
    fn price(&self, versions: &[Version], asked: u64) -> Finding {
        let totals = self.users.totals();
        let canary = totals.get("iris-v3").cloned().unwrap_or_default();
        let others: u64 = totals.values().map(|total| total.failed).sum::<u64>() - canary.failed;
        let zero = self.zero(versions, &canary);
        let (Some(first), Some(zero)) = (canary.first_failure, zero) else {
            return Finding::new(false, "iris-v3 never failed a request, or never lost its traffic");
        };
        let took = (zero - first).num_milliseconds();
        let text = format!(
            "{}.{} s from its first failed request to weight 0; of {} requests it failed {}{}",
            took / 1000,
            took % 1000 / 100,
            self.requests() - asked,
            canary.failed,
            if others == 0 { String::new() } else { format!(", and {} failed otherwise", requests(others)) },
        );
        Finding::new(took >= 0, text)
    }

    /// When the VirtualService gave the broken canary nothing any more.
    fn zero(&self, versions: &[Version], canary: &Total) -> Option<DateTime<Utc>> {
        let broke = self.broke.or(canary.first_failure)?;
        let after = versions.iter().filter(|version| version.at > broke);
        after
            .into_iter()
            .find(|version| check::weight(&version.route, "iris-v3") == 0)
            .map(|version| version.at)
    }

    async fn release(&mut self, title: &str, service: &str) -> Result<()> {
        let patch = format!("'{{\"spec\":{{\"target\":{{\"service\":{{\"name\":\"{service}\"}}}}}}}}'");
        let command = format!("kubectl patch rollout iris --type merge -p {patch}");
        self.screen.say(&words::act(title, &command), 2)?;
        self.world.release(service).await
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Seen) -> bool) -> Result<()> {
        let limit = self.elapsed() + LIMIT;
        loop {
            let seen = self.look()?;
            if done(&seen) {
                return Ok(());
            }
            if self.world.controller_ended() {
                bail!("the controller ended before {what}");
            }
            if self.elapsed() > limit {
                let message = seen.rollout.status.map(|status| status.message).unwrap_or_default();
                bail!("not within {}s: {what}; the Rollout says: {message:?}", LIMIT.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn watch(&mut self, time: Duration) -> Result<()> {
        let end = self.elapsed() + time;
        while self.elapsed() < end {
            self.look()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Looks at the world, breaks the bad release when it is time, tells what is new, and shows it.
    fn look(&mut self) -> Result<Seen> {
        let rollout = self.world.rollout()?;
        let route = check::route(self.world.virtual_service()?.as_ref());
        let status = rollout.status.clone().unwrap_or_default();
        let whole = matches!(self.screen, Screen::Plain(_));
        for decision in status.decisions.iter().filter(|decision| decision.seq > self.told) {
            let elapsed = (decision.at - self.began).to_std().unwrap_or_default();
            self.screen.say(&[words::decision(decision, elapsed, whole)], words::INDENT)?;
        }
        self.told = status.seq;
        if self.breaks && check::weight(&route, "iris-v3") >= BREAKS_AT {
            self.breaks = false;
            self.world.v3.predictor.set_errors(BROKEN);
            self.broke = Some(Utc::now());
            let text = "iris-v3 breaks: from now on it fails one request in five";
            self.screen.say(&[words::deed(self.elapsed(), text)], words::INDENT)?;
        }
        let mut moment = Moment::of(self.elapsed(), &rollout, &self.users);
        if self.elapsed() >= self.next_point {
            self.next_point += POINT_EVERY;
            self.history.push(moment.point());
        }
        moment.history.clone_from(&self.history);
        self.screen.show(&moment)?;
        Ok(Seen { rollout, route })
    }

    /// The weights of all steps and of the promotion.
    fn weights(&self) -> Result<Vec<u64>> {
        let steps = self.world.rollout()?.spec.steps;
        let weights = steps.iter().filter_map(|step| u64::try_from(step.weight?).ok());
        Ok(weights.chain([100]).collect())
    }

    fn versions(&self) -> Vec<Version> {
        self.world.versions()
    }

    fn requests(&self) -> u64 {
        self.users.totals().values().map(|total| total.requests).sum()
    }

    fn elapsed(&self) -> Duration {
        (Utc::now() - self.began).to_std().unwrap_or_default()
    }
}

fn requests(count: u64) -> String {
    match count {
        0 => "no request".to_owned(),
        1 => "1 request".to_owned(),
        count => format!("{count} requests"),
    }
}
