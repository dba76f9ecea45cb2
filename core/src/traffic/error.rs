//! What keeps a route from being read or moved.

use crate::api::{MIRRORS, Reason, STAMP};

/// Why a `VirtualService` cannot be read or edited: which one, where in it, what was expected and what was there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VirtualService {virtual_service}: {path}: {trouble}")]
pub struct RouteError {
    /// Namespace and name of the `VirtualService`.
    pub virtual_service: String,
    /// The field, like `spec.http[0].route[1].weight`.
    pub path: String,
    /// What is wrong there.
    pub trouble: Trouble,
}

/// What is wrong with a field of a `VirtualService`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There are no http routes at all.
    #[error("expected http routes, found none")]
    NoHttpRoutes,
    /// No http route has the name.
    #[error("expected an http route named {name:?}, found {}", listed(.existing, "no named route"))]
    RouteNotFound {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        existing: Vec<String>,
    },
    /// No tcp or tls route takes the connections.
    #[error("expected a {list} route that takes connections of {of}, found none")]
    NoConnectionRoute {
        /// The list of routes.
        list: &'static str,
        /// Which connections.
        of: String,
    },
    /// The route answers without a destination.
    #[error("expected a route with destinations, found {found}")]
    NoDestinations {
        /// What the route does instead, like `redirect`.
        found: String,
    },
    /// No destination is one of the Rollout's.
    #[error("expected a destination that is {}, found {}", listed(.expected, "one of the Rollout's"), listed(.found, "none"))]
    NothingManaged {
        /// Revisions of the pair.
        expected: Vec<String>,
        /// The hosts that are there, as Istio resolves them.
        found: Vec<String>,
    },
    /// The same predictor is listed twice, so that its weight is not one number.
    #[error("expected {predictor} once, found it at {first} too")]
    Duplicate {
        /// The predictor's revision.
        predictor: String,
        /// Where it was first.
        first: String,
    },
    /// The weights of the route add up to more than 100.
    #[error("expected weights that add up to 100 at most, found {sum}")]
    TooMuchWeight {
        /// What they add up to.
        sum: u32,
    },
    /// A step above 0 would give the canary nothing.
    #[error(
        "expected a share that a weight of {weight}% leaves at least 1 of, found {share}: the canary would get nothing"
    )]
    ShareTooSmall {
        /// The pair's share of the route, 0 to 100.
        share: u32,
        /// The step's weight in percent.
        weight: u8,
    },
    /// A field has a form that it cannot have.
    #[error("expected {expected}, found {found}")]
    Malformed {
        /// What belongs there.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
    /// What a route asks for leaves no room for what a step asks for.
    #[error("expected nothing about {what}, which {step} is about: both cannot be had at once")]
    Conflict {
        /// What both are about.
        what: String,
        /// The field of the Rollout.
        step: String,
    },
    /// What a step asks for is no more than what a route asks for.
    #[error(
        "expected something that not every request of this route meets, found {step}, which all of them do: it would take all of its traffic"
    )]
    TakesAll {
        /// The fields of the Rollout.
        step: String,
    },
    /// The annotation that says which mirrors are ours cannot be read.
    #[error(
        "the annotation {MIRRORS} cannot be read: expected a JSON object with an entry per Rollout, found {found}"
    )]
    UnreadableMirrors {
        /// What is there, or what the parser says about it.
        found: String,
    },
    /// The stamp's annotation cannot be read.
    #[error("the annotation {STAMP} cannot be read: expected {expected}, found {found}")]
    UnreadableStamp {
        /// What belongs there.
        expected: &'static str,
        /// What is there, or what the parser says about it.
        found: String,
    },
}

impl RouteError {
    /// The word for it in conditions, Events and metrics.
    pub fn reason(&self) -> Reason {
        match self.trouble {
            Trouble::NoHttpRoutes
            | Trouble::RouteNotFound { .. }
            | Trouble::NoConnectionRoute { .. }
            | Trouble::NoDestinations { .. }
            | Trouble::NothingManaged { .. }
            | Trouble::TooMuchWeight { .. }
            | Trouble::Malformed { .. } => Reason::RouteNotFound,
            Trouble::Duplicate { .. } => Reason::AmbiguousStable,
            Trouble::ShareTooSmall { .. } => Reason::ShareTooSmall,
            Trouble::Conflict { .. } | Trouble::TakesAll { .. } => Reason::RouteConflict,
            Trouble::UnreadableStamp { .. } | Trouble::UnreadableMirrors { .. } => Reason::InvalidStatus,
        }
    }
}

fn listed(items: &[String], none: &str) -> String {
    if items.is_empty() { none.to_owned() } else { items.join(", ") }
}
