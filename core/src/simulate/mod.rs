//! A rollout rehearsed: the controller's own machine on a virtual clock, with users, arms, metrics and people as a
//! [`Scenario`] says.
//!
//! Nothing is decided here. The plan, the checks and the machine are those that a controller runs; what is made up is
//! what they see.

mod arms;
mod chance;
mod ending;
mod fits;
mod queries;
mod replies;
mod scenario;
mod tally;
mod trial;
mod users;
mod world;

pub use ending::{Ending, Held};
pub use queries::{Answer, Each};
pub use replies::Reply;
pub(crate) use scenario::LONGEST;
pub use scenario::{Arm, Event, InvalidScenario, Latency, Scenario};
pub use tally::Tally;
pub use trial::{Errors, tried, without_people};
pub use users::Users;

use std::time::Duration;

use self::world::World;
use crate::{api::Decision, plan::Plan};

/// What happened in a rehearsal.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// What was decided, and when: time since the canary was wanted.
    pub decisions: Vec<(Duration, Decision)>,
    /// What people were answered where no decision came of it.
    pub replies: Vec<Reply>,
    /// How it ended.
    pub ending: Ending,
    /// When it ended, or when the scenario did.
    pub at: Duration,
    /// What users got of the canary in all.
    pub users: Users,
}

/// Rehearses `plan`. With a `seed` the requests, and which of them fail, are drawn by chance; without one there are exactly
/// as many as the scenario says.
pub fn simulate(plan: &Plan, scenario: &Scenario, seed: Option<u64>) -> Timeline {
    let mut world = World::new(plan, scenario, seed);
    let mut decisions = Vec::new();
    loop {
        decisions.extend(world.turn().into_iter().map(|decision| (world.now(), decision)));
        if let Some(ending) = world.ending() {
            let (at, users) = (world.now(), world.users());
            return Timeline { decisions, replies: world.replies(), ending, at, users };
        }
        world.wait();
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod timelines;
