//! What Seldon Core's operator calls the objects that it makes: a hash where the name would be too long for a Service.

use std::fmt::Write as _;

use md5::{Digest, Md5};
use serde_json::Value;

/// The longest name, in bytes, that the operator gives as it is.
const LONGEST: usize = 63;

/// The VirtualService of a SeldonDeployment.
pub fn virtual_service_name(deployment: &str) -> String {
    fitting(deployment.to_owned())
}

/// The Service of a predictor that is not called otherwise.
pub fn service_name(deployment: &str, predictor: &str) -> String {
    fitting(format!("{deployment}-{predictor}"))
}

/// The Deployments of a predictor that a hash may stand for: one for each of its parts, and one for the orchestrator where it
/// is apart. An operator that was told to (`DEPLOYMENT_NAME_AS_PREFIX`) puts the SeldonDeployment's name before the hash, if
/// there is room.
pub(super) fn hashed_deployments(deployment: &str, predictor: &Value) -> Vec<String> {
    let begin = format!("{deployment}-{}", predictor["name"].as_str().unwrap_or_default());
    let specs = predictor["componentSpecs"].as_array().into_iter().flatten();
    let parts = specs.enumerate().map(|(index, spec)| format!("{begin}-{index}-{}", part(spec)));
    let long = parts.chain([format!("{begin}-svc-orch")]).filter(|name| name.len() > LONGEST);
    long.flat_map(|name| [hashed("seldon", &name), hashed(deployment, &name)]).collect()
}

/// What a part of a predictor is called: by itself, or after its containers.
fn part(spec: &Value) -> String {
    if let Some(name) = spec["metadata"]["name"].as_str().filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let containers = spec["spec"]["containers"].as_array().into_iter().flatten();
    let names: Vec<&str> = containers.map(|one| one["name"].as_str().unwrap_or_default()).collect();
    names.join("-")
}

fn fitting(name: String) -> String {
    if name.len() > LONGEST { hashed("seldon", &name) } else { name }
}

fn hashed(prefix: &str, name: &str) -> String {
    format!("{prefix}-{}", hash(name))
}

/// The MD5 of a text, in small hexadecimal digits. It tells texts apart that nobody made to be mistaken for one another.
pub(super) fn hash(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LONG: &str = "iris-classifier-for-the-garden-of-the-botanical-institute-2026";
    const LONGER: &str =
        "iris-classifier-for-the-garden-of-the-botanical-institute-of-the-university-of-bern";

    #[test]
    fn names_up_to_63_bytes_stay_as_they_are() {
        assert_eq!(service_name("iris", "main"), "iris-main");
        let longest = "a".repeat(63);
        assert_eq!(virtual_service_name(&longest), longest);
        assert_eq!(service_name(&"a".repeat(58), "main"), format!("{}-main", "a".repeat(58)));
    }

    /// By Python's `hashlib.md5`.
    #[test]
    fn longer_names_are_hashed_as_the_operator_does() {
        for (name, expected) in [
            (virtual_service_name(&"a".repeat(64)), "seldon-014842d480b571495a4a0363793f7367"),
            (virtual_service_name(LONGER), "seldon-8c5ecb8cd68d955e0be01ec3c786c6f7"),
            (service_name(LONGER, "green"), "seldon-978c480118b2a87ebc26733c8f9cd54d"),
            (service_name(LONG, "blue-green"), "seldon-0e37f7e99ccf9f8e522e65bdf9dc35e8"),
        ] {
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn deployments_are_hashed_too() {
        let green = |spec: Value| json!({"name": "green", "componentSpecs": [spec]});
        let one = green(json!({"spec": {"containers": [{"name": "classifier"}]}}));
        let named =
            green(json!({"metadata": {"name": "classifier"}, "spec": {"containers": [{"name": "x"}]}}));
        for predictor in [one, named] {
            let names = hashed_deployments(LONG, &predictor);
            assert!(names.contains(&"seldon-b3a7cda2c72632ad869cb56ad5bc6c67".to_owned()), "{names:?}");
            assert!(names.contains(&format!("{LONG}-b3a7cda2c72632ad869cb56ad5bc6c67")), "{names:?}");
        }
        assert!(hashed_deployments("iris", &json!({"name": "green"})).is_empty());
        // As in Seldon Core's own tests.
        let name = "C12345678912345678901234567890123456789012345678901234567890";
        let theirs = json!({"name": name, "componentSpecs": [{"spec": {"containers": [{"name": "m"}]}}]});
        let [whole, short] = ["seldon", "s"].map(|name| format!("{name}-10eb0f02cdc303e74043e57c1d8147ab"));
        assert_eq!(hashed_deployments("s", &theirs)[..2], [whole, short]);
    }
}
