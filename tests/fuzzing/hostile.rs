//! Texts that were made to hurt: what grows when it is read, and what is deeper than any stack.

use std::{fs, path::PathBuf};

use sluice::fuzzing;

/// All readers.
pub const READERS: [fn(&[u8]); 5] =
    [fuzzing::exposition, fuzzing::answer, fuzzing::template, fuzzing::rollout, fuzzing::scenario];

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn all_read(text: &str) {
    for reader in READERS {
        reader(text.as_bytes());
    }
}

#[test]
fn depth_that_no_stack_has() {
    for piece in ["[", "{", "{\"a\":", "- ", "{{", "a: {b: [", "(", "!", "? ", "&a [*a, "] {
        all_read(&piece.repeat(20_000));
        all_read(&format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":{}"#,
            piece.repeat(20_000)
        ));
        all_read(&format!("apiVersion: sluice.dev/v1alpha1\nkind: Rollout\nspec: {}", piece.repeat(20_000)));
    }
}

#[test]
fn aliases_that_would_be_more_than_any_memory() {
    let mut text = "apiVersion: sluice.dev/v1alpha1\nkind: Rollout\nmetadata: {name: iris}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let before = format!("*a{}", level - 1);
        let several = [before.as_str(); 9].join(", ");
        text += &format!("a{level}: &a{level} [{several}]\n");
    }
    all_read(&text);
    all_read(&format!("{text}spec: *a39\n"));
}

#[test]
fn one_line_of_a_mebibyte() {
    for piece in ["a", "\"", "\\", "{", "a{b=\"c\"} 1 ", "1,", "é", "{{stable.service}}", " ", "a: ", "%"] {
        all_read(&piece.repeat((1 << 20) / piece.len()));
    }
}

#[test]
fn more_steps_than_anybody_has_are_refused_as_a_whole() {
    let ramp = "\n  - {ramp: {from: 1, to: 100, by: 1, every: 1m}}";
    let text = format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: Rollout\nmetadata: {{name: iris}}\nspec:\n  target: {{service: {{name: v2}}}}\n  \
         routes: [{{virtualService: iris}}]\n  steps:{}\n",
        ramp.repeat(2_000)
    );
    fuzzing::rollout(text.as_bytes());
}

#[test]
fn times_that_no_clock_shows_make_no_sum_too_large() {
    let rollout = fs::read_to_string(root("tests/fuzzing/corpus/rollout/compared.yaml")).unwrap();
    let scenario = fs::read_to_string(root("tests/fuzzing/corpus/scenario/everything.yaml")).unwrap();
    // Go's longest, more than that, and more than any clock's.
    for longest in ["2562047h47m16.854775807s", "2562048h", "18446744073709551615s"] {
        for written in ["10m", "5m", "2m", "30s", "1m", "10s", "15s", "15m"] {
            fuzzing::rollout(rollout.replace(&format!(": {written}"), &format!(": {longest}")).as_bytes());
        }
        for written in ["40ms", "150ms", "1m30s", "8m", "30s", "6m"] {
            fuzzing::scenario(scenario.replace(&format!(": {written}"), &format!(": {longest}")).as_bytes());
        }
    }
}
