//! Texts of others, as far as they can be shown.

/// What a parser says, without the values that it found: where a text was not expected, it may be a password that stands
/// in the wrong place. What was expected, and where, stays.
pub fn without_values(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    // As serde says it: `invalid type: string "s3cret", expected a map`.
    while let Some((before, quoted)) = rest.split_once("string \"") {
        shown.push_str(before);
        shown.push_str("a text");
        rest = after_quotes(quoted);
    }
    shown.push_str(rest);
    shown
}

/// The path of a field below a spec, as in all messages.
pub fn spelled(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", spelled(parent)),
        Path::Map { parent, key } => format!("{}.{key}", spelled(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            spelled(parent)
        }
    }
}

/// What follows the quoted text.
fn after_quotes(quoted: &str) -> &str {
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &quoted[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_and_the_rest_stays() {
        for (message, shown) in [
            (
                r#"sources.a.basic: invalid type: string "bob:\"s3\", expected", expected struct Basic at line 3"#,
                "sources.a.basic: invalid type: a text, expected struct Basic at line 3",
            ),
            (r#"string "never ends"#, "a text"),
            (r#"unknown field `bearer`, expected "url""#, r#"unknown field `bearer`, expected "url""#),
        ] {
            assert_eq!(without_values(message), shown);
        }
    }
}
