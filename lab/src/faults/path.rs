//! What a request is about, from its line: verb, resource, namespace, name.

use std::fmt;

use http::Method;

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

/// The path of objects, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// Empty for the core group.
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) plural: &'a str,
    /// Empty for a collection.
    pub(crate) name: &'a str,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
}

impl<'a> Path<'a> {
    /// Its parts, if it is one of objects.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
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
            _ => return None,
        };
        Some(Self { group, version, namespace, plural, name, subresource })
    }

    /// What a request with this method does here, if anything. `watch` is whether it wants to follow.
    pub(crate) fn verb(&self, method: &Method, watch: bool) -> Option<Verb> {
        let one = !self.name.is_empty();
        match *method {
            Method::GET if watch => Some(Verb::Watch),
            Method::GET if one => Some(Verb::Get),
            Method::GET => Some(Verb::List),
            Method::POST if !one => Some(Verb::Create),
            Method::PUT if one => Some(Verb::Update),
            Method::PATCH if one => Some(Verb::Patch),
            Method::DELETE if one && self.subresource.is_empty() => Some(Verb::Delete),
            Method::DELETE if !one => Some(Verb::DeleteCollection),
            _ => None,
        }
    }

    /// The name of the object; for a creation it is in the body, and empty where the server makes it up.
    pub(crate) fn name(&self, verb: Verb, body: &[u8]) -> String {
        if verb != Verb::Create {
            return self.name.into();
        }
        let object: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        object["metadata"]["name"].as_str().unwrap_or_default().into()
    }
}

/// `plural` or `plural/subresource`, as RBAC names it.
pub(crate) fn resource(plural: &str, subresource: &str) -> String {
    if subresource.is_empty() { plural.into() } else { format!("{plural}/{subresource}") }
}

/// Whether a parameter of a query means yes.
pub(crate) fn is_set(value: &str) -> bool {
    matches!(value, "true" | "1")
}
