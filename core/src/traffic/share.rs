//! The part of a route that the pair divides.

use serde_json::Value;

use super::{
    destination::{self, DestinationView},
    error::{RouteError, Trouble},
    route,
    select::{Selection, select},
    setting::{Cluster, Role, Setting},
};

/// What the pair has of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairShare {
    /// The route, like `spec.http[0]`.
    pub path: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What stable and canary have between them, 0 to 100.
    pub share: u32,
}

/// The pair's share of each selected route: what the managed destinations of `setting` have together. Its `weight`
/// does not count. Whatever would keep [`edit`](super::edit) from giving the canary weight is an error here.
pub fn share_of_pair(
    virtual_service: &Value,
    selection: &Selection,
    setting: &Setting,
    cluster: &Cluster<'_>,
) -> Result<Vec<PairShare>, RouteError> {
    let mut shares = Vec::new();
    let mut hosts = Vec::new();
    for selected in select(virtual_service, selection)? {
        let selected = selected?;
        let views = destination::read_all(&selected.place, selected.entries, cluster)?;
        let roles: Vec<_> = views.iter().map(|view| setting.role(view)).collect();
        if roles.iter().all(|role| *role == Role::Foreign) {
            if !selection.is_every_http() {
                return Err(route::nothing_managed(&selected.place, setting, &views));
            }
            hosts.extend(views);
            continue;
        }
        route::fit_to_grow(&selected.place, setting, &views, &roles)?;
        let share = share(&views, &roles);
        shares.push(PairShare { path: selected.place.path, name: selected.name.map(str::to_owned), share });
    }
    if shares.is_empty() {
        return Err(route::nothing_managed_at_all(selection, setting, &hosts));
    }
    Ok(shares)
}

/// Refuses the first of `weights` (percent of the pair's share) that would give the canary nothing, though it is
/// above 0, on any of the routes.
pub fn require_share(
    virtual_service: &Value,
    selection: &Selection,
    setting: &Setting,
    weights: &[u8],
    cluster: &Cluster<'_>,
) -> Result<(), RouteError> {
    for PairShare { path, share, .. } in share_of_pair(virtual_service, selection, setting, cluster)? {
        for weight in weights.iter().copied().filter(|weight| *weight > 0) {
            if part(share, weight) == 0 {
                let virtual_service = format!("{}/{}", selection.namespace, selection.name);
                return Err(RouteError {
                    virtual_service,
                    path,
                    trouble: Trouble::ShareTooSmall { share, weight },
                });
            }
        }
    }
    Ok(())
}

/// What `weight` percent of `share` are, rounded down: a canary never gets more than was asked for.
pub(super) fn part(share: u32, weight: u8) -> u32 {
    let part = u64::from(share) * u64::from(weight.min(100)) / 100;
    u32::try_from(part).unwrap_or(share)
}

/// What the managed destinations have together. In a route where nobody has anything, which Istio refuses, they
/// have all.
pub(super) fn share(views: &[DestinationView], roles: &[Role]) -> u32 {
    if sum(views.iter()) == 0 {
        return 100;
    }
    sum(views.iter().zip(roles).filter(|(_, role)| **role != Role::Foreign).map(|(view, _)| view))
}

pub(super) fn sum<'v>(views: impl Iterator<Item = &'v DestinationView>) -> u32 {
    views.fold(0, |sum, view| sum.saturating_add(view.weight))
}
