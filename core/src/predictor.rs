//! What answers requests behind one destination of a route.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Service (or one subset of it) on one port: one arm of a rollout.
///
/// Two predictors are the same revision exactly when they are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Predictor {
    /// Namespace of the Service.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the Service.
    #[schemars(length(max = 63))]
    pub service: String,
    /// Port of the Service, 1 to 65535.
    pub port: u16,
    /// Subset of a DestinationRule, where the arms share one Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub subset: Option<String>,
}

impl Predictor {
    /// The whole Service on `port`.
    pub fn new(namespace: impl Into<String>, service: impl Into<String>, port: u16) -> Self {
        Self { namespace: namespace.into(), service: service.into(), port, subset: None }
    }

    /// The identity of what this predictor serves, as users write it in a `RolloutAction`:
    /// `namespace/service:port`, with `#subset` where there is one.
    pub fn revision(&self) -> String {
        self.to_string()
    }

    /// A name short enough for a column: the Service, with the subset where there is one.
    pub fn short(&self) -> String {
        match &self.subset {
            Some(subset) => format!("{}#{subset}", self.service),
            None => self.service.clone(),
        }
    }
}

impl fmt::Display for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)?;
        match &self.subset {
            Some(subset) => write!(f, "#{subset}"),
            None => Ok(()),
        }
    }
}

/// A text is not a revision as [`Predictor`] prints it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a revision: expected namespace/service:port")]
pub struct InvalidRevision(String);

impl FromStr for Predictor {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (namespace, rest) = text.split_once('/')?;
            let (service, rest) = rest.split_once(':')?;
            let (port, subset) =
                rest.split_once('#').map_or((rest, None), |(port, subset)| (port, Some(subset.to_owned())));
            Some(Self {
                namespace: namespace.to_owned(),
                service: service.to_owned(),
                port: port.parse().ok()?,
                subset,
            })
        };
        parsed().ok_or_else(|| InvalidRevision(text.to_owned()))
    }
}

/// What names mean in a cluster: how Istio turns the host of a destination into a name of the whole cluster, and where
/// generated routes are served if nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNames {
    /// The cluster's DNS domain, `cluster.local` unless the platform chose another.
    pub cluster_domain: String,
    /// Namespace and name of the Gateway of generated routes, `namespace/name`.
    pub gateway: String,
}

impl Default for HostNames {
    fn default() -> Self {
        Self { cluster_domain: "cluster.local".to_owned(), gateway: "istio-system/seldon-gateway".to_owned() }
    }
}

impl HostNames {
    /// The full host of a Service.
    pub fn host(&self, namespace: &str, service: &str) -> String {
        format!("{service}.{namespace}.svc.{}", self.cluster_domain)
    }

    /// The full host that Istio means by `host` in a `VirtualService` of `namespace`: a name without a dot
    /// is a Service of the `VirtualService`'s own namespace, everything else stands as it is.
    pub fn resolve(&self, host: &str, namespace: &str) -> String {
        if host.contains('.') || host.starts_with('*') { host.to_owned() } else { self.host(namespace, host) }
    }

    /// Namespace and name of the Service that a full host stands for, if it is one of this cluster.
    pub fn service<'h>(&self, full_host: &'h str) -> Option<(&'h str, &'h str)> {
        let names = full_host.strip_suffix(self.cluster_domain.as_str())?.strip_suffix(".svc.")?;
        let (service, namespace) = names.split_once('.')?;
        let plain = |name: &str| !name.is_empty() && !name.contains('.');
        (plain(service) && plain(namespace)).then_some((namespace, service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_names_namespace_service_port_and_subset() {
        let mut predictor = Predictor::new("models", "iris-v2", 8000);
        assert_eq!(predictor.revision(), "models/iris-v2:8000");
        predictor.subset = Some("v2".into());
        assert_eq!(predictor.revision(), "models/iris-v2:8000#v2");
        assert_eq!(predictor.revision().parse::<Predictor>().unwrap(), predictor);
        assert_eq!(predictor.short(), "iris-v2#v2");
    }

    #[test]
    fn hosts_are_resolved_as_istio_resolves_them() {
        let names = HostNames::default();
        for (host, full) in [
            ("iris", "iris.models.svc.cluster.local"),
            ("iris.other.svc.cluster.local", "iris.other.svc.cluster.local"),
            ("iris.other", "iris.other"),
            ("api.example.com", "api.example.com"),
            ("*", "*"),
        ] {
            assert_eq!(names.resolve(host, "models"), full);
        }
    }

    #[test]
    fn only_hosts_of_this_cluster_are_services() {
        let names = HostNames { cluster_domain: "corp.example".into(), ..HostNames::default() };
        assert_eq!(names.service("iris.models.svc.corp.example"), Some(("models", "iris")));
        for host in [
            "iris.models.svc.cluster.local",
            "api.example.com",
            "a.b.c.svc.corp.example",
            ".x.svc.corp.example",
        ] {
            assert_eq!(names.service(host), None, "{host}");
        }
    }
}
