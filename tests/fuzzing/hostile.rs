//! Texts that were made to hurt: what grows when it is read, and what is deeper than any stack.

use sluice::fuzzing;

/// All readers.
pub const READERS: [fn(&[u8]); 5] =
    [fuzzing::exposition, fuzzing::answer, fuzzing::template, fuzzing::rollout, fuzzing::scenario];

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
