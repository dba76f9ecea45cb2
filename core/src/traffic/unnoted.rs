//! Copies of ours whose note was lost: somebody replaced the metadata of a `VirtualService`, or wrote over the annotation.
//!
//! A canary must not get copies for ever because of that, and no mirror of the owner's may be taken for one of ours. So
//! this is done only where the Rollout has no note at all, and then the stamp is asked, which is written in one patch
//! with the copies: where it says that the canary had none, whatever is there is the owner's. Where it says so many, or
//! is lost as well, one entry of a route is ours that looks just as ours do: a destination and a percentage, nothing else,
//! of a percentage that was written, to whoever may be losing its traffic.

use serde_json::{Value, json};

use super::{
    Cluster, Selection, destination, mirror,
    select::{Place, select},
    setting::{Role, Setting},
    stamp,
};
use crate::api::Percent;

/// Takes from the routes of `plain` what was copied to the predictors of the setting, if the note of that is lost.
/// `before` is the object as it was read.
pub(super) fn take_off(
    plain: &mut Value,
    before: &Value,
    selection: &Selection,
    setting: &Setting,
    cluster: &Cluster<'_>,
) {
    if mirror::is_noted(before, selection) {
        return;
    }
    let written = written(before, selection, setting);
    if written.is_empty() {
        return;
    }
    for index in managed(plain, selection, setting, cluster) {
        let place = Place { selection, path: format!("spec.http[{index}]") };
        let is_ours = |entry: &Value| {
            looks_like_ours(entry, &written) && is_known(&place, &entry["destination"], setting, cluster)
        };
        if let Some(route) = plain.pointer_mut(&format!("/spec/http/{index}")) {
            mirror::take_one(route, is_ours);
        }
    }
}

/// At which percentages copies were written that no note is about.
fn written(before: &Value, selection: &Selection, setting: &Setting) -> Vec<Percent> {
    match stamp::read(before, &selection.rollout) {
        Ok(Some(stamp)) => Some(stamp.beside.mirror).into_iter().filter(|it| !it.is_nothing()).collect(),
        Ok(None) | Err(_) => setting.copies.clone(),
    }
}

/// The http routes that list somebody of the setting's, or may: what is wrong with one keeps no copies on it.
fn managed(
    virtual_service: &Value,
    selection: &Selection,
    setting: &Setting,
    cluster: &Cluster<'_>,
) -> Vec<usize> {
    let selected = select(virtual_service, selection).unwrap_or_default();
    let routes = selected.iter().flatten().filter(|route| route.is_http());
    let managed = routes.filter(|route| {
        let views = destination::read_all(&route.place, route.entries, cluster);
        views.map_or(true, |views| views.iter().any(|view| setting.role(view) != Role::Foreign))
    });
    managed.map(|route| route.index).collect()
}

fn looks_like_ours(entry: &Value, written: &[Percent]) -> bool {
    let is_bare = entry.as_object().is_some_and(|fields| fields.len() == 2);
    let percent = entry["percentage"]["value"].as_f64().and_then(Percent::of);
    is_bare && entry["destination"].is_object() && percent.is_some_and(|percent| written.contains(&percent))
}

/// Whether it is the canary, or one that was.
fn is_known(place: &Place<'_>, destination: &Value, setting: &Setting, cluster: &Cluster<'_>) -> bool {
    let views = destination::read_all(place, &[json!({ "destination": destination })], cluster);
    let roles: Vec<Role> = views.iter().flatten().map(|view| setting.role(view)).collect();
    roles.iter().any(|role| match role {
        Role::Canary | Role::Retiring | Role::Known => true,
        Role::Stable | Role::Foreign => false,
    })
}
