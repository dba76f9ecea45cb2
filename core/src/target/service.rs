//! One Service per version: the wanted one is named in the spec.

use super::ServiceView;
use crate::{
    Predictor,
    api::{Reason, ServiceTarget},
    machine::Refusal,
};

pub(super) fn predictor(
    target: &ServiceTarget,
    namespace: &str,
    service: impl Fn(&str) -> Option<ServiceView>,
) -> Result<Predictor, Refusal> {
    let name = &target.name;
    let Some(found) = service(name) else {
        let message =
            format!("spec.target.service.name: there is no Service {name} in namespace {namespace}");
        return Err(Refusal::new(Reason::TargetNotFound, message));
    };
    let port = match (target.port, found.ports.as_slice()) {
        (Some(port), ports) if ports.contains(&port) => port,
        (None, [port]) => *port,
        (Some(port), ports) => {
            let message = format!(
                "spec.target.service.port: Service {namespace}/{name} has no port {port}, only {}",
                list(ports)
            );
            return Err(Refusal::new(Reason::TargetNotFound, message));
        }
        (None, ports) => {
            let message = format!(
                "spec.target.service.port: Service {namespace}/{name} has {} ports ({}): name one",
                ports.len(),
                list(ports)
            );
            return Err(Refusal::new(Reason::TargetNotFound, message));
        }
    };
    Ok(Predictor { subset: target.subset.clone(), ..Predictor::new(namespace, name, port) })
}

fn list(ports: &[u16]) -> String {
    if ports.is_empty() {
        "none".to_owned()
    } else {
        ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(port: Option<u16>, ports: Option<&[u16]>) -> Result<Predictor, Refusal> {
        let target = ServiceTarget { name: "iris-v2".into(), port, subset: None, from: None };
        predictor(&target, "models", |_| ports.map(|ports| ServiceView { ports: ports.to_vec() }))
    }

    #[test]
    fn the_only_port_need_not_be_named() {
        assert_eq!(resolve(None, Some(&[8000])).unwrap(), Predictor::new("models", "iris-v2", 8000));
        assert_eq!(resolve(Some(8001), Some(&[8000, 8001])).unwrap().port, 8001);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (port, ports, expected) in [
            (None, None, "there is no Service iris-v2 in namespace models"),
            (Some(1), Some(&[8000][..]), "has no port 1, only 8000"),
            (None, Some(&[8000, 8001]), "has 2 ports (8000, 8001): name one"),
            (None, Some(&[]), "has 0 ports (none)"),
        ] {
            let refusal = resolve(port, ports).unwrap_err();
            assert_eq!(refusal.reason, Reason::TargetNotFound);
            assert!(refusal.message.contains(expected), "{}", refusal.message);
        }
    }
}
