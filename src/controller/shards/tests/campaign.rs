//! Whatever happens to replicas, no two hold one slot, and afterwards everything is held again.

use std::time::Duration;

use proptest::prelude::*;
use sluice_lab::embedded::{Refusal, Then, When};

use super::replicas::{DURATION, PERIOD, World};
use crate::controller::shards::{Permit, SLOTS};

#[derive(Clone, Debug)]
enum Event {
    /// A replica comes whose clock is so many hours ahead.
    Start(i64),
    Stop(usize),
    Kill(usize),
    /// It is killed and started again under its name.
    Restart(usize),
    /// It stands still from now on, or goes on.
    Pause(usize),
    Resume(usize),
    /// From now on this happens to its requests.
    Faults(usize, Fault),
    /// From now on this happens to everybody's.
    Outage(Fault),
    /// Nothing happens to anybody's requests any more.
    Calm,
    /// It begins with so many Rollouts, and goes on with them until something else is said.
    Work(usize, usize),
    /// All that is in progress ends.
    Rest,
}

#[derive(Clone, Debug)]
enum Fault {
    Hang,
    HangWrites,
    Disconnect,
    Unavailable,
    LoseAnswers,
    LateAnswers(u64),
    Late(u64),
}

impl Fault {
    fn rule(&self) -> (When, Then) {
        let seconds = Duration::from_secs;
        match self {
            Self::Hang => (When::any(), Then::Hang),
            Self::HangWrites => (When::writes(), Then::Hang),
            Self::Disconnect => (When::any(), Then::Disconnect),
            Self::Unavailable => (When::any(), Then::Refuse(Refusal::unavailable())),
            Self::LoseAnswers => (When::writes(), Then::LoseAnswer),
            Self::LateAnswers(late) => (When::any(), Then::DelayAnswer(seconds(*late))),
            Self::Late(late) => (When::any(), Then::Delay(seconds(*late))),
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Hang),
        Just(Fault::HangWrites),
        Just(Fault::Disconnect),
        Just(Fault::Unavailable),
        Just(Fault::LoseAnswers),
        (1..20_u64).prop_map(Fault::LateAnswers),
        (1..20_u64).prop_map(Fault::Late),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let whom = 0..6_usize;
    prop_oneof![
        3 => (-2..3_i64).prop_map(Event::Start),
        1 => whom.clone().prop_map(Event::Stop),
        1 => whom.clone().prop_map(Event::Kill),
        1 => whom.clone().prop_map(Event::Restart),
        1 => whom.clone().prop_map(Event::Pause),
        1 => whom.clone().prop_map(Event::Resume),
        2 => (whom.clone(), fault()).prop_map(|(whom, fault)| Event::Faults(whom, fault)),
        1 => fault().prop_map(Event::Outage),
        2 => Just(Event::Calm),
        2 => (whom, 1..20_usize).prop_map(|(whom, many)| Event::Work(whom, many)),
        1 => Just(Event::Rest),
    ]
}

/// Events, and how many tenths of a second pass after each: around a period and around a lease more often than not.
fn story() -> impl Strategy<Value = Vec<(Event, u64)>> {
    let pause = prop_oneof![0..10_u64, 20..40_u64, 100..200_u64, 140..160_u64];
    prop::collection::vec((event(), pause), 1..16)
}

struct Campaign {
    world: World,
    /// Those that run.
    alive: Vec<usize>,
    permits: Vec<(usize, Permit)>,
    started: usize,
}

impl Campaign {
    fn pick(&self, whom: usize) -> Option<usize> {
        (!self.alive.is_empty()).then(|| self.alive[whom % self.alive.len()])
    }

    fn start(&mut self, identity: &str, hours_ahead: i64) {
        self.world.start(identity, hours_ahead);
        self.alive.push(self.world.replicas.len() - 1);
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Start(hours_ahead) => {
                self.started += 1;
                let identity = format!("replica-{}", self.started);
                self.start(&identity, *hours_ahead);
            }
            Event::Calm => {
                for replica in &self.world.replicas {
                    if !replica.connection.faults().has_crashed() {
                        replica.connection.faults().clear();
                    }
                }
            }
            Event::Outage(fault) => {
                let (when, then) = fault.rule();
                self.world.replicas.iter().for_each(|r| r.connection.faults().on(when.clone(), then.clone()));
            }
            Event::Rest => self.permits.clear(),
            Event::Stop(whom)
            | Event::Kill(whom)
            | Event::Restart(whom)
            | Event::Pause(whom)
            | Event::Resume(whom)
            | Event::Faults(whom, _)
            | Event::Work(whom, _) => {
                if let Some(index) = self.pick(*whom) {
                    self.happens_to(index, event);
                }
            }
        }
    }

    fn happens_to(&mut self, index: usize, event: &Event) {
        let replica = &self.world.replicas[index];
        match event {
            Event::Stop(_) => {
                replica.pause(false);
                replica.stop();
                self.alive.retain(|alive| *alive != index);
            }
            Event::Kill(_) | Event::Restart(_) => {
                replica.kill();
                self.alive.retain(|alive| *alive != index);
                self.permits.retain(|(of, _)| *of != index);
                if let Event::Restart(_) = event {
                    let identity = replica.identity.clone();
                    self.start(&identity, 0);
                }
            }
            Event::Pause(_) => replica.pause(true),
            Event::Resume(_) => replica.pause(false),
            Event::Faults(_, fault) => {
                let (when, then) = fault.rule();
                replica.connection.faults().on(when, then);
            }
            Event::Work(_, many) => {
                let names = (0..*many).map(|n| format!("rollout-{n}"));
                let permits = names.filter_map(|name| replica.shards.enter("models", &name));
                self.permits.extend(permits.map(|permit| (index, permit)));
            }
            Event::Start(_) | Event::Outage(_) | Event::Calm | Event::Rest => {}
        }
    }

    /// Everything goes on as it should, and after a lease and a few periods all slots are held by those that are there.
    async fn calms_down(&mut self) {
        self.happens(&Event::Calm);
        self.happens(&Event::Rest);
        self.world.replicas.iter().for_each(|replica| replica.pause(false));
        // A lease that runs out, the moment for others to come back, and a few periods.
        self.world.pass(DURATION + DURATION / 2 + 4 * PERIOD).await;
        let shares: Vec<usize> =
            self.alive.iter().map(|index| self.world.replicas[*index].slots().len()).collect();
        if shares.is_empty() {
            return;
        }
        assert_eq!(shares.iter().sum::<usize>(), SLOTS, "{shares:?}");
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 1, "{shares:?}");
        // Then nothing but renewals, and no Lease of anybody who is gone.
        let version = self.world.api.version();
        self.world.pass(4 * PERIOD).await;
        let written = self.world.written_since(version);
        let renewals = |name: &String| name.starts_with("sluice.member-");
        assert!(written.iter().all(renewals), "{written:?}");
        let leases = self.world.leases();
        let members = leases.iter().filter(|name| renewals(name)).count();
        assert_eq!(members, self.alive.len(), "{leases:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_two_replicas_ever_hold_one_slot_and_all_are_held_again(story in story()) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut campaign =
                Campaign { world: World::new(), alive: Vec::new(), permits: Vec::new(), started: 0 };
            campaign.happens(&Event::Start(0));
            campaign.world.pass(Duration::from_secs(1)).await;
            for (event, tenths) in &story {
                campaign.happens(event);
                campaign.world.pass(Duration::from_millis(100 * tenths)).await;
            }
            campaign.calms_down().await;
        });
    }
}
