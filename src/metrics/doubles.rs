//! A counter that is recorded twice: two jobs that scrape one address, or the two servers of a pair behind one address that does
//! not take their answers for one.
//!
//! Each request would count twice, in both arms alike, so that no share would look wrong; but twice the requests are twice the
//! evidence, and a healthy canary would be rolled back for what chance did. Series of one address that differ only in what
//! scraping adds *and* whose samples, put in order, are those of one counter are one. Their samples are taken together, so that
//! nothing is lost when one of the two is scraped no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    counters::{Cell, Family, Point},
    exposition::Labels,
};

/// Labels by which one series may be there more than once: whose scrape it is. Operators of Prometheus add the last three.
const SCRAPED: [&str; 5] = ["job", "endpoint", "replica", "prometheus", "prometheus_replica"];
/// The labels of the counters that were read.
#[derive(Debug, Default)]
pub struct Doubles {
    labels: BTreeMap<Cell, Labels>,
}

/// Counters that may be one: about one arm, of one kind, from one address.
type Place = (Arc<str>, Family, String);

impl Doubles {
    /// Takes note of a counter with its labels. Only what Prometheus has scraped has a job: pods that are asked themselves are
    /// asked once.
    pub fn met(&mut self, cell: &Cell, labels: &Labels) {
        if labels.contains_key("job") && !self.labels.contains_key(cell) {
            let mut own = labels.clone();
            if cell.family == Family::Latency {
                // Of a histogram's series any may be met first.
                own.retain(|label, _| label != "__name__" && label != "le");
            }
            self.labels.insert(cell.clone(), own);
        }
    }

    /// Takes the samples of counters that are one together, and says which went into which.
    pub fn merge(self, cells: &mut BTreeMap<Cell, Vec<Point>>) -> BTreeMap<Cell, Cell> {
        let mut places = BTreeMap::<Place, Vec<(&Cell, &Labels)>>::new();
        for (cell, labels) in &self.labels {
            if let Some(place) = place(labels).filter(|_| cells.contains_key(cell)) {
                places.entry((cell.arm.clone(), cell.family, place)).or_default().push((cell, labels));
            }
        }
        let mut doubles = BTreeMap::new();
        for there in places.into_values() {
            let scrapes: BTreeSet<_> = there.iter().map(|(_, labels)| scrape(labels)).collect();
            if scrapes.len() > 1 {
                merge_all(&there, cells, &mut doubles);
            }
        }
        doubles
    }
}

fn merge_all(
    there: &[(&Cell, &Labels)],
    cells: &mut BTreeMap<Cell, Vec<Point>>,
    doubles: &mut BTreeMap<Cell, Cell>,
) {
    let mut kept: Vec<(&Cell, &Labels)> = Vec::new();
    for &(cell, labels) in there {
        let points = |cell: &Cell| cells.get(cell).map(Vec::as_slice).unwrap_or_default();
        let same = |(known, own): (&Cell, &Labels)| {
            scrape(own) != scrape(labels) && agree(own, labels) && is_one(points(known), points(cell))
        };
        let Some((known, _)) = kept.iter().copied().find(|one| same(*one)) else {
            kept.push((cell, labels));
            continue;
        };
        let points = cells.remove(cell).unwrap_or_default();
        let all = cells.entry(known.clone()).or_default();
        all.extend(points);
        all.sort_by_key(|point| point.at);
        doubles.insert(cell.clone(), known.clone());
    }
}

/// Where the counter is; nothing where nobody says. Two ports of one host may be two programs, which count for themselves.
fn place(labels: &Labels) -> Option<String> {
    let part = |name: &str| labels.get(name).map_or("", String::as_str);
    let who = if part("instance").is_empty() { part("pod") } else { part("instance") };
    (!who.is_empty()).then(|| format!("{}/{who}", part("cluster")))
}

/// Whose scrape a series is.
fn scrape(labels: &Labels) -> [Option<&String>; SCRAPED.len()] {
    SCRAPED.map(|label| labels.get(label))
}

/// Whether two series could be one by their own labels. One job may add labels that another one does not.
fn agree(one: &Labels, other: &Labels) -> bool {
    let mut own = one.iter().filter(|(label, _)| !SCRAPED.contains(&label.as_str()));
    own.all(|(label, value)| other.get(label).is_none_or(|found| found == value))
}

/// Whether the samples of two series, in order, are such as one counter has: together they fall no oftener than it was reset.
fn is_one(one: &[Point], other: &[Point]) -> bool {
    let falls = |points: &mut Vec<&Point>| {
        points.sort_by(|a, b| a.at.cmp(&b.at).then(a.total.total_cmp(&b.total)));
        points.windows(2).filter(|pair| pair[1].total < pair[0].total).count()
    };
    let most = falls(&mut one.iter().collect()).max(falls(&mut other.iter().collect()));
    falls(&mut one.iter().chain(other).collect()) <= most
}

#[cfg(test)]
#[path = "doubles_tests.rs"]
mod tests;
