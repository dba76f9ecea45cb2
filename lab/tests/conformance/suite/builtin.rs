//! The kinds that come with Kubernetes differ in what the server does for them; these are those that Sluice meets.

use kube::{
    Api,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
    discovery::{self, Scope},
};
use serde_json::{Value, json};

use crate::world::{World, code, generation, merge, object};

tests![
    every_kind_has_its_plural_scope_and_subresources,
    generations_are_counted_where_the_kind_has_them,
    a_replace_without_a_version_is_taken_or_refused_by_kind,
    a_status_goes_by_its_subresource,
    pods_are_found_by_phase_and_node,
];

/// Group, version, kind, plural, namespaced, status subresource.
const KINDS: [(&str, &str, &str, &str, bool, bool); 9] = [
    ("", "v1", "Namespace", "namespaces", false, true),
    ("", "v1", "Service", "services", true, true),
    ("", "v1", "Pod", "pods", true, true),
    ("", "v1", "ConfigMap", "configmaps", true, false),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true, false),
    ("events.k8s.io", "v1", "Event", "events", true, false),
    ("coordination.k8s.io", "v1", "Lease", "leases", true, false),
    ("apps", "v1", "Deployment", "deployments", true, true),
    ("networking.istio.io", "v1", "VirtualService", "virtualservices", true, true),
];

async fn every_kind_has_its_plural_scope_and_subresources(world: World) {
    for (group, version, kind, plural, namespaced, status) in KINDS {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = discovery::pinned_kind(&world.client, &gvk).await.unwrap();
        assert_eq!(resource.plural, plural);
        assert_eq!(capabilities.scope == Scope::Namespaced, namespaced, "{kind}");
        let has = capabilities.subresources.iter().any(|(r, _)| r.plural.ends_with("status"));
        assert_eq!(has, status, "{kind}");
    }
}

fn api(world: &World, kind: &str) -> (ApiResource, Api<DynamicObject>) {
    let (group, version, kind, plural, ..) = *KINDS.iter().find(|k| k.2 == kind).unwrap();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    let api = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    (resource, api)
}

/// The smallest object of each kind, and a change of it that is allowed.
fn samples() -> [(&'static str, Value, Value); 6] {
    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    [
        ("ConfigMap", json!({"data": {"a": "1"}}), json!({"data": {"a": "2"}})),
        (
            "Service",
            json!({"spec": {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 8000}]}}),
            json!({"spec": {"selector": {"app": "b"}}}),
        ),
        (
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.244.9.9"]}], "ports": []}),
            json!({"endpoints": [{"addresses": ["10.244.9.8"]}]}),
        ),
        (
            "Deployment",
            json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": template}}),
            json!({"spec": {"minReadySeconds": 1}}),
        ),
        ("Lease", json!({"spec": {"holderIdentity": "me"}}), json!({"spec": {"holderIdentity": "you"}})),
        (
            "VirtualService",
            json!({"spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}}),
            json!({"spec": {"hosts": ["b"]}}),
        ),
    ]
}

async fn generations_are_counted_where_the_kind_has_them(world: World) {
    for (kind, sample, change) in samples() {
        let (resource, api) = api(&world, kind);
        let made = api.create(&PostParams::default(), &object(&resource, "a", sample)).await.unwrap();
        let changed = merge(&api, "a", change).await.unwrap();
        let expected = match kind {
            "EndpointSlice" | "Deployment" | "VirtualService" => (Some(1), Some(2)),
            _ => (None, None),
        };
        assert_eq!((generation(&made), generation(&changed)), expected, "{kind}");
    }
}

async fn a_replace_without_a_version_is_taken_or_refused_by_kind(world: World) {
    for (kind, sample, _) in samples() {
        let (resource, api) = api(&world, kind);
        let sample = object(&resource, "a", sample);
        api.create(&PostParams::default(), &sample).await.unwrap();
        let replaced = api.replace("a", &PostParams::default(), &sample).await;
        match kind {
            "Lease" | "VirtualService" => assert_eq!(code(replaced), 422, "{kind}"),
            _ => assert!(replaced.is_ok(), "{kind}: {replaced:?}"),
        }
    }
}

async fn a_status_goes_by_its_subresource(world: World) {
    let (resource, api) = api(&world, "VirtualService");
    let (_, sample, _) = samples().into_iter().find(|s| s.0 == "VirtualService").unwrap();
    api.create(&PostParams::default(), &object(&resource, "a", sample)).await.unwrap();
    let status = json!({"status": {"observedGeneration": 1}});
    let merged = merge(&api, "a", status.clone()).await.unwrap();
    assert_eq!(merged.data.get("status"), None);
    let patch = kube::api::Patch::Merge(status.clone());
    let written = api.patch_status("a", &kube::api::PatchParams::default(), &patch).await.unwrap();
    assert_eq!(written.data["status"], status["status"]);
}

async fn pods_are_found_by_phase_and_node(world: World) {
    let scene = world.scene().await;
    let served = scene.serve("iris-v1", "iris", "v1").await.unwrap();
    let (_, pods) = api(&world, "Pod");
    let names = async |fields: &str| {
        let listed = pods.list(&kube::api::ListParams::default().fields(fields)).await.unwrap();
        listed.items.into_iter().map(|pod| pod.metadata.name.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("status.phase=Running").await, [served.pod]);
    assert!(names("status.phase=Failed").await.is_empty());
    assert!(names("spec.nodeName=nowhere").await.is_empty());
}
