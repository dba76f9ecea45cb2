//! What holds for any `VirtualService` and any sequence of settings.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;
use sluice_core::{
    HostNames,
    traffic::{self, Cluster, RouteError, Selection, Setting},
};

use crate::{
    oracle::{self, Managed},
    random::{crowded, mess, pool, setting, virtual_service, with_stable_alone, world},
};

fn edit(vs: &Value, names: &[&str], setting: &Setting) -> Result<Value, RouteError> {
    let world = world();
    let ports = |namespace: &str, service: &str| world.ports_of(namespace, service);
    let cluster = Cluster { names: &HostNames::default(), ports: &ports };
    let http = names.iter().map(|name| (*name).to_owned()).collect();
    let selection = Selection {
        namespace: "models".into(),
        name: "iris".into(),
        rollout: "models/iris".into(),
        http,
        tcp: Vec::new(),
        tls: Vec::new(),
    };
    traffic::edit(vs, &selection, setting, &cluster)
}

/// Edits all routes that list somebody managed, under the oracle's eyes.
fn checked(before: &Value, setting: &Setting) -> Value {
    let after = edit(before, &[], setting).unwrap();
    let world = world();
    let moved = oracle::moved(&world, &Managed::of(&world, setting), before, &[]);
    oracle::check(&world, setting, before, &after, &moved);
    after
}

/// Weights by destination of every route, those of arms also when they are 0.
fn traffic_of(vs: &Value, setting: &Setting) -> Vec<Vec<(oracle::Key, u64)>> {
    let world = world();
    let managed = Managed::of(&world, setting);
    let of_route = |route: &Value| {
        let weights = oracle::weights(&world, route).into_iter();
        weights.filter(|(key, weight)| *weight > 0 || !managed.retiring.contains(key)).collect()
    };
    vs["spec"]["http"].as_array().unwrap().iter().map(of_route).collect()
}

/// Writes the weights that go without saying.
fn spelled_out(vs: &Value) -> Value {
    let mut vs = vs.clone();
    for route in vs["spec"]["http"].as_array_mut().unwrap() {
        let Some(entries) = route.get_mut("route").and_then(Value::as_array_mut) else { continue };
        let alone = entries.len() == 1;
        for entry in entries.iter_mut().filter(|entry| entry.get("weight").is_none()) {
            entry["weight"] = if alone { 100.into() } else { 0.into() };
        }
    }
    vs
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_edit_of_a_sequence_moves_the_pair_and_nothing_else(
        vs in virtual_service(), settings in vec(setting(), 1..6),
    ) {
        settings.iter().fold(vs, |vs, setting| checked(&vs, setting));
    }

    #[test]
    fn an_edit_is_idempotent(vs in virtual_service(), setting in setting()) {
        let once = checked(&vs, &setting);
        prop_assert_eq!(edit(&once, &[], &setting).unwrap(), once);
    }

    #[test]
    fn only_the_last_setting_counts(
        vs in virtual_service(), settings in vec(setting(), 1..6), last in setting(),
    ) {
        let path = settings.iter().fold(vs.clone(), |vs, setting| edit(&vs, &[], setting).unwrap());
        let (by_path, direct) = (edit(&path, &[], &last).unwrap(), edit(&vs, &[], &last).unwrap());
        prop_assert_eq!(traffic_of(&by_path, &last), traffic_of(&direct, &last));
    }

    #[test]
    fn with_one_stable_all_along_even_the_object_is_the_same(
        (vs, settings, last) in select(pool()).prop_flat_map(|stable| {
            let of_stable = |stable: sluice_core::Predictor| setting().prop_map(move |it| {
                Setting { stable: stable.clone(), retiring: Vec::new(), ..it }
            });
            (with_stable_alone(&stable), vec(of_stable(stable.clone()), 1..6), of_stable(stable))
        }),
    ) {
        let path = settings.iter().fold(vs.clone(), |vs, setting| checked(&vs, setting));
        let (by_path, direct) = (edit(&path, &[], &last).unwrap(), edit(&vs, &[], &last).unwrap());
        prop_assert_eq!(spelled_out(&by_path), spelled_out(&direct));

        let rest = Setting { known: pool(), ..Setting::all_to(last.stable) };
        prop_assert_eq!(spelled_out(&edit(&path, &[], &rest).unwrap()), spelled_out(&vs), "back as it was");
        prop_assert_eq!(edit(&vs, &[], &rest).unwrap(), vs.clone(), "and at rest untouched");
    }

    #[test]
    fn named_routes_are_moved_and_others_are_not(vs in virtual_service(), setting in setting()) {
        let world = world();
        let managed = Managed::of(&world, &setting);
        let names = ["route-0", "route-1"];
        let moved = oracle::moved(&world, &managed, &vs, &names);
        let http = vs["spec"]["http"].as_array().unwrap();
        let lists = |index: &usize| {
            oracle::entries(&http[*index]).iter().any(|entry| managed.has(&world.key(entry)))
        };
        let fit = moved.iter().all(lists)
            && names.iter().all(|name| moved.iter().any(|index| http[*index]["name"] == *name));
        match edit(&vs, &names, &setting) {
            Ok(after) if fit => oracle::check(&world, &setting, &vs, &after, &moved),
            // Taking the canary away goes as far as it can.
            Ok(after) => {
                prop_assert!(setting.takes_away());
                let movable: Vec<_> = moved.into_iter().filter(lists).collect();
                oracle::check(&world, &setting, &vs, &after, &movable);
            }
            Err(error) => prop_assert!(!fit, "{}", error),
        }
    }

    #[test]
    fn a_patch_leads_from_one_to_the_other_and_touches_what_is_managed(
        vs in virtual_service(), first in setting(), second in setting(),
    ) {
        let before = edit(&vs, &[], &first).unwrap();
        let after = edit(&before, &[], &second).unwrap();
        let Some(patch) = traffic::patch(&before, &after) else {
            prop_assert_eq!(before, after);
            return Ok(());
        };
        let mut patched = before.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(patched, after);
        let paths: Vec<_> = patch.0.iter().map(|operation| operation.path().to_string()).collect();
        prop_assert_eq!(&paths[0], "/metadata/resourceVersion");
        prop_assert!(paths[1..].iter().all(|path| path.starts_with("/spec/http/") && path.contains("/route")));
    }

    #[test]
    fn a_canary_is_taken_away_whatever_else_is_wrong(vs in crowded(), setting in setting()) {
        let setting = Setting { weight: 0, ..setting };
        let world = world();
        let managed = Managed::of(&world, &setting);
        if oracle::moved(&world, &managed, &vs, &[]).is_empty() {
            prop_assert!(edit(&vs, &[], &setting).is_err());
            return Ok(());
        }
        let after = edit(&vs, &[], &setting).unwrap();
        prop_assert_eq!(&edit(&after, &[], &setting).unwrap(), &after);
        for route in after["spec"]["http"].as_array().unwrap() {
            let entries = oracle::entries(route);
            for (index, entry) in entries.iter().enumerate() {
                let key = world.key(entry);
                if managed.has(&key) && key != managed.stable {
                    prop_assert_eq!(oracle::weight(entries, index), 0, "{}", route);
                }
            }
            let anything = (0..entries.len()).any(|index| oracle::weight(entries, index) > 0);
            let ours = entries.iter().any(|entry| managed.has(&world.key(entry)));
            prop_assert!(anything || !ours, "never all zero: {}", route);
        }
    }

    #[test]
    fn nothing_panics(vs in mess(), setting in setting(), named in any::<bool>()) {
        let names: &[&str] = if named { &["route-0"] } else { &[] };
        match edit(&vs, names, &setting) {
            Ok(after) => {
                prop_assert_eq!(&edit(&after, names, &setting).unwrap(), &after);
                traffic::patch(&vs, &after);
            }
            Err(error) => prop_assert!(error.to_string().starts_with("VirtualService models/iris: spec")),
        }
        let _ = traffic::stamp::read(&vs, "models/iris");
        let _ = traffic::stamp::restore(&mut vs.clone(), "models/iris", &traffic::stamp::Stamp::default());
    }
}
