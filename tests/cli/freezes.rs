//! Freezing and thawing: what is made, what is taken away, and what is only named.

use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;
use sluice_core::api::Freeze;
use sluice_lab::{
    embedded::{self, Refusal, Then, When},
    scene::Scene,
};

use super::world::{NAMESPACE, Output, Ran, create, session, sluice};

fn freezes(api: &embedded::Api, namespace: &str) -> Api<Freeze> {
    Api::namespaced(api.client_as("bob"), namespace)
}

async fn there(api: &embedded::Api, namespace: &str) -> Vec<Freeze> {
    freezes(api, namespace).list(&kube::api::ListParams::default()).await.expect("a list").items
}

/// A cluster with the namespaces of these tests.
async fn cluster() -> embedded::Api {
    let api = embedded::Api::new();
    for namespace in ["sluice-system", "ops", "elsewhere"] {
        Scene::new(&api.client(), namespace).await.expect("a namespace");
    }
    api
}

/// One that is not made by the command, by somebody whose name is known.
async fn in_git(api: &embedded::Api, namespace: &str, name: &str) {
    let freeze = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Freeze",
        "metadata": {"name": name, "annotations": {"sluice.dev/requested-by": "git"}},
        "spec": {"reason": "the holidays"},
    });
    let freeze = serde_json::from_value(freeze).expect("a Freeze");
    freezes(api, namespace).create(&PostParams::default(), &freeze).await.expect("created");
}

#[tokio::test]
async fn a_namespace_is_frozen_and_thawed() {
    let api = cluster().await;
    let ran = sluice(&api, "freeze --reason incident").await;
    let [freeze] = &there(&api, NAMESPACE).await[..] else { panic!("one freeze is expected") };
    assert_eq!(freeze.spec.reason, "incident");
    let name = freeze.name_any();
    assert_eq!(
        ran.out,
        format!(
            "the namespace default is frozen (freeze.sluice.dev/{name}): no canary gets more until `sluice thaw`\n"
        )
    );
    let ran = sluice(&api, "thaw").await;
    assert_eq!(ran.code(), 0, "{:?}", ran.result);
    assert!(ran.out.contains(&format!("freeze.sluice.dev/{name} is gone: someone, ")), "{}", ran.out);
    assert!(ran.out.ends_with(": incident\nthe namespace default is not frozen any more\n"), "{}", ran.out);
    assert!(there(&api, NAMESPACE).await.is_empty());
    assert_eq!(sluice(&api, "thaw").await.out, "the namespace default is not frozen\n");
}

#[tokio::test]
async fn the_cluster_is_frozen_in_the_controllers_namespace() {
    let api = cluster().await;
    for (args, namespace) in [
        ("freeze -A -r incident", "sluice-system"),
        ("freeze -A -r incident --controller-namespace ops", "ops"),
        ("freeze -n ops -r incident --controller-namespace ops", "ops"),
    ] {
        let ran = sluice(&api, args).await;
        assert!(ran.out.starts_with("the cluster is frozen (freeze.sluice.dev/freeze-"), "{}", ran.out);
        let thaw = args.replace("freeze", "thaw").replace("-r incident", "");
        assert_eq!(there(&api, namespace).await.len(), 1, "{args}");
        assert_eq!(sluice(&api, &thaw).await.code(), 0);
        assert!(there(&api, namespace).await.is_empty());
    }
}

#[tokio::test]
async fn what_others_made_is_named_and_stays() {
    let api = cluster().await;
    in_git(&api, NAMESPACE, "holidays").await;
    sluice(&api, "freeze -r incident").await;
    let ran = sluice(&api, "thaw").await;
    assert_eq!(ran.code(), 4);
    assert!(ran.out.contains("is gone"), "{}", ran.out);
    let failure = ran.failure();
    assert!(
        failure.starts_with(
            "the namespace default is still frozen by what this command did not make: holidays of git, "
        ),
        "{failure}"
    );
    assert!(failure.ends_with(": the holidays"), "{failure}");
    assert_eq!(there(&api, NAMESPACE).await.len(), 1);
}

#[tokio::test]
async fn a_listing_says_what_is_frozen() {
    let api = cluster().await;
    create(&api, "iris").await;
    in_git(&api, NAMESPACE, "holidays").await;
    in_git(&api, "sluice-system", "everywhere").await;
    in_git(&api, "elsewhere", "unheard").await;
    let ran = sluice(&api, "get").await;
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("the namespace default is frozen by git, "), "{lines:?}");
    assert!(lines[0].ends_with(": the holidays (freeze.sluice.dev/holidays)"), "{lines:?}");
    assert!(lines[1].starts_with("the cluster is frozen by git, "), "{lines:?}");
    let ran = sluice(&api, "get iris").await;
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    let ran = sluice(&api, "get -A").await;
    assert_eq!(ran.err.lines().count(), 3, "{}", ran.err);
    assert_eq!(sluice(&api, "get -o json").await.err, "");
    // Its own namespace is thawed, and nothing moves all the same.
    freezes(&api, NAMESPACE).delete("holidays", &kube::api::DeleteParams::default()).await.expect("deleted");
    let ran = sluice(&api, "thaw").await;
    assert_eq!((ran.code(), ran.out.as_str()), (0, "the namespace default is not frozen\n"));
    assert!(ran.err.starts_with("the cluster is frozen by git, "), "{}", ran.err);
}

async fn refused(args: &str, refusal: Refusal) -> Ran {
    let api = cluster().await;
    let connection = api.connect("ann");
    connection.faults().on(When::any().resource("freezes"), Then::Refuse(refusal));
    let (out, err) = (Output::new(), Output::new());
    let result = session(connection.client(), args, out.clone(), err.clone()).await;
    Ran { result, out: out.text(), err: err.text() }
}

#[tokio::test]
async fn who_may_not_is_told_what_is_needed() {
    let forbidden = || Refusal::new(403, "Forbidden", "freezes is forbidden: User \"ann\" cannot do it");
    for (args, expected) in [
        (
            "freeze -A -r x",
            "freezing and thawing the cluster needs the role sluice-freezer in namespace sluice-system",
        ),
        (
            "thaw",
            "freezing and thawing the namespace default needs the role sluice-freezer in namespace default",
        ),
    ] {
        let ran = refused(args, forbidden()).await;
        assert_eq!(ran.code(), 4);
        assert!(ran.failure().contains("User \"ann\" cannot do it; "), "{}", ran.failure());
        assert!(ran.failure().ends_with(expected), "{}", ran.failure());
    }
    // A listing does without.
    assert_eq!(refused("get", forbidden()).await.code(), 0);
}

#[tokio::test]
async fn a_cluster_without_the_kind_says_so() {
    let ran = refused("freeze -r x", Refusal::new(404, "NotFound", "404 page not found")).await;
    assert_eq!(ran.code(), 3);
    assert!(ran.failure().contains("does not know Freezes of sluice.dev/v1alpha1"), "{}", ran.failure());
}

#[test]
fn a_reason_is_expected() {
    use clap::Parser;
    for args in [&["sluice", "freeze"][..], &["sluice", "freeze", "-r", " "]] {
        let error = sluice::cli::Cli::try_parse_from(args).unwrap_err().to_string();
        assert!(error.contains("reason"), "{error}");
    }
}
