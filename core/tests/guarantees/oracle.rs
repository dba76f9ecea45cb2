//! Watches every write, and says what must not be. The numbers are those of the design's "What must always hold".

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sluice_core::{
    Predictor,
    api::{
        Condition, ConditionStatus, ConditionType, Decision, DecisionKind, Do, Given, MIRRORS, Percent,
        Reason, RolloutStatus, STAMP,
    },
    machine::{Stage, StepState},
};

use crate::{
    controller::{Commit, Write, outlook_now},
    events::SERVICES,
    world::{BAD, Saw, World, entries, mirrors, own_routes, stamp, weight},
};

#[derive(Default)]
pub struct Oracle {
    /// Everything that was recorded under a decision's number.
    recorded: BTreeMap<u64, Vec<Given>>,
    last_seq: Option<u64>,
    paused_by_person: bool,
    approved: bool,
    /// Since the step was entered: requests and seconds that were fed in.
    requests: u64,
    seconds: u64,
    bad: bool,
    /// The last look of each controller since it began.
    looks: [Option<Saw>; 2],
    /// Whether there was a Freeze when each controller last looked at the world.
    frozen: [bool; 2],
    /// Stable when the status was lost, until a person asks for a retry or it is what is wanted.
    lost: Option<String>,
}

/// What was so before a clean turn.
pub struct Expected {
    abort: bool,
}

impl Oracle {
    pub fn looked(&mut self, controller: usize, saw: Saw, seconds: u64) {
        self.seconds += seconds;
        if let Saw::Requests(requests, _) = saw {
            self.requests += requests;
        }
        self.bad |= saw == BAD;
        if saw != Saw::NotAsked {
            self.looks[controller] = Some(saw);
        }
    }

    pub fn began(&mut self, controller: usize, frozen: bool) {
        self.frozen[controller] = frozen;
    }

    pub fn crashed(&mut self, controller: usize) {
        self.looks[controller] = None;
    }

    pub fn wiped(&mut self, world: &World) {
        self.restored(&RolloutStatus::default());
        if !matches!(world.status.stage, Stage::Pending) {
            self.lost = newest_stable(world);
        }
    }

    /// A stamp went before anybody read it: what is left of them tells where stable was.
    pub fn unstamped(&mut self, world: &World) {
        if matches!(world.status.stage, Stage::Pending) && self.lost.is_some() {
            self.lost = newest_stable(world);
        }
    }

    /// From now on the status says what was seen and approved.
    pub fn restored(&mut self, status: &RolloutStatus) {
        self.last_seq = None;
        self.paused_by_person = false;
        self.lost = None;
        self.approved = step(status).is_some_and(|step| step.approved.is_some());
        if let Some(step) = step(status) {
            self.requests += step.evidence.requests;
            self.seconds += step.elapsed.0.as_secs();
        }
    }

    pub fn committed(&mut self, controller: usize, world: &World, commit: &Commit) {
        let Commit { before, after, decision, .. } = commit;
        is_a_status_that_the_api_takes(after);
        assert_eq!(
            (i64::from(after.weight), after.beside.matches.len(), json!(after.beside.mirror)),
            given_in_the_step(after),
            "4: {after:?}"
        );
        self.recorded.entry(after.seq).or_default().push(after.given());
        if let Some(decision) = decision {
            assert!(self.last_seq < Some(decision.seq), "15: decision {} twice", decision.seq);
            self.last_seq = Some(decision.seq);
            assert_eq!(after.decisions.last(), Some(decision), "15: decided but not recorded");
            assert_eq!(decision.seq, after.seq, "15: recorded under another number");
        }
        if !before.given().covers(&after.given()) {
            let decision = decision.as_ref().expect("15: growth without a decision");
            assert_eq!(
                (decision.from_given(), decision.given()),
                (before.given(), after.given()),
                "15: {decision:?}"
            );
            assert!(
                !spec_paused(world) && before.pause.is_none() && !self.paused_by_person,
                "14: growth while paused"
            );
            assert!(!self.frozen[controller], "14: growth while frozen: {decision:?}");
        }
        let started = decision.as_ref().is_some_and(|decision| decision.kind == DecisionKind::Started);
        assert!(!(started && self.frozen[controller]), "14: a start while frozen");
        let asked = answered(world, before, after);
        self.steps(controller, commit, &asked);
        if let Some(decision) = decision {
            keeps_a_stable_that_cannot_answer(commit, decision, &asked);
        }
        self.loses_no_user(commit);
        for what in &asked {
            match what {
                Do::Pause => self.paused_by_person = true,
                Do::Resume => self.paused_by_person = false,
                Do::Approve => self.approved = true,
                Do::Promote
                | Do::PromoteFull
                | Do::DecideStable
                | Do::DecideCanary
                | Do::Abort
                | Do::Retry => {}
            }
        }
    }

    /// 4, 5, 11, 14: how a step is entered.
    fn steps(&mut self, controller: usize, commit: &Commit, asked: &[Do]) {
        let Commit { before, after, decision, ready, .. } = commit;
        let kind = decision.as_ref().map(|decision| decision.kind);
        let entered = matches!(kind, Some(DecisionKind::Entered | DecisionKind::Promoting));
        let by_person = decision.as_ref().is_some_and(|decision| decision.by.is_some());
        match (step(before), step(after)) {
            (Some(from), Some(to)) => {
                assert_eq!(before.canary, after.canary, "5: a step is carried across revisions");
                assert!(to.index >= from.index, "5: back from step {} to {}", from.index, to.index);
                assert!(to.index == from.index || entered, "4: step {} without a decision", to.index);
            }
            (None, Some(to)) => {
                assert_eq!(kind, Some(DecisionKind::Started), "5: in flight without a start");
                assert!(to.index == 0 && to.withdrawn.is_some() && after.weight == 0, "4: {to:?}");
            }
            (_, None) => assert!(!entered, "4"),
        }
        let failed = decision.as_ref().is_some_and(|decision| decision.reason == Reason::CheckFailed);
        assert!(self.bad || !failed, "11: rolled back, and nobody saw a breach");
        if entered {
            let (from, to) = (step(before).unwrap(), step(after).unwrap());
            let canary = &after.canary.as_ref().unwrap().service;
            assert!(
                ready.get(canary).is_some_and(|ready| *ready > 0),
                "2, 4: entered while {canary} is not ready"
            );
            if by_person {
                let promotes = [Do::Promote, Do::PromoteFull, Do::DecideCanary];
                let promoted = asked.iter().any(|what| promotes.contains(what));
                assert!(promoted && to.index > from.index, "4: nobody asked to enter step {}", to.index);
            } else if to.index > from.index {
                self.passed(controller, after, from, to);
            }
        }
        if step(before).map(|step| step.index) != step(after).map(|step| step.index) || entered {
            (self.requests, self.seconds, self.approved, self.bad) = (0, 0, false, false);
        }
    }

    fn passed(&self, controller: usize, after: &RolloutStatus, from: &StepState, to: &StepState) {
        assert_eq!(to.index, from.index + 1, "4: a step was left out");
        let pinned = after.pinned.as_ref().expect("a plan is pinned");
        let step = &pinned.steps[from.index];
        let lasts = step.lasts.map_or(0, |lasts| lasts.0.as_secs());
        assert!(self.seconds >= lasts, "4: step {} after {}s of {lasts}s", from.index, self.seconds);
        let least = step.min_requests.unwrap_or(0).max(50);
        assert!(self.requests >= least, "4: step {} after {} of {least} requests", from.index, self.requests);
        assert!(!step.approve || self.approved, "14: step {} was not approved", from.index);
        if let Some(saw) = self.looks[controller] {
            assert!(matches!(saw, Saw::Requests(_, 0)), "11, 4: step {} passed on {saw:?}", from.index);
        }
    }

    /// 16: losing the status loses no user, and starts nothing.
    fn loses_no_user(&mut self, commit: &Commit) {
        let (Some(lost), after) = (&self.lost, &commit.after) else { return };
        let Some(stable) = after.stable.as_ref().map(ToString::to_string) else { return };
        assert_eq!(stable, *lost, "16: stable was lost with the status");
        let kind = commit.decision.as_ref().map(|decision| decision.kind);
        assert_ne!(kind, Some(DecisionKind::Started), "16: a rollout started by itself");
        let wanted = commit.facts.wanted.as_ref().map(ToString::to_string);
        let asked = matches!(kind, Some(DecisionKind::Retried | DecisionKind::Released));
        if asked || wanted == Some(stable) {
            self.lost = None;
        }
    }

    /// `frozen`: there is a Freeze as it is written.
    pub fn wrote(&mut self, write: &Write, frozen: bool) {
        let Write { before, after } = write;
        assert_eq!(foreign(before), foreign(after), "6: what is not managed was changed");
        let total = |object: &Value| SERVICES.iter().map(|service| weight(object, service)).sum::<u64>();
        assert_eq!(total(before), total(after), "1: the pair's share changed");
        assert!(total(after) <= 100);
        for entry in entries(after) {
            assert!(entry["weight"].as_u64().unwrap_or(0) <= 100, "1");
            let fields: Vec<&String> = entry.as_object().unwrap().keys().collect();
            assert!(
                fields.iter().all(|field| ["destination", "weight", "headers"].contains(&field.as_str()))
            );
            let mut headers = entry["headers"].clone();
            headers.as_object_mut().unwrap().remove("response");
            assert_eq!(headers, json!({"x": "y"}), "6");
        }
        let ours = stamp(after).expect("every decision stamps");
        let seq = ours["seq"].as_u64().unwrap();
        if let Some(old) = stamp(before) {
            let older = old["seq"].as_u64().unwrap();
            assert!(older <= seq, "13: decision {older} was undone by {seq}");
            let lower =
                old["setting"].as_u64() < ours["setting"].as_u64() && old["revision"] == ours["revision"];
            assert!(older < seq || !lower, "13: of two with number {seq} the higher won");
        }
        let share = total(after);
        for service in SERVICES {
            let grown = weight(after, service);
            let revision = json!(crate::world::revision(service));
            if grown > weight(before, service) && ours["stable"] != revision {
                assert!(!frozen, "14: {service} got more while frozen");
                assert_eq!(ours["revision"], revision, "4: {service} is nobody's canary");
                let recorded =
                    self.recorded.get(&seq).and_then(|all| all.iter().map(|given| given.weight).max());
                let recorded = recorded.map_or_else(
                    || panic!("15: {service} got more by {seq}, which is not recorded"),
                    u64::from,
                );
                assert!(grown <= share * recorded / 100, "4: {grown} of {share} at {recorded}%");
                assert_eq!(grown, share * ours["setting"].as_u64().unwrap() / 100, "1");
            }
        }
    }

    /// The same for routes of ours and copies.
    pub fn wrote_beside(&self, write: &Write, frozen: bool) {
        let Write { before, after } = write;
        let ours = stamp(after).expect("every decision stamps");
        let seq = ours["seq"].as_u64().unwrap();
        let canary = ours["revision"].as_str().and_then(|revision| revision.parse::<Predictor>().ok());
        let canary = canary.map(|canary| canary.service);
        for route in own_routes(after) {
            let new = !own_routes(before).contains(&route);
            assert!(!(new && frozen), "14: a match grows while frozen: {route}");
            let of_stable = route["name"].as_str().unwrap().ends_with("+stable");
            assert!(route.get("mirrors").is_none() || of_stable, "12: {route}");
            for entry in route["route"].as_array().unwrap() {
                let host = entry["destination"]["host"].as_str().unwrap();
                assert!(
                    !SERVICES.contains(&host) || of_stable || Some(host) == canary.as_deref(),
                    "4: {route}"
                );
            }
        }
        let recorded = self.recorded.get(&seq).map_or(&[][..], Vec::as_slice);
        let matched = own_routes(after).iter().any(|route| !route["name"].as_str().unwrap().contains('+'));
        assert!(
            !matched || recorded.iter().any(|given| !given.beside.matches.is_empty()),
            "15: {seq} has no match"
        );
        for (host, percent) in mirrors(after) {
            let less = mirrors(before).get(&host).is_none_or(|before| *before < percent);
            assert!(!(less && frozen), "14: copies grow while frozen");
            assert_eq!(Some(&host), canary.as_ref(), "12: copies to {host}");
            let is_it = |given: &Given| Percent::of(percent) == Some(given.beside.mirror);
            assert!(recorded.iter().any(is_it), "15: {percent}% of copies by {seq}: {recorded:?}");
        }
    }

    pub fn expect(world: &World) -> Expected {
        let canary = world.status.canary.as_ref().map(ToString::to_string);
        let open = world.actions.iter().filter(|action| action.answer.is_none());
        let abort = step(&world.status).is_some()
            && open.map(|action| &action.asked).any(|asked| {
                asked.what == Do::Abort && (asked.revision.is_none() || asked.revision == canary)
            });
        Expected { abort }
    }

    /// After a turn in which nothing was broken, with what it found. `acts`: nobody else wrote in between.
    pub fn after_clean_turn(world: &World, expected: &Expected, acts: bool) {
        if world.gone || !acts {
            return;
        }
        let outlook = outlook_now(world);
        assert!(outlook.effects.is_empty(), "after all effects there are more: {outlook:?}");
        if expected.abort {
            assert!(step(&world.status).is_none(), "14: abort did not work");
        }
        let Some(stable) = &world.status.stable else { return };
        if nobody_knows_the_routes(&world.status) {
            return;
        }
        let ready = |service: &str| world.ready.get(service).copied().unwrap_or(0);
        let left_out: BTreeSet<_> = outlook.ahead.iter().map(|name| name.1.clone()).collect();
        for (name, object) in world.virtual_services.iter().filter(|(name, _)| managed(world, name)) {
            if left_out.contains(name) || !outlook.obstacles.is_empty() {
                continue;
            }
            for service in SERVICES.iter().filter(|service| **service != stable.service) {
                if !is_known(&world.status, service) {
                    continue;
                }
                let weight = weight(object, service);
                let alive = ready(service) > 0 || ready(&stable.service) == 0;
                assert!(weight == 0 || alive, "2: {service} has {weight} on {name} and no endpoint");
                if step(&world.status).is_none() {
                    assert_eq!(weight, 0, "3: {service} has traffic on {name} and nobody watches");
                }
            }
            let beside = own_routes(object).len() + mirrors(object).len();
            let given = world.status.given();
            let expected = !given.beside.is_nothing() || given.weight > 0;
            assert!(beside == 0 || expected, "12: {object}");
        }
    }
}

/// Whether the spec cannot be read and no other one is pinned.
pub fn nobody_knows_the_routes(status: &RolloutStatus) -> bool {
    status.reason == Some(Reason::InvalidSpec) && status.pinned.is_none()
}

/// Whether the routes in force name this VirtualService.
pub fn managed(world: &World, name: &str) -> bool {
    let pinned = world.status.pinned.as_ref().map(|pinned| json!(pinned.routes));
    let routes = pinned.unwrap_or_else(|| world.spec["routes"].clone());
    routes.as_array().is_some_and(|routes| routes.iter().any(|route| route["virtualService"] == *name))
}

/// Whether the status has heard of the service.
pub fn is_known(status: &RolloutStatus, service: &str) -> bool {
    let heard = status.known.iter().chain(&status.canary).map(|predictor| &predictor.service);
    let heard = heard.chain(status.retiring.iter().map(|retiring| &retiring.predictor.service));
    let mut heard = heard.chain(status.outcomes.iter().map(|outcome| &outcome.predictor.service));
    heard.any(|heard| heard == service)
}

/// Stable by the newest stamp on the routes that the spec names.
fn newest_stable(world: &World) -> Option<String> {
    let named = world.spec["routes"].as_array().unwrap().iter();
    let named = named.filter_map(|route| world.virtual_services.get(route["virtualService"].as_str()?));
    let stamps = named.filter_map(stamp);
    let newest = stamps.max_by_key(|stamp| stamp["seq"].as_u64())?;
    newest["stable"].as_str().map(str::to_owned)
}

fn spec_paused(world: &World) -> bool {
    world.spec["paused"] == true
}

pub fn step(status: &RolloutStatus) -> Option<&StepState> {
    match &status.stage {
        Stage::Step(step) => Some(step),
        Stage::Pending | Stage::Idle | Stage::StatusLost | Stage::Released => None,
    }
}

/// What the pinned spec says that the canary gets in the step that was entered: weight, matches and copies.
fn given_in_the_step(status: &RolloutStatus) -> (i64, usize, Value) {
    let pinned = status.pinned.as_ref().map(|pinned| pinned.steps.as_slice());
    match (step(status), pinned) {
        (Some(step), Some(steps)) if step.withdrawn.is_none() => match steps.get(step.index) {
            Some(step) => {
                let mirror = step.mirror.and_then(Percent::of).unwrap_or_default();
                (i64::from(step.weight.unwrap_or(0)), step.matches.len(), json!(mirror))
            }
            None => (100, 0, json!(0)),
        },
        _ => (0, 0, json!(0)),
    }
}

/// What was done for people between two statuses.
fn answered(world: &World, before: &RolloutStatus, after: &RolloutStatus) -> Vec<Do> {
    let new = after.handled.iter().filter(|handled| !before.handled.iter().any(|old| old.uid == handled.uid));
    let done = new.filter(|handled| handled.phase == sluice_core::api::ActionPhase::Done);
    done.filter_map(|handled| world.actions.iter().find(|action| action.asked.uid == handled.uid))
        .map(|action| action.asked.what)
        .collect()
}

/// 10: nothing is rolled back onto a stable that has no ready endpoint, but by a person's abort or a deletion.
fn keeps_a_stable_that_cannot_answer(commit: &Commit, decision: &Decision, asked: &[Do]) {
    let stable = commit.after.stable.as_ref().unwrap();
    let dead = commit.ready.get(&stable.service).copied().unwrap_or(0) == 0;
    let forced = asked.contains(&Do::Abort) || commit.facts.deleted;
    let open_abort = commit.facts.actions.iter().any(|asked| asked.what == Do::Abort);
    // Copies can always be taken away: their answers are nobody's.
    let taken = decision.from_given().has_users() && decision.given().is_less_than(&decision.from_given());
    assert!(!(dead && taken) || forced || open_abort, "10: {decision:?}");
}

/// The object without what is managed.
fn foreign(object: &Value) -> String {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(STAMP);
        annotations.remove(MIRRORS);
    }
    if object["metadata"]["annotations"] == json!({}) || object["metadata"]["annotations"].is_null() {
        object["metadata"].as_object_mut().unwrap().remove("annotations");
    }
    let http = object["spec"]["http"].as_array_mut().unwrap();
    http.retain(|route| !route["name"].as_str().is_some_and(|name| name.starts_with("sluice-models/iris/")));
    for route in http {
        if route["name"] == "primary" {
            route.as_object_mut().unwrap().remove("mirrors");
            route["route"]
                .as_array_mut()
                .unwrap()
                .retain(|entry| !SERVICES.iter().any(|service| entry["destination"]["host"] == *service));
        }
    }
    object.to_string()
}

fn is_a_status_that_the_api_takes(status: &RolloutStatus) {
    for (length, most) in [
        (status.decisions.len(), 20),
        (status.handled.len(), 20),
        (status.known.len(), 10),
        (status.retiring.len(), 10),
        (status.outcomes.len(), 10),
        (status.message.chars().count(), 2048),
    ] {
        assert!(length <= most, "{length} of {most}: {status:?}");
    }
    let holds = |kind| {
        let is = |condition: &&Condition| condition.kind == kind && condition.status == ConditionStatus::True;
        status.conditions.iter().find(is).is_some()
    };
    let [accepted, ready, reconciling, stalled] =
        [ConditionType::Accepted, ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
            .map(holds);
    let one = [ready, reconciling, stalled].into_iter().filter(|holds| *holds).count();
    assert_eq!(one, 1, "kstatus: {:?}", status.conditions);
    assert!(accepted || stalled);
    assert!(!status.message.is_empty());
    let mut roles: Vec<_> = status.retiring.iter().map(|retiring| &retiring.predictor).collect();
    roles.extend(&status.stable);
    roles.extend(status.canary.iter().filter(|_| step(status).is_some()));
    let distinct: BTreeSet<_> = roles.iter().collect();
    assert_eq!(distinct.len(), roles.len(), "in two roles: {status:?}");
}
