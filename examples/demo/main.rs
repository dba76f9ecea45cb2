//! thin
mod world;
use sluice_lab::gateway::Load;
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().any(|a| a == "--logs") {
        tracing_subscriber::fmt().with_env_filter("info,sluice=debug").with_writer(std::io::stderr).init();
    }
    let world = world::World::start().await?;
    let load = Load::infer(world::HOST, world::MODEL).rate(240.0).start(&world.gateway);
    let start = Instant::now();
    let mut seen = 0;
    let mut phase = String::new();
    let mut act = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rollout = world.rollout()?;
        let status = rollout.status.clone().unwrap_or_default();
        for d in status.decisions.iter().filter(|d| d.seq > seen) {
            println!(
                "{:>6.1?} #{} {:?} {}->{} {}",
                start.elapsed(),
                d.seq,
                d.kind,
                d.from_weight,
                d.weight,
                d.message
            );
        }
        seen = status.seq;
        let now = format!("{} {:?} {}", status.phase, status.reason, status.message);
        if now != phase {
            println!("{:>6.1?}    {now}", start.elapsed());
            phase = now;
        }
        let vs = world.virtual_service()?;
        if act == 2
            && vs["spec"]["http"][1]["route"]
                .as_array()
                .unwrap()
                .iter()
                .any(|r| r["destination"]["host"] == "iris-v3" && r["weight"] == 25)
        {
            world.v3.predictor.set_errors(0.2);
            act = 3;
            println!("broken");
        }
        if act == 0 && start.elapsed() > Duration::from_secs(2) {
            world.release("iris-v2").await?;
            act = 1;
        }
        if act == 1
            && vs["spec"]["http"][1]["route"][0]["destination"]["host"] == "iris-v2"
            && vs["spec"]["http"][1]["route"].as_array().unwrap().len() == 1
            && status.phase == sluice_core::api::Phase::Healthy
        {
            println!("{}", vs["spec"]["http"][1]);
            world.release("iris-v3").await?;
            act = 2;
        }
        if start.elapsed() > Duration::from_secs(40) {
            break;
        }
    }
    println!("{:?}", load.report());
    println!("{:#}", world.virtual_service()?);
    println!("{:?}", world.api.write_requests("controller"));
    world.stop().await
}
