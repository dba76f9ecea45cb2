//! How the labels of a series say which predictor it is about.

use std::borrow::Cow;

use sluice_core::{Predictor, target::seldon::service_name};

use super::LabelNames;
use crate::metrics::{Arm, SeldonNames, exposition::Labels};

/// Labels that say which predictor a series is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArmLabels {
    /// The parts of a predictor, a label each.
    Service {
        /// Carries the name of the Service.
        service: String,
        /// Carries the namespace of the Service.
        namespace: String,
        /// Carries the subset, where predictors share a Service.
        subset: Option<String>,
    },
    /// The names of a `SeldonDeployment` and of a predictor in it. Together they are the Service's, `iris-main`, or where that is
    /// too long what it is a hash of; or the `SeldonDeployment` itself says which Service that is.
    Seldon {
        /// Carries the namespace.
        namespace: String,
    },
    /// The pods of a Knative revision, whose names begin with the revision's, which is the Service's too.
    RevisionPods {
        /// Carries the namespace.
        namespace: String,
        /// Carries the name of the pod.
        pod: String,
    },
    /// Envoy's name of a cluster as Istio's proxies say it: `outbound|8000|v2|iris.models.svc.cluster.local`.
    Cluster {
        /// Carries that name.
        label: String,
    },
    /// As another Envoy says it, which ends the name of the cluster at its first dot; the rest is in the metric's name:
    /// `envoy_cluster_models_svc_cluster_local_upstream_rq_xx{envoy_cluster_name="outbound|8000|v2|iris"}`.
    CutCluster {
        /// Carries the part before the dot.
        label: String,
    },
}

/// What a label must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// This.
    Exact(String),
    /// This and something after it.
    Prefix(String),
    /// Anything at all.
    Any,
}

/// What the names of Envoy's metrics about clusters begin with.
const ENVOY: &str = "envoy_cluster_";
/// What follows the namespace where the name of the cluster was cut.
const DOMAIN: &str = "_svc_cluster_local_";

impl ArmLabels {
    /// The labels with what they must have for a series to be about one of the predictors. Some more may.
    pub fn matchers<'p>(&self, arms: impl Iterator<Item = &'p Arm> + Clone) -> Vec<(&str, Vec<Value>)> {
        let predictors = arms.clone().map(|arm| &arm.predictor);
        let exact = |of: &dyn Fn(&'p Predictor) -> String| -> Vec<Value> {
            predictors.clone().map(|predictor| Value::Exact(of(predictor))).collect()
        };
        let namespaces = exact(&|predictor| predictor.namespace.clone());
        match self {
            Self::Service { service, namespace, .. } => {
                vec![(service, exact(&|predictor| predictor.service.clone())), (namespace, namespaces)]
            }
            Self::Seldon { namespace } => {
                let (deployments, names) = arms.flat_map(seldon_names).unzip();
                vec![("deployment_name", deployments), ("predictor_name", names), (namespace, namespaces)]
            }
            Self::RevisionPods { namespace, pod } => {
                let prefix = |predictor: &Predictor| Value::Prefix(pod_prefix(predictor));
                vec![(pod, predictors.map(prefix).collect()), (namespace, namespaces)]
            }
            Self::Cluster { label } => {
                let prefix = |predictor: &Predictor| {
                    Value::Prefix(format!("{}.{}.svc.", cut_name(predictor), predictor.namespace))
                };
                vec![(label, predictors.map(prefix).collect())]
            }
            Self::CutCluster { label } => vec![(label, exact(&cut_name))],
        }
    }

    /// Whose a series is, of these; the labels have its name, too.
    pub fn whose<'p>(&self, labels: &Labels, mut among: impl Iterator<Item = &'p Arm>) -> Option<&'p Arm> {
        let is = |label: &str, wanted: &str| labels.get(label).is_some_and(|found| found == wanted);
        among.find(|Arm { predictor, seldon, .. }| match self {
            Self::Service { service, namespace, subset } => {
                is(service, &predictor.service)
                    && is(namespace, &predictor.namespace)
                    && match (subset, &predictor.subset) {
                        (Some(label), Some(wanted)) => is(label, wanted),
                        _ => true,
                    }
            }
            Self::Seldon { namespace } => {
                is(namespace, &predictor.namespace)
                    && match (seldon, labels.get("deployment_name"), labels.get("predictor_name")) {
                        (Some(names), Some(deployment), Some(name)) => {
                            names.deployment == *deployment && names.predictor == *name
                        }
                        (None, Some(deployment), Some(name)) => {
                            service_name(deployment, name) == predictor.service
                        }
                        _ => false,
                    }
            }
            Self::RevisionPods { namespace, pod } => {
                let prefix = pod_prefix(predictor);
                is(namespace, &predictor.namespace)
                    && labels.get(pod).is_some_and(|pod| pod.starts_with(&prefix))
            }
            Self::Cluster { label } => {
                let prefix = format!("{}.{}.svc.", cut_name(predictor), predictor.namespace);
                labels.get(label).is_some_and(|cluster| cluster.starts_with(&prefix))
            }
            Self::CutCluster { label } => {
                let home = labels.get("__name__").and_then(|name| cut_namespace(name));
                is(label, &cut_name(predictor)) && home == Some(&sanitized(&predictor.namespace))
            }
        })
    }

    /// The names under which metrics are found: some have a part of the predictor's.
    pub fn spelled<'p>(&self, names: &[String], arms: impl Iterator<Item = &'p Arm>) -> Vec<String> {
        match self {
            Self::CutCluster { .. } => {
                let mut homes: Vec<String> = arms.map(|arm| sanitized(&arm.predictor.namespace)).collect();
                homes.sort();
                homes.dedup();
                let spelled = |home: &String, name: &String| {
                    let rest = name.strip_prefix(ENVOY).unwrap_or(name);
                    format!("{ENVOY}{home}{DOMAIN}{rest}")
                };
                homes.iter().flat_map(|home| names.iter().map(move |name| spelled(home, name))).collect()
            }
            Self::Service { .. } | Self::Seldon { .. } | Self::RevisionPods { .. } | Self::Cluster { .. } => {
                names.to_vec()
            }
        }
    }

    /// A metric's name without what is in it of a predictor's; nothing where that should be in it and is not.
    pub fn plain<'n>(&self, name: &'n str) -> Option<Cow<'n, str>> {
        match self {
            Self::CutCluster { .. } => {
                let home = cut_namespace(name)?;
                let rest = &name[ENVOY.len() + home.len() + DOMAIN.len()..];
                Some(Cow::Owned(format!("{ENVOY}{rest}")))
            }
            Self::Service { .. } | Self::Seldon { .. } | Self::RevisionPods { .. } | Self::Cluster { .. } => {
                Some(Cow::Borrowed(name))
            }
        }
    }

    /// What predictors would have to be like to be told apart, if these cannot.
    pub fn confuses(&self, one: &Predictor, other: &Predictor) -> Option<&'static str> {
        if one.service != other.service || one.namespace != other.namespace {
            return None;
        }
        let by_subset = one.subset != other.subset && one.subset.is_some() && other.subset.is_some();
        match self {
            Self::Service { subset: Some(_), .. } => {
                (!by_subset).then_some("predictors with Services of their own, or both with a subset")
            }
            Self::Service { subset: None, .. } => Some(
                "predictors with Services of their own, or a label for the subset in the controller's configuration",
            ),
            Self::Seldon { .. } | Self::RevisionPods { .. } => Some("predictors with Services of their own"),
            // Port and subset are in the cluster's name.
            Self::Cluster { .. } | Self::CutCluster { .. } => None,
        }
    }

    /// With other labels in their place. One for the Service makes it a profile that tells predictors by it.
    pub fn renamed(&self, names: &LabelNames) -> Self {
        let LabelNames { service, namespace, subset } = names.clone();
        let known = self.namespace().unwrap_or("namespace");
        let namespace = namespace.unwrap_or_else(|| known.to_owned());
        match (self, service) {
            (Self::Service { service, subset: known, .. }, None) => {
                Self::Service { service: service.clone(), namespace, subset: subset.or(known.clone()) }
            }
            (_, Some(service)) => Self::Service { service, namespace, subset },
            (Self::Seldon { .. }, None) => Self::Seldon { namespace },
            (Self::RevisionPods { pod, .. }, None) => Self::RevisionPods { namespace, pod: pod.clone() },
            (Self::Cluster { .. } | Self::CutCluster { .. }, None) => self.clone(),
        }
    }

    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Service { namespace, .. }
            | Self::Seldon { namespace }
            | Self::RevisionPods { namespace, .. } => Some(namespace),
            Self::Cluster { .. } | Self::CutCluster { .. } => None,
        }
    }
}

/// What the metrics of a predictor may call it. Where nobody has read its `SeldonDeployment` that is every way in which its
/// Service's name may be made of two: in one namespace only one of them can be, or two would own the Service. A hash is of
/// names that cannot be told from it: then all are asked for, and those that it is of are found among them.
fn seldon_names(arm: &Arm) -> Vec<(Value, Value)> {
    if let Some(SeldonNames { deployment, predictor }) = &arm.seldon {
        return vec![(Value::Exact(deployment.clone()), Value::Exact(predictor.clone()))];
    }
    let service = arm.predictor.service.as_str();
    if is_hashed(service) {
        return vec![(Value::Any, Value::Any)];
    }
    let parts = service.match_indices('-').map(|(at, _)| (&service[..at], &service[at + 1..]));
    parts
        .filter(|(deployment, name)| !deployment.is_empty() && !name.is_empty())
        .map(|(deployment, name)| (Value::Exact(deployment.into()), Value::Exact(name.into())))
        .collect()
}

/// Whether a Service's name is one that Seldon Core's operator gives where it would be too long.
fn is_hashed(service: &str) -> bool {
    let digits = |hash: &str| hash.len() == 32 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
    service.strip_prefix("seldon-").is_some_and(digits)
}

/// What the names of a revision's pods begin with.
fn pod_prefix(predictor: &Predictor) -> String {
    format!("{}-deployment-", predictor.service)
}

/// The name of a cluster up to its first dot.
fn cut_name(predictor: &Predictor) -> String {
    let subset = predictor.subset.as_deref().unwrap_or_default();
    format!("outbound|{}|{subset}|{}", predictor.port, predictor.service)
}

/// The namespace that is in a metric's name where the name of the cluster was cut.
fn cut_namespace(name: &str) -> Option<&str> {
    let (home, _) = name.strip_prefix(ENVOY)?.split_once(DOMAIN)?;
    Some(home)
}

/// A text as Envoy has it in the name of a metric.
fn sanitized(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
