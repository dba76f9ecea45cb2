//! From an HTTP request to what it asks of the API: verb, kind, namespace, name, subresource.

use std::{collections::HashMap, fmt, sync::Arc};

use http::{Method, header, request::Parts};

use super::{kind::Kind, refusal::Refusal, store::Store};

/// What a request does, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Replace one (PUT).
    Update,
    /// Change one (PATCH).
    Patch,
    /// Remove one.
    Delete,
    /// Remove many.
    DeleteCollection,
}

impl Verb {
    /// Whether the verb changes anything.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        })
    }
}

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
        matches!(self.parameter(name), "true" | "1")
    }

    /// `plural` or `plural/subresource`, as RBAC names it.
    pub(super) fn resource(&self) -> String {
        let plural = &self.kind.plural;
        if self.subresource.is_empty() { plural.clone() } else { format!("{plural}/{}", self.subresource) }
    }

    pub(super) fn dry_run(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    /// Reads the request line and headers.
    pub(super) fn parse(store: &Store, parts: &Parts) -> Result<Self, Refusal> {
        let path = parts.uri.path().trim_matches('/');
        let segments: Vec<&str> = path.split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Refusal::no_such_path()),
        };
        let (namespace, rest) = match rest {
            // `namespaces/x` alone, or one of its subresources, is the Namespace itself.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return Err(Refusal::no_such_path()),
        };
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
        request.verb = request.verb_of(&parts.method)?;
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

    fn verb_of(&self, method: &Method) -> Result<Verb, Refusal> {
        let one = !self.name.is_empty();
        match *method {
            Method::GET if self.flag("watch") => Ok(Verb::Watch),
            Method::GET if one => Ok(Verb::Get),
            Method::GET => Ok(Verb::List),
            Method::POST if !one => Ok(Verb::Create),
            Method::PUT if one => Ok(Verb::Update),
            Method::PATCH if one => Ok(Verb::Patch),
            Method::DELETE if one && self.subresource.is_empty() => Ok(Verb::Delete),
            Method::DELETE if !one => Ok(Verb::DeleteCollection),
            _ => Err(Refusal::method_not_allowed()),
        }
    }
}
