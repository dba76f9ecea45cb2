//! The controller's pod is as restricted as its namespace asks.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use crate::lab::Lab;

pub async fn its_pod_meets_the_restricted_standard(lab: &Lab) -> Result<()> {
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
