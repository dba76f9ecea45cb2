//! A rollout once without faults, with its writes numbered, and again with one of them struck: the same end, and every
//! guarantee holds on the way.
//!
//! The embedded API has all writes times all faults, in virtual time. Here is a sample of them, on the real API server:
//! each way a rollout can go draws some of its own writes and some events of its watches. `SLUICE_FAULTS=<number>` draws
//! others, `SLUICE_FAULTS=all` takes all there are.

mod sample;
mod way;

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use sluice_lab::faults::When;
use sluice_lab::invariants::End;
use sluice_lab::real::Authors;
use sluice_lab::real::Proxy;

use crate::controller::{Controller, LEASE_DURATION};
use crate::lab::{CONTROLLER, LIMIT, Lab, Shared};
use crate::trace::Known;
use crate::world::{IRIS, World};
use sample::{Sample, Strike};
use way::Way;

/// Runs of one way at the same time, where all are asked for.
const AT_ONCE: usize = 10;

pub async fn a_promotion_ends_the_same_whatever_is_struck(lab: &Lab) -> Result<()> {
    campaign(lab, Way::Promotion).await
}

pub async fn a_breach_ends_the_same_whatever_is_struck(lab: &Lab) -> Result<()> {
    campaign(lab, Way::Breach).await
}

pub async fn a_superseded_rollout_ends_the_same_whatever_is_struck(lab: &Lab) -> Result<()> {
    campaign(lab, Way::Supersede).await
}

pub async fn an_abort_ends_the_same_whatever_is_struck(lab: &Lab) -> Result<()> {
    campaign(lab, Way::Abort).await
}

pub async fn a_deletion_ends_the_same_whatever_is_struck(lab: &Lab) -> Result<()> {
    campaign(lab, Way::Deletion).await
}

async fn campaign(lab: &Lab, way: Way) -> Result<()> {
    let shared = lab.shared().await?;
    let calm = run(shared, way, "calm".to_owned(), None, None).await.context("without faults")?;
    ensure!(calm.points.len() > 8, "{way:?} has few writes: {:?}", calm.points);
    let sample = Sample::draw(way, &calm.points);
    println!("{way:?}: SLUICE_FAULTS={}, {} strikes", sample.seed, sample.strikes.len());
    let expected = &calm.end;
    let strikes = sample.strikes.iter().enumerate();
    let missed: Vec<String> = stream::iter(strikes)
        .map(async |(n, strike)| {
            let what = || format!("{way:?}, SLUICE_FAULTS={}, {strike}", sample.seed);
            let struck = run(shared, way, n.to_string(), Some(strike), Some(expected.clone())).await;
            let struck = struck.with_context(what)?.struck;
            anyhow::Ok((!struck).then(what))
        })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(async |missed: Option<String>| {
            Ok(missed.filter(|strike| !strike.contains(" of events ")))
        })
        .try_collect()
        .await?;
    // How often an object is written may depend on time, and for Events it does: whether metrics are missing for a moment
    // is one. That most were struck is what makes it a campaign.
    ensure!(missed.len() * 4 <= sample.strikes.len(), "these did not come this time: {missed:#?}");
    Ok(())
}

/// What a run shows.
struct Outcome {
    points: Vec<When>,
    end: End,
    struck: bool,
}

async fn run(
    shared: &Shared,
    way: Way,
    name: String,
    strike: Option<&Strike>,
    calm: Option<End>,
) -> Result<Outcome> {
    let world = way.world(shared, &name).await?;
    let first = shared.cluster.proxy(CONTROLLER)?;
    if let Some(strike) = strike {
        strike.prepare(first.faults(), &world.namespace);
    }
    let mut known = Known { calm, ..Known::default() };
    let begun = OnceLock::new();
    let early = async {
        // When the rollout had just begun.
        world.status_is("the first decision", |status| !status["seq"].is_null()).await?;
        let version = world.rollouts().get(IRIS).await?.metadata.resource_version.unwrap_or_default();
        begun.get_or_init(|| version.parse::<u64>().ok());
        anyhow::Ok(())
    };
    let goes = async { tokio::try_join!(way.go(&world, &mut known), early).map(drop) };
    tokio::select! {
        gone = goes => gone?,
        failed = incarnations(&world, &first, strike, &begun) => failed?,
    }
    let struck = first.faults().struck() > 0;
    if !first.faults().has_crashed() {
        // What is late must do no harm either.
        tokio::time::timeout(LIMIT, first.faults().arrived()).await.context("a late request")?;
        way.is_over(&world).await?;
    }
    let end = world.holds(known, Authors::All).await?;
    // What arrives late finds another object, and a patch of what is not there any more is a 422 and no conflict.
    if !strike.is_some_and(Strike::is_late) {
        world.never_refused()?;
    }
    Ok(Outcome { points: first.crash_points(), end, struck })
}

/// A controller, and the next one whenever it crashes. Returns only where one cannot be started.
async fn incarnations(
    world: &World<'_>,
    first: &Proxy,
    strike: Option<&Strike>,
    begun: &OnceLock<Option<u64>>,
) -> Result<()> {
    let start = |proxy: &Proxy| {
        Controller::over(proxy.client()?, world.shared, &world.namespace, "one", LEASE_DURATION)
    };
    let controller = start(first)?;
    first.faults().crashed().await;
    controller.kill().await;
    let next = world.shared.cluster.proxy(CONTROLLER)?;
    if matches!(strike, Some(Strike::OldList(_))) {
        let version =
            begun.get().copied().flatten().context("it crashed before there was anything to know")?;
        sample::be_behind(next.faults(), version);
    }
    let _controller = start(&next)?;
    std::future::pending().await
}
