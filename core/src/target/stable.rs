//! Who is stable, where the routes alone do not tell and the spec says so.

use std::fmt;

use super::SeldonView;
use crate::{
    api::{Reason, RolloutSpec},
    machine::Refusal,
};

/// The field of a spec that names the stable predictor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StableField {
    /// That of a Service target: it names a Service.
    #[default]
    Service,
    /// That of a SeldonDeployment: it names one of its predictors.
    Predictor,
}

impl StableField {
    /// The one that counts for the target of a spec.
    pub fn of(spec: &RolloutSpec) -> Self {
        if spec.target.seldon_deployment.is_some() { Self::Predictor } else { Self::Service }
    }

    /// What it names.
    pub fn what(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Predictor => "predictor",
        }
    }
}

impl fmt::Display for StableField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "spec.target.service.from",
            Self::Predictor => "spec.target.seldonDeployment.from",
        })
    }
}

/// What a spec says of who is stable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedStable {
    /// Where it says so, or would.
    pub field: StableField,
    /// The Service of whom it names; nothing where it names nobody.
    pub service: Option<String>,
    /// The subset of that Service, where the target tells.
    pub subset: Option<String>,
}

impl NamedStable {
    /// A spec that has the field and names nobody there: so does one of which it does not count any more.
    pub fn nobody(field: StableField) -> Self {
        Self { field, ..Self::default() }
    }
}

/// Whom the spec of a Rollout in `namespace` names as stable. `seldon` looks a SeldonDeployment of that namespace up.
///
/// # Errors
/// A predictor that the SeldonDeployment does not have.
pub fn named_stable(
    spec: &RolloutSpec,
    namespace: &str,
    seldon: impl Fn(&str) -> Option<SeldonView>,
) -> Result<NamedStable, Refusal> {
    let field = StableField::of(spec);
    let service = spec.target.service.as_ref().and_then(|target| target.from.clone());
    let Some(target) = &spec.target.seldon_deployment else {
        return Ok(NamedStable { service, ..NamedStable::nobody(field) });
    };
    // That there is no such SeldonDeployment is said of its name.
    let (Some(from), Some(view)) = (&target.from, seldon(&target.name)) else {
        return Ok(NamedStable::nobody(field));
    };
    let Some(predictor) = view.predictor(from) else {
        let problem = view.has_no_predictor(namespace, from);
        return Err(Refusal::new(Reason::TargetNotFound, format!("{field}: {problem}")));
    };
    let service = Some(predictor.service.clone());
    Ok(NamedStable { field, service, subset: Some(predictor.name.clone()) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn named(target: &Value) -> Result<NamedStable, Refusal> {
        let spec = json!({"target": target, "routes": [{"virtualService": "iris"}]});
        let object = json!({"metadata": {"name": "iris"}, "spec": {"predictors": [
            {"name": "main", "traffic": 75, "annotations": {"seldon.io/svc-name": "classifier"}},
            {"name": "green", "traffic": 25},
        ]}});
        let seldon = |name: &str| (name == "iris").then(|| SeldonView::read(&object));
        named_stable(&serde_json::from_value(spec).unwrap(), "models", seldon)
    }

    #[test]
    fn a_predictor_is_named_by_its_own_name_and_found_by_its_service() {
        let found =
            named(&json!({"seldonDeployment": {"name": "iris", "predictor": "green", "from": "main"}}));
        let found = found.unwrap();
        assert_eq!((found.service.as_deref(), found.subset.as_deref()), (Some("classifier"), Some("main")));
        let found = named(&json!({"service": {"name": "iris-v2", "from": "iris-v1"}})).unwrap();
        assert_eq!((found.service.as_deref(), found.subset), (Some("iris-v1"), None));
    }

    #[test]
    fn who_names_nobody_is_told_the_field_of_their_target() {
        let nobody = named(&json!({"seldonDeployment": {"name": "iris", "predictor": "green"}})).unwrap();
        assert_eq!(
            (nobody.field.to_string().as_str(), nobody.service),
            ("spec.target.seldonDeployment.from", None)
        );
        let nobody = named(&json!({"service": {"name": "iris-v2"}})).unwrap();
        assert_eq!(nobody.field.to_string(), "spec.target.service.from");
        // Of a SeldonDeployment that is not there its name is said.
        let absent =
            named(&json!({"seldonDeployment": {"name": "other", "predictor": "green", "from": "x"}}));
        assert_eq!(absent.unwrap().service, None);
        let wrong =
            named(&json!({"seldonDeployment": {"name": "iris", "predictor": "green", "from": "blue"}}));
        let message = wrong.unwrap_err().message;
        let expected = "spec.target.seldonDeployment.from: SeldonDeployment models/iris has no predictor \"blue\", only main, green";
        assert_eq!(message, expected);
    }
}
