//! What the checker has to be told of a run beside what was committed: kept while it goes on.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use chrono::{DateTime, Utc};
use sluice::controller::Clock;
use sluice_lab::{
    embedded::Api,
    invariants::{Commit, Limits, Mark, Run},
};

/// Shared by the world and its controllers.
#[derive(Clone)]
pub struct Journal {
    clock: Clock,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    marks: Vec<Mark>,
    controllers: BTreeSet<String>,
    alive: usize,
}

impl Journal {
    /// One that begins now, before there is any controller.
    pub fn starting_with(clock: Clock) -> Self {
        let journal = Self { clock, notes: Arc::default() };
        journal.away(true);
        journal
    }

    /// A controller begins.
    pub fn begins(&self, user: &str) {
        let mut notes = self.notes();
        notes.controllers.insert(user.to_owned());
        notes.alive += 1;
        drop(notes);
        self.away(false);
    }

    /// A controller is gone.
    pub fn ends(&self) {
        let mut notes = self.notes();
        notes.alive -= 1;
        let nobody = notes.alive == 0;
        drop(notes);
        if nobody {
            self.away(true);
        }
    }

    /// Whether nothing can be done about anything from now on.
    pub fn away(&self, yes: bool) {
        self.switch(yes, |from| Mark::Away { from, to: None });
    }

    /// Whether the metrics say nothing from now on.
    pub fn outage(&self, yes: bool) {
        self.switch(yes, |from| Mark::Outage { from, to: None });
    }

    /// Whether a Service breaches its rules from now on.
    pub fn breach(&self, namespace: &str, service: &str, yes: bool) {
        let (namespace, service) = (namespace.to_owned(), service.to_owned());
        self.switch(yes, |from| Mark::Breach { namespace, service, from, to: None });
    }

    /// Nothing was to be written since then, and so many requests wanted to.
    pub fn rested(&self, from: DateTime<Utc>, requests: u64) {
        let to = self.clock.now();
        self.notes().marks.push(Mark::Rest { from, to, requests });
    }

    /// The run so far.
    pub fn run(&self, api: &Api, limits: Limits) -> Run {
        let notes = self.notes();
        let commits = api.history().into_iter().map(Commit::from).collect();
        let (marks, controllers) = (notes.marks.clone(), notes.controllers.clone());
        Run { commits, marks, controllers, until: self.clock.now(), limits, calm: None }
    }

    /// Ends the open marks of that kind, and begins another if `yes`.
    fn switch(&self, yes: bool, mark: impl FnOnce(DateTime<Utc>) -> Mark) {
        let now = self.clock.now();
        let mark = mark(now);
        let mut notes = self.notes();
        for open in &mut notes.marks {
            if std::mem::discriminant(open) == std::mem::discriminant(&mark) {
                match open {
                    Mark::Breach { to, .. } | Mark::Outage { to, .. } | Mark::Away { to, .. } => {
                        to.get_or_insert(now);
                    }
                    Mark::Rest { .. } => {}
                }
            }
        }
        if yes {
            notes.marks.push(mark);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("nobody panicked while writing")
    }
}
