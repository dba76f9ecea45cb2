//! What changed in a VirtualService, as a diff of its YAML.

use serde_json::{Value, json};

use crate::text::{Line, Paint};

/// Lines around a change that are shown, too.
const CONTEXT: usize = 2;
/// The annotation in which Sluice keeps the number of its last decision.
pub const STAMP: &str = "sluice.dev/stamp";

/// How a line of the one relates to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Both,
    Gone,
    New,
}

/// All that a person wrote into the object, without what the server and Sluice keep in its metadata.
pub fn written(object: &Value) -> Value {
    let mut metadata = object["metadata"].clone();
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|field, _| matches!(field.as_str(), "name" | "labels" | "annotations"));
    }
    if let Some(annotations) = metadata.pointer_mut("/annotations").and_then(Value::as_object_mut) {
        annotations.remove(STAMP);
    }
    json!({"metadata": metadata, "spec": object["spec"]})
}

/// The lines that differ, with a little around them; none where nothing does.
pub fn changes(before: &Value, after: &Value) -> Vec<Line> {
    let lines = |object| -> Vec<String> {
        let yaml = serde_saphyr::to_string(&written(object)).unwrap_or_default();
        yaml.lines().map(str::to_owned).collect()
    };
    let (before, after) = (lines(before), lines(after));
    let all = compare(&before, &after);
    let near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        all.iter().skip(from).take(at - from + CONTEXT + 1).any(|(sign, _)| *sign != Sign::Both)
    };
    let mut shown = Vec::new();
    let mut hidden = false;
    for (at, (sign, text)) in all.iter().enumerate() {
        if !near(at) {
            hidden = true;
            continue;
        }
        if std::mem::take(&mut hidden) && !shown.is_empty() {
            shown.push(Line::of(Paint::Dim, "      ⋮"));
        }
        shown.push(match sign {
            Sign::Both => Line::of(Paint::Dim, format!("      {text}")),
            Sign::Gone => Line::of(Paint::Red, format!("    - {text}")),
            Sign::New => Line::of(Paint::Green, format!("    + {text}")),
        });
    }
    shown
}

/// Both texts as one, by their longest common subsequence.
fn compare<'a>(before: &'a [String], after: &'a [String]) -> Vec<(Sign, &'a str)> {
    let mut common = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
    for (i, old) in before.iter().enumerate().rev() {
        for (j, new) in after.iter().enumerate().rev() {
            common[i][j] =
                if old == new { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut all = Vec::new();
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            all.push((Sign::Both, before[i].as_str()));
            (i, j) = (i + 1, j + 1);
        } else if i < before.len() && (j == after.len() || common[i + 1][j] >= common[i][j + 1]) {
            all.push((Sign::Gone, before[i].as_str()));
            i += 1;
        } else {
            all.push((Sign::New, after[j].as_str()));
            j += 1;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(host: &str, stamp: &str) -> Value {
        json!({
            "metadata": {"name": "iris", "resourceVersion": stamp, "annotations": {STAMP: stamp, "a": "b"}},
            "spec": {"hosts": ["iris"], "http": [{"name": "primary", "route": [{"destination": {"host": host}, "weight": 100}], "timeout": "3s"}]},
        })
    }

    fn shown(before: &Value, after: &Value) -> Vec<String> {
        changes(before, after).iter().map(|line| line.show(None, false)).collect()
    }

    #[test]
    fn only_what_differs_is_shown_with_its_surroundings() {
        let lines = shown(&object("iris-v1", "1"), &object("iris-v2", "2"));
        assert_eq!(
            lines,
            [
                "          route:",
                "          - destination:",
                "    -         host: iris-v1",
                "    +         host: iris-v2",
                "            weight: 100",
                "          timeout: 3s",
            ]
        );
    }

    #[test]
    fn what_server_and_sluice_keep_in_metadata_is_no_change() {
        assert_eq!(shown(&object("iris-v1", "1"), &object("iris-v1", "2")), [""; 0]);
        assert_eq!(
            written(&object("x", "1"))["metadata"],
            json!({"name": "iris", "annotations": {"a": "b"}})
        );
    }
}
