//! The same files with all that a step can give beside a weight: matches, copies, cookies, hashes. What is ours is found and
//! taken off again by arithmetic of this file; what is left must be what a weight alone makes of it, which has an oracle of its
//! own.

use serde_json::{Map, Value, json};
use sluice_core::{
    api::{Match, Percent},
    plan::PlannedMatch,
    traffic::{self, Cookie, Setting, Sticky, StickyBy},
};

use crate::{
    oracle::{self, Managed, World},
    real_life::{CASES, Case, case, data},
};

/// What a step has beside a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "any of them may stand beside any other")]
struct Kind {
    matches: bool,
    mirror: bool,
    cookie: bool,
    hash: bool,
}

const NOTHING: Kind = Kind { matches: false, mirror: false, cookie: false, hash: false };
const KINDS: [Kind; 6] = [
    Kind { mirror: true, ..NOTHING },
    Kind { matches: true, ..NOTHING },
    Kind { cookie: true, ..NOTHING },
    Kind { hash: true, ..NOTHING },
    Kind { matches: true, mirror: true, cookie: true, ..NOTHING },
    Kind { matches: true, mirror: true, hash: true, ..NOTHING },
];

/// How our routes and cookies are known.
const OWN: &str = "sluice-models/iris/";
const COOKIE: &str = "arm-of-iris";
const HASH: &str = "x-user-hash";
const MIRRORS: &str = "sluice.dev/mirrors";

/// The step's matches, as Istio has them.
fn conditions() -> [Value; 2] {
    [json!({"headers": {"x-group": {"exact": "beta"}}}), json!({"queryParams": {"preview": {"exact": "1"}}})]
}

impl Kind {
    fn of(self, plain: &Setting) -> Setting {
        let planned = |(index, condition): (usize, Value)| {
            let condition: Match = serde_json::from_value(condition).unwrap();
            PlannedMatch { path: format!("spec.steps[0].match[{index}]"), condition }
        };
        let by = if self.hash {
            StickyBy::Header(HASH.into())
        } else {
            StickyBy::Cookie(Cookie { name: COOKIE.into(), ttl: None, token: "t".into() })
        };
        let sticky = Sticky { path: "spec.steps[0].sticky".into(), by };
        Setting {
            // A step that is sticky has a weight.
            weight: plain.weight.max(10),
            matches: conditions().into_iter().enumerate().map(planned).filter(|_| self.matches).collect(),
            mirror: if self.mirror { Percent::of(12.5).unwrap() } else { Percent::default() },
            sticky: (self.cookie || self.hash).then_some(sticky),
            ..plain.clone()
        }
    }

    fn own_routes(self) -> usize {
        usize::from(self.matches) + 2 * usize::from(self.cookie || self.hash)
    }
}

/// What Istio has no way to say of a file, which is refused.
fn is_refused(case: &Case, kind: Kind) -> bool {
    // Its owner's own preview goes by the cookie header, of which there can be one condition.
    case.file == "preview" && case.http.is_empty() && kind.cookie
}

fn cases() -> impl Iterator<Item = (Case, Value, Kind, Setting)> {
    let all = CASES.iter().copied().flat_map(|case| KINDS.into_iter().map(move |kind| (case, kind)));
    // All at once on two hundred routes, and once: it takes its time.
    let many = (case("two_hundred_routes", &[], 10, &[]), KINDS[KINDS.len() - 1]);
    all.chain([many]).map(|(case, kind)| (case, data(case.file), kind, kind.of(&case.setting())))
}

fn http(object: &Value) -> &Vec<Value> {
    object["spec"]["http"].as_array().unwrap()
}

fn is_own(route: &Value) -> bool {
    route["name"].as_str().is_some_and(|name| name.starts_with(OWN))
}

// === taking off what is ours ===

/// The object without what is ours, as far as this file can tell.
fn stripped(before: &Value, after: &Value, canary: &oracle::Key, world: &World) -> Value {
    let mut plain = after.clone();
    plain["spec"]["http"].as_array_mut().unwrap().retain(|route| !is_own(route));
    for (index, route) in plain["spec"]["http"].as_array_mut().unwrap().iter_mut().enumerate() {
        for entry in route.get_mut("route").and_then(Value::as_array_mut).into_iter().flatten() {
            without_cookie(entry);
        }
        let was = &http(before)[index];
        if route.get("mirrors") != was.get("mirrors") {
            without_mirror(route, was, canary, world);
        }
    }
    plain_annotations(&mut plain, before);
    plain
}

fn without_cookie(entry: &mut Value) {
    let Some(Value::Object(added)) = entry.pointer_mut("/headers/response/add") else { return };
    let before = added.len();
    added.retain(|name, value| {
        !(name.eq_ignore_ascii_case("set-cookie")
            && value.as_str().is_some_and(|value| value.starts_with(&format!("{COOKIE}="))))
    });
    if added.len() == before || !added.is_empty() {
        return;
    }
    for (holder, field) in [("/headers/response", "add"), ("/headers", "response"), ("", "headers")] {
        let fields = entry.pointer_mut(holder).unwrap().as_object_mut().unwrap();
        if fields[field].as_object().is_some_and(Map::is_empty) {
            fields.remove(field);
        }
    }
}

/// Our copies are the last entry; before it stand the owner's, a single one among them.
fn without_mirror(route: &mut Value, was: &Value, canary: &oracle::Key, world: &World) {
    let mirrors = route["mirrors"].as_array().unwrap();
    let (ours, owners) = mirrors.split_last().unwrap();
    assert_eq!((world.key(ours), &ours["percentage"]["value"]), (canary.clone(), &json!(12.5)), "{route}");
    let single = was.get("mirror").map(|destination| {
        let mut entry = json!({"destination": destination});
        if let Some(percentage) = was.get("mirrorPercentage") {
            entry["percentage"] = percentage.clone();
        }
        entry
    });
    let several = was["mirrors"].as_array().cloned().unwrap_or_default();
    let expected: Vec<Value> = single.into_iter().chain(several).collect();
    assert_eq!(owners, expected, "the owner's copies: {route}");
    let route = route.as_object_mut().unwrap();
    for field in ["mirror", "mirrorPercentage", "mirrors"] {
        assert!(field == "mirrors" || !route.contains_key(field), "a single mirror beside several");
        route.remove(field);
        if let Some(value) = was.get(field) {
            route.insert(field.to_owned(), value.clone());
        }
    }
}

/// Our note is taken off, and with it a map that was made for it.
fn plain_annotations(object: &mut Value, before: &Value) {
    let metadata = object["metadata"].as_object_mut().unwrap();
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.remove(MIRRORS);
    if annotations.is_empty() && before["metadata"].get("annotations").is_none() {
        metadata.remove("annotations");
    }
}

// === our routes ===

/// The fields of a route that are neither its name nor who gets what.
fn policies(route: &Value) -> Value {
    let mut route = route.clone();
    for field in ["name", "match", "route", "mirror", "mirrorPercentage", "mirrors"] {
        route.as_object_mut().unwrap().remove(field);
    }
    route
}

/// What the matches of our route must be: each of the owner's with each of ours.
fn met(was: &Value, ours: &[Value]) -> Vec<Value> {
    let owners = was["match"].as_array().cloned().unwrap_or_default();
    let owners = if owners.is_empty() { vec![json!({})] } else { owners };
    let mut all = Vec::new();
    for owner in owners {
        for condition in ours {
            let mut both = owner.clone();
            for (field, wanted) in condition.as_object().unwrap() {
                let mut fields = owner[field].as_object().cloned().unwrap_or_default();
                fields.extend(wanted.as_object().unwrap().clone());
                both[field] = Value::Object(fields);
            }
            all.push(both);
        }
    }
    all
}

/// An arm of ours: it has all that the pair has, and the others what they had.
fn check_arm(world: &World, managed: &Managed, own: &Value, was: &Value, arm: &oracle::Key) {
    let mut expected = oracle::weights(world, was);
    let pair: u64 = expected.iter().filter(|(key, _)| managed.has(key)).map(|(_, weight)| *weight).sum();
    let nobody = expected.values().all(|weight| *weight == 0);
    expected.retain(|key, _| !managed.has(key));
    expected.insert(arm.clone(), if nobody { 100 } else { pair });
    assert_eq!(oracle::weights(world, own), expected, "{own}");
}

fn check_own(world: &World, setting: &Setting, kind: Kind, own: &[Value], was: &Value, place: usize) {
    let managed = Managed::of(world, setting);
    let canary = managed.canary.as_ref().unwrap();
    let mut rest = own.iter();
    if kind.matches {
        let route = rest.next().unwrap();
        assert_eq!(route["match"], json!(met(was, &conditions())), "{place}");
        check_arm(world, &managed, route, was, canary);
        assert_eq!(route.get("mirrors"), was.get("mirrors"), "the canary needs no copies of its own");
    }
    if kind.cookie || kind.hash {
        for arm in ["canary", "stable"] {
            let route = rest.next().unwrap();
            assert!(route["name"].as_str().unwrap().ends_with(&format!("+{arm}")), "{route}");
            let header = if kind.hash { HASH } else { "cookie" };
            let first = &route["match"][0]["headers"][header];
            assert!(first["regex"].is_string(), "{route}");
            assert_eq!(route["match"], json!(met(was, &[json!({"headers": {header: first}})])), "{place}");
            let of = if arm == "canary" { canary } else { &managed.stable };
            check_arm(world, &managed, route, was, of);
            let copies = route["mirrors"].as_array().map_or(0, Vec::len);
            let owners = was["mirrors"].as_array().map_or(0, Vec::len);
            let single = usize::from(was.get("mirror").is_some() && kind.mirror && arm == "stable");
            let ours = usize::from(kind.mirror && arm == "stable");
            assert_eq!(copies, owners + single + ours, "{route}");
        }
    }
    assert!(rest.next().is_none());
    assert!(own.iter().all(|route| policies(route) == policies(was)), "{own:?}");
}

#[test]
fn each_takes_all_that_a_step_can_give_and_keeps_the_rest() {
    for (case, before, kind, setting) in cases() {
        let what = format!("{} {kind:?}", case.file);
        let after = match case.try_run(&before, &setting) {
            Ok(after) => after,
            Err(error) if is_refused(&case, kind) => {
                assert!(error.to_string().contains("spec.steps[0].sticky"), "{what}: {error}");
                continue;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        assert!(!is_refused(&case, kind), "{what}");
        let world = case.world(&before);
        let managed = Managed::of(&world, &setting);
        let moved = oracle::moved(&world, &managed, &before, case.http);
        let plain = stripped(&before, &after, managed.canary.as_ref().unwrap(), &world);
        oracle::check(&world, &setting, &before, &plain, &moved);
        assert_eq!(case.run(&after, &setting), after, "{what}: idempotent");

        // Ours stand right before the route that they are of, and nowhere else.
        let mut own = Vec::new();
        let mut place = 0;
        for route in http(&after) {
            if is_own(route) {
                own.push(route.clone());
                continue;
            }
            let expected = if moved.contains(&place) { kind.own_routes() } else { 0 };
            assert_eq!(own.len(), expected, "{what} before route {place}");
            if expected > 0 {
                check_own(&world, &setting, kind, &own, &http(&before)[place], place);
            }
            own.clear();
            place += 1;
        }
        assert!(own.is_empty(), "{what}");
    }
}

#[test]
fn each_goes_back_to_a_weight_and_to_rest_as_if_nothing_had_been() {
    for (case, before, kind, setting) in cases().filter(|(case, _, kind, _)| !is_refused(case, *kind)) {
        let what = format!("{} {kind:?}", case.file);
        let beside = case.run(&before, &setting);
        let known = setting.canary.clone().into_iter().collect();
        for plain in [
            Setting { weight: setting.weight, ..case.setting() },
            Setting { known, ..Setting::all_to(setting.stable.clone()) },
        ] {
            let mut after = case.run(&beside, &plain);
            plain_annotations(&mut after, &before);
            // Without what was beside: an entry that is listed by now keeps its written weight.
            let expected = case.run(&case.run(&before, &case.setting_of(setting.weight)), &plain);
            assert_eq!(after, expected, "{what}");
        }
    }
}

#[test]
fn the_patches_of_each_lead_there_and_back() {
    for (case, before, kind, setting) in cases().filter(|(case, _, kind, _)| !is_refused(case, *kind)) {
        let after = case.run(&before, &setting);
        let back = case.run(&after, &case.setting_of(setting.weight));
        for (from, to) in [(&before, &after), (&after, &back)] {
            let Some(patch) = traffic::patch(from, to) else {
                assert_eq!(from, to, "{} {kind:?}", case.file);
                continue;
            };
            let mut patched = from.clone();
            json_patch::patch(&mut patched, &patch).unwrap();
            assert_eq!(patched, *to, "{} {kind:?}", case.file);
            let fenced = *patch.0[0].path() == "/metadata/resourceVersion";
            assert!(fenced, "{} {kind:?}: {patch}", case.file);
        }
    }
}
