//! Controllers whose memory does not say what happened.

use serde_json::{Value, json};
use sluice_lab::{
    embedded::{Faults, Tamper, Then},
    invariants,
    scene::POD_PORT,
};

use super::{half, in_status, is_caught, is_told, put, run, seconds, statuses, two_steps};
use crate::world::{World, rollout};

fn in_statuses(change: impl Fn(&mut Value) + Clone + Send + Sync + 'static) -> impl Fn(&Faults) {
    move |faults| faults.on(statuses(), Then::Tamper(in_status(change.clone())))
}

fn index(status: &Value) -> Option<u64> {
    status["stage"]["step"]["index"].as_u64()
}

fn last_kind(status: &Value) -> Value {
    status["decisions"]
        .as_array()
        .and_then(|decisions| decisions.last())
        .map_or(Value::Null, |d| d["kind"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_step_without_a_recorded_pass_is_caught() {
    for change in [
        |check: &mut Value| check["verdict"] = "Inconclusive".into(),
        |check: &mut Value| check["canary"]["bad"] = check["canary"]["requests"].clone(),
        |check: &mut Value| check["canary"]["requests"] = 3.into(),
    ] {
        let breaks = in_statuses(move |status| {
            if let Some(checks) = status.pointer_mut("/decisions/3/checks").and_then(Value::as_array_mut) {
                checks.iter_mut().for_each(change);
            }
        });
        is_caught(4, two_steps(), breaks, async |_| seconds(12).await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_too_short_is_caught() {
    // It is told that the steps are short, and records what they were.
    let breaks = |faults: &Faults| {
        is_told(faults, "rollouts", |rollout| {
            put(rollout, "/spec/steps/0/for", "1s");
            put(rollout, "/status/pinned/steps/0/for", "1s");
        });
        let pinned = in_status(|status| put(status, "/pinned/steps/0/for", "10s"));
        faults.on(statuses(), Then::Tamper(pinned));
    };
    let object = rollout(&json!([{"weight": 20, "for": "10s"}, {"weight": 50, "for": "2s"}]));
    is_caught(4, object, breaks, async |_| seconds(8).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_goes_back_is_caught() {
    let steps =
        json!([{"weight": 10, "for": "1s"}, {"weight": 20, "for": "1s"}, {"weight": 30, "for": "1s"}]);
    let breaks = in_statuses(|status| {
        if index(status) == Some(2) {
            status["stage"]["step"]["index"] = 0.into();
        }
    });
    is_caught(5, rollout(&steps), breaks, async |_| seconds(12).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_carried_to_another_revision_is_caught() {
    let breaks = in_statuses(|status| {
        if status["canary"]["service"] == "iris-v3" && last_kind(status) == "Started" {
            status["stage"]["step"]["index"] = 1.into();
        }
    });
    let play = async |world: &World| {
        seconds(3).await;
        world.scene.service("iris-v3").await.unwrap();
        world.want("iris-v3").await;
        seconds(5).await;
    };
    is_caught(5, two_steps(), breaks, play).await;
}

#[tokio::test(start_paused = true)]
async fn another_end_than_without_faults_is_caught() {
    let play = async |world: &World| {
        world.fails(0.5);
        seconds(12).await;
    };
    let mut calm = World::new().await;
    let found = run(&mut calm, &half(), |_| (), &play).await;
    assert!(found.is_empty(), "{}", invariants::told(&found));
    let end = invariants::end(&calm.run());
    let forgets = |faults: &Faults| {
        let forgets = in_status(|status| drop(status.as_object_mut().unwrap().remove("outcomes")));
        faults.on(statuses().from(4), Then::Tamper(forgets));
    };
    for broken in [false, true] {
        let mut world = World::new().await;
        run(
            &mut world,
            &half(),
            |faults| {
                if broken {
                    forgets(faults);
                }
            },
            &play,
        )
        .await;
        let found = invariants::check(&invariants::Run { calm: Some(end.clone()), ..world.run() });
        // breaks 7
        assert_eq!(found.iter().any(|v| v.guarantee == 7), broken, "{}", invariants::told(&found));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_at_rest_is_caught() {
    // It never sees its own stamp, and so writes it again.
    let forgets =
        |rollout: &mut Value| drop(rollout["metadata"].as_object_mut().unwrap().remove("annotations"));
    for broken in [false, true] {
        let mut world = World::new().await;
        let connection = world.api.connect(crate::world::CONTROLLER);
        let sluice = world.controller_over(connection, None);
        world.create(rollout(&json!([{"weight": 50, "for": "1s"}]))).await;
        world.stands("Healthy", "Live").await;
        seconds(5).await;
        let (from, before) = (world.now(), world.writes());
        if broken {
            is_told(sluice.connection.faults(), "virtualservices", forgets);
        }
        for _ in 0..3 {
            world.api.expire_history();
            sluice.connection.faults().close_watches();
            seconds(20).await;
        }
        world.rested(from, world.writes() - before);
        let found = world.broken();
        // breaks 8
        assert_eq!(found.iter().any(|v| v.guarantee == 8), broken, "{}", invariants::told(&found));
        assert!(broken || found.is_empty(), "{}", invariants::told(&found));
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_without_metrics_is_caught() {
    // Nobody listens on that port; the broken controller is told of another.
    let mut object = two_steps();
    object["spec"]["metrics"]["scrape"]["port"] = 9.into();
    let lies = |faults: &Faults| {
        is_told(faults, "rollouts", |rollout| {
            put(rollout, "/spec/metrics/scrape/port", POD_PORT);
            put(rollout, "/status/pinned/metrics/scrape/port", POD_PORT);
        });
    };
    let play = async |world: &World| {
        world.metrics_are_out(true);
        seconds(12).await;
    };
    is_caught(11, object, lies, play).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_without_metrics_is_caught() {
    let breaks = in_statuses(|status| {
        if last_kind(status) == "RolledBack" {
            let last = status["decisions"].as_array_mut().unwrap().last_mut().unwrap();
            last["reason"] = "CheckFailed".into();
            last.as_object_mut().unwrap().remove("by");
        }
    });
    let play = async |world: &World| {
        seconds(3).await;
        world.metrics_are_out(true);
        seconds(3).await;
        world.ask("Abort", "stop").await;
        seconds(5).await;
    };
    is_caught(11, half(), breaks, play).await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_is_not_recorded_is_caught() {
    let breaks = in_statuses(|status| {
        if let Some(decisions) = status["decisions"].as_array_mut() {
            decisions.retain(|decision| decision["kind"] != "Started");
        }
    });
    is_caught(15, half(), breaks, async |_| seconds(5).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_is_recorded_twice_is_caught() {
    let breaks = in_statuses(|status| {
        if last_kind(status) == "Entered" {
            let decisions = status["decisions"].as_array_mut().unwrap();
            decisions.push(decisions.last().unwrap().clone());
        }
    });
    is_caught(15, half(), breaks, async |_| seconds(5).await).await;
}

#[tokio::test(start_paused = true)]
async fn traffic_that_grows_though_nothing_was_recorded_is_caught() {
    // The status is never stored, and the controller is told that it was.
    let breaks = |faults: &Faults| {
        let written = std::sync::Arc::new(std::sync::Mutex::new(Value::Null));
        let keeps = written.clone();
        let third = || statuses().nth(3);
        let not_stored = Tamper::with(move |patch| {
            let operations = patch.as_array_mut().unwrap();
            *keeps.lock().unwrap() = operations[1]["value"].clone();
            operations.truncate(1);
        });
        faults.on(third(), Then::Tamper(not_stored));
        let told = Tamper::with(move |rollout| rollout["status"] = written.lock().unwrap().clone());
        faults.on(third(), Then::TamperAnswer(told));
    };
    is_caught(15, half(), breaks, async |_| seconds(1).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_stable_that_is_lost_with_the_status_is_caught() {
    // It sees neither the stamp nor that stable has any traffic.
    let lies = |faults: &Faults| {
        is_told(faults, "virtualservices", |object| {
            if object["metadata"]["labels"]["lost"] == "yes" {
                object["metadata"].as_object_mut().unwrap().remove("annotations");
                object["spec"]["http"][0]["route"] =
                    json!([{"destination": {"host": "iris-v2", "port": {"number": 8000}}, "weight": 100}]);
            }
        });
    };
    let play = async |world: &World| {
        seconds(3).await;
        world.patch_virtual_service(json!({"metadata": {"labels": {"lost": "yes"}}})).await;
        let status = world.status();
        let wiped: Value = status.as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
        world.patch_status(wiped).await;
        seconds(10).await;
    };
    is_caught(16, half(), lies, play).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_starts_after_the_status_was_lost_is_caught() {
    // It does not see what the stamp says, nor that the Rollout was ever its own.
    let lies = |faults: &Faults| {
        is_told(faults, "virtualservices", |object| {
            let stamp = object.pointer_mut("/metadata/annotations/sluice.dev~1stamp");
            let Some(stamp) = stamp else { return };
            if let Some(text) = stamp.as_str().filter(|text| text.contains("Aborted")) {
                let mut entries: Value = serde_json::from_str(text).unwrap();
                let seq = entries["models/iris"]["seq"].take();
                let strange = json!({"models/iris": {"uid": "another", "seq": seq, "setting": 0}});
                *stamp = strange.to_string().into();
            }
        });
        is_told(faults, "rollouts", |rollout| {
            if rollout["metadata"]["labels"]["lost"] == "yes" {
                rollout["metadata"].as_object_mut().unwrap().remove("finalizers");
            }
        });
    };
    let play = async |world: &World| {
        seconds(3).await;
        world.ask("Abort", "stop").await;
        seconds(4).await;
        world.patch_rollout(json!({"metadata": {"labels": {"lost": "yes"}}})).await;
        seconds(1).await;
        let status = world.status();
        let wiped: Value = status.as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
        world.patch_status(wiped).await;
        seconds(10).await;
    };
    is_caught(16, half(), lies, play).await;
}
