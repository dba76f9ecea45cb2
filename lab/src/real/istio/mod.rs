//! Istio's control plane on a [`Cluster`]: its kinds, istiod, and its validating webhook.

mod bootstrap;
mod envoy;

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::binaries::Component;
use super::folder::Folder;
use super::namespace::pod_address;
use super::process::Process;
use super::{Cluster, Error, Result, use_ring, wait};
pub use envoy::Envoy;

/// The namespace of Istio's own objects, and the one whose settings are about the whole mesh.
pub const SYSTEM: &str = "istio-system";

const WEBHOOK: &str = "istiod-default-validator";
/// istiod sends no configuration and fails no write open for longer than a few seconds; a busy machine may.
const LIMIT: Duration = Duration::from_mins(2);

// istiod has an address of its own, so its ports are free.
const XDS: u16 = 15010;
const HTTP: u16 = 8080;
const WEBHOOKS: u16 = 15017;
const MONITORING: u16 = 15014;

/// A running istiod. Dropping it ends it.
#[derive(Debug)]
pub struct Istio {
    _process: Process,
    address: Ipv4Addr,
    folder: Folder,
}

impl Istio {
    /// Installs Istio's kinds, starts istiod with its certificate authority, and waits until its webhook validates every
    /// write to them and refuses what it cannot validate: about five seconds.
    ///
    /// There is no mutual TLS, because certificates come by an agent that Envoy does not have here.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        use_ring();
        let client = cluster.admin()?;
        let folder = Folder::new()?;
        let address = pod_address();
        install_kinds(cluster).await?;
        let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {SYSTEM}}}}}");
        cluster.apply_yaml(&namespace).await?;
        for (name, content) in [("mesh.yaml", mesh()), ("networks.yaml", json!({"networks": {}}))] {
            let path = folder.path().join(name);
            fs::write(&path, content.to_string()).map_err(Error::path("write", &path))?;
        }
        let kubeconfig = cluster.kubeconfig("admin")?;
        let args = [
            "discovery".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            "--meshConfig=mesh.yaml".to_owned(),
            "--networksConfig=networks.yaml".to_owned(),
            format!("--grpcAddr={address}:{XDS}"),
            format!("--httpAddr={address}:{HTTP}"),
            format!("--httpsAddr={address}:{WEBHOOKS}"),
            format!("--monitoringAddr={address}:{MONITORING}"),
            "--secureGRPCAddr=".to_owned(),
            "--ctrlz_port=0".to_owned(),
        ];
        let program = Component::Istiod;
        let mut process = Process::spawn_with(
            program.program(),
            &program.locate()?,
            args,
            environment(address),
            folder.path(),
        )?;
        let http = format!("http://{address}:{HTTP}/ready");
        process.ready(|| answers(&http)).await?;
        validate(&client, address).await?;
        Ok(Self { _process: process, address, folder })
    }

    /// Where proxies ask for their configuration.
    fn xds(&self) -> (Ipv4Addr, u16) {
        (self.address, XDS)
    }

    /// What istiod has logged so far.
    pub fn log(&self) -> String {
        let log = self.folder.path().join(format!("{}.log", Component::Istiod.program()));
        fs::read_to_string(log).unwrap_or_default()
    }
}

/// All kinds at once: one after the other takes as long as everything else together.
async fn install_kinds(cluster: &Cluster) -> Result<()> {
    let path = Component::IstioKinds.locate()?;
    let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
    let documents = text.split("\n---\n").filter(|document| document.contains("\nkind: "));
    try_join_all(documents.map(|document| cluster.apply_yaml(document))).await.map(drop)
}

fn mesh() -> Value {
    json!({
        "rootNamespace": SYSTEM,
        "enableTracing": false,
        "defaultProviders": {},
        // With it every cluster waits for a certificate that nobody brings.
        "enableAutoMtls": false,
    })
}

fn environment(address: Ipv4Addr) -> [(&'static str, String); 9] {
    [
        ("POD_NAMESPACE", SYSTEM.to_owned()),
        ("POD_NAME", "istiod-0".to_owned()),
        ("REVISION", "default".to_owned()),
        ("PILOT_CERT_PROVIDER", "istiod".to_owned()),
        // So that the API server, which has no DNS here, believes the certificate.
        ("ISTIOD_CUSTOM_HOST", address.to_string()),
        ("VALIDATION_WEBHOOK_CONFIG_NAME", WEBHOOK.to_owned()),
        ("INJECTION_WEBHOOK_CONFIG_NAME", String::new()),
        // Filters that only Istio's own build of Envoy has.
        ("PILOT_ENABLE_ALPN_FILTER", "false".to_owned()),
        ("PILOT_ENABLE_METADATA_EXCHANGE", "false".to_owned()),
    ]
}

/// Makes the webhook as Istio's chart does, and waits until istiod has put its certificate authority into it, has seen it
/// refuse what is wrong, and has closed it.
async fn validate(client: &Client, address: Ipv4Addr) -> Result<()> {
    let groups = ["security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io"];
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK, "labels": {"app": "istiod", "istio": "istiod", "istio.io/rev": "default"}},
        "webhooks": [{
            "name": "validation.istio.io",
            "clientConfig": {"url": format!("https://{address}:{WEBHOOKS}/validate")},
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": groups,
                "apiVersions": ["*"],
                "resources": ["*"],
            }],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    });
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let params = PatchParams::apply("sluice-lab").force();
    let applied = api.patch(WEBHOOK, &params, &Patch::Apply(&configuration)).await;
    applied.map_err(Error::kube("apply istiod's webhook"))?;
    wait::until(LIMIT, "istiod's webhook fails closed", || async {
        let seen = api.get(WEBHOOK).await.map_err(|error| error.to_string())?;
        let hooks = seen.webhooks.unwrap_or_default();
        let closed = hooks.iter().all(|hook| {
            hook.failure_policy.as_deref() == Some("Fail") && hook.client_config.ca_bundle.is_some()
        });
        if closed && !hooks.is_empty() { Ok(()) } else { Err("it fails open".to_owned()) }
    })
    .await
}

/// `Ok` where the page answers with success.
async fn answers(url: &str) -> Result<(), String> {
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
}
