//! Editing a whole `VirtualService`: each selected route by itself.

use serde_json::Value;

use super::{
    error::RouteError,
    route::{self, Edited},
    select::{Selection, select},
    setting::{Cluster, Setting},
};

/// The `VirtualService` with the wanted setting on the selected routes, and nothing else changed.
///
/// Doing it again changes nothing, and neither does a setting that is in place already. The result is a function of
/// the object and the setting alone.
///
/// # Errors
/// When the canary is to have weight, the first thing that is wrong with a selected route. When it is taken away
/// ([`Setting::takes_away`]), only if no selected route could be edited.
pub fn edit(
    virtual_service: &Value,
    selection: &Selection,
    setting: &Setting,
    cluster: &Cluster<'_>,
) -> Result<Value, RouteError> {
    let mut after = virtual_service.clone();
    let mut first_error = None;
    let mut foreign = Vec::new();
    let mut edited_one = false;
    for selected in select(virtual_service, selection)? {
        let index = selected.as_ref().ok().map(|selected| selected.index);
        let edited = selected.and_then(|selected| route::edit(&selected, setting, cluster));
        match edited {
            Ok(Edited::Managed(entries)) => {
                edited_one = true;
                let route = index.and_then(|index| after.pointer_mut(&format!("/spec/http/{index}/route")));
                if let Some(route) = route {
                    *route = Value::Array(entries);
                }
            }
            Ok(Edited::NothingManaged(views)) => foreign.extend(views),
            Err(error) if setting.takes_away() => drop(first_error.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    match first_error {
        _ if edited_one => Ok(after),
        Some(error) => Err(error),
        None => Err(route::nothing_managed_at_all(selection, setting, &foreign)),
    }
}
