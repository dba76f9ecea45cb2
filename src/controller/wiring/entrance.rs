//! By which requests a copy is asked. A path that the original names is the same for all of its copies, and Istio gives it to
//! whichever route is the oldest: so it can be one SeldonDeployment's only, unless hosts or Gateways tell them apart.

use kube::ResourceExt;
use serde_json::Value;
use sluice_core::{
    carrier::is_ours,
    plan::{GATEWAY, HOST, full_gateway},
};

use super::{
    Asking, Trouble,
    copy::{copy, spec_of},
    refused,
};
use crate::controller::{stores::Seldon, subject::RolloutObject};

/// Where requests come in.
struct Entrance {
    hosts: Vec<String>,
    /// As `namespace/name`, or `mesh`.
    gateways: Vec<String>,
}

impl Entrance {
    /// That of a Rollout with this spec in `namespace`; `gateway` is the controller's own.
    fn of(spec: &Value, namespace: &str, gateway: &str) -> Self {
        let given = |field: &str, key: &str, default: &str| -> Vec<String> {
            let listed = spec["expose"][field].as_array().into_iter().flatten();
            let listed: Vec<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
            if !listed.is_empty() {
                return listed;
            }
            let annotated = spec["annotations"][key].as_str().unwrap_or(default);
            annotated.split(',').map(|one| one.trim().to_owned()).collect()
        };
        let full = |name: &String| full_gateway(name, namespace);
        Self {
            hosts: given("hosts", HOST, "*"),
            gateways: given("gateways", GATEWAY, gateway).iter().map(full).collect(),
        }
    }

    /// Whether some requests come in by both.
    fn is_shared_with(&self, other: &Self) -> bool {
        let share = |one: &[String], other: &[String]| one.iter().any(|item| other.contains(item));
        share(&self.hosts, &other.hosts) && share(&self.gateways, &other.gateways)
    }
}

/// Refuses a path at which users get somebody else's predictors already: the original's own, or those of a SeldonDeployment
/// that goes before. That is one which has its copy, and of two which have not the first by name.
pub(super) fn is_free(asking: &Asking, original: &RolloutObject, spec: &Value) -> Result<(), Trouble> {
    let Asking { context, namespace, seldon, .. } = asking;
    let prefix = &spec["expose"]["prefix"];
    if !prefix.is_string() || spec["expose"]["delegate"] == true {
        return Ok(());
    }
    let entrance = |spec: &Value| Entrance::of(spec, namespace, &context.names.gateway);
    let ours = entrance(spec);
    let taken_by = |whose: &str| {
        Err(refused(format!(
            "Rollout {} has expose.prefix {prefix}, by which {whose} is asked already, at the same host and Gateway: an \
             annotation {HOST} with a host of its own, or a Rollout without expose.prefix, is expected",
            original.display()
        )))
    };
    let route = context.stores.virtual_service(&(namespace.clone(), original.name_any()));
    let uid = original.uid().unwrap_or_default();
    let is_served = route.and_then(|route| route.to_value()).is_some_and(|route| is_ours(&route, &uid));
    if is_served && entrance(&spec_of(original)?).is_shared_with(&ours) {
        return taken_by(&format!("Rollout {} itself", original.display()));
    }
    let goes_before = |one: &Seldon, other: &Seldon| {
        let rank = |seldon: &Seldon| (!asking.has_copy(seldon), seldon.view.name.clone());
        rank(one) < rank(other)
    };
    // Who names no host has the original's.
    for host in ours.hosts.iter().map(String::as_str).chain([""]) {
        let others = context.stores.asking_for(namespace, &original.name_any(), host);
        for other in others.iter().filter(|other| !other.deleted && other.uid != seldon.uid) {
            let shared = copy(original, other).is_ok_and(|theirs| entrance(&theirs).is_shared_with(&ours));
            if shared && goes_before(other, seldon) {
                return taken_by(&format!("SeldonDeployment {}", other.view.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hosts_and_gateways_tell_entrances_apart() {
        let entrance = |expose: Value, annotations: Value| {
            let spec = json!({"expose": expose, "annotations": annotations});
            Entrance::of(&spec, "models", "istio-system/seldon-gateway")
        };
        let plain = || entrance(json!({"prefix": "/"}), json!({}));
        for (expose, annotations, shared) in [
            (json!({}), json!({}), true),
            (json!({"hosts": ["*"]}), json!({}), true),
            (json!({}), json!({HOST: "a.example.com, *"}), true),
            (json!({}), json!({HOST: "a.example.com"}), false),
            (json!({"hosts": ["a.example.com"]}), json!({HOST: "*"}), false),
            (json!({"gateways": ["istio-system/seldon-gateway"]}), json!({}), true),
            (json!({}), json!({GATEWAY: "seldon-gateway"}), false),
            (json!({"gateways": ["mesh"]}), json!({}), false),
        ] {
            let other = entrance(expose.clone(), annotations.clone());
            assert_eq!(other.is_shared_with(&plain()), shared, "{expose} {annotations}");
            assert_eq!(plain().is_shared_with(&other), shared, "{expose} {annotations}");
        }
        let short = entrance(json!({}), json!({GATEWAY: "gw"}));
        assert!(short.is_shared_with(&entrance(json!({"gateways": ["models/gw"]}), json!({}))));
    }
}
