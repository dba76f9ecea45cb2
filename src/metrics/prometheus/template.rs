//! Fills in the variables of a `query` check.
//!
//! The template is a tenant's, so it may name variables and nothing else: an expression like `1 in [2] * 1000000000` or a loop
//! would keep the controller busy for everybody. Values are escaped, so that a name cannot break out of a PromQL string,
//! whichever quotes are around it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, value::ValueKind};

use super::selector;

/// The variables.
const NAMES: [&str; 7] =
    ["canary.service", "stable.service", "namespace", "rollout", "revision", "step.start", "window"];

/// What the variables stand for.
pub struct Variables<'a> {
    /// Name of the canary's Service, if one is in flight.
    pub canary: Option<&'a str>,
    /// Name of stable's Service.
    pub stable: &'a str,
    /// Namespace of the Rollout.
    pub namespace: &'a str,
    /// Name of the Rollout.
    pub rollout: &'a str,
    /// Revision of the canary, or of stable where there is none.
    pub revision: &'a str,
    /// When the step's traffic was in place.
    pub step_start: DateTime<Utc>,
    /// How far back the query may look.
    pub window: Duration,
}

/// Why a query's template cannot be filled in for any Rollout, if so: its syntax, or a variable that is not among those
/// there are.
pub fn check_template(promql: &str) -> Result<(), String> {
    fill(promql, &Variables::example()).map(drop)
}

impl Variables<'_> {
    /// Names that stand for any, to try a template out.
    pub fn example() -> Self {
        Self {
            canary: Some("canary"),
            stable: "stable",
            namespace: "namespace",
            rollout: "rollout",
            revision: "namespace/canary:80",
            step_start: DateTime::UNIX_EPOCH,
            window: Duration::from_mins(1),
        }
    }

    fn values(&self) -> Value {
        let stable = context! { service => self.stable };
        let step = context! { start => self.step_start.timestamp() };
        let common = context! {
            stable, step,
            namespace => self.namespace,
            rollout => self.rollout,
            revision => self.revision,
            window => selector::duration(self.window),
        };
        match self.canary {
            Some(service) => context! { canary => context! { service }, ..common },
            None => common,
        }
    }
}

/// The query with its variables filled in.
pub fn fill(promql: &str, variables: &Variables<'_>) -> Result<String, String> {
    refuse_more_than_variables(promql)?;
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("promql".into()));
    environment.set_formatter(|out, _, value| {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        if !matches!(value.kind(), ValueKind::String | ValueKind::Number) {
            return Err(minijinja::Error::from(minijinja::ErrorKind::UndefinedError));
        }
        Ok(out.write_str(&selector::inside(&text))?)
    });
    environment.render_str(promql, variables.values()).map_err(|error| describe(&error))
}

/// Refuses whatever asks for more than the value of a variable, and says at which character that begins.
fn refuse_more_than_variables(template: &str) -> Result<(), String> {
    let at = |byte: usize| template.get(..byte).map_or(0, |before| before.chars().count()) + 1;
    let other = |what: &str, byte: usize| {
        format!(
            "has {what:?} in it, at character {}: expected only variables like {{{{canary.service}}}}",
            at(byte)
        )
    };
    for statement in ["{%", "{#"] {
        if let Some(byte) = template.find(statement) {
            return Err(other(statement, byte));
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ' ');
    let mut begin = 0;
    while let Some(start) = template[begin..].find("{{").map(|found| begin + found + 2) {
        let Some(length) = template[start..].find("}}") else {
            return Err(format!(
                "cannot be filled in: what begins at character {} has no }}}}; expected {}",
                at(start - 2),
                listed()
            ));
        };
        let name = &template[start..start + length];
        if !name.chars().all(plain) {
            return Err(other(name, start));
        }
        if !NAMES.contains(&name.trim()) {
            return Err(format!(
                "cannot be filled in: there is no variable {:?}, at character {}; expected {}",
                name.trim(),
                at(start),
                listed()
            ));
        }
        begin = start + length + 2;
    }
    Ok(())
}

fn listed() -> String {
    format!("{} in {{{{ }}}}", NAMES.join(", "))
}

fn describe(error: &minijinja::Error) -> String {
    let what = match error.kind() {
        // Known, and not there now.
        minijinja::ErrorKind::UndefinedError => "there is no canary to name".to_owned(),
        _ => error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned),
    };
    format!("cannot be filled in: {what}; expected {}", listed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(promql: &str) -> Result<String, String> {
        let variables = Variables { canary: Some("iris\"-v2"), ..Variables::example() };
        fill(promql, &variables)
    }

    #[test]
    fn variables_are_filled_in_and_escaped() {
        for (promql, expected) in [
            (r#"a{s="{{canary.service}}"}"#, r#"a{s="iris\x22-v2"}"#),
            (r#"a{s="{{ stable.service }}"}[{{window}}]"#, r#"a{s="stable"}[60s]"#),
            (
                "{{step.start}} {{namespace}} {{rollout}} {{revision}}",
                "0 namespace rollout namespace/canary:80",
            ),
            ("sum(rate(a[1m])) by (x)", "sum(rate(a[1m])) by (x)"),
            (r#"{__name__="a"}"#, r#"{__name__="a"}"#),
        ] {
            assert_eq!(filled(promql).unwrap(), expected, "{promql}");
        }
    }

    #[test]
    fn a_template_that_cannot_be_filled_in_says_what_it_could_use() {
        for promql in [
            "{{canary.servce}}",
            "{{nope}}",
            "{{ canary.service",
            "{{ canary.service | upper }}",
            "{{ range(10) }}",
            "{{ canary.service() }}",
            "{% for x in [1] %}{% endfor %}",
            "{# a #}",
            "{{ 1 in [2] * 1000000000 }}",
            "{{ 'x' * 60000 }}",
            "{{ canary['service'] }}",
            "{{ canary }}",
            "{{{{namespace}}",
            "{{namespace}} {{",
        ] {
            let error = check_template(promql).unwrap_err();
            assert!(error.contains("canary.service"), "{promql}: {error}");
        }
        assert_eq!(check_template("up"), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (promql, expected) in [
            ("é{{canary.servce}}", "there is no variable \"canary.servce\", at character 4"),
            ("a{{namespace}} {{ x", "what begins at character 16 has no }}"),
            ("up {% raw %}", "has \"{%\" in it, at character 4"),
            ("up{{ 1 + 1 }}", "has \" 1 + 1 \" in it, at character 5"),
        ] {
            let error = check_template(promql).unwrap_err();
            assert!(error.contains(expected), "{promql}: {error}");
        }
    }

    #[test]
    fn a_query_about_the_canary_needs_one() {
        let variables = Variables { canary: None, ..Variables::example() };
        assert!(fill("{{canary.service}}", &variables).is_err());
        assert_eq!(fill("{{stable.service}}", &variables).unwrap(), "stable");
    }
}
