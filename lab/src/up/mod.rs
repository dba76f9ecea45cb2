//! `cargo lab up`: the real laboratory, left running for a person, and `cargo lab down`.
//!
//! What runs is a process of its own, apart from the terminal: outside of the [`namespace`] it listens at ports of this
//! machine, inside it runs everything, and the way between is a socket in a folder, which no network namespace hides. When
//! the process outside ends, the kernel ends all that is inside, so `down` has one process to end and none to forget.

mod inside;
mod place;
mod relay;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::bench;
use crate::real::binaries::{self, Component};
use crate::real::{self, namespace};
use place::{Place, Ready};

/// The port of each way in, unless somebody has it.
const PORTS: [(Way, u16); 3] = [(Way::Api, 6443), (Way::Gateway, 8090), (Way::Prometheus, 9090)];
/// Between two looks at what has been started.
const EVERY: Duration = Duration::from_millis(100);
/// What ends, ends in a moment.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// A way into the laboratory from the machine around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Api,
    Gateway,
    Prometheus,
}

/// How it is brought up.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    #[command(flatten)]
    at: At,
    /// Leave Sluice's controller out, to run your own: `cargo run -- run`
    #[arg(long)]
    no_controller: bool,
    /// The controller's program, in place of building it
    #[arg(long, value_name = "PATH", conflicts_with = "no_controller")]
    controller: Option<PathBuf>,
    /// Be the process that stays
    #[arg(long, hide = true)]
    stay: bool,
}

/// Where its files are.
#[derive(Debug, Clone, Args)]
pub struct At {
    /// The folder of its files, one for each laboratory that is to be up [default: `up` beside the built programs]
    #[arg(long, value_name = "FOLDER")]
    at: Option<PathBuf>,
}

/// What is to be applied.
#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    at: At,
    /// The namespace of what names none
    #[arg(short, long, default_value = world::NAMESPACE)]
    namespace: String,
    /// Files with Kubernetes objects in YAML
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl At {
    fn place(&self) -> Result<Place> {
        let folder = match &self.at {
            Some(folder) => std::path::absolute(folder)?,
            None => binaries::cache_dir()?.join("up"),
        };
        Ok(Place::new(folder))
    }
}

/// Brings it up, waits until it is, and says how to reach it.
pub fn up(args: &UpArgs) -> Result<ExitCode> {
    let place = args.at.place()?;
    if args.stay {
        return stay(args, &place);
    }
    place.make()?;
    let Some(_lock) = place.lock()? else {
        bail!(
            "another `cargo lab up` is bringing it up at this moment; its files are in {}",
            place.folder().display()
        );
    };
    if let Some(running) = place.running() {
        println!("The laboratory is up already (process {}).", running.pid);
        if let Some(ready) = place.ready() {
            print!("\n{}", ready.told(&place));
        }
        return Ok(ExitCode::SUCCESS);
    }
    place.clear()?;
    binaries::locate_all(&Component::ALL)?;
    let controller = match (&args.controller, args.no_controller) {
        (_, true) => None,
        (Some(program), false) => Some(std::path::absolute(program)?),
        (None, false) => {
            eprintln!("building the controller");
            bench::build(bench::repository())?;
            Some(bench::beside_this()?)
        }
    };
    tokio::runtime::Runtime::new()?.block_on(bring_up(&place, controller))
}

async fn bring_up(place: &Place, controller: Option<PathBuf>) -> Result<ExitCode> {
    let log = std::fs::File::create(place.log())?;
    // A session of its own: Ctrl-C of this terminal is for us to pass on, or not.
    let mut stays = Command::new("setsid");
    stays.arg(std::env::current_exe()?).args(["up", "--stay", "--at"]).arg(place.folder());
    match controller {
        Some(program) => stays.arg("--controller").arg(program),
        None => stays.arg("--no-controller"),
    };
    let mut child = stays
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("run setsid, which comes with the package util-linux")?;
    place.record(child.id())?;
    let mut told = 0;
    let ready = async {
        loop {
            told += tell(place, told);
            if let Some(ready) = place.ready() {
                return Ok(ready);
            }
            if let Some(status) = child.try_wait()? {
                tell(place, told);
                bail!("it ended early ({status}); its log is {}", place.log().display());
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    let outcome = tokio::select! {
        ready = ready => ready.map(Some),
        _ = tokio::signal::ctrl_c() => Ok(None),
    };
    match outcome {
        Ok(Some(ready)) => {
            print!("\n{}", ready.told(place));
            Ok(ExitCode::SUCCESS)
        }
        Ok(None) => {
            eprintln!("\ninterrupted: ending what was started");
            end(place).await?;
            Ok(ExitCode::from(130))
        }
        Err(error) => {
            end(place).await?;
            Err(error)
        }
    }
}

/// Passes on what the log says after the first so many bytes; how many more these are.
fn tell(place: &Place, after: usize) -> usize {
    let text = std::fs::read(place.log()).unwrap_or_default();
    let new = text.get(after..).unwrap_or_default();
    // Half a line waits for its other half.
    let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    // A closed standard error is no reason to end.
    let _ = std::io::stderr().write_all(&new[..whole]);
    whole
}

/// Ends it.
pub fn down(at: &At) -> Result<ExitCode> {
    let place = at.place()?;
    let Some(running) = place.running() else {
        println!("The laboratory is not up: no process that `cargo lab up` left is running.");
        place.clear()?;
        return Ok(ExitCode::SUCCESS);
    };
    tokio::runtime::Runtime::new()?.block_on(end(&place))?;
    println!("The laboratory is down: process {} and all that it ran have ended.", running.pid);
    Ok(ExitCode::SUCCESS)
}

/// Ends the process that stays, and with it all it runs; returns when nobody answers any more.
async fn end(place: &Place) -> Result<()> {
    let group = place.running().map(|running| running.pid);
    if let Some(leader) = group {
        let told = Command::new("kill").args(["-TERM", &leader.to_string()]).status()?;
        // It may have ended by itself in between.
        ensure!(told.success() || place.running().is_none(), "kill: {told}");
        // One that it was just starting may not have asked yet to end with it. Nobody else may be there.
        let _ =
            Command::new("kill").args(["-TERM", "--", &format!("-{leader}")]).stderr(Stdio::null()).status();
    }
    real::wait::until(ENDS_WITHIN, "the laboratory has ended", || {
        let gone = group.is_none_or(|leader| real::of_group(leader).is_empty());
        let ended = gone && place.running().is_none() && !place.answers();
        std::future::ready(if ended { Ok(()) } else { Err("it runs") })
    })
    .await?;
    place.clear()
}

/// Applies files as `kubectl apply --server-side` does, for those who have none.
pub fn apply(args: &ApplyArgs) -> Result<ExitCode> {
    let place = args.at.place()?;
    let ready = place.ready().filter(|_| place.running().is_some());
    let ready = ready.context("the laboratory is not up: `cargo lab up` brings it up")?;
    tokio::runtime::Runtime::new()?.block_on(async {
        real::use_ring();
        let kubeconfig = Kubeconfig::read_from(&ready.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = kube::Client::try_from(config)?;
        for file in &args.files {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let applied = real::apply_yaml(&client, &text, &args.namespace).await;
            for object in applied.with_context(|| file.display().to_string())? {
                let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
                println!("{kind} {} applied", object.metadata.name.as_deref().unwrap_or_default());
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What the process that stays does: outside it listens and waits, inside it runs the laboratory.
fn stay(args: &UpArgs, place: &Place) -> Result<ExitCode> {
    if namespace::is_outside() {
        relay::outside(place)?;
    }
    namespace::enter_with(&Component::ALL)?;
    tokio::runtime::Runtime::new()?.block_on(inside::run(place, args.controller.as_deref()))?;
    Ok(ExitCode::SUCCESS)
}

impl Ready {
    /// How to reach it and what to try, for a person.
    fn told(&self, place: &Place) -> String {
        let Self { kubeconfig, gateway, prometheus, controller } = self;
        let sluice = controller.as_ref().map_or("cargo run --".to_owned(), |path| path.display().to_string());
        let note = match controller {
            Some(_) => String::new(),
            None => format!(
                "\nNo controller runs. To run yours:\n  cargo run -- run --prometheus {prometheus} --http 127.0.0.1:0\n"
            ),
        };
        // Whoever chose the folder has to name it each time.
        let own = binaries::cache_dir().is_ok_and(|cache| place.folder() == cache.join("up"));
        let at = if own { String::new() } else { format!(" --at {}", place.folder().display()) };
        let [good, bad] =
            ["good.yaml", "bad.yaml"].map(|file| place.folder().join(file).display().to_string());
        format!(
            "The laboratory is up: Kubernetes, Istio, Envoy and Prometheus, as plain processes.\n\n\
             \x20 export KUBECONFIG={}\n\
             \x20 gateway     {gateway}  (Host: {host})\n\
             \x20 Prometheus  {prometheus}\n\
             \x20 log         {}\n{note}\n\
             In the namespace {namespace} are the Deployments iris-v1, iris-v2 and iris-v3, whose answers are errors now and\n\
             then; a VirtualService that sends all users to iris-v1; and 50 users a second. To try:\n\n\
             \x20 curl -s {gateway}/v2/models/iris/infer -H 'Host: {host}' -d '{{\"inputs\": [{{\"name\": \"input\", \"datatype\": \"FP64\", \"shape\": [1], \"data\": [2]}}]}}'\n\
             \x20 cargo lab apply{at} {good}   # iris-v2, in two steps\n\
             \x20 {sluice} get iris -n {namespace} --watch\n\
             \x20 cargo lab apply{at} {bad}    # iris-v3, which is rolled back\n\
             \x20 {sluice} abort iris -n {namespace} --reason \"I changed my mind\"\n\n\
             `cargo lab down{at}` ends it.\n",
            kubeconfig.display(),
            place.log().display(),
            host = world::HOST,
            namespace = world::NAMESPACE,
        )
    }
}
