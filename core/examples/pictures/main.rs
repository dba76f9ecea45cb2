//! The pictures of `docs/judgement.md`, from seeded simulations that go through the judge itself.
//!
//! ```console
//! $ cargo run --release -p sluice-core --example pictures
//! ```
//! It writes them into `docs/images`; a test fails when those there are not what it makes.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a command of the repository, which ends when something is wrong; its counts are small"
)]

mod chart;
mod runs;

use std::{fs, path::PathBuf};

use self::{
    chart::{Chart, Line},
    runs::{Canary, LOOKS, MINUTES_A_LOOK, Rules, Run},
};

/// Rollouts of each kind.
const RUNS: u64 = 300;
/// Of these the evidence is drawn.
const DRAWN: u64 = 12;

fn main() {
    for (name, svg) in pictures() {
        let path = folder().join(name);
        fs::write(&path, svg).unwrap();
        println!("{}", path.display());
    }
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images"))
}

fn pictures() -> [(&'static str, String); 3] {
    [("false-alarms.svg", false_alarms()), ("evidence.svg", evidence()), ("detection.svg", detection())]
}

/// Minutes of a look, from 1.
fn minutes(look: usize) -> f64 {
    look as f64 * MINUTES_A_LOOK
}

/// The share of `runs` in which an alarm was given by each look.
fn by_then(runs: &[Run], when: impl Fn(&Run) -> Option<usize>) -> Vec<(f64, f64)> {
    let share = |look: usize| {
        let alarmed = runs.iter().filter(|run| when(run).is_some_and(|at| at <= look)).count();
        100.0 * alarmed as f64 / runs.len() as f64
    };
    (0..=LOOKS).map(|look| (minutes(look), share(look))).collect()
}

/// How many healthy canaries each rule has rolled back, over an hour.
fn false_alarms() -> String {
    let healthy = Canary { requests_a_second: 20.0, errors: 0.01, times: 1.0 };
    let runs: Vec<Run> = (0..RUNS).map(|seed| Run::of(healthy, seed, Rules::All)).collect();
    Chart {
        title: "Healthy canaries that were rolled back",
        under: "20 requests/s, both predictors with the same 1% errors, canary at 10%, a look every 30 s; 300 rollouts",
        x: ("minutes", vec![0.0, 15.0, 30.0, 45.0, 60.0]),
        y: ("% of rollouts", vec![0.0, 25.0, 50.0, 75.0, 100.0]),
        logarithmic: false,
        mark: None,
        lines: vec![
            Line::new("over 2% in a minute", "a", by_then(&runs, |run| run.threshold)),
            Line::new("3 times in a row", "b", by_then(&runs, |run| run.three_in_a_row)),
            Line::new("z-test at every look, 1%", "c", by_then(&runs, |run| run.z_test)),
            Line::new("versusStable, 99%", "d", by_then(&runs, |run| run.compared)),
        ],
    }
    .svg()
}

/// The evidence against good and bad canaries as it grows.
fn evidence() -> String {
    let of = |times, class: &'static str| {
        let canary = Canary { requests_a_second: 100.0, errors: 0.01, times };
        (0..DRAWN).map(move |seed| {
            let run = Run::of(canary, 1000 + seed, Rules::Compared);
            let points = run.evidence.iter().enumerate();
            let name = match seed {
                0 if times > 1.0 => format!("{times} times stable's errors"),
                0 => "as good as stable".to_owned(),
                _ => String::new(),
            };
            Line {
                name,
                class,
                points: points.map(|(look, worse)| (minutes(look + 1), worse.clamp(1e-3, 1e6))).collect(),
            }
        })
    };
    Chart {
        title: "Evidence that the canary is worse",
        under: "100 requests/s, stable with 1% errors, canary at 10%; twelve rollouts of each",
        x: ("minutes", vec![0.0, 15.0, 30.0, 45.0, 60.0]),
        y: ("evidence", vec![1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]),
        logarithmic: true,
        mark: Some((100.0, "a rollback needs 100")),
        lines: of(1.0, "d").chain(of(1.5, "b")).chain(of(3.0, "a")).collect(),
    }
    .svg()
}

/// How soon a worse canary is found.
fn detection() -> String {
    let found = |times: f64, class: &'static str| {
        let canary = Canary { requests_a_second: 100.0, errors: 0.01, times };
        let runs: Vec<Run> = (0..RUNS).map(|seed| Run::of(canary, 2000 + seed, Rules::Compared)).collect();
        let mut points = by_then(&runs, |run| run.compared);
        points.truncate(41);
        Line::new(format!("{times} times the errors"), class, points)
    };
    Chart {
        title: "Worse canaries that were rolled back",
        under: "100 requests/s, stable with 1% errors, canary at 10%, a look every 30 s; 300 rollouts of each",
        x: ("minutes", vec![0.0, 5.0, 10.0, 15.0, 20.0]),
        y: ("% of rollouts", vec![0.0, 25.0, 50.0, 75.0, 100.0]),
        logarithmic: false,
        mark: None,
        lines: vec![found(5.0, "a"), found(3.0, "b"), found(2.0, "c"), found(1.5, "d")],
    }
    .svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_in_the_docs_are_those_of_this_command() {
        for (name, svg) in pictures() {
            let there = fs::read_to_string(folder().join(name)).unwrap();
            assert!(
                there == svg,
                "docs/images/{name} is stale: cargo run --release -p sluice-core --example pictures"
            );
        }
    }
}
