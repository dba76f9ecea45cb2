//! The command line against a real server, under the rights of those who type.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use kube::{Api, api::ListParams};
use sluice_core::api::RolloutAction;
use sluice_lab::real::Cluster;

use crate::lab::{ANN, AUTHOR, Lab};

/// Runs the command as a person would.
pub fn sluice(cluster: &Cluster, user: &str, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    Ok(command.args(args).env_clear().env("KUBECONFIG", cluster.kubeconfig(user)?).output()?)
}

pub async fn the_command_line_says_what_the_server_says(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("commanded").await?;
    for (user, args, code, out, err) in [
        (ANN, &["get", "-n", "commanded"][..], 0, "iris  Pending", ""),
        (ANN, &["get", "iris", "-n", "commanded"], 0, "promotion  100%", ""),
        (ANN, &["get", "wine", "-n", "commanded"], 3, "", "there is no Rollout \"wine\""),
        (ANN, &["get", "-A"], 4, "", "cannot list resource \"rollouts\""),
        (ANN, &["approve", "iris", "-n", "commanded"], 4, "", "nothing is in flight: iris is Pending"),
        (ANN, &["abort", "iris", "-n", "commanded", "--wait", "0s"], 0, "was created", ""),
        (
            ANN,
            &["abort", "iris", "-n", "commanded", "--wait", "10ms"],
            6,
            "",
            "there was no answer within 10ms",
        ),
        (AUTHOR, &["abort", "iris", "-n", "commanded"], 4, "", "cannot create resource \"rolloutactions\""),
    ] {
        let output = sluice(cluster, user, args)?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.code() == Some(code), "{args:?}: {:?}: {stdout}{stderr}", output.status);
        ensure!(stdout.contains(out) && stderr.contains(err), "{args:?}: {stdout}{stderr}");
    }
    let actions: Api<RolloutAction> = Api::namespaced(cluster.admin()?, "commanded");
    let created = actions.list(&ListParams::default().labels("sluice.dev/rollout=iris")).await?;
    ensure!(created.items.len() == 2, "{} actions", created.items.len());
    Ok(())
}
