//! Guarantee 8: "At rest there are no writes but the Lease: ten resyncs, zero requests that change anything."
//!
//! At rest is a [`Mark::Rest`], which also brings the number of requests: those that were refused, or changed nothing, are
//! no commits.

use chrono::{DateTime, Utc};

use super::{Found, Guarantee, Seen};
use crate::invariants::{run::Mark, world::World};

pub(super) struct Rest;

impl Guarantee for Rest {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        let at = seen.commit.at;
        if seen.by_controller && rests(seen.world).any(|(from, to, _)| from < at && at <= to) {
            found.add(None, "written at rest, where nothing is to be written");
        }
    }

    fn time(&mut self, world: &World<'_>, now: DateTime<Utc>, found: &mut Found<'_>) {
        if now != world.run.until
            || world.run.commits.last().is_some_and(|last| last.version != world.version)
        {
            return;
        }
        for (from, to, requests) in rests(world).filter(|(.., requests)| *requests > 0) {
            found.add(
                None,
                format!("{requests} requests that would change something from {from} to {to}, at rest"),
            );
        }
    }
}

fn rests<'w>(world: &'w World<'_>) -> impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>, u64)> + 'w {
    world.run.marks.iter().filter_map(|mark| match mark {
        Mark::Rest { from, to, requests } => Some((*from, *to, *requests)),
        Mark::Breach { .. } | Mark::Outage { .. } | Mark::Away { .. } => None,
    })
}
