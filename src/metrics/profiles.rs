//! Which metrics tell requests, errors and latencies, and by which labels the arms are told apart.

use std::collections::BTreeMap;

use sluice_core::{Predictor, api, judge::Bound};

use super::{counters::Family, exposition::Labels, exposition::number};

/// Labels that say which predictor a series is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmLabels {
    /// Carries the name of the Service.
    pub service: String,
    /// Carries the namespace of the Service.
    pub namespace: String,
    /// Carries the subset, where predictors share a Service.
    pub subset: Option<String>,
}

/// How a profile tells an error from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Istio,
    Mlserver,
}

/// A known set of metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Name in the API.
    pub name: &'static str,
    /// The counter of requests.
    pub requests: &'static str,
    /// The histogram of latencies, without suffix.
    pub latency: &'static str,
    /// How many of the histogram's units make a second.
    units_per_second: f64,
    /// Labels that every series must carry.
    pub fixed: BTreeMap<String, String>,
    /// Labels that tell the arms apart.
    pub arms: ArmLabels,
    /// The arms' labels are given by the scraper to all series of a target, so that `up` carries them too.
    pub target_labels: bool,
    /// The predictors expose these metrics themselves.
    pub scrapable: bool,
    rules: Rules,
}

/// Changes to a profile by the platform's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Overrides {
    /// Other names for the labels that tell the arms apart.
    pub labels: LabelNames,
    /// Labels that every series must carry, in place of the profile's own; an empty value takes one away.
    #[serde(rename = "match")]
    pub fixed: BTreeMap<String, String>,
}

/// Names of the labels that carry a predictor's parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelNames {
    /// Label with the Service's name.
    pub service: Option<String>,
    /// Label with the Service's namespace.
    pub namespace: Option<String>,
    /// Label with the subset.
    pub subset: Option<String>,
}

/// What a series of a profile is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// A counter of requests.
    Requests(Family),
    /// How many requests there were in the histogram.
    Count,
    /// How many of them were at most as slow as a bound.
    Bucket(Bound),
    /// The bucket of all.
    Whole,
    /// A histogram of the native sort.
    Native,
    /// When the process started, in seconds since the epoch.
    ProcessStart,
    /// Nothing but a sign that the reporter is there.
    Sign,
}

/// The metric that says when a process started.
pub const PROCESS_START: &str = "process_start_time_seconds";
/// Which of the two proxies of a request counted it.
const REPORTER: &str = "reporter";
/// What Prometheus says about every target itself.
pub const UP: &str = "up";

impl Profile {
    /// The profile that the API calls so, or why there is none yet.
    pub fn of(profile: api::Profile) -> Result<Self, String> {
        match profile {
            api::Profile::Istio => Ok(Self::istio()),
            api::Profile::Mlserver => Ok(Self::mlserver()),
            api::Profile::Seldon => Err(later("seldon")),
            api::Profile::Kserve => Err(later("kserve")),
            api::Profile::Envoy => Err(later("envoy")),
        }
    }

    /// What the client's proxy says: it also sees requests that never reached the predictor.
    fn istio() -> Self {
        Self {
            name: "istio",
            requests: "istio_requests_total",
            latency: "istio_request_duration_milliseconds",
            units_per_second: 1e3,
            fixed: BTreeMap::from([(REPORTER.to_owned(), "source".to_owned())]),
            arms: ArmLabels {
                service: "destination_service_name".to_owned(),
                namespace: "destination_service_namespace".to_owned(),
                subset: None,
            },
            target_labels: false,
            scrapable: false,
            rules: Rules::Istio,
        }
    }

    /// `MLServer`'s REST metrics. Its own labels are `method`, `path`, `status_code` and `app_name`; the arms are told
    /// apart by the labels that a Prometheus operator's `ServiceMonitor` gives to targets.
    fn mlserver() -> Self {
        Self {
            name: "mlserver",
            requests: "rest_server_requests_total",
            latency: "rest_server_request_duration_seconds",
            units_per_second: 1.0,
            fixed: BTreeMap::new(),
            arms: ArmLabels {
                service: "service".to_owned(),
                namespace: "namespace".to_owned(),
                subset: None,
            },
            target_labels: true,
            scrapable: true,
            rules: Rules::Mlserver,
        }
    }

    /// The profile while the canary only gets copies of requests. The client's proxy does not count those, the canary's
    /// own does; and stable's own then counts as well, so that both arms are measured at the same place.
    #[must_use]
    pub fn of_copies(mut self) -> Self {
        if let Some(reporter) = self.fixed.get_mut(REPORTER).filter(|reporter| *reporter == "source") {
            "destination".clone_into(reporter);
        }
        self
    }

    /// The profile with the platform's changes.
    #[must_use]
    pub fn with(mut self, overrides: &Overrides) -> Self {
        let LabelNames { service, namespace, subset } = overrides.labels.clone();
        self.arms.service = service.unwrap_or(self.arms.service);
        self.arms.namespace = namespace.unwrap_or(self.arms.namespace);
        self.arms.subset = subset.or(self.arms.subset);
        for (label, value) in &overrides.fixed {
            if value.is_empty() {
                self.fixed.remove(label);
            } else {
                self.fixed.insert(label.clone(), value.clone());
            }
        }
        self
    }

    /// All names of metrics that tell something, suffixes included.
    pub fn names(&self) -> Vec<String> {
        let Self { requests, latency, .. } = self;
        let mut names = vec![
            (*requests).to_owned(),
            format!("{latency}_bucket"),
            format!("{latency}_count"),
            (*latency).to_owned(),
        ];
        if self.target_labels {
            names.extend([UP.to_owned(), PROCESS_START.to_owned()]);
        }
        names
    }

    /// What a series is, or nothing where it is not about requests to a predictor.
    pub fn role(&self, name: &str, labels: &Labels) -> Option<Role> {
        if name == UP {
            return Some(Role::Sign);
        }
        if name == PROCESS_START {
            return Some(Role::ProcessStart);
        }
        let role = if name == self.requests {
            Role::Requests(Family::Requests { failed: self.failed(labels) })
        } else {
            match name.strip_prefix(self.latency)? {
                "" => Role::Native,
                "_count" => Role::Count,
                "_bucket" => self.bucket(labels.get("le")?)?,
                _ => return None,
            }
        };
        self.counts(labels).then_some(role)
    }

    /// Whether the series carries the labels that a profile or a Rollout asks for.
    pub fn carries(labels: &Labels, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().all(|(name, value)| labels.get(name).map_or("", String::as_str) == value)
    }

    /// Which of the predictors a series is about.
    pub fn predictor<'p>(
        &self,
        labels: &Labels,
        mut among: impl Iterator<Item = &'p Predictor>,
    ) -> Option<&'p Predictor> {
        let ArmLabels { service, namespace, subset } = &self.arms;
        among.find(|predictor| {
            labels.get(service) == Some(&predictor.service)
                && labels.get(namespace) == Some(&predictor.namespace)
                && match (subset, &predictor.subset) {
                    (Some(label), Some(wanted)) => labels.get(label) == Some(wanted),
                    _ => true,
                }
        })
    }

    /// Why two predictors cannot be told apart by the labels, if they cannot.
    pub fn confuses(&self, one: &Predictor, other: &Predictor) -> Option<String> {
        let same_service = one.service == other.service && one.namespace == other.namespace;
        let by_subset = self.arms.subset.is_some()
            && one.subset != other.subset
            && one.subset.is_some()
            && other.subset.is_some();
        (same_service && !by_subset).then(|| {
            format!(
                "the metrics of profile {} do not tell {one} from {other}: expected predictors with Services of \
                 their own{}",
                self.name,
                if self.arms.subset.is_none() {
                    ", or a label for the subset in the controller's configuration"
                } else {
                    ", or both with a subset"
                }
            )
        })
    }

    /// The bucket that an `le` says, if it is a bound at all.
    fn bucket(&self, le: &str) -> Option<Role> {
        let value = number(le)?;
        if value == f64::INFINITY {
            return Some(Role::Whole);
        }
        Bound::from_seconds(value / self.units_per_second).map(Role::Bucket)
    }

    /// A bound as `le` may be written: `1` by most, `1.0` by Prometheus 3 and by Python's client.
    pub fn le(&self, bound: Bound) -> [String; 2] {
        #[allow(clippy::cast_precision_loss)]
        let value = bound.0 as f64 * self.units_per_second / 1e6;
        [format!("{value}"), format!("{value:?}")]
    }

    fn counts(&self, labels: &Labels) -> bool {
        match self.rules {
            Rules::Istio => true,
            Rules::Mlserver => labels.get("path").is_some_and(|path| is_inference(path)),
        }
    }

    fn failed(&self, labels: &Labels) -> bool {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        match self.rules {
            Rules::Istio => {
                let code = label("response_code");
                // Code 0: the connection was gone before there was an answer.
                is_5xx(code) || code == "0" || is_server_fault(label("grpc_response_status"))
            }
            Rules::Mlserver => is_5xx(label("status_code")),
        }
    }
}

fn later(name: &str) -> String {
    format!("metrics profile {name} is not supported yet: expected istio or mlserver")
}

fn is_5xx(code: &str) -> bool {
    code.len() == 3 && code.starts_with('5')
}

/// The gRPC codes that blame the server: unknown, deadline exceeded, unimplemented, internal, unavailable and data
/// loss, as OpenTelemetry's semantic conventions list them.
fn is_server_fault(grpc_status: &str) -> bool {
    matches!(grpc_status, "2" | "4" | "12" | "13" | "14" | "15")
}

/// Whether a path asks a model for an answer, and is not about health, metadata or the repository. `MLServer` says the
/// path as it was asked or as its route is written (`/v2/models/{model_name}/infer`), depending on its version.
fn is_inference(path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').rsplit('/');
    match segments.next() {
        Some("infer" | "infer_stream" | "generate" | "generate_stream") => {
            matches!(segments.nth(1), Some("models" | "versions"))
        }
        Some("invocations") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn failed(profile: &Profile, pairs: &[(&str, &str)]) -> Option<bool> {
        match profile.role(profile.requests, &labels(pairs))? {
            Role::Requests(Family::Requests { failed }) => Some(failed),
            _ => None,
        }
    }

    #[test]
    fn istio_errors_are_5xx_lost_connections_and_grpc_server_faults() {
        let istio = Profile::of(api::Profile::Istio).unwrap();
        for (code, grpc, expected) in [
            ("200", "", false),
            ("404", "", false),
            ("429", "", false),
            ("500", "", true),
            ("503", "", true),
            ("0", "", true),
            ("200", "0", false),
            ("200", "5", false),
            ("200", "14", true),
            ("200", "13", true),
            ("200", "4", true),
        ] {
            let pairs = [("response_code", code), ("grpc_response_status", grpc)];
            assert_eq!(failed(&istio, &pairs), Some(expected), "{code} {grpc}");
        }
    }

    #[test]
    fn mlserver_counts_only_what_asks_a_model() {
        let mlserver = Profile::of(api::Profile::Mlserver).unwrap();
        for (path, code, expected) in [
            ("/v2/models/iris/infer", "200", Some(false)),
            ("/v2/models/{model_name}/infer", "500", Some(true)),
            ("/v2/models/iris/versions/v1/infer", "400", Some(false)),
            ("/v2/models/iris/infer_stream", "200", Some(false)),
            ("/invocations", "503", Some(true)),
            ("/v2/models/iris/ready", "500", None),
            ("/v2/health/live", "200", None),
            ("/v2/models/infer", "200", None),
            ("/v2/models/infer/infer", "200", Some(false)),
            ("/metrics", "200", None),
            ("/v2/repository/index", "200", None),
        ] {
            assert_eq!(failed(&mlserver, &[("path", path), ("status_code", code)]), expected, "{path}");
        }
    }

    #[test]
    fn bounds_are_the_same_however_they_are_written() {
        let istio = Profile::of(api::Profile::Istio).unwrap();
        let bucket = |profile: &Profile, le: &str| {
            profile.role(
                &format!("{}_bucket", profile.latency),
                &labels(&[("le", le), ("path", "/invocations")]),
            )
        };
        let quarter = Some(Role::Bucket(Bound(250_000)));
        assert_eq!(bucket(&istio, "250"), quarter);
        assert_eq!(bucket(&istio, "250.0"), quarter);
        assert_eq!(bucket(&istio, "2.5e2"), quarter);
        assert_eq!(bucket(&istio, "+Inf"), Some(Role::Whole));
        assert_eq!(bucket(&istio, "x"), None);
        assert_eq!(bucket(&Profile::of(api::Profile::Mlserver).unwrap(), "0.25"), quarter);
        assert_eq!(istio.le(Bound(250_000)), ["250", "250.0"]);
        assert_eq!(istio.le(Bound(500)), ["0.5", "0.5"]);
    }

    #[test]
    fn predictors_of_one_service_need_a_label_for_their_subset() {
        let istio = Profile::of(api::Profile::Istio).unwrap();
        let mut one = Predictor::new("models", "iris", 8000);
        let mut other = one.clone();
        one.subset = Some("v1".into());
        other.subset = Some("v2".into());
        assert!(istio.confuses(&one, &other).unwrap().contains("subset"));
        let names = LabelNames { subset: Some("destination_version".into()), ..LabelNames::default() };
        let istio = istio.with(&Overrides { labels: names, ..Overrides::default() });
        assert_eq!(istio.confuses(&one, &other), None);
        let series = labels(&[
            ("destination_service_name", "iris"),
            ("destination_service_namespace", "models"),
            ("destination_version", "v2"),
        ]);
        assert_eq!(istio.predictor(&series, [&one, &other].into_iter()), Some(&other));
    }

    #[test]
    fn profiles_that_come_later_say_so() {
        for profile in [api::Profile::Seldon, api::Profile::Kserve, api::Profile::Envoy] {
            assert!(Profile::of(profile).unwrap_err().contains("not supported yet"));
        }
    }

    #[test]
    fn the_configuration_can_change_labels() {
        let overrides = Overrides {
            labels: LabelNames { service: Some("svc".into()), ..LabelNames::default() },
            fixed: BTreeMap::from([("reporter".into(), "waypoint".into())]),
        };
        let istio = Profile::of(api::Profile::Istio).unwrap().with(&overrides);
        assert_eq!(istio.arms.service, "svc");
        assert_eq!(istio.fixed["reporter"], "waypoint");
        assert_eq!(istio.of_copies().fixed["reporter"], "waypoint", "the platform knows better");
        assert_eq!(Profile::istio().of_copies().fixed["reporter"], "destination");
    }
}
