//! A VirtualService that Sluice is to generate: `spec.expose` with Seldon Core's annotations, checked.

use std::collections::BTreeMap;

use super::{PlanErrors, PlanWarning, is_object_name};
use crate::{
    api::{Expose, RolloutSpec},
    target::seldon::GRPC_PORT,
};

/// Seldon Core's annotation for the Gateway of generated routes.
pub const GATEWAY: &str = "seldon.io/istio-gateway";
/// Seldon Core's annotation for their hosts, separated by commas.
pub const HOST: &str = "seldon.io/istio-host";
const RETRIES: &str = "seldon.io/istio-retries";
const RETRIES_TIMEOUT: &str = "seldon.io/istio-retries-timeout";
const TLS_MODE: &str = "seldon.io/istio-tls-mode";
/// What all annotations of Seldon Core begin with that are about routes.
pub const ISTIO: &str = "seldon.io/istio";
/// What there is no Gateway object for: the sidecars of the mesh.
pub(crate) const MESH: &str = "mesh";

/// What a generated VirtualService looks like, but for its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedExpose {
    /// What requests call the predictors: the Rollout's name, or the SeldonDeployment's.
    pub called: String,
    /// Hosts; none where it is delegated to.
    pub hosts: Vec<String>,
    /// Gateways as `namespace/name` or `mesh`; none where the controller's own counts, or where it is delegated to.
    pub gateways: Vec<String>,
    /// Prefix of the path of the requests; all paths where there is none.
    pub prefix: Option<String>,
    /// What the prefix is rewritten to; the path stays where there is none.
    pub rewrite: Option<String>,
    /// The port for gRPC, where the predictors have one.
    pub grpc_port: Option<u16>,
    /// How often a request is tried again, and how long each try may take.
    pub retries: Option<Retries>,
    /// How the proxies speak to the predictors, where that was said.
    pub tls: Option<TlsMode>,
    /// Whether a VirtualService of the user's delegates to it.
    pub delegate: bool,
    /// Whether what is not traffic stays on the routes as it is found there, because the spec is refused.
    pub traffic_only: bool,
}

/// How often a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries beside the first one, from 1.
    pub attempts: u32,
    /// How long each may take, in whole seconds from 1.
    pub per_try_seconds: Option<u32>,
}

/// How the proxies speak to the predictors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// In the clear.
    Disable,
    /// With TLS.
    Simple,
    /// With TLS and a certificate of their own.
    Mutual,
    /// With TLS and Istio's own certificates.
    IstioMutual,
}

impl TlsMode {
    const ALL: [Self; 4] = [Self::Disable, Self::Simple, Self::Mutual, Self::IstioMutual];

    /// As Istio spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::IstioMutual => "ISTIO_MUTUAL",
        }
    }
}

/// What is generated for a spec of the Rollout `namespace/name`. What means nothing, though it does no harm, goes to
/// `warnings`.
pub(super) fn plan(
    spec: &RolloutSpec,
    expose: &Expose,
    namespace: &str,
    name: &str,
    errors: &mut PlanErrors,
    warnings: &mut Vec<PlanWarning>,
) -> PlannedExpose {
    let annotations = Annotations { all: &spec.annotations };
    annotations.refuse_unknown(errors);
    let seldon = spec.target.seldon_deployment.as_ref();
    let called = seldon.map_or(name, |target| &target.name).to_owned();
    let (hosts, gateways) = if expose.delegate {
        refuse_beside_delegate(expose, &annotations, errors);
        (Vec::new(), Vec::new())
    } else {
        (hosts(expose, &annotations, errors), gateways(expose, &annotations, namespace, errors))
    };
    let (prefix, rewrite) = paths(expose, namespace, &called, errors);
    PlannedExpose {
        hosts,
        gateways,
        prefix,
        rewrite,
        grpc_port: expose.grpc_port.or(seldon.map(|_| GRPC_PORT)),
        retries: annotations.retries(errors, warnings),
        tls: annotations.tls(errors),
        delegate: expose.delegate,
        traffic_only: false,
        called,
    }
}

fn refuse_beside_delegate(expose: &Expose, annotations: &Annotations<'_>, errors: &mut PlanErrors) {
    const PROBLEM: &str =
        "with delegate the VirtualService that delegates has hosts and gateways, and this one must have none";
    for (field, given) in [("hosts", !expose.hosts.is_empty()), ("gateways", !expose.gateways.is_empty())] {
        if given {
            errors.invalid(&format!("spec.expose.{field}"), PROBLEM);
        }
    }
    for key in [HOST, GATEWAY] {
        if annotations.all.contains_key(key) {
            errors.invalid(&path(key), PROBLEM);
        }
    }
}

fn hosts(expose: &Expose, annotations: &Annotations<'_>, errors: &mut PlanErrors) -> Vec<String> {
    let (path, hosts) = match annotations.get(HOST) {
        Some(hosts) if expose.hosts.is_empty() => {
            (path(HOST), hosts.split(',').map(|host| host.trim().to_owned()).collect())
        }
        Some(_) | None => ("spec.expose.hosts".to_owned(), expose.hosts.clone()),
    };
    for host in &hosts {
        if !is_host(host) {
            errors.invalid(&path, format!("{host:?} is no host: a DNS name is expected, * or *.example.com"));
        }
    }
    if hosts.is_empty() { vec!["*".to_owned()] } else { hosts }
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    host == "*" || is_object_name(name)
}

/// A Gateway as `namespace/name`, or the mesh, as it is named in a Rollout of this namespace.
pub fn full_gateway(named: &str, namespace: &str) -> String {
    if named == MESH || named.contains('/') { named.to_owned() } else { format!("{namespace}/{named}") }
}

fn gateways(
    expose: &Expose,
    annotations: &Annotations<'_>,
    namespace: &str,
    errors: &mut PlanErrors,
) -> Vec<String> {
    let (path, given) = match annotations.get(GATEWAY) {
        Some(gateway) if expose.gateways.is_empty() => (path(GATEWAY), vec![gateway.to_owned()]),
        Some(_) | None => ("spec.expose.gateways".to_owned(), expose.gateways.clone()),
    };
    let is_one = |full: &str| {
        let is_name = |(home, name)| is_object_name(home) && is_object_name(name);
        full == MESH || full.split_once('/').is_some_and(is_name)
    };
    let mut gateways = Vec::new();
    for gateway in &given {
        let full = full_gateway(gateway, namespace);
        if !is_one(&full) {
            errors.invalid(&path, format!("{gateway:?} is no NAME or NAMESPACE/NAME of a Gateway"));
        } else if !gateways.contains(&full) {
            gateways.push(full);
        }
    }
    gateways
}

/// The prefix of the path, and what becomes of it. A VirtualService that is delegated to takes what the other one gives
/// it, unless something else is said.
fn paths(
    expose: &Expose,
    namespace: &str,
    called: &str,
    errors: &mut PlanErrors,
) -> (Option<String>, Option<String>) {
    let default = (!expose.delegate).then(|| format!("/seldon/{namespace}/{called}/"));
    let prefix = expose.prefix.clone().or(default);
    let rewrite = match (&expose.rewrite, &prefix) {
        (Some(rewrite), _) => Some(rewrite.clone()),
        (None, Some(_)) => Some("/".to_owned()),
        (None, None) => None,
    };
    for (field, value) in [("prefix", &prefix), ("rewrite", &rewrite)] {
        if value.as_ref().is_some_and(|value| !value.starts_with('/')) {
            errors.invalid(&format!("spec.expose.{field}"), "a path that begins with / is expected");
        }
    }
    if let (Some(prefix), Some(rewrite)) = (&prefix, &rewrite)
        && prefix.ends_with('/') != rewrite.ends_with('/')
    {
        let problem = format!(
            "both of prefix {prefix:?} and rewrite {rewrite:?} must end with /, or none: the path would have two of them, or none"
        );
        errors.invalid("spec.expose.rewrite", problem);
    }
    let changes = prefix != rewrite;
    (prefix, rewrite.filter(|_| changes))
}

/// What stands in `spec.annotations`.
struct Annotations<'s> {
    all: &'s BTreeMap<String, String>,
}

impl Annotations<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.all.get(key).map(String::as_str)
    }

    /// Other keys of Seldon Core mean something to its operator; of Istio's, one that nobody knows is one misspelt.
    fn refuse_unknown(&self, errors: &mut PlanErrors) {
        const KNOWN: [&str; 5] = [GATEWAY, HOST, RETRIES, RETRIES_TIMEOUT, TLS_MODE];
        for key in self.all.keys().filter(|key| key.starts_with(ISTIO) && !KNOWN.contains(&key.as_str())) {
            errors
                .invalid(&path(key), format!("no such annotation: one of {} is expected", KNOWN.join(", ")));
        }
    }

    fn retries(&self, errors: &mut PlanErrors, warnings: &mut Vec<PlanWarning>) -> Option<Retries> {
        let attempts = self.number(RETRIES, "the number of retries", errors);
        let per_try_seconds = self.number(RETRIES_TIMEOUT, "seconds", errors);
        if per_try_seconds.is_some() && !self.all.contains_key(RETRIES) {
            let problem = format!("means nothing without {RETRIES}");
            warnings.push(PlanWarning { path: path(RETRIES_TIMEOUT), problem });
        }
        attempts.map(|attempts| Retries { attempts, per_try_seconds })
    }

    fn number(&self, key: &str, what: &str, errors: &mut PlanErrors) -> Option<u32> {
        let text = self.get(key)?;
        let number = text.trim().parse::<u32>().ok().filter(|number| (1..=1_000_000).contains(number));
        if number.is_none() {
            errors.invalid(&path(key), format!("{text:?} is not {what}: a whole number from 1 is expected"));
        }
        number
    }

    fn tls(&self, errors: &mut PlanErrors) -> Option<TlsMode> {
        let text = self.get(TLS_MODE)?;
        let mode = TlsMode::ALL.into_iter().find(|mode| mode.word() == text);
        if mode.is_none() {
            let words: Vec<&str> = TlsMode::ALL.iter().map(|mode| mode.word()).collect();
            errors.invalid(&path(TLS_MODE), format!("{text:?} is no TLS mode: one of {}", words.join(", ")));
        }
        mode
    }
}

fn path(key: &str) -> String {
    format!("spec.annotations[{key}]")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::Plan;

    fn plan(expose: &Value, annotations: &Value) -> Result<Plan, String> {
        let spec = json!({
            "target": {"service": {"name": "iris-v2"}}, "expose": expose, "annotations": annotations,
        });
        let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
        Plan::named(&spec, "models", "iris").map_err(|errors| errors.to_string())
    }

    fn exposed(expose: &Value, annotations: &Value) -> PlannedExpose {
        plan(expose, annotations).unwrap().expose.unwrap()
    }

    #[test]
    fn without_a_word_it_is_as_seldons_operator_makes_it() {
        let planned = exposed(&json!({}), &json!({}));
        assert_eq!(
            planned,
            PlannedExpose {
                called: "iris".into(),
                hosts: vec!["*".into()],
                gateways: Vec::new(),
                prefix: Some("/seldon/models/iris/".into()),
                rewrite: Some("/".into()),
                grpc_port: None,
                retries: None,
                tls: None,
                delegate: false,
                traffic_only: false,
            }
        );
    }

    #[test]
    fn seldons_annotations_mean_what_they_mean_there() {
        let planned = exposed(
            &json!({"grpcPort": 5001}),
            &json!({
                GATEWAY: "gw", HOST: "a.example.com, *.example.org", RETRIES: "3", RETRIES_TIMEOUT: "2",
                TLS_MODE: "ISTIO_MUTUAL", "seldon.io/engine-log-level": "debug",
            }),
        );
        assert_eq!(planned.gateways, ["models/gw"], "a name without a namespace is one of the Rollout's");
        assert_eq!(planned.hosts, ["a.example.com", "*.example.org"]);
        assert_eq!(planned.retries, Some(Retries { attempts: 3, per_try_seconds: Some(2) }));
        assert_eq!((planned.tls, planned.grpc_port), (Some(TlsMode::IstioMutual), Some(5001)));
    }

    #[test]
    fn fields_win_over_annotations_and_can_be_set_otherwise() {
        let fields = json!({
            "hosts": ["b.example.com"], "gateways": ["mesh", "istio-system/other"], "prefix": "/v1", "rewrite": "/v2",
        });
        let planned = exposed(&fields, &json!({GATEWAY: "gw", HOST: "a.example.com"}));
        assert_eq!(planned.hosts, ["b.example.com"]);
        assert_eq!(planned.gateways, ["mesh", "istio-system/other"]);
        assert_eq!((planned.prefix.as_deref(), planned.rewrite.as_deref()), (Some("/v1"), Some("/v2")));
        let root = exposed(&json!({"prefix": "/"}), &json!({}));
        assert_eq!((root.prefix.as_deref(), root.rewrite), (Some("/"), None));
    }

    #[test]
    fn what_is_delegated_to_has_neither_hosts_nor_gateways() {
        let planned = exposed(&json!({"delegate": true}), &json!({}));
        assert!(planned.hosts.is_empty() && planned.gateways.is_empty() && planned.delegate);
        assert_eq!((planned.prefix, planned.rewrite), (None, None));
        for (expose, annotations, field) in [
            (json!({"delegate": true, "hosts": ["a"]}), json!({}), "spec.expose.hosts"),
            (json!({"delegate": true, "gateways": ["a"]}), json!({}), "spec.expose.gateways"),
            (json!({"delegate": true}), json!({HOST: "a"}), "spec.annotations[seldon.io/istio-host]"),
        ] {
            let problem = plan(&expose, &annotations).unwrap_err();
            assert!(problem.starts_with(field) && problem.contains("delegate"), "{problem}");
        }
    }

    #[test]
    fn a_value_that_is_not_what_it_should_be_is_refused_with_its_name() {
        for (expose, annotations, expected) in [
            (
                json!({}),
                json!({RETRIES: "three"}),
                r#"spec.annotations[seldon.io/istio-retries]: "three" is not"#,
            ),
            (json!({}), json!({RETRIES: "0"}), "a whole number from 1 is expected"),
            (
                json!({}),
                json!({RETRIES: "3", RETRIES_TIMEOUT: "2s"}),
                "[seldon.io/istio-retries-timeout]: \"2s\"",
            ),
            (json!({}), json!({TLS_MODE: "STRICT"}), "[seldon.io/istio-tls-mode]: \"STRICT\" is no TLS mode"),
            (json!({}), json!({GATEWAY: "a/b/c"}), "[seldon.io/istio-gateway]: \"a/b/c\" is no NAME"),
            (json!({}), json!({HOST: "a,,b"}), "[seldon.io/istio-host]: \"\" is no host"),
            (json!({}), json!({"seldon.io/istio-retry": "3"}), "[seldon.io/istio-retry]: no such annotation"),
            (json!({"gateways": ["Gate"]}), json!({}), "spec.expose.gateways: \"Gate\""),
            (json!({"hosts": ["a b"]}), json!({}), "spec.expose.hosts: \"a b\""),
            (json!({"prefix": "v1/"}), json!({}), "spec.expose.prefix: a path that begins with /"),
            (
                json!({"prefix": "/v1"}),
                json!({}),
                "spec.expose.rewrite: both of prefix \"/v1\" and rewrite \"/\"",
            ),
        ] {
            let problem = plan(&expose, &annotations).unwrap_err();
            assert!(problem.contains(expected), "{problem} lacks {expected}");
        }
    }

    #[test]
    fn a_timeout_without_retries_is_said_to_mean_nothing() {
        let plan = plan(&json!({}), &json!({RETRIES_TIMEOUT: "2"})).unwrap();
        let warning = "spec.annotations[seldon.io/istio-retries-timeout]: means nothing without seldon.io/istio-retries";
        assert_eq!(plan.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [warning]);
        assert_eq!(plan.expose.unwrap().retries, None);
    }
}
