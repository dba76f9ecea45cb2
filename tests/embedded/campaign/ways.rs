//! The ways for a rollout to go.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::{embedded::Connection, gateway::Running, operator::Operator, scene::Served};

use super::LIMIT;
use crate::{
    expose::users,
    operated::on_the_routes,
    oracle, seldon,
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
    /// A person aborts, and Seldon Core's operator, who owns the routes, does nothing about it.
    Operated,
}

/// One run of a way.
pub(super) struct Run {
    way: Way,
    pub(super) world: World,
    _third: Option<Served>,
    operated: Option<Operated>,
}

/// A SeldonDeployment, and all that has to be there for it.
struct Operated {
    operator: Operator,
    _served: [Served; 2],
    _users: Running,
}

/// Users' requests a second: enough for a verdict within some looks.
const USERS: f64 = 20.0;

impl Way {
    /// The world before the controller starts.
    pub(super) async fn begin(self) -> Run {
        if matches!(self, Self::Operated) {
            return Run::operated().await;
        }
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
            Self::Supersede | Self::Abort | Self::Deletion | Self::Operated => {
                json!([{"weight": 50, "approve": true}])
            }
        };
        world.create(quick(rollout(&steps))).await;
        let third = match self {
            Self::Breach => {
                world.fails(0.5);
                None
            }
            Self::Supersede => Some(world.scene.serve("iris-v3", "iris", "v3").await.unwrap()),
            Self::Promotion | Self::Abort | Self::Deletion | Self::Beside | Self::Operated => None,
        };
        Run { way: self, world, _third: third, operated: None }
    }
}

/// A Rollout that looks often, and needs little to say something.
fn quick(mut object: Value) -> Value {
    object["spec"]["interval"] = "500ms".into();
    object["spec"]["settle"] = "500ms".into();
    object["spec"]["checks"][0]["errors"]["minRequests"] = 4.into();
    object
}

impl Run {
    /// One where Seldon Core's operator owns the routes.
    async fn operated() -> Self {
        let (world, served) = seldon::operated().await;
        let operator = seldon::operator(&world);
        let users = users(&world, "/seldon/models/iris");
        world.create(quick(seldon::slotted(json!([{"weight": 50, "approve": true}])))).await;
        let operated = Some(Operated { operator, _served: served, _users: users });
        Self { way: Way::Operated, world, _third: None, operated }
    }

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
            Way::Supersede | Way::Abort | Way::Deletion | Way::Beside | Way::Operated => {
                controllers.until(world, || world.status()["reason"] == "WaitingForApproval").await?;
            }
        }
        if let Some(operated) = &self.operated {
            operated.operator.stand_still();
        }
        match self.way {
            Way::Promotion | Way::Breach => {}
            Way::Supersede => world.want("iris-v3").await,
            Way::Abort | Way::Beside | Way::Operated => world.ask("Abort", "stop").await,
            Way::Deletion => world.delete_rollout().await,
        }
        controllers.until(world, || self.is_over()).await?;
        Ok(controllers.crashes)
    }

    fn is_over(&self) -> bool {
        let status = self.world.status();
        let stamped = if self.operated.is_some() {
            oracle::stamp(&seldon::stored(&self.world))
        } else {
            oracle::stamp(&self.world.virtual_service())
        };
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
            Way::Operated => {
                status["phase"] == "RolledBack"
                    && at_rest
                    && !self.world.action("stop").is_null()
                    && on_the_routes(&self.world) == [[100, 0]; 2]
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
