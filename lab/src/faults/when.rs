//! Which requests and events a fault strikes.

use std::fmt;

use super::Verb;

/// Which requests, or watch events, a fault strikes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    verbs: Vec<Verb>,
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    pub(super) first: u64,
    pub(super) times: Option<u64>,
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self { first: 1, ..Self::default() }
    }

    /// Every request that writes.
    pub fn writes() -> Self {
        use Verb::{Create, Delete, DeleteCollection, Patch, Update};
        Self { verbs: vec![Create, Update, Patch, Delete, DeleteCollection], ..Self::any() }
    }

    /// Every request that reads, watches among them.
    pub fn reads() -> Self {
        Self { verbs: vec![Verb::Get, Verb::List, Verb::Watch], ..Self::any() }
    }

    /// Requests with this verb.
    pub fn verb(verb: Verb) -> Self {
        Self { verbs: vec![verb], ..Self::any() }
    }

    /// Only for this resource: `rollouts` for the objects, `rollouts/status` for their subresource, `rollouts/*` for
    /// both.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only in this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only for the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only the n-th match, counted from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { first: n, times: Some(1), ..self }
    }

    /// The n-th match, counted from 1, and all after it.
    #[must_use]
    pub fn from(self, n: u64) -> Self {
        Self { first: n, ..self }
    }

    /// At most so many times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Whether it is only about this resource (`plural` or `plural/subresource`).
    pub fn is_of(&self, resource: &str) -> bool {
        self.resource.as_deref() == Some(resource)
    }

    pub(super) fn of_any_verb(self) -> Self {
        Self { verbs: Vec::new(), ..self }
    }

    /// All writes to one object.
    pub(crate) fn writes_to(target: &Target<'_>) -> Self {
        Self::writes().resource(target.resource).namespace(target.namespace).name(target.name)
    }

    pub(super) fn matches(&self, what: &Target<'_>) -> bool {
        let resource = self.resource.as_deref().is_none_or(|wanted| match wanted.strip_suffix("/*") {
            Some(plural) => what.resource.split('/').next() == Some(plural),
            None => wanted == what.resource,
        });
        resource
            && (self.verbs.is_empty() || self.verbs.contains(&what.verb))
            && self.namespace.as_deref().is_none_or(|n| n == what.namespace)
            && self.name.as_deref().is_none_or(|n| n == what.name)
    }
}

impl fmt::Display for When {
    /// `write 2 of virtualservices models/iris`, as a failed test should say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = || "*".to_string();
        let verbs: Vec<String> = self.verbs.iter().map(ToString::to_string).collect();
        let verbs = if verbs.len() == 1 { verbs.concat() } else { "request".into() };
        let verbs = if self.verbs == Self::writes().verbs { "write".into() } else { verbs };
        let (resource, namespace, name) = (&self.resource, &self.namespace, &self.name);
        let text = |given: &Option<String>| given.clone().unwrap_or_else(any);
        write!(f, "{verbs} {} of {} {}/{}", self.first, text(resource), text(namespace), text(name))
    }
}

/// What a request or an event is about, for matching.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) verb: Verb,
    pub(crate) resource: &'a str,
    pub(crate) namespace: &'a str,
    /// Empty where the request is for a collection.
    pub(crate) name: &'a str,
}

/// Conditions of writes as they came, each narrowed to strike exactly it when the same is run again: the n-th write to its
/// object.
pub(crate) fn numbered<'a>(written: impl Iterator<Item = &'a When>) -> Vec<When> {
    let (mut seen, mut points): (Vec<&When>, Vec<When>) = Default::default();
    for when in written {
        seen.push(when);
        let n = seen.iter().filter(|w| **w == when).count();
        points.push(when.clone().nth(n as u64));
    }
    points
}
