//! The fault campaign: each way for a rollout to go is run once and its writes numbered, per object; then once more for
//! every write and every fault that can strike it, and for every fault of the watches. The end must be that of the calm
//! run, and every guarantee hold throughout.
//!
//! A test a way and a group of faults, so that they run beside each other. A failure names way, write and fault, and goes
//! on with the others: what is wrong once is often wrong in several places, and the list of them tells where to look.

mod faults;
mod ways;

use std::time::Duration;

use sluice_lab::{
    embedded::{Connection, When},
    invariants::{self, End},
};

use self::{
    faults::{Strike, WATCHED, on_events, on_old_lists, on_writes},
    ways::Way,
};
use crate::world::{CONTROLLER, World};

/// A way without faults: how it ends, and where it can be struck.
struct Calm {
    end: End,
    /// Every write, as what strikes exactly it.
    writes: Vec<When>,
    /// How many changes of each watched kind there were while the controller ran.
    changes: Vec<(&'static str, u64)>,
}

async fn calm(way: Way) -> Calm {
    let mut run = way.begin().await;
    let connection = run.world.api.connect(CONTROLLER);
    let from = run.world.api.version();
    let crashes = run
        .go(connection, &|world| world.api.connect(CONTROLLER))
        .await
        .unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(crashes, 0);
    let history = run.world.api.history();
    let changes = WATCHED.map(|kind| {
        let of_kind = |resource: &str| resource.split('/').next() == Some(kind);
        let changes = history.iter().filter(|write| write.version > from && of_kind(&write.resource));
        (kind, changes.count() as u64)
    });
    let end = invariants::end(&run.world.run());
    Calm { end, writes: run.world.api.crash_points(CONTROLLER), changes: changes.into() }
}

/// Runs a way with a fault; what went wrong.
async fn struck(way: Way, calm: &Calm, strike: &Strike) -> Result<(), String> {
    let mut run = way.begin().await;
    run.world.limits = strike.limits();
    let connection = run.world.api.connect(CONTROLLER);
    strike.first(connection.faults());
    let after = |world: &World| -> Connection {
        let connection = world.api.connect(CONTROLLER);
        strike.next(&world.api, connection.faults());
        connection
    };
    let crashes = run.go(connection, &after).await?;
    if strike.crashes() && crashes == 0 {
        return Err("nothing was written there this time".to_owned());
    }
    let mut checked = run.world.run();
    checked.calm = Some(calm.end.clone());
    run.world.broken();
    match invariants::check(&checked) {
        found if found.is_empty() => Ok(()),
        found => Err(invariants::told(&found)),
    }
}

async fn campaign(way: Way, strikes: impl Fn(&Calm) -> Vec<Strike>) {
    let calm = calm(way).await;
    assert!(calm.writes.len() > 10, "{:?}", calm.writes);
    let strikes = strikes(&calm);
    assert!(!strikes.is_empty());
    let mut wrong = Vec::new();
    for strike in &strikes {
        if let Err(why) = struck(way, &calm, strike).await {
            wrong.push(format!("=== {way:?}, {strike}\n{why}"));
        }
    }
    let (all, number) = (strikes.len(), wrong.len());
    assert!(wrong.is_empty(), "{number} of {all} went wrong:\n{}", wrong.join("\n"));
}

/// Nothing takes longer (virtual time): a resync comes every five minutes.
const LIMIT: Duration = Duration::from_mins(8);

/// The tests of a way whose writes are struck.
macro_rules! writes_of {
    ($way:expr) => {
        #[tokio::test(start_paused = true)]
        async fn ends_the_same_wherever_the_controller_dies() {
            campaign($way, |calm| on_writes(&calm.writes, &faults::CRASHES)).await;
        }

        #[tokio::test(start_paused = true)]
        async fn ends_the_same_whatever_is_refused() {
            campaign($way, |calm| on_writes(&calm.writes, &faults::REFUSALS)).await;
        }

        #[tokio::test(start_paused = true)]
        async fn ends_the_same_whatever_is_refused_again_and_again() {
            campaign($way, |calm| on_writes(&calm.writes, &faults::REPEATED)).await;
        }

        #[tokio::test(start_paused = true)]
        async fn ends_the_same_whatever_is_late() {
            campaign($way, |calm| on_writes(&calm.writes, &faults::DELAYS)).await;
        }
    };
}

/// All tests of a way.
macro_rules! campaigns {
    ($($name:ident: $way:expr),* $(,)?) => {$(
        mod $name {
            use super::*;

            writes_of!($way);

            #[tokio::test(start_paused = true)]
            async fn ends_the_same_whatever_becomes_of_events() {
                campaign($way, |calm| on_events(&calm.changes)).await;
            }

            #[tokio::test(start_paused = true)]
            async fn ends_the_same_when_the_lists_after_a_crash_are_old() {
                campaign($way, |calm| on_old_lists(&calm.writes)).await;
            }
        }
    )*};
}

campaigns! {
    a_promotion: Way::Promotion,
    a_breach: Way::Breach,
    a_supersession: Way::Supersede,
    an_abort: Way::Abort,
    a_deletion: Way::Deletion,
    copies_matches_and_cookies: Way::Beside,
}

mod an_abort_where_the_operator_stands_still {
    use super::*;

    writes_of!(Way::Operated);
}
