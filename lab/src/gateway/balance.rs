//! Who is next: weights, mirror percentages and endpoints, dealt out evenly and without chance.

use std::collections::HashMap;

use super::route::{Destination, Mirror};
use crate::share::Share;

/// Where each route and each Service stands in its turn.
#[derive(Debug, Default)]
pub(super) struct Balance {
    wheels: HashMap<String, Wheel>,
    mirrors: HashMap<String, (f64, Share)>,
    robins: HashMap<String, usize>,
}

#[derive(Debug)]
struct Wheel {
    destinations: Vec<Destination>,
    credit: Vec<i64>,
}

impl Wheel {
    fn new(destinations: &[Destination]) -> Self {
        Self { destinations: destinations.to_vec(), credit: vec![0; destinations.len()] }
    }

    /// Smooth weighted round robin: everybody earns their weight, the richest goes and pays for all.
    fn next(&mut self) -> Option<usize> {
        let weights = || self.destinations.iter().map(|d| i64::from(d.weight));
        let total: i64 = weights().sum();
        for (credit, weight) in self.credit.iter_mut().zip(weights()) {
            *credit += weight;
        }
        let entitled = |at: &usize| self.destinations.get(*at).is_some_and(|d| d.weight > 0);
        // The first of equals.
        let next = (0..self.credit.len()).filter(entitled).rev().max_by_key(|at| self.credit[*at])?;
        self.credit[next] -= total;
        Some(next)
    }
}

impl Balance {
    /// The destination whose turn it is; none where all weights are 0. Another set of weights starts anew.
    pub(super) fn destination<'a>(&mut self, route: &str, all: &'a [Destination]) -> Option<&'a Destination> {
        let wheel = self.wheels.entry(route.into()).or_insert_with(|| Wheel::new(all));
        if wheel.destinations != all {
            *wheel = Wheel::new(all);
        }
        all.get(wheel.next()?)
    }

    /// Whether it is this mirror's turn.
    pub(super) fn mirrors(&mut self, route: &str, mirror: &Mirror) -> bool {
        let key = format!("{route} {}", mirror.destination.host);
        let start = || (mirror.percentage, Share::new(mirror.percentage / 100.0));
        let turn = self.mirrors.entry(key).or_insert_with(start);
        if (turn.0 - mirror.percentage).abs() > f64::EPSILON {
            *turn = start();
        }
        turn.1.next()
    }

    /// One of a Service's endpoints.
    pub(super) fn endpoint<T: Copy>(&mut self, service: &str, all: &[T]) -> Option<T> {
        if all.is_empty() {
            return None;
        }
        let turn = self.robins.entry(service.into()).or_default();
        *turn = turn.wrapping_add(1);
        all.get(turn.wrapping_sub(1) % all.len()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::route::Headers;

    fn weighted(weights: &[u32]) -> Vec<Destination> {
        let destination = |(at, weight): (usize, &u32)| Destination {
            host: at.to_string(),
            port: None,
            weight: *weight,
            headers: Headers::default(),
        };
        weights.iter().enumerate().map(destination).collect()
    }

    fn deal(balance: &mut Balance, all: &[Destination], requests: usize) -> Vec<usize> {
        let mut counts = vec![0; all.len()];
        for _ in 0..requests {
            if let Some(next) = balance.destination("r", all) {
                counts[next.host.parse::<usize>().unwrap()] += 1;
            }
        }
        counts
    }

    #[test]
    fn a_thousand_requests_are_split_exactly() {
        for (weights, expected) in [
            (vec![75, 25], vec![750, 250]),
            (vec![95, 5, 0], vec![950, 50, 0]),
            (vec![1, 99], vec![10, 990]),
            (vec![0, 0], vec![0, 0]),
        ] {
            assert_eq!(deal(&mut Balance::default(), &weighted(&weights), 1000), expected, "{weights:?}");
        }
    }

    #[test]
    fn new_weights_start_anew() {
        let mut balance = Balance::default();
        deal(&mut balance, &weighted(&[99, 1]), 7);
        assert_eq!(deal(&mut balance, &weighted(&[50, 50]), 100), [50, 50]);
    }

    #[test]
    fn a_small_share_is_spread_and_not_bunched() {
        let mut balance = Balance::default();
        let all = weighted(&[90, 10]);
        for _ in 0..10 {
            assert_eq!(deal(&mut balance, &all, 10), [9, 1]);
        }
    }
}
