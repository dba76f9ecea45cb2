//! Editing a whole `VirtualService`: each selected route by itself.

use serde_json::Value;

use super::{
    error::RouteError,
    route::{self, Edited},
    select::{Selection, select},
    setting::{Cluster, Setting},
};

/// What an edit came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The object with the setting on every selected route that could be edited.
    pub after: Value,
    /// How many routes those are; they need not have changed.
    pub routes: usize,
    /// Why the others could not, in the `VirtualService`'s order, and at last what is not there at all.
    pub obstacles: Vec<RouteError>,
}

/// The `VirtualService` with the wanted setting on the selected routes, and nothing else changed.
///
/// Doing it again changes nothing, and neither does a setting that is in place already. The result is a function of
/// the object and the setting alone.
///
/// # Errors
/// When the canary is to have weight, the first thing that is wrong with a selected route. When it is taken away
/// ([`Setting::takes_away`]), only if no selected route could be edited; [`edit_what_can_be`] tells what was left out.
pub fn edit(
    virtual_service: &Value,
    selection: &Selection,
    setting: &Setting,
    cluster: &Cluster<'_>,
) -> Result<Value, RouteError> {
    let Edit { after, routes, obstacles } = edit_what_can_be(virtual_service, selection, setting, cluster);
    let good_enough = setting.takes_away() && routes > 0;
    match obstacles.into_iter().next() {
        Some(obstacle) if !good_enough => Err(obstacle),
        _ => Ok(after),
    }
}

/// Like [`edit`], but goes on past every route that cannot be edited and says why it could not.
pub fn edit_what_can_be(
    virtual_service: &Value,
    selection: &Selection,
    setting: &Setting,
    cluster: &Cluster<'_>,
) -> Edit {
    let mut edit = Edit { after: virtual_service.clone(), routes: 0, obstacles: Vec::new() };
    let selected = match select(virtual_service, selection) {
        Ok(selected) => selected,
        Err(obstacle) => {
            edit.obstacles.push(obstacle);
            return edit;
        }
    };
    let mut foreign = Vec::new();
    for selected in selected {
        let index = selected.as_ref().ok().map(|selected| selected.index);
        match selected.and_then(|selected| route::edit(&selected, setting, cluster)) {
            Ok(Edited::Managed(entries)) => {
                edit.routes += 1;
                let pointer = index.map(|index| format!("/spec/http/{index}/route"));
                if let Some(route) = pointer.and_then(|pointer| edit.after.pointer_mut(&pointer)) {
                    *route = Value::Array(entries);
                }
            }
            Ok(Edited::NothingManaged(views)) => foreign.extend(views),
            Err(obstacle) => edit.obstacles.push(obstacle),
        }
    }
    if edit.routes == 0 && edit.obstacles.is_empty() {
        edit.obstacles.push(route::nothing_managed_at_all(selection, setting, &foreign));
    }
    edit
}
