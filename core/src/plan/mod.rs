//! A spec, checked and expanded: everything later stages need, in types that cannot be wrong.
//!
//! All errors are found at once, each with its field path, so that a person mends a manifest in one go.

mod checks;
mod error;
mod expose;
mod load;
mod matches;
mod metrics;
mod query;
mod steps;
mod versus;
mod words;

use std::time::Duration;

pub use checks::{PlannedCheck, Rule};
pub use error::{PlanError, PlanErrors, PlanWarning};
pub(crate) use expose::MESH;
pub use expose::{GATEWAY, HOST, ISTIO, PlannedExpose, Retries, TlsMode, full_gateway};
pub use load::{Divided, Load};
pub use matches::PlannedMatch;
pub use metrics::MetricsPlan;
pub use steps::{PlannedStep, PlannedSticky};
pub use versus::Versus;

use crate::{
    api::{Finish, Given, GoDuration, PredictorTarget, RolloutSpec, ServiceTarget, Then},
    judge::{Bound, Indicator, LADDER, Needs},
};

const DEFAULT_INTERVAL: GoDuration = GoDuration::seconds(10);
const DEFAULT_SETTLE: GoDuration = GoDuration::seconds(15);
const DEFAULT_READY_WITHIN: GoDuration = GoDuration::minutes(10);
const DEFAULT_EVIDENCE_LIMIT: GoDuration = GoDuration::minutes(15);
/// More often than this a look would mostly see that nothing happened.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);

/// More steps than these the API server does not take either; a ramp counts as one.
const MOST_STEPS: usize = 100;

/// How to get from stable to the canary: a spec without its target, expanded and with its defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The routes to move; that of a generated VirtualService is one of them.
    pub routes: Vec<PlannedRoute>,
    /// The VirtualService to generate, in place of those of the user.
    pub expose: Option<PlannedExpose>,
    /// The settings on the way; the promotion to weight 100 follows the last one.
    pub steps: Vec<PlannedStep>,
    /// The rules that must hold.
    pub checks: Vec<PlannedCheck>,
    /// Where numbers come from; nothing where nobody asks for any.
    pub metrics: Option<MetricsPlan>,
    /// Time between two looks, 200 ms at least.
    pub interval: Duration,
    /// Time after a traffic change before a look counts.
    pub settle: Duration,
    /// What follows the last step.
    pub finish: Finish,
    /// How long evidence alone may be missing.
    pub evidence_limit: Duration,
    /// What to do then.
    pub without_evidence: Then,
    /// How long the canary may take to become ready.
    pub ready_within: Duration,
    /// What means nothing in the spec, though it does no harm.
    pub warnings: Vec<PlanWarning>,
}

/// Name of the http route of a generated VirtualService.
pub const HTTP: &str = "http";
/// Name of its route for gRPC.
pub const GRPC: &str = "grpc";

/// The routes of one VirtualService.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedRoute {
    /// Namespace of the VirtualService.
    pub namespace: String,
    /// Name of the VirtualService.
    pub name: String,
    /// Names of its http routes; all of them when `tcp` and `tls` are empty too.
    pub http: Vec<String>,
    /// Ports whose tcp routes are meant.
    pub tcp: Vec<u16>,
    /// Hosts whose tls routes are meant.
    pub tls: Vec<String>,
}

impl PlannedRoute {
    /// Namespace and name of the VirtualService.
    pub fn object(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// Whether http routes are meant, some or all.
    pub fn has_http(&self) -> bool {
        !self.http.is_empty() || self.has_all_http()
    }

    /// Whether all http routes are meant.
    pub fn has_all_http(&self) -> bool {
        self.http.is_empty() && self.tcp.is_empty() && self.tls.is_empty()
    }
}

impl Plan {
    /// The plan of a spec in `namespace`, where the Rollout's name does not matter: nothing is generated that has it.
    ///
    /// # Errors
    /// As [`Plan::named`].
    pub fn new(spec: &RolloutSpec, namespace: &str) -> Result<Self, PlanErrors> {
        Self::named(spec, namespace, "rollout")
    }

    /// The plan of the spec of the Rollout `namespace/name`.
    ///
    /// # Errors
    /// All fields that contradict each other, are out of range, or ask for what this version does not do.
    pub fn named(spec: &RolloutSpec, namespace: &str, name: &str) -> Result<Self, PlanErrors> {
        let mut errors = PlanErrors::default();
        let mut warnings = Vec::new();
        let planned = spec.routes.iter().enumerate();
        let mut routes: Vec<PlannedRoute> =
            planned.map(|(index, route)| planned_route(index, route, namespace, &mut errors)).collect();
        let expose = match &spec.expose {
            Some(_) if !routes.is_empty() => {
                errors.invalid("spec.expose", "stands in place of routes: exactly one of both is expected");
                None
            }
            Some(expose) => {
                routes.push(generated_route(namespace, name));
                Some(expose::plan(spec, expose, namespace, name, &mut errors, &mut warnings))
            }
            None if routes.is_empty() => {
                errors
                    .invalid("spec.routes", "at least one route of a VirtualService is expected, or expose");
                None
            }
            None => None,
        };
        if expose.is_none() && !spec.annotations.is_empty() {
            errors.invalid(
                "spec.annotations",
                "are for a generated VirtualService: expose is expected beside them",
            );
        }
        let interval = spec.interval.unwrap_or(DEFAULT_INTERVAL).0;
        if interval < SHORTEST_INTERVAL {
            errors.invalid(
                "spec.interval",
                format!("{} is too short: 200ms or more is expected", GoDuration(interval)),
            );
        }
        let steps = steps::expand(&spec.steps, &mut errors);
        if spec.steps.len() > MOST_STEPS {
            let problem = format!("{} are too many: {MOST_STEPS} at most are expected", spec.steps.len());
            errors.invalid("spec.steps", problem);
        }
        refuse_more_than_weights(&steps, &routes, &mut errors);
        let checks = checks::plan(&spec.checks, interval, &steps, &mut errors);
        let needs_numbers = !checks.is_empty() || steps.iter().any(|step| step.min_requests > 0);
        let metrics = metrics::plan(spec.metrics.as_ref(), needs_numbers, &mut errors);
        metrics::refuse_queries_without_a_source(&checks, metrics.as_ref(), &mut errors);
        let finish = spec.finish.unwrap_or_default();
        if finish != Finish::Promote && spec.steps.is_empty() {
            let problem =
                format!("{finish:?} is about the last step, and there are none: at least one is expected");
            errors.invalid("spec.steps", problem);
        }
        let inconclusive = spec.inconclusive.unwrap_or_default();
        errors.into_result(Self {
            routes,
            expose,
            warnings,
            steps,
            checks,
            metrics,
            interval,
            settle: spec.settle.unwrap_or(DEFAULT_SETTLE).0,
            finish,
            evidence_limit: inconclusive.limit.unwrap_or(DEFAULT_EVIDENCE_LIMIT).0,
            without_evidence: inconclusive.then.unwrap_or_default(),
            ready_within: spec.ready_within.unwrap_or(DEFAULT_READY_WITHIN).0,
        })
    }

    /// The same plan where looks are `interval` apart: what is counted in looks and stands for a time is so many more or fewer.
    #[must_use]
    pub fn looking_every(&self, interval: Duration) -> Self {
        let mut plan = Self { interval, ..self.clone() };
        plan.checks.iter_mut().for_each(|check| check.look_every(interval));
        plan
    }

    /// Index of the promotion, the implicit last step.
    pub fn promotion(&self) -> usize {
        self.steps.len()
    }

    /// What the canary gets at step `index`; all requests at the promotion.
    pub fn given(&self, index: usize) -> Given {
        self.steps.get(index).map_or_else(|| Given::weight(100), PlannedStep::given)
    }

    /// What the limits on errors and latency need of what is counted.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for check in &self.checks {
            match check.rule {
                Rule::Errors { max: Some(_) } => {}
                Rule::Latency { max: Some(max), .. } => needs.bounds.push(max),
                Rule::Errors { max: None } | Rule::Latency { max: None, .. } | Rule::Query { .. } => continue,
            }
            needs.windows.push(check.window);
        }
        needs
    }

    /// The histogram bounds that the checks need: their limits, and where latencies are compared a ladder of them.
    pub fn latency_bounds(&self) -> Vec<Bound> {
        let compares = |check: &PlannedCheck| matches!(check.comparison(), Some((_, Indicator::Latency)));
        let ladder = LADDER.iter().filter(|_| self.checks.iter().any(compares));
        self.needs().bounds.into_iter().chain(ladder.copied()).collect()
    }

    /// The checks that are for step `index`.
    pub fn checks_at(&self, index: usize) -> impl Iterator<Item = &PlannedCheck> + Clone {
        let (name, weight) = (self.step_name(index), self.given(index).weight);
        self.checks.iter().filter(move |check| check.is_for(name, weight))
    }

    /// Name of step `index`.
    pub fn step_name(&self, index: usize) -> &str {
        self.steps.get(index).map_or("promotion", |step| &step.name)
    }
}

/// The route of a generated VirtualService that weights are read from; that for gRPC follows it.
fn generated_route(namespace: &str, name: &str) -> PlannedRoute {
    PlannedRoute {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        http: vec![HTTP.to_owned()],
        tcp: Vec::new(),
        tls: Vec::new(),
    }
}

fn planned_route(
    index: usize,
    route: &crate::api::Route,
    namespace: &str,
    errors: &mut PlanErrors,
) -> PlannedRoute {
    let (namespace, name) =
        route.virtual_service.split_once('/').unwrap_or((namespace, &route.virtual_service));
    // They become parts of a path that the API server is asked for.
    if !is_object_name(namespace) || !is_object_name(name) {
        errors.invalid(
            &format!("spec.routes[{index}].virtualService"),
            format!("{:?} is no NAME or NAMESPACE/NAME of a VirtualService", route.virtual_service),
        );
    }
    for (field, wrong) in [("tcp", route.tcp.contains(&0)), ("tls", route.tls.iter().any(String::is_empty))] {
        if wrong {
            let expected = if field == "tcp" { "a port from 1 to 65535" } else { "the name of a host" };
            errors.invalid(&format!("spec.routes[{index}].{field}"), format!("{expected} is expected"));
        }
    }
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    PlannedRoute { namespace, name, http: route.http.clone(), tcp: route.tcp.clone(), tls: route.tls.clone() }
}

/// Connections are not requests: Istio gives tcp and tls routes weights and nothing else.
fn refuse_more_than_weights(steps: &[PlannedStep], routes: &[PlannedRoute], errors: &mut PlanErrors) {
    let Some(index) = routes.iter().position(|route| !route.tcp.is_empty() || !route.tls.is_empty()) else {
        return;
    };
    let of = if routes[index].tcp.is_empty() { "tls" } else { "tcp" };
    for step in steps {
        let fields = [
            ("match", !step.matches.is_empty()),
            ("mirror", !step.beside.mirror.is_nothing()),
            ("sticky", step.sticky.is_some()),
        ];
        for (field, _) in fields.iter().filter(|(_, given)| *given) {
            let problem = format!("{of} routes, as in spec.routes[{index}], are moved by weight only");
            errors.invalid(&format!("{}.{field}", step.path), problem);
        }
    }
}

/// Whether Kubernetes could call an object so: lower case letters, digits, dashes and dots, at the ends no dash or dot.
pub fn is_object_name(name: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    let at_ends = |c: Option<&u8>| c.is_some_and(|c| inside(*c) && !matches!(c, b'-' | b'.'));
    let bytes = name.as_bytes();
    bytes.iter().all(|c| inside(*c)) && at_ends(bytes.first()) && at_ends(bytes.last())
}

/// What a spec wants to be live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'s> {
    /// A Service.
    Service(&'s ServiceTarget),
    /// A predictor of a SeldonDeployment.
    Predictor(&'s PredictorTarget),
}

/// What a spec wants to be live.
///
/// # Errors
/// No target, several, or one of a kind that this version does not do.
pub fn target(spec: &RolloutSpec) -> Result<Wanted<'_>, PlanErrors> {
    let mut errors = PlanErrors::default();
    let target = &spec.target;
    let others = [
        ("deployment", target.deployment.is_some()),
        ("inferenceService", target.inference_service.is_some()),
    ];
    let given = others.iter().filter(|(_, given)| *given).count()
        + usize::from(target.service.is_some())
        + usize::from(target.seldon_deployment.is_some());
    if given != 1 {
        errors.invalid("spec.target", format!("exactly one target is expected, {given} were given"));
    }
    for (name, _) in others.iter().filter(|(_, given)| *given) {
        errors.unsupported(&format!("spec.target.{name}"), "this kind of target; use service");
    }
    match (&target.service, &target.seldon_deployment) {
        (Some(service), _) if errors.is_empty() => Ok(Wanted::Service(service)),
        (None, Some(predictor)) if errors.is_empty() => Ok(Wanted::Predictor(predictor)),
        (Some(_) | None, _) => Err(errors),
    }
}

#[cfg(test)]
mod tests;
