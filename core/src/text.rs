//! Texts that fit into the API.

/// `text` with at most `most` characters, as the API server counts them: a message that is too long must not keep a
/// status from being written.
pub(crate) fn fit(text: impl Into<String>, most: usize) -> String {
    let text = text.into();
    // No character has less than a byte.
    if text.len() <= most {
        return text;
    }
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A short text that another text most likely does not share: FNV-1a of 64 bits, in hexadecimal.
pub fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::{digest, fit};

    #[test]
    fn a_text_that_is_too_long_is_shortened_by_characters() {
        assert_eq!(fit("äöü", 3), "äöü");
        assert_eq!(fit("äöüx", 3), "äö…");
    }

    #[test]
    fn a_digest_is_the_one_that_the_algorithm_names() {
        // Vectors of the algorithm's authors.
        assert_eq!(digest(""), "cbf29ce484222325");
        assert_eq!(digest("foobar"), "85944171f73967e8");
    }
}
