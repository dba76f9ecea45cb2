//! What can happen to a write, to an event and to a list.

use std::{fmt, time::Duration};

use chrono::TimeDelta;
use sluice_lab::{
    embedded::{Api, EventThen, Faults, Refusal, Then, Verb, When},
    invariants::Limits,
};

use crate::world::CONTROLLER;

/// What the controller watches.
pub(super) const WATCHED: [&str; 5] =
    ["rollouts", "virtualservices", "services", "endpointslices", "rolloutactions"];

/// What can happen to a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    CrashBefore,
    CrashAfter,
    /// It dies once it has the answer.
    CrashAnswered,
    /// Answered with this code, so many times in a row.
    Refused(u16, u64),
    /// It arrives so many seconds later.
    Late(u64),
}

pub(super) const CRASHES: [Fault; 3] = [Fault::CrashBefore, Fault::CrashAfter, Fault::CrashAnswered];
pub(super) const REFUSALS: [Fault; 4] =
    [Fault::Refused(409, 1), Fault::Refused(429, 1), Fault::Refused(500, 1), Fault::Refused(403, 1)];
/// Of the codes that are no conflict the controller makes no difference between 429 and 500.
pub(super) const REPEATED: [Fault; 3] =
    [Fault::Refused(409, 4), Fault::Refused(500, 4), Fault::Refused(403, 4)];
pub(super) const DELAYS: [Fault; 1] = [Fault::Late(10)];

/// One fault of a run.
pub(super) enum Strike {
    /// At one write.
    Write(When, Fault),
    /// At events of one kind.
    Event(When, EventThen),
    /// The controller dies at a write, once it is committed, and the next one lists all as it was before, and hears of
    /// changes late.
    OldLists(When),
}

/// Every fault at every write; of those at Events, which nobody reads back, the first.
pub(super) fn on_writes(writes: &[When], faults: &[Fault]) -> Vec<Strike> {
    let of_write = |write: &When| {
        let number = if write.to_string().contains(" of events ") { 1 } else { faults.len() };
        faults[..number].to_vec()
    };
    let strike = |write: &When| {
        of_write(write).into_iter().map(|fault| Strike::Write(write.clone(), fault)).collect::<Vec<_>>()
    };
    writes.iter().flat_map(strike).collect()
}

/// Every change is dropped once; all of a kind come twice, come late, or end the watch.
pub(super) fn on_events(changes: &[(&'static str, u64)]) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for (kind, changes) in changes.iter().filter(|(_, changes)| *changes > 0) {
        let all = || When::any().resource(kind);
        strikes.extend((1..=*changes).map(|nth| Strike::Event(all().nth(nth), EventThen::Drop)));
        let late = EventThen::Delay(Duration::from_secs(3));
        strikes
            .extend([EventThen::Duplicate, late, EventThen::Expire].map(|then| Strike::Event(all(), then)));
    }
    strikes
}

/// After every write of a Rollout or a VirtualService.
pub(super) fn on_old_lists(writes: &[When]) -> Vec<Strike> {
    let about = |write: &&When| {
        let text = write.to_string();
        ["rollouts", "virtualservices", "rolloutactions"]
            .iter()
            .any(|kind| text.contains(&format!("of {kind}")))
    };
    writes.iter().filter(about).cloned().map(Strike::OldLists).collect()
}

impl Strike {
    /// What strikes the first controller.
    pub(super) fn first(&self, faults: &Faults) {
        match self {
            Self::Write(when, Fault::Refused(code, times)) => {
                faults.on(when.clone().times(*times), Then::Refuse(refusal(*code)));
            }
            Self::Write(when, fault) => faults.on(when.clone(), fault.then()),
            Self::Event(when, then) => faults.on_event(when.clone(), then.clone()),
            Self::OldLists(when) => faults.on(when.clone(), Then::CrashAfter),
        }
    }

    /// What strikes those after it.
    pub(super) fn next(&self, api: &Api, faults: &Faults) {
        if let Self::OldLists(_) = self {
            // As it was before the last thing that a controller wrote.
            let history = api.history();
            let last =
                history.iter().rfind(|write| write.user == CONTROLLER).map_or(0, |write| write.version);
            for kind in WATCHED {
                faults.on(When::verb(Verb::List).resource(kind).times(1), Then::Old(last.saturating_sub(1)));
            }
            faults.on_event(When::any().times(1), EventThen::Delay(Duration::from_secs(2)));
        }
    }

    /// Whether it kills.
    pub(super) fn crashes(&self) -> bool {
        match self {
            Self::Write(_, fault) => {
                matches!(fault, Fault::CrashBefore | Fault::CrashAfter | Fault::CrashAnswered)
            }
            Self::Event(..) => false,
            Self::OldLists(_) => true,
        }
    }

    /// What "soon" is where this happens.
    pub(super) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let (news, more) = match self {
            Self::Write(_, Fault::Late(seconds)) => (0, 2 * *seconds),
            Self::Write(..) => (0, 0),
            // What was dropped is noticed with the next checkpoint, or the next list.
            Self::Event(_, EventThen::Drop) => (310, 310),
            Self::Event(..) | Self::OldLists(_) => (4, 4),
        };
        let [news, more] = [news, more].map(|seconds: u64| TimeDelta::seconds(seconds.cast_signed()));
        limits.news += news;
        limits.reconcile += more;
        limits.breach += more;
        limits
    }
}

impl Fault {
    fn then(self) -> Then {
        match self {
            Self::CrashBefore => Then::CrashBefore,
            Self::CrashAfter => Then::CrashAfter,
            Self::CrashAnswered => Then::CrashAnswered,
            Self::Refused(code, _) => Then::Refuse(refusal(code)),
            Self::Late(seconds) => Then::Delay(Duration::from_secs(seconds)),
        }
    }
}

fn refusal(code: u16) -> Refusal {
    match code {
        409 => Refusal::new(409, "Conflict", "the object has been modified"),
        429 => Refusal::new(429, "TooManyRequests", "slow down"),
        403 => Refusal::new(403, "Forbidden", "you may not"),
        code => Refusal::new(code, "InternalError", "etcd has no leader"),
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(when, fault) => write!(f, "{when}, {fault:?}"),
            Self::Event(when, then) => write!(f, "events: {when}, {then:?}"),
            Self::OldLists(when) => write!(f, "{when}, crash, then old lists"),
        }
    }
}
