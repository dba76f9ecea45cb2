//! Raw objects: what they say, read here and nowhere else.

use std::{collections::BTreeMap, fmt};

use chrono::TimeDelta;
use serde_json::Value;

/// The annotation with what became of mirrors.
pub(super) const MIRRORS: &str = "sluice.dev/mirrors";
/// The annotation with the stamps.
pub(super) const STAMP: &str = "sluice.dev/stamp";

/// Namespace and name of an object.
pub(super) type Name = (String, String);

/// `rollouts` of `rollouts/status`.
pub(super) fn plural(resource: &str) -> &str {
    resource.split('/').next().unwrap_or_default()
}

/// The items of a list; none where it is none.
pub(super) fn list(value: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text, empty where it is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

// === predictors ===

/// What answers requests: a Service on a port, or a subset of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Predictor {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u64,
    pub(super) subset: Option<String>,
}

impl Predictor {
    /// As a status writes it.
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(Self {
            namespace: value["namespace"].as_str()?.to_owned(),
            service: value["service"].as_str()?.to_owned(),
            port: value["port"].as_u64()?,
            subset: value["subset"].as_str().map(str::to_owned),
        })
    }

    /// As a stamp or a decision writes it: `namespace/service:port#subset`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (service, rest) = rest.split_once(':')?;
        let (port, subset) = rest.split_once('#').map_or((rest, None), |(port, subset)| (port, Some(subset)));
        Some(Self {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: port.parse().ok()?,
            subset: subset.map(str::to_owned),
        })
    }

    pub(super) fn name(&self) -> Name {
        (self.namespace.clone(), self.service.clone())
    }
}

impl fmt::Display for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)?;
        self.subset.iter().try_for_each(|subset| write!(f, "#{subset}"))
    }
}

// === VirtualServices ===

/// The stamps of an object by Rollout; none where they cannot be read.
pub(super) fn stamps(object: &Value) -> BTreeMap<String, Value> {
    let text = object["metadata"]["annotations"][STAMP].as_str();
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// One destination of an http route.
pub(super) struct Destination<'v> {
    pub(super) entry: &'v Value,
    /// As Istio counts it: one alone has all, a missing weight is 0.
    pub(super) weight: u64,
    /// The Service, where the host is one of the cluster.
    service: Option<Name>,
}

impl Destination<'_> {
    /// Whether this is `predictor`; a missing port is any.
    pub(super) fn is(&self, predictor: &Predictor) -> bool {
        let at = &self.entry["destination"];
        let port = at["port"]["number"].as_u64();
        let subset = at["subset"].as_str().filter(|subset| !subset.is_empty());
        self.service.as_ref().is_some_and(|service| {
            service.0 == predictor.namespace
                && service.1 == predictor.service
                && port.is_none_or(|port| port == predictor.port)
                && subset == predictor.subset.as_deref()
        })
    }

    pub(super) fn is_any<'p>(&self, predictors: impl IntoIterator<Item = &'p Predictor>) -> bool {
        predictors.into_iter().any(|predictor| self.is(predictor))
    }

    /// Where it goes, in words.
    pub(super) fn host(&self) -> &str {
        text(&self.entry["destination"]["host"])
    }
}

/// The destinations of a route of a VirtualService in `namespace`.
pub(super) fn destinations<'v>(namespace: &str, route: &'v Value) -> Vec<Destination<'v>> {
    let entries: Vec<&Value> = list(&route["route"]).collect();
    let alone = entries.len() == 1;
    let read = |entry: &'v Value| {
        let written = entry["weight"].as_u64().unwrap_or(0);
        let weight = if alone && written == 0 { 100 } else { written };
        Destination { entry, weight, service: service_of(text(&entry["destination"]["host"]), namespace) }
    };
    entries.into_iter().map(read).collect()
}

/// The Service that a host means: a name without a dot is one of the VirtualService's own namespace.
pub(super) fn service_of(host: &str, namespace: &str) -> Option<Name> {
    if host.is_empty() || host.starts_with('*') {
        return None;
    }
    if !host.contains('.') {
        return Some((namespace.to_owned(), host.to_owned()));
    }
    // Whatever the cluster's domain is: what stands before `.svc.` is a name and a namespace.
    let (names, _) = host.split_once(".svc.")?;
    let (service, namespace) = names.split_once('.')?;
    (!namespace.contains('.')).then(|| (namespace.to_owned(), service.to_owned()))
}

/// Whether Sluice made this route for a Rollout of that name: `sluice-<namespace>/<name>/<route>`, for requests that a step
/// matches or that a cookie marks.
pub(super) fn is_own(route: &Value, rollout: &str) -> bool {
    let of = text(&route["name"]).strip_prefix("sluice-").and_then(|rest| rest.split('/').nth(1));
    of == Some(rollout) && text(&route["name"]).matches('/').count() >= 2
}

/// Whether an own route is for requests that a cookie or a hash binds to an arm.
pub(super) fn is_sticky(route: &Value) -> bool {
    text(&route["name"]).ends_with("+canary") || text(&route["name"]).ends_with("+stable")
}

/// The own routes of a Rollout that lead to a predictor.
pub(super) fn own_routes<'v>(
    namespace: &str,
    object: &'v Value,
    rollout: &str,
    predictor: &Predictor,
) -> Vec<&'v Value> {
    let own = list(&object["spec"]["http"]).filter(|route| is_own(route, rollout));
    own.filter(|route| weight(namespace, route, predictor) > 0).collect()
}

/// The share in percent of a route's requests that is copied to a predictor.
pub(super) fn mirrored(namespace: &str, route: &Value, predictor: &Predictor) -> f64 {
    let is_it = |mirror: &&Value| {
        let entry = &mirror["destination"];
        let service = service_of(text(&entry["host"]), namespace);
        Destination { entry: mirror, weight: 0, service }.is(predictor)
    };
    list(&route["mirrors"])
        .filter(is_it)
        .map(|mirror| mirror["percentage"]["value"].as_f64().unwrap_or(100.0))
        .sum()
}

/// The http routes that were there without a Rollout of that name, and whether it moves them: those of these names, or
/// all.
pub(super) fn routes_of<'v>(object: &'v Value, names: &[String], rollout: &str) -> Vec<(&'v Value, bool)> {
    let users = list(&object["spec"]["http"]).filter(|route| !is_own(route, rollout));
    users.map(|route| (route, names.is_empty() || names.iter().any(|name| route["name"] == **name))).collect()
}

/// What a route gives to a predictor, in percent.
pub(super) fn weight(namespace: &str, route: &Value, predictor: &Predictor) -> u64 {
    let all = destinations(namespace, route);
    all.iter().filter(|destination| destination.is(predictor)).map(|destination| destination.weight).sum()
}

/// What the routes that a Rollout of that name moves give to a predictor at most, by weight or by a match of ours.
pub(super) fn most(
    namespace: &str,
    object: &Value,
    names: &[String],
    rollout: &str,
    predictor: &Predictor,
) -> u64 {
    let moved = routes_of(object, names, rollout).into_iter().filter(|(_, moved)| *moved);
    let by_weight = moved.map(|(route, _)| weight(namespace, route, predictor));
    let own = list(&object["spec"]["http"]).filter(|route| is_own(route, rollout));
    by_weight.chain(own.map(|route| weight(namespace, route, predictor))).max().unwrap_or(0)
}

// === what a canary gets ===

/// What a canary gets, as a status, a decision or a stamp says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Given {
    pub(super) weight: u64,
    pub(super) matches: Vec<String>,
    pub(super) mirror: f64,
}

impl Given {
    fn of(weight: &Value, beside: &Value) -> Self {
        Self {
            weight: weight.as_u64().unwrap_or(0),
            matches: list(&beside["match"]).map(|one| text(one).to_owned()).collect(),
            mirror: beside["mirror"].as_f64().unwrap_or(0.0),
        }
    }

    /// What a status says, or a decision of what it led to.
    pub(super) fn after(value: &Value) -> Self {
        Self::of(&value["weight"], &value["beside"])
    }

    /// What a decision says of what there was before.
    pub(super) fn before(decision: &Value) -> Self {
        Self::of(&decision["fromWeight"], &decision["fromBeside"])
    }

    /// What a stamp says.
    pub(super) fn stamped(stamp: &Value) -> Self {
        Self::of(&stamp["setting"], stamp)
    }

    /// At least as much in every respect; who has all lacks nothing.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let beside =
            other.matches.iter().all(|one| self.matches.contains(one)) && self.mirror >= other.mirror;
        self.weight >= other.weight && (self.weight >= 100 || beside)
    }

    pub(super) fn is_less_than(&self, other: &Self) -> bool {
        other.covers(self) && !self.covers(other)
    }

    /// Whether the canary answers anybody.
    pub(super) fn has_users(&self) -> bool {
        self.weight > 0 || !self.matches.is_empty()
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.weight)?;
        if !self.matches.is_empty() {
            write!(f, " and {}", self.matches.join(" or "))?;
        }
        if self.mirror > 0.0 { write!(f, " and copies of {}%", self.mirror) } else { Ok(()) }
    }
}

// === Rollouts ===

/// The decisions that a status records, oldest first.
pub(super) fn decisions(status: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    list(&status["decisions"])
}

/// The step in flight, in the machine's own notes.
pub(super) fn step(status: &Value) -> Option<&Value> {
    status["stage"].get("step").filter(|step| step.is_object())
}

pub(super) fn step_index(status: &Value) -> Option<u64> {
    step(status).map(|step| step["index"].as_u64().unwrap_or(0))
}

/// Whether the canary of the step in flight has no traffic for want of an endpoint.
pub(super) fn is_withdrawn(status: &Value) -> bool {
    step(status).is_some_and(|step| !step["withdrawn"].is_null())
}

/// Whether nothing was decided yet, or the status is gone.
pub(super) fn is_pending(status: &Value) -> bool {
    status["stage"].is_null() || status["stage"] == "pending"
}

/// The canary of the rollout in flight.
pub(super) fn canary_in_flight(status: &Value) -> Option<Predictor> {
    step(status).and_then(|_| Predictor::of(&status["canary"]))
}

/// The routes that a Rollout moves, by VirtualService, with the names of its http routes (none: all): those of the pinned
/// spec while its rollout is in flight or a loser of it leaves, else those of the spec.
pub(super) fn routes(rollout: &Value, namespace: &str) -> BTreeMap<Name, Vec<String>> {
    let status = &rollout["status"];
    let pinned = step(status).is_some() || list(&status["retiring"]).next().is_some();
    let spec =
        if pinned && status["pinned"]["routes"].is_array() { &status["pinned"] } else { &rollout["spec"] };
    let mut routes: BTreeMap<Name, Vec<String>> = BTreeMap::new();
    for route in list(&spec["routes"]) {
        let object = text(&route["virtualService"]);
        let (namespace, name) = object.split_once('/').unwrap_or((namespace, object));
        let mut names: Vec<String> = list(&route["http"]).map(|name| text(name).to_owned()).collect();
        // Connections are moved, and no requests: no http route has no name.
        if names.is_empty() && ["tcp", "tls"].iter().any(|field| list(&route[*field]).next().is_some()) {
            names.push(String::new());
        }
        let all = names.is_empty();
        let known = routes.entry((namespace.to_owned(), name.to_owned()));
        let is_new = matches!(known, std::collections::btree_map::Entry::Vacant(_));
        let known = known.or_default();
        if all || !is_new && known.is_empty() {
            known.clear();
        } else {
            known.extend(names);
        }
    }
    if spec["expose"].is_object() {
        // The one that is generated has the Rollout's name, and gRPC follows the route for HTTP.
        routes.insert(
            (namespace.to_owned(), text(&rollout["metadata"]["name"]).to_owned()),
            vec!["http".to_owned()],
        );
    }
    routes
}

/// One step of the pinned spec, ramps taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Planned {
    pub(super) weight: u64,
    pub(super) lasts: TimeDelta,
    pub(super) approve: bool,
    /// Copies requests to the canary and sends it none.
    pub(super) shadow: bool,
    /// How many different matches send requests to it.
    pub(super) matches: usize,
    /// The share in percent that is copied to it.
    pub(super) mirror: f64,
    /// The header whose hash says who is whose.
    pub(super) hash: Option<String>,
}

/// The steps of a spec, one for each weight.
pub(super) fn planned(spec: &Value) -> Vec<Planned> {
    let mut steps = Vec::new();
    for step in list(&spec["steps"]) {
        let ramp = &step["ramp"];
        let hash = step["sticky"]["header"].as_str().map(str::to_owned);
        if ramp.is_object() {
            let [from, to, by] = ["from", "to", "by"].map(|field| ramp[field].as_u64().unwrap_or(0));
            let mut weight = from;
            loop {
                let lasts = duration(text(&ramp["every"]));
                steps.push(Planned { weight, lasts, hash: hash.clone(), ..Planned::default() });
                if weight >= to || by == 0 {
                    break;
                }
                weight = (weight + by).min(to);
            }
            continue;
        }
        let mut matches: Vec<String> = list(&step["match"]).map(ToString::to_string).collect();
        matches.sort();
        matches.dedup();
        let mirror = step["mirror"].as_f64().unwrap_or(0.0);
        steps.push(Planned {
            weight: step["weight"].as_u64().unwrap_or(0),
            lasts: duration(text(&step["for"])),
            approve: step["approve"] == true,
            shadow: mirror > 0.0 && step["weight"].is_null() && matches.is_empty(),
            matches: matches.len(),
            mirror,
            hash,
        });
    }
    steps
}

/// A duration as Go writes it, whole milliseconds; 0 where there is none.
pub(super) fn duration(text: &str) -> TimeDelta {
    let (mut total, mut number) = (0.0, String::new());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_ascii_digit() || c == '.' {
            number.push(c);
            continue;
        }
        let milli = c == 'm' && rest.peek() == Some(&'s');
        let scale = match c {
            'h' => 3_600_000.0,
            'm' if milli => 1.0,
            'm' => 60_000.0,
            's' => 1_000.0,
            _ => 0.0,
        };
        if milli {
            rest.next();
        }
        total += number.parse::<f64>().unwrap_or(0.0) * scale;
        number.clear();
    }
    #[allow(clippy::cast_possible_truncation, reason = "durations of specs are far from 2^53 ms")]
    TimeDelta::milliseconds(total as i64)
}

/// `1%` or `0.01` as a fraction.
pub(super) fn share(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [("90s", 90_000), ("1h1m1.5s", 3_661_500), ("250ms", 250), ("", 0)] {
            assert_eq!(duration(text), TimeDelta::milliseconds(milliseconds), "{text}");
        }
    }

    #[test]
    fn a_ramp_is_taken_apart_and_reaches_its_end() {
        let steps = planned(
            &json!({"steps": [{"ramp": {"from": 10, "to": 45, "by": 20, "every": "1s"}}, {"weight": 50}]}),
        );
        assert_eq!(steps.iter().map(|step| step.weight).collect::<Vec<_>>(), [10, 30, 45, 50]);
    }

    #[test]
    fn own_routes_are_those_of_the_very_rollout() {
        let is = |name: &str| is_own(&json!({ "name": name }), "iris");
        assert!(is("sluice-models/iris/primary") && is("sluice-models/iris/#0+canary"));
        assert!(!is("sluice-models/iris-2/primary") && !is("sluice-iris/x/y") && !is("sluice-models/iris"));
    }

    #[test]
    fn hosts_are_services_where_they_are_of_the_cluster() {
        let name = |namespace: &str, name: &str| Some((namespace.to_owned(), name.to_owned()));
        assert_eq!(service_of("iris", "models"), name("models", "iris"));
        assert_eq!(service_of("iris.other.svc.corp.example", "models"), name("other", "iris"));
        assert_eq!(service_of("api.example.com", "models"), None);
    }

    #[test]
    fn a_rollout_in_flight_moves_the_routes_that_were_pinned() {
        let mut rollout = json!({
            "spec": {"routes": [{"virtualService": "new"}]},
            "status": {"stage": {"step": {}}, "pinned": {"routes": [
                {"virtualService": "a", "http": ["x"]}, {"virtualService": "a", "http": ["y"]},
                {"virtualService": "other/b", "http": ["x"]}, {"virtualService": "other/b"},
            ]}},
        });
        let named = routes(&rollout, "models");
        assert_eq!(named[&("models".to_owned(), "a".to_owned())], ["x", "y"]);
        assert!(named[&("other".to_owned(), "b".to_owned())].is_empty());
        rollout["status"] = json!({"stage": "idle"});
        assert_eq!(routes(&rollout, "models").len(), 1);
    }
}
