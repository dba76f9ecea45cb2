//! What a test is given, and short words for what tests do.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client,
    api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use sluice_lab::scene::{Scene, eventually};

pub(crate) const GROUP: &str = "conformance.sluice.dev";
/// Nothing here takes this long; a busy machine may.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A client that may do everything, and a namespace of the test's own. There are two kinds of its own: `Thing`, with a
/// status subresource and served as v1 and v1beta1, and `Plain`, without.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    is_real: bool,
    pub(crate) things: Api<DynamicObject>,
    pub(crate) plains: Api<DynamicObject>,
    pub(crate) maps: Api<ConfigMap>,
}

impl World {
    pub(crate) async fn new(client: Client, n: usize, is_real: bool) -> Self {
        for (kind, plural, status) in [("Thing", "things", true), ("Plain", "plains", false)] {
            define(&client, kind, plural, status).await;
        }
        let namespace = format!("conformance-{n}");
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        Self {
            things: Api::namespaced_with(client.clone(), &namespace, &thing_kind("v1")),
            plains: Api::namespaced_with(client.clone(), &namespace, &kind("v1", "Plain", "plains")),
            maps: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
            is_real,
        }
    }

    /// A scene in the test's namespace.
    pub(crate) async fn scene(&self) -> Scene {
        let scene = if self.is_real {
            Scene::on_real(&self.client, &self.namespace).await
        } else {
            Scene::new(&self.client, &self.namespace).await
        };
        scene.unwrap()
    }

    /// Creates a `Thing` with this spec.
    pub(crate) async fn thing(&self, name: &str, spec: Value) -> DynamicObject {
        self.things.create(&PostParams::default(), &thing(name, json!({"spec": spec}))).await.unwrap()
    }

    /// Creates a `Thing` with a label `color`.
    pub(crate) async fn colored(&self, name: &str, color: &str) -> DynamicObject {
        let object = thing(name, json!({"metadata": {"labels": {"color": color}}}));
        self.things.create(&PostParams::default(), &object).await.unwrap()
    }

    /// Sends a request as it is, and answers code and body.
    pub(crate) async fn raw(&self, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(kube::client::Body::from(body.as_bytes().to_vec()))
            .unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect_bytes().await.unwrap();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The path of the `Thing`s of this namespace.
    pub(crate) fn path(&self) -> String {
        format!("/apis/{GROUP}/v1/namespaces/{}/things", self.namespace)
    }

    /// What a watch says.
    pub(crate) async fn watch(&self, params: WatchParams, version: &str) -> Watch {
        watch(&self.things, params, version).await
    }
}

pub(crate) fn kind(version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, version, kind), plural)
}

pub(crate) fn thing_kind(version: &str) -> ApiResource {
    kind(version, "Thing", "things")
}

pub(crate) fn virtual_services(world: &World) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let kind = ApiResource::from_gvk_with_plural(&kind, "virtualservices");
    Api::namespaced_with(world.client.clone(), &world.namespace, &kind)
}

/// A `Thing` with these fields besides its name.
pub(crate) fn thing(name: &str, fields: Value) -> DynamicObject {
    object(&thing_kind("v1"), name, fields)
}

pub(crate) fn object(kind: &ApiResource, name: &str, mut fields: Value) -> DynamicObject {
    let metadata: ObjectMeta = serde_json::from_value(fields["metadata"].take()).unwrap_or_default();
    let mut object = DynamicObject::new(name, kind);
    object.metadata = ObjectMeta { name: (!name.is_empty()).then(|| name.into()), ..metadata };
    fields.as_object_mut().unwrap().remove("metadata");
    object.data = fields;
    object
}

async fn define(client: &Client, kind: &str, plural: &str, status: bool) {
    let subresources = if status { json!({"status": {}}) } else { json!({}) };
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage, "subresources": subresources,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        })
    };
    let name = format!("{plural}.{GROUP}");
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
    let definition = object(
        &resource,
        &name,
        json!({"spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [version("v1", true), version("v1beta1", false)],
        }}),
    );
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match definitions.create(&PostParams::default(), &definition).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(other) => panic!("{other}"),
    }
    eventually(LIMIT, "the kind is served", || async {
        let things: Api<DynamicObject> =
            Api::default_namespaced_with(client.clone(), &self::kind("v1", kind, plural));
        things.list(&kube::api::ListParams::default()).await.map(drop)
    })
    .await
    .unwrap();
}

/// The code of a refusal.
pub(crate) fn code<T: Debug>(result: Result<T, kube::Error>) -> u16 {
    refusal(result).code
}

/// A refusal, whole.
pub(crate) fn refusal<T: Debug>(result: Result<T, kube::Error>) -> Box<kube::core::Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub(crate) fn version(object: &DynamicObject) -> String {
    object.metadata.resource_version.clone().unwrap()
}

pub(crate) fn generation(object: &DynamicObject) -> Option<i64> {
    object.metadata.generation
}

pub(crate) async fn merge(
    api: &Api<DynamicObject>,
    name: &str,
    patch: Value,
) -> Result<DynamicObject, kube::Error> {
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

pub(crate) async fn json_patch(
    api: &Api<DynamicObject>,
    name: &str,
    patch: Value,
) -> Result<DynamicObject, kube::Error> {
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    api.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await
}

type Events = futures::stream::BoxStream<'static, Result<WatchEvent<DynamicObject>, kube::Error>>;

/// A watch, read event by event.
pub(crate) struct Watch(Events);

pub(crate) async fn watch(api: &Api<DynamicObject>, params: WatchParams, version: &str) -> Watch {
    Watch(api.watch(&params, version).await.unwrap().boxed())
}

/// What an event says, in short.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Added(String),
    Modified(String),
    Deleted(String),
    Bookmark,
    Error(u16),
}

pub(crate) fn added(name: &str) -> Said {
    Said::Added(name.into())
}

pub(crate) fn modified(name: &str) -> Said {
    Said::Modified(name.into())
}

pub(crate) fn deleted(name: &str) -> Said {
    Said::Deleted(name.into())
}

impl Watch {
    /// The next event, whatever it is; `None` at the end of the watch.
    pub(crate) async fn event(&mut self) -> Option<WatchEvent<DynamicObject>> {
        next(&mut self.0).await.map(Result::unwrap)
    }

    /// The next event but bookmarks, in short.
    pub(crate) async fn says(&mut self) -> Said {
        loop {
            match said(&self.event().await.unwrap()) {
                Said::Bookmark => {}
                other => return other,
            }
        }
    }

    /// The object of the next event but bookmarks.
    pub(crate) async fn object(&mut self) -> DynamicObject {
        loop {
            match self.event().await.unwrap() {
                WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => return o,
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(e) => panic!("{e:?}"),
            }
        }
    }
}

pub(crate) fn said(event: &WatchEvent<DynamicObject>) -> Said {
    let name = |o: &DynamicObject| o.metadata.name.clone().unwrap();
    match event {
        WatchEvent::Added(o) => Said::Added(name(o)),
        WatchEvent::Modified(o) => Said::Modified(name(o)),
        WatchEvent::Deleted(o) => Said::Deleted(name(o)),
        WatchEvent::Bookmark(_) => Said::Bookmark,
        WatchEvent::Error(e) => Said::Error(e.code),
    }
}

/// The next item of a stream, within the limit.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    tokio::time::timeout(LIMIT, stream.next())
        .await
        .unwrap_or_else(|_| panic!("nothing came within {LIMIT:?}"))
}
