//! What generic tools ask first.

use kube::{
    core::GroupVersionKind,
    discovery::{self, Scope, verbs},
};

use crate::world::{GROUP, World};

tests![
    a_kind_can_be_found_with_its_plural_and_scope,
    groups_are_listed_with_their_versions,
    core_kinds_are_found_too,
    the_server_says_its_version,
];

async fn a_kind_can_be_found_with_its_plural_and_scope(world: World) {
    let gvk = GroupVersionKind::gvk(GROUP, "v1", "Thing");
    let (resource, capabilities) = discovery::pinned_kind(&world.client, &gvk).await.unwrap();
    assert_eq!(
        (resource.plural.as_str(), resource.api_version.as_str()),
        ("things", "conformance.sluice.dev/v1")
    );
    assert_eq!(capabilities.scope, Scope::Namespaced);
    for verb in [verbs::CREATE, verbs::PATCH, verbs::WATCH, verbs::DELETE] {
        assert!(capabilities.supports_operation(verb), "{verb}");
    }
    let (status, _) = capabilities.subresources.iter().find(|(r, _)| r.plural == "status").unwrap();
    assert_eq!(status.kind, "Thing");
}

async fn groups_are_listed_with_their_versions(world: World) {
    let group = discovery::group(&world.client, GROUP).await.unwrap();
    assert_eq!(group.preferred_version(), Some("v1"));
    assert_eq!(group.versions().collect::<Vec<_>>(), ["v1", "v1beta1"]);
}

async fn core_kinds_are_found_too(world: World) {
    let gvk = GroupVersionKind::gvk("", "v1", "Namespace");
    let (resource, capabilities) = discovery::pinned_kind(&world.client, &gvk).await.unwrap();
    assert_eq!(resource.plural, "namespaces");
    assert_eq!(capabilities.scope, Scope::Cluster);
}

async fn the_server_says_its_version(world: World) {
    let version = world.client.apiserver_version().await.unwrap();
    assert_eq!(version.major, "1");
    assert!(version.minor.trim_end_matches('+').parse::<u32>().unwrap() >= 30);
}
