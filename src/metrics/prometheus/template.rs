//! Fills in the variables of a `query` check.
//!
//! The template is a tenant's. Expressions are allowed, statements are not (`{% for %}` has no place in a query and would let a
//! Rollout keep the controller busy), and there are no functions and no filters to call. Values are escaped, so that a name cannot
//! break out of a `PromQL` string, whichever quotes are around it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use super::selector;

/// The longest query that is sent, in bytes.
const LONGEST: usize = 64 << 10;

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
    if promql.contains("{%") {
        return Err(
            "{% ... %} is not supported in a query: expected only variables like {{canary.service}}".into()
        );
    }
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("promql".into()));
    environment.set_formatter(|out, _, value| {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        if value.is_undefined() || value.is_none() {
            return Err(minijinja::Error::from(minijinja::ErrorKind::UndefinedError));
        }
        Ok(out.write_str(&selector::inside(&text))?)
    });
    let filled = environment.render_str(promql, variables.values()).map_err(|error| describe(&error))?;
    if filled.len() > LONGEST {
        return Err(format!(
            "is {} KiB when filled in: expected at most {}",
            filled.len() >> 10,
            LONGEST >> 10
        ));
    }
    Ok(filled)
}

fn describe(error: &minijinja::Error) -> String {
    let what = match error.kind() {
        minijinja::ErrorKind::UndefinedError => "a variable that is not there".to_owned(),
        _ => error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned),
    };
    format!(
        "cannot be filled in: {what}; expected canary.service, stable.service, namespace, rollout, revision, step.start \
         and window in {{{{ }}}}"
    )
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
        ] {
            let error = check_template(promql).unwrap_err();
            assert!(error.contains("canary.service"), "{promql}: {error}");
        }
        assert_eq!(check_template("up"), Ok(()));
    }

    #[test]
    fn a_query_about_the_canary_needs_one() {
        let variables = Variables { canary: None, ..Variables::example() };
        assert!(fill("{{canary.service}}", &variables).is_err());
        assert_eq!(fill("{{stable.service}}", &variables).unwrap(), "stable");
    }

    #[test]
    fn a_template_cannot_grow_without_end() {
        assert!(check_template(&format!("{{{{ {} }}}}", "'xxxxxxxxxxxxxxxx' * 60000")).is_err());
    }
}
