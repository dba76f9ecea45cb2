//! What the API server refuses by a kind's schema, said without a server: each mistake with its field.
//!
//! Rules of the schema that are about several fields at once (CEL) are not read here: the plan knows them too, and says
//! them better.

use std::str::FromStr;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};
use sluice_core::{
    api::{GoDuration, Reason, Share},
    lint::Finding,
    plan::PlanError,
};

use crate::cli::yaml::any_of;

/// More of a text is not shown.
const SHOWN: usize = 40;

/// Finds what a schema does not allow in the value of a field.
pub fn check(schema: &JSONSchemaProps, value: &Value, path: &str, found: &mut Vec<Finding>) {
    match (schema.type_.as_deref(), value) {
        (Some("object"), Value::Object(fields)) => object(schema, fields, path, found),
        (Some("array"), Value::Array(items)) => list(schema, items, path, found),
        (Some("string"), Value::String(text)) => {
            found.extend(text_problem(schema, text).map(|problem| invalid(path, problem)));
        }
        (Some("integer" | "number"), Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let whole = schema.type_.as_deref() == Some("number") || number.fract() == 0.0;
            let problem = if whole { range_problem(schema, number) } else { Some(misplaced(schema, value)) };
            found.extend(problem.map(|problem| invalid(path, problem)));
        }
        (Some("boolean"), Value::Bool(_)) | (None, _) => {}
        (Some("string"), Value::Number(_) | Value::Bool(_)) if is_any_text(schema) => {
            found.push(invalid(path, format!("{} is no text: put it in quotes", shown(value))));
        }
        (Some(_), _) => found.push(invalid(path, misplaced(schema, value))),
    }
}

/// Like the value that the API server would store: what is nothing in a map is not there, and a whole number is one however it
/// is written.
pub fn stored(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), stored(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(stored).collect(),
        Value::Number(number) => whole(number).map_or_else(|| value.clone(), Value::from),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// A mistake that keeps the API server from taking an object.
pub fn invalid(path: &str, problem: String) -> Finding {
    let error = PlanError { path: path.to_owned(), reason: Reason::InvalidSpec, problem };
    let advice = "the API server refuses it: nothing starts".to_owned();
    Finding { advice, ..Finding::refused(&error) }
}

/// The path of a field.
pub fn member(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    match (path.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{name}]"),
    }
}

/// A value as messages show it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() > SHOWN => {
            format!("{:?}...", text.chars().take(SHOWN).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

fn object(schema: &JSONSchemaProps, fields: &Map<String, Value>, path: &str, found: &mut Vec<Finding>) {
    for name in schema.required.iter().flatten() {
        if fields.get(name).is_none_or(Value::is_null) {
            found.push(invalid(&member(path, name), "it is missing".to_owned()));
        }
    }
    if let Some(problem) = too_many(fields.len(), schema.max_properties) {
        return found.push(invalid(path, problem));
    }
    for (name, value) in fields {
        let path = member(path, name);
        let known = schema.properties.as_ref().and_then(|properties| properties.get(name));
        let any = match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(&**schema),
            Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
        };
        match known.or(any) {
            // One that is nothing is not there.
            Some(_) if value.is_null() => {}
            Some(schema) => check(schema, value, &path, found),
            None if takes_all(schema) => {}
            None => found.push(Finding::unknown(&path)),
        }
    }
}

fn takes_all(schema: &JSONSchemaProps) -> bool {
    schema.x_kubernetes_preserve_unknown_fields == Some(true)
        || matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Bool(true)))
}

fn list(schema: &JSONSchemaProps, items: &[Value], path: &str, found: &mut Vec<Finding>) {
    if let Some(problem) = too_many(items.len(), schema.max_items) {
        return found.push(invalid(path, problem));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(schema, item, &format!("{path}[{index}]"), found);
        }
    }
}

fn too_many(count: usize, most: Option<i64>) -> Option<String> {
    let most = usize::try_from(most?).ok()?;
    (count > most).then(|| format!("{count} are too many: {most} at most are expected"))
}

fn text_problem(schema: &JSONSchemaProps, text: &str) -> Option<String> {
    let value = Value::from(text);
    if let Some(words) = words(schema) {
        let known = words.iter().any(|word| word == text);
        return (!known).then(|| format!("{} is not known: {} is expected", shown(&value), any_of(&words)));
    }
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if schema.max_length.is_some_and(|most| length > most) {
        let most = schema.max_length.unwrap_or_default();
        return Some(format!("{length} characters are too many: {most} at most are expected"));
    }
    if schema.min_length.is_some_and(|least| length < least) {
        return Some("it is empty: a text is expected".to_owned());
    }
    match schema.pattern.as_deref()? {
        GoDuration::PATTERN => GoDuration::from_str(text).err().map(|error| error.to_string()),
        Share::PATTERN => Share::from_str(text).err().map(|error| error.to_string()),
        pattern => {
            // One that cannot be read here is the server's to check.
            let differs = regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text));
            differs.then(|| format!("{} does not match {pattern}", shown(&value)))
        }
    }
}

/// The words that a field may have.
fn words(schema: &JSONSchemaProps) -> Option<Vec<String>> {
    let words = schema.enum_.as_ref()?.iter();
    Some(words.filter_map(|word| word.0.as_str().map(str::to_owned)).collect())
}

/// Whether any text will do, as far as its form is concerned.
fn is_any_text(schema: &JSONSchemaProps) -> bool {
    schema.enum_.is_none() && schema.pattern.is_none()
}

fn range_problem(schema: &JSONSchemaProps, number: f64) -> Option<String> {
    let (above, below) = (schema.exclusive_minimum == Some(true), schema.exclusive_maximum == Some(true));
    let too_small = schema.minimum.is_some_and(|least| number < least || above && number <= least);
    let too_large = schema.maximum.is_some_and(|most| number > most || below && number >= most);
    (too_small || too_large).then(|| format!("{number} is out of range: {} is expected", range(schema)))
}

/// Like `1 to 100`; empty where there are no bounds.
fn range(schema: &JSONSchemaProps) -> String {
    match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) if schema.exclusive_minimum == Some(true) => {
            format!("above {least} and below {most}")
        }
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("{least} or more"),
        (None, Some(most)) => format!("{most} or less"),
        (None, None) => String::new(),
    }
}

fn misplaced(schema: &JSONSchemaProps, value: &Value) -> String {
    format!("{} is out of place: {} is expected", shown(value), expected(schema))
}

/// What a field takes.
fn expected(schema: &JSONSchemaProps) -> String {
    let number = |what: &str| match range(schema) {
        range if range.is_empty() => what.to_owned(),
        range => format!("{what}, {range},"),
    };
    match (schema.type_.as_deref(), schema.pattern.as_deref()) {
        (Some("object"), _) => "a map".to_owned(),
        (Some("array"), _) => "a list".to_owned(),
        (Some("boolean"), _) => "true or false".to_owned(),
        (Some("integer"), _) => number("a whole number"),
        (Some("number"), _) => number("a number"),
        (_, Some(GoDuration::PATTERN)) => "a duration like 90s".to_owned(),
        (_, Some(Share::PATTERN)) => "a share like 1%".to_owned(),
        (Some(_) | None, _) => words(schema).map_or_else(|| "a text".to_owned(), |words| any_of(&words)),
    }
}

/// A whole number that was written with a point.
#[allow(clippy::cast_possible_truncation)] // within what a double holds exactly
fn whole(number: &serde_json::Number) -> Option<i64> {
    let value = number.as_f64().filter(|_| number.is_f64())?;
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> JSONSchemaProps {
        serde_json::from_value(json!({
            "type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 4},
                "weight": {"type": "integer", "minimum": 0, "maximum": 100, "nullable": true},
                "quantile": {"type": "number", "minimum": 0, "maximum": 1, "exclusiveMinimum": true, "exclusiveMaximum": true},
                "for": {"type": "string", "pattern": GoDuration::PATTERN, "maxLength": 32},
                "max": {"type": "string", "pattern": Share::PATTERN, "maxLength": 16},
                "path": {"type": "string", "pattern": "^/"},
                "then": {"type": "string", "enum": ["Pause", "Rollback", "Wait"]},
                "approve": {"type": "boolean"},
                "steps": {"type": "array", "maxItems": 2, "items": {"type": "string", "minLength": 1}},
                "labels": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string"}},
                "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        }))
        .unwrap()
    }

    fn found(fields: &Value) -> Vec<String> {
        let mut value = json!({"name": "iris"});
        value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut found = Vec::new();
        check(&schema(), &value, "spec", &mut found);
        found.iter().map(|one| format!("{}: {}", one.path, one.problem)).collect()
    }

    #[test]
    fn what_a_schema_does_not_allow_is_found_with_its_field_and_what_is_expected() {
        for (fields, expected) in [
            (
                json!({"weight": "five"}),
                "spec.weight: \"five\" is out of place: a whole number, 0 to 100, is expected",
            ),
            (
                json!({"weight": 5.5}),
                "spec.weight: 5.5 is out of place: a whole number, 0 to 100, is expected",
            ),
            (json!({"weight": 500}), "spec.weight: 500 is out of range: 0 to 100 is expected"),
            (json!({"quantile": 1}), "spec.quantile: 1 is out of range: above 0 and below 1 is expected"),
            (json!({"name": ""}), "spec.name: it is empty: a text is expected"),
            (json!({"name": "irises"}), "spec.name: 6 characters are too many: 4 at most are expected"),
            (json!({"name": 5}), "spec.name: 5 is no text: put it in quotes"),
            (json!({"name": null}), "spec.name: it is missing"),
            (json!({"for": "-5m"}), "spec.for: \"-5m\" is not a duration: expected a number with a unit"),
            (json!({"for": 5}), "spec.for: 5 is out of place: a duration like 90s is expected"),
            (json!({"max": "101%"}), "spec.max: \"101%\" is not a share"),
            (json!({"max": 1}), "spec.max: 1 is out of place: a share like 1% is expected"),
            (json!({"path": "metrics"}), "spec.path: \"metrics\" does not match ^/"),
            (
                json!({"then": "pause"}),
                "spec.then: \"pause\" is not known: Pause, Rollback or Wait is expected",
            ),
            (json!({"then": 1}), "spec.then: 1 is out of place: Pause, Rollback or Wait is expected"),
            (json!({"approve": "yes"}), "spec.approve: \"yes\" is out of place: true or false is expected"),
            (json!({"steps": {}}), "spec.steps: a map is out of place: a list is expected"),
            (json!({"steps": ["a", ""]}), "spec.steps[1]: it is empty"),
            (json!({"steps": [null]}), "spec.steps[0]: nothing is out of place: a text is expected"),
            (json!({"steps": ["a", "b", "c"]}), "spec.steps: 3 are too many: 2 at most are expected"),
            (json!({"labels": [1]}), "spec.labels: a list is out of place: a map is expected"),
            (json!({"labels": {"a/b": 1}}), "spec.labels[a/b]: 1 is no text"),
            (json!({"wieght": 5}), "spec.wieght: this version does not know it"),
        ] {
            let found = found(&fields);
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{fields}: {found:?}, not {expected}"
            );
        }
    }

    #[test]
    fn what_is_allowed_is_no_mistake() {
        let all = json!({
            "weight": 5.0, "quantile": 0.99, "for": "1h30m", "max": "1%", "path": "/metrics", "then": "Wait",
            "approve": true, "steps": ["a"], "labels": {"a": "b", "c": null}, "anything": {"x": [1]},
        });
        assert_eq!(found(&all), [""; 0]);
        assert_eq!(found(&json!({"weight": null, "steps": null, "approve": null})), [""; 0]);
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        assert_eq!(found(&json!({"weight": "five", "for": "x", "steps": [1, ""]})).len(), 4);
    }

    #[test]
    fn what_is_stored_has_no_nothing_and_no_point_in_a_whole_number() {
        let value = json!({"a": null, "b": [null, {"c": null, "d": 5.0}], "e": 0.5, "f": 1e300});
        assert_eq!(stored(&value), json!({"b": [null, {"d": 5}], "e": 0.5, "f": 1e300}));
    }
}
