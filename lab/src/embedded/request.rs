//! From an HTTP request to what it asks of the API: verb, kind, namespace, name, subresource.

use std::{collections::HashMap, sync::Arc};

use http::{header, request::Parts};

use super::{kind::Kind, refusal::Refusal, store::Store};
use crate::faults::{Path, Verb, is_set, resource};

/// A request for objects.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) kind: Arc<Kind>,
    /// The version asked for, one of the kind's.
    pub(super) version: String,
    pub(super) namespace: Option<String>,
    /// Empty where the request is for a collection.
    pub(super) name: String,
    /// Empty for the object itself.
    pub(super) subresource: String,
    pub(super) query: HashMap<String, String>,
    pub(super) content_type: String,
    /// Only the metadata was asked for.
    pub(super) metadata_only: bool,
}

impl Request {
    /// A parameter of the query, empty when absent.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        is_set(self.parameter(name))
    }

    /// `plural` or `plural/subresource`, as RBAC names it.
    pub(super) fn resource(&self) -> String {
        resource(&self.kind.plural, &self.subresource)
    }

    pub(super) fn dry_run(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    /// Reads the request line and headers.
    pub(super) fn parse(store: &Store, parts: &Parts) -> Result<Self, Refusal> {
        let path = Path::parse(parts.uri.path()).ok_or_else(Refusal::no_such_path)?;
        let Path { group, version, namespace, plural, name, subresource } = path;
        let kind = store.kind(group, version, plural).ok_or_else(Refusal::no_such_path)?;
        let known = subresource.is_empty() || (subresource == "status" && kind.status);
        if !known || namespace.is_some_and(|_| !kind.namespaced) {
            return Err(Refusal::no_such_path());
        }
        let axum::extract::Query(query) =
            axum::extract::Query::<HashMap<String, String>>::try_from_uri(&parts.uri)
                .map_err(|e| Refusal::bad_request(e.to_string()))?;
        let header = |name| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let mut request = Self {
            verb: Verb::Get,
            kind,
            version: version.into(),
            namespace: namespace.map(Into::into),
            name: name.into(),
            subresource: subresource.into(),
            query,
            content_type: header(header::CONTENT_TYPE).into(),
            metadata_only: header(header::ACCEPT).contains("as=PartialObjectMetadata"),
        };
        let verb = path.verb(&parts.method, request.flag("watch"));
        request.verb = verb.ok_or_else(Refusal::method_not_allowed)?;
        // Only lists and watches reach over all namespaces.
        let across = matches!(request.verb, Verb::List | Verb::Watch);
        if request.kind.namespaced && request.namespace.is_none() && !across {
            return Err(if request.name.is_empty() {
                Refusal::method_not_allowed()
            } else {
                Refusal::no_such_path()
            });
        }
        Ok(request)
    }
}
