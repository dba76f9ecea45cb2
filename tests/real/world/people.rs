//! What people ask for, as with the command line and by hand.

use anyhow::{Result, anyhow};
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use sluice::cli::view::Screen;
use sluice::cli::{self, AskArgs, Plain, Session};
use sluice_core::api::{Do, GoDuration};
use sluice_lab::real::wait;

use super::{IRIS, World, same};
use crate::lab::{LIMIT, PERSON};

impl World<'_> {
    /// A person asks for something as with the command line; what it prints, or why not.
    pub async fn ask(&self, what: Do, reason: &str) -> Result<String, String> {
        let client = self.shared.cluster.user(PERSON).map_err(|error| error.to_string())?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let screen = Screen { width: None, height: None, colour: false, program: "sluice".to_owned() };
        let mut session = Session {
            client,
            cluster: "https://lab".to_owned(),
            namespace: self.namespace.clone(),
            screen,
            out: &mut out,
            err: &mut err,
        };
        let args = AskArgs {
            name: IRIS.to_owned(),
            reason: Some(reason.to_owned()),
            wait: GoDuration(LIMIT),
            output: Plain::Text,
        };
        let done = cli::act(&mut session, what, &args).await;
        done.map_err(|failure| failure.to_string())?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// [`ask`](Self::ask) once the traffic of the step is on the route and the controller has seen it.
    pub async fn ask_in_place(&self, what: Do, reason: &str) -> Result<String, String> {
        let limit = tokio::time::Instant::now() + LIMIT;
        loop {
            match self.ask(what, reason).await {
                Err(failure)
                    if failure.contains("not in place yet") && tokio::time::Instant::now() < limit => {}
                outcome => return outcome,
            }
        }
    }

    /// Opens the gate of the current step.
    pub async fn approve(&self) -> Result<()> {
        self.ask(Do::Approve, "fine").await.map(drop).map_err(|failure| anyhow!("approve: {failure}"))
    }

    /// Creates an action by hand and waits for the answer.
    pub async fn action(&self, mut spec: Value) -> Result<Value> {
        spec["rollout"] = json!(IRIS);
        let action = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction",
            "metadata": {"generateName": "by-hand-"}, "spec": spec,
        });
        let created = self.create("sluice.dev", "v1alpha1", &action).await?;
        let name = created["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let answered = wait::until(LIMIT, format!("{spec} is answered"), || async {
            let action = self.actions().get(&name).await.map_err(|error| error.to_string())?;
            if action.data["status"].is_null() { Err("not yet".to_owned()) } else { Ok(action) }
        });
        Ok(serde_json::to_value(answered.await?)?)
    }

    /// What was asked for so far and what became of it, in the order of the answers.
    pub async fn the_record_is(&self, expected: &[&str]) -> Result<()> {
        let list = self.actions().list(&ListParams::default()).await?;
        let text = |action: &DynamicObject, pointer: &str| {
            action.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut actions = list.items;
        // Times are of seconds; an action's last write is its answer.
        let version =
            |action: &DynamicObject| action.metadata.resource_version.as_deref()?.parse::<u64>().ok();
        actions.sort_by_key(version);
        let seen: Vec<_> =
            actions.iter().map(|a| format!("{} {}", text(a, "/spec/do"), text(a, "/status/phase"))).collect();
        same("actions", &seen, &expected.iter().map(|line| (*line).to_owned()).collect())
    }
}
