//! The ways for a rollout to go, each with what people do and how it ends.

use anyhow::Result;
use chrono::Utc;
use serde_json::{Value, json};
use sluice_lab::gateway::Running;
use sluice_lab::real::wait;

use crate::lab::{LIMIT, Shared};
use crate::oracle;
use crate::trace::Known;
use crate::world::{IRIS, POD_PORT, World, brief};

/// What people call the action that aborts.
const STOP: &str = "stop";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Promotion,
    /// A check fails at the second step.
    Breach,
    /// Another revision is wanted at the second step.
    Supersede,
    /// A person aborts at the second step.
    Abort,
    /// The Rollout is deleted at the second step.
    Deletion,
}

impl Way {
    /// A namespace of its own for a run of this name.
    pub async fn world<'a>(self, shared: &'a Shared, run: &str) -> Result<World<'a>> {
        let namespace = format!("struck-{}-{run}", format!("{self:?}").to_lowercase());
        let mut world = World::on(shared, &namespace).await?;
        if self == Self::Supersede {
            world.serve("v3").await?;
        }
        Ok(world)
    }

    fn spec(self) -> Value {
        match self {
            Self::Promotion => {
                json!({"steps": [{"weight": 20, "for": "600ms"}, {"weight": 60, "for": "600ms"}]})
            }
            Self::Breach => json!({
                "steps": [{"weight": 20, "for": "600ms"}, {"weight": 60, "for": "1h"}],
                "checks": [{"name": "errors", "errors": {"max": "1%", "minRequests": 4}}],
                "metrics": {"scrape": {"port": POD_PORT}},
            }),
            Self::Supersede | Self::Abort | Self::Deletion => {
                json!({"steps": [{"weight": 20, "for": "600ms"}, {"weight": 60, "for": "1h"}]})
            }
        }
    }

    /// Users, where the way needs them.
    fn users(self, world: &World<'_>) -> Option<Running> {
        (self == Self::Breach).then(|| world.users(20.0))
    }

    /// Takes it to its end.
    pub async fn go(self, world: &World<'_>, known: &mut Known) -> Result<()> {
        let _users = self.users(world);
        world.create_rollout(&world.rollout("v2", self.spec())).await?;
        if self != Self::Promotion {
            world.step(2, "iris-v2", 60).await?;
        }
        match self {
            Self::Promotion => {}
            Self::Breach => {
                world.predictor("v2").set_errors(0.5);
                known.breach("iris-v2", Utc::now());
            }
            Self::Supersede => world.want("v3").await?,
            Self::Abort => {
                let action = json!({
                    "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"name": STOP},
                    "spec": {"rollout": IRIS, "do": "Abort", "reason": "bad"},
                });
                world.create("sluice.dev", "v1alpha1", &action).await?;
            }
            Self::Deletion => world.delete_rollout().await?,
        }
        self.is_over(world).await
    }

    /// Waits until nothing is left to do.
    pub async fn is_over(self, world: &World<'_>) -> Result<()> {
        if self == Self::Deletion {
            return world.gone().await;
        }
        let what = format!("{}: {self:?} is over", world.namespace);
        wait::until(LIMIT, what, || async {
            let status = world.status().await.map_err(|error| error.to_string())?;
            let route = world.route().await.map_err(|error| error.to_string())?;
            let stamp = oracle::stamp(&route, &world.key()).unwrap_or_default();
            let answered = world.actions().get_opt(STOP).await.map_err(|error| error.to_string())?;
            let is_answered = answered.is_none_or(|action| !action.data["status"].is_null());
            let stands = status["retiring"].is_null() && stamp["seq"] == status["seq"] && is_answered;
            if stands && self.has_ended(&status) { Ok(()) } else { Err(brief(&status)) }
        })
        .await?;
        Ok(())
    }

    fn has_ended(self, status: &Value) -> bool {
        match self {
            Self::Promotion => status["phase"] == "Healthy" && status["reason"] == "Live",
            Self::Breach => status["phase"] == "RolledBack" && status["reason"] == "CheckFailed",
            Self::Supersede => {
                status["canary"]["service"] == "iris-v3"
                    && status["progress"]["number"] == 2
                    && status["weight"] == 60
            }
            Self::Abort => status["phase"] == "RolledBack" && status["reason"] == "Aborted",
            Self::Deletion => false,
        }
    }
}
