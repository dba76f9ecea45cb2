//! Editing a whole `VirtualService`: each selected route by itself.

use serde_json::{Map, Value};

use super::{
    conjunction,
    destination::DestinationView,
    error::RouteError,
    hashed, mirror, own,
    route::{self, Destinations, Edited},
    select::{Place, Selected, Selection, select},
    setting::{Cluster, Role, Setting, Sticky, StickyBy},
    unnoted,
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
    let (mut plain, unmarked) = own::without(virtual_service, selection);
    unnoted::take_off(&mut plain, virtual_service, selection, setting, cluster);
    let mut edit = Edit { after: plain.clone(), routes: 0, obstacles: unmarked.err().into_iter().collect() };
    let selected = match select(&plain, selection) {
        Ok(selected) => selected,
        Err(obstacle) => {
            edit.obstacles.push(obstacle);
            return edit;
        }
    };
    let keys =
        plain.pointer("/spec/http").and_then(Value::as_array).map(|http| own::keys(http)).unwrap_or_default();
    let mut foreign = Vec::new();
    let mut before = Vec::new();
    for selected in selected {
        let edited = selected.and_then(|selected| {
            let key = if selected.is_http() { keys.get(selected.index) } else { None };
            let key = key.map_or("", String::as_str);
            edit_route(&mut edit.after, &selected, key, setting, cluster)
        });
        match edited {
            Ok(Ok(own)) => {
                edit.routes += 1;
                before.push(own);
            }
            Ok(Err(views)) => foreign.extend(views),
            Err(obstacle) => edit.obstacles.push(obstacle),
        }
    }
    insert(&mut edit.after, before);
    if edit.routes == 0 && edit.obstacles.is_empty() {
        edit.obstacles.push(route::nothing_managed_at_all(selection, setting, &foreign));
    }
    edit
}

/// Routes that belong right before the route of an index.
type Own = (usize, Vec<Value>);

/// Edits one route in place, and gives what belongs before it; or else what it lists, where that is nobody's of the
/// setting.
fn edit_route(
    after: &mut Value,
    selected: &Selected<'_>,
    key: &str,
    setting: &Setting,
    cluster: &Cluster<'_>,
) -> Result<Result<Own, Vec<DestinationView>>, RouteError> {
    let destinations = match route::edit(selected, setting, cluster)? {
        Edited::Managed(destinations) => destinations,
        Edited::NothingManaged(views) => return Ok(Err(views)),
    };
    let Selected { index, place, fields, .. } = selected;
    let beside = selected.is_http() && !setting.takes_away();
    let mut divided = destinations.divided(setting);
    let mut own = Vec::new();
    if beside {
        let route = Before { place, fields, key, setting, destinations: &destinations };
        own = route.all()?;
        route.set_cookies(&mut divided)?;
    }
    if let Some(route) = after.pointer_mut(&format!("{}/route", selected.pointer())) {
        *route = Value::Array(divided);
    }
    if let Some(canary) = destinations.canary().filter(|_| beside && !setting.mirror.is_nothing()) {
        mirror::put_on(after, place.selection, (*index, key), canary, setting.mirror)?;
    }
    Ok(Ok((*index, own)))
}

fn insert(virtual_service: &mut Value, own: Vec<Own>) {
    let Some(http) = virtual_service.pointer_mut("/spec/http").and_then(Value::as_array_mut) else { return };
    // From the last on: the places of those before it stay.
    for (index, own) in own.into_iter().rev() {
        http.splice(index..index, own);
    }
}

/// What is put before a route: copies of it for requests of one arm.
struct Before<'r> {
    place: &'r Place<'r>,
    fields: &'r Map<String, Value>,
    key: &'r str,
    setting: &'r Setting,
    destinations: &'r Destinations,
}

impl Before<'_> {
    fn all(&self) -> Result<Vec<Value>, RouteError> {
        let Self { place, fields, key, setting, .. } = self;
        let mut own = Vec::new();
        if !setting.matches.is_empty() {
            let matches = conjunction::of_route(place, fields, &setting.matches)?;
            own.push(self.copy(key, Role::Canary, matches));
        }
        for (role, arm) in ARMS {
            let Some(sticky) = &setting.sticky else { break };
            let Some((header, condition)) = self.stays_on(sticky, role, arm) else { continue };
            let matches = conjunction::with_header(place, fields, &sticky.path, header, &condition)?;
            let mut copy = self.copy(&format!("{key}+{arm}"), role, matches);
            // Whom the canary answers in any case it needs no copies of.
            if role == Role::Stable
                && !setting.mirror.is_nothing()
                && let Some(canary) = self.destinations.canary()
            {
                mirror::add(place, &mut copy, canary, setting.mirror)?;
            }
            own.push(copy);
        }
        Ok(own)
    }

    /// The header that says of a client that it stays on an arm, and what it says then. The canary's is asked for first, so
    /// that a hash which is not the canary's is stable's.
    fn stays_on<'s>(&self, sticky: &'s Sticky, role: Role, arm: &str) -> Option<(&'s str, Value)> {
        match &sticky.by {
            StickyBy::Cookie(cookie) => {
                Some(("cookie", own::has_cookie(&self.place.selection.rollout, cookie, arm)))
            }
            StickyBy::Header(name) if role == Role::Canary => {
                Some((name, hashed::of_canary(self.setting.weight)?))
            }
            StickyBy::Header(name) => Some((name, hashed::of_anybody())),
        }
    }

    /// The route for requests that meet `matches`, all of which go to one arm; the rest as in the route.
    fn copy(&self, key: &str, arm: Role, matches: Vec<Value>) -> Value {
        let mut copy = self.fields.clone();
        copy.insert("name".to_owned(), own::name(&self.place.selection.rollout, key).into());
        copy.insert("match".to_owned(), matches.into());
        copy.insert("route".to_owned(), self.destinations.all_to(arm, self.setting).into());
        Value::Object(copy)
    }

    fn set_cookies(&self, divided: &mut [Value]) -> Result<(), RouteError> {
        let Some(Sticky { path, by: StickyBy::Cookie(cookie) }) = &self.setting.sticky else { return Ok(()) };
        let rollout = &self.place.selection.rollout;
        for (role, arm) in ARMS {
            for index in self.destinations.indexes(role) {
                let place = self.place.at(&format!("route[{index}]"));
                if let Some(entry) = divided.get_mut(index) {
                    own::set_cookie(&place, entry, rollout, (cookie, path), arm)?;
                }
            }
        }
        Ok(())
    }
}

/// What cookies, and the names of own routes, call the arms; the canary comes first.
const ARMS: [(Role, &str); 2] = [(Role::Canary, "canary"), (Role::Stable, "stable")];
