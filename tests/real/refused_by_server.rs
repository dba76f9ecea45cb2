//! What one object is enough to see is refused by the API server, before anything is stored, with the field in the message.

use anyhow::{Result, anyhow, ensure};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::world::{IRIS, World, same_json};

/// A mistake in the spec of a Rollout and what the server's answer has in it.
pub struct Mistake {
    pub name: &'static str,
    /// What to put into a spec that is right.
    pub spec: fn() -> Value,
    pub expected: &'static [&'static str],
}

/// What one object is enough to see: the schema and its rules.
pub const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "no_target",
        spec: || json!({"target": {}}),
        expected: &["spec.target: ", "exactly one target is expected: service, seldonDeployment"],
    },
    Mistake {
        name: "two_targets",
        spec: || json!({"target": {"service": {"name": "iris-v2"}, "deployment": {"name": "iris"}}}),
        expected: &["spec.target: ", "exactly one target is expected: service, seldonDeployment"],
    },
    Mistake {
        name: "a_weight_of_101",
        spec: || json!({"steps": [{"weight": 5}, {"weight": 101}]}),
        expected: &["spec.steps[1].weight: ", "101", "should be less than or equal to 100"],
    },
    Mistake {
        name: "a_weight_of_minus_1",
        spec: || json!({"steps": [{"weight": -1}]}),
        expected: &["spec.steps[0].weight: ", "-1", "should be greater than or equal to 0"],
    },
    Mistake {
        name: "a_mirror_of_101",
        spec: || json!({"steps": [{"mirror": 101}]}),
        expected: &["spec.steps[0].mirror: ", "101", "should be less than or equal to 100"],
    },
    Mistake {
        name: "a_match_without_conditions",
        spec: || json!({"steps": [{"match": [{}]}]}),
        expected: &["spec.steps[0].match[0]: ", "a match without conditions would take all requests"],
    },
    Mistake {
        name: "a_ramp_by_0",
        spec: || json!({"steps": [{"ramp": {"from": 10, "to": 50, "by": 0, "every": "1m"}}]}),
        expected: &["spec.steps[0].ramp.by: ", "should be greater than or equal to 1"],
    },
    Mistake {
        name: "a_ramp_that_goes_down",
        spec: || json!({"steps": [{"ramp": {"from": 50, "to": 10, "by": 10, "every": "1m"}}]}),
        expected: &["spec.steps[0].ramp: ", "a ramp goes up: from must not be above to"],
    },
    Mistake {
        name: "a_ramp_beside_a_weight",
        spec: || json!({"steps": [{"weight": 5, "ramp": {"from": 10, "to": 50, "by": 10, "every": "1m"}}]}),
        expected: &["spec.steps[0]: ", "a step is either a ramp or a setting"],
    },
    Mistake {
        name: "a_step_with_nothing_in_it",
        spec: || json!({"steps": [{"for": "1m"}]}),
        expected: &["spec.steps[0]: ", "a step is either a ramp or a setting"],
    },
    Mistake {
        name: "a_bad_duration",
        spec: || json!({"steps": [{"weight": 5, "for": "5 minutes"}]}),
        expected: &["spec.steps[0].for: ", "5 minutes", "should match"],
    },
    Mistake {
        name: "a_number_where_a_duration_belongs",
        spec: || json!({"steps": [{"weight": 5, "for": 300}]}),
        expected: &["spec.steps[0].for: ", "integer", "must be of type string"],
    },
    Mistake {
        name: "a_number_where_a_share_belongs",
        spec: || json!({"checks": [{"name": "errors", "errors": {"max": 0.01}}]}),
        expected: &["spec.checks[0].errors.max: ", "number", "must be of type string"],
    },
    Mistake {
        name: "text_where_a_weight_belongs",
        spec: || json!({"steps": [{"weight": "5%"}]}),
        expected: &["spec.steps[0].weight: ", "string", "must be of type integer"],
    },
    Mistake {
        name: "a_check_without_an_indicator",
        spec: || json!({"checks": [{"name": "errors"}]}),
        expected: &["spec.checks[0]: ", "exactly one of errors, latency and query is expected"],
    },
    Mistake {
        name: "a_check_with_two_indicators",
        spec: || json!({"checks": [{"name": "c", "errors": {"max": "1%"}, "latency": {"max": "1s"}}]}),
        expected: &["spec.checks[0]: ", "exactly one of errors, latency and query is expected"],
    },
    Mistake {
        name: "two_checks_of_one_name",
        spec: || json!({"checks": [{"name": "c", "errors": {"max": "1%"}}, {"name": "c", "latency": {"max": "1s"}}]}),
        expected: &["spec.checks[1]: ", "Duplicate value", "\"c\""],
    },
    Mistake {
        name: "a_query_without_a_limit",
        spec: || json!({"checks": [{"name": "q", "query": {"promql": "up"}}]}),
        expected: &["spec.checks[0].query: ", "at least one of min, max and versusStable is expected"],
    },
    Mistake {
        name: "a_comparison_that_does_not_say_what_is_worse",
        spec: || json!({"checks": [{"name": "q", "query": {"promql": "up", "versusStable": {}}}]}),
        expected: &["spec.checks[0].query: ", "direction is expected with versusStable, and nowhere else"],
    },
    Mistake {
        name: "counters_with_a_limit",
        spec: || {
            json!({"checks": [{"name": "q", "query": {
                "promql": "up", "total": "up", "min": 1, "versusStable": {}, "direction": "MoreIsWorse",
            }}]})
        },
        expected: &["spec.checks[0].query: ", "total is expected with versusStable, and without min and max"],
    },
    Mistake {
        name: "a_query_where_pods_are_scraped",
        spec: || {
            json!({
                "checks": [{"name": "q", "query": {"promql": "up", "min": 1}}], "metrics": {"scrape": {"port": 8082}},
            })
        },
        expected: &["spec: ", "a check with a query asks a metrics source"],
    },
    Mistake {
        name: "a_source_beside_a_scrape",
        spec: || json!({"metrics": {"source": "default", "scrape": {"port": 8082}}}),
        expected: &["spec.metrics: ", "give source or scrape, not both"],
    },
    Mistake {
        name: "neither_routes_nor_expose",
        spec: || json!({"routes": null}),
        expected: &["spec: ", "exactly one of routes (at least one) and expose is expected"],
    },
    Mistake {
        name: "a_field_that_is_misspelt",
        spec: || json!({"steps": [{"weight": 5, "form": "5m"}]}),
        expected: &["unknown field \"spec.steps[0].form\""],
    },
];

pub async fn is_refused(lab: &Lab, mistake: &Mistake) -> Result<()> {
    let namespace = format!("refused-{}", mistake.name.replace('_', "-"));
    let world = World::empty(lab, &namespace).await?;
    let good = world.rollout("v2", json!({"steps": [{"weight": 10, "for": "1m"}]}));
    let mut bad = good.clone();
    let wrong = (mistake.spec)();
    for (field, value) in wrong.as_object().into_iter().flatten() {
        bad["spec"][field] = value.clone();
    }
    the_answer_says(world.create_strictly(&bad, false).await, mistake.expected)?;
    ensure!(world.rollouts().get_opt(IRIS).await?.is_none(), "it is stored");

    // The same for a Rollout that is there.
    let created = world.create_rollout(&good).await?;
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
    let operations: Vec<Value> = wrong
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, value)| match value {
            Value::Null => json!({"op": "remove", "path": format!("/spec/{field}")}),
            value => json!({"op": "add", "path": format!("/spec/{field}"), "value": value}),
        })
        .collect();
    let patch = Patch::Json::<()>(serde_json::from_value(json!(operations))?);
    the_answer_says(world.rollouts().patch(IRIS, &params, &patch).await, mistake.expected)?;
    let after = serde_json::to_value(world.rollouts().get(IRIS).await?)?;
    same_json("the Rollout", &after, &created)
}

fn the_answer_says(answer: kube::Result<DynamicObject>, expected: &[&str]) -> Result<()> {
    let status = match answer {
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Err(error.into()),
        Ok(object) => return Err(anyhow!("it was accepted: {:?}", object.data)),
    };
    ensure!(status.code == 422 || status.code == 400, "code {}: {}", status.code, status.message);
    for part in expected {
        ensure!(status.message.contains(part), "{:?} lacks {part:?}", status.message);
    }
    Ok(())
}

/// What was generated would lead its users to the stable version of that day, for ever.
pub async fn an_exposed_route_that_is_given_up(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "refused-unexposed").await?;
    let mut rollout = world.rollout("v2", json!({"steps": [{"weight": 10, "for": "1m"}]}));
    rollout["spec"]["expose"] = json!({});
    let routes = rollout["spec"].as_object_mut().and_then(|spec| spec.remove("routes"));
    let created = world.create_rollout(&rollout).await?;
    let change = json!({"spec": {"expose": null, "routes": routes}});
    let patch = Patch::Merge(&change);
    let answer = world.rollouts().patch(IRIS, &PatchParams::default(), &patch).await;
    the_answer_says(
        answer,
        &["spec: ", "expose cannot be taken away", "create another Rollout with routes"],
    )?;
    let after = serde_json::to_value(world.rollouts().get(IRIS).await?)?;
    same_json("the Rollout", &after, &created)?;

    // The way from routes to a delegate stays open, and what is exposed may change.
    let other = world.rollouts();
    for change in [json!({"expose": {"delegate": true}}), json!({"expose": {"prefix": "/iris/"}})] {
        let patch = Patch::Merge(json!({"spec": change}));
        other.patch(IRIS, &PatchParams::default(), &patch).await?;
    }
    world.rollouts().delete(IRIS, &DeleteParams::default()).await?;
    world.create_rollout(&world.rollout("v2", json!({"steps": [{"weight": 10, "for": "1m"}]}))).await?;
    let patch = Patch::Merge(json!({"spec": {"routes": null, "expose": {"delegate": true}}}));
    other.patch(IRIS, &PatchParams::default(), &patch).await?;
    Ok(())
}

pub async fn an_unknown_action(lab: &Lab) -> Result<()> {
    let world = World::empty(lab, "refused-action").await?;
    let action = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"name": "a"},
        "spec": {"rollout": IRIS, "do": "Explode", "revision": "models/iris-v2:8000"},
    });
    let action: DynamicObject = serde_json::from_value(action)?;
    let answer = world.actions().create(&PostParams::default(), &action).await;
    the_answer_says(answer, &["spec.do: Unsupported value: \"Explode\"", "\"Approve\"", "\"Abort\""])
}
