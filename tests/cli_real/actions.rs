//! Who asked for an action is what the server says, and an action has what it needs.

use anyhow::{Result, ensure};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sluice_core::api::{REQUESTED_BY, Rollout, RolloutAction};
use sluice_lab::real::{Cluster, wait};

use crate::lab::{ANN, AUTHOR, BEN, LIMIT, Lab};

pub fn abort(claims: Option<&str>) -> RolloutAction {
    action(&json!({ "rollout": "iris", "do": "Abort" }), claims)
}

/// An action whose author claims that somebody asked for it.
fn action(spec: &Value, claims: Option<&str>) -> RolloutAction {
    let mut action: RolloutAction = serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction",
        "metadata": { "generateName": "iris-" }, "spec": spec,
    }))
    .unwrap();
    if let Some(name) = claims {
        action.annotations_mut().insert(REQUESTED_BY.to_owned(), name.to_owned());
    }
    action
}

fn who_asked(action: &RolloutAction) -> Option<&str> {
    action.annotations().get(REQUESTED_BY).map(String::as_str)
}

pub async fn create(client: Client, namespace: &str, action: &RolloutAction) -> kube::Result<RolloutAction> {
    Api::namespaced(client, namespace).create(&PostParams::default(), action).await
}

/// Creates an action as `ANN`, as soon as the policy that stamps it has been read by the server.
async fn stamped(cluster: &Cluster, namespace: &str, action: &RolloutAction) -> Result<RolloutAction> {
    let client = cluster.user(ANN)?;
    let stamp = || async {
        let created = create(client.clone(), namespace, action).await.map_err(|error| error.to_string())?;
        if who_asked(&created).is_some() { Ok(created) } else { Err("there is no stamp".to_owned()) }
    };
    Ok(wait::until(LIMIT, "an action is stamped", stamp).await?)
}

pub async fn who_asked_is_what_the_server_says(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("stamped").await?;
    for claims in [None, Some(BEN), Some(ANN)] {
        let action = stamped(cluster, "stamped", &abort(claims)).await?;
        ensure!(who_asked(&action) == Some(ANN), "{claims:?} became {:?}", who_asked(&action));
    }
    Ok(())
}

pub async fn who_asked_cannot_be_changed_later(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("unchanged").await?;
    let action = stamped(cluster, "unchanged", &abort(None)).await?;
    let actions: Api<RolloutAction> = Api::namespaced(cluster.admin()?, "unchanged");
    for annotations in [json!({ REQUESTED_BY: BEN }), json!({ REQUESTED_BY: null })] {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let error = actions.patch(&action.name_any(), &PatchParams::default(), &patch).await.unwrap_err();
        ensure!(error.to_string().contains("cannot be changed"), "{error}");
    }
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "other": "1" } } }));
    actions.patch(&action.name_any(), &PatchParams::default(), &patch).await?;
    Ok(())
}

pub async fn nobody_asks_in_anothers_name_where_there_is_no_stamp(lab: &Lab) -> Result<()> {
    let Err(error) = &lab.deployed().await?.claim_without_a_stamp else { panic!("the claim was accepted") };
    ensure!(error.to_string().contains("must be left out or be ann@example.com"), "{error}");
    Ok(())
}

pub async fn who_writes_rollouts_cannot_approve_them(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("authored").await?;
    let error = create(cluster.user(AUTHOR)?, "authored", &abort(None)).await.unwrap_err();
    ensure!(matches!(&error, kube::Error::Api(status) if status.is_forbidden()), "{error}");
    let rollouts: Api<Rollout> = Api::namespaced(cluster.user(AUTHOR)?, "authored");
    let pause = Patch::Merge(json!({ "spec": { "paused": true } }));
    rollouts.patch("iris", &PatchParams::default(), &pause).await?;
    let rollouts: Api<Rollout> = Api::namespaced(cluster.user(ANN)?, "authored");
    let error = rollouts.patch("iris", &PatchParams::default(), &pause).await.unwrap_err();
    ensure!(matches!(&error, kube::Error::Api(status) if status.is_forbidden()), "{error}");
    Ok(())
}

pub async fn an_action_without_what_it_needs_is_refused(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("needed").await?;
    for (spec, expected) in [
        (json!({ "rollout": "iris", "do": "Approve", "step": 1 }), "revision is expected"),
        (
            json!({ "rollout": "iris", "do": "Approve", "revision": "needed/iris-v2:8000" }),
            "step is expected",
        ),
        (json!({ "rollout": "", "do": "Abort" }), "spec.rollout"),
        (json!({ "rollout": "iris", "do": "Abort", "step": 0 }), "greater than or equal to 1"),
    ] {
        let error = create(cluster.user(ANN)?, "needed", &action(&spec, None)).await.unwrap_err();
        ensure!(error.to_string().contains(expected), "{error}");
    }
    Ok(())
}
