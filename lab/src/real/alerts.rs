//! What a Prometheus makes of rules.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{Prometheus, Result};

/// An alert that is about to fire, or does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Its labels, with `alertname`.
    pub labels: BTreeMap<String, String>,
    /// Its texts, filled in.
    pub annotations: BTreeMap<String, String>,
    /// `pending` or `firing`.
    pub state: String,
    /// Since when its expression holds.
    pub active_at: DateTime<Utc>,
}

/// A rule as it was loaded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The alert's name, or that of the series.
    pub name: String,
    /// `ok`, `err`, or `unknown` before it was evaluated.
    pub health: String,
    /// Why it could not be evaluated the last time; empty where it could.
    #[serde(default)]
    pub last_error: String,
    /// For how many seconds an alert's expression has to hold.
    #[serde(default)]
    pub duration: f64,
    /// What is put on the alert, or on the series.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

impl Prometheus {
    /// The alerts that are about to fire, or do.
    pub async fn alerts(&self) -> Result<Vec<Alert>> {
        let data: Alerts = self.get("/api/v1/alerts", &[]).await?;
        Ok(data.alerts)
    }

    /// The rules that it was started with.
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        let data: Groups = self.get("/api/v1/rules", &[]).await?;
        Ok(data.groups.into_iter().flat_map(|group| group.rules).collect())
    }
}
