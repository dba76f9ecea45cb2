//! Requests that meet a step's match.

use super::*;

#[test]
fn a_match_is_a_copy_of_the_route_right_before_it_that_leads_to_the_canary() {
    let route = json!({
        "name": "primary", "timeout": "3s", "retries": {"attempts": 2}, "corsPolicy": {"x": 1}, "novel": [1],
        "fault": {"abort": {}}, "mirror": {"host": "log"}, "headers": {"request": {"set": {"a": "b"}}},
        "route": [to(F, 30), with(to(A, 70), "headers", &json!({"response": {"remove": ["x"]}}))],
    });
    let edited = after(&one(route.clone()), &matching(beta()));
    let http = edited["spec"]["http"].as_array().unwrap();
    assert_eq!(http.len(), 4);
    assert_eq!(http[1]["name"], "sluice-models/wine/primary");
    assert_eq!(http[1]["match"], json!([{"headers": {"x-group": {"exact": "beta"}}}]));
    let headers = json!({"response": {"remove": ["x"]}});
    assert_eq!(http[1]["route"], json!([to(F, 30), with(to(B, 70), "headers", &headers)]));
    for field in ["timeout", "retries", "corsPolicy", "novel", "fault", "mirror", "headers"] {
        assert_eq!(http[1][field], route[field], "{field} is inherited");
    }
    assert_eq!(
        http[2]["route"],
        json!([to(F, 30), with(to(A, 70), "headers", &headers), with(to(B, 0), "headers", &headers)])
    );
}

#[test]
fn each_of_the_routes_matches_is_anded_with_each_of_the_steps() {
    let route = json!({"name": "primary", "route": [to(A, 100)], "match": [
        {"uri": {"prefix": "/a"}, "headers": {"x-key": {"regex": "k.*"}}, "gateways": ["g"]},
        {"name": "second", "queryParams": {"q": {"exact": "1"}}, "withoutHeaders": {"x-no": {}}},
    ]});
    let step = json!([
        {"headers": {"x-group": {"exact": "beta"}}},
        {"queryParams": {"beta": {"exact": "1"}}},
    ]);
    let edited = after(&one(route), &matching(step));
    let key = json!({"regex": "k.*"});
    let beta = json!({"exact": "beta"});
    let [q1, one] = [json!({"q": {"exact": "1"}}), json!({"exact": "1"})];
    assert_eq!(
        edited["spec"]["http"][1]["match"],
        json!([
            {"uri": {"prefix": "/a"}, "headers": {"x-key": key, "x-group": beta}, "gateways": ["g"]},
            {"uri": {"prefix": "/a"}, "headers": {"x-key": key}, "gateways": ["g"], "queryParams": {"beta": one}},
            {"name": "second", "queryParams": q1, "withoutHeaders": {"x-no": {}}, "headers": {"x-group": beta}},
            {"name": "second", "queryParams": {"q": one, "beta": one}, "withoutHeaders": {"x-no": {}}},
        ])
    );
}

#[test]
fn a_path_within_the_routes_own_takes_its_place_unless_it_is_rewritten() {
    let route = |own: Value| json!({"name": "primary", "route": [to(A, 100)], "match": [{"uri": own}]});
    for (own, step, fits) in [
        (json!({"prefix": "/"}), json!({"prefix": "/v2/"}), true),
        (json!({"prefix": "/"}), json!({"regex": "/v[23]/.*"}), true),
        (json!({"prefix": "/v2"}), json!({"exact": "/v2/x"}), true),
        (json!({"prefix": "/v2"}), json!({"prefix": "/v"}), false),
        (json!({"prefix": "/v2"}), json!({"regex": "/v2.*"}), false),
        (json!({"exact": "/v2"}), json!({"prefix": "/v2"}), false),
        (json!({"regex": "/.*"}), json!({"exact": "/v2"}), false),
    ] {
        let setting = matching(json!([{"uri": step}]));
        if fits {
            assert_eq!(after(&one(route(own)), &setting)["spec"]["http"][1]["match"], json!([{"uri": step}]));
            continue;
        }
        let message = refused(&one(route(own.clone())), &setting);
        assert!(message.contains("spec.http[1].match[0].uri: "), "{message}");
        assert!(message.contains("spec.steps[1].match[0].uri"), "{own} {step}: {message}");
    }
    let rewritten = with(route(json!({"prefix": "/"})), "rewrite", &json!({"uri": "/x"}));
    refused(&one(rewritten), &matching(json!([{"uri": {"prefix": "/v2"}}])));
}

#[test]
fn what_both_are_about_is_refused_with_both_fields_and_never_in_the_way_of_a_decrease() {
    let own = |own: Value| one(json!({"name": "primary", "route": [to(A, 60), to(B, 40)], "match": [own]}));
    for (route, step, field) in [
        (
            json!({"headers": {"X-Group": {"prefix": "b"}}}),
            beta(),
            "headers[X-Group]: expected nothing about the header x-group, which spec.steps[1].match[0].headers[x-group] is about",
        ),
        (
            json!({"queryParams": {"q": {"exact": "1"}}}),
            json!([{"queryParams": {"q": {"exact": "2"}}}]),
            "queryParams[q]: ",
        ),
    ] {
        let message = refused(&own(route.clone()), &matching(step));
        assert!(message.contains(&format!("spec.http[1].match[0].{field}")), "{message}");
        let away = edited(&own(route), &Setting { retiring: vec![iris(2)], ..rest() }).unwrap();
        assert_eq!(away["spec"]["http"][1]["route"], json!([to(A, 100), to(B, 0)]));
    }
    refused(&own(json!({"headers": {"cookie": {"regex": ".*"}}})), &sticky(10));
}

#[test]
fn a_step_that_asks_for_no_more_than_the_route_would_take_all_of_it_and_is_refused() {
    let beta = json!({"exact": "beta"});
    let both = json!([{"uri": {"prefix": "/a"}}, {"headers": {"X-Group": beta}}]);
    let v2 = json!({"uri": {"prefix": "/v2"}, "headers": {"x-group": beta}, "gateways": ["g"]});
    for (own, step, found) in [
        (json!([{"uri": {"exact": "/v2"}}]), json!([{"uri": {"exact": "/v2"}}]), Some("0]")),
        (json!([{"uri": {"exact": "/v2", "prefix": null}}]), json!([{"uri": {"exact": "/v2"}}]), Some("0]")),
        (json!([{"headers": {"X-Group": beta}}]), self::beta(), Some("0]")),
        (json!([{"queryParams": {"q": beta}}]), json!([{"queryParams": {"q": beta}}]), Some("0]")),
        (json!([v2]), self::beta(), Some("0]")),
        (json!([{"uri": {"prefix": "/"}}]), json!([{"uri": {"prefix": "/"}}]), Some("0]")),
        (json!([{"uri": {"prefix": "/"}}]), json!([{"uri": {"regex": "/.*"}}]), Some("0]")),
        (json!(null), json!([{"uri": {"prefix": "/"}}]), Some("0]")),
        (json!([]), json!([{"headers": {"x": beta}}, {"uri": {"regex": ".*"}}]), Some("1]")),
        (json!([]), json!([{}]), Some("0]")),
        // It takes two to take all.
        (
            both.clone(),
            json!([{"headers": {"x-group": beta}}, {"uri": {"prefix": "/a"}}]),
            Some("1], spec.steps[1].match[0]"),
        ),
        (both, self::beta(), None),
        (json!([v2]), json!([{"headers": {"x-group": beta, "x-more": beta}}]), None),
        (json!([v2]), json!([{"uri": {"prefix": "/v2/x"}}]), None),
        (json!([{"queryParams": {"X-GROUP": beta}}]), json!([{"queryParams": {"x-group": beta}}]), None),
        (json!([{"withoutHeaders": {"x-group": beta}}]), self::beta(), None),
    ] {
        let route = one(json!({"name": "primary", "route": [to(A, 60), to(B, 40)], "match": own}));
        let Some(found) = found else {
            assert!(edited(&route, &matching(step.clone())).is_ok(), "{own} {step}");
            continue;
        };
        let message = refused(&route, &matching(step.clone()));
        let expected = format!(
            "spec.http[1].match: expected something that not every request of this route meets, found spec.steps[1].match[{found}, which"
        );
        assert!(message.contains(&expected), "{own} {step}: {message}");
        let away = edited(&route, &Setting { retiring: vec![iris(2)], ..rest() }).unwrap();
        assert_eq!(
            away["spec"]["http"][1]["route"],
            json!([to(A, 100), to(B, 0)]),
            "never in the way of a decrease"
        );
    }
}
