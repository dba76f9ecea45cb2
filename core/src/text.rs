//! Texts that fit into the API.

/// `text` with at most `most` characters, as the API server counts them: a message that is too long must not keep a
/// status from being written.
pub(crate) fn fit(text: impl Into<String>, most: usize) -> String {
    let text = text.into();
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn a_text_that_is_too_long_is_shortened_by_characters() {
        assert_eq!(fit("äöü", 3), "äöü");
        assert_eq!(fit("äöüx", 3), "äö…");
    }
}
