//! One life: events are applied to a world, and the oracle sees all that is written.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_core::api::{Do, RolloutStatus, STAMP};

use crate::{
    controller::{ALL, Controller, Fault, How},
    events::{About, Event},
    oracle::Oracle,
    world::{self, Saw, World, revision, virtual_service},
};

pub struct Run {
    pub world: World,
    pub controllers: [Controller; 2],
    pub oracle: Oracle,
    backups: Vec<RolloutStatus>,
}

/// The routes as Git has them: `a` is the pair's alone, on `b` somebody else has 30%.
fn original(route: &str) -> Value {
    match route {
        "a" => virtual_service("a", &[("v1", 100)]),
        _ => virtual_service("b", &[("api.example.com", 30), ("v1", 70)]),
    }
}

fn steps(variant: usize) -> Value {
    match variant {
        0 => {
            json!([{"weight": 10, "for": "20s"}, {"weight": 50, "for": "20s"}, {"weight": 100, "for": "10s"}])
        }
        1 => json!([{"weight": 5, "for": "10s", "approve": true}, {"weight": 60, "minRequests": 200}]),
        2 => json!([{"weight": 30}]),
        3 => json!([]),
        4 => json!([{"weight": 2, "for": "10s"}, {"weight": 70, "for": "30s", "approve": true}]),
        5 => json!([{"mirror": 100, "for": "10s"}, {"match": beta("x"), "for": "10s"}, {"weight": 20}]),
        6 => json!([
            {"weight": 10, "match": beta("x"), "mirror": 0.5},
            {"match": [{"headers": {"x-group": {"exact": "x"}}}, {"uri": {"prefix": "/y"}}], "approve": true},
            {"mirror": 20, "weight": 5},
        ]),
        7 => {
            json!([
                {"weight": 50, "for": "10s", "sticky": {"cookie": {"name": "arm"}}}, {"match": beta("y")},
                {"weight": 30, "mirror": 10, "sticky": {"header": "x-hash"}},
            ])
        }
        _ => json!([{"weight": 101}]),
    }
}

/// How many variants of steps there are that can be accepted.
const STEPS: usize = 8;
/// How many variants of all.
pub const VARIANTS: usize = 4 * STEPS;

fn beta(group: &str) -> Value {
    json!([{"headers": {"x-group": {"exact": group}}}])
}

impl Run {
    pub fn new(variant: usize) -> Self {
        let mut world = World::new();
        world.put(original("a"));
        world.put(original("b"));
        world.spec["routes"] = json!([{"virtualService": "a", "http": ["primary"]}, {"virtualService": "b", "http": ["primary"]}]);
        world.spec["steps"] = steps(variant % STEPS);
        let (finish, then) =
            [("Promote", "Pause"), ("Promote", "Rollback"), ("Wait", "Pause"), ("KeepStable", "Pause")]
                [variant / STEPS % 4];
        if variant % STEPS != 3 {
            world.spec["finish"] = json!(finish);
        }
        world.spec["inconclusive"]["then"] = json!(then);
        Self { world, controllers: Default::default(), oracle: Oracle::default(), backups: Vec::new() }
    }

    pub fn happen(&mut self, event: &Event) {
        let world = &mut self.world;
        if world.gone {
            return;
        }
        match event {
            Event::Turn { controller, seconds, saw, persist, act } => {
                self.turn(*controller, *seconds, *saw, *persist, *act);
            }
            Event::Begin { controller, seconds, saw } => self.begin(*controller, *seconds, *saw),
            Event::Persist { controller, fault } => self.persist(*controller, *fault),
            Event::Act { controller, how } => self.act(*controller, *how),
            Event::Ready { service, endpoints } => {
                world.ready.insert((*service).to_owned(), *endpoints);
            }
            Event::Want { service } => world.want(service),
            Event::Paused { paused } => world.edit_spec(|spec| spec["paused"] = json!(paused)),
            Event::Freeze { frozen } => world.freeze(*frozen),
            Event::Steps { variant } => world.edit_spec(|spec| spec["steps"] = steps(*variant)),
            Event::Routes { variant } => {
                world.edit_spec(|spec| {
                    let all = [
                        json!({"virtualService": "a", "http": ["primary"]}),
                        json!({"virtualService": "b", "http": ["primary"]}),
                    ];
                    spec["routes"] = match variant {
                        0 => json!(all),
                        1 => json!(all[..1]),
                        _ => json!(all[1..]),
                    };
                });
                self.oracle.unstamped(world);
            }
            Event::Ask { what, revision, step } => self.ask(*what, *revision, *step),
            Event::Delete => world.delete(),
            Event::Drift { route, weight } => world.edit(route, |object| drift(object, *weight)),
            Event::StampRemoved { route } => {
                world.edit(route, |object| {
                    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                        annotations.remove(STAMP);
                    }
                });
                self.oracle.unstamped(world);
            }
            Event::GitApplied { route } => {
                world.edit(route, |object| object["spec"] = original(route)["spec"].take());
            }
            Event::RouteDeleted { route } => {
                world.virtual_services.remove(*route);
                self.oracle.unstamped(world);
            }
            Event::RouteCreated { route } if world.virtual_services.contains_key(*route) => {}
            Event::RouteCreated { route } => world.put(original(route)),
            Event::StatusWiped => {
                self.oracle.wiped(&self.world);
                self.world.set_status(RolloutStatus::default());
            }
            Event::StatusRestored { back } => {
                if let Some(index) = self.backups.len().checked_sub(1 + back) {
                    let backup = self.backups[index].clone();
                    self.oracle.restored(&backup);
                    self.world.set_status(backup);
                }
            }
        }
    }

    /// A whole turn, which the oracle takes as clean where nothing is broken.
    pub fn turn(&mut self, controller: usize, seconds: u64, saw: Saw, persist: Fault, act: How) {
        self.begin(controller, seconds, saw);
        let clean = persist == Fault::None && act.fault == Fault::None && act.which == u8::MAX;
        let expected = clean.then(|| Oracle::expect(&self.world));
        self.persist(controller, persist);
        let acts = self.controllers[controller].pending.is_some();
        self.act(controller, act);
        if let Some(expected) = expected {
            Oracle::after_clean_turn(&self.world, &expected, acts);
        }
    }

    fn begin(&mut self, controller: usize, seconds: u64, saw: Saw) {
        self.world.now += Duration::from_secs(seconds);
        self.oracle.looked(controller, saw, seconds);
        self.oracle.began(controller, self.world.frozen.is_some());
        self.controllers[controller].begin(&self.world, saw);
    }

    fn persist(&mut self, controller: usize, fault: Fault) {
        let commit = self.controllers[controller].persist(&mut self.world, fault);
        if matches!(fault, Fault::CrashBefore | Fault::CrashAfter) {
            self.oracle.crashed(controller);
        }
        if let Some(commit) = commit {
            self.backups.push(commit.after.clone());
            self.oracle.committed(controller, &self.world, &commit);
        }
    }

    fn act(&mut self, controller: usize, how: How) {
        for write in self.controllers[controller].act(&mut self.world, how) {
            self.oracle.wrote(&write, self.world.frozen.is_some());
            self.oracle.wrote_beside(&write, self.world.frozen.is_some());
        }
        if matches!(how.fault, Fault::CrashBefore | Fault::CrashAfter) {
            self.oracle.crashed(controller);
        }
    }

    fn ask(&mut self, what: Do, about: About, step: About) {
        let status = &self.world.status;
        let wanted = self.world.spec["target"]["service"]["name"].as_str().unwrap();
        let current = match (what, &status.progress) {
            (Do::Retry, _) | (_, None) => revision(wanted),
            (_, Some(_)) => status.canary.as_ref().unwrap().to_string(),
        };
        let number = status.progress.as_ref().map_or(1, |progress| progress.number);
        let revision = match about {
            About::Current => Some(current),
            About::Another => Some(revision("v9")),
            About::Nothing => None,
        };
        let step = match step {
            About::Current => Some(number),
            About::Another => Some(number + 1),
            About::Nothing => None,
        };
        self.world.ask(what, revision, step);
    }

    /// No faults and no events any more, everybody ready: so many turns of ten seconds.
    pub fn calm(&mut self, turns: usize, saw: Saw) {
        for _ in 0..turns {
            if !self.world.gone {
                self.turn(0, 10, saw, Fault::None, ALL);
            }
        }
    }
}

/// Gives `weight` percent of the pair's share to its last destination.
fn drift(object: &mut Value, weight: u64) {
    let before = object.clone();
    let routes = object["spec"]["http"].as_array_mut().unwrap();
    let Some(route) = routes.iter_mut().find(|route| route["name"] == "primary") else { return };
    let Some(entries) = route["route"].as_array_mut() else { return };
    let ours =
        |entry: &Value| entry["destination"]["host"].as_str().is_some_and(|host| host.starts_with('v'));
    let share: u64 = crate::events::SERVICES.iter().map(|service| world::weight(&before, service)).sum();
    let mut rest = share;
    let count = entries.iter().filter(|entry| ours(entry)).count();
    for (index, entry) in entries.iter_mut().filter(|entry| ours(entry)).enumerate() {
        let part = if index + 1 == count { rest } else { (share * weight / 100).min(rest) };
        rest -= part;
        entry["weight"] = json!(part);
    }
}
