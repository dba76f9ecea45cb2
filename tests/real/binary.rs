//! The program itself, on a cluster of its own that it watches as a whole, installed as `kubectl apply -k deploy` does.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use sluice_lab::real::wait;
use tempfile::TempDir;

use crate::lab::{CONTROLLER, LIMIT, Lab, PERSON, Shared};
use crate::oracle;
use crate::world::{POD_PORT, ROUTE, World, same, same_json};

/// Gives the program a root that nothing can be written to, as its pod has it, and ends with 97 where that cannot be
/// had: all that is mounted, but what the kernel itself shows there.
const READ_ONLY: &str = r#"
mount --rbind / "$0" || exit 97
awk -v root="$0" 'index($2 "/", root "/") == 1 {print substr($2, length(root) + 1) "/"}' /proc/self/mounts |
grep -vE '^/(proc|sys|dev)/' | while read -r at; do mount -o remount,bind,ro "$0$at" 2>/dev/null; done
if touch "$0/tmp/written" 2>/dev/null; then exit 97; fi
exec chroot "$0" "$@"
"#;

/// `sluice run` on a whole cluster, killed when dropped.
pub struct Running {
    child: Child,
    url: String,
    folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where there is no process any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn start(shared: &Shared) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        // Where a pod of `deploy/` would be: there are the leases, and the right to them.
        fs::write(&kubeconfig, shared.cluster.kubeconfig_in(CONTROLLER, "sluice-system")?)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let log = fs::File::create(folder.path().join("log"))?;
        let root = folder.path().join("root");
        fs::create_dir(&root)?;
        let child = Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", READ_ONLY])
            .arg(&root)
            .arg(env!("CARGO_BIN_EXE_sluice"))
            .args(["run", "--prometheus", shared.prometheus.url(), "--http", &address])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self { child, url: format!("http://{address}"), folder })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until a page is there, and returns it.
    pub async fn page(&self, path: &str) -> Result<String> {
        let url = format!("{}{path}", self.url);
        let page = wait::until(LIMIT, format!("{path} answers"), || async {
            let answer = reqwest::get(&url).await.map_err(|error| format!("{error}: {}", self.log()))?;
            let (code, text) = (answer.status(), answer.text().await.map_err(|error| error.to_string())?);
            if code.is_success() { Ok(text) } else { Err(format!("{code}: {text}")) }
        });
        Ok(page.await?)
    }

    /// Waits until its own metrics have this line.
    async fn says(&self, line: &str) -> Result<()> {
        wait::until(LIMIT, format!("/metrics says {line}"), || async {
            let page = self.page("/metrics").await.map_err(|error| error.to_string())?;
            if page.lines().any(|there| there == line) { Ok(()) } else { Err(page) }
        })
        .await?;
        Ok(())
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(self) -> Result<(ExitStatus, String)> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(told.success(), "kill: {told}");
        self.ended().await
    }

    /// Waits for the end, and returns what was logged.
    pub async fn ended(mut self) -> Result<(ExitStatus, String)> {
        let status = wait::until(LIMIT, "the program has ended", || {
            let ended = match self.child.try_wait() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err("it runs".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            std::future::ready(ended)
        })
        .await?;
        Ok((status, self.log()))
    }
}

/// What a person types; the exit code and what was printed to both streams.
pub async fn types(shared: &Shared, arguments: &[&str]) -> Result<(i32, String)> {
    types_as(shared, PERSON, arguments).await
}

async fn types_as(shared: &Shared, user: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output = command.args(arguments).env("KUBECONFIG", shared.cluster.kubeconfig(user)?).output().await?;
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().context("it was killed")?;
    Ok((code, String::from_utf8_lossy(&text).into_owned()))
}

/// A plan is made of what is there, by whoever may read it, and says what would not be accepted.
async fn plans_and_refuses(shared: &Shared) -> Result<()> {
    let (code, text) = types_as(shared, CONTROLLER, &["plan", "iris", "-n", "good"]).await?;
    ensure!(code == 0, "{code}: {text}");
    for expected in ["iris: STEPS", "AT STEP 2  VirtualService good/iris", "iris-v2", "AT STEP promotion"] {
        ensure!(text.contains(expected), "{expected:?} is not in {text}");
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rollout.yaml");
    let rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "other", "namespace": "good"},
        "spec": {"target": {"service": {"name": "iris-v2"}}, "routes": [{"virtualService": "iris"}]},
    });
    fs::write(&file, rollout.to_string())?;
    let file = file.display().to_string();
    let (code, text) = types_as(shared, CONTROLLER, &["plan", "-f", &file, "--cluster"]).await?;
    ensure!(
        code == 4 && text.contains("RouteTaken: VirtualService good/iris is moved by Rollout good/iris"),
        "{text}"
    );
    // Whoever may only look at Rollouts is told what they lack.
    let (code, text) = types(shared, &["plan", "iris", "-n", "good"]).await?;
    ensure!(code == 4 && text.contains("cannot get resource \"virtualservices\""), "{code}: {text}");
    Ok(())
}

/// What Prometheus has recorded of the breach, judged once more.
async fn replays(shared: &Shared, bad: &World<'_>, began: DateTime<Utc>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rollout.yaml");
    let errors = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}]);
    fs::write(&file, bad.rollout("v2", json!({"checks": errors})).to_string())?;
    let (file, from) = (file.display().to_string(), began.to_rfc3339());
    let options =
        ["--prometheus", shared.prometheus.url(), "--from", &from, "--stable", "iris-v1", "--step", "200ms"];
    let (code, text) = types(shared, &[&["replay", "-f", &file], &options[..]].concat()).await?;
    ensure!(code == 8 && text.contains("A rollout would have been rolled back at"), "{code}: {text}");
    Ok(())
}

pub async fn the_program_does_the_whole_job(_: &Lab) -> Result<()> {
    let began = Utc::now();
    let shared = Shared::start().await?;
    let good = World::on(&shared, "good").await?;
    let bad = World::on(&shared, "bad").await?;
    let (good_recording, bad_recording) = (good.record().await?, bad.record().await?);
    let _users = (good.users(80.0), bad.users(80.0));
    let running = Running::start(&shared)?;
    same("livez", &running.page("/livez").await?, &"ok\n".to_owned())?;
    same("readyz", &running.page("/readyz").await?, &"ok\n".to_owned())?;
    running.says("sluice_slots_held 16").await?;

    // In one namespace by Prometheus with a gate, in another by scraping.
    let errors = json!([{"name": "errors", "errors": {"max": "1%", "minRequests": 10}}]);
    let gated = json!([{"weight": 20, "for": "600ms", "approve": true}, {"weight": 60, "for": "600ms"}]);
    good.create_rollout(&good.rollout("v2", json!({"steps": gated, "checks": errors}))).await?;
    let held = json!([{"weight": 20, "for": "600ms"}, {"weight": 50, "for": "1h"}]);
    let scraped = json!({"steps": held, "checks": errors, "metrics": {"scrape": {"port": POD_PORT}}});
    bad.create_rollout(&bad.rollout("v2", scraped)).await?;
    good.phase("Waiting", "WaitingForApproval").await?;
    bad.step(2, "iris-v2", 50).await?;

    plans_and_refuses(&shared).await?;

    // The API server goes away and comes back: nothing moves meanwhile, and everything goes on afterwards.
    let before = (good.route().await?, bad.route().await?);
    shared.cluster.stop_api_server().await;
    shared.cluster.start_api_server().await?;
    // Kinds of its own come back one by one, a moment after the server says that it is ready.
    for kind in [good.virtual_services(), good.rollouts(), good.actions()] {
        let answers = async || kind.list(&ListParams::default()).await;
        wait::until(LIMIT, "the API answers again", answers).await?;
    }
    for (world, before) in [(&good, &before.0), (&bad, &before.1)] {
        same("weights", &oracle::weights(&world.route().await?, ROUTE), &oracle::weights(before, ROUTE))?;
    }
    let (code, text) = types(&shared, &["get", "-n", "good"]).await?;
    same("exit code", &code, &0)?;
    ensure!(text.contains("Waiting") && text.contains("iris-v2"), "{text}");
    // For the policy that notes who asked a kind comes back later still, for which the command waits.
    let approve = ["approve", "iris", "-n", "good", "--reason", "as planned", "--wait", "60s"];
    let (code, text) = types(&shared, &approve).await?;
    ensure!(code == 0 && text.contains("as planned"), "{code}: {text}");
    bad.predictor("v2").set_errors(0.5);

    good.phase("Healthy", "Live").await?;
    bad.phase("RolledBack", "CheckFailed").await?;
    good.only("iris-v2").await?;
    bad.only("iris-v1").await?;
    same("weights", &good.sequence(&good_recording, "iris-v2").await?, &vec![0, 20, 60, 100])?;
    same("weights", &bad.sequence(&bad_recording, "iris-v2").await?, &vec![0, 20, 50, 0])?;
    running.says("sluice_rollouts{phase=\"Healthy\"} 1").await?;
    running.says("sluice_rollouts{phase=\"RolledBack\"} 1").await?;
    running.says("sluice_rollbacks_total{reason=\"CheckFailed\"} 1").await?;

    replays(&shared, &bad, began).await?;
    let (code, text) = types(&shared, &["get", "iris", "-n", "bad", "-o", "json"]).await?;
    same("exit code", &code, &0)?;
    let printed: Value = serde_json::from_str(&text)?;
    same_json("phase", &printed["status"]["phase"], &json!("RolledBack"))?;
    let (code, text) = types(&shared, &["approve", "iris", "-n", "good"]).await?;
    ensure!(code == 4 && text.contains("nothing is in flight"), "{code}: {text}");
    let (code, text) = types(&shared, &["get", "rose", "-n", "good"]).await?;
    ensure!(code == 3 && text.contains("there is no Rollout \"rose\""), "{code}: {text}");

    let (status, log) = running.terminate().await?;
    ensure!(status.code() == Some(0), "{status}: {log}");
    let leases: Api<Lease> = Api::namespaced(shared.cluster.admin()?, "sluice-system");
    crate::replicas::nobody_is_left(leases, "sluice-controller").await
}
