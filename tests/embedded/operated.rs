//! A SeldonDeployment whose operator owns the routes, when something goes wrong. The operator writes no route while any of its
//! deployments is unready, as a canary is that has to go, so nobody but the controller takes users away from that.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::{
    embedded::{Refusal, Then, Verb, When},
    gateway::Running,
    operator::Operator,
    scene::{Served, eventually},
};

use crate::{
    deletions::{gone, is_there},
    expose::users,
    seldon::{
        both, deployment, operated, operated_with, operator, patch, rollout, slotted, traffic,
        virtual_service, world,
    },
    world::{CONTROLLER, LIMIT, Sluice, World, same, summary},
};

/// What `main` and `green` have on each of the operator's routes.
pub fn on_the_routes(world: &World) -> Vec<[u64; 2]> {
    let spec = virtual_service(world).map(|object| object["spec"].clone()).unwrap_or_default();
    let of = |route: &Value, name: &str| {
        let entries = route["route"].as_array().cloned().unwrap_or_default();
        let alone = if entries.len() == 1 { 100 } else { 0 };
        let of_it = entries.iter().filter(|entry| entry["destination"]["subset"] == name);
        of_it.map(|entry| entry["weight"].as_u64().filter(|weight| *weight > 0).unwrap_or(alone)).sum()
    };
    let routes = spec["http"].as_array().cloned().unwrap_or_default();
    routes.iter().map(|route| [of(route, "main"), of(route, "green")]).collect()
}

/// Waits until both routes of the operator give so much to `main` and to `green`.
async fn routed(world: &World, what: &str, weights: [u64; 2]) {
    let look = || async {
        let seen = on_the_routes(world);
        if seen == [weights, weights] {
            Ok(())
        } else {
            Err(format!("{seen:?}, {}", summary(&world.status())))
        }
    };
    if let Err(late) = eventually(LIMIT, what, look).await {
        panic!("{late}");
    }
}

/// A rollout of `green` that has this weight, in the SeldonDeployment and on the routes, for long.
struct AtWeight {
    world: World,
    green: Served,
    operator: Operator,
    sluice: Sluice,
    _main: Served,
    _users: Running,
}

async fn at_weight(weight: u64) -> AtWeight {
    let (world, [main, green]) = operated().await;
    let operator = operator(&world);
    let users = users(&world, "/seldon/models/iris");
    world.create(slotted(json!([{"weight": weight, "for": "10m"}]))).await;
    let sluice = world.controller();
    routed(&world, "the step's weight is on the routes", [100 - weight, weight]).await;
    AtWeight { world, green, operator, sluice, _main: main, _users: users }
}

/// How often the controller changed the operator's VirtualService.
fn lowered(world: &World) -> usize {
    let history = world.api.history();
    let of = |resource: &str, user: &str| resource == "virtualservices" && user == CONTROLLER;
    history.iter().filter(|write| of(&write.resource, &write.user)).count()
}

fn gives(main: i64, green: i64) -> Value {
    let mut predictors = both();
    predictors[0]["traffic"] = main.into();
    predictors[1]["traffic"] = green.into();
    json!({"spec": {"predictors": predictors}})
}

fn refused(code: u16, reason: &str) -> Then {
    Then::Refuse(Refusal::new(code, reason, "by a fault"))
}

// === the operator's route is lowered until it is ===

#[tokio::test(start_paused = true)]
async fn a_dead_canary_leaves_the_route_whatever_becomes_of_the_first_write() {
    for (then, times) in [
        (refused(409, "Conflict"), 1),
        (refused(409, "Conflict"), 3),
        (refused(500, "InternalError"), 1),
        (refused(429, "TooManyRequests"), 2),
        (refused(403, "Forbidden"), 3),
        (Then::LoseAnswer, 1),
        (Then::Disconnect, 2),
    ] {
        let AtWeight { world, green, operator, sluice, _users, _main } = at_weight(50).await;
        operator.stand_still();
        let faults = sluice.connection.faults();
        faults.on(When::writes().resource("virtualservices").name("iris").times(times), then.clone());
        world.scene.set_ready(&green.pod, false).await.unwrap();
        routed(&world, &format!("green is off the routes after {then:?}"), [100, 0]).await;
        same(&faults.struck(), &times, "writes that were struck");
        same(&traffic(&world), &vec![[100, 0], [50, 50], [100, 0]], "the traffic in the SeldonDeployment");
        // Once it is so nothing is written again.
        let written = lowered(&world);
        tokio::time::sleep(Duration::from_mins(1)).await;
        same(&lowered(&world), &written, "writes of the operator's route");
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_between_its_two_writes_is_followed_by_one_that_makes_the_second() {
    for then in [Then::CrashBefore, Then::CrashAfter] {
        let AtWeight { world, green, operator, sluice, _users, _main } = at_weight(50).await;
        operator.stand_still();
        let when = match then {
            // Before the second, or right after the first.
            Then::CrashBefore => When::writes().resource("virtualservices").name("iris"),
            _ => When::writes().resource("seldondeployments").name("iris"),
        };
        sluice.connection.faults().on(when, then.clone());
        world.scene.set_ready(&green.pod, false).await.unwrap();
        sluice.connection.faults().crashed().await;
        same(&on_the_routes(&world), &vec![[50, 50]; 2], "the routes that it left");
        same(traffic(&world).last().unwrap(), &[100, 0], "the traffic that it left");
        drop(sluice);
        let _sluice = world.controller();
        routed(&world, &format!("green is off the routes after {then:?}"), [100, 0]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tool_gave_the_canary_is_taken_from_the_route_as_well() {
    let AtWeight { world, operator, sluice, _users, _main, green: _green } = at_weight(20).await;
    sluice.stop().await;
    patch(&world, gives(10, 90)).await;
    routed(&world, "the operator carries out what the tool wrote", [10, 90]).await;
    operator.stand_still();
    let _sluice = world.controller();
    routed(&world, "the routes are as was decided", [80, 20]).await;
    let expected = vec![[100, 0], [80, 20], [10, 90], [80, 20]];
    same(&traffic(&world), &expected, "the traffic in the SeldonDeployment");
}

#[tokio::test(start_paused = true)]
async fn what_the_canary_is_to_get_more_of_is_left_to_the_operator() {
    let AtWeight { world, operator, sluice: _sluice, _users, _main, green: _green } = at_weight(50).await;
    operator.stand_still();
    // By a hand that knows better than the operator, as long as that stands still.
    let entry = |name: &str, weight: u64, port: u64| json!({"destination": {"host": format!("iris-{name}.models.svc.cluster.local"), "port": {"number": port}, "subset": name}, "weight": weight});
    let mut spec = virtual_service(&world).unwrap()["spec"].clone();
    for (at, port) in [(0, 8000), (1, 5001)] {
        spec["http"][at]["route"] = json!([entry("main", 90, port), entry("green", 10, port)]);
    }
    world.patch_virtual_service(json!({"spec": spec})).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    same(&on_the_routes(&world), &vec![[90, 10]; 2], "the routes");
    same(&lowered(&world), &0, "writes of the operator's route");
    let message = world.status()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("(green 10, main 90 there, green 50, main 50 is wanted)"), "{message}");
}

// === deletion ===

#[tokio::test(start_paused = true)]
async fn a_deletion_waits_for_a_deployment_that_cannot_be_read() {
    for then in [refused(429, "TooManyRequests"), refused(403, "Forbidden"), Then::Hang] {
        let AtWeight { mut world, operator: _operator, sluice, _users, _main, green: _green } =
            at_weight(50).await;
        // What takes longer than a moment here is the fault's.
        world.limits.reconcile += chrono::TimeDelta::minutes(2);
        let faults = sluice.connection.faults();
        faults.on(When::verb(Verb::Get).resource("seldondeployments").name("iris"), then);
        world.delete_rollout().await;
        let said = |status: &Value| {
            let message = status["message"].as_str().unwrap_or_default();
            message.contains("the routes are not given back yet, and the deletion waits for it")
                && message.contains("reading SeldonDeployment models/iris")
        };
        world.sees("it says what it waits for", said).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(is_there(&world), "its finalizer is its routes' last hope");
        same(traffic(&world).last().unwrap(), &[50, 50], "the traffic that nobody could see");
        faults.clear();
        gone(&world).await;
        same(&traffic(&world), &vec![[100, 0], [50, 50], [100, 0]], "the traffic in the SeldonDeployment");
        routed(&world, "the routes are given back", [100, 0]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_that_fails_at_the_wrong_moment_costs_nobody_their_route() {
    let AtWeight { world, operator, sluice, _users, _main, green: _green } = at_weight(50).await;
    operator.stand_still();
    let once = When::verb(Verb::Get).resource("seldondeployments").name("iris").times(1);
    sluice.connection.faults().on(once, refused(429, "TooManyRequests"));
    world.delete_rollout().await;
    gone(&world).await;
    same(&sluice.connection.faults().struck(), &1, "reads that failed");
    same(traffic(&world).last().unwrap(), &[100, 0], "the traffic in the SeldonDeployment");
    routed(&world, "the routes are given back", [100, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_wait_for_a_deployment_that_is_gone() {
    let AtWeight { world, operator, sluice: _sluice, _users, _main, green: _green } = at_weight(50).await;
    drop(operator);
    let deployments = world.objects("machinelearning.seldon.io", "v1", "SeldonDeployment");
    deployments.delete("iris", &kube::api::DeleteParams::default()).await.unwrap();
    world.delete_rollout().await;
    gone(&world).await;
}

// === traffic that does not add up ===

/// How a canary can end.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Aborted,
    Deleted,
    Failed,
}

#[tokio::test(start_paused = true)]
async fn traffic_that_adds_up_to_90_keeps_no_canary_in_flight_from_its_end() {
    for ends in [Ends::Aborted, Ends::Deleted, Ends::Failed] {
        let AtWeight { world, green, operator: _operator, sluice: _sluice, _users, _main } =
            at_weight(50).await;
        // Where Seldon Core's webhook is not installed nobody refuses it.
        patch(&world, gives(85, 5)).await;
        world
            .sees("it says what is wrong", |status| {
                let conditions = status["conditions"].to_string();
                conditions.contains("adds up to 90 (main 85, green 5): 100 is expected")
            })
            .await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        same(traffic(&world).last().unwrap(), &[85, 5], "the canary is given no more");
        match ends {
            Ends::Aborted => world.ask("Abort", "stop").await,
            Ends::Deleted => world.delete_rollout().await,
            Ends::Failed => green.predictor.set_errors(0.5),
        }
        match ends {
            Ends::Aborted => world.stands("RolledBack", "Aborted").await,
            Ends::Deleted => gone(&world).await,
            Ends::Failed => world.stands("RolledBack", "CheckFailed").await,
        }
        routed(&world, &format!("green is off the routes: {ends:?}"), [100, 0]).await;
        let expected = vec![[100, 0], [50, 50], [85, 5], [100, 0]];
        same(&traffic(&world), &expected, &format!("the traffic in the SeldonDeployment: {ends:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_that_is_less_than_was_decided_is_put_right_without_a_state_that_does_not_add_up() {
    let AtWeight { world, operator: _operator, sluice: _sluice, _users, _main, green: _green } =
        at_weight(5).await;
    patch(&world, gives(85, 5)).await;
    routed(&world, "the routes are as was decided", [95, 5]).await;
    let seen = traffic(&world);
    let ours = seen.iter().filter(|traffic| **traffic != [85, 5]);
    assert!(ours.clone().all(|traffic| traffic.iter().sum::<i64>() == 100), "{seen:?}");
    same(seen.last().unwrap(), &[95, 5], "the traffic in the SeldonDeployment");
}

// === two predictors with traffic ===

fn named(mut rollout: Value, from: Option<&str>) -> Value {
    if let Some(from) = from {
        rollout["spec"]["target"]["seldonDeployment"]["from"] = from.into();
    }
    rollout
}

#[tokio::test(start_paused = true)]
async fn of_two_predictors_with_traffic_the_spec_says_which_is_stable() {
    let seventy_five = || {
        let mut object = deployment(&both());
        object["spec"] = gives(75, 25)["spec"].clone();
        object
    };
    for operated in [true, false] {
        let (world, _served) = if operated {
            operated_with(seventy_five()).await
        } else {
            let (world, served) = world().await;
            world.create(seventy_five()).await;
            (world, served)
        };
        let _operator = operated.then(|| operator(&world));
        let rollout =
            if operated { slotted(json!([{"weight": 50, "for": "5s"}])) } else { rollout("iris", "green") };
        world.create(named(rollout, None)).await;
        let _sluice = world.controller();
        world.stands("Pending", "AmbiguousStable").await;
        let message = world.status()["message"].as_str().unwrap_or_default().to_owned();
        let expected = "main and green have weight on the routes: name the one that is stable in spec.target.seldonDeployment.from";
        same(&message.as_str(), &expected, "what is to be done");
        let from = |from: &str| json!({"spec": {"target": {"seldonDeployment": {"from": from}}}});
        world.patch_rollout(from("blue")).await;
        world.stands("Pending", "TargetNotFound").await;
        let message = world.status()["message"].as_str().unwrap_or_default().to_owned();
        let expected = "spec.target.seldonDeployment.from: SeldonDeployment models/iris has no predictor \"blue\", only main, green";
        same(&message.as_str(), &expected, "what is wrong");

        let _users = users(&world, "/seldon/models/iris");
        world.patch_rollout(from("main")).await;
        world.stands("Healthy", "Live").await;
        same(&world.status()["stable"]["subset"], &json!("green"), "who is stable in the end");
        if operated {
            let expected = vec![[75, 25], [100, 0], [50, 50], [0, 100]];
            same(&traffic(&world), &expected, "the traffic in the SeldonDeployment");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_wanted_predictor_may_be_the_stable_one_of_two_with_traffic() {
    let mut object = deployment(&both());
    object["spec"] = gives(75, 25)["spec"].clone();
    let (world, _served) = operated_with(object).await;
    let _operator = operator(&world);
    world.create(named(slotted(json!([{"weight": 50, "for": "5s"}])), Some("green"))).await;
    let _sluice = world.controller();
    world.stands("Healthy", "Live").await;
    same(&world.status()["stable"]["subset"], &json!("green"), "who is stable");
    same(&traffic(&world), &vec![[75, 25]], "the traffic in the SeldonDeployment");
}
