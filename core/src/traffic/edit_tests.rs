use serde_json::{Value, json};

use super::{
    Setting, edit,
    testing::{canary, edited, entries, in_cluster, iris, selection, to, virtual_service, with, with_http},
};
use crate::Predictor;

/// What becomes of the destinations of a route, and that doing it again changes nothing.
fn after(before: &Value, setting: &Setting) -> Value {
    let once = edited(&virtual_service(before), setting).unwrap();
    assert_eq!(edited(&once, setting).unwrap(), once, "idempotent");
    entries(&once)
}

#[test]
fn the_pair_divides_its_share_and_the_canary_is_rounded_down() {
    let (a, b, f) = ("iris-v1", "iris-v2", "api.example.com");
    for (before, weight, expected) in [
        (json!([to(a, None)]), 5, json!([to(a, 95), to(b, 5)])),
        (json!([to(a, 100)]), 0, json!([to(a, 100), to(b, 0)])),
        (json!([to(a, 100)]), 100, json!([to(a, 0), to(b, 100)])),
        (json!([to(a, 0)]), 10, json!([to(a, 90), to(b, 10)])),
        (json!([to(a, 90), to(b, 10)]), 50, json!([to(a, 50), to(b, 50)])),
        (json!([to(b, 10), to(a, 90)]), 50, json!([to(b, 50), to(a, 50)])),
        (json!([to(a, 100), to(b, None)]), 0, json!([to(a, 100), to(b, 0)])),
        (json!([to(a, 30), to(f, 70)]), 50, json!([to(a, 15), to(b, 15), to(f, 70)])),
        (json!([to(f, 67), to(a, 33)]), 50, json!([to(f, 67), to(a, 17), to(b, 16)])),
        (json!([to(f, 67), to(a, 33)]), 2, json!([to(f, 67), to(a, 33), to(b, 0)])),
        (json!([to(f, 100), to(a, None)]), 50, json!([to(f, 100), to(a, 0), to(b, 0)])),
    ] {
        assert_eq!(after(&before, &canary(weight)), expected, "{before} at {weight}");
    }
}
