//! The benchmark: what the controller costs and how fast it is, on the real API server, in figures beside their limits.
//!
//! The controller is measured as users run it: the release program `sluice run` as a process of its own, under the
//! rights of `deploy/`. A figure is measured or absent; none is assumed. `docs/benchmarks.md` says what each means.

mod breach;
mod commits;
mod controller;
mod figure;
mod looks;
mod machine;
mod objects;
mod rest;
mod source;
mod users;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::Utc;
use clap::ValueEnum;
use serde::Serialize;

pub(crate) use self::controller::{Controller, USER as CONTROLLER};
pub use self::controller::{beside_this, build};
pub use self::figure::{Figure, Latencies};
pub use self::machine::Machine;
use crate::real::binaries::Component;

/// A part of the benchmark that can be run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Memory with nothing to do
    Idle,
    /// From a breach to weight 0, and what is written for it
    Breach,
    /// The same beside the Rollouts at rest
    BreachBeside,
    /// From a breach in Prometheus to the last request that the canary gets, through a real Envoy
    Users,
    /// Memory, processor time and requests with the Rollouts at rest
    Rest,
    /// Punctuality and questions with all Rollouts in flight, on one core
    Looks,
    /// Memory with ten times as many, also after the API server restarts
    Many,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The controller's program.
    pub program: PathBuf,
    /// The repository, whose `deploy/` is installed.
    pub repository: PathBuf,
    /// Which scenarios, in this order.
    pub scenarios: Vec<Scenario>,
    /// How many Rollouts are beside, at rest or in flight; the limits are for 1,000.
    pub rollouts: usize,
    /// To see that it works: a few seconds of each, and limits of what takes time do not apply.
    pub quick: bool,
}

/// How often something is done.
#[derive(Clone, Copy)]
struct Size {
    full: usize,
    quick: usize,
}

/// All that one run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// What was measured, and against what.
    pub versions: Versions,
    /// How many Rollouts were beside, at rest or in flight.
    pub rollouts: usize,
    /// Whether it was the quick form, whose figures say nothing.
    pub quick: bool,
    /// The figures.
    pub figures: Vec<Figure>,
    /// Scenarios that did not come to their end; they have no figures.
    pub failed: Vec<Failed>,
}

/// A scenario that did not come to its end.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// Its name.
    pub scenario: String,
    /// Why.
    pub error: String,
}

/// Versions of the programs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Versions {
    /// The controller's.
    pub sluice: String,
    /// The API server's.
    pub kube_apiserver: String,
}

impl Report {
    /// Whether every scenario came to its end, and every figure that has a limit is within it.
    pub fn holds(&self) -> bool {
        self.failed.is_empty() && self.figures.iter().all(|figure| figure.holds != Some(false))
    }
}

impl Bench {
    /// Measures. Only in a [`namespace`](crate::real::namespace).
    pub async fn run(&self) -> Result<Report> {
        ensure!(self.program.is_file(), "{}: there is no controller", self.program.display());
        let machine = Machine::here();
        let versions =
            Versions { sluice: controller::version(&self.program)?, kube_apiserver: api_server_version()? };
        let (mut figures, mut failed) = (Vec::new(), Vec::new());
        for scenario in &self.scenarios {
            let name = scenario.to_possible_value().map(|value| value.get_name().to_owned());
            let name = name.unwrap_or_default();
            self.says(&format!("{name}:"));
            let measured = match scenario {
                Scenario::Idle => rest::idle(self).await,
                Scenario::Breach => breach::run(self, "breach", 0).await,
                Scenario::BreachBeside => breach::run(self, "breach_beside", self.rollouts).await,
                Scenario::Users => users::run(self).await,
                Scenario::Rest => rest::at_rest(self).await,
                Scenario::Looks => looks::run(self).await,
                Scenario::Many => rest::many(self).await,
            };
            match measured {
                Ok(measured) => {
                    measured.iter().for_each(|figure| self.says(&in_a_line(figure)));
                    figures.extend(measured);
                }
                // Those after it may well.
                Err(error) => {
                    self.says(&format!("  FAILED: {error:#}"));
                    failed.push(Failed { scenario: name, error: format!("{error:#}") });
                }
            }
        }
        let (rollouts, quick) = (self.rollouts, self.quick);
        Ok(Report { machine: machine.ended(), versions, rollouts, quick, figures, failed })
    }

    fn size(&self, size: Size) -> usize {
        if self.quick { size.quick } else { size.full }
    }

    /// How long to look, which the quick form does not.
    fn time(&self, full: Duration) -> Duration {
        if self.quick { full.min(Duration::from_secs(2)) } else { full }
    }

    /// Whether the run is as large as limits ask for that are about so many Rollouts.
    fn is_whole(&self, rollouts: usize) -> bool {
        self.rollouts == rollouts
    }

    /// Progress for people.
    #[allow(clippy::unused_self)] // where it goes may be an option one day
    fn says(&self, what: &str) {
        eprintln!("{} {what}", Utc::now().format("%H:%M:%S"));
    }
}

/// A figure as people read it on the way.
fn in_a_line(figure: &Figure) -> String {
    let Figure { name, value, unit, limit, holds, samples, .. } = figure;
    let limit = limit.map(|limit| format!(" (at most {limit})")).unwrap_or_default();
    let verdict = match holds {
        Some(true) => " holds",
        Some(false) => " FALLS SHORT",
        None => "",
    };
    format!("  {name}: {value} {unit}{limit}{verdict}, {samples} samples")
}

/// What the API server says to `--version`, without its name.
fn api_server_version() -> Result<String> {
    let said = controller::version(&Component::KubeApiserver.locate()?)?;
    Ok(said.strip_prefix("Kubernetes ").map_or(said.clone(), str::to_owned))
}

/// The repository that this program was built from.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: Vec<Figure>) -> Report {
        let versions = Versions { sluice: "1".to_owned(), kube_apiserver: "2".to_owned() };
        Report {
            machine: Machine::here(),
            versions,
            rollouts: 1000,
            quick: false,
            figures,
            failed: Vec::new(),
        }
    }

    #[test]
    fn a_report_holds_unless_a_figure_is_above_its_limit() {
        let informs = Figure::new("a", 5.0, "ms", "");
        let holds = Figure::new("b", 5.0, "ms", "").at_most(5.0);
        let short = Figure::new("c", 6.0, "ms", "").at_most(5.0);
        assert!(report(vec![informs.clone(), holds.clone()]).holds());
        assert!(!report(vec![informs.clone(), holds, short]).holds());
        let failed = Failed { scenario: "looks".to_owned(), error: "no room".to_owned() };
        assert!(!Report { failed: vec![failed], ..report(vec![informs]) }.holds());
    }

    #[test]
    fn a_report_is_one_object_with_what_is_promised() {
        let json = serde_json::to_value(report(vec![Figure::new("a", 5.0, "ms", "by hand")])).unwrap();
        assert_eq!(json["versions"]["kube-apiserver"], "2");
        let figure = &json["figures"][0];
        for field in ["name", "value", "unit", "limit", "holds", "samples", "how"] {
            assert!(figure.get(field).is_some(), "{field}");
        }
        assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
    }

    #[test]
    fn a_figure_in_a_line_says_whether_it_holds() {
        let line = in_a_line(&Figure::new("a.p99", 31.5, "ms", "").at_most(30.0).of(120));
        assert_eq!(line, "  a.p99: 31.5 ms (at most 30) FALLS SHORT, 120 samples");
    }
}
