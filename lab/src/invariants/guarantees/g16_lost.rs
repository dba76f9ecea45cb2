//! Guarantee 16: "Losing the status loses no user: stable is still stable, nothing starts by itself."
//!
//! A status is lost when somebody other than a controller wipes it or puts an older one in its place, and when a Rollout
//! is created under a name that a stamp knows. From then on the first stable of a controller must be the one that was
//! (by the newest stamp on the routes, else by the status that was lost), and no rollout starts before a person asks for
//! a retry or stable is what is wanted. A Rollout that is created for a revision that the stamp has never heard of starts
//! as any other. Not seen: what nobody wrote down, such as a stable whose stamps were taken away too.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{Found, Guarantee, Seen, StatusChange};
use crate::invariants::{
    objects::{self, Name, Predictor, text},
    world::{World, key},
};

#[derive(Default)]
pub(super) struct Lost(BTreeMap<Name, Loss>);

struct Loss {
    stable: Option<Predictor>,
    /// Whether a rollout may start all the same.
    may_start: bool,
}

impl Guarantee for Lost {
    fn commit(&mut self, seen: &Seen<'_>, found: &mut Found<'_>) {
        if seen.plural() == "virtualservices" && !seen.by_controller {
            // Who takes the stamps away may take what they knew of stable, too.
            let stamps =
                |object: &Option<Arc<Value>>| object.as_ref().map(|o| objects::stamps(o)).unwrap_or_default();
            let after = stamps(&seen.commit.after);
            let gone = stamps(&seen.commit.before).into_keys().filter(|key| !after.contains_key(key));
            for rollout in gone {
                self.0.retain(|name, _| key(name) != rollout);
            }
            return;
        }
        if seen.plural() != "rollouts" {
            return;
        }
        let name = seen.name();
        match (&seen.commit.before, &seen.commit.after) {
            (None, Some(after)) => self.created(seen, name, after),
            (Some(before), Some(after)) if !seen.by_controller => {
                let [old, new] = [before, after].map(|object| &object["status"]);
                let seq = |status: &Value| status["seq"].as_u64().unwrap_or(0);
                if seq(new) < seq(old) || objects::is_pending(new) && !objects::is_pending(old) {
                    let newest = newest(seen.world, &name, after);
                    let stable = newest.as_ref().and_then(|stamp| Predictor::parse(text(&stamp["stable"])));
                    let stable = stable.or_else(|| Predictor::of(&old["stable"]));
                    // A status from before the rollout in flight began may begin it again if nothing of it was stamped.
                    let may_start = newest.is_none_or(|stamp| stamp["seq"].as_u64().unwrap_or(0) <= seq(new));
                    self.0.insert(name, Loss { stable, may_start: may_start && !objects::is_pending(new) });
                }
            }
            (Some(_), None) => drop(self.0.remove(&name)),
            (Some(_) | None, _) => {}
        }
        let Some(change) = seen.status() else { return };
        let Some(loss) = self.0.get(&change.name) else { return };
        let stable = Predictor::of(&change.after["stable"]);
        if let (Some(stable), Some(was)) = (&stable, &loss.stable)
            && stable != was
            && !is_over(seen, &change)
        {
            found.add(
                Some(&change.name),
                format!("{stable} is stable after the status was lost, expected {was}"),
            );
        }
        if !loss.may_start && change.decided(&["Started"]).is_some() {
            found.add(
                Some(&change.name),
                "a rollout starts after the status was lost, and nobody asked for a retry",
            );
        }
        if is_over(seen, &change) {
            self.0.remove(&change.name);
        }
    }
}

impl Lost {
    fn created(&mut self, seen: &Seen<'_>, name: Name, rollout: &Value) {
        // A recording may begin with Rollouts that have been there for long.
        if !objects::is_pending(&rollout["status"]) {
            return;
        }
        let Some(stamp) = newest(seen.world, &name, rollout) else { return };
        let wanted = &rollout["spec"]["target"]["service"]["name"];
        let revisions = [&stamp["revision"], &stamp["stable"]].into_iter().map(text);
        let outcomes = stamp["outcomes"].as_object();
        let mut known = revisions.chain(outcomes.into_iter().flat_map(|all| all.keys().map(String::as_str)));
        let may_start =
            !known.any(|known| Predictor::parse(known).is_some_and(|known| known.service == text(wanted)));
        // A stable that the route contradicts, with somebody new, is not expected: see the design.
        let stable = if may_start { None } else { Predictor::parse(text(&stamp["stable"])) };
        self.0.insert(name, Loss { stable, may_start });
    }
}

/// Whether a person asked for a retry, or what is stable is wanted.
fn is_over(seen: &Seen<'_>, change: &StatusChange<'_>) -> bool {
    let retried = change.decided(&["Retried", "Released"]).is_some();
    let wanted = &change.object["spec"]["target"]["service"]["name"];
    let is_stable =
        change.after["stable"]["service"] == *wanted && change.before["stable"]["service"] == *wanted;
    retried || is_stable || change.done(seen.world).iter().any(|action| action["spec"]["do"] == "Retry")
}

/// The newest stamp of a Rollout on the routes that it names.
fn newest(world: &World<'_>, name: &Name, rollout: &Value) -> Option<Value> {
    let routes = objects::routes(rollout, &name.0);
    let objects = routes.keys().filter_map(|route| world.virtual_services.get(route));
    let stamps = objects.filter_map(|object| objects::stamps(object).remove(&key(name)));
    stamps.max_by_key(|stamp| stamp["seq"].as_u64())
}
