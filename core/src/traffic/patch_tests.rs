use serde_json::{Value, json};

use super::{
    patch,
    testing::{to, virtual_service, with},
};

/// The operations after the fence, in short, seen to lead from one to the other.
fn operations(before: &Value, after: &Value) -> Vec<String> {
    let patch = patch(before, after).unwrap();
    let mut patched = before.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(&patched, after);
    let shown = serde_json::to_value(&patch).unwrap();
    let mut shown = shown.as_array().unwrap().iter().map(|operation| {
        let text = |field: &str| operation[field].as_str().unwrap_or("");
        let value = operation.get("value").map_or(String::new(), |value| format!(" {value}"));
        format!("{} {}{value}", text("op"), text("path"))
    });
    assert_eq!(shown.next().unwrap(), "replace /metadata/resourceVersion \"7\"");
    shown.collect()
}

fn between(before: &Value, after: &Value) -> Vec<String> {
    let shown = operations(&virtual_service(before), &virtual_service(after));
    shown.into_iter().map(|operation| operation.replace("/spec/http/0/route", "")).collect()
}

#[test]
fn equal_objects_need_no_patch() {
    let vs = virtual_service(&json!([to("a", 1)]));
    assert_eq!(patch(&vs, &vs), None);
}

#[test]
fn lists_are_aligned_so_that_only_what_changed_is_said() {
    let (a, b, f, g) = ("a", "b", "f", "g");
    for (before, after, expected) in [
        (json!([to(a, 100)]), json!([to(a, 90)]), vec!["replace /0/weight 90"]),
        (json!([to(a, None)]), json!([to(a, 100)]), vec!["add /0/weight 100"]),
        (
            json!([to(a, 40), to(f, 60)]),
            json!([to(a, 30), to(b, 10), to(f, 60)]),
            vec!["replace /0/weight 30", r#"add /1 {"destination":{"host":"b"},"weight":10}"#],
        ),
        (
            json!([to(f, 1), to(a, 30), to(b, 10), to(g, 59)]),
            json!([to(f, 1), to(a, 40), to(g, 59)]),
            vec!["replace /1/weight 40", "remove /2"],
        ),
        (
            json!([to(b, 5), to(f, 1), to(a, 30), to(g, 59), to("c", 5)]),
            json!([to(f, 1), to(a, 40), to(g, 59)]),
            vec!["remove /0", "replace /1/weight 40", "remove /3"],
        ),
        (json!([to(a, 1)]), json!([]), vec!["remove /0"]),
        (json!([]), json!([1, 2]), vec!["add /0 1", "add /1 2"]),
        (json!([to(a, 1)]), json!("x"), vec![r#"replace  "x""#]),
    ] {
        assert_eq!(between(&before, &after), expected, "{before}");
    }
}

#[test]
fn fields_with_slashes_and_missing_parents_are_written_rightly() {
    let before = virtual_service(&json!([]));
    let mut after = before.clone();
    after["metadata"]["annotations"] = json!({"sluice.dev/stamp": "{}"});
    assert_eq!(operations(&before, &after), [r#"add /metadata/annotations {"sluice.dev/stamp":"{}"}"#]);
    let mut later = after.clone();
    later["metadata"]["annotations"]["sluice.dev/stamp"] = json!("{1}");
    assert_eq!(operations(&after, &later), [r#"replace /metadata/annotations/sluice.dev~1stamp "{1}""#]);
}

#[test]
fn what_the_server_keeps_is_never_written() {
    let before = virtual_service(&json!([to("a", 1)]));
    let mut after = with(before.clone(), "status", &json!({"x": 1}));
    after["metadata"]["managedFields"] = json!([1]);
    after["metadata"]["resourceVersion"] = json!("8");
    assert_eq!(patch(&before, &after), None);
    after["spec"]["http"][0]["route"][0]["weight"] = json!(2);
    let patch = patch(&before, &after).unwrap();
    let paths: Vec<_> = patch.0.iter().map(|operation| operation.path().to_string()).collect();
    assert_eq!(paths, ["/metadata/resourceVersion", "/spec/http/0/route/0/weight"]);
    assert_eq!(serde_json::to_value(&patch.0[0]).unwrap()["value"], "7", "the version that was read");
}

#[test]
fn an_object_without_a_version_overwrites_none_that_has_one() {
    for version in [None, Some(json!(null))] {
        let mut before = virtual_service(&json!([to("a", 1)]));
        before["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        if let Some(version) = version {
            before["metadata"]["resourceVersion"] = version;
        }
        let mut after = before.clone();
        after["spec"]["http"] = json!([]);
        let patch = patch(&before, &after).unwrap();
        let fence = serde_json::to_value(&patch.0[0]).unwrap();
        assert_eq!(fence, json!({"op": "test", "path": "/metadata/resourceVersion", "value": null}));
    }
}
