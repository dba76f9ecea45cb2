//! A cluster with everything in `deploy/`, and the people whose roles it has.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, anyhow};
use kube::ResourceExt;
use serde_json::json;
use sluice_core::api::RolloutAction;
use sluice_lab::real::{Cluster, Options, wait};
use tokio::sync::OnceCell;

use crate::actions::{abort, create};

pub const CONTROLLER: &str = "system:serviceaccount:sluice-system:sluice-controller";
/// May ask for actions, and so may `BEN`.
pub const ANN: &str = "ann@example.com";
pub const BEN: &str = "ben@example.com";
/// May write Rollouts.
pub const AUTHOR: &str = "author@example.com";
/// May look.
pub const VIEWER: &str = "viewer@example.com";
/// May freeze.
pub const FREEZER: &str = "freezer@example.com";
/// Nothing here takes this long; a busy machine may.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Started, and deployed to, by the first test that asks.
#[derive(Default)]
pub struct Lab(OnceCell<Result<Deployed, String>>);

/// A cluster with everything in `deploy/`.
pub struct Deployed {
    pub cluster: Cluster,
    /// What became of a claim before the policy that stamps was there, as on clusters that are too old for it.
    pub claim_without_a_stamp: kube::Result<RolloutAction>,
}

impl Lab {
    pub async fn deployed(&self) -> Result<&Deployed> {
        let start = || async { start().await.map_err(|error| format!("{error:#}")) };
        self.0
            .get_or_init(start)
            .await
            .as_ref()
            .map_err(|error| anyhow!("the cluster did not start: {error}"))
    }

    pub async fn cluster(&self) -> Result<&Cluster> {
        Ok(&self.deployed().await?.cluster)
    }

    pub async fn namespace(&self, name: &str) -> Result<&Cluster> {
        let cluster = self.cluster().await?;
        populate(cluster, name).await?;
        Ok(cluster)
    }
}

/// Makes a namespace with one Rollout, in which the people may do what their roles say.
async fn populate(cluster: &Cluster, name: &str) -> Result<()> {
    let binding = |user: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": user.replace('@', "."), "namespace": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        })
    };
    let rollout = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
        "metadata": { "name": "iris", "namespace": name },
        "spec": {
            "target": { "service": { "name": "iris-v2", "port": 8000 } },
            "routes": [{ "virtualService": "iris" }],
            "steps": [{ "weight": 10, "for": "1m" }],
        },
    });
    let objects = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
        binding(ANN, "sluice-approver"),
        binding(BEN, "sluice-approver"),
        binding(AUTHOR, "sluice-author"),
        binding(VIEWER, "sluice-viewer"),
        binding(FREEZER, "sluice-freezer"),
        rollout,
    ];
    let stream: Vec<String> = objects.iter().map(ToString::to_string).collect();
    cluster.apply_yaml(&stream.join("\n---\n")).await?;
    Ok(())
}

async fn apply(cluster: &Cluster, file: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let yaml = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    cluster.apply_yaml(&yaml).await.with_context(|| file.to_owned())?;
    Ok(())
}

async fn start() -> Result<Deployed> {
    let users = [CONTROLLER, ANN, BEN, AUTHOR, VIEWER, FREEZER];
    let cluster = Cluster::start(users.into_iter().fold(Options::new(), Options::user)).await?;
    for file in [
        "crds/sluice.dev.yaml",
        "deploy/base/namespace.yaml",
        "deploy/base/rbac.yaml",
        "deploy/base/roles-for-people.yaml",
        "deploy/base/service.yaml",
        "deploy/base/deployment.yaml",
        "deploy/base/validating-policy.yaml",
    ] {
        apply(&cluster, file).await?;
    }
    populate(&cluster, "unstamped").await?;
    // The server reads a policy a little after it was written: until then the claim goes through.
    let claim = || async {
        let client = cluster.user(ANN).map_err(|error| error.to_string())?;
        match create(client, "unstamped", &abort(Some(BEN))).await {
            Ok(created) => Err(format!("{} was created", created.name_any())),
            Err(refused) => Ok(Err(refused)),
        }
    };
    let claim_without_a_stamp = wait::until(LIMIT, "a claim is refused", claim).await?;
    apply(&cluster, "deploy/policy/requested-by.yaml").await?;
    Ok(Deployed { cluster, claim_without_a_stamp })
}
