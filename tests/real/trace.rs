//! The history of one test for the invariant checker: what it finds is a failure, whatever else the test is about.

use std::sync::Arc;

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sluice_lab::invariants::{Commit, End, Limits, Mark, Run, check, end, told};
use sluice_lab::real::Authors;

use crate::lab::CONTROLLER;
use crate::world::World;

/// What every namespace is called in a trace, so that runs in several can be compared.
const NAMESPACE: &str = "models";

/// What a test knows besides the objects.
pub struct Known {
    pub marks: Vec<Mark>,
    /// What "soon" is.
    pub limits: Limits,
    /// How the same ended without faults.
    pub calm: Option<End>,
}

impl Default for Known {
    fn default() -> Self {
        // Time is real here and the machine may be busy: what "soon" is in virtual time is shown on the embedded API.
        let [news, reconcile, breach] = [10, 45, 60].map(TimeDelta::seconds);
        Self { marks: Vec::new(), limits: Limits { news, reconcile, breach }, calm: None }
    }
}

impl Known {
    /// A Service has been broken since then.
    pub fn breach(&mut self, service: &str, from: DateTime<Utc>) {
        let (namespace, service) = (NAMESPACE.to_owned(), service.to_owned());
        self.marks.push(Mark::Breach { namespace, service, from, to: None });
    }

    /// Nobody could do anything meanwhile.
    pub fn away(&mut self, from: DateTime<Utc>, to: DateTime<Utc>) {
        self.marks.push(Mark::Away { from, to: Some(to) });
    }
}

impl World<'_> {
    /// Checks everything that was committed in this namespace since it is there; how it ended.
    pub async fn holds(&self, known: Known, authors: Authors) -> Result<End> {
        let commits = self.shared.history.commits(&self.namespace, authors).await?;
        let commits = commits.iter().map(|commit| self.renamed(commit)).collect::<Result<Vec<_>>>()?;
        ensure!(
            commits.iter().any(|commit| commit.resource == "rollouts/status"),
            "the trace shows no rollout"
        );
        let mut run = Run::new(commits, &[CONTROLLER], Utc::now());
        run.marks = known.marks;
        run.limits = known.limits;
        run.calm = known.calm;
        let found = check(&run);
        ensure!(found.is_empty(), "{}: {}", self.namespace, told(&found));
        Ok(end(&run))
    }

    fn renamed(&self, commit: &Commit) -> Result<Commit> {
        let rename = |object: &Option<Arc<Value>>| -> Result<Option<Arc<Value>>> {
            let Some(object) = object else { return Ok(None) };
            let text = object.to_string().replace(&self.namespace, NAMESPACE);
            Ok(Some(Arc::new(serde_json::from_str(&text)?)))
        };
        Ok(Commit {
            namespace: NAMESPACE.to_owned(),
            before: rename(&commit.before)?,
            after: rename(&commit.after)?,
            ..commit.clone()
        })
    }
}
