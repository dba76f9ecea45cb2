//! The difference of two objects as the fewest JSON Patch operations.
//!
//! A general difference compares lists index by index, so that one destination more in the middle would rewrite
//! all that follow it. Here lists are aligned first: what a watcher, an auditor or a person reads in the patch is
//! what was meant.

use json_patch::{
    AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation,
    jsonptr::{PointerBuf, Token},
};
use serde_json::{Map, Value};

/// What the server keeps for itself.
const SERVERS_OWN: [&str; 2] = ["managedFields", "resourceVersion"];

/// The patch that makes `after` of `before`, or `None` when they are equal.
///
/// Its first operation replaces the resourceVersion with the one that was read: if the object has changed since,
/// the server answers 409 (a failed `test` would be a 422, the answer to a refused schema too). The status,
/// `managedFields` and the resourceVersion itself are never part of the difference.
pub fn patch(before: &Value, after: &Value) -> Option<Patch> {
    let mut operations = Vec::new();
    difference(
        &PointerBuf::new(),
        &without_servers_own(before),
        &without_servers_own(after),
        &mut operations,
    );
    if operations.is_empty() {
        return None;
    }
    let path = PointerBuf::from_tokens(["metadata", "resourceVersion"]);
    let fence = match before.pointer("/metadata/resourceVersion").filter(|version| version.is_string()) {
        Some(version) => PatchOperation::Replace(ReplaceOperation { path, value: version.clone() }),
        // Not an object that was read from a server: no object of a server must be overwritten with it.
        None => PatchOperation::Test(TestOperation { path, value: Value::Null }),
    };
    operations.insert(0, fence);
    Some(Patch(operations))
}

fn without_servers_own(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in SERVERS_OWN {
                metadata.remove(field);
            }
        }
    }
    object
}

fn difference(at: &PointerBuf, before: &Value, after: &Value, operations: &mut Vec<PatchOperation>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => of_objects(at, before, after, operations),
        (Value::Array(before), Value::Array(after)) => of_lists(at, before, after, operations),
        _ => operations
            .push(PatchOperation::Replace(ReplaceOperation { path: at.clone(), value: after.clone() })),
    }
}

fn of_objects(
    at: &PointerBuf,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    operations: &mut Vec<PatchOperation>,
) {
    for field in before.keys().filter(|field| !after.contains_key(*field)) {
        operations.push(PatchOperation::Remove(RemoveOperation { path: below(at, field.as_str()) }));
    }
    for (field, value) in after {
        let path = below(at, field.as_str());
        match before.get(field) {
            Some(old) => difference(&path, old, value, operations),
            None => operations.push(PatchOperation::Add(AddOperation { path, value: value.clone() })),
        }
    }
}

fn of_lists(at: &PointerBuf, before: &[Value], after: &[Value], operations: &mut Vec<PatchOperation>) {
    let mut index = 0;
    for pair in align(before, after) {
        let path = below(at, index);
        match pair {
            Pair::Same(old, new) => {
                difference(&path, old, new, operations);
                index += 1;
            }
            Pair::Added(value) => {
                operations.push(PatchOperation::Add(AddOperation { path, value: value.clone() }));
                index += 1;
            }
            Pair::Removed => operations.push(PatchOperation::Remove(RemoveOperation { path })),
        }
    }
}

/// What became of an item of a list.
enum Pair<'v> {
    Same(&'v Value, &'v Value),
    Added(&'v Value),
    Removed,
}

/// Pairs the items of two lists such that the fewest operations are needed.
fn align<'v>(before: &'v [Value], after: &'v [Value]) -> Vec<Pair<'v>> {
    let same = |(old, new): (&'v Value, &'v Value)| Pair::Same(old, new);
    if before.len() == after.len() {
        return before.iter().zip(after).map(same).collect();
    }
    let head = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let (head_before, before) = before.split_at(head);
    let (head_after, after) = after.split_at(head);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(|(old, new)| old == new).count();
    let (before, tail_before) = before.split_at(before.len() - tail);
    let (after, tail_after) = after.split_at(after.len() - tail);

    // least[i][j]: operations that the items from i of `before` and from j of `after` need.
    let mut least = vec![vec![0; after.len() + 1]; before.len() + 1];
    for i in (0..=before.len()).rev() {
        for j in (0..=after.len()).rev() {
            least[i][j] = match (before.get(i), after.get(j)) {
                (None, None) => 0,
                (Some(_), None) => least[i + 1][j] + 1,
                (None, Some(_)) => least[i][j + 1] + 1,
                (Some(old), Some(new)) => {
                    (least[i + 1][j + 1] + cost(old, new)).min(least[i + 1][j] + 1).min(least[i][j + 1] + 1)
                }
            };
        }
    }
    let mut pairs: Vec<_> = head_before.iter().zip(head_after).map(same).collect();
    let (mut i, mut j) = (0, 0);
    while let (Some(needed), true) =
        (least.get(i).and_then(|row| row.get(j)), i < before.len() || j < after.len())
    {
        match (before.get(i), after.get(j)) {
            (Some(old), Some(new)) if *needed == least[i + 1][j + 1] + cost(old, new) => {
                pairs.push(Pair::Same(old, new));
                (i, j) = (i + 1, j + 1);
            }
            (_, Some(new)) if *needed == least[i][j + 1] + 1 => {
                pairs.push(Pair::Added(new));
                j += 1;
            }
            _ => {
                pairs.push(Pair::Removed);
                i += 1;
            }
        }
    }
    pairs.extend(tail_before.iter().zip(tail_after).map(same));
    pairs
}

/// How many operations make `new` of `old`.
fn cost(old: &Value, new: &Value) -> usize {
    let mut operations = Vec::new();
    difference(&PointerBuf::new(), old, new, &mut operations);
    operations.len()
}

fn below<'t>(at: &PointerBuf, token: impl Into<Token<'t>>) -> PointerBuf {
    let mut path = at.clone();
    path.push_back(token);
    path
}
