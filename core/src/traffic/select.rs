//! Which http routes of a `VirtualService` are meant, and what they list.

use serde_json::{Map, Value};

use super::{
    destination::{self, DestinationView},
    error::{RouteError, Trouble},
    setting::Cluster,
};
use crate::Predictor;

/// Which routes of one `VirtualService` a Rollout moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Namespace of the `VirtualService`, in which its short hosts are resolved.
    pub namespace: String,
    /// Name of the `VirtualService`.
    pub name: String,
    /// Names of http routes; none means every http route that lists a managed predictor.
    pub http: Vec<String>,
}

/// An http route with destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// Where it stands, like `spec.http[0]`.
    pub path: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What it lists, in its order; never empty.
    pub destinations: Vec<DestinationView>,
}

impl RouteView {
    /// What `predictor` gets here, if it is listed: the sum, should it be listed twice.
    pub fn weight_of(&self, predictor: &Predictor) -> Option<u32> {
        let mut weights =
            self.destinations.iter().filter(|entry| entry.is(predictor)).map(|entry| entry.weight);
        let first = weights.next()?;
        Some(weights.fold(first, u32::saturating_add))
    }
}

/// Reads the selected routes: those that are named, or else all http routes that have destinations.
///
/// Weights are given as they are, even if they add up to more than 100 or if a destination is listed twice: what
/// is wrong must be seen to be put right.
pub fn read(
    virtual_service: &Value,
    selection: &Selection,
    cluster: &Cluster<'_>,
) -> Result<Vec<RouteView>, RouteError> {
    select(virtual_service, selection)?
        .into_iter()
        .map(|route| {
            let route = route?;
            let destinations = destination::read_all(&route.place, route.entries, cluster)?;
            Ok(RouteView { path: route.place.path, name: route.name.map(str::to_owned), destinations })
        })
        .collect()
}

/// A route that was selected.
pub(super) struct Selected<'v> {
    pub(super) index: usize,
    pub(super) place: Place<'v>,
    pub(super) name: Option<&'v str>,
    /// Never empty.
    pub(super) entries: &'v [Value],
}

/// Finds the selected routes, in the `VirtualService`'s order. A name that cannot be used is an error of its own,
/// so that it need not keep the other routes from being moved.
pub(super) fn select<'v>(
    virtual_service: &'v Value,
    selection: &'v Selection,
) -> Result<Vec<Result<Selected<'v>, RouteError>>, RouteError> {
    let http_place = Place { selection, path: "spec.http".to_owned() };
    let http = match virtual_service.pointer("/spec/http") {
        None | Some(Value::Null) => return Err(http_place.trouble(Trouble::NoHttpRoutes)),
        Some(Value::Array(http)) if http.is_empty() => {
            return Err(http_place.trouble(Trouble::NoHttpRoutes));
        }
        Some(Value::Array(http)) => http,
        other => return Err(http_place.malformed("a list of http routes", other)),
    };
    let names: Vec<_> = http.iter().map(name_of).collect();
    let missing = selection.http.iter().filter(|name| !names.contains(&Some(name.as_str())));
    let missing = missing.map(|name| {
        let existing = names.iter().flatten().map(|name| (*name).to_owned()).collect();
        Err(http_place.trouble(Trouble::RouteNotFound { name: name.clone(), existing }))
    });
    let wanted = |name: Option<&str>| name.is_some_and(|name| selection.http.iter().any(|it| it == name));
    let found = http.iter().zip(&names).enumerate().filter_map(|(index, (route, name))| {
        let explicit = wanted(*name);
        if !explicit && !selection.http.is_empty() {
            return None;
        }
        let place = Place { selection, path: format!("spec.http[{index}]") };
        match place.object(route).and_then(|route| entries_of(&place, route)) {
            Ok([]) if !explicit => None,
            Ok([]) => Some(Err(place.trouble(Trouble::NoDestinations { found: instead(route) }))),
            Ok(entries) => Some(Ok(Selected { index, place, name: *name, entries })),
            Err(error) => Some(Err(error)),
        }
    });
    Ok(found.chain(missing).collect())
}

fn name_of(route: &Value) -> Option<&str> {
    route.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())
}

fn entries_of<'v>(place: &Place<'_>, route: &'v Map<String, Value>) -> Result<&'v [Value], RouteError> {
    match route.get("route") {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(entries)) => Ok(entries),
        other => Err(place.at("route").malformed("a list of destinations", other)),
    }
}

/// What a route without destinations does.
fn instead(route: &Value) -> String {
    let kinds = ["redirect", "directResponse", "delegate"];
    let kind = kinds.into_iter().find(|kind| route.get(kind).is_some_and(|value| !value.is_null()));
    kind.unwrap_or("none").to_owned()
}

/// A field of the `VirtualService` that is looked at, for messages.
pub(super) struct Place<'s> {
    pub(super) selection: &'s Selection,
    pub(super) path: String,
}

impl<'s> Place<'s> {
    pub(super) fn at(&self, field: &str) -> Place<'s> {
        Place { selection: self.selection, path: format!("{}.{field}", self.path) }
    }

    pub(super) fn trouble(&self, trouble: Trouble) -> RouteError {
        let virtual_service = format!("{}/{}", self.selection.namespace, self.selection.name);
        RouteError { virtual_service, path: self.path.clone(), trouble }
    }

    pub(super) fn malformed(&self, expected: &'static str, found: Option<&Value>) -> RouteError {
        self.trouble(Trouble::Malformed { expected, found: shortened(found) })
    }

    pub(super) fn object<'v>(&self, value: &'v Value) -> Result<&'v Map<String, Value>, RouteError> {
        value.as_object().ok_or_else(|| self.malformed("an object", Some(value)))
    }
}

/// A value as a message can show it.
fn shortened(value: Option<&Value>) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        None | Some(Value::Null) => return "nothing".to_owned(),
        Some(value) => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
