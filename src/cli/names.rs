//! Names as Kubernetes takes them: what is none is told from a cluster that cannot be reached.

use sluice_core::plan::is_object_name;

/// Longer an object's name is not.
const LONGEST: usize = 253;
/// Nor a namespace's, or a label's value.
const LONGEST_LABEL: usize = 63;

/// Reads the name of an object.
///
/// # Errors
/// What Kubernetes would not call an object.
pub fn object(text: &str) -> Result<String, String> {
    is_name(text, LONGEST, true).map(|()| text.to_owned())
}

/// Reads the name of a namespace.
///
/// # Errors
/// What Kubernetes would not call a namespace.
pub fn namespace(text: &str) -> Result<String, String> {
    is_name(text, LONGEST_LABEL, false).map(|()| text.to_owned())
}

/// Reads the name of a namespace, or nothing: a variable of the environment that is empty says none.
///
/// # Errors
/// What Kubernetes would not call a namespace.
pub fn namespace_or_none(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { namespace(text) }
}

/// Reads the name of a Rollout where a file may have been meant.
///
/// # Errors
/// What Kubernetes would not call an object, or what is a file.
pub fn no_file(text: &str) -> Result<String, String> {
    let ends = [".yaml", ".yml", ".json"].iter().any(|end| text.ends_with(end));
    if ends || text.contains('/') || text == "-" {
        return Err(format!("it is a file and no name of a Rollout: -f {text} reads it"));
    }
    object(text)
}

/// Whether Kubernetes could call something so.
fn is_name(text: &str, longest: usize, has_parts: bool) -> Result<(), String> {
    let right = is_object_name(text) && if has_parts { !text.contains("..") } else { !text.contains('.') };
    if text.is_empty() {
        return Err("it is empty: a name is expected".to_owned());
    }
    if !right {
        let dot = if has_parts { "digits, - and ." } else { "digits and -" };
        return Err(format!(
            "{text:?} is no name: lower case letters, {dot} are expected, and a letter or a digit at both ends"
        ));
    }
    match text.len() {
        length if length > longest => {
            Err(format!("{length} characters are too many for a name: at most {longest} are expected"))
        }
        _ => Ok(()),
    }
}

/// Whether a label or an annotation could be called so: a name, or one behind a domain.
pub fn is_key(text: &str) -> bool {
    let (domain, name) = text.split_once('/').map_or((None, text), |(domain, name)| (Some(domain), name));
    domain.is_none_or(|domain| object(domain).is_ok()) && !name.is_empty() && is_value(name)
}

/// Whether a label could have this value.
pub fn is_value(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let at_ends = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= LONGEST_LABEL
            && text.chars().all(inside)
            && text.starts_with(at_ends)
            && text.ends_with(at_ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_api_server_takes() {
        for name in ["iris", "iris-v2", "0", "iris.example.com", &"a".repeat(253)] {
            assert_eq!(object(name).as_deref(), Ok(name));
        }
        for (wrong, problem) in [
            ("", "it is empty"),
            ("a b", "\"a b\" is no name: lower case letters, digits, - and . are expected"),
            ("UPPER_case", "is no name"),
            ("-iris", "is no name"),
            ("iris.", "is no name"),
            ("a..b", "is no name"),
            ("Ирис", "is no name"),
            ("i\u{1b}[31mx", "\\u{1b}"),
            (&*"a".repeat(254), "254 characters are too many for a name: at most 253"),
        ] {
            let error = object(wrong).unwrap_err();
            assert!(error.contains(problem), "{wrong:?}: {error}");
        }
        assert!(namespace("a.b").unwrap_err().contains("digits and - are expected"));
        assert!(namespace(&"a".repeat(64)).is_err());
    }

    #[test]
    fn a_file_in_place_of_a_name_is_said_to_be_one() {
        for file in ["examples/canary.yaml", "canary.yaml", "a.yml", "a.json", "-"] {
            assert_eq!(
                no_file(file).unwrap_err(),
                format!("it is a file and no name of a Rollout: -f {file} reads it")
            );
        }
        assert_eq!(no_file("iris").as_deref(), Ok("iris"));
    }

    #[test]
    fn keys_and_values_are_those_that_the_api_server_takes() {
        for key in ["app", "app.kubernetes.io/name", "A_b.c"] {
            assert!(is_key(key), "{key}");
        }
        for wrong in ["", "a b", "/a", "a/", "a/b/c", "-a", "UPPER/name"] {
            assert!(!is_key(wrong), "{wrong}");
        }
        assert!(is_value("") && is_value("V1.2_x") && !is_value("a b") && !is_value(&"a".repeat(64)));
    }
}
