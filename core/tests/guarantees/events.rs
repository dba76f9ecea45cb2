//! What can happen to a Rollout.

use proptest::{prelude::*, sample::select};
use sluice_core::api::Do;

use crate::{
    controller::{ALL, Fault, How},
    world::{BAD, FEW, GOOD, Saw},
};

pub const SERVICES: [&str; 4] = ["v1", "v2", "v3", "v4"];

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A controller takes a turn.
    Turn {
        controller: usize,
        seconds: u64,
        saw: Saw,
        persist: Fault,
        act: How,
    },
    /// A controller observes and decides, and then is slow.
    Begin {
        controller: usize,
        seconds: u64,
        saw: Saw,
    },
    /// A slow controller writes the status.
    Persist {
        controller: usize,
        fault: Fault,
    },
    /// A slow controller writes the routes.
    Act {
        controller: usize,
        how: How,
    },
    Ready {
        service: &'static str,
        endpoints: usize,
    },
    Want {
        service: &'static str,
    },
    Paused {
        paused: bool,
    },
    /// A Freeze is made, or goes.
    Freeze {
        frozen: bool,
    },
    Steps {
        variant: usize,
    },
    Routes {
        variant: usize,
    },
    Ask {
        what: Do,
        revision: About,
        step: About,
    },
    Delete,
    /// A hand moves weight between the destinations of the route.
    Drift {
        route: &'static str,
        weight: u64,
    },
    StampRemoved {
        route: &'static str,
    },
    /// Git applies the original route again, and leaves the annotation.
    GitApplied {
        route: &'static str,
    },
    RouteDeleted {
        route: &'static str,
    },
    RouteCreated {
        route: &'static str,
    },
    StatusWiped,
    /// A backup is restored: the status that was written so many writes ago.
    StatusRestored {
        back: usize,
    },
}

/// What an action says that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Current,
    Another,
    Nothing,
}

pub fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 1..most)
}

fn event() -> impl Strategy<Value = Event> {
    let routes = || select(&["a", "b"][..]);
    let services = || select(&SERVICES[..]);
    let controllers = || prop_oneof![6 => Just(0_usize), 1 => Just(1)];
    // It is the other one that is slow, so that there is one to be late against.
    let slow = || prop_oneof![1 => Just(0_usize), 3 => Just(1)];
    let late = || prop_oneof![3 => Just(Fault::None), 1 => fault()];
    let acts = || prop_oneof![2 => any::<bool>().prop_map(|afresh| How { afresh, ..ALL }), 1 => how()];
    let seconds = || prop_oneof![4 => Just(10_u64), 1 => 0_u64..30];
    prop_oneof![
        30 => (controllers(), seconds(), saw(), fault(), how()).prop_map(
            |(controller, seconds, saw, persist, act)| Event::Turn { controller, seconds, saw, persist, act }
        ),
        25 => (seconds(), saw()).prop_map(|(seconds, saw)| Event::Turn {
            controller: 0, seconds, saw, persist: Fault::None, act: ALL
        }),
        5 => (slow(), seconds(), saw())
            .prop_map(|(controller, seconds, saw)| Event::Begin { controller, seconds, saw }),
        5 => (slow(), late()).prop_map(|(controller, fault)| Event::Persist { controller, fault }),
        5 => (slow(), acts()).prop_map(|(controller, how)| Event::Act { controller, how }),
        3 => (services(), prop_oneof![Just(0_usize), Just(1), Just(2)])
            .prop_map(|(service, endpoints)| Event::Ready { service, endpoints }),
        4 => services().prop_map(|service| Event::Want { service }),
        1 => any::<bool>().prop_map(|paused| Event::Paused { paused }),
        2 => any::<bool>().prop_map(|frozen| Event::Freeze { frozen }),
        1 => (0_usize..9).prop_map(|variant| Event::Steps { variant }),
        1 => (0_usize..3).prop_map(|variant| Event::Routes { variant }),
        5 => (what(), about(), about())
            .prop_map(|(what, revision, step)| Event::Ask { what, revision, step }),
        2 => (routes(), 0_u64..=100).prop_map(|(route, weight)| Event::Drift { route, weight }),
        1 => routes().prop_map(|route| Event::StampRemoved { route }),
        1 => routes().prop_map(|route| Event::GitApplied { route }),
        1 => routes().prop_map(|route| Event::RouteDeleted { route }),
        2 => routes().prop_map(|route| Event::RouteCreated { route }),
        1 => prop_oneof![
            4 => Just(Event::StatusWiped),
            3 => (1_usize..8).prop_map(|back| Event::StatusRestored { back }),
            1 => Just(Event::Delete),
        ],
    ]
}

fn saw() -> impl Strategy<Value = Saw> {
    prop_oneof![
        12 => Just(GOOD),
        2 => Just(BAD),
        2 => Just(FEW),
        2 => Just(Saw::Outage),
        1 => Just(Saw::Baseline),
        2 => Just(Saw::NotAsked),
        1 => Just(Saw::Requests(0, 0)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Refused),
        1 => Just(Fault::CrashBefore),
        1 => Just(Fault::CrashAfter),
    ]
}

fn how() -> impl Strategy<Value = How> {
    (prop_oneof![Just(u8::MAX), 0_u8..4], any::<bool>(), any::<bool>(), fault())
        .prop_map(|(which, reversed, afresh, fault)| How { which, reversed, afresh, fault })
}

fn what() -> impl Strategy<Value = Do> {
    select(
        &[
            Do::Approve,
            Do::Promote,
            Do::PromoteFull,
            Do::DecideStable,
            Do::DecideCanary,
            Do::Abort,
            Do::Retry,
            Do::Pause,
            Do::Resume,
        ][..],
    )
}

fn about() -> impl Strategy<Value = About> {
    prop_oneof![6 => Just(About::Current), 1 => Just(About::Another), 1 => Just(About::Nothing)]
}
