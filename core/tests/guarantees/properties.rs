//! The properties.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use crate::{
    controller::outlook_now,
    events::{Event, SERVICES, events},
    oracle::{is_known, managed, nobody_knows_the_routes, step},
    run::{Run, VARIANTS},
    world::{BAD, GOOD, Saw, mirrors, own_routes, weight},
};

fn lived(variant: usize, events: &[Event]) -> Run {
    let mut run = Run::new(variant);
    run.calm(2, GOOD);
    for event in events {
        run.happen(event);
    }
    run
}

/// Everybody is ready, the routes and a spec that can be accepted are there, nobody pauses.
fn mend(run: &mut Run) {
    for service in SERVICES {
        run.world.ready.insert(service.to_owned(), 1);
    }
    for route in ["a", "b"] {
        run.happen(&Event::RouteCreated { route });
    }
    run.happen(&Event::Routes { variant: 0 });
    run.happen(&Event::Steps { variant: 0 });
    run.happen(&Event::Paused { paused: false });
    run.happen(&Event::Freeze { frozen: false });
}

/// So many cases, unless the environment says how many.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if asked { default.cases } else { cases };
    ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn whatever_happens_the_guarantees_hold(variant in 0_usize..VARIANTS, events in events(60)) {
        lived(variant, &events);
    }

}

proptest! {
    // These let the world come to rest afterwards, which takes many turns.
    #![proptest_config(config(96))]

    #[test]
    fn a_visible_breach_ends_at_no_traffic(variant in 0_usize..VARIANTS, events in events(40)) {
        let mut run = lived(variant, &events);
        for service in SERVICES {
            run.world.ready.insert(service.to_owned(), 1);
        }
        run.calm(40, BAD);
        let status = &run.world.status;
        if let Some(stable) = &status.stable {
            for (name, object) in run.world.virtual_services.iter().filter(|(name, _)| managed(&run.world, name)) {
                for service in SERVICES.iter().filter(|service| **service != stable.service) {
                    let seen = is_known(status, service) && weight(object, service) > 0;
                    let seen = seen && !nobody_knows_the_routes(status);
                    prop_assert!(!seen, "3: {service} on {name}: {status:?}");
                }
                let ours = !nobody_knows_the_routes(status) && step(status).is_none();
                let left = own_routes(object).len() + mirrors(object).len();
                prop_assert!(!ours || left == 0, "12: {object}: {status:?}");
            }
        }
    }

    #[test]
    fn at_rest_nothing_is_written(variant in 0_usize..VARIANTS, events in events(40), good in any::<bool>()) {
        let mut run = lived(variant, &events);
        if good {
            mend(&mut run);
        }
        run.calm(60, GOOD);
        let before = (run.world.version, run.world.virtual_services.clone());
        let seq = run.world.status.seq;
        let at_rest = step(&run.world.status).is_none();
        run.calm(10, GOOD);
        prop_assert_eq!(run.world.status.seq, seq, "8: a decision at rest");
        prop_assert_eq!(&run.world.virtual_services, &before.1, "8: a write at rest");
        prop_assert!(outlook_now(&run.world).effects.is_empty());
        // A rollout that waits for a person or for evidence goes on writing down what it sees, once a minute.
        let most = if at_rest { 0 } else { 2 };
        let version = |version: u64| version.max(before.0);
        prop_assert!(version(run.world.version) - before.0 <= most, "8: {:?}", run.world.status);
    }

    #[test]
    fn a_world_that_is_mended_ends_as_it_should(variant in 0_usize..VARIANTS, events in events(40)) {
        let mut run = lived(variant, &events);
        prop_assume!(!run.world.gone && !run.world.deleted);
        mend(&mut run);
        run.calm(4, GOOD);
        // The spec's own word is enough to end any rollout: the stable revision is wanted again.
        let Some(stable) = run.world.status.stable.clone() else { return Ok(()) };
        run.world.edit_spec(|spec| spec["target"]["service"]["name"] = json!(stable.service));
        run.calm(40, GOOD);
        let status = &run.world.status;
        prop_assert_eq!(status.stable.as_ref(), Some(&stable), "{:?}", status);
        let mut shares: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, object) in &run.world.virtual_services {
            for service in SERVICES {
                let known = is_known(status, service) || service == stable.service;
                *shares.entry(name).or_default() += if known { weight(object, service) } else { 0 };
                let loser = service != stable.service && known;
                prop_assert!(!loser || weight(object, service) == 0, "{service} on {name}: {status:?}");
            }
            prop_assert!(own_routes(object).is_empty() && mirrors(object).is_empty(), "12: {object}");
        }
    }

    #[test]
    fn no_evidence_neither_promotes_nor_rolls_back(variant in 0_usize..VARIANTS, events in events(30)) {
        let mut run = lived(variant, &events);
        run.calm(3, Saw::Outage);
        let before = run.world.status.clone();
        run.calm(5, Saw::Outage);
        let after = &run.world.status;
        if let (Some(old), Some(new)) = (step(&before), step(after)) {
            let same = before.canary == after.canary && old.withdrawn.is_none();
            prop_assert!(!same || new.index == old.index, "11: {after:?}");
        }
    }
}
