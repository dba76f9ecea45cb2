//! Freezes by those who may, in their own name.

use std::process::Output;

use anyhow::{Result, bail, ensure};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use sluice_core::api::{Freeze, REQUESTED_BY};
use sluice_lab::real::wait;

use crate::commands::sluice;
use crate::lab::{ANN, AUTHOR, BEN, FREEZER, LIMIT, Lab, VIEWER};

pub async fn whoever_may_freeze_does_it_in_their_own_name(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("frozen").await?;
    let (here, code) = (["-n", "frozen"], |output: &Output| output.status.code());
    let said = |output: &Output| {
        String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
    };
    let frozen = wait::until(LIMIT, "it is frozen", async || {
        let output = sluice(cluster, FREEZER, &["freeze", "-r", "incident", here[0], here[1]])
            .map_err(|error| error.to_string())?;
        if code(&output) == Some(0) { Ok(output) } else { Err(said(&output)) }
    });
    let text = said(&frozen.await?);
    ensure!(text.contains("the namespace frozen is frozen (freeze.sluice.dev/freeze-"), "{text}");
    // Stamped by the server, and shown to everybody who may look.
    let listed = wait::until(LIMIT, "who froze is shown", async || {
        let again = sluice(cluster, FREEZER, &["freeze", "-r", "again", here[0], here[1]]);
        let output = again.and_then(|_| sluice(cluster, VIEWER, &["get", here[0], here[1]]));
        let text = said(&output.map_err(|error| error.to_string())?);
        if text.contains(&format!("the namespace frozen is frozen by {FREEZER}, ")) {
            Ok(())
        } else {
            Err(text)
        }
    });
    listed.await?;
    for (user, args) in [
        (AUTHOR, &["freeze", "-r", "x", "-n", "frozen"][..]),
        (ANN, &["thaw", "-n", "frozen"]),
        (FREEZER, &["freeze", "-r", "x", "-A"]),
    ] {
        let output = sluice(cluster, user, args)?;
        let text = said(&output);
        ensure!(code(&output) == Some(4), "{args:?}: {text}");
        ensure!(
            text.contains("cannot ") && text.contains("needs the role sluice-freezer"),
            "{args:?}: {text}"
        );
    }
    // It cannot be rewritten, and nobody froze in another's name.
    let freezes: Api<Freeze> = Api::namespaced(cluster.admin()?, "frozen");
    let [freeze, ..] = &freezes.list(&ListParams::default()).await?.items[..] else { bail!("no Freeze") };
    for (change, expected) in [
        (json!({"spec": {"reason": "none"}}), "a freeze cannot be changed"),
        (json!({"metadata": {"annotations": {REQUESTED_BY: BEN}}}), "cannot be changed"),
    ] {
        let patch = Patch::Merge(change);
        let error = freezes.patch(&freeze.name_any(), &PatchParams::default(), &patch).await.unwrap_err();
        ensure!(error.to_string().contains(expected), "{error}");
    }
    let output = sluice(cluster, FREEZER, &["thaw", "-n", "frozen"])?;
    let text = said(&output);
    ensure!(
        code(&output) == Some(0) && text.contains("the namespace frozen is not frozen any more"),
        "{text}"
    );
    Ok(())
}
