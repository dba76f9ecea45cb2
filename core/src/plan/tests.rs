use serde_json::{Value, json};

use super::*;
use crate::{
    api::{Direction, Reason},
    judge::Indicator,
};

fn spec(change: impl FnOnce(&mut Value)) -> RolloutSpec {
    let mut value = json!({
        "target": {"service": {"name": "iris-v2"}},
        "routes": [{"virtualService": "iris", "http": ["primary"]}],
        "steps": [{"weight": 5, "for": "5m"}, {"ramp": {"from": 10, "to": 50, "by": 15, "every": "2m"}}, {"weight": 50, "approve": true}],
        "checks": [{"name": "errors", "errors": {"max": "1%"}}, {"name": "p99", "latency": {"max": "250ms"}}],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn refusals(change: impl FnOnce(&mut Value)) -> String {
    let spec = spec(change);
    Plan::new(&spec, "models").unwrap_err().to_string()
}

#[test]
fn a_ramp_is_expanded_and_always_reaches_its_end() {
    let plan = Plan::new(&spec(|_| ()), "models").unwrap();
    let weights: Vec<u8> = plan.steps.iter().map(|step| step.weight).collect();
    assert_eq!(weights, [5, 10, 25, 40, 50, 50]);
    assert_eq!(plan.given(plan.promotion()), Given::weight(100));
    assert_eq!(plan.steps[1].lasts, Duration::from_mins(2));
    assert!(plan.steps[5].approve);
}

#[test]
fn a_step_says_all_that_the_canary_gets_and_nothing_carries_over() {
    let plan = Plan::new(
        &spec(|s| {
            s["steps"] = json!([
                {"mirror": 0.5},
                {"match": [{"headers": {"x": {"exact": "b"}}}, {"headers": {"x": {"exact": "a"}}}]},
                {"weight": 5, "mirror": 100},
                {"weight": 5, "sticky": {"cookie": {"name": "c", "ttl": "1h"}}},
            ]);
        }),
        "models",
    )
    .unwrap();
    let given: Vec<String> = plan.steps.iter().map(|step| step.given().to_string()).collect();
    assert_eq!(given, ["mirror 0.5%", "match x is a or x is b", "weight 5%, mirror 100%", "weight 5%"]);
    assert!(plan.steps[0].is_shadow() && !plan.steps[1].is_shadow() && !plan.steps[2].is_shadow());
    assert_eq!(plan.steps[1].matches[1].path, "spec.steps[1].match[1]");
    assert_eq!(plan.steps[3].sticky.as_ref().unwrap().to_string(), "cookie c");
}

#[test]
fn a_ramp_can_be_sticky_by_a_hash() {
    let ramp =
        json!([{"ramp": {"from": 10, "to": 30, "by": 10, "every": "1m"}, "sticky": {"header": "x-user"}}]);
    let plan = Plan::new(&spec(|s| s["steps"] = ramp), "models").unwrap();
    let sticky: Vec<String> =
        plan.steps.iter().map(|step| step.sticky.as_ref().unwrap().to_string()).collect();
    assert_eq!(sticky, ["header x-user"; 3]);
}

#[test]
fn connections_are_moved_by_weight_only() {
    let tcp = |steps: Value| {
        spec(move |s| {
            s["routes"] = json!([{"virtualService": "web"}, {"virtualService": "db", "tcp": [5001]}]);
            s["steps"] = steps;
        })
    };
    let plan = Plan::new(&tcp(json!([{"weight": 5}])), "models").unwrap();
    assert!(plan.routes[0].has_all_http() && !plan.routes[1].has_http());
    let steps = json!([{"weight": 5}, {"mirror": 5}, {"weight": 9, "sticky": {"cookie": {"name": "c"}}}]);
    let refused = Plan::new(&tcp(steps), "models").unwrap_err().to_string();
    for field in ["spec.steps[1].mirror: tcp routes, as in spec.routes[1]", "spec.steps[2].sticky: tcp"] {
        assert!(refused.contains(field), "{refused}");
    }
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let plan = Plan::new(&spec(|_| ()), "models").unwrap();
    assert_eq!((plan.interval.as_secs(), plan.settle.as_secs(), plan.ready_within.as_secs()), (10, 15, 600));
    assert_eq!((plan.evidence_limit.as_secs(), plan.without_evidence), (900, Then::Pause));
    assert_eq!(plan.checks[0].window.as_secs(), 50);
    assert_eq!((plan.checks[0].min_requests, plan.checks[0].consecutive_failures), (50, 1));
    assert!(matches!(&plan.metrics, Some(MetricsPlan::Source { name, .. }) if name == "default"));
}

#[test]
fn a_virtual_service_of_another_namespace_is_named_with_it() {
    let plan = Plan::new(&spec(|s| s["routes"][0]["virtualService"] = json!("mesh/iris")), "models").unwrap();
    assert_eq!((plan.routes[0].namespace.as_str(), plan.routes[0].name.as_str()), ("mesh", "iris"));
}

#[test]
fn a_route_cannot_lead_to_another_kind_of_object() {
    for name in [
        "mesh/iris/status",
        "mesh/../../../../../api/v1/namespaces/kube-system/secrets/token",
        "../iris",
        "mesh/iris?x=y",
        "mesh/iris%2Fstatus",
        "mesh/",
        "/iris",
        "Iris",
        "iris.",
        " iris",
    ] {
        let message = refusals(|s| s["routes"][0]["virtualService"] = json!(name));
        assert!(message.contains("spec.routes[0].virtualService: "), "{name}: {message}");
    }
    for name in ["iris", "mesh/iris", "mesh/iris.v2-b", "1/2"] {
        assert!(Plan::new(&spec(|s| s["routes"][0]["virtualService"] = json!(name)), "models").is_ok());
    }
}

#[test]
fn every_mistake_is_named_with_its_field() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 25] = [
        (|s| s["steps"][0] = json!({"for": "1m"}), "spec.steps[0]: a setting is expected"),
        (|s| s["steps"][0]["mirror"] = json!(101), "spec.steps[0].mirror: 101 is out of range"),
        (|s| s["steps"][0]["mirror"] = json!(0), "spec.steps[0].mirror: 0 is out of range"),
        (|s| s["steps"][0]["mirror"] = json!(0.000_01), "spec.steps[0].mirror: 0.00001"),
        (|s| s["steps"][0]["match"] = json!([{}]), "spec.steps[0].match[0]: it would take all"),
        (
            |s| s["steps"][0] = json!({"mirror": 5, "sticky": {"cookie": {"name": "c"}}}),
            "spec.steps[0].sticky: it keeps",
        ),
        (
            |s| s["steps"][0]["sticky"] = json!({"cookie": {"name": "a b"}}),
            "spec.steps[0].sticky.cookie.name: ",
        ),
        (|s| s["steps"][0]["sticky"] = json!({}), "spec.steps[0].sticky: exactly one"),
        (
            |s| s["steps"][0]["sticky"] = json!({"header": "X-User"}),
            "spec.steps[0].sticky.header: \"X-User\" is no name",
        ),
        (
            |s| s["steps"][0]["sticky"] = json!({"header": "method"}),
            "spec.steps[0].sticky.header: Istio matches no header",
        ),
        (
            |s| s["steps"][1]["sticky"] = json!({"cookie": {"name": "c"}}),
            "spec.steps[1].sticky.cookie: a cookie is of one weight",
        ),
        (|s| s["steps"][1]["mirror"] = json!(5), "spec.steps[1]: a ramp stands alone"),
        (|s| s["interval"] = json!("50ms"), "spec.interval: 50ms is too short"),
        (|s| s["routes"] = json!([]), "spec.routes: at least one route"),
        (|s| s["expose"] = json!({}), "spec.expose: stands in place of routes"),
        (|s| s["annotations"] = json!({"a": "b"}), "spec.annotations: are for a generated VirtualService"),
        (
            |s| {
                s["steps"] = json!([]);
                s["finish"] = json!("KeepStable");
            },
            "spec.steps: KeepStable is about the last step",
        ),
        (|s| s["steps"][0]["weight"] = json!(101), "spec.steps[0].weight: 101"),
        (|s| s["steps"][0]["weight"] = json!(-1), "spec.steps[0].weight: -1"),
        (|s| s["steps"][0]["weight"] = json!(0), "spec.steps[0].weight: 0"),
        (|s| s["steps"][1]["ramp"]["by"] = json!(0), "spec.steps[1].ramp.by: 0"),
        (|s| s["steps"][1]["weight"] = json!(5), "spec.steps[1]: a ramp stands alone"),
        (
            |s| s["checks"][0] = json!({"name": "errors"}),
            "spec.checks[0]: exactly one of errors, latency and query",
        ),
        (|s| s["checks"][1]["latency"]["quantile"] = json!(1.0), "spec.checks[1].latency.quantile: 1"),
        (
            |s| {
                s["metrics"] = json!({"scrape": {"port": 8082}});
                s["checks"][0] = json!({"name": "q", "query": {"promql": "up", "min": 1}});
            },
            "spec.checks[0].query: asks a metrics source",
        ),
    ];
    for (change, expected) in cases {
        let message = refusals(change);
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn what_proxies_report_cannot_be_scraped_and_each_profile_has_its_path() {
    let scraped = |profile: &str| {
        Plan::new(
            &spec(|s| {
                s["checks"] = json!([{"name": "errors", "errors": {"max": "1%"}}]);
                s["metrics"] = json!({"scrape": {"port": 8000}, "profile": profile});
            }),
            "models",
        )
    };
    for profile in ["istio", "envoy"] {
        let refused = scraped(profile).unwrap_err().to_string();
        let expected = format!("spec.metrics.profile: {profile} is reported by proxies");
        assert!(refused.contains(&expected), "{refused}");
    }
    for (profile, expected) in [("seldon", "/prometheus"), ("kserve", "/metrics"), ("mlserver", "/metrics")] {
        let plan = scraped(profile).unwrap();
        assert!(
            matches!(&plan.metrics, Some(MetricsPlan::Scrape { path, .. }) if path == expected),
            "{:?}",
            plan.metrics
        );
    }
}

#[test]
fn checks_are_for_steps_that_exist_and_a_ramps_name_means_all_of_it() {
    let asked = |steps: Value| {
        Plan::new(
            &spec(|s| {
                s["steps"] = json!([
                    {"weight": 5, "name": "first"},
                    {"ramp": {"from": 10, "to": 20, "by": 10, "every": "1m"}, "name": "rise"},
                ]);
                s["checks"][0]["steps"] = steps;
            }),
            "models",
        )
    };
    let plan = asked(json!(["rise"])).unwrap();
    let counted: Vec<usize> = (0..=plan.promotion()).map(|index| plan.checks_at(index).count()).collect();
    assert_eq!(counted, [1, 2, 2, 1]);
    let refused = asked(json!(["first", "second"])).unwrap_err().to_string();
    assert!(refused.contains(r#"spec.checks[0].steps[1]: no step is called "second""#), "{refused}");
}

#[test]
fn a_comparison_has_defaults_and_limits() {
    let versus = |versus: Value| {
        Plan::new(&spec(|s| s["checks"][0]["errors"] = json!({"versusStable": versus})), "models")
    };
    let plan = versus(json!({})).unwrap();
    let expected = Versus { max_ratio: 1.0, alpha: 0.01, clear_ratio: 2.0, prove: false };
    assert_eq!(plan.checks[0].versus, Some(expected));
    let plan = versus(json!({"maxRatio": 1.5, "confidence": "95%"})).unwrap();
    assert_eq!(
        plan.checks[0].versus,
        Some(Versus { max_ratio: 1.5, alpha: 0.05, clear_ratio: 3.0, ..expected })
    );
    for (wrong, field) in [
        (json!({"maxRatio": 0.5}), "maxRatio: 0.5"),
        (json!({"maxRatio": 2, "clearRatio": 2}), "clearRatio: 2"),
        (json!({"confidence": "100%"}), "confidence: 100%"),
        (json!({"confidence": "10%"}), "confidence: 10%"),
    ] {
        let refused = versus(wrong).unwrap_err().to_string();
        assert!(refused.contains(&format!("spec.checks[0].errors.versusStable.{field}")), "{refused}");
    }
}

#[test]
fn a_comparison_of_queries_has_defaults_and_limits() {
    let compared = |query: Value| {
        Plan::new(&spec(|s| s["checks"] = json!([{"name": "accuracy", "query": query}])), "models")
    };
    let of = |service: &str| format!("accuracy{{service=\"{{{{{service}.service}}}}\"}}");
    let canary = of("canary");
    let scores = json!({"promql": canary, "versusStable": {}, "direction": "MoreIsBetter"});
    let plan = compared(scores).unwrap();
    let check = &plan.checks[0];
    let (versus, indicator) = check.comparison().unwrap();
    assert_eq!(
        indicator,
        Indicator::Scores(Direction::MoreIsBetter, 5),
        "one pair in a window of five intervals"
    );
    assert!(
        (versus.max_ratio - 1.05).abs() < 1e-9 && (versus.clear_ratio - 1.1025).abs() < 1e-9,
        "{versus:?}"
    );
    assert!(!check.has_limit());
    let shares = json!({"promql": canary, "total": canary, "versusStable": {}, "direction": "MoreIsWorse", "window": "10s"});
    let plan = compared(shares).unwrap();
    let (versus, indicator) = plan.checks[0].comparison().unwrap();
    assert_eq!(indicator, Indicator::Shares(Direction::MoreIsWorse));
    assert!((versus.max_ratio - 1.0).abs() < 1e-9);
    for (wrong, field) in [
        (json!({"promql": canary, "versusStable": {}}), "direction: is missing"),
        (json!({"promql": canary, "min": 1, "direction": "MoreIsWorse"}), "direction: is for a comparison"),
        (json!({"promql": canary, "min": 1, "total": canary}), "total: is for a comparison"),
        (
            json!({"promql": canary, "min": 1, "total": canary, "versusStable": {}, "direction": "MoreIsWorse"}),
            "total: has no limits",
        ),
        (
            json!({"promql": "accuracy", "versusStable": {}, "direction": "MoreIsWorse"}),
            "promql: does not name {{canary.service}}",
        ),
        (
            json!({"promql": "x{canonical_revision=\"2\"}", "versusStable": {}, "direction": "MoreIsWorse"}),
            "promql: does not name {{canary.service}}",
        ),
        (
            json!({"promql": canary, "total": of("stable"), "versusStable": {}, "direction": "MoreIsWorse"}),
            "total: names {{stable.service}}",
        ),
    ] {
        let refused = compared(wrong).unwrap_err().to_string();
        assert!(refused.contains(&format!("spec.checks[0].query.{field}")), "{refused}");
    }
}

#[test]
fn exactly_one_target_is_wanted() {
    let none = spec(|s| s["target"] = json!({}));
    let problem = target(&none).unwrap_err().to_string();
    assert!(problem.contains("spec.target: exactly one target is expected, 0 were given"), "{problem}");
    let two = spec(|s| s["target"]["deployment"] = json!({"name": "x"}));
    assert!(target(&two).unwrap_err().to_string().contains("2 were given"));
    let other = spec(|s| s["target"] = json!({"deployment": {"name": "x"}}));
    assert_eq!(target(&other).unwrap_err().reason(), Reason::Unsupported);
    let both = json!({"service": {"name": "x"}, "seldonDeployment": {"name": "x", "predictor": "y"}});
    assert!(target(&spec(|s| s["target"] = both.clone())).unwrap_err().to_string().contains("2 were given"));
    let seldon = spec(|s| s["target"] = json!({"seldonDeployment": {"name": "x", "predictor": "y"}}));
    assert!(matches!(target(&seldon), Ok(Wanted::Predictor(wanted)) if wanted.predictor == "y"));
}
