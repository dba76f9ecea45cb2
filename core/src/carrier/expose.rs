//! The VirtualService that Sluice generates: all of its spec is a function of the plan and of the wanted traffic, so that
//! whatever else is found there is drift, and is put back.

use serde_json::{Value, json};

use super::{ObjectName, World, controllers};
use crate::{
    HostNames, Predictor,
    api::Reason,
    machine::{self, Refusal, State},
    plan::{GRPC, HTTP, MESH, Plan, PlannedExpose, PlannedRoute},
    traffic::{self, RouteError, Selection, Setting, stamp, stamp::Stamp},
};

/// What Seldon Core's operator tells gRPC by: the methods of its protocols.
const GRPC_METHODS: &str = ".*tensorflow.*|.*seldon.protos.*|.*inference.*";
/// What it has requests tried again on.
const RETRY_ON: &str = "gateway-error,connect-failure,refused-stream";
/// The fields of a route by which somebody gets its requests, or copies of them.
const TRAFFIC: [&str; 5] = ["route", "mirrors", "mirror", "mirrorPercentage", "mirrorPercent"];

/// Something of ours that is to be created, or changed, beside the routes: it is for no one to fight over.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// What it is.
    pub kind: Kind,
    /// Namespace and name.
    pub object: ObjectName,
    /// What is to be written.
    pub write: Write,
}

/// The kinds that are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who gets which requests.
    VirtualService,
    /// The subsets of a Service, and how the proxies speak to it.
    DestinationRule,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The whole object.
    Create(Value),
    /// What to change, under the resourceVersion that was read.
    Patch(json_patch::Patch),
}

impl Kind {
    /// The kind as objects name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
        }
    }

    /// The kind as URLs name it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::VirtualService => "virtualservices",
            Self::DestinationRule => "destinationrules",
        }
    }
}

/// Whether an object is the Rollout's with this uid.
pub fn is_ours(object: &Value, uid: &str) -> bool {
    controllers(object).any(|owner| owner["uid"] == uid)
}

/// A new object of the Rollout's.
pub(super) fn object(world: &World<'_>, kind: Kind, name: &ObjectName, uid: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": kind.name(),
        "metadata": {
            "namespace": name.0,
            "name": name.1,
            "labels": {"app.kubernetes.io/managed-by": "sluice"},
            "ownerReferences": [{
                "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "name": world.name, "uid": uid, "controller": true,
            }],
        },
        "spec": spec,
    })
}

/// The generated VirtualService with that traffic, to be created.
pub(super) fn created(
    world: &World<'_>,
    expose: &PlannedExpose,
    name: &ObjectName,
    desired: &Setting,
    stamp: &Stamp,
) -> Result<Value, RouteError> {
    let mut object = shown(world, expose, name, desired)?;
    let spec = object["spec"].take();
    object = self::object(world, Kind::VirtualService, name, &stamp.uid, &spec);
    stamp::write(&mut object, &world.rollout(), stamp)?;
    Ok(object)
}

/// The object as read with the spec that it is to have; why that cannot be goes to `obstacles`.
pub(super) fn edited(
    world: &World<'_>,
    expose: &PlannedExpose,
    before: &Value,
    desired: &Setting,
    obstacles: &mut Vec<RouteError>,
) -> Value {
    let field = |pointer| before.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = (field("/metadata/namespace"), field("/metadata/name"));
    let mut after = before.clone();
    match shown(world, expose, &name, desired) {
        Ok(shown) if expose.traffic_only => take_traffic(&mut after, &shown, &world.rollout()),
        Ok(mut shown) => after["spec"] = shown["spec"].take(),
        Err(error) => obstacles.push(error),
    }
    after
}

/// Makes the routes lead where those of the same name in `shown` do, with their copies of requests and no others, and leaves
/// all else. What `rollout` (`namespace/name`) has put before them for matches and cookies goes, unless it is in `shown`.
fn take_traffic(object: &mut Value, shown: &Value, rollout: &str) {
    let named = |route: &Value| {
        let mut routes = shown["spec"]["http"].as_array().into_iter().flatten();
        routes.find(|shown| shown["name"] == route["name"])
    };
    let Some(http) = object.pointer_mut("/spec/http").and_then(Value::as_array_mut) else { return };
    http.retain(|route| named(route).is_some() || !traffic::is_own(route, rollout));
    for route in http {
        let Some(shown) = named(route) else { continue };
        let Some(route) = route.as_object_mut() else { continue };
        for field in TRAFFIC {
            match shown.get(field) {
                Some(value) => drop(route.insert(field.to_owned(), value.clone())),
                None => drop(route.remove(field)),
            }
        }
    }
}

/// The VirtualService with that traffic, as far as its spec goes.
///
/// The routes begin with all traffic to stable and are edited from there as those of users are, so that they can show
/// whatever those can.
///
/// # Errors
/// What those cannot show either.
pub(super) fn shown(
    world: &World<'_>,
    expose: &PlannedExpose,
    name: &ObjectName,
    desired: &Setting,
) -> Result<Value, RouteError> {
    let (namespace, object) = name;
    let metadata = json!({"namespace": namespace, "name": object});
    // Each route by itself: they lead to other ports, so one setting does not fit both.
    let edited = |route: Value, setting: &Setting| -> Result<Vec<Value>, RouteError> {
        let selection = Selection {
            http: route["name"].as_str().into_iter().map(str::to_owned).collect(),
            ..Selection::every_http(namespace, object, world.rollout())
        };
        let alone = json!({"metadata": metadata, "spec": {"http": [route]}});
        let mut edited = traffic::edit(&alone, &selection, setting, &world.cluster)?;
        Ok(edited["spec"]["http"].as_array_mut().map(std::mem::take).unwrap_or_default())
    };
    let http = edited(http(world, expose, desired), desired)?;
    let grpc = match expose.grpc_port {
        Some(port) => {
            let setting = on_port(desired, port);
            edited(grpc(world, expose, &setting), &setting)?
        }
        None => Vec::new(),
    };
    // The first route that matches takes a request.
    let takes_calls = takes_calls(expose.prefix.as_deref());
    let routes = if takes_calls { [grpc, http].concat() } else { [http, grpc].concat() };
    let mut spec = json!({"http": routes});
    if !expose.delegate {
        spec["hosts"] = json!(expose.hosts);
        spec["gateways"] = json!(gateways(world.cluster.names, expose));
    }
    Ok(json!({"metadata": metadata, "spec": spec}))
}

/// Whether the route for HTTP would take calls of gRPC, whose path is `/SERVICE/METHOD`: without a prefix, or with one that
/// such a path may begin with. With a longer one it comes first, as Seldon Core's operator has it, so that no request
/// below it is taken for a call because of its headers.
fn takes_calls(prefix: Option<&str>) -> bool {
    prefix.is_none_or(|prefix| prefix.matches('/').count() <= 2)
}

/// The same traffic to another port of the same predictors.
pub(super) fn on_port(desired: &Setting, port: u16) -> Setting {
    let moved = |predictor: &Predictor| Predictor { port, ..predictor.clone() };
    Setting {
        stable: moved(&desired.stable),
        canary: desired.canary.as_ref().map(moved),
        retiring: desired.retiring.iter().map(moved).collect(),
        known: desired.known.iter().map(moved).collect(),
        ..desired.clone()
    }
}

/// The route for HTTP with all traffic to stable; losers that have not left yet are listed.
fn http(world: &World<'_>, expose: &PlannedExpose, desired: &Setting) -> Value {
    let uri = expose.prefix.as_ref().map(|prefix| json!([{"uri": {"prefix": prefix}}]));
    route(world, expose, HTTP, uri, expose.rewrite.as_deref(), desired)
}

/// The same for gRPC.
fn grpc(world: &World<'_>, expose: &PlannedExpose, desired: &Setting) -> Value {
    let headers = json!({"seldon": {"exact": expose.called}, "namespace": {"exact": world.namespace}});
    // A match of the uri by regex is one too many beside any in the VirtualService that delegates.
    let matches = if expose.delegate {
        json!([{"headers": headers}])
    } else {
        json!([{"uri": {"regex": GRPC_METHODS}, "headers": headers}])
    };
    route(world, expose, GRPC, Some(matches), None, desired)
}

/// The Gateways that serve it.
fn gateways(names: &HostNames, expose: &PlannedExpose) -> Vec<String> {
    match expose.gateways.as_slice() {
        [] if expose.delegate => Vec::new(),
        [] => vec![names.gateway.clone()],
        named => named.to_vec(),
    }
}

/// The Gateways of a plan that there must be an object of, as namespace and name.
pub fn required_gateways(names: &HostNames, plan: &Plan) -> Vec<ObjectName> {
    let Some(expose) = &plan.expose else { return Vec::new() };
    let named = gateways(names, expose).into_iter().filter(|gateway| gateway != MESH);
    named
        .filter_map(|gateway| gateway.split_once('/').map(|(home, name)| (home.to_owned(), name.to_owned())))
        .collect()
}

/// The predictor that is about to start as a subset on routes of the user's own: a DestinationRule must have it.
pub fn required_subset<'p>(
    plan: &Plan,
    state: &State,
    wanted: Option<&'p Predictor>,
) -> Option<&'p Predictor> {
    let may_start = plan.expose.is_none() && !state.in_flight();
    wanted.filter(|wanted| may_start && wanted.subset.is_some() && state.stable.as_ref() != Some(*wanted))
}

fn route(
    world: &World<'_>,
    expose: &PlannedExpose,
    name: &str,
    matches: Option<Value>,
    rewrite: Option<&str>,
    desired: &Setting,
) -> Value {
    let mut route = json!({"name": name});
    if let Some(matches) = matches {
        route["match"] = matches;
    }
    if let Some(rewrite) = rewrite {
        route["rewrite"] = json!({"uri": rewrite});
    }
    if let Some(retries) = &expose.retries {
        route["retries"] = json!({"attempts": retries.attempts, "retryOn": RETRY_ON});
        if let Some(seconds) = retries.per_try_seconds {
            route["retries"]["perTryTimeout"] = format!("{seconds}s").into();
        }
    }
    let losers = desired.retiring.iter().map(|loser| entry(world, loser, 0));
    let entries: Vec<Value> = [entry(world, &desired.stable, 100)].into_iter().chain(losers).collect();
    route["route"] = entries.into();
    route
}

fn entry(world: &World<'_>, predictor: &Predictor, weight: u32) -> Value {
    let host = world.cluster.names.host(&predictor.namespace, &predictor.service);
    let mut destination = json!({"host": host, "port": {"number": predictor.port}});
    if let Some(subset) = &predictor.subset {
        destination["subset"] = subset.as_str().into();
    }
    json!({"destination": destination, "weight": weight})
}

/// That a Gateway of generated routes is not there.
pub fn no_gateway((namespace, name): &ObjectName) -> Refusal {
    let message = format!(
        "spec.expose.gateways: there is no Gateway {name} in namespace {namespace}: nobody would get to the routes"
    );
    Refusal::new(Reason::GatewayNotFound, message)
}

/// What keeps a Rollout with this uid from generating its VirtualService: somebody else's of that name, a step that its routes
/// cannot show, or somebody who delegates in a way that Istio drops. `delegators` are the VirtualServices that delegate to it;
/// nothing where they cannot be known.
///
/// # Errors
/// The first of these.
pub fn accept_generated(
    world: &World<'_>,
    plan: &Plan,
    uid: &str,
    pair: Option<&Setting>,
    delegators: Option<&[Value]>,
) -> Result<(), Refusal> {
    let (Some(expose), Some(route)) = (&plan.expose, plan.routes.first()) else { return Ok(()) };
    let name = route.object();
    if let Some(there) = world.virtual_services.get(&name)
        && !is_ours(there, uid)
    {
        return Err(taken(there, Kind::VirtualService, &name));
    }
    // Whoever is stable, the matches are the same.
    let nobody = || Setting::all_to(Predictor::new(world.namespace, "stable", 80));
    let pair = pair.map_or_else(nobody, Clone::clone);
    let beside = plan.steps.iter().enumerate();
    let beside = beside.filter(|(_, step)| !step.beside.is_nothing() || step.sticky.is_some());
    let steps = beside.map(|(index, _)| machine::with_step(pair.clone(), plan, index));
    for setting in [pair.clone()].into_iter().chain(steps) {
        let shown = self::shown(world, expose, &name, &setting).map_err(super::accept::refusal)?;
        let delegators = delegators.filter(|_| expose.delegate).unwrap_or_default();
        delegators.iter().try_for_each(|delegator| fits(delegator, route, &shown))?;
        leave_some(delegators, route, &setting)?;
    }
    Ok(())
}

/// Refuses a VirtualService that is delegated to by nobody. It is generated all the same ([`Refusal::stops_starts_only`]), with all
/// traffic to stable: it has no hosts, so it takes nobody's requests, and whoever delegates to one that is not there loses
/// their users until it is.
///
/// # Errors
/// There are no `delegators`, as far as that can be known.
pub fn accept_delegated(plan: &Plan, delegators: Option<&[Value]>) -> Result<(), Refusal> {
    let (Some(expose), Some(route)) = (&plan.expose, plan.routes.first()) else { return Ok(()) };
    if expose.delegate && delegators.is_some_and(<[Value]>::is_empty) {
        return Err(not_delegated(route));
    }
    Ok(())
}

/// That an object is somebody else's.
pub(super) fn taken(there: &Value, kind: Kind, name: &ObjectName) -> Refusal {
    let of = controllers(there).next().map_or_else(
        || "is not this Rollout's".to_owned(),
        |owner| {
            let text = |field: &str| owner[field].as_str().unwrap_or("?").to_owned();
            format!("belongs to {} {}", text("kind"), text("name"))
        },
    );
    let message = format!(
        "spec.expose: {} {}/{} is there and {of}: it is not touched. Name the Rollout otherwise, delete that object, or \
         move its routes with spec.routes",
        kind.name(),
        name.0,
        name.1
    );
    Refusal::new(Reason::NameTaken, message)
}

fn not_delegated(route: &PlannedRoute) -> Refusal {
    let message = format!(
        "spec.expose.delegate: no VirtualService has an http route with delegate {{name: {}, namespace: {}}}: nobody would \
         get here",
        route.name, route.namespace
    );
    Refusal::new(Reason::NotDelegated, message)
}

// === who delegates ===

/// The VirtualServices, as `namespace/name`, that an object of `namespace` with this spec delegates to.
pub fn delegates_to(spec: &Value, namespace: &str) -> Vec<ObjectName> {
    let mut names: Vec<ObjectName> = delegating(spec, namespace).map(|(_, name)| name).collect();
    names.sort();
    names.dedup();
    names
}

fn delegating<'v>(spec: &'v Value, namespace: &'v str) -> impl Iterator<Item = (&'v Value, ObjectName)> {
    let routes = spec["http"].as_array().into_iter().flatten();
    routes.filter_map(move |route| {
        let name = route["delegate"]["name"].as_str()?;
        let home = route["delegate"]["namespace"].as_str().filter(|home| !home.is_empty());
        Some((route, (home.unwrap_or(namespace).to_owned(), name.to_owned())))
    })
}

/// Refuses matches of a step that all meet who are delegated at all: the canary would get everybody.
fn leave_some(delegators: &[Value], route: &PlannedRoute, setting: &Setting) -> Result<(), Refusal> {
    let roots = delegators.iter().flat_map(|delegator| {
        let namespace = delegator.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        delegating(&delegator["spec"], namespace)
    });
    let roots = roots.filter(|(_, (namespace, name))| (namespace, name) == (&route.namespace, &route.name));
    let Some(step) = traffic::takes_all(roots.map(|(root, _)| root), &setting.matches) else { return Ok(()) };
    let message = format!(
        "{step}: expected something that not every request meets which is delegated to {}/{}, but who delegates asks for as much: \
         it would take all traffic",
        route.namespace, route.name
    );
    Err(Refusal::new(Reason::RouteConflict, message))
}

/// Whether Istio keeps the routes of `shown` beside the matches of the VirtualService that delegates to it.
fn fits(delegator: &Value, route: &PlannedRoute, shown: &Value) -> Result<(), Refusal> {
    let text = |pointer| delegator.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let ours = route.object();
    let roots = delegating(&delegator["spec"], namespace).filter(|(_, to)| *to == ours);
    for (root, _) in roots {
        for leaf in shown["spec"]["http"].as_array().into_iter().flatten() {
            if let Some(field) = conflict(root, leaf) {
                let message = format!(
                    "VirtualService {namespace}/{name} delegates to {}/{} with a match of {field} that its route {:?} cannot \
                     narrow: Istio would drop the route. A prefix within the other's, or no match of {field} in one of both, \
                     is expected",
                    ours.0,
                    ours.1,
                    leaf["name"].as_str().unwrap_or_default()
                );
                return Err(Refusal::new(Reason::DelegateConflict, message));
            }
        }
    }
    Ok(())
}

/// The field in which no match of `root` admits any of `leaf`; nothing where some do, or where either has no match.
fn conflict(root: &Value, leaf: &Value) -> Option<String> {
    let matches = |route: &Value| route["match"].as_array().cloned().unwrap_or_default();
    let (roots, leaves) = (matches(root), matches(leaf));
    // Istio keeps what of a route is within one of several matches, and drops the rest: who comes in by another of them gets no
    // answer, or the wrong arm's. So one pair that conflicts is too many.
    roots.iter().find_map(|root| leaves.iter().find_map(|leaf| match_conflict(root, leaf)))
}

fn match_conflict(root: &Value, leaf: &Value) -> Option<String> {
    let single = ["uri", "scheme", "method", "authority"];
    let plain = single.into_iter().find(|field| text_conflict(&root[*field], &leaf[*field]));
    let nested = || {
        ["headers", "withoutHeaders", "queryParams"].into_iter().find_map(|field| {
            let all = leaf[field].as_object().into_iter().flatten();
            let found = all.into_iter().find(|(key, value)| text_conflict(&root[field][key.as_str()], value));
            found.map(|(key, _)| format!("{field}[{key}]"))
        })
    };
    plain.map(str::to_owned).or_else(nested).or_else(|| beside_conflict(root, leaf).map(str::to_owned))
}

/// The same of what is no condition on a text: istiod takes neither over from the one who delegates.
fn beside_conflict(root: &Value, leaf: &Value) -> Option<&'static str> {
    let ignores_case = |of: &Value| of["ignoreUriCase"] == true;
    let namespace = |of: &Value| of["sourceNamespace"].as_str().unwrap_or_default().to_owned();
    if ignores_case(root) != ignores_case(leaf) {
        return Some("ignoreUriCase");
    }
    (!namespace(root).is_empty() && namespace(root) != namespace(leaf)).then_some("sourceNamespace")
}

/// As istiod compares a match of the one who delegates with one of the delegate.
fn text_conflict(root: &Value, leaf: &Value) -> bool {
    let is =
        |value: &Value, kind: &str| value[kind].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let any = |value: &Value| ["exact", "prefix", "regex"].iter().any(|kind| is(value, kind).is_some());
    if root.is_null() || leaf.is_null() {
        return false;
    }
    // One that only asks that there is something is no narrower, nor wider, than any other.
    if !any(root) || !any(leaf) {
        return true;
    }
    if is(root, "regex").is_some() || is(leaf, "regex").is_some() {
        return true;
    }
    match (is(root, "exact"), is(root, "prefix"), is(leaf, "exact"), is(leaf, "prefix")) {
        (Some(root), _, Some(leaf), _) => root != leaf,
        (Some(_), ..) => true,
        (None, Some(root), Some(leaf), _) | (None, Some(root), None, Some(leaf)) => !leaf.starts_with(&root),
        (None, ..) => false,
    }
}

#[cfg(test)]
#[path = "expose_tests.rs"]
mod tests;
