//! The ways for a rollout to go.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::{embedded::Connection, scene::Served};

use super::LIMIT;
use crate::{
    oracle,
    world::{Sluice, World, rollout},
};

/// A way for a rollout to go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// All steps pass.
    Promotion,
    /// The canary fails.
    Breach,
    /// Another revision is wanted in mid-step.
    Supersede,
    /// A person aborts in mid-step.
    Abort,
    /// The Rollout is deleted in mid-step.
    Deletion,
    /// Copies, then everything that a step can give at once, which a person aborts.
    Beside,
}

/// One run of a way.
pub(super) struct Run {
    way: Way,
    pub(super) world: World,
    _third: Option<Served>,
}

/// Users' requests a second: enough for a verdict within some looks.
const USERS: f64 = 20.0;

impl Way {
    /// The world before the controller starts.
    pub(super) async fn begin(self) -> Run {
        let world = World::new_for(USERS).await;
        let steps = match self {
            Self::Promotion | Self::Breach => {
                json!([{"weight": 20, "for": "1s"}, {"weight": 50, "for": "1s"}])
            }
            Self::Beside => json!([
                {"mirror": 100, "for": "1s"},
                {"weight": 20, "sticky": {"header": "x-hash"}, "for": "1s"},
                {
                    "weight": 50, "match": [{"headers": {"x-group": {"exact": "beta"}}}], "mirror": 0.5,
                    "sticky": {"cookie": {"name": "arm"}}, "approve": true,
                },
            ]),
            Self::Supersede | Self::Abort | Self::Deletion => json!([{"weight": 50, "approve": true}]),
        };
        let mut object = rollout(&steps);
        object["spec"]["interval"] = "500ms".into();
        object["spec"]["settle"] = "500ms".into();
        object["spec"]["checks"][0]["errors"]["minRequests"] = 4.into();
        world.create(object).await;
        let third = match self {
            Self::Breach => {
                world.fails(0.5);
                None
            }
            Self::Supersede => Some(world.scene.serve("iris-v3", "iris", "v3").await.unwrap()),
            Self::Promotion | Self::Abort | Self::Deletion | Self::Beside => None,
        };
        Run { way: self, world, _third: third }
    }
}

impl Run {
    /// Takes it to its end with a controller over `first`, and over what `next` gives after each crash. How often it
    /// crashed.
    ///
    /// # Errors
    /// It never ended.
    pub(super) async fn go(
        &mut self,
        first: Connection,
        next: &dyn Fn(&World) -> Connection,
    ) -> Result<usize, String> {
        let mut controllers =
            Controllers { current: self.world.controller_over(first, None), next, crashes: 0 };
        let world = &self.world;
        match self.way {
            Way::Promotion | Way::Breach => {}
            Way::Supersede | Way::Abort | Way::Deletion | Way::Beside => {
                controllers.until(world, || world.status()["reason"] == "WaitingForApproval").await?;
            }
        }
        match self.way {
            Way::Promotion | Way::Breach => {}
            Way::Supersede => world.want("iris-v3").await,
            Way::Abort | Way::Beside => world.ask("Abort", "stop").await,
            Way::Deletion => world.delete_rollout().await,
        }
        controllers.until(world, || self.is_over()).await?;
        Ok(controllers.crashes)
    }

    fn is_over(&self) -> bool {
        let status = self.world.status();
        let stamped = oracle::stamp(&self.world.virtual_service());
        let at_rest = status["retiring"].is_null() && Some(stamped) == status["seq"].as_u64();
        match self.way {
            Way::Promotion => status["phase"] == "Healthy" && at_rest,
            Way::Breach => status["phase"] == "RolledBack" && at_rest,
            Way::Supersede => {
                status["canary"]["service"] == "iris-v3"
                    && status["reason"] == "WaitingForApproval"
                    && at_rest
            }
            Way::Abort | Way::Beside => {
                status["phase"] == "RolledBack" && at_rest && !self.world.action("stop").is_null()
            }
            Way::Deletion => status == Value::Null,
        }
    }
}

/// The controller, started anew whenever it has crashed.
struct Controllers<'a> {
    current: Sluice,
    next: &'a dyn Fn(&World) -> Connection,
    crashes: usize,
}

impl Controllers<'_> {
    async fn until(&mut self, world: &World, over: impl Fn() -> bool) -> Result<(), String> {
        let look = async {
            loop {
                if self.current.has_crashed() {
                    self.current = world.controller_over((self.next)(world), None);
                    self.crashes += 1;
                } else if over() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        let ended = tokio::time::timeout(LIMIT, look).await;
        ended.map_err(|_| format!("it never ended: {}", crate::world::summary(&world.status())))
    }
}
