//! What the canary gets besides a share of all users: a cohort, clients that stay, copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};
use sluice_lab::binomial;
use sluice_lab::real::{Answer, Answers, wait};
use tokio::time::Instant;

use crate::lab::{LIMIT, Lab};
use crate::shares::{MISS, none_failed, share_is_over};
use crate::world::{IRIS, ROUTE, World, same};

/// Requests of a moment, one of each sort, in which nobody may be counted as one of the wrong arm.
const SLACK: u64 = 5;
/// Requests after which all of Envoy's workers have what its main thread shows.
const UNTIL_ALL_KNOW: u64 = 40;

fn beta() -> Value {
    json!([{"headers": {"x-group": {"exact": "beta"}}}])
}

/// Waits until a stream of users has had so many answers since a moment.
pub async fn answered(users: &Answers, since: Instant, count: usize) -> Result<Vec<Answer>> {
    let seen = wait::until(LIMIT, format!("{count} more answers"), || {
        let answers = users.between(since, Instant::now());
        std::future::ready(if answers.len() >= count { Ok(answers) } else { Err(answers.len().to_string()) })
    });
    Ok(seen.await?)
}

pub fn all_by(what: &str, answers: &[Answer], predictor: &str) -> Result<()> {
    let by = Answer::by_predictor(answers);
    same(what, &by, &[(predictor.to_owned(), answers.len() as u64)].into())
}

pub async fn a_cohort_sees_the_canary_and_nobody_else_does(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "cohort").await?;
    let cohort = world.users().header("x-group", "beta");
    let members = cohort.clone().rate(60.0).start();
    let others = world.users().header("x-group", "gamma").rate(60.0).start();
    let controller = world.controller()?;
    let mut rollout = world.rollout("v2", json!([{"match": beta(), "for": "4s"}]));
    rollout["spec"]["finish"] = json!("Wait");
    world.create_rollout(&rollout).await?;
    world.answered_by(&cohort, "iris-v2").await?;
    let obeyed = Instant::now();
    world.phase("Waiting", "WaitingForDecision").await?;
    all_by("the cohort", &answered(&members, obeyed, 200).await?, "iris-v2")?;

    world.says(&["decide", IRIS, "--winner", "stable", "--reason", "no difference"]).await?;
    world.answered_by(&cohort, "iris-v1").await?;
    let over = Instant::now();
    let status = world.phase("Healthy", "Lost").await?;
    let outcomes = status["outcomes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [outcome] = outcomes else { anyhow::bail!("one outcome is expected, found {outcomes:?}") };
    same("whose outcome", &outcome["predictor"]["service"], &json!("iris-v2"))?;
    same("outcome", &(&outcome["outcome"], &outcome["reason"]), &(&json!("Lost"), &json!("Lost")))?;
    let lost = status["decisions"].as_array().and_then(|all| all.iter().find(|one| one["kind"] == "Lost"));
    let lost = lost.ok_or_else(|| anyhow!("no decision says that it lost: {status}"))?;
    same("why", &lost["reason"], &json!("Lost"))?;
    let message = lost["message"].as_str().unwrap_or_default();
    ensure!(message.contains("decided for stable") && message.contains("no difference"), "{message:?}");
    all_by("the cohort afterwards", &answered(&members, over, 60).await?, "iris-v1")?;
    let (members, others) = (members.stop().await, others.stop().await);
    all_by("all others, always", &others, "iris-v1")?;
    none_failed(&members)?;
    none_failed(&others)?;
    world.end(controller)
}

pub async fn a_cookie_keeps_a_client_on_its_arm(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "sticky").await?;
    let load = world.users().rate(50.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let steps = json!([{"weight": 50, "sticky": {"cookie": {"name": "arm"}}, "for": "1h"}]);
    world.create_rollout(&world.rollout("v2", steps)).await?;
    world.obeyed(&observed, "iris-v2", 50).await?;
    let mut arms = BTreeMap::<String, u32>::new();
    for client in 0..24 {
        let first = world.users().ask_once().await.map_err(|error| anyhow!(error))?;
        let header = |name: &str| first.headers().get(name).and_then(|value| value.to_str().ok());
        let arm = header("x-predictor").unwrap_or_default().to_owned();
        let cookie = header("set-cookie").and_then(|cookie| cookie.split(';').next());
        let cookie = cookie.ok_or_else(|| anyhow!("client {client} got no cookie from {arm}"))?;
        let answers = world.users().header("cookie", cookie).ask(8).await;
        all_by(&format!("client {client} with {cookie}"), &answers, &arm)?;
        *arms.entry(arm).or_default() += 1;
    }
    // Chance leaves out an arm once in eight million times.
    same("arms", &arms.len(), &2)?;
    none_failed(&load.stop().await)?;
    world.end(controller)
}

/// How many users there are whose hash says who they are.
const HASHED: u64 = 2000;

/// A hash as the layer that knows its users would make it (the mixer of `SplitMix64`).
fn hash(user: u64) -> u64 {
    let mut z = user.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Those of the users whom the canary answers. Each asks once.
async fn users_of_canary(world: &World<'_>) -> Result<BTreeSet<u64>> {
    let mut of_canary = BTreeSet::new();
    for user in 0..HASHED {
        let answers = world.users().header("x-user", &format!("{:016x}", hash(user))).ask(1).await;
        none_failed(&answers)?;
        if answers[0].by == "iris-v2" {
            of_canary.insert(user);
        }
    }
    Ok(of_canary)
}

pub async fn a_hash_keeps_a_user_on_its_arm_and_nobody_goes_back(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "hashed").await?;
    let load = world.users().rate(150.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let sticky =
        |weight: u64| json!({"weight": weight, "sticky": {"header": "x-user"}, "for": "1s", "approve": true});
    world.create_rollout(&world.rollout("v2", json!([sticky(10), sticky(35)]))).await?;
    let mut before = BTreeSet::new();
    for weight in [10, 35] {
        world.obeyed(&observed, "iris-v2", weight).await?;
        let now = users_of_canary(&world).await?;
        let bound = 65_536 * weight / 100;
        let all: BTreeSet<u64> = (0..HASHED).filter(|user| hash(*user) >> 48 < bound).collect();
        same(&format!("users of the canary at {weight}%"), &now, &all)?;
        #[allow(clippy::cast_precision_loss, reason = "a weight is at most 100")]
        let likely = binomial::interval(HASHED, weight as f64 / 100.0, MISS);
        println!("{} of {HASHED} users at {weight}%, and likely is {likely:?}", now.len());
        ensure!(likely.contains(&(now.len() as u64)), "{} users at {weight}%", now.len());
        ensure!(before.is_subset(&now), "the canary lost {:?}", before.difference(&now));
        before = now;
        observed.sent(&load, "iris-v2", weight, 300).await?;
        share_is_over(&observed, &load, "iris-v2", weight, 300)?;
        if weight == 10 {
            world.approve().await?;
        }
    }
    world.says(&["abort", IRIS, "--reason", "seen enough"]).await?;
    world.only("iris-v1").await?;
    none_failed(&load.stop().await)?;
    world.end(controller)
}

/// Waits until Envoy copies this percentage of the users' requests to `iris-v2`, and until `iris-v1` has had so many more of
/// them; of these the other one got as many as chance explains.
pub async fn copies_are(world: &World<'_>, percentage: f64, requests: u64) -> Result<()> {
    let counts = || [world.predictor("v1"), world.predictor("v2")].map(|one| one.served().total());
    let more = async |count: u64| {
        let before = counts();
        wait::until(LIMIT, format!("{count} more requests"), || {
            let now = counts();
            std::future::ready(if now[0] >= before[0] + count { Ok(()) } else { Err(format!("{now:?}")) })
        })
        .await?;
        let after = counts();
        anyhow::Ok((after[0] - before[0], after[1] - before[1]))
    };
    let expected = format!("iris-v2.{}.svc.cluster.local", world.namespace);
    wait::until(LIMIT, format!("Envoy copies {percentage}%"), async || {
        let seen =
            world.shared.gateway.mirrors(&world.host(), ROUTE).await.map_err(|error| error.to_string())?;
        match &seen[..] {
            [(cluster, copied)] if cluster.ends_with(&expected) && (copied - percentage).abs() < 1e-3 => {
                Ok(())
            }
            _ => Err(format!("{seen:?}")),
        }
    })
    .await?;
    // Its workers learn of it one by one.
    more(UNTIL_ALL_KNOW).await?;
    let (asked, copies) = more(requests).await?;
    let likely = binomial::interval(asked, percentage / 100.0, MISS);
    let near = likely.start().saturating_sub(SLACK)..=likely.end() + SLACK;
    println!("{}: {copies} copies of {asked} requests at {percentage}%", world.namespace);
    ensure!(near.contains(&copies), "{copies} copies of {asked} requests, and likely is {likely:?}");
    Ok(())
}

pub async fn a_mirror_gets_its_percentage_and_never_answers(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "shadow").await?;
    // What the canary makes of the copies is nobody's business.
    world.predictor("v2").set_errors(1.0);
    let users = world.users().rate(150.0).start();
    let controller = world.controller()?;
    let mut rollout = world.rollout("v2", json!([{"mirror": 30, "for": "1s", "approve": true}]));
    rollout["spec"]["checks"] = json!([]);
    rollout["spec"]["finish"] = json!("KeepStable");
    world.create_rollout(&rollout).await?;
    copies_are(&world, 30.0, 2000).await?;
    let counts = || [world.predictor("v1"), world.predictor("v2")].map(|one| one.served().total());

    world.says(&["approve", IRIS, "--reason", "counted"]).await?;
    world.phase("Healthy", "Observed").await?;
    // What was sent before the end may still arrive; then there are no copies any more.
    let mut last = counts();
    wait::until(LIMIT, "no copies are made any more", || {
        let now = counts();
        let quiet = now[0] >= last[0] + 100 && now[1] == last[1];
        if now[1] != last[1] {
            last = now;
        }
        std::future::ready(if quiet { Ok(()) } else { Err(format!("{now:?}")) })
    })
    .await?;
    let answers = users.stop().await;
    none_failed(&answers)?;
    all_by("users", &answers, "iris-v1")?;
    world.end(controller)
}
