//! Controllers that do not do as people say.

use serde_json::json;
use sluice_lab::embedded::{EventThen, Faults, Then, When};

use super::{half, in_status, is_caught, is_told, put, seconds, statuses, two_steps};
use crate::world::{World, rollout};

#[tokio::test(start_paused = true)]
async fn growth_while_the_spec_is_paused_is_caught() {
    let lies = |faults: &Faults| is_told(faults, "rollouts", |rollout| put(rollout, "/spec/paused", false));
    let play = async |world: &World| {
        world.weighs(80, 20).await;
        world.patch_rollout(json!({"spec": {"paused": true}})).await;
        seconds(10).await;
    };
    is_caught(14, two_steps(), lies, play).await;
}

#[tokio::test(start_paused = true)]
async fn growth_while_a_person_paused_it_is_caught() {
    let lies = |faults: &Faults| {
        is_told(faults, "rollouts", |rollout| {
            if let Some(status) = rollout.get_mut("status").and_then(serde_json::Value::as_object_mut) {
                status.remove("pause");
            }
        });
    };
    let play = async |world: &World| {
        world.weighs(80, 20).await;
        world.patch_status(json!({"pause": {"reason": "Paused", "by": "jane"}})).await;
        seconds(10).await;
    };
    is_caught(14, two_steps(), lies, play).await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_nobody_approved_is_caught() {
    let lies = |faults: &Faults| {
        is_told(faults, "rollouts", |rollout| put(rollout, "/status/pinned/steps/0/approve", false));
        // It records what was pinned.
        let pinned = in_status(|status| {
            if let Some(step) = status.pointer_mut("/pinned/steps/0") {
                step["approve"] = true.into();
            }
        });
        faults.on(statuses(), Then::Tamper(pinned));
    };
    let steps = json!([{"weight": 20, "for": "1s", "approve": true}, {"weight": 50, "for": "1s"}]);
    is_caught(14, rollout(&steps), lies, async |_| seconds(8).await).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_is_not_heard_is_caught() {
    let deaf = |faults: &Faults| faults.on_event(When::any().resource("rolloutactions"), EventThen::Drop);
    let play = async |world: &World| {
        seconds(3).await;
        world.ask("Abort", "stop").await;
        seconds(10).await;
    };
    is_caught(14, half(), deaf, play).await;
}
