//! Label and field selectors of lists and watches.

use serde_json::Value;

use super::{kind::Kind, object, refusal::Refusal};

/// What a list or watch was narrowed to. Empty selects everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    labels: Vec<Requirement>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

impl Selection {
    /// Reads both selectors of a request; what cannot be read is a 400, as on the real server.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let labels = split(labels).into_iter().map(requirement).collect::<Result<_, _>>()?;
        let fields = split(fields).into_iter().map(|f| field(kind, f)).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether the object is selected.
    pub(super) fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|r| r.holds(object)) && self.fields.iter().all(|f| f.holds(object))
    }
}

impl Requirement {
    fn holds(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        match self {
            Self::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(key, values) => !label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Self::Exists(key) => label(key).is_some(),
            Self::Absent(key) => label(key).is_none(),
        }
    }
}

impl Field {
    fn holds(&self, object: &Value) -> bool {
        (object::field(object, &self.path) == self.value) == self.equal
    }
}

/// Splits at commas that are not inside parentheses.
fn split(selector: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in selector.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&selector[start..]);
    parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    if let Some(open) = text.find('(') {
        let values =
            text[open + 1..].trim_end_matches(')').split(',').map(|v| v.trim().to_string()).collect();
        let mut words = text[..open].split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(Requirement::In(key.into(), values)),
            (Some(key), Some("notin"), None) => Ok(Requirement::NotIn(key.into(), values)),
            _ => Err(Refusal::bad_request(format!("unable to parse requirement: {text}"))),
        };
    }
    let trimmed = |s: &str| s.trim().to_string();
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(trimmed(key), vec![trimmed(value)]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(trimmed(key), vec![trimmed(value)]));
    }
    match text.strip_prefix('!') {
        Some(key) => Ok(Requirement::Absent(trimmed(key))),
        None if text.contains(char::is_whitespace) => {
            Err(Refusal::bad_request(format!("unable to parse requirement: {text}")))
        }
        None => Ok(Requirement::Exists(text.into())),
    }
}

fn field(kind: &Kind, text: &str) -> Result<Field, Refusal> {
    let (path, value, equal) = if let Some((path, value)) = text.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (path, value, true)
    } else {
        return Err(Refusal::bad_request(format!("invalid selector: '{text}'; can't understand '{text}'")));
    };
    let known = path == "metadata.name"
        || (path == "metadata.namespace" && kind.namespaced)
        || kind.selectable.iter().any(|f| f == path);
    if !known {
        return Err(Refusal::bad_request(format!("field label not supported: {path}")));
    }
    Ok(Field { path: path.into(), value: value.into(), equal })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: &Value) -> bool {
        let kind = Kind::custom("g", &["v1"], "Thing", "things");
        let object = json!({"metadata": {"name": "a", "labels": labels}});
        Selection::parse(&kind, selector, "").unwrap().matches(&object)
    }

    #[test]
    fn label_selectors_read_as_kubernetes_reads_them() {
        let labels = json!({"app": "iris", "tier": "gold"});
        for (selector, expected) in [
            ("", true),
            ("app=iris", true),
            ("app==iris,tier=gold", true),
            ("app=iris,tier=lead", false),
            ("app!=iris", false),
            ("other!=iris", true),
            ("app in (rose, iris)", true),
            ("app in (rose),tier", false),
            ("app notin (rose)", true),
            ("tier", true),
            ("!tier", false),
            ("!other", true),
        ] {
            assert_eq!(selects(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn a_field_that_the_kind_does_not_offer_is_refused() {
        let kind = Kind::custom("g", &["v1"], "Thing", "things");
        let refusal = Selection::parse(&kind, "", "spec.color=red").unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (400, "field label not supported: spec.color"));
    }
}
