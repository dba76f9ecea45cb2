use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    HostNames, Predictor,
    api::Reason,
    target::NamedStable,
    traffic::{Setting, stamp::Stamp},
};

fn virtual_service(name: &str, weights: &[(&str, u32)]) -> Value {
    let route: Vec<Value> = weights
        .iter()
        .map(|(host, weight)| json!({"destination": {"host": host}, "weight": weight}))
        .collect();
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "models", "resourceVersion": "7"},
        "spec": {"hosts": ["iris"], "http": [{"name": "primary", "route": route}]},
    })
}

fn plan(routes: &Value) -> Plan {
    let spec = json!({"target": {"service": {"name": "v2"}}, "routes": routes, "steps": [{"weight": 5}]});
    Plan::new(&serde_json::from_value(spec).unwrap(), "models").unwrap()
}

fn with_world<T>(objects: &[Value], check: impl FnOnce(&World<'_>) -> T) -> T {
    let names = HostNames::default();
    let ports = |_: &str, _: &str| Some(vec![8000]);
    let named = |object: &Value| {
        let field = |pointer: &str| object.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (field("/metadata/namespace"), field("/metadata/name"))
    };
    let virtual_services = objects.iter().map(|object| (named(object), object)).collect::<BTreeMap<_, _>>();
    let cluster = crate::traffic::Cluster { names: &names, ports: &ports };
    check(&World { namespace: "models", name: "iris", virtual_services, cluster })
}

fn setting(weight: u8) -> Setting {
    let canary = Some(Predictor::new("models", "v2", 8000));
    Setting { canary, weight, ..Setting::all_to(Predictor::new("models", "v1", 8000)) }
}

fn stamp(seq: u64, setting: u8) -> Stamp {
    Stamp { uid: "u".into(), seq, revision: Some("models/v2:8000".into()), setting, ..Stamp::default() }
}

fn applied(object: &Value, effect: &Effect) -> Value {
    let mut object = object.clone();
    json_patch::patch(&mut object, &effect.patch).unwrap();
    object
}

#[test]
fn after_all_effects_there_are_none() {
    let object = virtual_service("iris", &[("v1", 100)]);
    let plan = plan(&json!([{"virtualService": "iris", "http": ["primary"]}]));
    let outlook =
        with_world(std::slice::from_ref(&object), |world| effects(world, &plan, &setting(5), &stamp(2, 5)));
    assert_eq!(outlook.effects.len(), 1);
    let after = applied(&object, &outlook.effects[0]);
    assert_eq!(after.pointer("/spec/http/0/route/1/weight"), Some(&json!(5)));
    assert!(with_world(&[after], |world| effects(world, &plan, &setting(5), &stamp(2, 5))).in_place());
}

#[test]
fn a_later_stamp_is_never_overwritten_nor_a_lower_setting_of_the_same_number() {
    let plan = plan(&json!([{"virtualService": "iris"}]));
    for (shown, ours, written) in [
        (stamp(3, 0), stamp(2, 50), false),
        (stamp(3, 0), stamp(3, 50), false),
        (stamp(3, 50), stamp(3, 0), true),
        (stamp(2, 50), stamp(3, 0), true),
        (stamp(2, 0), stamp(3, 50), true),
    ] {
        let mut object = virtual_service("iris", &[("v1", 100)]);
        crate::traffic::stamp::write(&mut object, "models/iris", &shown).unwrap();
        let outlook = with_world(&[object], |world| effects(world, &plan, &setting(ours.setting), &ours));
        assert_eq!(!outlook.effects.is_empty(), written, "{shown:?} {ours:?}");
        assert_eq!(outlook.ahead.is_empty(), written);
    }
}

#[test]
fn what_takes_traffic_away_is_written_first() {
    let mut up = virtual_service("a", &[("v1", 95), ("v2", 5)]);
    let mut down = virtual_service("b", &[("v1", 10), ("v2", 90)]);
    crate::traffic::stamp::write(&mut up, "models/iris", &stamp(1, 5)).unwrap();
    crate::traffic::stamp::write(&mut down, "models/iris", &stamp(1, 90)).unwrap();
    let plan = plan(&json!([{"virtualService": "a"}, {"virtualService": "b"}]));
    let outlook = with_world(&[up, down], |world| effects(world, &plan, &setting(50), &stamp(2, 50)));
    let order: Vec<_> =
        outlook.effects.iter().map(|effect| (effect.object.1.as_str(), effect.takes_away)).collect();
    assert_eq!(order, [("b", true), ("a", false)]);
}

#[test]
fn of_drift_too_much_is_put_back_before_too_little() {
    let stamped = |name: &str, weights: &[(&str, u32)]| {
        let mut object = virtual_service(name, weights);
        crate::traffic::stamp::write(&mut object, "models/iris", &stamp(2, 20)).unwrap();
        object
    };
    let objects = [stamped("a", &[("v1", 100), ("v2", 0)]), stamped("b", &[("v1", 40), ("v2", 60)])];
    let plan = plan(&json!([{"virtualService": "a"}, {"virtualService": "b"}]));
    let outlook = with_world(&objects, |world| effects(world, &plan, &setting(20), &stamp(2, 20)));
    let order: Vec<_> =
        outlook.effects.iter().map(|effect| (effect.object.1.as_str(), effect.gives)).collect();
    assert_eq!(order, [("b", false), ("a", true)]);
}

#[test]
fn a_route_that_is_gone_does_not_keep_the_others_from_losing_the_canary() {
    let object = virtual_service("iris", &[("v1", 50), ("v2", 50)]);
    let plan = plan(
        &json!([{"virtualService": "gone"}, {"virtualService": "iris", "http": ["primary", "nowhere"]}]),
    );
    let outlook =
        with_world(std::slice::from_ref(&object), |world| effects(world, &plan, &setting(0), &stamp(2, 0)));
    assert_eq!(outlook.missing.len(), 1);
    let after = applied(&object, &outlook.effects[0]);
    assert_eq!(after.pointer("/spec/http/0/route/1/weight"), Some(&json!(0)));
}

#[test]
fn what_may_not_be_moved_is_not_written_unless_our_canary_has_traffic_there() {
    let elsewhere = |allowed: Option<&str>, shown: Option<Stamp>| {
        let mut object = virtual_service("iris", &[("v1.models.svc.cluster.local", 100)]);
        object["metadata"]["namespace"] = json!("mesh");
        if let Some(allowed) = allowed {
            object["metadata"]["annotations"] = json!({"sluice.dev/allow-from": allowed});
        }
        if let Some(shown) = shown {
            crate::traffic::stamp::write(&mut object, "models/iris", &shown).unwrap();
        }
        object
    };
    let plan = plan(&json!([{"virtualService": "mesh/iris"}]));
    for (object, weight, written) in [
        (elsewhere(Some("models"), None), 5, true),
        (elsewhere(None, None), 5, false),
        (elsewhere(None, None), 0, false),
        (elsewhere(Some("other"), None), 0, false),
        (elsewhere(None, Some(stamp(1, 50))), 0, true),
        (elsewhere(None, Some(stamp(1, 0))), 0, false),
        (elsewhere(None, Some(stamp(1, 50))), 80, false),
    ] {
        let outlook = with_world(std::slice::from_ref(&object), |world| {
            permit(effects(world, &plan, &setting(weight), &stamp(2, weight)), world, &plan, None, &[])
        });
        assert_eq!(
            (outlook.effects.len(), outlook.forbidden.len()),
            (usize::from(written), usize::from(!written))
        );
        assert!(!outlook.in_place());
    }
}

#[test]
fn the_owner_of_a_virtual_service_says_who_may_move_it() {
    let named = ("mesh".to_owned(), "iris".to_owned());
    let object = |annotations: Value| {
        let mut object = virtual_service("iris", &[("v1.models.svc.cluster.local", 100)]);
        object["metadata"]["namespace"] = json!("mesh");
        object["metadata"]["annotations"] = annotations;
        object
    };
    for (allowed, may) in [
        ("models", true),
        ("other,models", true),
        (" other ,\tmodels\n", true),
        ("models,,", true),
        ("", false),
        (",", false),
        ("model", false),
        ("models2", false),
        ("Models", false),
        ("other models", false),
        ("*", false),
        ("models/iris", false),
    ] {
        let object = object(json!({"sluice.dev/allow-from": allowed}));
        assert_eq!(may_see(&object, &named, "models", "iris"), may, "{allowed:?}");
    }
    for annotations in [json!(null), json!({}), json!({"sluice.dev/allow-from": ["models"]}), json!("models")]
    {
        assert!(!may_see(&object(annotations), &named, "models", "iris"));
    }
    // Its own canary has traffic there, and must be able to lose it.
    let stamped = |setting: u8, rollout: &str| {
        let mut object = object(json!({}));
        crate::traffic::stamp::write(&mut object, rollout, &stamp(3, setting)).unwrap();
        object
    };
    assert!(may_see(&stamped(50, "models/iris"), &named, "models", "iris"));
    assert!(!may_see(&stamped(0, "models/iris"), &named, "models", "iris"));
    assert!(!may_see(&stamped(50, "models/other"), &named, "models", "iris"));
}

#[test]
fn whether_anothers_virtual_service_is_there_is_not_told() {
    let mut object = virtual_service("iris", &[("secret.bank.svc.cluster.local", 100)]);
    object["metadata"]["namespace"] = json!("mesh");
    let plan = plan(&json!([{"virtualService": "mesh/iris"}]));
    let refused =
        |objects: &[Value]| with_world(objects, |world| accept(world, &plan, None, None, &[])).unwrap_err();
    let (there, missing) = (refused(&[object]), refused(&[]));
    assert_eq!((there.reason, &there.message), (Reason::NotAllowed, &missing.message));
    let seen = with_world(&[], |world| see(world, &plan, None, &NamedStable::default())).unwrap_err();
    assert_eq!(seen, missing);
}

#[test]
fn who_may_not_move_a_route_keeps_nobody_from_it() {
    let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0);
    let plan = plan(&json!([{"virtualService": "iris"}]));
    let claim = |rollout: &str| Claim { rollout: rollout.into(), since: at(1), routes: plan.routes.clone() };
    let home = virtual_service("iris", &[("v1", 100)]);
    for (rollout, taken) in [("other/iris", false), ("models/older", true)] {
        let refused = with_world(std::slice::from_ref(&home), |world| {
            accept(world, &plan, Some(&setting(5)), at(5), &[claim(rollout)])
        });
        assert_eq!(refused.is_err(), taken, "{rollout}");
    }
}

#[test]
fn a_stamp_says_nothing_of_other_namespaces() {
    let mut object = virtual_service("iris", &[("v1", 100)]);
    let foreign = "victim/api:80".to_owned();
    let forged = Stamp {
        stable: Some(foreign.clone()),
        revision: Some(foreign.clone()),
        outcomes: BTreeMap::from([(foreign, crate::machine::Outcome::Promoted)]),
        ..stamp(9, 0)
    };
    crate::traffic::stamp::write(&mut object, "models/iris", &forged).unwrap();
    let plan = plan(&json!([{"virtualService": "iris"}]));
    let seen = with_world(&[object], |world| see(world, &plan, None, &NamedStable::default()))
        .unwrap()
        .stamp
        .unwrap();
    assert_eq!((seen.stable, seen.revision, seen.outcomes.len(), seen.seq), (None, None, 0, 9));
}

#[test]
fn stable_is_read_off_the_weights_and_others_are_strangers() {
    let object = virtual_service("iris", &[("v1", 60), ("v2", 0), ("api.example.com", 40)]);
    let plan = plan(&json!([{"virtualService": "iris"}]));
    let seen =
        with_world(std::slice::from_ref(&object), |world| see(world, &plan, None, &NamedStable::default()))
            .unwrap();
    assert_eq!(seen.weighted, [Predictor::new("models", "v1", 8000)]);
    assert_eq!(seen.strangers, ["api.example.com"]);
    let v9 = NamedStable { service: Some("v9".into()), ..NamedStable::default() };
    let from_other = with_world(&[object], |world| see(world, &plan, None, &v9)).unwrap();
    assert!(from_other.weighted.is_empty());
}

#[test]
fn a_name_that_seldon_core_shortens_is_told() {
    let plan = plan(&json!([{"virtualService": "a".repeat(64)}]));
    let refusal = with_world(&[], |world| see(world, &plan, None, &NamedStable::default())).unwrap_err();
    let expected = "calls that of a SeldonDeployment with this name seldon-014842d480b571495a4a0363793f7367";
    assert!(refusal.message.ends_with(expected), "{}", refusal.message);
}

#[test]
fn what_is_in_the_way_is_named() {
    let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0);
    let named = |routes: Value| plan(&routes);
    let claim = Claim {
        rollout: "models/older".into(),
        since: at(1),
        routes: named(json!([{"virtualService": "iris", "http": ["primary"]}])).routes,
    };
    let elsewhere = |allowed: Option<&str>| {
        let mut object = virtual_service("iris", &[("v1.models.svc.cluster.local", 100)]);
        object["metadata"]["namespace"] = json!("mesh");
        if let Some(allowed) = allowed {
            object["metadata"]["annotations"] = json!({"sluice.dev/allow-from": allowed});
        }
        object
    };
    let home = virtual_service("iris", &[("v1", 100)]);
    let small = virtual_service("iris", &[("v1", 10), ("api.example.com", 90)]);
    let iris = json!([{"virtualService": "iris", "http": ["primary"]}]);
    let mesh = json!([{"virtualService": "mesh/iris"}]);
    let cases: [(Value, &Value, Vec<Claim>, Option<Reason>); 8] = [
        (home.clone(), &iris, vec![], None),
        (home.clone(), &json!([{"virtualService": "nowhere"}]), vec![], Some(Reason::VirtualServiceNotFound)),
        (
            home.clone(),
            &json!([{"virtualService": "iris", "http": ["nope"]}]),
            vec![],
            Some(Reason::RouteNotFound),
        ),
        (home.clone(), &iris, vec![claim.clone()], Some(Reason::RouteTaken)),
        (home, &iris, vec![Claim { since: at(9), ..claim }], None),
        (small, &iris, vec![], Some(Reason::ShareTooSmall)),
        (elsewhere(None), &mesh, vec![], Some(Reason::NotAllowed)),
        (elsewhere(Some("other, models")), &mesh, vec![], None),
    ];
    for (object, routes, claims, expected) in cases {
        let plan = named(routes.clone());
        let refused =
            with_world(&[object], |world| accept(world, &plan, Some(&setting(5)), at(5), &claims)).err();
        assert_eq!(refused.as_ref().map(|refusal| refusal.reason), expected, "{refused:?}");
    }
}
