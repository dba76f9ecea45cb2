//! `cargo lab up`, `apply` and `down`, as a person uses them from the machine around the laboratory.
#![allow(clippy::unwrap_used, reason = "what is shared by tests is a test's, too")]

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use sluice_lab::real::{Users, of_group, wait};
use sluice_lab::{bench, cargo};

/// Nothing takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_mins(3);

fn lab(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-lab"));
    command.args(arguments).arg("--at").arg(folder).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// What stands behind a word at the beginning of a line.
fn value<'a>(text: &'a str, word: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(word));
    line.unwrap_or_else(|| panic!("{word:?} in:\n{text}")).trim().split("  ").next().unwrap()
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

async fn client(kubeconfig: &str) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    kube::Client::try_from(config.unwrap()).unwrap()
}

/// The Rollouts of the namespace that comes with it.
fn rollouts(client: kube::Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("sluice.dev", "v1alpha1", "Rollout");
    Api::namespaced_with(client, "models", &ApiResource::from_gvk(&kind))
}

/// Processes of this machine whose command line names the folder.
fn processes(folder: &Path) -> Vec<String> {
    let name = folder.display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_up_for_the_machine_around_it_and_goes_down() {
    // That it may be there already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let down = lab(folder, &["down"]).output().unwrap();
    assert!(down.status.success() && said(&down).contains("is not up"), "{}", said(&down));
    let apply = lab(folder, &["apply", "any.yaml"]).output().unwrap();
    assert!(!apply.status.success() && said(&apply).contains("is not up"), "{}", said(&apply));

    let up = lab(folder, &["up", "--no-controller"]).output().unwrap();
    let text = said(&up);
    assert!(up.status.success(), "{text}");
    assert!(text.contains("The laboratory is up"), "{text}");
    let client = client(value(&text, "export KUBECONFIG=")).await;
    Api::<Namespace>::all(client.clone()).get("models").await.unwrap();
    let gateway = address(value(&text, "gateway"));
    let answer = Users::infer(gateway, "iris.example.com", "iris").ask(1).await.remove(0);
    assert_eq!((answer.status, answer.by.as_str()), (200, "iris-v1"), "{answer:?}");
    let query = format!("{}/api/v1/query?query=count(up==1)", value(&text, "Prometheus"));
    wait::until(LIMIT, "Prometheus scrapes the three pods", || async {
        let answer = reqwest::get(&query).await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if text.contains("\"3\"") { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    let apply = lab(folder, &["apply", folder.join("good.yaml").to_str().unwrap()]).output().unwrap();
    assert_eq!(said(&apply), "Rollout iris applied\n");
    rollouts(client).get("iris").await.unwrap();

    let again = lab(folder, &["up", "--no-controller"]).output().unwrap();
    let again = said(&again);
    assert!(again.contains("is up already"), "{again}");
    assert_eq!(value(&again, "gateway"), value(&text, "gateway"), "it tells the way once more");

    let down = lab(folder, &["down"]).output().unwrap();
    assert!(down.status.success() && said(&down).contains("is down"), "{}", said(&down));
    assert!(TcpStream::connect(gateway).is_err(), "nobody listens any more");
    assert_eq!(processes(folder), [""; 0]);
}

/// Waits until the Rollout `iris` is in a phase and `iris-v2` answers everybody.
async fn ends(rollouts: &Api<DynamicObject>, phase: &str, reason: &str, gateway: SocketAddr) {
    wait::until(LIMIT, format!("iris is {phase} ({reason})"), || async {
        let rollout = rollouts.get("iris").await.map_err(|error| error.to_string())?;
        let status = &rollout.data["status"];
        let stands = status["phase"] == phase && status["reason"] == reason;
        if stands { Ok(()) } else { Err(status.to_string()) }
    })
    .await
    .unwrap();
    // The route is written a moment after the status, and Envoy hears of it a moment later.
    wait::until(LIMIT, "iris-v2 answers everybody", || async {
        let answers = Users::infer(gateway, "iris.example.com", "iris").ask(20).await;
        let all = answers.iter().all(|answer| (answer.status, answer.by.as_str()) == (200, "iris-v2"));
        if all { Ok(()) } else { Err(format!("{answers:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn its_controller_promotes_the_good_release_and_rolls_the_bad_one_back() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let program = cargo::build_programs(bench::repository()).unwrap().join("sluice");
    let program = program.to_str().unwrap();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let up = lab(folder, &["up", "--controller", program]).output().unwrap();
    let text = said(&up);
    assert!(up.status.success() && text.contains("Sluice's controller has its leases"), "{text}");
    assert!(!text.contains("No controller runs"), "{text}");
    let process: Value =
        serde_json::from_slice(&std::fs::read(folder.join("process.json")).unwrap()).unwrap();
    let leader = u32::try_from(process["pid"].as_u64().unwrap()).unwrap();
    let running = of_group(leader);
    for part in
        ["etcd", "kube-apiserver", "kube-controller-manager", "pilot-discovery", "envoy", "prometheus"]
    {
        assert!(running.iter().any(|line| line.contains(part)), "no {part} in {running:#?}");
    }

    let kubeconfig = value(&text, "export KUBECONFIG=");
    let rollouts = rollouts(client(kubeconfig).await);
    let gateway = address(value(&text, "gateway"));
    // The good one in a hurry: it is about its end, and the bad one's is as early as it can be.
    let good = std::fs::read_to_string(folder.join("good.yaml")).unwrap();
    assert!(good.contains("for: 20s"), "{good}");
    std::fs::write(folder.join("quick.yaml"), good.replace("for: 20s", "for: 2s")).unwrap();
    let apply = |file: &str| {
        let apply = lab(folder, &["apply", folder.join(file).to_str().unwrap()]).output().unwrap();
        assert_eq!(said(&apply), "Rollout iris applied\n");
    };
    apply("quick.yaml");
    ends(&rollouts, "Healthy", "Live", gateway).await;
    apply("bad.yaml");
    ends(&rollouts, "RolledBack", "CheckFailed", gateway).await;
    // As it says what to try.
    assert!(text.contains(&format!("{program} get iris -n models --watch")), "{text}");
    let get =
        Command::new(program).args(["get", "iris", "-n", "models"]).env("KUBECONFIG", kubeconfig).output();
    let get = get.unwrap();
    assert!(get.status.success() && said(&get).contains("RolledBack"), "{}", said(&get));

    let down = lab(folder, &["down"]).output().unwrap();
    assert!(down.status.success() && said(&down).contains("is down"), "{}", said(&down));
    assert_eq!(of_group(leader), [""; 0], "what is left of it");
}

#[test]
fn an_interrupt_while_it_comes_up_ends_what_was_started() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let up = lab(folder, &["up", "--no-controller"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !folder.join("ports.json").exists() {
        assert!(begun.elapsed() < LIMIT, "nothing was started");
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap();
    assert!(told.success());
    let ended = up.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", said(&ended));
    assert!(said(&ended).contains("interrupted"), "{}", said(&ended));
    assert_eq!(processes(folder), [""; 0]);
    let down = lab(folder, &["down"]).output().unwrap();
    assert!(said(&down).contains("is not up"), "{}", said(&down));
}
