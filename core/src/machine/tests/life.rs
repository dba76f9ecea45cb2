//! One controller in a world, told in a few words.

use std::time::Duration;

use serde_json::{Value, json};

use super::{controller::Controller, world::*};
use crate::{
    api::{Decision, DecisionKind, Do, Phase, Reason},
    machine::{Outcome, Stage, StepState},
};

pub(super) struct Life {
    pub(super) world: World,
    pub(super) controller: Controller,
}

impl Life {
    /// `v1` is stable and nothing is in flight.
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    /// The same with another spec.
    pub(super) fn with(change: impl FnOnce(&mut Value)) -> Self {
        let mut world = World::new();
        change(&mut world.spec);
        let mut life = Self { world, controller: Controller::default() };
        life.turns(2, GOOD);
        life
    }

    /// `v2` was just entered into step `number`, counted from 1.
    pub(super) fn at_step(number: u32, change: impl FnOnce(&mut Value)) -> Self {
        let mut life = Self::with(change);
        life.world.want("v2");
        life.until(GOOD, |life| life.number() == Some(number) && life.world.status.weight > 0);
        life
    }

    pub(super) fn turns(&mut self, turns: usize, saw: Saw) {
        for _ in 0..turns {
            self.controller.turn(&mut self.world, saw);
            self.world.now += Duration::from_secs(10);
        }
    }

    /// Turns until `done`, but not for ever.
    pub(super) fn until(&mut self, saw: Saw, done: impl Fn(&Self) -> bool) {
        for _ in 0..200 {
            if done(self) {
                return;
            }
            self.turns(1, saw);
        }
        panic!("it never came: {:#?}", self.world.status);
    }

    /// Another leader takes over.
    pub(super) fn crash(&mut self) {
        self.controller.crash();
    }

    pub(super) fn ready(&mut self, service: &str, endpoints: usize) {
        self.world.ready.insert(service.to_owned(), endpoints);
    }

    /// A person asks about `v2` and the step in flight.
    pub(super) fn ask(&mut self, what: Do) -> String {
        let step = self.number();
        self.world.ask(what, Some(revision("v2")), step)
    }

    /// A person asks, and the controller hears it.
    pub(super) fn asks(&mut self, what: Do) {
        self.ask(what);
        self.turns(1, GOOD);
    }

    pub(super) fn edit_spec(&mut self, field: &str, value: &Value) {
        self.world.edit_spec(|spec| spec[field] = value.clone());
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.edit_spec("paused", &json!(paused));
    }

    /// The canary's weight on the route.
    pub(super) fn weight(&self) -> u64 {
        self.world.weight("a", "v2")
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.world.status.progress.as_ref().map(|progress| progress.number)
    }

    pub(super) fn step(&self) -> &StepState {
        match &self.world.status.stage {
            Stage::Step(step) => step,
            other => panic!("nothing is in flight: {other:?}"),
        }
    }

    pub(super) fn in_flight(&self) -> bool {
        matches!(self.world.status.stage, Stage::Step(_))
    }

    pub(super) fn stands(&self) -> (Phase, Reason) {
        (self.world.status.phase, self.world.status.reason.unwrap())
    }

    pub(super) fn message(&self) -> &str {
        &self.world.status.message
    }

    pub(super) fn last(&self) -> &Decision {
        self.world.status.decisions.last().unwrap()
    }

    pub(super) fn kinds(&self) -> Vec<DecisionKind> {
        self.world.status.decisions.iter().map(|decision| decision.kind).collect()
    }

    pub(super) fn stable(&self) -> &str {
        &self.world.status.stable.as_ref().unwrap().service
    }

    pub(super) fn outcome(&self, service: &str) -> Option<Outcome> {
        let outcomes = &self.world.status.outcomes;
        outcomes.iter().find(|outcome| outcome.predictor.service == service).map(|outcome| outcome.outcome)
    }
}
