//! A spec, checked and expanded: everything later stages need, in types that cannot be wrong.
//!
//! All errors are found at once, each with its field path, so that a person mends a manifest in one go.

mod checks;
mod error;
mod expose;
mod matches;
mod metrics;
mod steps;
mod versus;

use std::time::Duration;

pub use checks::{PlannedCheck, Rule};
pub use error::{PlanError, PlanErrors};
pub(crate) use expose::MESH;
pub use expose::{PlannedExpose, Retries, TlsMode};
pub use matches::PlannedMatch;
pub use metrics::MetricsPlan;
pub use steps::PlannedStep;
pub use versus::Versus;

use crate::{
    api::{Finish, Given, GoDuration, PredictorTarget, RolloutSpec, ServiceTarget, Then},
    judge::Bound,
};

const DEFAULT_INTERVAL: GoDuration = GoDuration::seconds(10);
const DEFAULT_SETTLE: GoDuration = GoDuration::seconds(15);
const DEFAULT_READY_WITHIN: GoDuration = GoDuration::minutes(10);
const DEFAULT_EVIDENCE_LIMIT: GoDuration = GoDuration::minutes(15);
/// More often than this a look would mostly see that nothing happened.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);

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
    pub warnings: Vec<String>,
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

    /// Index of the promotion, the implicit last step.
    pub fn promotion(&self) -> usize {
        self.steps.len()
    }

    /// What the canary gets at step `index`; all requests at the promotion.
    pub fn given(&self, index: usize) -> Given {
        self.steps.get(index).map_or_else(|| Given::weight(100), PlannedStep::given)
    }

    /// The latency limits of the checks.
    pub fn latency_limits(&self) -> Vec<Bound> {
        let limit = |check: &PlannedCheck| match check.rule {
            Rule::Latency { max, .. } => max,
            Rule::Errors { .. } | Rule::Query { .. } => None,
        };
        self.checks.iter().filter_map(limit).collect()
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
fn is_object_name(name: &str) -> bool {
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
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Reason;

    fn spec(change: impl FnOnce(&mut Value)) -> RolloutSpec {
        let mut value = json!({
            "target": {"service": {"name": "iris-v2"}},
            "routes": [{"virtualService": "iris", "http": ["primary"]}],
            "steps": [{"weight": 5, "for": "5m"}, {"ramp": {"from": 10, "to": 50, "by": 15, "every": "2m"}}, {"weight": 50, "approve": true}],
            "checks": [{"name": "errors", "errors": {"max": "1%"}}, {"name": "p99", "latency": {"max": "250ms"}}],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn refusals(change: impl FnOnce(&mut Value)) -> String {
        let spec = spec(change);
        Plan::new(&spec, "models").unwrap_err().to_string()
    }

    #[test]
    fn a_ramp_is_expanded_and_always_reaches_its_end() {
        let plan = Plan::new(&spec(|_| ()), "models").unwrap();
        let weights: Vec<u8> = plan.steps.iter().map(|step| step.weight).collect();
        assert_eq!(weights, [5, 10, 25, 40, 50, 50]);
        assert_eq!(plan.given(plan.promotion()), Given::weight(100));
        assert_eq!(plan.steps[1].lasts, Duration::from_mins(2));
        assert!(plan.steps[5].approve);
    }

    #[test]
    fn a_step_says_all_that_the_canary_gets_and_nothing_carries_over() {
        let plan = Plan::new(
            &spec(|s| {
                s["steps"] = json!([
                    {"mirror": 0.5},
                    {"match": [{"headers": {"x": {"exact": "b"}}}, {"headers": {"x": {"exact": "a"}}}]},
                    {"weight": 5, "mirror": 100},
                    {"weight": 5, "sticky": {"cookie": {"name": "c", "ttl": "1h"}}},
                ]);
            }),
            "models",
        )
        .unwrap();
        let given: Vec<String> = plan.steps.iter().map(|step| step.given().to_string()).collect();
        assert_eq!(given, ["mirror 0.5%", "match x is a or x is b", "weight 5%, mirror 100%", "weight 5%"]);
        assert!(plan.steps[0].is_shadow() && !plan.steps[1].is_shadow() && !plan.steps[2].is_shadow());
        assert_eq!(plan.steps[1].matches[1].path, "spec.steps[1].match[1]");
        assert_eq!(plan.steps[3].sticky.as_ref().unwrap().name, "c");
    }

    #[test]
    fn connections_are_moved_by_weight_only() {
        let tcp = |steps: Value| {
            spec(move |s| {
                s["routes"] = json!([{"virtualService": "web"}, {"virtualService": "db", "tcp": [5001]}]);
                s["steps"] = steps;
            })
        };
        let plan = Plan::new(&tcp(json!([{"weight": 5}])), "models").unwrap();
        assert!(plan.routes[0].has_all_http() && !plan.routes[1].has_http());
        let steps = json!([{"weight": 5}, {"mirror": 5}, {"weight": 9, "sticky": {"cookie": {"name": "c"}}}]);
        let refused = Plan::new(&tcp(steps), "models").unwrap_err().to_string();
        for field in ["spec.steps[1].mirror: tcp routes, as in spec.routes[1]", "spec.steps[2].sticky: tcp"] {
            assert!(refused.contains(field), "{refused}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let plan = Plan::new(&spec(|_| ()), "models").unwrap();
        assert_eq!(
            (plan.interval.as_secs(), plan.settle.as_secs(), plan.ready_within.as_secs()),
            (10, 15, 600)
        );
        assert_eq!((plan.evidence_limit.as_secs(), plan.without_evidence), (900, Then::Pause));
        assert_eq!(plan.checks[0].window.as_secs(), 50);
        assert_eq!((plan.checks[0].min_requests, plan.checks[0].consecutive_failures), (50, 1));
        assert!(matches!(&plan.metrics, Some(MetricsPlan::Source { name, .. }) if name == "default"));
    }

    #[test]
    fn a_virtual_service_of_another_namespace_is_named_with_it() {
        let plan =
            Plan::new(&spec(|s| s["routes"][0]["virtualService"] = json!("mesh/iris")), "models").unwrap();
        assert_eq!((plan.routes[0].namespace.as_str(), plan.routes[0].name.as_str()), ("mesh", "iris"));
    }

    #[test]
    fn a_route_cannot_lead_to_another_kind_of_object() {
        for name in [
            "mesh/iris/status",
            "mesh/../../../../../api/v1/namespaces/kube-system/secrets/token",
            "../iris",
            "mesh/iris?x=y",
            "mesh/iris%2Fstatus",
            "mesh/",
            "/iris",
            "Iris",
            "iris.",
            " iris",
        ] {
            let message = refusals(|s| s["routes"][0]["virtualService"] = json!(name));
            assert!(message.contains("spec.routes[0].virtualService: "), "{name}: {message}");
        }
        for name in ["iris", "mesh/iris", "mesh/iris.v2-b", "1/2"] {
            assert!(Plan::new(&spec(|s| s["routes"][0]["virtualService"] = json!(name)), "models").is_ok());
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_field() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 22] = [
            (|s| s["steps"][0] = json!({"for": "1m"}), "spec.steps[0]: a setting is expected"),
            (|s| s["steps"][0]["mirror"] = json!(101), "spec.steps[0].mirror: 101 is out of range"),
            (|s| s["steps"][0]["mirror"] = json!(0), "spec.steps[0].mirror: 0 is out of range"),
            (|s| s["steps"][0]["mirror"] = json!(0.000_01), "spec.steps[0].mirror: 0.00001"),
            (|s| s["steps"][0]["match"] = json!([{}]), "spec.steps[0].match[0]: it would take all"),
            (
                |s| s["steps"][0] = json!({"mirror": 5, "sticky": {"cookie": {"name": "c"}}}),
                "spec.steps[0].sticky: it keeps",
            ),
            (
                |s| s["steps"][0]["sticky"] = json!({"cookie": {"name": "a b"}}),
                "spec.steps[0].sticky.cookie.name: ",
            ),
            (|s| s["steps"][0]["sticky"] = json!({}), "spec.steps[0].sticky: exactly one"),
            (|s| s["steps"][1]["mirror"] = json!(5), "spec.steps[1]: a ramp stands alone"),
            (|s| s["interval"] = json!("50ms"), "spec.interval: 50ms is too short"),
            (|s| s["routes"] = json!([]), "spec.routes: at least one route"),
            (|s| s["expose"] = json!({}), "spec.expose: stands in place of routes"),
            (
                |s| s["annotations"] = json!({"a": "b"}),
                "spec.annotations: are for a generated VirtualService",
            ),
            (
                |s| {
                    s["steps"] = json!([]);
                    s["finish"] = json!("KeepStable");
                },
                "spec.steps: KeepStable is about the last step",
            ),
            (|s| s["steps"][0]["weight"] = json!(101), "spec.steps[0].weight: 101"),
            (|s| s["steps"][0]["weight"] = json!(-1), "spec.steps[0].weight: -1"),
            (|s| s["steps"][0]["weight"] = json!(0), "spec.steps[0].weight: 0"),
            (|s| s["steps"][1]["ramp"]["by"] = json!(0), "spec.steps[1].ramp.by: 0"),
            (|s| s["steps"][1]["weight"] = json!(5), "spec.steps[1]: a ramp stands alone"),
            (
                |s| s["checks"][0] = json!({"name": "errors"}),
                "spec.checks[0]: exactly one of errors, latency and query",
            ),
            (|s| s["checks"][1]["latency"]["quantile"] = json!(1.0), "spec.checks[1].latency.quantile: 1"),
            (
                |s| {
                    s["metrics"] = json!({"scrape": {"port": 8082}});
                    s["checks"][0] = json!({"name": "q", "query": {"promql": "up", "min": 1}});
                },
                "spec.checks[0].query: asks a metrics source",
            ),
        ];
        for (change, expected) in cases {
            let message = refusals(change);
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 2] = [
            (|s| s["steps"][0]["sticky"] = json!({"header": "x-user"}), "spec.steps[0].sticky.header"),
            (|s| s["metrics"] = json!({"profile": "seldon"}), "spec.metrics.profile"),
        ];
        for (change, field) in cases {
            let errors = Plan::new(&spec(change), "models").unwrap_err();
            assert_eq!(errors.reason(), Reason::Unsupported);
            assert!(errors.to_string().contains(&format!("{field}: not supported yet")), "{errors}");
        }
    }

    #[test]
    fn checks_are_for_steps_that_exist_and_a_ramps_name_means_all_of_it() {
        let asked = |steps: Value| {
            Plan::new(
                &spec(|s| {
                    s["steps"] = json!([
                        {"weight": 5, "name": "first"},
                        {"ramp": {"from": 10, "to": 20, "by": 10, "every": "1m"}, "name": "rise"},
                    ]);
                    s["checks"][0]["steps"] = steps;
                }),
                "models",
            )
        };
        let plan = asked(json!(["rise"])).unwrap();
        let counted: Vec<usize> = (0..=plan.promotion()).map(|index| plan.checks_at(index).count()).collect();
        assert_eq!(counted, [1, 2, 2, 1]);
        let refused = asked(json!(["first", "second"])).unwrap_err().to_string();
        assert!(refused.contains(r#"spec.checks[0].steps[1]: no step is called "second""#), "{refused}");
    }

    #[test]
    fn a_comparison_has_defaults_and_limits() {
        let versus = |versus: Value| {
            Plan::new(&spec(|s| s["checks"][0]["errors"] = json!({"versusStable": versus})), "models")
        };
        let plan = versus(json!({})).unwrap();
        let expected = Versus { max_ratio: 1.0, alpha: 0.01, clear_ratio: 2.0, prove: false };
        assert_eq!(plan.checks[0].versus, Some(expected));
        let plan = versus(json!({"maxRatio": 1.5, "confidence": "95%"})).unwrap();
        assert_eq!(
            plan.checks[0].versus,
            Some(Versus { max_ratio: 1.5, alpha: 0.05, clear_ratio: 3.0, ..expected })
        );
        for (wrong, field) in [
            (json!({"maxRatio": 0.5}), "maxRatio: 0.5"),
            (json!({"maxRatio": 2, "clearRatio": 2}), "clearRatio: 2"),
            (json!({"confidence": "100%"}), "confidence: 100%"),
            (json!({"confidence": "10%"}), "confidence: 10%"),
        ] {
            let refused = versus(wrong).unwrap_err().to_string();
            assert!(refused.contains(&format!("spec.checks[0].errors.versusStable.{field}")), "{refused}");
        }
    }

    #[test]
    fn exactly_one_target_is_wanted() {
        let none = spec(|s| s["target"] = json!({}));
        let problem = target(&none).unwrap_err().to_string();
        assert!(problem.contains("spec.target: exactly one target is expected, 0 were given"), "{problem}");
        let two = spec(|s| s["target"]["deployment"] = json!({"name": "x"}));
        assert!(target(&two).unwrap_err().to_string().contains("2 were given"));
        let other = spec(|s| s["target"] = json!({"deployment": {"name": "x"}}));
        assert_eq!(target(&other).unwrap_err().reason(), Reason::Unsupported);
        let both = json!({"service": {"name": "x"}, "seldonDeployment": {"name": "x", "predictor": "y"}});
        assert!(
            target(&spec(|s| s["target"] = both.clone())).unwrap_err().to_string().contains("2 were given")
        );
        let seldon = spec(|s| s["target"] = json!({"seldonDeployment": {"name": "x", "predictor": "y"}}));
        assert!(matches!(target(&seldon), Ok(Wanted::Predictor(wanted)) if wanted.predictor == "y"));
    }
}
