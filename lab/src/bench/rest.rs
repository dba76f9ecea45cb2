//! What the controller costs while there is nothing to do.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use super::controller::{Controller, Usage};
use super::figure::Figure;
use super::objects::Past;
use super::source::Source;
use super::world::{VETERAN_STEPS, VETERAN_WEIGHT, World, writes};

/// Long enough that ticks of 10 ms tell thousandths of a core.
const WINDOW: Duration = Duration::from_mins(1);
/// After the API server is back, so long is memory looked at: every watch has listed anew by then.
const AFTER_RESTART: Duration = Duration::from_mins(1);
const SCRAPED_EVERY: Duration = Duration::from_secs(15);

/// Every second Rollout is at rest, the others wait at the gate of their last step, their plans pinned.
pub fn past(number: usize) -> Past {
    if number.is_multiple_of(2) { Past::Rested } else { held(number) }
}

/// All wait at the gate of their last step, their plans pinned.
fn held(_: usize) -> Past {
    Past::Held { step: VETERAN_STEPS, of: VETERAN_STEPS, weight: VETERAN_WEIGHT }
}

/// With nothing to do at all.
pub async fn idle(bench: &Bench) -> Result<Vec<Figure>> {
    let world = World::start(bench).await?;
    let source = Source::start(SCRAPED_EVERY)?;
    let mut controller = Controller::start(&bench.program, &world.cluster, &source.url(), None).await?;
    world.at_rest(&mut controller, 0).await?;
    let usage = controller.watched_for(bench.time(Duration::from_secs(15))).await?;
    controller.stop().await?;
    Ok(memory("idle", &usage, true, 20.0))
}

/// With so many Rollouts at rest.
pub async fn at_rest(bench: &Bench) -> Result<Vec<Figure>> {
    let rollouts = bench.rollouts;
    let is_whole = bench.is_whole(1000);
    let world = World::start(bench).await?;
    bench.says(&format!("{rollouts} Rollouts with 20 decisions each"));
    world.namespaces(0..rollouts).await?;
    world.veterans(0..rollouts, past).await?;
    let source = Source::start(SCRAPED_EVERY)?;
    let mut controller = Controller::start(&bench.program, &world.cluster, &source.url(), None).await?;
    world.at_rest(&mut controller, rollouts).await?;

    let window = bench.time(WINDOW);
    bench.says(&format!("at rest for {window:?}"));
    let audit = world.cluster.audit();
    let usage = controller.watched_for(window).await?;
    let (written, all) = (writes(&audit)?, audit.of(super::controller::USER)?);
    controller.stop().await?;
    let leases = all.iter().filter(|entry| entry.resource == "leases").count();
    let mut figures = memory("rest", &usage, is_whole, 60.0);
    figures.extend([
        Figure::new(
            "rest.processor",
            usage.processor,
            "%",
            format!("user and system time of /proc/PID/stat (10 ms) over {window:?}, in percent of one core"),
        )
        .at_most_if(is_whole && !bench.quick, 0.5),
        Figure::new(
            "rest.writes",
            count(written.len()),
            "writes",
            format!("audit log: all writes but the Lease's in {window:?}"),
        )
        .at_most(0.0),
        Figure::new(
            "rest.reads",
            count(all.len() - leases - written.len()),
            "requests",
            format!("audit log: all requests but writes and the Lease's in {window:?}"),
        ),
        Figure::new(
            "rest.lease_requests",
            count(leases),
            "requests",
            format!("audit log: requests about the Lease in {window:?}"),
        ),
    ]);
    Ok(figures)
}

/// With ten times as many, each with a pinned plan, also after the API server restarts.
pub async fn many(bench: &Bench) -> Result<Vec<Figure>> {
    let rollouts = 10 * bench.rollouts;
    let is_whole = bench.is_whole(1000);
    let world = World::start(bench).await?;
    bench.says(&format!("{rollouts} Rollouts with 20 decisions and a pinned plan each"));
    world.namespaces(0..rollouts).await?;
    world.veterans(0..rollouts, held).await?;
    let source = Source::start(SCRAPED_EVERY)?;
    let mut controller = Controller::start(&bench.program, &world.cluster, &source.url(), None).await?;
    bench.says("the controller takes them up");
    world.at_rest(&mut controller, rollouts).await?;
    controller.forget_peak()?;
    let usage = controller.watched_for(bench.time(Duration::from_secs(20))).await?;
    let mut figures = memory("many", &usage, is_whole, 250.0);

    bench.says("the API server restarts");
    controller.forget_peak()?;
    world.cluster.stop_api_server().await;
    world.cluster.start_api_server().await?;
    let usage = controller.watched_for(bench.time(AFTER_RESTART)).await?;
    figures.extend(memory("many.restarted", &usage, is_whole, 250.0));
    // A watch that was not there again would cost no memory: all is seen again, and at rest.
    world.at_rest(&mut controller, rollouts).await?;
    controller.stop().await?;
    Ok(figures)
}

fn memory(name: &str, usage: &Usage, applies: bool, limit: f64) -> Vec<Figure> {
    let resident = Figure::new(
        format!("{name}.memory"),
        usage.resident,
        "MiB",
        "the largest VmRSS of /proc/PID/status, read every 100 ms",
    );
    let peak = Figure::new(format!("{name}.memory_peak"), usage.peak, "MiB", "VmHWM of /proc/PID/status");
    vec![resident.at_most_if(applies, limit).of(usage.samples), peak]
}

#[allow(clippy::cast_precision_loss)]
fn count(count: usize) -> f64 {
    count as f64
}
