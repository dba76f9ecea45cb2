//! What was written and asked for, from the raw objects and the audit log.

use anyhow::{Result, ensure};
use serde_json::Value;
use sluice_lab::real::{AuditEntry, wait};

use super::{IRIS, ROUTE, World, same, same_json, version};
use crate::controller::Controller;
use crate::lab::{CONTROLLER, LIMIT};
use crate::oracle::{self, Recording};

impl World<'_> {
    /// Every version of the VirtualService up to the present one.
    pub async fn versions(&self, recording: &Recording) -> Result<Vec<Value>> {
        let present = version(&self.route().await?)?;
        let seen = wait::until(LIMIT, "the recording has caught up", || async {
            let versions = recording.versions();
            match versions.last().map(version) {
                Some(Ok(last)) if last >= present => Ok(versions),
                other => Err(format!("it is at {other:?}")),
            }
        });
        Ok(seen.await?)
    }

    /// The weights that a Service had, one after the other.
    pub async fn sequence(&self, recording: &Recording, service: &str) -> Result<Vec<i64>> {
        let weight = |route: &Value| oracle::weights(route, ROUTE).get(service).copied().unwrap_or(0);
        Ok(oracle::without_repeats(&self.versions(recording).await?.iter().map(weight).collect::<Vec<_>>()))
    }

    /// In every version the weights add up to 100, all else is as in `original`, and the number of the decision in the
    /// stamp never falls.
    pub async fn only_weights_moved(&self, recording: &Recording, original: &Value) -> Result<()> {
        let mut number = 0;
        for route in self.versions(recording).await? {
            same("sum of weights", &oracle::weights(&route, ROUTE).values().sum::<i64>(), &100)?;
            same_json("the rest", &oracle::the_rest(&route, ROUTE), &oracle::the_rest(original, ROUTE))?;
            let stamped = oracle::stamp(&route, &self.key()).and_then(|stamp| stamp["seq"].as_u64());
            ensure!(stamped.unwrap_or(0) >= number, "the stamp fell from {number} to {stamped:?}");
            number = stamped.unwrap_or(0);
        }
        Ok(())
    }

    /// The Rollout's key in stamps.
    pub fn key(&self) -> String {
        format!("{}/{IRIS}", self.namespace)
    }

    /// What the controller asked of this namespace.
    pub fn asked_by_controller(&self) -> Result<Vec<AuditEntry>> {
        let mut entries = self.audit.of(CONTROLLER)?;
        entries.retain(|entry| entry.namespace == self.namespace);
        Ok(entries)
    }

    /// The changes that the controller asked for in this namespace: the lease is in another.
    pub fn writes(&self) -> Result<Vec<AuditEntry>> {
        let mut entries = self.asked_by_controller()?;
        entries.retain(AuditEntry::is_write);
        Ok(entries)
    }

    /// Ends the controller, and sees that the server never refused it anything: `deploy/` gave it the rights it uses, and
    /// what it writes is what the schema takes.
    pub async fn end(&self, controller: Controller) -> Result<()> {
        controller.stop().await?;
        self.never_refused()
    }

    /// The server never refused a controller anything.
    pub fn never_refused(&self) -> Result<()> {
        // A conflict or a deletion is nobody's fault, nor is a server that is too busy.
        let refused =
            |entry: &AuditEntry| matches!(entry.code, 400..=499) && ![404, 409, 429].contains(&entry.code);
        let refused: Vec<_> = self.asked_by_controller()?.into_iter().filter(refused).collect();
        ensure!(refused.is_empty(), "the controller was refused: {refused:?}");
        Ok(())
    }
}
