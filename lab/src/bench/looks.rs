//! Many Rollouts in flight, each looking every ten seconds, on one core.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Bench;
use super::breach::is_status;
use super::controller::Controller;
use super::figure::{Figure, Latencies};
use super::objects::Names;
use super::source::{Ask, Source};
use super::world::{World, writes};
use crate::real::AuditEntry;

/// How often each Rollout looks; in the quick form, which has no time for ten seconds.
const INTERVAL: Duration = Duration::from_secs(10);
const QUICK_INTERVAL: Duration = Duration::from_secs(1);
const SCRAPED_EVERY: Duration = Duration::from_secs(5);
/// Over so long looks are counted, so that every Rollout writes two checkpoints at least.
const WINDOW: Duration = Duration::from_secs(150);
/// The same after the controller was started anew, when all looked first at about the same time.
const WINDOW_ANEW: Duration = Duration::from_mins(1);
const LIMIT: Duration = Duration::from_mins(10);

/// Runs it with as many Rollouts as the bench has.
pub async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let rollouts = bench.rollouts;
    let core = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let world = World::start(bench).await?;
    bench.says(&format!("{rollouts} Rollouts to be in flight, the controller on core {core}"));
    world.namespaces(0..rollouts).await?;
    world.surroundings(0..rollouts).await?;
    let source = Source::start(SCRAPED_EVERY)?;
    let mut controller = Controller::start(&bench.program, &world.cluster, &source.url(), Some(core)).await?;
    let interval = if bench.quick { QUICK_INTERVAL } else { INTERVAL };
    let spec = json!({
        "interval": format!("{}s", interval.as_secs()), "settle": "1s",
        "steps": [{"weight": 20, "for": "24h"}],
        "checks": [
            {"name": "errors", "errors": {"max": "1%"}},
            {"name": "p99", "latency": {"quantile": 0.99, "max": "250ms"}},
            // The same for all of them: to be asked once for an instant, not a thousand times.
            {"name": "gateway", "query": {"promql": "sum(rate(gateway_overloads_total[1m]))", "max": 5}},
        ],
    });
    world
        .each(0..rollouts, async |number| {
            let names = Names::number(number);
            world.create(&names.rollout(&names.canary(), &spec)).await.map(drop)
        })
        .await?;
    in_flight(&mut controller, rollouts).await?;
    sleep(bench.time(3 * interval)).await;

    let window = bench.time(WINDOW);
    bench.says(&format!("looks for {window:?}"));
    let audit = world.cluster.audit();
    let first = observe(&source, &mut controller, interval, window).await?;
    let mut figures = first.figures("looks", rollouts)?;
    figures.extend(checkpoints(&writes(&audit)?, window));

    bench.says("the controller starts anew");
    controller.stop().await?;
    let mut controller = Controller::start(&bench.program, &world.cluster, &source.url(), Some(core)).await?;
    in_flight(&mut controller, rollouts).await?;
    let again = observe(&source, &mut controller, interval, bench.time(WINDOW_ANEW)).await?;
    figures.extend(again.figures("looks.anew", rollouts)?);
    controller.stop().await?;
    Ok(figures)
}

/// Waits until the controller says that all are in a step.
async fn in_flight(controller: &mut Controller, rollouts: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        controller.still_runs()?;
        let there = controller.in_phase("Progressing").await? + controller.in_phase("Waiting").await?;
        if there == rollouts {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "{there} of {rollouts} Rollouts are in flight after {LIMIT:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// What the source saw for a while, and what the controller used.
struct Seen {
    interval: Duration,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    asks: Vec<Ask>,
    processor: f64,
    memory: f64,
}

async fn observe(
    source: &Source,
    controller: &mut Controller,
    interval: Duration,
    window: Duration,
) -> Result<Seen> {
    drop(source.take_asks());
    let from = Utc::now();
    let usage = controller.watched_for(window).await?;
    let asks = source.take_asks();
    let (processor, memory) = (usage.processor, usage.resident);
    Ok(Seen { interval, from, to: Utc::now(), asks, processor, memory })
}

impl Seen {
    fn figures(&self, name: &str, rollouts: usize) -> Result<Vec<Figure>> {
        let late = self.lateness(rollouts)?;
        let how = "a look's first question, as it arrives at the source, later than an interval after the one \
                   before; one that is missing at the end counts as if it came then; the controller on one core";
        let [p50, p99, max] = late.figures(&format!("{name}.late"), how);
        let instants = self.asks_per_instant();
        let most = instants.values().max().copied().unwrap_or(0);
        let asked = self.asks.len();
        Ok(vec![
            p50,
            p99,
            max.at_most(1000.0),
            Figure::new(
                format!("{name}.asks_per_query_and_instant"),
                count(most),
                "asks",
                "the most that the source was asked one query for one time of evaluation, at any times",
            )
            .at_most(1.0)
            .of(instants.len()),
            Figure::new(
                format!("{name}.asks"),
                count(asked) / (self.to - self.from).as_seconds_f64(),
                "asks/s",
                "all questions that arrived at the source",
            )
            .of(asked),
            Figure::new(
                format!("{name}.processor"),
                self.processor,
                "%",
                "user and system time of /proc/PID/stat, in percent of the one core that it may use",
            ),
            Figure::new(
                format!("{name}.memory"),
                self.memory,
                "MiB",
                "the largest VmRSS of /proc/PID/status, read every 100 ms",
            ),
        ])
    }

    /// How much later than an interval after the one before each look was.
    fn lateness(&self, rollouts: usize) -> Result<Latencies> {
        let mut looks: BTreeMap<&Names, Vec<DateTime<Utc>>> = BTreeMap::new();
        for ask in &self.asks {
            if let Some(about) = &ask.about {
                looks.entry(about).or_default().push(ask.arrived);
            }
        }
        ensure!(looks.len() == rollouts, "{} of {rollouts} Rollouts looked at all", looks.len());
        let late = looks.into_values().flat_map(|mut looks| {
            looks.sort_unstable();
            lateness(&looks, self.interval, self.from, self.to)
        });
        Ok(late.collect())
    }

    fn asks_per_instant(&self) -> HashMap<(&str, &str), usize> {
        let mut instants = HashMap::new();
        for ask in &self.asks {
            *instants.entry((ask.query.as_str(), ask.time.as_str())).or_default() += 1;
        }
        instants
    }
}

/// By how much the times between looks are longer than an interval; those before the first and after the last count
/// only where they are.
fn lateness(
    looks: &[DateTime<Utc>],
    interval: Duration,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<Duration> {
    let late = |earlier: DateTime<Utc>, later: DateTime<Utc>| {
        (later - earlier).to_std().unwrap_or_default().saturating_sub(interval)
    };
    let mut all: Vec<Duration> = looks.windows(2).map(|pair| late(pair[0], pair[1])).collect();
    let ends = [looks.first().map(|first| late(from, *first)), looks.last().map(|last| late(*last, to))];
    all.extend(ends.into_iter().flatten().filter(|late| !late.is_zero()));
    all
}

/// How often clocks and evidence alone were written.
fn checkpoints(writes: &[AuditEntry], window: Duration) -> Vec<Figure> {
    let mut patches: BTreeMap<(&str, &str), Vec<DateTime<Utc>>> = BTreeMap::new();
    for entry in writes.iter().filter(|entry| is_status(entry)) {
        patches.entry((&entry.namespace, &entry.name)).or_default().push(entry.received);
    }
    let total = patches.values().map(Vec::len).sum();
    let gaps = patches.values().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]));
    let shortest = gaps.min().map_or(f64::INFINITY, TimeDelta::as_seconds_f64);
    let others = writes.iter().filter(|entry| !is_status(entry)).count();
    vec![
        Figure::new(
            "looks.checkpoints",
            60.0 / shortest,
            "writes/min",
            format!("audit log over {window:?}: by the shortest time between two status patches of one Rollout in flight"),
        )
        .at_most(1.0)
        .of(total),
        Figure::new(
            "looks.other_writes",
            count(others),
            "writes",
            format!("audit log over {window:?}: writes of Rollouts in flight that decide nothing, the Lease's apart"),
        )
        .at_most(0.0),
    ]
}

#[allow(clippy::cast_precision_loss)]
fn count(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn a_look_is_late_by_what_is_above_the_interval() {
        let looks = [at(3), at(13), at(25), at(34)];
        let seconds = |late: Vec<Duration>| late.iter().map(Duration::as_secs).collect::<Vec<_>>();
        assert_eq!(seconds(lateness(&looks, INTERVAL, at(0), at(40))), [0, 2, 0]);
        // One that does not come before the window ends counts too, and so does a first one that comes late.
        assert_eq!(seconds(lateness(&looks, INTERVAL, at(-20), at(50))), [0, 2, 0, 13, 6]);
    }

    #[test]
    fn checkpoints_are_as_frequent_as_the_closest_two_of_one_rollout() {
        let write = |name: &str, subresource: &str, second: i64| AuditEntry {
            user: String::new(),
            verb: "patch".to_owned(),
            resource: "rollouts".to_owned(),
            subresource: subresource.to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            code: 200,
            version: None,
            dry_run: false,
            received: at(second),
            answered: at(second),
        };
        let writes = [
            write("a", "status", 0),
            write("b", "status", 10),
            write("a", "status", 60),
            write("b", "status", 90),
            write("a", "", 91),
        ];
        let [often, others] = &checkpoints(&writes, Duration::from_secs(100))[..] else { panic!() };
        assert_eq!((often.holds, often.samples, others.holds), (Some(true), 4, Some(false)));
        let early = [write("a", "status", 0), write("a", "status", 59)];
        assert_eq!(checkpoints(&early, Duration::from_secs(100))[0].holds, Some(false));
        assert_eq!(checkpoints(&[], Duration::from_secs(100))[0].holds, Some(true));
    }
}
