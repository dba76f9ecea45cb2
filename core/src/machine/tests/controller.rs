//! A controller for tests, in the order of writes that the design names: observe, step, persist, act. It can be stopped
//! between any two of them, fail or crash at each, and be one of several.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sluice_core::{
    HostNames,
    api::{Decision, DecisionKind, RolloutSpec, RolloutStatus},
    carrier::{self, ObjectName, Outlook},
    judge::Availability,
    machine::{self, Change, Facts, Refusal, Stage, State},
    plan::{Plan, PlanErrors},
    target::{self, ServiceView},
    traffic::Cluster,
};

use super::world::{NAMESPACE, Saw, World};

#[derive(Default)]
pub struct Controller {
    /// The machine's memory with clocks, and the stored one that it grew from.
    memory: Option<(State, State)>,
    seen: Option<Duration>,
    written: Duration,
    availability: Availability,
    pub pending: Option<Pending>,
}

/// A turn between two stages.
pub struct Pending {
    version: u64,
    spec: RolloutSpec,
    pub facts: Facts,
    pub before: RolloutStatus,
    pub state: State,
    pub change: Change,
    pub after: RolloutStatus,
    objects: BTreeMap<ObjectName, Value>,
    /// Ready endpoints when it was decided, for oracles.
    ready: BTreeMap<String, usize>,
    persisted: bool,
    /// It could not be written down, and is acted on all the same.
    unrecorded: bool,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The server refuses, or cannot be reached.
    Refused,
    /// The controller ends before it writes.
    CrashBefore,
    /// It is written, and the controller ends before it knows.
    CrashAfter,
}

/// A status that was written.
pub struct Commit {
    pub before: RolloutStatus,
    pub after: RolloutStatus,
    pub decision: Option<Decision>,
    pub facts: Facts,
    pub ready: BTreeMap<String, usize>,
}

/// A VirtualService that was written.
pub struct Write {
    pub before: Value,
    pub after: Value,
}

/// How the effects are applied.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Bit n: the nth effect is applied.
    pub which: u8,
    pub reversed: bool,
    /// Effects are computed from the objects as they are now, not as they were observed.
    pub afresh: bool,
    pub fault: Fault,
}

pub const ALL: How = How { which: u8::MAX, reversed: false, afresh: false, fault: Fault::None };

impl Pending {
    pub fn decision(&self) -> Option<&Decision> {
        match &self.change {
            Change::Decision(decision) => Some(decision),
            Change::Nothing | Change::Checkpoint => None,
        }
    }
}

impl Controller {
    /// It ends, and another one starts in its place.
    pub fn crash(&mut self) {
        *self = Self { written: self.written, ..Self::default() };
    }

    /// Observe and decide.
    pub fn begin(&mut self, world: &World, saw: Saw) {
        // Time counts from when this controller saw this very memory: before that it may have been another one.
        let stored = State::from(&world.status);
        let (state, elapsed) = match &self.memory {
            Some((base, state)) if *base == stored => {
                (state.clone(), self.seen.map(|seen| world.now.saturating_sub(seen)))
            }
            Some(_) | None => (stored, None),
        };
        let spec = world.parsed_spec();
        let mut facts = observe(world, &spec, &state, saw, elapsed);
        if let Some(look) = &facts.look {
            self.availability.saw(look, true, world.now);
        }
        facts.metrics = self.availability.said().cloned();
        self.seen = Some(world.now);
        let plan = plan(&spec, &world.status, &state);
        let (after, change) = machine::step(plan.as_ref(), &state, &facts);
        let decision = match &change {
            Change::Decision(decision) => Some(decision),
            Change::Nothing | Change::Checkpoint => None,
        };
        let mut status = RolloutStatus { pinned: world.status.pinned.clone(), ..RolloutStatus::default() };
        pin(&mut status, &spec, &after, decision);
        let plan = self::plan(&spec, &status, &after);
        let before = world.status.clone();
        let mut status =
            machine::report(plan.as_ref(), &after, &facts, Some(world.generation), &before, decision);
        pin(&mut status, &spec, &after, decision);
        self.pending = Some(Pending {
            version: world.version,
            spec,
            facts,
            before,
            state: after,
            change,
            after: status,
            objects: objects(world),
            ready: world.ready.clone(),
            persisted: false,
            unrecorded: false,
        });
    }

    /// Writes the status, if there is anything to write. What was written, if anything was.
    pub fn persist(&mut self, world: &mut World, fault: Fault) -> Option<Commit> {
        let pending = self.pending.as_mut().filter(|pending| !pending.persisted)?;
        let since = world.now.saturating_sub(self.written);
        let due = !matches!(pending.change, Change::Nothing)
            || machine::worth_writing(&pending.before, &pending.after, since);
        if !due {
            // Drift is put back after an uncached read of the Rollout.
            pending.persisted = true;
            self.memory = Some((State::from(&pending.before), pending.state.clone()));
            if pending.version != world.version {
                self.pending = None;
            }
            return None;
        }
        match fault {
            Fault::CrashBefore => {
                self.crash();
                return None;
            }
            Fault::Refused => {
                self.memory = None;
                pending.persisted = true;
                pending.unrecorded = true;
                if !pending.decision().is_some_and(machine::only_takes_away) {
                    self.pending = None;
                }
                return None;
            }
            Fault::None | Fault::CrashAfter => {}
        }
        if pending.version != world.version || world.gone {
            self.memory = None;
            self.pending = None;
            return None;
        }
        // What cannot be written and read back is lost in a real one.
        let text = serde_json::to_string(&pending.after).unwrap();
        world.status = serde_json::from_str(&text).unwrap();
        world.version = world.next();
        for handled in &world.status.handled {
            let open = world.actions.iter_mut().filter(|action| action.answer.is_none());
            for action in open.filter(|action| action.asked.uid == handled.uid) {
                action.answer = Some(handled.phase);
                action.message.clone_from(&handled.message);
            }
        }
        self.written = world.now;
        pending.persisted = true;
        let commit = Commit {
            before: pending.before.clone(),
            after: pending.after.clone(),
            decision: pending.decision().cloned(),
            facts: pending.facts.clone(),
            ready: pending.ready.clone(),
        };
        if fault == Fault::CrashAfter {
            self.crash();
        } else {
            self.memory = Some((State::from(&world.status), pending.state.clone()));
        }
        Some(commit)
    }

    /// Writes the difference between the routes and what is desired.
    pub fn act(&mut self, world: &mut World, how: How) -> Vec<Write> {
        let Some(pending) = self.pending.take_if(|pending| pending.persisted) else { return Vec::new() };
        let seen = if how.afresh { objects(world) } else { pending.objects };
        let plan = plan(&pending.spec, &pending.after, &pending.state);
        let outlook = outlook(world, &seen, plan.as_ref(), &pending.state);
        let mut effects: Vec<_> = outlook.effects.into_iter().enumerate().collect();
        let total = effects.len();
        effects.retain(|(index, _)| how.which & (1 << index) != 0);
        if how.reversed {
            effects.reverse();
        }
        // Routes that were touched are always given back.
        world.finalizer |= !effects.is_empty() && !world.deleted;
        let mut writes = Vec::new();
        if how.fault != Fault::None && how.fault != Fault::CrashAfter {
            effects.clear();
        }
        for (_, effect) in effects {
            writes.extend(apply(world, &effect));
            if how.fault == Fault::CrashAfter {
                break;
            }
        }
        let done = writes.len() == total && how.fault == Fault::None;
        if matches!(how.fault, Fault::CrashBefore | Fault::CrashAfter) {
            self.crash();
        } else if pending.facts.deleted
            && !pending.unrecorded
            && outlook.ahead.is_empty()
            && done
            && matches!(pending.state.stage, Stage::Released | Stage::Pending)
        {
            world.finalizer = false;
            world.gone = true;
        }
        writes
    }

    /// A whole turn without faults.
    pub fn turn(&mut self, world: &mut World, saw: Saw) -> (Option<Commit>, Vec<Write>) {
        self.begin(world, saw);
        let commit = self.persist(world, Fault::None);
        (commit, self.act(world, ALL))
    }
}

fn apply(world: &mut World, effect: &carrier::Effect) -> Option<Write> {
    let before = world.virtual_services.get(&effect.object.1)?.clone();
    let operations = serde_json::to_value(&effect.patch).unwrap();
    let fence = operations[0].clone();
    assert_eq!((&fence["op"], &fence["path"]), (&json!("replace"), &json!("/metadata/resourceVersion")));
    if fence["value"] != before["metadata"]["resourceVersion"] {
        return None;
    }
    let mut after = before.clone();
    json_patch::patch(&mut after, &effect.patch).unwrap();
    world.put(after.clone());
    Some(Write { before, after })
}

fn pin(status: &mut RolloutStatus, spec: &RolloutSpec, state: &State, decision: Option<&Decision>) {
    if decision.is_some_and(|decision| decision.kind == DecisionKind::Started) {
        status.pinned = Some(Box::new(spec.clone()));
    } else if !state.in_flight() && state.retiring.is_empty() {
        status.pinned = None;
    }
}

/// The plan of a spec. Tests ask for that of a few over and over again.
fn plan_of(spec: &RolloutSpec) -> Result<Plan, PlanErrors> {
    type Known = Vec<(RolloutSpec, Result<Plan, PlanErrors>)>;
    thread_local!(static KNOWN: RefCell<Known> = const { RefCell::new(Vec::new()) });
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, plan)) = known.iter().find(|(known, _)| known == spec) {
            return plan.clone();
        }
        known.truncate(20);
        known.insert(0, (spec.clone(), Plan::new(spec, NAMESPACE)));
        known[0].1.clone()
    })
}

/// The plan that counts for `state`.
fn plan(spec: &RolloutSpec, status: &RolloutStatus, state: &State) -> Option<Plan> {
    let pinned = status.pinned.as_ref().and_then(|pinned| plan_of(pinned).ok());
    let current = plan_of(spec).ok();
    machine::in_force(pinned.as_ref(), current.as_ref(), state).cloned()
}

fn objects(world: &World) -> BTreeMap<ObjectName, Value> {
    let named = |(name, object): (&String, &Value)| ((NAMESPACE.to_owned(), name.clone()), object.clone());
    world.virtual_services.iter().map(named).collect()
}

fn with_world<T>(
    world: &World,
    objects: &BTreeMap<ObjectName, Value>,
    what: impl FnOnce(&carrier::World<'_>) -> T,
) -> T {
    let ports = |_: &str, service: &str| world.ready.get(service).map(|_| vec![8000]);
    what(&carrier::World {
        namespace: NAMESPACE,
        name: "iris",
        virtual_services: objects.iter().map(|(name, object)| (name.clone(), object)).collect(),
        cluster: Cluster { names: &HostNames::default(), ports: &ports },
    })
}

fn outlook(
    world: &World,
    objects: &BTreeMap<ObjectName, Value>,
    plan: Option<&Plan>,
    state: &State,
) -> Outlook {
    let (Some(plan), Some(setting)) = (plan, machine::desired(plan, state)) else {
        return Outlook::default();
    };
    let stamp = machine::stamp(Some(plan), state, &world.uid);
    let outlook = with_world(world, objects, |seen| carrier::effects(seen, plan, &setting, &stamp));
    if world.frozen.is_some() { outlook.without_growth() } else { outlook }
}

/// What would be written for the stored status.
pub fn outlook_now(world: &World) -> Outlook {
    let state = State::from(&world.status);
    let plan = plan(&world.parsed_spec(), &world.status, &state);
    outlook(world, &objects(world), plan.as_ref(), &state)
}

fn observe(world: &World, spec: &RolloutSpec, state: &State, saw: Saw, elapsed: Option<Duration>) -> Facts {
    let objects = objects(world);
    let plan_in_force = plan(spec, &world.status, state);
    let current = plan_of(spec).map_err(|errors| Refusal::new(errors.reason(), errors.to_string()));
    let service = |name: &str| world.ready.get(name).map(|_| ServiceView { ports: vec![8000] });
    let wanted = target::wanted(spec, NAMESPACE, service);
    let first_time = matches!(state.stage, Stage::Pending);
    let named = target::named_stable(spec, NAMESPACE, |_| None).ok().filter(|_| first_time);
    let from = named.unwrap_or_default();
    let plan = plan_in_force.as_ref();
    let seen = with_world(world, &objects, |seen| {
        plan.map(|plan| carrier::see(seen, plan, wanted.as_ref().ok(), &from))
    });
    let (mut traffic, refused) = match seen {
        None => (None, None),
        Some(Ok(traffic)) => (Some(traffic), None),
        Some(Err(refusal)) => (None, Some(refusal)),
    };
    if let Some(traffic) = &mut traffic {
        traffic.in_place = outlook(world, &objects, plan, state).in_place();
    }
    let accepted = current.as_ref().map_err(Clone::clone).and_then(|current| {
        let desired = machine::desired(plan, state);
        let pair = desired.zip(wanted.as_ref().ok()).map(|(desired, wanted)| carrier::pair(desired, wanted));
        with_world(world, &objects, |seen| carrier::accept(seen, current, pair.as_ref(), None, &[]))
    });
    let refusal = accepted.err().or(wanted.as_ref().err().cloned()).or(refused);
    let wanted = wanted.ok();
    let (stable, canary) = machine::arms(state, traffic.as_ref(), wanted.as_ref(), &world.uid);
    let missing = |arm: Option<&sluice_core::Predictor>| world.missing.get(&arm?.service).cloned();
    let (stable_missing, canary_missing) = (missing(stable.as_ref()), missing(canary.as_ref()));
    let ready = |arm: Option<sluice_core::Predictor>| {
        arm.and_then(|arm| world.ready.get(&arm.service).copied()).unwrap_or(0)
    };
    Facts {
        now: world.time(),
        elapsed: elapsed.unwrap_or_default(),
        wanted,
        refusal,
        deleted: world.deleted,
        paused: spec.paused,
        frozen: world.frozen.clone(),
        uid: world.uid.clone(),
        had_status: world.finalizer,
        traffic,
        stable_ready: ready(stable),
        canary_ready: ready(canary),
        stable_missing,
        canary_missing,
        serves: world.serves.clone(),
        look: world.look(saw),
        metrics: None,
        actions: world
            .actions
            .iter()
            .filter(|action| action.answer.is_none())
            .map(|action| action.asked.clone())
            .collect(),
    }
}
