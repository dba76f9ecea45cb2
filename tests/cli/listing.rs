//! Showing Rollouts, once and for as long as a person wants.

use clap::Parser;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use sluice::cli::{Ask, Cli, Session, get, view::Screen};
use sluice_lab::embedded::{self, Refusal, Then, Verb, When};
use tokio::{sync::oneshot, task::JoinHandle};

use super::world::{
    NAMESPACE, Output, ask, create, healthy, in_the_gate, rollouts, session, set_status, sluice,
};

#[tokio::test]
async fn a_list_is_sorted_by_name_and_shows_what_cannot_be_read() {
    let api = embedded::Api::new();
    for name in ["wine", "iris", "zoo"] {
        create(&api, name).await;
    }
    set_status(&api, "iris", in_the_gate("iris")).await;
    set_status(&api, "wine", healthy("wine")).await;
    set_status(&api, "zoo", json!({ "stage": "Flying" })).await;
    let ran = sluice(&api, "get").await;
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "PHASE", "STEP", "WEIGHT", "STABLE", "CANARY", "AGE", "WHY"]);
    assert_eq!(rows[1][..6], ["iris", "Waiting", "2/2", "50%", "iris-v1", "iris-v2"]);
    assert_eq!(rows[2][..6], ["wine", "Healthy", "-", "-", "wine-v2", "-"]);
    assert_eq!(rows[3][..2], ["zoo", "?"]);
    assert!(ran.out.contains("cannot be read: unknown variant `Flying`"), "{}", ran.out);
}

#[tokio::test]
async fn names_are_what_kubectl_takes() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    create(&api, "wine").await;
    assert_eq!(sluice(&api, "get -o name").await.out, "rollout.sluice.dev/iris\nrollout.sluice.dev/wine\n");
    assert_eq!(sluice(&api, "get iris -o name").await.out, "rollout.sluice.dev/iris\n");
}

#[tokio::test]
async fn json_is_what_the_server_has_even_where_it_cannot_be_read() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    set_status(&api, "iris", json!({ "stage": "Flying", "altitude": 3 })).await;
    let one: Value = serde_json::from_str(&sluice(&api, "get iris -o json").await.out).unwrap();
    assert_eq!(one["status"]["altitude"], 3);
    let list: Value = serde_json::from_str(&sluice(&api, "get -o json").await.out).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("List"), &json!("Rollout")));
    assert!(sluice(&api, "get iris -o yaml").await.out.contains("stage: Flying\n"));
    let ran = sluice(&api, "get iris").await;
    assert_eq!(ran.code(), 1);
    assert!(ran.failure().contains("\"iris\" in namespace \"default\" cannot be read"), "{}", ran.failure());
}

#[tokio::test]
async fn where_there_is_none_it_says_where_it_looked() {
    let api = embedded::Api::new();
    let ran = sluice(&api, "get").await;
    assert_eq!((ran.code(), ran.out.as_str()), (0, ""));
    assert_eq!(ran.err, "There are no Rollouts in namespace \"default\".\n");
    assert_eq!(sluice(&api, "get -A").await.err, "There are no Rollouts in any namespace.\n");
    let ran = sluice(&api, "get iris").await;
    assert_eq!(ran.code(), 3);
    assert_eq!(ran.failure(), "there is no Rollout \"iris\" in namespace \"default\"");
}

#[tokio::test]
async fn a_cluster_without_the_kinds_says_how_to_install_them() {
    let api = embedded::Api::new();
    let connection = api.connect("ann");
    let refusal = Refusal::new(404, "NotFound", "the server could not find the requested resource");
    connection.faults().on(When::verb(Verb::List), Then::Refuse(refusal));
    let failure =
        session(connection.client(), "get", Output::new(), Output::new()).await.expect_err("a failure");
    assert_eq!(failure.exit().code(), 3);
    assert!(failure.hint("sluice").unwrap().contains("sluice crd | kubectl apply"), "{failure}");
}

/// Runs `sluice ARGS` on a pipe until `stop` is sent or dropped.
fn follow(api: &embedded::Api, args: &str) -> (Output, Output, oneshot::Sender<()>, JoinHandle<u8>) {
    follow_on(api, args, Screen::default())
}

fn follow_on(
    api: &embedded::Api,
    args: &str,
    screen: Screen,
) -> (Output, Output, oneshot::Sender<()>, JoinHandle<u8>) {
    let (out, err) = (Output::new(), Output::new());
    let (stop, stopped) = oneshot::channel();
    let client = api.client_as("ann");
    let cli = Cli::try_parse_from(["sluice"].into_iter().chain(args.split_whitespace())).unwrap();
    let (mut to_out, mut to_err) = (out.clone(), err.clone());
    let task = tokio::spawn(async move {
        let Ask::Get(args) = ask(cli.command) else { panic!("only get follows") };
        let mut session = Session {
            client,
            cluster: "https://in.memory".to_owned(),
            namespace: NAMESPACE.to_owned(),
            screen,
            out: &mut to_out,
            err: &mut to_err,
        };
        let ended = get(&mut session, &args, async { stopped.await.unwrap_or(()) }).await;
        ended.map_or_else(|failure| failure.exit().code(), |()| 0)
    });
    (out, err, stop, task)
}

#[tokio::test]
async fn on_a_terminal_the_picture_is_drawn_over() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let screen = Screen { width: Some(80), height: Some(24), ..Screen::default() };
    let (out, err, stop, task) = follow_on(&api, "get iris --watch", screen);
    out.holds("not looked at it yet").await;
    set_status(&api, "iris", in_the_gate("iris")).await;
    out.holds("step 2 waits for approval").await;
    rollouts(&api).delete("iris", &DeleteParams::default()).await.unwrap();
    out.holds("There is no Rollout \"iris\" any more.").await;
    stop.send(()).unwrap();
    assert_eq!(task.await.unwrap(), 0);
    assert_eq!(err.text(), "");
    // Every picture but the first goes back over all lines of the one before.
    let text = out.text();
    let pictures: Vec<&str> = text.split("\u{1b}[?7l").skip(1).collect();
    for pair in pictures.windows(2) {
        let up = format!("\u{1b}[{}F", pair[0].lines().count() - 1);
        assert!(pair[1].starts_with(&up), "{pair:?}");
    }
}

#[tokio::test]
async fn a_watch_adds_a_line_for_each_change_and_ends_well() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let (out, err, stop, task) = follow(&api, "get --watch");
    out.holds("the controller has not looked at it yet").await;
    set_status(&api, "iris", in_the_gate("iris")).await;
    out.holds("step 2 waits for approval").await;
    create(&api, "wine").await;
    out.holds("wine").await;
    // A change that reads the same is none.
    set_status(&api, "iris", json!({ "handled": [] })).await;
    set_status(&api, "iris", healthy("iris")).await;
    out.holds("it is live").await;
    rollouts(&api).delete("wine", &DeleteParams::default()).await.unwrap();
    err.holds("The Rollout \"wine\" in namespace \"default\" was deleted.").await;
    stop.send(()).unwrap();
    assert_eq!(task.await.unwrap(), 0);
    let names: Vec<_> = out.text().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["NAME", "iris", "iris", "wine", "iris"]);
}

#[tokio::test]
async fn a_watch_of_one_is_a_log_of_its_decisions() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let (out, _, stop, task) = follow(&api, "get iris --watch");
    out.holds("not looked at yet").await;
    let mut status = in_the_gate("iris");
    status["decisions"] = json!([{
        "seq": 4, "at": "2026-03-14T15:09:26Z", "kind": "Entered", "reason": "StepsPassed",
        "message": "step 1 passed", "fromWeight": 10, "weight": 50,
    }]);
    set_status(&api, "iris", status).await;
    out.holds("Waiting: WaitingForApproval  step 2/2  50%  step 2 waits for approval").await;
    stop.send(()).unwrap();
    assert_eq!(task.await.unwrap(), 0);
    assert!(
        out.text().contains("2026-03-14T15:09:26Z  #4  Entered  10% → 50%: step 1 passed\n"),
        "{}",
        out.text()
    );
}

#[tokio::test]
async fn a_watch_in_json_is_one_object_a_line() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let (out, _, stop, task) = follow(&api, "get -w -o json");
    out.holds("\"iris\"").await;
    set_status(&api, "iris", in_the_gate("iris")).await;
    out.holds("WaitingForApproval").await;
    stop.send(()).unwrap();
    assert_eq!(task.await.unwrap(), 0);
    let phases: Vec<Value> = out
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"]["phase"].clone())
        .collect();
    assert_eq!(phases, [Value::Null, json!("Waiting")]);
}

#[tokio::test]
async fn a_watch_outlives_an_expired_history() {
    let api = embedded::Api::new();
    create(&api, "iris").await;
    let (out, _, stop, task) = follow(&api, "get --watch");
    out.holds("iris").await;
    api.expire_history();
    create(&api, "wine").await;
    out.holds("wine").await;
    stop.send(()).unwrap();
    assert_eq!(task.await.unwrap(), 0);
}
