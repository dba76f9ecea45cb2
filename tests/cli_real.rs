//! What `deploy/` and `crds/` are on a real API server: accepted, restricted, and nobody can ask in another's name.
#![allow(clippy::unwrap_used, reason = "a test, though clippy knows only those of the usual harness")]

use std::{
    path::Path,
    process::{Command, ExitCode, Output},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use sluice_core::api::{REQUESTED_BY, Rollout, RolloutAction};
use sluice_lab::real::{Cluster, Options, namespace, wait};
use tokio::{runtime::Runtime, sync::OnceCell};

const CONTROLLER: &str = "system:serviceaccount:sluice-system:sluice-controller";
/// May ask for actions, and so may `BEN`.
const ANN: &str = "ann@example.com";
const BEN: &str = "ben@example.com";
/// May write Rollouts.
const AUTHOR: &str = "author@example.com";
/// Nothing here takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_mins(1);

fn main() -> Result<ExitCode> {
    namespace::enter()?;
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());

    macro_rules! trials {
        ($($name:ident),* $(,)?) => {
            vec![$({
                let (runtime, lab) = (runtime.clone(), lab.clone());
                Trial::test(stringify!($name), move || {
                    runtime.block_on($name(&lab)).map_err(|error| format!("{error:#}").into())
                })
            }),*]
        };
    }
    let trials = trials![
        who_asked_is_what_the_server_says,
        who_asked_cannot_be_changed_later,
        nobody_asks_in_anothers_name_where_there_is_no_stamp,
        who_writes_rollouts_cannot_approve_them,
        the_controller_may_do_what_it_does_and_reads_no_secrets,
        its_pod_meets_the_restricted_standard,
        the_command_line_says_what_the_server_says,
        an_action_without_what_it_needs_is_refused,
    ];
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// Started, and deployed to, by the first test that asks.
#[derive(Default)]
struct Lab(OnceCell<Result<Deployed, String>>);

/// A cluster with everything in `deploy/`.
struct Deployed {
    cluster: Cluster,
    /// What became of a claim before the policy that stamps was there, as on clusters that are too old for it.
    claim_without_a_stamp: kube::Result<RolloutAction>,
}

impl Lab {
    async fn deployed(&self) -> Result<&Deployed> {
        let start = || async { start().await.map_err(|error| format!("{error:#}")) };
        self.0
            .get_or_init(start)
            .await
            .as_ref()
            .map_err(|error| anyhow!("the cluster did not start: {error}"))
    }

    async fn cluster(&self) -> Result<&Cluster> {
        Ok(&self.deployed().await?.cluster)
    }

    async fn namespace(&self, name: &str) -> Result<&Cluster> {
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
    let users = [CONTROLLER, ANN, BEN, AUTHOR];
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

fn abort(claims: Option<&str>) -> RolloutAction {
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

async fn create(client: Client, namespace: &str, action: &RolloutAction) -> kube::Result<RolloutAction> {
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

async fn who_asked_is_what_the_server_says(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("stamped").await?;
    for claims in [None, Some(BEN), Some(ANN)] {
        let action = stamped(cluster, "stamped", &abort(claims)).await?;
        ensure!(who_asked(&action) == Some(ANN), "{claims:?} became {:?}", who_asked(&action));
    }
    Ok(())
}

async fn who_asked_cannot_be_changed_later(lab: &Lab) -> Result<()> {
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

async fn nobody_asks_in_anothers_name_where_there_is_no_stamp(lab: &Lab) -> Result<()> {
    let Err(error) = &lab.deployed().await?.claim_without_a_stamp else { panic!("the claim was accepted") };
    ensure!(error.to_string().contains("must be left out or be ann@example.com"), "{error}");
    Ok(())
}

async fn who_writes_rollouts_cannot_approve_them(lab: &Lab) -> Result<()> {
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

async fn the_controller_may_do_what_it_does_and_reads_no_secrets(lab: &Lab) -> Result<()> {
    let client = lab.cluster().await?.user(CONTROLLER)?;
    for (verb, group, resource, namespace, allowed) in [
        ("list", "sluice.dev", "rollouts", "default", true),
        ("patch", "sluice.dev", "rollouts/status", "default", true),
        ("patch", "networking.istio.io", "virtualservices", "default", true),
        ("get", "", "pods", "default", true),
        ("list", "coordination.k8s.io", "leases", "sluice-system", true),
        ("update", "coordination.k8s.io", "leases", "sluice-system", true),
        ("delete", "coordination.k8s.io", "leases", "sluice-system", true),
        ("update", "coordination.k8s.io", "leases", "default", false),
        ("create", "sluice.dev", "rollouts", "default", false),
        ("create", "sluice.dev", "rolloutactions", "default", false),
        ("delete", "networking.istio.io", "virtualservices", "default", false),
        ("get", "", "secrets", "default", false),
        ("get", "", "secrets", "sluice-system", false),
        ("list", "", "configmaps", "default", false),
    ] {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let question = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: Some(subresource.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = Api::all(client.clone()).create(&PostParams::default(), &question).await?;
        let may = answer.status.is_some_and(|status| status.allowed);
        ensure!(may == allowed, "{verb} {group}/{resource} in {namespace}: {may}, expected {allowed}");
    }
    Ok(())
}

async fn its_pod_meets_the_restricted_standard(lab: &Lab) -> Result<()> {
    let admin = lab.cluster().await?.admin()?;
    let deployments: Api<Deployment> = Api::namespaced(admin.clone(), "sluice-system");
    let template = deployments.get("sluice-controller").await?.spec.context("a spec")?.template;
    let metadata = ObjectMeta { name: Some("sluice".to_owned()), ..template.metadata.unwrap_or_default() };
    let mut pod = Pod { metadata, spec: template.spec, ..Pod::default() };
    let pods: Api<Pod> = Api::namespaced(admin, "sluice-system");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&dry_run, &pod).await?;
    // The namespace does enforce it: the same pod as root is refused.
    let spec = pod.spec.as_mut().context("a spec")?;
    spec.security_context.as_mut().context("a security context")?.run_as_non_root = Some(false);
    let error = pods.create(&dry_run, &pod).await.unwrap_err();
    ensure!(error.to_string().contains("restricted"), "{error}");
    Ok(())
}

/// Runs the command as a person would.
fn sluice(cluster: &Cluster, user: &str, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    Ok(command.args(args).env_clear().env("KUBECONFIG", cluster.kubeconfig(user)?).output()?)
}

async fn the_command_line_says_what_the_server_says(lab: &Lab) -> Result<()> {
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

async fn an_action_without_what_it_needs_is_refused(lab: &Lab) -> Result<()> {
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
