//! The guarantees, a file each, walked over every commit of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{
    objects::{self, Name, plural},
    report::{Violation, difference},
    run::{Commit, Run},
    world::{Rollout, World, key},
};

mod g01_share;
mod g02_ready;
mod g03_breach;
mod g04_entry;
mod g05_index;
mod g06_foreign;
mod g08_rest;
mod g09_stable;
mod g10_hold;
mod g11_outage;
mod g12_leftovers;
mod g13_order;
mod g14_pause;
mod g15_record;
mod g16_lost;

/// One guarantee, looking on.
trait Guarantee {
    /// A commit is about to be applied; the world is as before it.
    fn commit(&mut self, _seen: &Seen<'_>, _found: &mut Found<'_>) {}

    /// Time has come to `now` in the world as it is.
    fn time(&mut self, _world: &World<'_>, _now: DateTime<Utc>, _found: &mut Found<'_>) {}
}

/// Every breach that the commits of a run show.
pub(super) fn walk(run: &Run) -> Vec<Violation> {
    let mut world = World::new(run);
    let mut guarantees: Vec<(u8, Box<dyn Guarantee>)> = vec![
        (1, Box::new(g01_share::Share)),
        (2, Box::<g02_ready::Ready>::default()),
        (3, Box::<g03_breach::Breach>::default()),
        (4, Box::new(g04_entry::Entry)),
        (5, Box::new(g05_index::Index)),
        (6, Box::new(g06_foreign::Foreign)),
        (8, Box::new(g08_rest::Rest)),
        (9, Box::new(g09_stable::Stable)),
        (10, Box::<g10_hold::Hold>::default()),
        (11, Box::new(g11_outage::Outage)),
        (12, Box::<g12_leftovers::Leftovers>::default()),
        (13, Box::<g13_order::Order>::default()),
        (14, Box::<g14_pause::Pause>::default()),
        (15, Box::new(g15_record::Record)),
        (16, Box::<g16_lost::Lost>::default()),
    ];
    let mut violations = Vec::new();
    let mut look = |world: &World<'_>, guarantees: &mut Vec<(u8, Box<dyn Guarantee>)>, when: When<'_>| {
        for (number, guarantee) in guarantees {
            let commit = match when {
                When::Before(commit) => Some(commit),
                When::At(_) => None,
            };
            let mut found = Found { number: *number, world, commit, violations: &mut violations };
            match when {
                When::Before(commit) => guarantee.commit(&Seen::new(world, commit), &mut found),
                When::At(now) => guarantee.time(world, now, &mut found),
            }
        }
    };
    for commit in run.commits.iter().filter(|commit| !is_beside(commit)) {
        look(&world, &mut guarantees, When::At(commit.at));
        look(&world, &mut guarantees, When::Before(commit));
        world.apply(commit);
        look(&world, &mut guarantees, When::At(commit.at));
    }
    look(&world, &mut guarantees, When::At(run.until));
    violations
}

#[derive(Clone, Copy)]
enum When<'c> {
    Before(&'c Commit),
    At(DateTime<Utc>),
}

/// Leases say nothing about Rollouts and are written all the time.
fn is_beside(commit: &Commit) -> bool {
    plural(&commit.resource) == "leases"
}

/// A commit that is about to be applied.
struct Seen<'s> {
    world: &'s World<'s>,
    commit: &'s Commit,
    /// Whether a controller wrote it.
    by_controller: bool,
}

/// A controller's change of a Rollout's status.
struct StatusChange<'s> {
    name: Name,
    rollout: &'s Rollout,
    before: &'s Value,
    after: &'s Value,
    /// The whole object before.
    object: &'s Value,
    /// Decisions with a number above the one before.
    news: Vec<&'s Value>,
}

/// A controller's change of a VirtualService, as one Rollout sees it.
struct RouteChange<'s> {
    rollout: Name,
    /// The names of the http routes that it moves; none: all.
    names: Vec<String>,
    before: &'s Value,
    after: &'s Value,
    stamp: Option<Value>,
    stamp_before: Option<Value>,
}

impl<'s> Seen<'s> {
    fn new(world: &'s World<'s>, commit: &'s Commit) -> Self {
        Self { world, commit, by_controller: by_controller(world, commit) }
    }

    fn plural(&self) -> &str {
        plural(&self.commit.resource)
    }

    fn name(&self) -> Name {
        (self.commit.namespace.clone(), self.commit.name.clone())
    }

    /// The change of a Rollout's status, if a controller made one.
    fn status(&self) -> Option<StatusChange<'s>> {
        let (Some(object), Some(after)) = (&self.commit.before, &self.commit.after) else { return None };
        let (before, after) = (&object["status"], &after["status"]);
        if self.plural() != "rollouts" || !self.by_controller || before == after {
            return None;
        }
        let name = self.name();
        let rollout = self.world.rollout(&name)?;
        let seq = before["seq"].as_u64().unwrap_or(0);
        let news = objects::decisions(after).filter(|d| d["seq"].as_u64().unwrap_or(0) > seq).collect();
        Some(StatusChange { name, rollout, before, after, object, news })
    }

    /// The change of a VirtualService, if a controller made one, for each Rollout that it concerns.
    fn routes(&self) -> Vec<RouteChange<'s>> {
        let (Some(before), Some(after)) = (&self.commit.before, &self.commit.after) else {
            return Vec::new();
        };
        if self.plural() != "virtualservices" || !self.by_controller {
            return Vec::new();
        }
        // What Seldon Core's operator owns says what the SeldonDeployment says, and is lowered only in its place.
        let mut owners = objects::list(&before["metadata"]["ownerReferences"]);
        if owners.any(|owner| owner["kind"] == "SeldonDeployment" && owner["controller"] == true) {
            return Vec::new();
        }
        let stamps = [objects::stamps(before), objects::stamps(after)];
        let change = |rollout: Name| {
            let object = self.world.rollout(&rollout).and_then(|rollout| rollout.object.clone());
            let mut routes = object.map(|object| objects::routes(&object, &rollout.0)).unwrap_or_default();
            let [stamp_before, stamp] = stamps.clone().map(|mut stamps| stamps.remove(&key(&rollout)));
            // A VirtualService that its Rollout does not name any more is not its to move: no names but one that is none.
            let names = routes.remove(&self.name()).unwrap_or_else(|| vec![String::new()]);
            RouteChange { rollout, names, before, after, stamp, stamp_before }
        };
        self.world.concerned(self.commit).into_iter().map(change).collect()
    }
}

impl StatusChange<'_> {
    /// The decision of that kind that this commit records.
    fn decided(&self, kinds: &[&str]) -> Option<&Value> {
        self.news.iter().rev().find(|d| kinds.iter().any(|kind| d["kind"] == **kind)).copied()
    }

    /// The actions that this commit answers with "done".
    fn done(&self, world: &World<'_>) -> Vec<Arc<Value>> {
        let old: BTreeSet<&str> =
            objects::list(&self.before["handled"]).map(|handled| objects::text(&handled["uid"])).collect();
        let new = objects::list(&self.after["handled"]).filter(|h| !old.contains(objects::text(&h["uid"])));
        let done = new.filter(|handled| handled["phase"] == "Done");
        done.filter_map(|handled| world.action(&self.name.0, objects::text(&handled["uid"])))
            .cloned()
            .collect()
    }
}

impl RouteChange<'_> {
    /// The routes that the Rollout moves, before and after, with the number of each.
    fn moved(&self) -> Vec<(usize, &Value, &Value)> {
        let before = objects::routes_of(self.before, &self.names, &self.rollout.1);
        let after = objects::routes_of(self.after, &self.names, &self.rollout.1);
        let both = before.into_iter().zip(after).enumerate();
        both.filter(|(_, (_, (_, moved)))| *moved)
            .map(|(at, ((before, _), (after, _)))| (at, before, after))
            .collect()
    }

    /// A number that the stamp has.
    fn stamped(&self, field: &str) -> Option<u64> {
        self.stamp.as_ref().and_then(|stamp| stamp[field].as_u64())
    }
}

fn by_controller(world: &World<'_>, commit: &Commit) -> bool {
    if let Some(by) = &commit.by {
        return world.run.controllers.contains(by);
    }
    let (Some(before), Some(after)) = (&commit.before, &commit.after) else { return false };
    match plural(&commit.resource) {
        "rollouts" => before["status"] != after["status"],
        "virtualservices" => objects::stamps(before) != objects::stamps(after),
        _ => false,
    }
}

/// Where breaches go.
struct Found<'f> {
    number: u8,
    world: &'f World<'f>,
    commit: Option<&'f Commit>,
    violations: &'f mut Vec<Violation>,
}

impl Found<'_> {
    /// A breach in the commit that is about to be applied, or at a moment, about that Rollout.
    fn add(&mut self, rollout: Option<&Name>, what: impl Into<String>) {
        let decisions = rollout.and_then(|rollout| self.world.rollout(rollout)).map(last_decisions);
        let (object, version, change) = if let Some(commit) = self.commit {
            (
                format!("{} {}/{}", commit.resource, commit.namespace, commit.name),
                commit.version,
                difference(commit.before.as_deref(), commit.after.as_deref()),
            )
        } else {
            let object = rollout.map_or_else(String::new, |rollout| format!("rollouts {}", key(rollout)));
            (object, self.world.version, Vec::new())
        };
        let (guarantee, what, decisions) = (self.number, what.into(), decisions.unwrap_or_default());
        self.violations.push(Violation { guarantee, version, object, what, change, decisions });
    }
}

/// The last decisions of a Rollout, a line each.
fn last_decisions(rollout: &Rollout) -> Vec<String> {
    let all: Vec<_> = rollout.recorded.values().flatten().collect();
    let last = &all[all.len().saturating_sub(6)..];
    last.iter()
        .map(|recorded| {
            let d = &recorded.decision;
            let [kind, reason, message] = ["kind", "reason", "message"].map(|field| objects::text(&d[field]));
            let at = recorded.at.format("%H:%M:%S%.3f");
            format!("#{} {at} {kind}/{reason} {} -> {}: {message}", d["seq"], d["fromWeight"], d["weight"])
        })
        .collect()
}

/// What must not last: since when it has, by name.
#[derive(Default)]
struct Lasting {
    since: BTreeMap<String, (DateTime<Utc>, bool)>,
}

impl Lasting {
    /// Takes note of all that is so now, and names each, once, that has been so for longer than `limit`.
    fn overdue(
        &mut self,
        world: &World<'_>,
        now: DateTime<Utc>,
        limit: TimeDelta,
        is_so: &BTreeMap<String, Name>,
    ) -> Vec<(String, Name, TimeDelta)> {
        self.since.retain(|what, _| is_so.contains_key(what));
        let mut overdue = Vec::new();
        for (what, rollout) in is_so {
            let (since, told) = self.since.entry(what.clone()).or_insert((now, false));
            let waited = world.waited(*since, now);
            if waited > limit && !*told {
                *told = true;
                overdue.push((what.clone(), rollout.clone(), waited));
            }
        }
        overdue
    }

    fn has(&self, what: &str) -> bool {
        self.since.contains_key(what)
    }
}

/// A time in words.
fn seconds(time: TimeDelta) -> String {
    #[allow(clippy::cast_precision_loss, reason = "times of runs are short")]
    let seconds = time.num_milliseconds() as f64 / 1000.0;
    format!("{seconds} s")
}
