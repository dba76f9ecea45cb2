use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    stamp::{Stamp, read, restore, write},
    testing::{iris, to, virtual_service, with},
};
use crate::{
    api::{Beside, Reason, STAMP},
    machine::Outcome,
};

fn stamp(seq: u64) -> Stamp {
    Stamp {
        uid: "u1".into(),
        seq,
        revision: Some(iris(2).revision()),
        stable: Some(iris(1).revision()),
        setting: 25,
        beside: Beside::default(),
        outcomes: BTreeMap::from([(iris(3).revision(), Outcome::RolledBack)]),
        reason: None,
    }
}

#[test]
fn a_reason_of_a_later_version_says_nothing() {
    let mut virtual_service = json!({"metadata": {}});
    write(&mut virtual_service, "models/iris", &Stamp { reason: Some(Reason::CheckFailed), ..stamp(7) })
        .unwrap();
    assert_eq!(read(&virtual_service, "models/iris").unwrap().unwrap().reason, Some(Reason::CheckFailed));
    let annotation = &mut virtual_service["metadata"]["annotations"][STAMP];
    *annotation = annotation.as_str().unwrap().replace("CheckFailed", "SomethingNew").into();
    assert_eq!(read(&virtual_service, "models/iris").unwrap(), Some(stamp(7)));
}

fn stamped(text: &Value) -> Value {
    let mut vs = virtual_service(&json!([to("iris-v1", None)]));
    vs["metadata"]["annotations"] = with(json!({"other": "kept"}), STAMP, text);
    vs
}

#[test]
fn what_was_written_is_read_back() {
    let unstamped = virtual_service(&json!([]));
    assert_eq!(read(&unstamped, "models/iris").unwrap(), None);
    for annotations in [None, Some(json!(null)), Some(json!({})), Some(json!({"other": "kept"}))] {
        let mut vs = unstamped.clone();
        if let Some(annotations) = annotations {
            vs["metadata"]["annotations"] = annotations;
        }
        write(&mut vs, "models/iris", &stamp(7)).unwrap();
        assert_eq!(read(&vs, "models/iris").unwrap(), Some(stamp(7)));
        assert_eq!(read(&vs, "models/wine").unwrap(), None);
        assert_eq!(vs["spec"], unstamped["spec"]);
    }
}

#[test]
fn the_entry_is_the_one_that_the_design_names() {
    let mut vs = virtual_service(&json!([]));
    write(&mut vs, "models/iris", &stamp(7)).unwrap();
    let text = vs["metadata"]["annotations"][STAMP].as_str().unwrap();
    let expected = json!({"models/iris": {
        "uid": "u1", "seq": 7, "revision": "models/iris-v2:8000", "stable": "models/iris-v1:8000", "setting": 25,
        "outcomes": {"models/iris-v3:8000": "RolledBack"},
    }});
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected);
}

#[test]
fn the_entries_of_other_rollouts_stay_whatever_is_in_them() {
    let others = json!({"models/wine": {"seq": "odd", "x": [1.5, null]}, "a/b": 3});
    let mut vs = stamped(&json!(others.to_string()));
    write(&mut vs, "models/iris", &stamp(1)).unwrap();
    write(&mut vs, "models/iris", &stamp(2)).unwrap();
    let text = vs["metadata"]["annotations"][STAMP].as_str().unwrap();
    let mut entries: Value = serde_json::from_str(text).unwrap();
    assert_eq!(entries.as_object_mut().unwrap().remove("models/iris").unwrap()["seq"], 2);
    assert_eq!(entries, others);
    assert_eq!(vs["metadata"]["annotations"]["other"], "kept");
}

#[test]
fn a_stamp_that_is_there_already_is_not_written_again() {
    let entry = serde_json::to_value(stamp(7)).unwrap();
    let spaced = serde_json::to_string_pretty(&json!({"models/iris": entry})).unwrap();
    let before = stamped(&json!(spaced));
    let mut after = before.clone();
    write(&mut after, "models/iris", &stamp(7)).unwrap();
    assert_eq!(after, before);
}

#[test]
fn an_annotation_that_cannot_be_read_is_an_error_and_only_a_restore_replaces_it() {
    for (text, found) in [
        (json!("{"), "found \"{\" (EOF"),
        (json!("[]"), "found \"[]\" (invalid type"),
        (json!(""), "found \"\" (EOF"),
        (json!(5), "found 5"),
    ] {
        let mut vs = stamped(&text);
        let error = read(&vs, "models/iris").unwrap_err();
        let message = error.to_string();
        let start = "VirtualService models/iris: metadata.annotations[sluice.dev/stamp]: the annotation sluice.dev/stamp cannot be read: expected a JSON object with an entry per Rollout, ";
        assert!(message.starts_with(&format!("{start}{found}")), "{message}");
        assert_eq!(error.reason(), Reason::InvalidStatus);
        let before = vs.clone();
        write(&mut vs, "models/iris", &stamp(7)).unwrap_err();
        assert_eq!(vs, before);
        restore(&mut vs, "models/iris", &stamp(7)).unwrap();
        assert_eq!(read(&vs, "models/iris").unwrap(), Some(stamp(7)));
    }
}

#[test]
fn an_entry_of_its_own_that_cannot_be_read_is_an_error_and_is_replaced() {
    let mut vs = stamped(&json!(r#"{"models/iris": {"seq": -1}, "a/b": 3}"#));
    let message = read(&vs, "models/iris").unwrap_err().to_string();
    assert!(message.contains("[sluice.dev/stamp][models/iris]"), "{message}");
    write(&mut vs, "models/iris", &stamp(7)).unwrap();
    assert_eq!(read(&vs, "models/iris").unwrap(), Some(stamp(7)));
    assert!(vs["metadata"]["annotations"][STAMP].as_str().unwrap().contains(r#""a/b":3"#));
}

#[test]
fn what_has_no_metadata_cannot_be_stamped() {
    for mut vs in [json!({}), json!(null), json!({"metadata": {"annotations": []}})] {
        let message = restore(&mut vs, "models/iris", &stamp(7)).unwrap_err().to_string();
        assert!(message.contains("metadata.annotations: "), "{message}");
    }
}
