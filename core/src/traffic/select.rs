//! Which http routes of a `VirtualService` are meant, and what they list.

use serde_json::{Map, Value};

use super::{
    destination::{self, DestinationView},
    error::{RouteError, Trouble},
    own,
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
    /// `namespace/name` of the Rollout that moves them: what it adds has its mark.
    pub rollout: String,
    /// Names of http routes; none means every http route that lists a managed predictor, unless there are ports or hosts.
    pub http: Vec<String>,
    /// Ports: of each the tcp route that takes its connections.
    pub tcp: Vec<u16>,
    /// Hosts as clients name them: of each the tls route that takes its connections.
    pub tls: Vec<String>,
}

impl Selection {
    /// Every http route of a `VirtualService` that lists a managed predictor, for the Rollout `rollout` (`namespace/name`).
    pub fn every_http(namespace: &str, name: &str, rollout: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            rollout,
            http: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
        }
    }

    /// Every http route that lists a managed predictor.
    pub fn is_every_http(&self) -> bool {
        self.http.is_empty() && self.tcp.is_empty() && self.tls.is_empty()
    }
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
    /// Its list: `http`, `tcp` or `tls`.
    pub(super) list: &'static str,
    /// Its place in that.
    pub(super) index: usize,
    pub(super) place: Place<'v>,
    pub(super) name: Option<&'v str>,
    /// The whole route.
    pub(super) fields: &'v Map<String, Value>,
    /// Never empty.
    pub(super) entries: &'v [Value],
}

impl Selected<'_> {
    /// Points to it in the `VirtualService`.
    pub(super) fn pointer(&self) -> String {
        format!("/spec/{}/{}", self.list, self.index)
    }

    /// Whether it is about requests, and not about connections.
    pub(super) fn is_http(&self) -> bool {
        self.list == HTTP
    }
}

const HTTP: &str = "http";

/// Finds the selected routes, those of each list in the `VirtualService`'s order. What cannot be used is an error of its
/// own, so that it need not keep the other routes from being moved.
pub(super) fn select<'v>(
    virtual_service: &'v Value,
    selection: &'v Selection,
) -> Result<Vec<Result<Selected<'v>, RouteError>>, RouteError> {
    let mut found = Vec::new();
    if !selection.http.is_empty() || selection.is_every_http() {
        found = select_http(virtual_service, selection)?;
    }
    let ports = selection.tcp.iter().map(|port| ("tcp", format!("port {port}"), takes_port(*port)));
    let hosts = selection.tls.iter().map(|host| ("tls", format!("the host {host}"), takes_host(host)));
    for (list, of, takes) in ports.collect::<Vec<_>>().into_iter().chain(hosts.collect::<Vec<_>>()) {
        let connection = select_connection(virtual_service, selection, list, &of, &*takes);
        let known =
            |index| found.iter().flatten().any(|it: &Selected<'_>| it.list == list && it.index == index);
        if !connection.as_ref().is_ok_and(|selected| known(selected.index)) {
            found.push(connection);
        }
    }
    Ok(found)
}

/// Whether a match of a tcp or tls route takes certain connections.
type Takes<'s> = Box<dyn Fn(&Value) -> bool + 's>;

fn takes_port<'s>(port: u16) -> Takes<'s> {
    Box::new(move |condition| condition["port"].as_u64().is_none_or(|wanted| wanted == u64::from(port)))
}

fn takes_host(host: &str) -> Takes<'_> {
    Box::new(move |condition| {
        let names = condition["sniHosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let fits = |name: &str| match name.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => name.eq_ignore_ascii_case(host),
        };
        names.into_iter().any(fits)
    })
}

/// The route of a list that takes certain connections: the first, as Istio goes through them.
fn select_connection<'v>(
    virtual_service: &'v Value,
    selection: &'v Selection,
    list: &'static str,
    of: &str,
    takes: &dyn Fn(&Value) -> bool,
) -> Result<Selected<'v>, RouteError> {
    let routes = virtual_service.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
    let routes = routes.map(Vec::as_slice).unwrap_or_default();
    let taken = |route: &Value| match route.get("match").and_then(Value::as_array).map(Vec::as_slice) {
        None | Some([]) => list == "tcp",
        Some(matches) => matches.iter().any(takes),
    };
    let all = Place { selection, path: format!("spec.{list}") };
    let Some(index) = routes.iter().position(taken) else {
        return Err(all.trouble(Trouble::NoConnectionRoute { list, of: of.to_owned() }));
    };
    let place = Place { selection, path: format!("spec.{list}[{index}]") };
    let fields = place.object(&routes[index])?;
    match entries_of(&place, fields)? {
        [] => Err(place.trouble(Trouble::NoDestinations { found: "none".to_owned() })),
        entries => Ok(Selected { list, index, place, name: None, fields, entries }),
    }
}

fn select_http<'v>(
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
        // What a Rollout added is nobody's to move.
        if own::owner(route).is_some() {
            return None;
        }
        let explicit = wanted(*name);
        if !explicit && !selection.http.is_empty() {
            return None;
        }
        let place = Place { selection, path: format!("spec.http[{index}]") };
        let read = place.object(route).and_then(|fields| Ok((fields, entries_of(&place, fields)?)));
        match read {
            Ok((_, [])) if !explicit => None,
            Ok((_, [])) => Some(Err(place.trouble(Trouble::NoDestinations { found: instead(route) }))),
            Ok((fields, entries)) => {
                Some(Ok(Selected { list: HTTP, index, place, name: *name, fields, entries }))
            }
            Err(error) => Some(Err(error)),
        }
    });
    Ok(found.chain(missing).collect())
}

pub(super) fn name_of(route: &Value) -> Option<&str> {
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

impl Place<'_> {
    pub(super) fn object_mut<'v>(
        &self,
        value: &'v mut Value,
    ) -> Result<&'v mut Map<String, Value>, RouteError> {
        if !value.is_object() {
            return Err(self.malformed("an object", Some(value)));
        }
        value.as_object_mut().ok_or_else(|| self.malformed("an object", None))
    }

    /// What the route asks for here, and what `step` asks for, cannot both be had.
    pub(super) fn conflict(&self, what: &str, step: &str) -> RouteError {
        self.trouble(Trouble::Conflict { what: what.to_owned(), step: step.to_owned() })
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
