//! What is wanted of a route, and what the cluster has to say about it.

use std::time::Duration;

use super::destination::DestinationView;
use crate::{HostNames, Predictor, api::Percent, plan::PlannedMatch};

/// The wanted traffic of the pair.
///
/// A predictor that is named more than once counts as the first of stable, canary, retiring and known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The predictor that gets what the canary does not.
    pub stable: Predictor,
    /// The other arm while a rollout runs: both arms stay listed then, at whatever weight.
    pub canary: Option<Predictor>,
    /// The canary's part of the pair's share in percent, 0 to 100; more counts as 100.
    pub weight: u8,
    /// Requests that go to the canary whatever the weight.
    pub matches: Vec<PlannedMatch>,
    /// The share of the requests of a route that is copied to the canary.
    pub mirror: Percent,
    /// What keeps a client on the arm that the weight gave it.
    pub sticky: Option<Sticky>,
    /// Predictors that stay listed, with weight 0, where they are listed.
    pub retiring: Vec<Predictor>,
    /// Predictors of the past: what weight they are given belongs to stable, and they are not listed any more.
    pub known: Vec<Predictor>,
    /// The percentages at which steps of the Rollout copy requests: it tells its copies by them when the note of what is
    /// whose is lost.
    pub copies: Vec<Percent>,
}

impl Setting {
    /// Everything to `stable`, nobody else listed.
    pub fn all_to(stable: Predictor) -> Self {
        Self {
            stable,
            canary: None,
            weight: 0,
            matches: Vec::new(),
            mirror: Percent::default(),
            sticky: None,
            retiring: Vec::new(),
            known: Vec::new(),
            copies: Vec::new(),
        }
    }

    /// Whether the canary gets nothing, not even copies, so that nothing may keep the setting from being written.
    pub fn takes_away(&self) -> bool {
        let nothing = self.weight == 0 && self.matches.is_empty() && self.mirror.is_nothing();
        nothing || self.other_arm().is_none()
    }

    /// The canary, if it is not stable itself.
    pub(super) fn other_arm(&self) -> Option<&Predictor> {
        self.canary.as_ref().filter(|canary| **canary != self.stable)
    }

    /// What a destination is to this setting.
    pub(super) fn role(&self, destination: &DestinationView) -> Role {
        let arms = [(Role::Stable, &self.stable)].into_iter();
        let arms = arms.chain(self.other_arm().map(|canary| (Role::Canary, canary)));
        let retiring = self.retiring.iter().map(|predictor| (Role::Retiring, predictor));
        let known = self.known.iter().map(|predictor| (Role::Known, predictor));
        let mut candidates =
            arms.chain(retiring).chain(known).filter(|(_, predictor)| destination.is(predictor));
        match candidates.next() {
            // A destination whose port nobody can tell could be either of two predictors on one Service.
            Some((_, first)) if candidates.any(|(_, other)| other != first) => Role::Foreign,
            Some((role, _)) => role,
            None => Role::Foreign,
        }
    }
}

/// What keeps a client on one arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Where it stands, like `spec.steps[1].sticky`.
    pub path: String,
    /// By what a client is known.
    pub by: StickyBy,
}

/// By what a client is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// A cookie that both arms set.
    Cookie(Cookie),
    /// The request header of this name, which carries a hash of the user.
    Header(String),
}

/// A cookie that remembers the arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The cookie's name.
    pub name: String,
    /// How long a client keeps it; as long as it runs where nothing is said.
    pub ttl: Option<Duration>,
    /// What tells this step of this revision from all others.
    pub token: String,
}

/// What a destination is to a [`Setting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Stable,
    Canary,
    Retiring,
    Known,
    /// Somebody else's: keeps weight, place and fields.
    Foreign,
}

/// Resolves what the `VirtualService` alone does not tell.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// How hosts become Services.
    pub names: &'a HostNames,
    /// Ports of the Service of a namespace and a name; `None` when there is no such Service.
    pub ports: &'a dyn Fn(&str, &str) -> Option<Vec<u16>>,
}

impl Cluster<'_> {
    /// The port that a destination without one means: the Service's only port.
    pub(super) fn only_port(&self, namespace: &str, service: &str) -> Option<u16> {
        match (self.ports)(namespace, service)?.as_slice() {
            [port] => Some(*port),
            _ => None,
        }
    }
}
