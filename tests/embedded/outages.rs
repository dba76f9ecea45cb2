//! The API server is away for a minute, at every stage of a rollout: nothing is made up for that was not seen, nothing is
//! decided twice, and what must happen happens as soon as it is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sluice_lab::embedded::{Refusal, Then, When};
use tokio::time::Instant;

use crate::{
    oracle,
    replicas::each_wrote_only_its_own,
    world::{Sluice, World, rollout, same},
};

/// Longer than every lease.
const OUTAGE: Duration = Duration::from_mins(1);

/// The ways for an API server to be away.
fn ways() -> [Then; 3] {
    [Then::Hang, Then::Disconnect, Then::Refuse(Refusal::unavailable())]
}

/// When it goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The rollout has started, its first step is not yet entered: the decision cannot be recorded.
    BeforeAStep,
    /// The first step is entered, and its traffic is not on the route yet.
    BeforeItsTraffic,
    InAStep,
    /// The promotion is recorded, and its traffic is not on the route yet.
    AtThePromotion,
}

const STAGES: [Stage; 4] =
    [Stage::BeforeAStep, Stage::BeforeItsTraffic, Stage::InAStep, Stage::AtThePromotion];

/// The replicas of one world, all of which lose the API server together.
struct Replicas {
    running: Vec<Sluice>,
    gone: Arc<AtomicBool>,
}

impl Replicas {
    /// Starts replicas for which the API server goes away when the `last` kind of decision was recorded.
    fn start(world: &World, number: usize, last: Option<&'static str>) -> Self {
        let gone = Arc::<AtomicBool>::default();
        let away = gone.clone();
        let happened = AtomicBool::new(false);
        world.api.webhook(move |write| {
            if !["a", "b"].contains(&write.user.as_str()) {
                return Ok(());
            }
            if away.load(Ordering::SeqCst) {
                return Err(Refusal::unavailable());
            }
            let decisions = write.after.as_ref().and_then(|after| after["status"]["decisions"].as_array());
            let decided =
                decisions.is_some_and(|all| all.iter().any(|decision| decision["kind"].as_str() == last));
            if last.is_some() && decided && !happened.swap(true, Ordering::SeqCst) {
                away.store(true, Ordering::SeqCst);
            }
            Ok(())
        });
        Self { running: ["a", "b"][..number].iter().map(|name| world.replica(name)).collect(), gone }
    }

    /// The API server is away for so long.
    async fn are_alone(&self, world: &World, then: &Then, time: Duration) {
        self.gone.store(true, Ordering::SeqCst);
        for replica in &self.running {
            replica.connection.faults().on(When::any(), then.clone());
            replica.connection.faults().close_watches();
        }
        let before = world.api.version();
        tokio::time::sleep(time).await;
        let history = world.api.history();
        let written = history.iter().filter(|write| write.version > before && write.user.len() == 1).count();
        same(&written, &0, "writes while the API server is away");
        self.gone.store(false, Ordering::SeqCst);
        self.running.iter().for_each(|replica| replica.connection.faults().clear());
    }
}

/// Runs a rollout up to a stage, where the API server goes away.
async fn up_to(stage: Stage, number: usize) -> (World, Replicas) {
    let world = World::new().await;
    let last = match stage {
        Stage::BeforeAStep => Some("Started"),
        Stage::BeforeItsTraffic => Some("Entered"),
        Stage::AtThePromotion => Some("Promoting"),
        Stage::InAStep => None,
    };
    let replicas = Replicas::start(&world, number, last);
    let names = ["a", "b"];
    world.shared_by(&names[..number]).await;
    world.create(rollout(&json!([{"weight": 50, "for": "20s"}]))).await;
    if stage == Stage::InAStep {
        world.weighs(50, 50).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    } else {
        while !replicas.gone.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    (world, replicas)
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_where_it_was_when_the_api_server_is_back() {
    for then in ways() {
        for stage in STAGES {
            for number in [1, 2] {
                let what = format!("{stage:?}, {number} replicas, {then:?}");
                let (world, replicas) = up_to(stage, number).await;
                let entered = world.now();
                replicas.are_alone(&world, &then, OUTAGE).await;
                let since = Instant::now();
                world.stands("Healthy", "Live").await;
                same(&oracle::canary_weights(&world.api), &vec![0, 50, 100], &what);
                let kinds = ["Adopted", "Started", "Entered", "Promoting", "Promoted"];
                let seen = oracle::kinds(&world.api);
                assert!(seen.iter().map(String::as_str).eq(kinds), "{what}: {seen:?}");
                each_wrote_only_its_own(&world.api, &["a", "b"]);
                // The step lasts for 20 s in which somebody looked, the outage is none of them.
                if stage == Stage::InAStep {
                    let promoted = time_of(&world, 100) - entered;
                    let least = chrono::Duration::seconds(60 + 20 - 5 - 3);
                    assert!(promoted >= least, "{what}: promoted {promoted} after the outage began");
                }
                assert!(since.elapsed() < Duration::from_mins(1), "{what}: it took {:?}", since.elapsed());
            }
        }
    }
}

/// When the route first gave this weight to the canary.
fn time_of(world: &World, weight: u64) -> chrono::DateTime<chrono::Utc> {
    let history = world.api.history();
    let mut writes = oracle::routes_written(&history);
    writes.find(|write| oracle::weights(write.after.as_ref().unwrap()).1 == weight).expect("such a weight").at
}

#[tokio::test(start_paused = true)]
async fn a_breach_during_the_outage_is_acted_on_when_the_api_server_is_back() {
    for then in ways() {
        for number in [1, 2] {
            let what = format!("{number} replicas, {then:?}");
            let (world, replicas) = up_to(Stage::InAStep, number).await;
            let breach = async {
                tokio::time::sleep(Duration::from_secs(30)).await;
                world.v2.predictor.set_errors(0.5);
            };
            tokio::join!(replicas.are_alone(&world, &then, OUTAGE), breach);
            let since = Instant::now();
            world.weighs(100, 0).await;
            // A replica that has to become a member anew, its looks, and a look that counts after `settle`.
            assert!(since.elapsed() < Duration::from_secs(15), "{what}: it took {:?}", since.elapsed());
            world.stands("RolledBack", "CheckFailed").await;
            same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], &what);
            each_wrote_only_its_own(&world.api, &["a", "b"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_breach_during_an_outage_that_is_shorter_than_the_lease_is_not_forgotten() {
    for then in ways() {
        let (world, replicas) = up_to(Stage::InAStep, 1).await;
        // It is over before the API server is back.
        let breach = async {
            world.v2.predictor.set_errors(0.5);
            tokio::time::sleep(Duration::from_secs(4)).await;
            world.v2.predictor.set_errors(0.0);
        };
        tokio::join!(replicas.are_alone(&world, &then, Duration::from_secs(8)), breach);
        world.weighs(100, 0).await;
        world.sees("the rollback is on record", |status| status["phase"] == "RolledBack").await;
        same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], &format!("{then:?}"));
        assert_eq!(
            oracle::kinds(&world.api)[..4],
            ["Adopted", "Started", "Entered", "RolledBack"],
            "{then:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_everybody_but_one_leaves_the_work_to_that_one() {
    let (world, replicas) = up_to(Stage::InAStep, 2).await;
    let first = crate::replicas::holder(&world.api, 2);
    let cut = replicas.running.iter().zip(["a", "b"]).find(|(_, name)| *name == first).unwrap().0;
    cut.connection.faults().on(When::any(), Then::Hang);
    world.v2.predictor.set_errors(0.5);
    let since = Instant::now();
    world.weighs(100, 0).await;
    assert!(since.elapsed() < Duration::from_secs(25), "it took {:?}", since.elapsed());
    cut.connection.faults().clear();
    world.shared_by(&["a", "b"]).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    same(&oracle::canary_weights(&world.api), &vec![0, 50, 0], "the canary's weights");
    each_wrote_only_its_own(&world.api, &["a", "b"]);
}
