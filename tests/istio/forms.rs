//! A step that says all at once, on a route with a mirror of its user's: who asks whom, and who gets copies.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_lab::binomial;
use sluice_lab::real::{Answer, Answers, Users, wait};
use tokio::time::Instant;

use crate::lab::{LIMIT, Lab};
use crate::shares::{MISS, none_failed};
use crate::world::{IRIS, World, same};

/// Requests of a moment, of which nobody can say whether they were before or after it.
const SLACK: u64 = 5;
/// Copies that are under way arrive within this time.
const QUIET: Duration = Duration::from_millis(500);
/// Requests of those whom no match is about, at least.
const COUNTED: usize = 2000;

/// Any one of these is enough.
fn matches() -> Value {
    json!([
        {"headers": {"x-tier": {"regex": "(gold|silver)-[0-9]+"}}},
        {"headers": {"x-group": {"prefix": "beta-"}}},
        {"uri": {"prefix": format!("/v2/models/{IRIS}/versions/v2/")}},
        {"queryParams": {"arm": {"exact": "canary"}}},
    ])
}

/// Users whom a match is about, each by another one. Who asks for the canary's version by its path gets nothing elsewhere.
fn cohorts(world: &World<'_>) -> [(&'static str, Users); 3] {
    [
        ("who match by a regex of a header", world.users().header("x-tier", "gold-17")),
        ("who match by a prefix of a header", world.users().header("x-group", "beta-eu")),
        ("who match by a parameter", world.users().path(format!("/v2/models/{IRIS}/infer?arm=canary"))),
    ]
}

/// Users whom no match is about, though it may look so.
fn others(world: &World<'_>) -> [Users; 4] {
    [
        world.users(),
        // A regex is about the whole of the text, a prefix about its beginning.
        world.users().header("x-tier", "gold-17x"),
        world.users().header("x-group", "not-beta-eu"),
        world.users().path(format!("/v2/models/{IRIS}/infer?arm=canary2")),
    ]
}

/// The requests that each predictor has had, once no more arrive: copies may come later than answers.
async fn arrived(world: &World<'_>) -> Result<[u64; 3]> {
    let mut last = ([0; 3], Instant::now());
    let seen = wait::until(LIMIT, "no more copies arrive", || {
        let now = ["v1", "v2", "v3"].map(|version| world.predictor(version).served().total());
        if now != last.0 {
            last = (now, Instant::now());
        }
        std::future::ready(if last.1.elapsed() >= QUIET { Ok(now) } else { Err(format!("{now:?}")) })
    });
    Ok(seen.await?)
}

/// So many of the requests are as many as chance explains.
fn likely(what: &str, seen: u64, of: usize, share: f64) -> Result<()> {
    let likely = binomial::interval(of as u64, share, MISS);
    println!("{what}: {seen} of {of}, and likely is {likely:?}");
    let near = likely.start().saturating_sub(SLACK)..=likely.end() + SLACK;
    ensure!(near.contains(&seen), "{what}: {seen} of {of}, and likely is {likely:?}");
    Ok(())
}

async fn at_least(streams: &[Answers], count: usize) -> Result<()> {
    wait::until(LIMIT, format!("{count} answers"), || {
        let seen = streams.iter().map(|stream| stream.so_far().len()).sum::<usize>();
        std::future::ready(if seen >= count { Ok(()) } else { Err(seen.to_string()) })
    })
    .await?;
    Ok(())
}

fn by(answers: &[Answer], predictor: &str) -> u64 {
    Answer::by_predictor(answers).get(predictor).copied().unwrap_or(0)
}

/// Everybody asks for a while, with the step in place, and each request is accounted for.
async fn everybody_gets_what_the_step_says(world: &World<'_>) -> Result<()> {
    let by_path = world.users().path(format!("/v2/models/{IRIS}/versions/v2/infer")).ask(100).await;
    none_failed(&by_path)?;
    same("who match by the path", &by(&by_path, "iris-v2"), &100)?;

    let before = arrived(world).await?;
    let cohorts = cohorts(world).map(|(who, users)| (who, users.rate(25.0).start()));
    let streams = others(world).map(|users| users.rate(50.0).start());
    at_least(&streams, COUNTED).await?;
    let (mut all, mut of_canary) = (0, 0);
    for (who, users) in cohorts {
        let answers = users.stop().await;
        none_failed(&answers)?;
        ensure!(answers.len() >= 100, "only {} requests of those {who}", answers.len());
        same(who, &by(&answers, "iris-v2"), &(answers.len() as u64))?;
        all += answers.len();
        of_canary += by(&answers, "iris-v2");
    }
    let mut by_weight = Vec::new();
    for users in streams {
        let answers = users.stop().await;
        none_failed(&answers)?;
        likely("answers of the canary, of one sort", by(&answers, "iris-v2"), answers.len(), 0.2)?;
        by_weight.extend(answers);
    }
    likely("answers of the canary by weight", by(&by_weight, "iris-v2"), by_weight.len(), 0.2)?;
    same(
        "nobody else answers",
        &(by(&by_weight, "iris-v1") + by(&by_weight, "iris-v2")),
        &(by_weight.len() as u64),
    )?;
    all += by_weight.len();
    of_canary += by(&by_weight, "iris-v2");

    let after = arrived(world).await?;
    let [_, canary, third] = [0, 1, 2].map(|at| after[at] - before[at]);
    // Of what a match sent to the canary it gets no copies; the user's mirror does.
    likely("copies for the canary", canary - of_canary, by_weight.len(), 0.125)?;
    likely("copies for the user's own mirror", third, all, 0.4)
}

pub async fn all_forms_of_a_step_at_once_beside_a_mirror_of_the_users(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::new(lab, "forms").await?;
    world.serve("v3").await?;
    world.scraped().await?;
    let mut route = world.route().await?;
    route["spec"]["http"][0]["mirror"] = json!({"host": "iris-v3", "port": {"number": 8000}});
    route["spec"]["http"][0]["mirrorPercentage"] = json!({"value": 40});
    world.replace_route(route).await?;
    world.routed().await?;
    let original = world.route().await?;
    let load = world.users().rate(100.0).start();
    let observed = world.observe(lab);
    let controller = world.controller()?;
    let steps = json!([{"weight": 20, "mirror": 12.5, "match": matches(), "for": "1h"}]);
    let mut rollout = world.rollout("v2", steps);
    rollout["spec"]["checks"] = json!([]);
    world.create_rollout(&rollout).await?;
    world.obeyed(&observed, "iris-v2", 20).await?;
    none_failed(&load.stop().await)?;
    everybody_gets_what_the_step_says(&world).await?;

    let mut load: Vec<Answers> =
        cohorts(&world).into_iter().map(|(_, users)| users.rate(30.0).start()).collect();
    load.push(world.users().rate(60.0).start());
    world.says(&["abort", IRIS, "--reason", "seen enough"]).await?;
    let after = world.only("iris-v1").await?;
    world.obeyed(&observed, "iris-v2", 0).await?;
    for users in load {
        none_failed(&users.stop().await)?;
    }
    same("the spec", &after["spec"], &original["spec"])?;
    same("the note about mirrors", &after["metadata"]["annotations"]["sluice.dev/mirrors"], &Value::Null)?;

    let before = arrived(&world).await?;
    let streams = cohorts(&world).map(|(_, users)| users.rate(60.0).start());
    at_least(&streams, 600).await?;
    let mut answers = Vec::new();
    for users in streams {
        answers.extend(users.stop().await);
    }
    none_failed(&answers)?;
    let now = arrived(&world).await?;
    let all = answers.len();
    same("answers of stable", &by(&answers, "iris-v1"), &(all as u64))?;
    same("what the canary still gets", &(now[1] - before[1]), &0)?;
    likely("copies for the user's own mirror afterwards", now[2] - before[2], all, 0.4)?;
    world.end(controller)
}
