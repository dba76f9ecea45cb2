//! What the routes of a `VirtualService` give a canary, as they are.

use serde_json::Value;

use super::{
    Cluster, Selection, destination,
    error::RouteError,
    mirror, own,
    select::{Place, select},
};
use crate::Predictor;

/// What a canary gets on the selected routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Its weight on each.
    pub weights: Vec<u32>,
    /// The share of the requests of each in percent that is copied to it.
    pub mirrors: Vec<f64>,
    /// The routes of the Rollout's own that lead to it, each with the matches that it has.
    pub matches: Vec<Value>,
}

impl FromIterator<Shown> for Shown {
    fn from_iter<T: IntoIterator<Item = Shown>>(several: T) -> Self {
        several.into_iter().fold(Self::default(), |mut all, one| {
            all.weights.extend(one.weights);
            all.mirrors.extend(one.mirrors);
            all.matches.extend(one.matches);
            all
        })
    }
}

impl Shown {
    /// Whether this is more than `before` in one respect, on one route at least, and less in that respect on none.
    pub fn is_growth_from(&self, before: &Self) -> bool {
        let rises = |pairs: Vec<(f64, f64)>| {
            pairs.iter().any(|(before, after)| after > before)
                && !pairs.iter().any(|(before, after)| after < before)
        };
        let weights = before.weights.iter().zip(&self.weights);
        let lacks = |one: &Self, other: &Self| one.matches.iter().any(|route| !other.matches.contains(route));
        // One that there was and is not there has 0.
        rises(weights.map(|(before, after)| (f64::from(*before), f64::from(*after))).collect())
            || rises(before.mirrors.iter().copied().zip(self.mirrors.iter().copied()).collect())
            || lacks(self, before) && !lacks(before, self)
            || self.weights.len() != before.weights.len()
    }
}

/// What `canary` gets on the selected routes, by weight, by match and as copies.
///
/// # Errors
/// A selected route that cannot be read.
pub fn shown(
    virtual_service: &Value,
    selection: &Selection,
    canary: &Predictor,
    cluster: &Cluster<'_>,
) -> Result<Shown, RouteError> {
    let mut shown = Shown::default();
    for selected in select(virtual_service, selection)? {
        let selected = selected?;
        let views = destination::read_all(&selected.place, selected.entries, cluster)?;
        let ours = views.iter().filter(|view| view.is(canary));
        shown.weights.push(ours.fold(0, |sum, view| sum.saturating_add(view.weight)));
        let is_canary = |destination: &Value| {
            let entry = serde_json::json!({ "destination": destination });
            let views = destination::read_all(&selected.place, &[entry], cluster);
            views.is_ok_and(|views| views.iter().any(|view| view.is(canary)))
        };
        let route = virtual_service.pointer(&selected.pointer()).unwrap_or(&Value::Null);
        shown.mirrors.push(mirror::percentages(route, is_canary));
    }
    let http = virtual_service.pointer("/spec/http").and_then(Value::as_array).into_iter().flatten();
    for (index, route) in http.enumerate().filter(|(_, route)| own::owner(route) == Some(&selection.rollout))
    {
        let place = Place { selection, path: format!("spec.http[{index}]") };
        let entries = route.get("route").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let views = destination::read_all(&place, entries, cluster)?;
        if views.iter().any(|view| view.weight > 0 && view.is(canary)) {
            shown.matches.push(serde_json::json!({ "name": route.get("name"), "match": route.get("match") }));
        }
    }
    Ok(shown)
}
