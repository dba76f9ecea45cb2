//! Steps that are sticky by a hash in a header: who is whose is a matter of arithmetic, request by request.

use serde_json::{Value, json};
use sluice_lab::predictor::ANSWERED_BY;

use crate::{
    oracle,
    world::{HOST, World, rollout, same},
};

/// So many users, whose hashes are spread evenly.
const USERS: u32 = 64;

/// Who answers a user with this in the header, or without the header.
async fn answered(world: &World, hash: Option<&str>) -> String {
    let request = http::Request::post(format!("http://{HOST}/v2/models/iris/infer"));
    let request = hash.into_iter().fold(request, |request, hash| request.header("x-user", hash));
    let body =
        json!({"inputs": [{"name": "input", "datatype": "FP64", "shape": [3], "data": [1.0, 2.0, 5.0]}]});
    let answer = world.gateway.send(request.body(body.to_string().into()).unwrap()).await;
    answer.headers()[ANSWERED_BY].to_str().unwrap().to_owned()
}

/// The users whom the canary answers, each asking twice, with a whole SHA-256 and with as few digits as there may be.
async fn of_canary(world: &World) -> Vec<u32> {
    let mut users = Vec::new();
    for user in 0..USERS {
        let short = format!("{:04X}", user * 65_536 / USERS + 17);
        let long = format!("{}f8bd1c4a{}", short.to_lowercase(), "0".repeat(52));
        let by = [answered(world, Some(&short)).await, answered(world, Some(&long)).await];
        assert_eq!(by[0], by[1], "user {user}");
        if by[0] == "iris-v2" {
            users.push(user);
        }
    }
    users
}

fn sticky(weight: u32) -> Value {
    json!({"weight": weight, "sticky": {"header": "x-user"}, "approve": true})
}

#[tokio::test(start_paused = true)]
async fn each_user_has_one_arm_and_who_has_the_canary_keeps_it() {
    let world = World::new().await;
    let steps = json!([sticky(25), {"ramp": {"from": 50, "to": 75, "by": 25, "every": "1s"}, "sticky": {"header": "x-user"}, "approve": true}]);
    world.create(rollout(&steps)).await;
    let _sluice = world.controller();
    for (step, weight, action) in [(0, 25, "first"), (2, 75, "second")] {
        world
            .sees("it waits for approval", |status| {
                status["stage"]["step"]["index"] == step && status["reason"] == "WaitingForApproval"
            })
            .await;
        let expected: Vec<u32> = (0..USERS * weight / 100).collect();
        same(&of_canary(&world).await, &expected, &format!("users of the canary at {weight}%"));
        for none in [None, Some("17"), Some("user-17")] {
            let mut by = Vec::new();
            for _ in 0..20 {
                by.push(answered(&world, none).await);
            }
            for arm in ["iris-v1", "iris-v2"] {
                assert!(by.iter().any(|who| who == arm), "{none:?} goes by weight: {by:?}");
            }
        }
        if step == 0 {
            world.ask("Approve", action).await;
        }
    }
    world.ask("Abort", "stop").await;
    world.stands("RolledBack", "Aborted").await;
    same(&oracle::own(&world.virtual_service()).len(), &0, "routes for hashes");
    same(&of_canary(&world).await, &Vec::new(), "users of the canary in the end");
}
