//! A breach, and how soon the canary has no traffic; and what was written for it.
//!
//! Rollouts go through their lives one after another in a few lanes, so that each meets a controller with others in hand
//! and its breach comes at any time between two looks. The wall clock of this machine tells all times: the samples',
//! the source's answers', the audit log's.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::commits::Commits;
use super::controller::Controller;
use super::figure::{Figure, Latencies};
use super::objects::Names;
use super::rest::past;
use super::source::{Ask, Source};
use super::world::{World, writes};
use super::{Bench, Size};
use crate::real::{Audit, AuditEntry};

/// Samples of a scraped source come so often here, as often as the Rollout looks.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);
/// Rollouts in flight at the same time.
const LANES: usize = 4;
/// Looks at a canary with traffic before it fails: the counters are read and there is evidence that it is well.
const LOOKS_BEFORE: usize = 4;
/// The longest that a stage of a life is waited for.
const LIMIT: Duration = Duration::from_mins(2);
/// How long after the last rollback nothing may be written.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// One breach.
#[derive(Debug)]
struct Breach {
    names: Names,
    /// When the first sample with failed requests was taken.
    visible: DateTime<Utc>,
    /// When the watch brought the VirtualService with weight 0.
    seen: DateTime<Utc>,
}

/// Runs it with so many Rollouts at rest beside it. The figures' names begin with `prefix`.
pub async fn run(bench: &Bench, prefix: &str, beside: usize) -> Result<Vec<Figure>> {
    let breaches = bench.size(Size { full: 120, quick: 4 });
    let world = World::start(bench).await?;
    bench.says(&format!("{beside} Rollouts at rest, {breaches} to be broken"));
    world.namespaces(0..beside + breaches).await?;
    world.veterans(0..beside, past).await?;
    world.surroundings(beside..beside + breaches).await?;
    let source = Source::start(SCRAPED_EVERY)?;
    let mut controller = Controller::start(&bench.program, &world.cluster, &source.url(), None).await?;
    world.at_rest(&mut controller, beside).await?;
    let (commits, audit) = (Commits::watch(world.client()), world.cluster.audit());

    bench.says("breaches");
    let lives = (beside..beside + breaches).map(|number| life(&world, &source, &commits, number));
    let broken: Vec<Breach> = stream::iter(lives).buffer_unordered(LANES).try_collect().await?;
    controller.still_runs()?;
    world.at_rest(&mut controller, beside + breaches).await?;
    let life_writes = writes(&audit)?;
    let after = world.cluster.audit();
    sleep(bench.time(AFTERWARDS)).await;
    let afterwards = writes(&after)?;

    let mut figures = latencies(prefix, &broken, &source.take_asks(), &audit)?;
    let mut decisions = HashMap::new();
    for breach in &broken {
        let rollout = world.read(&breach.names.rollout("", &Value::Null)).await?;
        decisions.insert(breach.names.clone(), seq(&rollout).context("a status without seq")?);
    }
    figures.extend(written(prefix, &decisions, &life_writes));
    figures.push(
        Figure::new(
            format!("{prefix}.writes_after_rollback"),
            as_f64(afterwards.len()),
            "writes",
            format!(
                "all writes but the Lease's of {} rolled back Rollouts in {:?} after they came to rest",
                broken.len(),
                bench.time(AFTERWARDS)
            ),
        )
        .at_most(0.0),
    );
    controller.stop().await?;
    Ok(figures)
}

/// From the creation of a Rollout to the end of its canary's traffic.
async fn life(world: &World, source: &Source, commits: &Commits, number: usize) -> Result<Breach> {
    let names = Names::number(number);
    let spec = json!({
        "interval": "1s", "settle": "1s",
        "steps": [{"weight": 20, "for": "1h"}],
        "checks": [
            {"name": "errors", "errors": {"max": "1%"}},
            {"name": "p99", "latency": {"quantile": 0.99, "max": "250ms"}},
        ],
    });
    let created = Utc::now();
    world.create(&names.rollout(&names.canary(), &spec)).await?;
    let begun =
        world.or_status(&names, commits.first(&names, created, LIMIT, |weight| weight > 0).await).await?;
    let watched = async {
        while source.looks(&names, begun.at) < LOOKS_BEFORE {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, watched).await.with_context(|| format!("{}: no looks", names.name))?;
    let visible = source.fail(&names.namespace, &names.canary());
    let ended = commits.first(&names, visible, LIMIT, |weight| weight == 0).await;
    let seen = world.or_status(&names, ended).await?.at;
    source.silence(&names.namespace, &names.canary());
    Ok(Breach { names, visible, seen })
}

fn latencies(prefix: &str, broken: &[Breach], asks: &[Ask], audit: &Audit) -> Result<Vec<Figure>> {
    let writes = writes(audit)?;
    let patches = |kind: Kind| -> Vec<&AuditEntry> {
        writes.iter().filter(|entry| kind(entry) && entry.verb == "patch" && entry.code == 200).collect()
    };
    let (records, patches) = (patches(is_status), patches(is_route));
    let [mut decided, mut recorded, mut turned, mut written] = [(); 4].map(|()| Vec::new());
    let (mut whole, mut reaction, mut waited, mut watched) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for breach in broken {
        let about = |ask: &&Ask| ask.about.as_ref() == Some(&breach.names) && ask.shows_errors;
        let telling = asks.iter().filter(about).min_by_key(|ask| ask.answered);
        let telling = telling.with_context(|| format!("{}: no answer showed it", breach.names.name))?;
        let first = |patches: &[&AuditEntry], what: &str| {
            let is_it = |entry: &&&AuditEntry| {
                entry.name == breach.names.name
                    && entry.namespace == breach.names.namespace
                    && entry.received >= telling.answered
            };
            let first = patches.iter().filter(is_it).min_by_key(|entry| entry.received).copied();
            first.cloned().with_context(|| format!("{}: no {what} in the audit log", breach.names.name))
        };
        let (record, commit) = (first(&records, "record")?, first(&patches, "patch")?);
        ensure!(commit.received <= breach.seen, "{}: another patch than the one seen", breach.names.name);
        decided.push(between(telling.answered, record.received));
        recorded.push(between(record.received, record.answered));
        turned.push(between(record.answered, commit.received));
        written.push(between(commit.received, commit.answered));
        whole.push(between(breach.visible, commit.answered));
        reaction.push(between(telling.answered, commit.answered));
        waited.push(between(breach.visible, telling.answered));
        watched.push(between(telling.answered, breach.seen));
    }
    let sum = |all: Vec<Duration>| all.into_iter().collect::<Latencies>();
    let by =
        "the audit log's time (1 us) of the answer to the VirtualService's patch, which is after the commit";
    let [p50, p99, max] = sum(whole).figures(
        &format!("{prefix}.visible_to_commit"),
        &format!("from the first bad sample in the source (interval 1s, sampled every 1s) to {by}"),
    );
    let mut figures = vec![p50, p99, max.at_most(1050.0)];
    let [p50, p99, max] = sum(reaction).figures(
        &format!("{prefix}.answer_to_commit"),
        &format!("from the source's first answer that shows the breach to {by}"),
    );
    figures.extend([p50.at_most(15.0), p99.at_most(30.0), max]);
    let parts = [
        ("decide", decided, "from that answer to the arrival of the record at the API server"),
        ("record", recorded, "the API server's time for the patch of the status"),
        ("turn", turned, "from its answer to the arrival of the route"),
        ("route", written, "the API server's time for the patch of the VirtualService"),
    ];
    for (name, part, how) in parts {
        figures.extend(sum(part).figures(&format!("{prefix}.answer_to_commit.{name}"), how));
    }
    figures.extend(sum(waited).figures(
        &format!("{prefix}.visible_to_answer"),
        "from the first bad sample to the first answer that shows it",
    ));
    figures.extend(sum(watched).figures(
        &format!("{prefix}.answer_to_watch"),
        "from that answer to weight 0 in a watch of the bench: a cross-check that includes its own delay",
    ));
    Ok(figures)
}

/// Which writes.
type Kind = fn(&AuditEntry) -> bool;

/// Writes for each decision, of the Rollout that needed most.
fn written(prefix: &str, decisions: &HashMap<Names, u64>, writes: &[AuditEntry]) -> Vec<Figure> {
    let of = |names: &Names, kind: Kind| {
        let about = |entry: &&AuditEntry| {
            let whose = entry.name.split('.').next().unwrap_or_default();
            entry.namespace == names.namespace && whose == names.name
        };
        writes.iter().filter(|entry| kind(entry)).filter(about).count()
    };
    let most = |kind: Kind| {
        let each = decisions.iter().map(|(names, decided)| as_f64(of(names, kind)) / as_f64(*decided));
        each.fold(0.0, f64::max)
    };
    let kinds: [(&str, Kind); 3] = [
        ("status_patches", is_status),
        ("virtual_service_patches", is_route),
        ("events", |entry| entry.resource == "events"),
    ];
    let how =
        "audit log: writes of a Rollout's life, refused ones too, by its decisions; the one that needed most";
    let mut figures: Vec<Figure> = kinds
        .into_iter()
        .map(|(name, kind)| {
            Figure::new(format!("{prefix}.{name}_per_decision"), most(kind), "writes", how)
                .at_most(1.0)
                .of(decisions.values().map(|decided| usize::try_from(*decided).unwrap_or(0)).sum())
        })
        .collect();
    let others =
        |entry: &AuditEntry| !kinds.iter().any(|(_, kind)| kind(entry)) && entry.resource == "rollouts";
    let other = writes.iter().filter(|entry| others(entry)).count();
    figures.push(
        Figure::new(
            format!("{prefix}.finalizer_patches_per_rollout"),
            as_f64(other) / as_f64(decisions.len().max(1)),
            "writes",
            "audit log: the finalizer is put on a Rollout once, before its first route is written",
        )
        .at_most(1.0)
        .of(decisions.len()),
    );
    let strange = writes.len()
        - other
        - writes.iter().filter(|entry| kinds.iter().any(|(_, kind)| kind(entry))).count();
    let how = "audit log: writes of any other kind, the Lease's apart";
    figures.push(Figure::new(format!("{prefix}.other_writes"), as_f64(strange), "writes", how).at_most(0.0));
    figures
}

/// Whether it is a write of a Rollout's status.
pub fn is_status(entry: &AuditEntry) -> bool {
    entry.resource == "rollouts" && entry.subresource == "status"
}

fn is_route(entry: &AuditEntry) -> bool {
    entry.resource == "virtualservices"
}

fn seq(rollout: &Value) -> Option<u64> {
    rollout["status"]["seq"].as_u64()
}

fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}
