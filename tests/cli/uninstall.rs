//! `sluice uninstall`, where no controller runs; with one it is in `tests/real`.

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sluice_lab::embedded::{self, Refusal, Then, Verb, When};

use super::world::{NAMESPACE, create, in_the_gate, rollouts, set_status, sluice};

/// A Rollout in mid-rollout, with its finalizer and perhaps others.
async fn held(api: &embedded::Api, name: &str, others: &[&str]) {
    create(api, name).await;
    let finalizers: Vec<&str> = ["sluice.dev/routes"].iter().chain(others).copied().collect();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    rollouts(api).patch(name, &PatchParams::default(), &patch).await.unwrap();
    set_status(api, name, in_the_gate(name)).await;
}

fn there(api: &embedded::Api, name: &str) -> bool {
    api.object("rollouts.sluice.dev", NAMESPACE, name).is_some()
}

fn writes(api: &embedded::Api) -> usize {
    api.history().iter().filter(|write| write.user == "ann").count()
}

#[tokio::test]
async fn without_a_controller_the_finalizer_goes_and_it_is_said_what_becomes_of_the_routes() {
    let api = embedded::Api::new();
    held(&api, "iris", &[]).await;
    create(&api, "rose").await;
    let ran = sluice(&api, "uninstall -A --without-controller --yes").await;
    assert_eq!(ran.code(), 0, "{:?}", ran.result);
    assert!(!there(&api, "iris") && !there(&api, "rose"));
    assert_eq!(
        ran.out,
        "These Rollouts go:\n  default/iris: its routes stay as they are, with 50% for iris-v2\n  \
         default/rose: moved no traffic\ndefault/iris is gone\ndefault/rose is gone\n"
    );
    assert!(ran.err.contains("kubectl delete -k deploy; kubectl delete -k crds"), "{}", ran.err);
    let again = sluice(&api, "uninstall -A").await;
    assert_eq!((again.code(), again.out.as_str()), (0, "There are no Rollouts in any namespace.\n"));
}

#[tokio::test]
async fn a_rollout_that_is_being_deleted_already_is_freed_too() {
    let api = embedded::Api::new();
    held(&api, "iris", &[]).await;
    rollouts(&api).delete("iris", &kube::api::DeleteParams::default()).await.unwrap();
    assert!(there(&api, "iris"));
    assert_eq!(sluice(&api, "uninstall --without-controller --yes").await.code(), 0);
    assert!(!there(&api, "iris"));
}

#[tokio::test]
async fn nothing_is_done_in_a_dry_run_nor_where_nobody_can_be_asked() {
    let api = embedded::Api::new();
    held(&api, "iris", &[]).await;
    let dry = sluice(&api, "uninstall --dry-run --yes").await;
    assert_eq!(dry.code(), 0);
    assert!(dry.out.contains("all traffic goes back to iris-v1, 50% of it from iris-v2"), "{}", dry.out);
    assert!(dry.out.ends_with("Nothing was done: this is a dry run.\n"), "{}", dry.out);
    let unasked = sluice(&api, "uninstall").await;
    assert_eq!(unasked.code(), 4);
    assert!(unasked.failure().contains("say --yes"), "{}", unasked.failure());
    assert_eq!(writes(&api), 0);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_go_is_named_with_what_to_do() {
    let api = embedded::Api::new();
    held(&api, "iris", &[]).await;
    create(&api, "rose").await;
    let ran = sluice(&api, "uninstall --yes --wait 5s").await;
    assert_eq!(ran.code(), 1);
    assert_eq!(ran.failure(), "still there after 5s: default/iris");
    let hint = ran.result.unwrap_err().hint("kubectl sluice").unwrap();
    assert!(hint.contains("`kubectl sluice uninstall --without-controller`"), "{hint}");
}

#[tokio::test(start_paused = true)]
async fn finalizers_of_others_stay() {
    let api = embedded::Api::new();
    held(&api, "iris", &["example.com/backup"]).await;
    let ran = sluice(&api, "uninstall --without-controller --yes --wait 1s").await;
    assert_eq!(ran.failure(), "still there after 1s: default/iris");
    let rollout = api.object("rollouts.sluice.dev", NAMESPACE, "iris").unwrap();
    assert_eq!(rollout["metadata"]["finalizers"], json!(["example.com/backup"]));
}

#[tokio::test]
async fn somebody_who_was_quicker_is_no_obstacle() {
    let api = embedded::Api::new();
    held(&api, "iris", &[]).await;
    let connection = api.connect("ann");
    connection
        .faults()
        .on(When::verb(Verb::Patch).times(2), Then::Refuse(Refusal::new(409, "Conflict", "changed")));
    let (out, err) = (super::world::Output::new(), super::world::Output::new());
    let ran =
        super::world::session(connection.client(), "uninstall --without-controller --yes", out, err).await;
    assert!(ran.is_ok(), "{ran:?}");
    assert!(!there(&api, "iris"));
}

#[tokio::test]
async fn only_the_namespace_that_was_named_is_touched() {
    let api = embedded::Api::new();
    held(&api, "iris", &[]).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(api.client());
    let other = serde_json::from_value(json!({"metadata": {"name": "other"}})).unwrap();
    namespaces.create(&kube::api::PostParams::default(), &other).await.unwrap();
    assert_eq!(sluice(&api, "uninstall -n other --without-controller --yes").await.code(), 0);
    assert!(there(&api, "iris"));
}
