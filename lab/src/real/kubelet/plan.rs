//! What to run for a pod, from its spec.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::Images;
use super::probe::Probe;

/// A pod's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) container: String,
    pub(super) image: String,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// What says that it is ready.
    pub(super) probe: Probe,
    /// From being told to end until being killed.
    pub(super) grace: Duration,
    /// What a hook asks for between the deletion and being told to end.
    pub(super) linger: Duration,
}

/// Whether a pod is one that can be run here: it has one container, and that has a command or an image of these.
pub(super) fn runs(pod: &Pod, images: &Images) -> bool {
    match pod.spec.as_ref().map(|spec| spec.containers.as_slice()) {
        Some([container]) => entry(container, images).is_some(),
        _ => false,
    }
}

fn entry<'a>(container: &'a Container, images: &'a Images) -> Option<&'a [String]> {
    let command = container.command.as_deref().filter(|command| !command.is_empty());
    command.or_else(|| images.get(container.image.as_deref()?).map(Vec::as_slice))
}

impl Plan {
    /// What to run for a pod at this address; what is wrong with it in words.
    pub(super) fn of(pod: &Pod, address: Ipv4Addr, images: &Images) -> Result<Self, String> {
        let spec = pod.spec.as_ref().ok_or("a pod without a spec")?;
        let [container] = spec.containers.as_slice() else {
            return Err(format!("expected one container, found {}", spec.containers.len()));
        };
        let image = container.image.clone().unwrap_or_default();
        let entry = entry(container, images)
            .ok_or_else(|| format!("no command, and no program for image {image:?}"))?;
        let mut environment = BTreeMap::from([("POD_IP".to_owned(), address.to_string())]);
        for variable in container.env.iter().flatten() {
            let value = value(variable, pod, address)?;
            environment.insert(variable.name.clone(), expanded(&value, &environment));
        }
        let command = entry.iter().chain(container.args.iter().flatten());
        let command = command.map(|part| expanded(part, &environment)).collect();
        let seconds = |seconds: i64| Duration::from_secs(seconds.try_into().unwrap_or(0));
        let linger = container.lifecycle.as_ref().and_then(|hooks| hooks.pre_stop.as_ref()?.sleep.as_ref());
        Ok(Self {
            container: container.name.clone(),
            image,
            command,
            environment,
            probe: probe(container, address)?,
            grace: seconds(spec.termination_grace_period_seconds.unwrap_or(30)),
            linger: linger.map_or(Duration::ZERO, |sleep| seconds(sleep.seconds)),
        })
    }
}

fn value(variable: &EnvVar, pod: &Pod, address: Ipv4Addr) -> Result<String, String> {
    let Some(from) = &variable.value_from else { return Ok(variable.value.clone().unwrap_or_default()) };
    let field = from.field_ref.as_ref().map(|field| field.field_path.as_str());
    match field {
        Some("status.podIP") => Ok(address.to_string()),
        Some("metadata.name") => Ok(pod.name_any()),
        Some("metadata.namespace") => Ok(pod.namespace().unwrap_or_default()),
        other => Err(format!(
            "variable {}: expected a value or a field of the pod, found {other:?}",
            variable.name
        )),
    }
}

/// With `$(NAME)` replaced by the variable's value, where there is one, as Kubernetes does.
fn expanded(text: &str, environment: &BTreeMap<String, String>) -> String {
    environment.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

fn probe(container: &Container, address: Ipv4Addr) -> Result<Probe, String> {
    let ports = container.ports.as_deref().unwrap_or_default();
    let number = |port: i32| {
        u16::try_from(port).map_err(|_| format!("container {}: {port} is no port", container.name))
    };
    let Some(http) = container.readiness_probe.as_ref().and_then(|probe| probe.http_get.as_ref()) else {
        let Some(first) = ports.first() else { return Ok(Probe::Started) };
        return Ok(Probe::Listens((address, number(first.container_port)?).into()));
    };
    let port = match &http.port {
        IntOrString::Int(port) => *port,
        IntOrString::String(name) => {
            let named = ports.iter().find(|port| port.name.as_ref() == Some(name));
            named
                .ok_or_else(|| {
                    format!("container {}: the probe's port {name:?} is none of it", container.name)
                })?
                .container_port
        }
    };
    let path = http.path.as_deref().unwrap_or("/");
    Ok(Probe::Answers(format!("http://{address}:{}{path}", number(port)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 9);

    fn pod(container: &Value) -> Pod {
        let metadata = json!({"name": "iris-0", "namespace": "models"});
        let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 5});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn images() -> Images {
        BTreeMap::from([("lab/predictor".to_owned(), vec!["/bin/predictor".to_owned(), "serve".to_owned()])])
    }

    #[test]
    fn an_image_is_a_program_and_variables_are_expanded() {
        let pod = pod(&json!({
            "name": "a", "image": "lab/predictor", "args": ["--at=$(POD_IP):80", "$(NAME)", "$(NONE)"],
            "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"name": "http", "containerPort": 80}],
            "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
        }));
        let plan = Plan::of(&pod, ADDRESS, &images()).unwrap();
        assert_eq!(plan.command, ["/bin/predictor", "serve", "--at=10.244.1.9:80", "iris-0", "$(NONE)"]);
        assert_eq!(plan.probe, Probe::Listens((ADDRESS, 80).into()));
        assert_eq!((plan.grace.as_secs(), plan.linger.as_secs()), (5, 2));
    }

    #[test]
    fn a_probe_may_name_the_port() {
        let with = |port: Value| {
            let pod = pod(&json!({
                "name": "a", "command": ["/bin/true"], "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": port}},
            }));
            Plan::of(&pod, ADDRESS, &images()).map(|plan| plan.probe)
        };
        let answers = |url: &str| Ok(Probe::Answers(url.to_owned()));
        assert_eq!(with(json!("http")), answers("http://10.244.1.9:8080/ready"));
        assert_eq!(with(json!(81)), answers("http://10.244.1.9:81/ready"));
        assert_eq!(
            with(json!("grpc")),
            Err("container a: the probe's port \"grpc\" is none of it".to_owned())
        );
    }

    #[test]
    fn an_image_without_a_program_is_left_to_others() {
        let pod = pod(&json!({"name": "a", "image": "nginx"}));
        assert!(!runs(&pod, &images()));
        assert!(Plan::of(&pod, ADDRESS, &images()).unwrap_err().contains("no program for image \"nginx\""));
    }
}
