//! What is struck: a sample of the writes of a run and of the events that its controller hears of.

use std::fmt;
use std::time::Duration;

use sluice_lab::embedded::Refusal;
use sluice_lab::faults::{EventThen, Faults, Then, Verb, When};

use super::way::Way;

/// How many writes and how many events a way draws.
const WRITES: usize = 5;
const EVENTS: usize = 2;

/// What the controller watches.
const WATCHED: [&str; 5] = ["rollouts", "virtualservices", "services", "endpointslices", "rolloutactions"];

/// One fault of one run.
pub enum Strike {
    Write(When, Then),
    /// It crashes after this write, and the next controller is told the world as it was when the rollout began.
    OldList(When),
    Event(When, EventThen),
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(when, then) => write!(f, "{when}: {then:?}"),
            Self::OldList(when) => write!(f, "{when}: CrashAfter, and an old list"),
            Self::Event(when, then) => write!(f, "event: {when}: {then:?}"),
        }
    }
}

impl Strike {
    /// Whether a write is late.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Write(_, Then::Delay(_)))
    }

    /// Gives the fault to the connection of a controller of this namespace.
    pub fn prepare(&self, faults: &Faults, namespace: &str) {
        match self {
            Self::Write(when, then) => faults.on(when.clone().namespace(namespace), then.clone()),
            Self::OldList(when) => faults.on(when.clone().namespace(namespace), Then::CrashAfter),
            Self::Event(when, then) => faults.on_event(when.clone().namespace(namespace), then.clone()),
        }
    }
}

/// What it lists at first is as it was at this version, and the news since then come late.
pub fn be_behind(faults: &Faults, version: u64) {
    for resource in WATCHED {
        faults.on(When::verb(Verb::List).resource(resource).nth(1), Then::Old(version));
    }
    for resource in &WATCHED[..2] {
        let late = EventThen::Delay(Duration::from_secs(2));
        faults.on_event(When::any().resource(resource).nth(1), late);
    }
}

/// What was drawn.
pub struct Sample {
    /// What to set `SLUICE_FAULTS` to for the same.
    pub seed: String,
    pub strikes: Vec<Strike>,
}

fn on_writes() -> Vec<Then> {
    let refuse = |code, reason| Then::Refuse(Refusal::new(code, reason, "by a fault"));
    vec![
        Then::CrashBefore,
        Then::CrashAfter,
        Then::LoseAnswer,
        refuse(409, "Conflict"),
        refuse(429, "TooManyRequests"),
        refuse(500, "InternalError"),
        refuse(403, "Forbidden"),
        // Longer than anybody waits for it.
        Then::Delay(Duration::from_secs(10)),
    ]
}

fn on_events() -> Vec<EventThen> {
    let late = EventThen::Delay(Duration::from_secs(3));
    vec![EventThen::Drop, EventThen::Duplicate, late, EventThen::Expire, EventThen::Close]
}

impl Sample {
    /// Some of what can strike a run with these writes.
    pub fn draw(way: Way, points: &[When]) -> Self {
        let points = numbered(points);
        let asked = std::env::var("SLUICE_FAULTS").unwrap_or_default();
        if asked == "all" {
            return Self { seed: asked, strikes: all(&points) };
        }
        let seed = asked.parse().unwrap_or(4);
        // The ways take turns at the faults, so that together they have them all, more than once.
        let turn = way as usize;
        let mut random = Random(seed + 1000 * turn as u64);
        let mut strikes = Vec::new();
        let kinds = on_writes();
        for n in 0..WRITES {
            let then = kinds[(turn * WRITES + n) % kinds.len()].clone();
            strikes.push(Strike::Write(random.one_of(&points), then));
        }
        let kinds = on_events();
        for n in 0..EVENTS {
            strikes.push(event(kinds[(turn * EVENTS + n) % kinds.len()].clone(), &mut random));
        }
        strikes.push(Strike::OldList(random.one_of(&of_the_end(&points))));
        Self { seed: seed.to_string(), strikes }
    }
}

/// Everything that can strike.
fn all(points: &[When]) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for point in points {
        strikes.extend(on_writes().into_iter().map(|then| Strike::Write(point.clone(), then)));
    }
    strikes.extend(of_the_end(points).into_iter().map(Strike::OldList));
    for n in 0..20 {
        strikes.extend(on_events().into_iter().map(|then| event(then, &mut Random(n))));
    }
    strikes
}

/// The writes of a run that can be told again in another: those of the Rollout's objects by their number, Events, whose
/// names are never the same, by theirs. Leases are the tests' of leaders.
fn numbered(points: &[When]) -> Vec<When> {
    let mut events = 0;
    let kept = points.iter().filter(|point| !point.is_of("leases"));
    kept.map(|point| {
        if point.is_of("events") {
            events += 1;
            return When::writes().resource("events").nth(events);
        }
        point.clone()
    })
    .collect()
}

/// The second half of the writes of the Rollout's status: when there is something to be behind of.
fn of_the_end(points: &[When]) -> Vec<When> {
    let of_status: Vec<When> =
        points.iter().filter(|point| point.is_of("rollouts/status")).cloned().collect();
    of_status[of_status.len() / 2..].to_vec()
}

/// An event that this may happen to. What people do is told once: that alone is never lost for good, because a watch
/// never loses anything; so only of what the controller itself changes events are dropped.
fn event(then: EventThen, random: &mut Random) -> Strike {
    let resources = match then {
        EventThen::Drop => &WATCHED[1..2],
        EventThen::Duplicate
        | EventThen::Delay(_)
        | EventThen::Expire
        | EventThen::Close
        | EventThen::Tamper(_) => &WATCHED[..2],
    };
    let when = When::any().resource(random.one_of(resources)).nth(1 + random.below(3));
    Strike::Event(when, then)
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        let at = usize::try_from(self.below(list.len() as u64)).unwrap_or_default();
        list[at].clone()
    }
}
