//! `VirtualService`s as people and tools write them, through the real server: what it stores of a patch is what the pure
//! core said, and all that is not managed is as it was.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use sluice_core::traffic::stamp::{self, Stamp};
use sluice_core::traffic::{self, Cluster, Selection, Setting};
use sluice_core::{HostNames, Predictor};

use crate::install::repository;
use crate::lab::Lab;
use crate::world::{World, same_json};

/// Not the name of any Rollout that a controller of the tests could see.
const ROLLOUT: &str = "files/iris";

/// The pairs that the files are about; the first whose stable a file has.
const PAIRS: [(&str, &str); 4] = [
    ("iris-v1", "iris-v2"),
    ("iris-main#main", "iris-canary#canary"),
    ("reviews#v1", "reviews#v2"),
    ("wine-v1", "wine-v2"),
];

/// The versions of the kind.
const SERVED: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

struct File {
    name: String,
    text: Value,
}

fn files() -> Result<Vec<File>> {
    let folder: PathBuf = repository().join("core/tests/data/virtual_services");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut text: Value =
            serde_saphyr::from_str(&fs::read_to_string(&path)?).with_context(|| name.clone())?;
        // Versions to come are not served yet.
        if !SERVED.iter().any(|version| text["apiVersion"] == format!("networking.istio.io/{version}")) {
            text["apiVersion"] = "networking.istio.io/v1".into();
        }
        files.push(File { name, text });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// What the pure core makes of a `VirtualService` of the server.
fn edited(file: &str, object: &Value, setting: &Setting) -> Result<traffic::Edit> {
    let domain = if file == "other_domain" { "corp.example" } else { "cluster.local" };
    let names = HostNames { cluster_domain: domain.to_owned(), ..HostNames::default() };
    let ports = |_: &str, service: &str| match service {
        "reviews" => Some(vec![9080]),
        "iris-main" | "iris-canary" | "iris-rest-and-rpc" => Some(vec![8000, 5001]),
        _ => Some(vec![8000]),
    };
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let selection = Selection {
        namespace: text("namespace"),
        name: text("name"),
        rollout: "models/iris".to_owned(),
        http: Vec::new(),
        tcp: Vec::new(),
        tls: Vec::new(),
    };
    let cluster = Cluster { names: &names, ports: &ports };
    let mut edit = traffic::edit_what_can_be(object, &selection, setting, &cluster);
    let said = Stamp { seq: 7, setting: setting.weight, ..Stamp::default() };
    stamp::write(&mut edit.after, ROLLOUT, &said).map_err(|error| anyhow!("{file}: {error}"))?;
    Ok(edit)
}

/// The pair that a file is about, where it is about one.
fn setting(file: &str, object: &Value, weight: u8) -> Result<Option<Setting>> {
    let namespace = if file.starts_with("subsets") { "shop" } else { "models" };
    for (stable, canary) in PAIRS {
        let predictor = |name: &str| -> Result<Predictor> {
            let (service, subset) =
                name.split_once('#').map_or((name, None), |(s, subset)| (s, Some(subset)));
            let port = if service == "reviews" { 9080 } else { 8000 };
            let subset = subset.map(|subset| format!("#{subset}")).unwrap_or_default();
            format!("{namespace}/{service}:{port}{subset}")
                .parse()
                .map_err(|error| anyhow!("{name}: {error}"))
        };
        let setting =
            Setting { canary: Some(predictor(canary)?), weight, ..Setting::all_to(predictor(stable)?) };
        if edited(file, object, &setting)?.routes > 0 {
            return Ok(Some(setting));
        }
    }
    Ok(None)
}

/// The object without what is the server's own, and without what is managed: destinations of http routes, the stamp.
fn others(object: &Value) -> Value {
    let mut object = without_versions(object);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let left = annotations.is_some_and(|annotations| {
            annotations.remove("sluice.dev/stamp");
            !annotations.is_empty()
        });
        metadata.retain(|field, _| left || field != "annotations");
    }
    let routes = object.pointer_mut("/spec/http").and_then(Value::as_array_mut);
    for route in routes.into_iter().flatten() {
        if let Some(destinations) = route.get_mut("route") {
            *destinations = Value::Null;
        }
    }
    object
}

fn without_versions(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for own in ["resourceVersion", "generation", "managedFields", "uid", "creationTimestamp"] {
            metadata.remove(own);
        }
    }
    object
}

fn weights(object: &Value) -> Vec<u64> {
    let routes = object["spec"]["http"].as_array().into_iter().flatten();
    let sum = |route: &Value| {
        let entries = route["route"].as_array().into_iter().flatten();
        entries.map(|entry| entry["weight"].as_u64().unwrap_or(0)).sum()
    };
    routes.map(sum).collect()
}

async fn namespace_of(world: &World<'_>, object: &Value) -> Result<String> {
    let namespace = object["metadata"]["namespace"].as_str().context("a namespace")?.to_owned();
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
    let namespaces: Api<DynamicObject> = Api::all_with(world.client.clone(), &kind);
    if namespaces.get_opt(&namespace).await?.is_none() {
        let object = DynamicObject::new(&namespace, &kind);
        namespaces.create(&PostParams::default(), &object).await?;
    }
    Ok(namespace)
}

pub async fn the_server_stores_of_each_file_what_was_meant_and_all_else_as_it_was(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "files").await?;
    let files = files()?;
    ensure!(files.len() >= 25, "{} files", files.len());
    let mut moved = BTreeMap::new();
    for File { name, text } in files {
        let namespace = namespace_of(&world, &text).await?;
        let version = text["apiVersion"].as_str().and_then(|version| version.split_once('/'));
        let (group, version) = version.with_context(|| format!("{name}: an apiVersion"))?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, "VirtualService"));
        let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &namespace, &kind);
        let mut object: DynamicObject = serde_json::from_value(text.clone())?;
        object.metadata.resource_version = None;
        let object_name = object.metadata.name.clone().unwrap_or_default();
        let created = api.create(&PostParams::default(), &object).await.with_context(|| name.clone())?;
        let created = serde_json::to_value(created)?;
        // Whatever else stands there is not for people to create.
        let (is, sent) = (others(&created), others(&text));
        for part in ["/spec", "/metadata/labels", "/metadata/annotations"] {
            let [is, sent] = [&is, &sent].map(|object| object.pointer(part).unwrap_or(&Value::Null));
            same_json(&format!("{name}: {part} as created"), is, sent)?;
        }

        if let Some(setting) = setting(&name, &created, 25)? {
            let edit = edited(&name, &created, &setting)?;
            let patch = traffic::patch(&created, &edit.after).with_context(|| format!("{name}: no patch"))?;
            let patch = Patch::Json::<()>(patch);
            let stored = api.patch(&object_name, &PatchParams::default(), &patch).await;
            let stored = serde_json::to_value(stored.with_context(|| name.clone())?)?;
            same_json(
                &format!("{name}: as stored"),
                &without_versions(&stored),
                &without_versions(&edit.after),
            )?;
            same_json(&format!("{name}: what is not managed"), &others(&stored), &others(&created))?;
            // Where one destination had no weight it had all of them.
            for (route, (before, after)) in weights(&created).into_iter().zip(weights(&stored)).enumerate() {
                let whole = if before == 0 && after != 0 { 100 } else { before };
                ensure!(after == whole, "{name}: route {route} adds up to {after}, expected {whole}");
            }
            // The same once more is no change.
            let again = edited(&name, &stored, &setting)?;
            ensure!(traffic::patch(&stored, &again.after).is_none(), "{name}: it is not settled");
            moved.insert(name.clone(), edit.routes);
        }
        api.delete(&object_name, &DeleteParams::default()).await?;
    }
    ensure!(moved.len() >= 24, "of few files a route was moved: {moved:?}");
    ensure!(moved.get("two_hundred_routes").is_some_and(|routes| *routes > 0), "{moved:?}");
    Ok(())
}
