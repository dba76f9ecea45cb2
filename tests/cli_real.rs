//! What `deploy/` and `crds/` are on a real API server: accepted, restricted, and nobody can ask in another's name.
#![allow(clippy::unwrap_used, reason = "a test, though clippy knows only those of the usual harness")]

use std::{
    path::Path,
    process::{Command, ExitCode, Output},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use libtest_mimic::Arguments;
use serde_json::{Value, json};
use sluice_core::api::{Freeze, REQUESTED_BY, Rollout, RolloutAction};
use sluice_lab::real::{Cluster, Options, Prometheus, Target, namespace, wait};
use tokio::{runtime::Runtime, sync::OnceCell};

const CONTROLLER: &str = "system:serviceaccount:sluice-system:sluice-controller";
/// May ask for actions, and so may `BEN`.
const ANN: &str = "ann@example.com";
const BEN: &str = "ben@example.com";
/// May write Rollouts.
const AUTHOR: &str = "author@example.com";
/// May look.
const VIEWER: &str = "viewer@example.com";
/// May freeze.
const FREEZER: &str = "freezer@example.com";
/// Nothing here takes this long; a busy machine may.
const LIMIT: Duration = Duration::from_mins(1);

fn main() -> Result<ExitCode> {
    namespace::enter()?;
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new()?);
    let lab = Arc::new(Lab::default());

    let trials = sluice_lab::trials!(
        runtime,
        lab,
        [
            who_asked_is_what_the_server_says,
            who_asked_cannot_be_changed_later,
            nobody_asks_in_anothers_name_where_there_is_no_stamp,
            who_writes_rollouts_cannot_approve_them,
            the_controller_may_do_what_it_does_and_reads_no_secrets,
            each_role_can_do_what_it_is_for_and_nothing_more,
            its_pod_meets_the_restricted_standard,
            whoever_may_freeze_does_it_in_their_own_name,
            the_command_line_says_what_the_server_says,
            metrics_that_a_real_prometheus_has_are_shown_and_others_are_missed,
            an_action_without_what_it_needs_is_refused,
        ]
    );
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
        // The copies that guard annotated SeldonDeployments.
        ("create", "sluice.dev", "rollouts", "default", true),
        ("delete", "sluice.dev", "rollouts", "default", false),
        ("create", "sluice.dev", "rolloutactions", "default", false),
        ("create", "networking.istio.io", "virtualservices", "default", true),
        ("delete", "networking.istio.io", "virtualservices", "default", false),
        ("delete", "networking.istio.io", "destinationrules", "default", false),
        ("get", "", "secrets", "default", false),
        ("get", "", "secrets", "sluice-system", false),
        ("list", "", "configmaps", "default", false),
    ] {
        let may = may(&client, verb, group, resource, namespace).await?;
        ensure!(may == allowed, "{verb} {group}/{resource} in {namespace}: {may}, expected {allowed}");
    }
    Ok(())
}

/// Whether the server lets a user do something.
async fn may(client: &Client, verb: &str, group: &str, resource: &str, namespace: &str) -> Result<bool> {
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
    Ok(answer.status.is_some_and(|status| status.allowed))
}

const LOOK: [&str; 3] = ["get", "list", "watch"];
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
/// What there is to do something to, of Sluice's and of others.
const THINGS: [(&str, &str); 14] = [
    ("sluice.dev", "rollouts"),
    ("sluice.dev", "rollouts/status"),
    ("sluice.dev", "rollouts/finalizers"),
    ("sluice.dev", "rolloutactions"),
    ("sluice.dev", "rolloutactions/status"),
    ("sluice.dev", "freezes"),
    ("networking.istio.io", "virtualservices"),
    ("", "services"),
    ("", "pods"),
    ("", "secrets"),
    ("", "configmaps"),
    ("discovery.k8s.io", "endpointslices"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "roles"),
];

async fn each_role_can_do_what_it_is_for_and_nothing_more(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("roles").await?;
    let more = |verbs: &[&'static str]| [&LOOK[..], verbs].concat();
    for (user, rollouts, actions, freezes) in [
        (VIEWER, more(&[]), more(&[]), more(&[])),
        (AUTHOR, VERBS.to_vec(), more(&[]), more(&[])),
        (ANN, more(&[]), more(&["create"]), more(&[])),
        (FREEZER, vec![], vec![], more(&["create", "delete"])),
    ] {
        let client = cluster.user(user)?;
        // The authorizer reads bindings from a cache.
        let bound = async || match may(&client, "list", "sluice.dev", "freezes", "roles").await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        wait::until(LIMIT, format!("{user} has their rights"), bound).await?;
        for (group, resource) in THINGS {
            for verb in VERBS {
                let expected = match resource {
                    "rollouts" => rollouts.contains(&verb),
                    "rolloutactions" => actions.contains(&verb),
                    "freezes" => freezes.contains(&verb),
                    _ => false,
                };
                let may_here = may(&client, verb, group, resource, "roles").await?;
                ensure!(may_here == expected, "{user}: {verb} {resource}: {may_here}, expected {expected}");
                let elsewhere = may(&client, verb, group, resource, "sluice-system").await?;
                ensure!(!elsewhere, "{user}: {verb} {resource} in sluice-system");
            }
        }
    }
    Ok(())
}

async fn whoever_may_freeze_does_it_in_their_own_name(lab: &Lab) -> Result<()> {
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

async fn its_pod_meets_the_restricted_standard(lab: &Lab) -> Result<()> {
    let admin = lab.cluster().await?.admin()?;
    let deployments: Api<Deployment> = Api::namespaced(admin.clone(), "sluice-system");
    let template = deployments.get("sluice-controller").await?.spec.context("a spec")?.template;
    let metadata = ObjectMeta { name: Some("sluice".to_owned()), ..template.metadata.unwrap_or_default() };
    let pod = Pod { metadata, spec: template.spec, ..Pod::default() };
    let pods: Api<Pod> = Api::namespaced(admin, "sluice-system");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&dry_run, &pod).await?;
    // The namespace does enforce it: without any one of the settings the same pod is refused, in words about that one.
    let pod = serde_json::to_value(&pod)?;
    let (of_pod, of_container) = ("/spec/securityContext", "/spec/containers/0/securityContext");
    for (parent, field, other, expected) in [
        (of_pod, "runAsNonRoot", Value::Null, "runAsNonRoot != true"),
        (of_pod, "runAsNonRoot", json!(false), "runAsNonRoot != true"),
        (of_pod, "runAsUser", json!(0), "runAsUser=0"),
        (of_pod, "seccompProfile", Value::Null, "seccompProfile"),
        (of_container, "allowPrivilegeEscalation", Value::Null, "allowPrivilegeEscalation != false"),
        (of_container, "capabilities", Value::Null, "unrestricted capabilities"),
        (
            of_container,
            "capabilities",
            json!({"drop": ["ALL"], "add": ["NET_RAW"]}),
            "unrestricted capabilities",
        ),
        ("/spec", "hostNetwork", json!(true), "host namespaces"),
        ("/spec", "volumes", json!([{"name": "host", "hostPath": {"path": "/"}}]), "restricted volume types"),
    ] {
        let mut changed = pod.clone();
        let fields = changed.pointer_mut(parent).and_then(Value::as_object_mut).context(parent)?;
        match other {
            Value::Null => ensure!(fields.remove(field).is_some(), "there is no {parent}/{field}"),
            other => drop(fields.insert(field.to_owned(), other)),
        }
        let changed: Pod = serde_json::from_value(changed)?;
        let error =
            pods.create(&dry_run, &changed).await.err().context(format!("without {field}: admitted"))?;
        let error = error.to_string();
        ensure!(error.contains("violates PodSecurity \"restricted"), "{field}: {error}");
        ensure!(error.contains(expected), "{field}: {error}");
    }
    // What the standard does not ask for: nothing can be written to the container's own files.
    let read_only = pod.pointer(of_container).is_some_and(|it| it["readOnlyRootFilesystem"] == true);
    ensure!(read_only && pod.pointer("/spec/volumes").is_none(), "{pod}");
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

/// What a gateway exposes about two Services.
async fn gateway() -> Result<(String, Arc<std::sync::Mutex<String>>)> {
    let text = Arc::new(std::sync::Mutex::new(String::new()));
    let told = text.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let handler = move || async move { told.lock().unwrap().clone() };
    let router = axum::Router::new().route("/metrics", axum::routing::get(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((address, text))
}

async fn metrics_that_a_real_prometheus_has_are_shown_and_others_are_missed(lab: &Lab) -> Result<()> {
    let cluster = lab.namespace("measured").await?;
    let checks = json!([
        {"name": "errors", "errors": {"max": "1%"}},
        {"name": "p99", "latency": {"max": "300ms"}},
        {"name": "accuracy", "query": {"promql": "max(accuracy{service=\"{{canary.service}}\"})", "min": 0.5}},
    ]);
    let rollouts: Api<Rollout> = Api::namespaced(cluster.admin()?, "measured");
    let patch = Patch::Merge(json!({"spec": {"checks": checks}}));
    rollouts.patch("iris", &PatchParams::default(), &patch).await?;
    let predictor = |service: &str| json!({"namespace": "measured", "service": service, "port": 8000});
    let status = json!({"status": {
        "phase": "Healthy", "reason": "Live", "message": "it is live", "seq": 1, "stage": "idle",
        "stable": predictor("iris-v1"),
    }});
    rollouts.patch_status("iris", &PatchParams::default(), &Patch::Merge(status)).await?;

    let prometheus = Prometheus::start(Duration::from_millis(200)).await?;
    let (address, text) = gateway().await?;
    let say = |requests: u32| {
        let to = r#"reporter="source",destination_service_name="iris-v1",destination_service_namespace="measured""#;
        let histogram = "istio_request_duration_milliseconds";
        *text.lock().unwrap() = format!(
            "istio_requests_total{{{to},response_code=\"200\"}} {requests}\n{histogram}_bucket{{{to},le=\"250\"}} {requests}\n\
             {histogram}_bucket{{{to},le=\"500\"}} {requests}\n{histogram}_bucket{{{to},le=\"+Inf\"}} {requests}\n\
             {histogram}_count{{{to}}} {requests}\naccuracy{{service=\"iris-v2\"}} 0.75\n"
        );
    };
    say(1000);
    prometheus.set_targets([Target::new(&address)]).await?;
    let counted = async |least: f64| {
        wait::until(LIMIT, "the gateway was scraped", || async {
            let samples =
                prometheus.query("istio_requests_total").await.map_err(|error| error.to_string())?;
            if samples.iter().any(|sample| sample.value >= least) {
                Ok(())
            } else {
                Err(format!("{samples:?}"))
            }
        })
        .await
    };
    counted(1000.0).await?;
    say(1100);
    counted(1100.0).await?;
    let args = ["metrics", "check", "iris", "-n", "measured", "--prometheus", prometheus.url()];
    let output = sluice(cluster, VIEWER, &args)?;
    let shown = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "profile istio, from source default, the last 5m",
        "stable  100       0 (0%)",
        "measured/iris-v2:8000",
        "300ms is no bound of the histograms: it is judged by 250ms and 500ms",
        "answers 0.75",
        r#"no series about measured/iris-v2:8000; there are others, labelled {destination_service_name="iris-v1""#,
    ] {
        ensure!(
            shown.contains(expected),
            "{expected:?} is not in\n{shown}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // The canary has not been given anything yet, so nothing is wrong with that.
    ensure!(output.status.code() == Some(0), "{:?}", output.status);
    let in_flight = json!({"status": {
        "phase": "Progressing", "canary": predictor("iris-v2"),
        "progress": {"number": 1, "of": 1, "name": "1", "needsApproval": false},
    }});
    rollouts.patch_status("iris", &PatchParams::default(), &Patch::Merge(in_flight)).await?;
    let output = sluice(cluster, VIEWER, &[&args[..], &["-o", "json"]].concat())?;
    ensure!(output.status.code() == Some(10), "{:?}", output.status);
    let object: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(object["arms"][1]["counters"] == 0 && object["missing"][0]["matters"] == true, "{object}");
    // A source that is not there is said with its name, and the password of its URL is not said at all.
    let output = sluice(
        cluster,
        VIEWER,
        &["metrics", "check", "iris", "-n", "measured", "--prometheus", "http://u:s3cr3t@127.0.0.1:1"],
    )?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(shown.contains("metrics source default cannot be asked") && !shown.contains("s3cr3t"), "{shown}");
    ensure!(output.status.code() == Some(10), "{:?}", output.status);
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
