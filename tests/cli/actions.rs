//! Asking for an action: what is created, and what is made of the answer.

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use sluice::cli::Failure;
use sluice_core::api::{Do, RolloutAction};
use sluice_lab::embedded::{self, Refusal, Then, Verb, When};

use super::world::{NAMESPACE, create, healthy, in_the_gate, predictor, set_status, sluice};

fn actions(api: &embedded::Api) -> Api<RolloutAction> {
    Api::namespaced(api.client_as("controller"), NAMESPACE)
}

/// What a controller does, reduced to what the command line sees of it: answers the first action with `status`.
async fn answers(api: &embedded::Api, status: Value) -> RolloutAction {
    let actions = actions(api);
    let mut seen = Box::pin(watcher(actions.clone(), watcher::Config::default()).applied_objects());
    let action = seen.next().await.expect("a stream without end").expect("an action");
    let patch = Patch::Merge(json!({ "status": status }));
    actions.patch_status(&action.name_any(), &PatchParams::default(), &patch).await.expect("answered")
}

fn done(message: &str) -> Value {
    json!({ "phase": "Done", "message": message, "decision": 5, "handledAt": "2026-03-14T15:09:26Z" })
}

fn refused(message: &str) -> Value {
    json!({ "phase": "Refused", "message": message, "handledAt": "2026-03-14T15:09:26Z" })
}

async fn created(api: &embedded::Api) -> Vec<RolloutAction> {
    actions(api).list(&kube::api::ListParams::default()).await.expect("a list").items
}

#[tokio::test]
async fn an_approval_names_the_revision_and_the_step_that_the_person_saw() {
    let api = embedded::Api::new();
    let rollout = create(&api, "iris").await;
    set_status(&api, "iris", in_the_gate("iris")).await;
    let (ran, action) = tokio::join!(
        sluice(&api, "approve iris --reason fine"),
        answers(&api, done("ann approved the step"))
    );
    assert_eq!(ran.code(), 0, "{:?}", ran.result);
    assert_eq!(ran.out, "iris: ann approved the step (decision 5)\n");
    assert_eq!(action.spec.what, Do::Approve);
    assert_eq!(action.spec.rollout, "iris");
    assert_eq!(action.spec.revision.as_deref(), Some("default/iris-v2:8000"));
    assert_eq!(action.spec.step, Some(2));
    assert_eq!(action.spec.reason.as_deref(), Some("fine"));
    assert!(action.name_any().starts_with("iris-approve-"), "{}", action.name_any());
    assert_eq!(action.labels()["sluice.dev/rollout"], "iris");
    let [owner] = action.owner_references() else { panic!("one owner is expected") };
    assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("Rollout", rollout.metadata.uid.as_ref()));
}

#[tokio::test]
async fn a_refusal_is_a_failure_in_the_controllers_words() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    set_status(&api, "iris", in_the_gate("iris")).await;
    let (ran, _) = tokio::join!(sluice(&api, "promote iris"), answers(&api, refused("step 2 is over")));
    assert_eq!((ran.code(), ran.failure().as_str()), (4, "refused: step 2 is over"));
    assert_eq!(ran.out, "");
}

#[tokio::test]
async fn json_has_the_whole_action_whatever_became_of_it() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    set_status(&api, "iris", in_the_gate("iris")).await;
    let (ran, _) = tokio::join!(sluice(&api, "approve iris -o json"), answers(&api, refused("too late")));
    assert_eq!(ran.code(), 4);
    let action: RolloutAction = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(action.status.unwrap().message.as_deref(), Some("too late"));
}

#[tokio::test]
async fn no_answer_in_time_says_that_the_action_still_counts() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let ran = sluice(&api, "abort iris --wait 30ms").await;
    assert_eq!(ran.code(), 6);
    let [action] = &created(&api).await[..] else { panic!("one action is expected") };
    let failure = ran.result.unwrap_err();
    let expected = format!(
        "rolloutaction.sluice.dev/{} was created, but there was no answer within 30ms",
        action.name_any()
    );
    assert_eq!(failure.to_string(), expected);
    assert!(failure.hint("sluice").unwrap().contains("as soon as the controller runs"));
}

#[tokio::test]
async fn without_waiting_it_is_only_created() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let ran = sluice(&api, "pause iris --wait 0s").await;
    assert_eq!(ran.code(), 0, "{:?}", ran.result);
    let [action] = &created(&api).await[..] else { panic!("one action is expected") };
    assert_eq!(ran.out, format!("rolloutaction.sluice.dev/{} was created\n", action.name_any()));
    assert_eq!((action.spec.revision.as_ref(), action.spec.step), (None, None));
}

#[tokio::test]
async fn what_is_certainly_in_vain_is_not_asked() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    set_status(&api, "iris", healthy("iris")).await;
    for (args, expected) in [
        ("approve iris", "nothing is in flight: iris is Healthy (it is live)"),
        ("promote iris", "nothing is in flight: iris is Healthy (it is live)"),
        ("promote iris --full", "nothing is in flight: iris is Healthy (it is live)"),
        ("resume iris", "iris is not paused: it is Healthy (it is live)"),
    ] {
        let ran = sluice(&api, args).await;
        assert_eq!((ran.code(), ran.failure().as_str()), (4, expected), "{args}");
    }
    assert_eq!(created(&api).await.len(), 0);
}

#[tokio::test]
async fn each_command_says_what_it_is_about_and_no_more() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let mut status = in_the_gate("iris");
    status["pause"] = json!({ "reason": "Paused" });
    set_status(&api, "iris", status).await;
    let revision = Some("default/iris-v2:8000");
    for (args, what, revision, step) in [
        ("approve iris", Do::Approve, revision, Some(2)),
        ("promote iris", Do::Promote, revision, Some(2)),
        ("promote iris --full", Do::PromoteFull, revision, None),
        ("abort iris", Do::Abort, revision, None),
        ("retry iris", Do::Retry, revision, None),
        ("pause iris", Do::Pause, revision, None),
        ("resume iris", Do::Resume, revision, None),
    ] {
        let ran = sluice(&api, &format!("{args} --wait 0s -o json")).await;
        let action: RolloutAction = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(action.spec.what, what);
        assert_eq!((action.spec.revision.as_deref(), action.spec.step), (revision, step), "{args}");
    }
}

#[tokio::test]
async fn a_retry_names_the_revision_that_the_spec_wants() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let mut status = healthy("iris");
    status["canary"] = predictor("iris-v3");
    set_status(&api, "iris", status).await;
    let ran = sluice(&api, "retry iris --wait 0s -o json").await;
    let action: RolloutAction = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(action.spec.revision.as_deref(), Some("default/iris-v2:8000"));
}

#[tokio::test]
async fn a_rollout_that_cannot_be_read_can_still_be_aborted() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    set_status(&api, "iris", json!({ "stage": "Flying" })).await;
    assert_eq!(sluice(&api, "abort iris --wait 0s").await.code(), 0);
    let ran = sluice(&api, "approve iris").await;
    assert_eq!(ran.code(), 1);
    assert!(ran.failure().contains("Flying"), "{}", ran.failure());
}

#[tokio::test]
async fn who_may_not_ask_is_told_in_the_servers_words() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let connection = api.connect("eve");
    let forbidden = Refusal::new(403, "Forbidden", "User \"eve\" cannot create resource \"rolloutactions\"");
    connection.faults().on(When::verb(Verb::Create), Then::Refuse(forbidden));
    let (out, err) = (super::world::Output::new(), super::world::Output::new());
    let failure =
        super::world::session(connection.client(), "abort iris", out, err).await.expect_err("a refusal");
    assert!(matches!(&failure, Failure::Cluster(text) if text.contains("cannot create")), "{failure}");
    assert_eq!(failure.exit().code(), 4);
}

/// What the real server answers for some seconds after its start, or after the kinds came.
fn still_learning() -> Refusal {
    let message = "rolloutactions.sluice.dev \"\" is forbidden: Resource kind sluice.dev/v1alpha1, Kind=RolloutAction not \
        found. There can be a delay between when CustomResourceDefinitions are created and when they are available.";
    Refusal::new(503, "ServiceUnavailable", message)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_still_learns_about_actions_is_asked_again() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let connection = api.connect("ann");
    connection.faults().on(When::verb(Verb::Create).times(9), Then::Refuse(still_learning()));
    let (out, err) = (super::world::Output::new(), super::world::Output::new());
    let asked =
        super::world::session(connection.client(), "abort iris --wait 0s", out.clone(), err.clone()).await;
    assert!(asked.is_ok(), "{asked:?}");
    assert_eq!(created(&api).await.len(), 1);
    assert_eq!(err.text(), "The cluster is still learning about RolloutActions: trying again for 15s.\n");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_learns_is_given_up_and_any_other_failure_is_said_at_once() {
    for (refusal, requests) in [
        (still_learning(), 31),
        (Refusal::unavailable(), 1),
        (Refusal::new(500, "InternalError", "something broke"), 1),
    ] {
        let api = embedded::Api::new();
        create(&api, "iris").await;
        let connection = api.connect("ann");
        connection.faults().on(When::verb(Verb::Create), Then::Refuse(refusal));
        let (out, err) = (super::world::Output::new(), super::world::Output::new());
        let failure = super::world::session(connection.client(), "abort iris", out, err).await;
        assert_eq!(failure.expect_err("a failure").exit().code(), 1);
        let asked = api.requests();
        let count =
            asked.iter().find(|(asked, _)| asked.resource == "rolloutactions").expect("it was asked").1;
        assert_eq!((count.total, count.refused), (requests, requests));
    }
}

#[tokio::test]
async fn a_name_that_is_too_long_for_a_label_is_no_obstacle() {
    let api = embedded::Api::new();
    let name = "a".repeat(100);
    create(&api, &name).await;
    let ran = sluice(&api, &format!("abort {name} --wait 0s")).await;
    assert_eq!(ran.code(), 0, "{:?}", ran.result);
    let [action] = &created(&api).await[..] else { panic!("one action is expected") };
    assert_eq!(action.spec.rollout, name);
    assert!(action.name_any().len() <= 63 && action.labels().is_empty());
}
