//! The controller dies before or after any of its writes, and the next incarnation ends where an undisturbed one does.

use serde_json::{Value, json};
use sluice_lab::embedded::{Then, When};

use crate::{
    oracle,
    world::{CONTROLLER, Sluice, World, rollout, same},
};

/// A way for a rollout to go.
#[derive(Clone, Copy, Debug)]
enum Way {
    Promotion,
    Rollback,
    /// The Rollout is deleted in mid-step.
    Deletion,
    /// A person aborts.
    Abort,
}

impl Way {
    async fn world(self) -> World {
        let world = World::new().await;
        if let Way::Rollback = self {
            world.fails(0.5);
        }
        let steps = match self {
            Way::Promotion | Way::Rollback => {
                json!([{"weight": 20, "for": "1s"}, {"weight": 50, "for": "1s"}])
            }
            Way::Deletion | Way::Abort => json!([{"weight": 50, "approve": true}]),
        };
        let mut object = rollout(&steps);
        object["spec"]["interval"] = "500ms".into();
        object["spec"]["settle"] = "500ms".into();
        object["spec"]["checks"][0]["errors"]["minRequests"] = 4.into();
        world.create(object).await;
        world
    }

    /// Takes it to its end, with `sluice` as the first controller and as many as are needed after it.
    async fn go(self, world: &World, sluice: Sluice) -> usize {
        let mut controllers = Controllers { world, current: sluice, count: 1 };
        if let Way::Deletion | Way::Abort = self {
            controllers.until(|| world.status()["reason"] == "WaitingForApproval").await;
            match self {
                Way::Deletion => world.delete_rollout().await,
                Way::Abort => world.ask("Abort", "stop").await,
                Way::Promotion | Way::Rollback => {}
            }
        }
        controllers.until(|| self.is_over(world)).await;
        controllers.count
    }

    fn is_over(self, world: &World) -> bool {
        let status = world.status();
        let in_place = oracle::stamp(&world.virtual_service()) == status["seq"].as_u64().unwrap_or_default();
        match self {
            Way::Promotion => status["phase"] == "Healthy" && in_place,
            Way::Rollback => status["phase"] == "RolledBack" && status["retiring"].is_null() && in_place,
            Way::Abort => {
                status["phase"] == "RolledBack"
                    && status["retiring"].is_null()
                    && in_place
                    && !world.action("stop").is_null()
            }
            Way::Deletion => status.is_null(),
        }
    }
}

/// The controller, started anew whenever it has crashed.
struct Controllers<'a> {
    world: &'a World,
    current: Sluice,
    count: usize,
}

impl Controllers<'_> {
    async fn until(&mut self, over: impl Fn() -> bool) {
        let look = async {
            loop {
                if self.current.has_crashed() {
                    self.current = self.world.controller();
                    self.count += 1;
                } else if over() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(crate::world::LIMIT, look).await;
        assert!(ended.is_ok(), "it never ended: {:#}", self.world.status());
    }
}

/// What must be the same however often the controller died on the way.
fn end(world: &World) -> Value {
    let status = world.status();
    let mut route = world.virtual_service();
    let stamp: Value =
        serde_json::from_str(route["metadata"]["annotations"]["sluice.dev/stamp"].as_str().unwrap()).unwrap();
    let outcomes = stamp["models/iris"]["outcomes"].clone();
    json!({
        "phase": status["phase"],
        "reason": status["reason"],
        "weight": status["weight"],
        "stable": status["stable"],
        "seq": status["seq"],
        "decisions": oracle::decisions(&world.api),
        "stamped": stamp["models/iris"]["seq"],
        "outcomes": outcomes,
        "route": route["spec"].take(),
        "action": world.action("stop")["phase"],
    })
}

async fn sweep(way: Way) {
    let calm = way.world().await;
    way.go(&calm, calm.controller()).await;
    let expected = end(&calm);
    let points = calm.api.crash_points(CONTROLLER);
    assert!(points.len() > 10, "{points:?}");
    let mut missed = Vec::new();
    for point in points {
        for then in [Then::CrashBefore, Then::CrashAfter] {
            if !crash(way, &point, &then, &expected).await {
                missed.push(format!("{point} {then:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "nothing was written there this time: {missed:#?}");
}

/// Runs with one crash; false where it never came to it.
async fn crash(way: Way, point: &When, then: &Then, expected: &Value) -> bool {
    let world = way.world().await;
    let connection = world.api.connect(CONTROLLER);
    connection.faults().on(point.clone(), then.clone());
    let count = way.go(&world, world.controller_over(connection, None)).await;
    same(&end(&world), expected, &format!("{way:?}, {point}, {then:?}"));
    count > 1
}

#[tokio::test(start_paused = true)]
async fn a_promotion_ends_the_same_wherever_the_controller_dies() {
    sweep(Way::Promotion).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_ends_the_same_wherever_the_controller_dies() {
    sweep(Way::Rollback).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_the_same_wherever_the_controller_dies() {
    sweep(Way::Abort).await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_the_same_wherever_the_controller_dies() {
    sweep(Way::Deletion).await;
}
