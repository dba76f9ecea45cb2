//! Waiting for what must become true, with a limit and with what was seen instead.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;
use sluice_lab::gateway::Load;
use sluice_lab::real::wait;

use super::{IRIS, ROUTE, World, brief, condition, same, version};
use crate::controller::Controller;
use crate::lab::LIMIT;
use crate::oracle::{self, Recording};

impl World<'_> {
    /// Waits until the controller has looked so often in all.
    pub async fn until_looks(&self, controller: &Controller, looks: u64) -> Result<()> {
        wait::until(
            LIMIT,
            format!("{}: the controller has looked {looks} times", self.namespace),
            || async {
                match controller.looks() {
                    Ok(seen) if seen >= looks => Ok(()),
                    Ok(seen) => Err(format!("{seen} times")),
                    Err(error) => Err(error.to_string()),
                }
            },
        )
        .await?;
        Ok(())
    }

    /// The controller looks three times more, each time with a reason to, and no weight changes.
    pub async fn stays_like_this(&self, controller: &Controller) -> Result<()> {
        let some = |route: &Value| {
            let mut weights = oracle::weights(route, ROUTE);
            weights.retain(|_, weight| *weight > 0);
            weights
        };
        let before = some(&self.route().await?);
        for turn in 0..3 {
            let looks = controller.looks()?;
            self.touch(turn).await?;
            self.until_looks(controller, looks + 1).await?;
        }
        same("weights", &some(&self.route().await?), &before)
    }

    /// Waits until there is no Rollout any more.
    pub async fn gone(&self) -> Result<()> {
        wait::until(LIMIT, format!("{}: the Rollout is gone", self.namespace), || async {
            match self.rollouts().get_opt(IRIS).await {
                Ok(None) => Ok(()),
                Ok(Some(rollout)) => {
                    Err(format!("{:?}, {}", rollout.metadata.finalizers, brief(&rollout.data["status"])))
                }
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        Ok(())
    }

    /// Waits until a Rollout is refused; its condition `Accepted`.
    pub async fn refusal_of(&self, name: &str) -> Result<Value> {
        let refusal =
            wait::until(LIMIT, format!("{}: Rollout {name} is refused", self.namespace), || async {
                let rollout = self.rollouts().get(name).await.map_err(|error| error.to_string())?;
                let status = &rollout.data["status"];
                match condition(status, "Accepted") {
                    Ok(accepted) if accepted["status"] == "False" => Ok(accepted),
                    Ok(accepted) => Err(format!("{accepted}, {}", brief(status))),
                    Err(error) => Err(error.to_string()),
                }
            });
        Ok(refusal.await?)
    }

    /// Records every version of the VirtualService.
    pub async fn record(&self) -> Result<Recording> {
        Recording::start(self.virtual_services(), IRIS).await
    }

    /// Waits for the Rollout to be in a phase for a reason.
    pub async fn phase(&self, phase: &str, reason: &str) -> Result<Value> {
        self.status_is(&format!("the phase is {phase} ({reason})"), |status| {
            status["phase"] == phase && status["reason"] == reason
        })
        .await
    }

    /// Waits for a status that `holds`.
    pub async fn status_is(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let what = format!("{}: {what}", self.namespace);
        let seen = wait::until(LIMIT, what, || async {
            let status = self.status().await.map_err(|error| error.to_string())?;
            if holds(&status) { Ok(status) } else { Err(brief(&status)) }
        });
        Ok(seen.await?)
    }

    /// Waits until a Service's weight on the route is this.
    pub async fn weight_is(&self, service: &str, weight: i64) -> Result<Value> {
        let what = format!("{}: {service} has weight {weight}", self.namespace);
        let seen = wait::until(LIMIT, what, || async {
            let route = self.route().await.map_err(|error| error.to_string())?;
            let weights = oracle::weights(&route, ROUTE);
            if weights.get(service).copied().unwrap_or(0) == weight {
                return Ok(route);
            }
            let status = self.status().await.map_err(|error| error.to_string())?;
            Err(format!("{weights:?}, {}", brief(&status)))
        });
        Ok(seen.await?)
    }

    /// Waits until the step in flight is the one of this number, counted from 1, with its weight on the route.
    pub async fn step(&self, number: u64, service: &str, weight: i64) -> Result<Value> {
        let what = format!("step {number} of {service}");
        self.status_is(&what, |status| {
            status["progress"]["number"] == number && status["canary"]["service"] == service
        })
        .await?;
        self.weight_is(service, weight).await
    }

    /// Waits until the old predictor has left the route, so that nothing is left to do.
    pub async fn only(&self, service: &str) -> Result<Value> {
        let what = format!("{}: {service} is alone on the route", self.namespace);
        let seen = wait::until(LIMIT, what, || async {
            let route = self.route().await.map_err(|error| error.to_string())?;
            let weights = oracle::weights(&route, ROUTE);
            if weights.len() == 1 && weights.get(service) == Some(&100) {
                return Ok(route);
            }
            let status = self.status().await.map_err(|error| error.to_string())?;
            Err(format!("{weights:?}, {}", brief(&status)))
        });
        Ok(seen.await?)
    }

    /// Waits until the gateway obeys the VirtualService as it is now.
    pub async fn obeyed(&self) -> Result<()> {
        let wanted = version(&self.route().await?)?;
        wait::until(LIMIT, "the gateway obeys", || async {
            let obeyed = self.shared.gateway.obeys(&self.namespace, IRIS);
            match obeyed.as_deref().map(str::parse::<u64>) {
                Some(Ok(obeyed)) if obeyed >= wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        Ok(())
    }

    /// So many requests of users now; who answered how many of them.
    pub async fn asked(&self, count: u64) -> Result<BTreeMap<String, u64>> {
        self.obeyed().await?;
        let report = Load::infer(&self.host(), IRIS).count(count).run(&self.shared.gateway).await;
        Ok(report.by_predictor)
    }
}
