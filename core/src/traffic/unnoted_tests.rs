//! Copies of which nobody has kept whose they are.

use serde_json::{Value, json};

use super::{A, B, edited_to, mirroring, one, rest, unannotated};
use crate::{
    api::{Beside, MIRRORS, Percent, STAMP},
    traffic::{
        Setting, Trouble, stamp,
        testing::{ROLLOUT, canary, edited, iris, to},
    },
};

fn original() -> Value {
    one(json!({"name": "primary", "route": [to(A, 100)]}))
}

/// With the stamp of a decision to copy that many percent.
fn stamped(mut object: Value, percent: f64) -> Value {
    let mirror = Percent::of(percent).unwrap();
    let beside = Beside { mirror, ..Beside::default() };
    let stamp = stamp::Stamp { uid: "u".into(), seq: 3, beside, ..stamp::Stamp::default() };
    stamp::write(&mut object, ROLLOUT, &stamp).unwrap();
    object
}

/// In a step that copies 10%, after decisions that copied nothing.
fn during(original: &Value) -> Value {
    stamped(edited_to(&stamped(original.clone(), 0.0), &mirroring(10.0)), 10.0)
}

fn strip(object: &mut Value, annotation: &str) {
    object["metadata"]["annotations"].as_object_mut().unwrap().remove(annotation);
}

/// The ends that a rollout has, of which each forgets the canary in another way.
fn ends() -> [Setting; 4] {
    let copies = vec![Percent::of(10.0).unwrap()];
    let ended = |setting: Setting| Setting { copies: copies.clone(), ..setting };
    [
        ended(rest()),
        ended(Setting { retiring: vec![iris(2)], ..Setting::all_to(iris(1)) }),
        // A later step, and the promotion.
        ended(canary(50)),
        ended(canary(100)),
    ]
}

fn mirrors(object: &Value) -> &Value {
    &object["spec"]["http"][1]["mirrors"]
}

#[test]
fn without_its_note_a_mirror_is_noted_again_and_goes_with_its_step() {
    let whole = during(&original());
    let lost: [fn(&mut Value); 3] = [
        |object| strip(object, MIRRORS),
        |object| drop(object["metadata"].as_object_mut().unwrap().remove("annotations")),
        |object| {
            strip(object, MIRRORS);
            object["metadata"]["annotations"][STAMP] = "{".into();
        },
    ];
    for lose in lost {
        let mut without = whole.clone();
        lose(&mut without);
        let again = edited_to(&without, &mirroring(10.0));
        assert_eq!(again["spec"], whole["spec"], "never one more at each edit");
        assert_eq!(again["metadata"]["annotations"][MIRRORS], whole["metadata"]["annotations"][MIRRORS]);
        for end in ends() {
            let away = edited_to(&without, &end);
            assert_eq!(mirrors(&away), &Value::Null, "{end:?}");
            assert_eq!(edited_to(&away, &end), away);
        }
        let mut at_rest = edited_to(&without, &ends()[0]);
        at_rest["metadata"] = original()["metadata"].clone();
        assert_eq!(at_rest, original());
    }
}

#[test]
fn an_annotation_that_cannot_be_read_stops_increases_only() {
    let mut broken = during(&original());
    broken["metadata"]["annotations"][MIRRORS] = "{".into();
    let error = edited(&broken, &mirroring(20.0)).unwrap_err();
    assert!(matches!(error.trouble, Trouble::UnreadableMirrors { .. }), "{error}");
    let [rest, retiring, ..] = ends();
    for end in [rest, retiring] {
        let away = edited_to(&broken, &end);
        assert!(away["metadata"]["annotations"].get(MIRRORS).is_none());
        assert_eq!(mirrors(&away), &Value::Null, "{end:?}");
    }
}

#[test]
fn what_the_owner_mirrors_to_is_never_taken_for_ours() {
    let to_b = |more: &Value| {
        let mut entry = json!({"destination": {"host": B}});
        for (field, value) in more.as_object().unwrap() {
            entry[field] = value.clone();
        }
        entry
    };
    let share = |percent: u8| json!({"percentage": {"value": percent}});
    let others = [
        to_b(&json!({})),
        to_b(&share(7)),
        to_b(&json!({"percentage": {"value": 10}, "new": true})),
        json!({"destination": {"host": "log"}, "percentage": {"value": 10}}),
        json!({"destination": {"host": A}, "percentage": {"value": 10}}),
    ];
    let own = |mirrors: &[Value]| one(json!({"name": "primary", "route": [to(A, 100)], "mirrors": mirrors}));
    // Nothing of ours was there yet, or all of it has gone: so says the stamp. The same as ours may stand there then.
    let all: Vec<Value> = others.iter().cloned().chain([to_b(&share(10))]).collect();
    let before = stamped(own(&all), 0.0);
    for end in ends() {
        assert_eq!(mirrors(&edited_to(&before, &end)), &json!(all), "{end:?}");
    }
    // During a step the one that was added last is ours, whatever else is lost with the note.
    for owners in [&others[..], &all[..]] {
        let mut lost = during(&own(owners));
        assert_eq!(mirrors(&lost).as_array().map(Vec::len), Some(owners.len() + 1));
        assert_eq!(mirrors(&edited_to(&lost, &rest())), &json!(owners), "as it was noted");
        strip(&mut lost, MIRRORS);
        for end in ends() {
            assert_eq!(mirrors(&edited_to(&lost, &end)), &json!(owners), "{end:?}");
        }
    }
    let mut bare = during(&own(&others));
    bare["metadata"] = original()["metadata"].clone();
    assert_eq!(edited_to(&bare, &ends()[0]), own(&others));
}

#[test]
fn a_rollout_that_never_copied_takes_no_mirror_of_anybodys() {
    let mirror = json!([{"destination": {"host": B}, "percentage": {"value": 10}}]);
    let before = one(json!({"name": "primary", "route": [to(A, 100)], "mirrors": mirror}));
    for setting in [rest(), canary(0), canary(50)] {
        assert_eq!(mirrors(&edited_to(&before, &setting)), &mirror, "{setting:?}");
    }
    assert_eq!(unannotated(&edited_to(&before, &rest())), before);
}
