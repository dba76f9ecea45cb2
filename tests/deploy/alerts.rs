//! The alert rules as a Prometheus has them: loaded, evaluated, pending for as long as they say, and firing with texts that a
//! person can act on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use sluice_lab::real::{Alert, Prometheus, Target, wait};

use crate::{
    monitoring::{LIMIT, SCRAPE_INTERVAL, exporter, rules},
    yaml,
};

/// A trouble, in a job of its own: what the controller says, and of the alert that it is made for a part of a text.
struct Trouble {
    alert: &'static str,
    says: &'static str,
    text: &'static str,
}

const TROUBLES: [Trouble; 10] = [
    Trouble { alert: "SluiceSlotsNotHeld", says: "sluice_slots_held 12", text: "12 of 16 slots are held. " },
    Trouble {
        alert: "SluiceCannotAct",
        says: "sluice_reconciles_total{outcome=\"Refused\"} 5000",
        text: "100% of the reconciles end with an error, ",
    },
    Trouble {
        alert: "SluiceBlind",
        says: "sluice_rollouts_without_metrics 2",
        text: "2 Rollouts in flight have had no metrics ",
    },
    Trouble {
        alert: "SluiceMetricsMissing",
        says: "sluice_rollouts_without_metrics 2",
        text: "2 Rollouts in flight cannot be judged. ",
    },
    Trouble {
        alert: "SluiceActsLate",
        says: "sluice_decision_latency_seconds_bucket{le=\"5.0\"} 300\n\
               sluice_decision_latency_seconds_bucket{le=\"+Inf\"} 300",
        // 0.99 of the way from one bound to the next.
        text: "The slowest hundredth takes 4.96s from ",
    },
    Trouble {
        alert: "SluiceMetricsSourceFails",
        says: "sluice_metrics_query_errors_total{source=\"default\",kind=\"Unavailable\"} 900\n\
               sluice_metrics_query_duration_seconds_count{source=\"default\"} 1000",
        // Prometheus extends the two rates by different times, so the share is a little less than all.
        text: "% of the questions to it gave no number.",
    },
    Trouble {
        alert: "SluiceMetricsSourceSlow",
        says: "sluice_metrics_query_duration_seconds_bucket{source=\"default\",le=\"5.0\"} 300\n\
               sluice_metrics_query_duration_seconds_bucket{source=\"default\",le=\"+Inf\"} 300",
        text: "The slowest hundredth of the questions takes 4.975s; ",
    },
    Trouble {
        alert: "SluiceRolledBack",
        says: "sluice_rollbacks_total{reason=\"CheckFailed\"} 1",
        text: "Users have the stable predictor. ",
    },
    Trouble {
        alert: "SluiceRolloutsStalled",
        says: "sluice_rollouts{phase=\"Stalled\"} 1",
        text: "1 Rollouts are stalled. ",
    },
    Trouble {
        alert: "SluiceRolloutsWait",
        says: "sluice_rollouts{phase=\"Waiting\"} 1",
        text: "Up to 1 Rollouts wait ",
    },
];

/// In place of every time that an alert waits for.
const WAITS: TimeDelta = TimeDelta::seconds(2);

/// The groups of the rule file.
fn groups() -> Value {
    yaml("deploy/monitoring/rules.yaml")["spec"].clone()
}

/// The same for people with little time.
fn hurried() -> Value {
    let mut spec = groups();
    for group in spec["groups"].as_array_mut().into_iter().flatten() {
        for rule in group["rules"].as_array_mut().into_iter().flatten() {
            if let Some(waits) = rule.get_mut("for") {
                *waits = format!("{}s", WAITS.num_seconds()).into();
            }
        }
    }
    spec
}

/// What a controller that is well says, with what `changed` says in place of it.
fn says(changed: &str) -> String {
    let well = "sluice_slots_held 16\n\
        sluice_rollouts_without_metrics 0\n\
        sluice_rollouts{phase=\"Stalled\"} 0\n\
        sluice_rollouts{phase=\"Waiting\"} 0\n\
        sluice_rollbacks_total{reason=\"CheckFailed\"} 0\n\
        sluice_reconciles_total{outcome=\"ok\"} 1000\n\
        sluice_reconciles_total{outcome=\"Refused\"} 0\n\
        sluice_decision_latency_seconds_bucket{le=\"1.0\"} 100\n\
        sluice_decision_latency_seconds_bucket{le=\"5.0\"} 100\n\
        sluice_decision_latency_seconds_bucket{le=\"+Inf\"} 100\n\
        sluice_metrics_query_errors_total{source=\"default\",kind=\"Unavailable\"} 0\n\
        sluice_metrics_query_duration_seconds_count{source=\"default\"} 100\n\
        sluice_metrics_query_duration_seconds_bucket{source=\"default\",le=\"2.5\"} 100\n\
        sluice_metrics_query_duration_seconds_bucket{source=\"default\",le=\"5.0\"} 100\n\
        sluice_metrics_query_duration_seconds_bucket{source=\"default\",le=\"+Inf\"} 100\n";
    let series = |line: &str| line.rsplit_once(' ').map(|(series, _)| series.to_owned());
    let changes = |line: &&str| !changed.lines().any(|new| series(new) == series(line));
    well.lines().filter(changes).chain(changed.lines()).map(|line| format!("{line}\n")).collect()
}

/// An alert's name and the job that it is about; the name alone where nobody is there.
type Which = (String, Option<String>);

fn which(alert: &Alert) -> Which {
    (alert.labels["alertname"].clone(), alert.labels.get("job").cloned())
}

/// What of alerts was seen.
#[derive(Default)]
struct Seen {
    pending: BTreeSet<String>,
    firing: BTreeMap<Which, Alert>,
}

impl Seen {
    /// Looks once. No alert may fire before its time.
    async fn look(&mut self, prometheus: &Prometheus) {
        let now = Utc::now();
        self.firing.clear();
        for alert in prometheus.alerts().await.unwrap() {
            let name = alert.labels["alertname"].clone();
            if alert.state == "pending" {
                self.pending.insert(name);
            } else {
                let held = now - alert.active_at;
                let waits =
                    rules().iter().any(|rule| rule["alert"] == name.as_str() && !rule["for"].is_null());
                // Both are this machine's time, written down a moment later.
                let early = waits && held < WAITS - TimeDelta::milliseconds(100);
                assert!(!early, "{name} fires after {held}");
                self.firing.insert(which(&alert), alert);
            }
        }
    }

    async fn until_firing(&mut self, prometheus: &Prometheus, wanted: &BTreeSet<Which>) {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            self.look(prometheus).await;
            let firing: BTreeSet<Which> = self.firing.keys().cloned().collect();
            if firing == *wanted {
                return;
            }
            let missing: Vec<_> = wanted.symmetric_difference(&firing).collect();
            assert!(tokio::time::Instant::now() < end, "these fire, or should: {missing:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_is_loaded_as_it_is_and_can_be_evaluated() {
    let prometheus = Prometheus::start_with_rules(SCRAPE_INTERVAL, &groups()).await.unwrap();
    let loaded = wait::until(LIMIT, "all rules were evaluated", || async {
        let loaded = prometheus.rules().await.map_err(|error| error.to_string())?;
        let fresh: Vec<_> = loaded.iter().filter(|rule| rule.health == "unknown").collect();
        if fresh.is_empty() { Ok(loaded.clone()) } else { Err(format!("{fresh:?}")) }
    })
    .await
    .unwrap();
    for rule in &loaded {
        assert_eq!((rule.health.as_str(), rule.last_error.as_str()), ("ok", ""), "{rule:?}");
    }
    let [minute, hour] = [60.0, 3600.0];
    let expected = [
        ("SluiceDown", "page", 2.0 * minute),
        ("SluiceSlotsNotHeld", "page", 2.0 * minute),
        ("SluiceCannotAct", "page", 5.0 * minute),
        ("SluiceBlind", "page", 15.0 * minute),
        ("SluiceActsLate", "ticket", 15.0 * minute),
        ("SluiceMetricsMissing", "ticket", 5.0 * minute),
        ("SluiceMetricsSourceFails", "ticket", 10.0 * minute),
        ("SluiceMetricsSourceSlow", "ticket", 10.0 * minute),
        ("SluiceRolledBack", "ticket", 0.0),
        ("SluiceRolloutsStalled", "ticket", 15.0 * minute),
        ("SluiceRolloutsWait", "ticket", 24.0 * hour),
    ];
    let loaded: Vec<_> = loaded
        .iter()
        .map(|rule| (rule.name.as_str(), rule.labels["severity"].as_str(), rule.duration))
        .collect();
    assert_eq!(loaded, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_on_what_it_is_about_in_its_time_and_says_what_is_wrong() {
    let prometheus = Prometheus::start_with_rules(SCRAPE_INTERVAL, &hurried()).await.unwrap();
    let mut seen = Seen::default();
    seen.until_firing(&prometheus, &[("SluiceDown".to_owned(), None)].into()).await;

    let mut texts = Vec::new();
    let mut targets = Vec::new();
    for job in ["well"].into_iter().chain(TROUBLES.iter().map(|trouble| trouble.alert)) {
        let text = Arc::new(Mutex::new(says("")));
        targets.push(Target::new(exporter(text.clone()).await).label("job", job));
        texts.push(text);
    }
    prometheus.set_targets(targets).await.unwrap();
    wait::until(LIMIT, "all are scraped twice", || async {
        let all = prometheus.query("count_over_time(sluice_slots_held[1m]) >= 2").await;
        match all.map_err(|error| error.to_string())?.len() {
            count if count > TROUBLES.len() => Ok(()),
            count => Err(format!("{count} are")),
        }
    })
    .await
    .unwrap();
    seen.until_firing(&prometheus, &BTreeSet::new()).await;

    for (text, trouble) in texts.iter().skip(1).zip(&TROUBLES) {
        *text.lock().unwrap() = says(trouble.says);
    }
    // Two alerts may be about the same.
    let about = |alert: &str| -> Vec<Which> {
        let made = TROUBLES.iter().find(|trouble| trouble.alert == alert).unwrap().says;
        let same = TROUBLES.iter().filter(|trouble| trouble.says == made);
        same.map(|trouble| (alert.to_owned(), Some(trouble.alert.to_owned()))).collect()
    };
    let wanted: BTreeSet<Which> = TROUBLES.iter().flat_map(|trouble| about(trouble.alert)).collect();
    seen.until_firing(&prometheus, &wanted).await;

    for trouble in &TROUBLES {
        let alert = &seen.firing[&(trouble.alert.to_owned(), Some(trouble.alert.to_owned()))];
        let description = &alert.annotations["description"];
        let is_said = description.contains(trouble.text) && !description.starts_with(['%', ' ']);
        assert!(is_said, "{}: {description}", trouble.alert);
        for text in alert.annotations.values() {
            assert!(!text.contains("{{") && !text.contains("no value"), "{}: {text}", trouble.alert);
        }
    }
    let summary =
        |alert: &str| seen.firing[&(alert.to_owned(), Some(alert.to_owned()))].annotations["summary"].clone();
    assert_eq!(summary("SluiceMetricsSourceFails"), "The metrics source default fails");
    assert_eq!(summary("SluiceRolledBack"), "A canary was rolled back (CheckFailed)");
    let waiting = rules().iter().filter(|rule| !rule["for"].is_null()).count();
    assert_eq!(seen.pending.len(), waiting, "{:?} were pending before they fired", seen.pending);
}
