//! What the controller may do, and what people may do by their roles.

use anyhow::{Result, ensure};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use sluice_lab::real::wait;

use crate::lab::{ANN, AUTHOR, CONTROLLER, FREEZER, LIMIT, Lab, VIEWER};

pub async fn the_controller_may_do_what_it_does_and_reads_no_secrets(lab: &Lab) -> Result<()> {
    let client = lab.cluster().await?.user(CONTROLLER)?;
    for (verb, group, resource, namespace, allowed) in [
        ("list", "sluice.dev", "rollouts", "default", true),
        ("patch", "sluice.dev", "rollouts/status", "default", true),
        ("patch", "networking.istio.io", "virtualservices", "default", true),
        ("get", "", "pods", "default", true),
        ("list", "coordination.k8s.io", "leases", "sluice-system", true),
        ("update", "coordination.k8s.io", "leases", "sluice-system", true),
        ("delete", "coordination.k8s.io", "leases", "sluice-system", true),
        ("update", "coordination.k8s.io", "leases", "default", false),
        // The copies that guard annotated SeldonDeployments.
        ("create", "sluice.dev", "rollouts", "default", true),
        ("delete", "sluice.dev", "rollouts", "default", false),
        ("create", "sluice.dev", "rolloutactions", "default", false),
        ("create", "networking.istio.io", "virtualservices", "default", true),
        ("delete", "networking.istio.io", "virtualservices", "default", false),
        ("delete", "networking.istio.io", "destinationrules", "default", false),
        ("get", "", "secrets", "default", false),
        ("get", "", "secrets", "sluice-system", false),
        ("list", "", "configmaps", "default", false),
    ] {
        let may = may(&client, verb, group, resource, namespace).await?;
        ensure!(may == allowed, "{verb} {group}/{resource} in {namespace}: {may}, expected {allowed}");
    }
    Ok(())
}

/// Whether the server lets a user do something.
async fn may(client: &Client, verb: &str, group: &str, resource: &str, namespace: &str) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let question = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: Some(subresource.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &question).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

const LOOK: [&str; 3] = ["get", "list", "watch"];
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
/// What there is to do something to, of Sluice's and of others.
const THINGS: [(&str, &str); 14] = [
    ("sluice.dev", "rollouts"),
    ("sluice.dev", "rollouts/status"),
    ("sluice.dev", "rollouts/finalizers"),
    ("sluice.dev", "rolloutactions"),
    ("sluice.dev", "rolloutactions/status"),
    ("sluice.dev", "freezes"),
    ("networking.istio.io", "virtualservices"),
    ("", "services"),
    ("", "pods"),
    ("", "secrets"),
    ("", "configmaps"),
    ("discovery.k8s.io", "endpointslices"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "roles"),
];

pub async fn each_role_can_do_what_it_is_for_and_nothing_more(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("roles").await?;
    let more = |verbs: &[&'static str]| [&LOOK[..], verbs].concat();
    for (user, rollouts, actions, freezes) in [
        (VIEWER, more(&[]), more(&[]), more(&[])),
        (AUTHOR, VERBS.to_vec(), more(&[]), more(&[])),
        (ANN, more(&[]), more(&["create"]), more(&[])),
        (FREEZER, vec![], vec![], more(&["create", "delete"])),
    ] {
        let client = cluster.user(user)?;
        // The authorizer reads bindings from a cache.
        let bound = async || match may(&client, "list", "sluice.dev", "freezes", "roles").await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        wait::until(LIMIT, format!("{user} has their rights"), bound).await?;
        for (group, resource) in THINGS {
            for verb in VERBS {
                let expected = match resource {
                    "rollouts" => rollouts.contains(&verb),
                    "rolloutactions" => actions.contains(&verb),
                    "freezes" => freezes.contains(&verb),
                    _ => false,
                };
                let may_here = may(&client, verb, group, resource, "roles").await?;
                ensure!(may_here == expected, "{user}: {verb} {resource}: {may_here}, expected {expected}");
                let elsewhere = may(&client, verb, group, resource, "sluice-system").await?;
                ensure!(!elsewhere, "{user}: {verb} {resource} in sluice-system");
            }
        }
    }
    Ok(())
}
