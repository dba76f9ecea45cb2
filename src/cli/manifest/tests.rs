use sluice_core::lint::Code;

use super::*;

const SPEC: &str = "target: {service: {name: v2}}
  routes: [{virtualService: iris}]
  steps: [{weight: 5, for: 5m}]
  checks: [{name: errors, errors: {max: 1%}}]";

fn rollout(head: &str, spec: &str) -> String {
    format!("{head}\nkind: Rollout\nspec:\n  {spec}\n")
}

fn head(metadata: &str) -> String {
    format!("apiVersion: sluice.dev/v1alpha1\nmetadata: {metadata}")
}

fn of(text: &str) -> Draft {
    parse(text, Which::default(), "rollout.yaml").unwrap_or_else(|failure| panic!("{failure}: {text}"))
}

fn said(draft: &Draft) -> Vec<String> {
    draft.mistakes().iter().map(|one| format!("{}: {}", one.path, one.problem)).collect()
}

#[test]
fn a_rollout_without_mistakes_is_read() {
    let manifest = of(&rollout(&head("{name: iris, namespace: models}"), SPEC)).manifest().unwrap();
    assert_eq!((manifest.name.as_str(), manifest.namespace.as_deref()), ("iris", Some("models")));
    assert!(manifest.plan("default").is_ok());
}

#[test]
fn what_the_api_server_refuses_is_a_mistake_with_its_field() {
    let right = head("{name: iris}");
    for (text, expected) in [
        (
            rollout("apiVersion: sluice.dev/v9\nmetadata: {name: iris}", SPEC),
            "apiVersion: \"sluice.dev/v9\" is not known: sluice.dev/v1alpha1 is expected",
        ),
        (
            rollout("apiVersion: sluice.dev/v1beta1\nmetadata: {name: iris}", SPEC),
            "apiVersion: \"sluice.dev/v1beta1\" is not known",
        ),
        (rollout(&head("{name: ''}"), SPEC), "metadata.name: it is empty"),
        (rollout(&head("{name: Ирис}"), SPEC), "metadata.name: \"Ирис\" is no name"),
        (rollout(&head("{name: UPPER_case}"), SPEC), "metadata.name: \"UPPER_case\" is no name"),
        (rollout("apiVersion: sluice.dev/v1alpha1", SPEC), "metadata.name: it is missing"),
        (rollout(&head("{name: iris, lables: {}}"), SPEC), "metadata.lables: this version does not know it"),
        (rollout(&head("{name: iris, labels: [a]}"), SPEC), "metadata.labels: a list is out of place"),
        (rollout(&right, SPEC) + "spek: {}\n", "spek: this version does not know it"),
        (
            rollout(&right, &SPEC.replace("name: v2", "name: v2, port: 0")),
            "spec.target.service.port: 0 is out of range: 1 to 65535 is expected",
        ),
        (
            rollout(&right, &SPEC.replace("name: v2", &format!("name: {}", "v".repeat(64)))),
            "spec.target.service.name: 64 characters are too many: 63 at most are expected",
        ),
        (rollout(&right, &SPEC.replace("name: v2", "name: ''")), "spec.target.service.name: it is empty"),
        (
            rollout(&right, &SPEC.replace("max: 1%", "max: 1%, minRequests: 2000000000000")),
            "spec.checks[0].errors.minRequests: 2000000000000 is out of range: 1 to 1000000000000 is expected",
        ),
        (
            rollout(&right, &SPEC.replace("name: errors", &format!("name: {}", "e".repeat(64)))),
            "spec.checks[0].name: 64 characters are too many",
        ),
        (rollout(&right, &SPEC.replace("weight: 5", "weight: five")), "spec.steps[0].weight: \"five\""),
        (rollout(&right, &SPEC.replace("weight: 5", "weight: 5%")), "spec.steps[0].weight: \"5%\""),
        (
            rollout(&right, &SPEC.replace("1%", "1")),
            "spec.checks[0].errors.max: 1 is out of place: a share like 1%",
        ),
        (rollout(&right, &SPEC.replace("1%", "101%")), "spec.checks[0].errors.max: \"101%\" is not a share"),
        (rollout(&right, &SPEC.replace("5m", "-5m")), "spec.steps[0].for: \"-5m\" is not a duration"),
        (
            rollout(&right, &format!("{SPEC}\n  finish: promote")),
            "spec.finish: \"promote\" is not known: Promote, KeepStable or Wait is expected",
        ),
        (
            rollout(&right, &format!("{SPEC}\n  metrics: {{profile: istoi}}")),
            "spec.metrics.profile: \"istoi\" is not known: istio, mlserver, seldon, kserve or envoy is expected",
        ),
        (format!("{right}\nkind: Rollout\n"), "spec: it is missing"),
        (rollout(&right, "[]"), "spec: a list is out of place: a map is expected"),
    ] {
        let draft = of(&text);
        let said = said(&draft);
        assert!(said.len() == 1 && said[0].starts_with(expected), "{said:?}, not {expected}");
        let failure = draft.manifest().map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
        assert_eq!(failure.exit().code(), 10);
    }
}

#[test]
fn an_empty_name_of_a_check_is_a_mistake() {
    let draft = of(&rollout(&head("{name: iris}"), &SPEC.replace("name: errors", "name: ''")));
    let said = said(&draft);
    assert!(said.iter().any(|one| one.starts_with("spec.checks[0].name: ")), "{said:?}");
}

#[test]
fn all_mistakes_are_said_at_once() {
    let spec = SPEC
        .replace("weight: 5", "weight: five")
        .replace("1%", "1")
        .replace("name: v2", "name: v2, prot: 80");
    let said = said(&of(&rollout(&head("{name: Iris}"), &spec)));
    assert_eq!(said.len(), 4, "{said:?}");
}

#[test]
fn what_both_refuse_is_said_once_in_the_words_of_the_controller() {
    let draft = of(&rollout(&head("{name: iris}"), &SPEC.replace("weight: 5", "weight: 500")));
    assert_eq!(said(&draft), ["spec.steps[0].weight: 500 is out of range: 1 to 100 is expected"]);
    assert_eq!(draft.mistakes()[0].code, Code::Invalid);
}

#[test]
fn variables_that_there_are_not_are_mistakes() {
    let query = |query: &str| SPEC.replace("errors: {max: 1%}", &format!("query: {{{query}}}"));
    let draft = of(&rollout(&head("{name: iris}"), &query("promql: 'up{{canary.servce}}', min: 1")));
    let said = said(&draft);
    assert!(
        said.len() == 1
            && said[0].starts_with("spec.checks[0].query.promql: ")
            && said[0].contains("there is no variable \"canary.servce\""),
        "{said:?}"
    );
    let right = "promql: 'up{service=\"{{canary.service}}\"}', min: 1";
    assert_eq!(of(&rollout(&head("{name: iris}"), &query(right))).mistakes(), []);
}

#[test]
fn what_a_template_leaves_empty_is_not_there() {
    let spec = format!("{SPEC}\n  paused:\n  metrics:\n  interval:\n  annotations:");
    assert_eq!(said(&of(&rollout(&head("{name: iris, labels: null}"), &spec))), [""; 0]);
}

#[test]
fn lists_as_kubectl_writes_them_are_taken_apart() {
    let rollout = serde_json::json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"}, "status": {"phase": "Healthy"},
        "spec": {"target": {"service": {"name": "v2"}}, "routes": [{"virtualService": "iris"}]},
    });
    let service = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "v2"}});
    for kind in ["List", "RolloutList"] {
        let list = serde_json::json!({"apiVersion": "v1", "kind": kind, "items": [service, rollout]});
        let draft = of(&list.to_string());
        assert_eq!((draft.mistakes(), draft.others.len()), (Vec::new(), 1));
    }
}

#[test]
fn one_of_several_is_chosen_by_its_name_and_its_namespace() {
    let one = |metadata: &str| rollout(&head(metadata), SPEC);
    let text = [one("{name: iris, namespace: a}"), one("{name: iris, namespace: b}"), one("{name: wine}")]
        .join("---\n");
    let chosen = |name, namespace| parse(&text, Which { name, namespace }, "x.yaml");
    let of = |name, namespace| chosen(name, namespace).map(|draft| draft.namespace).unwrap();
    assert_eq!(of(Some("iris"), Some("b")).as_deref(), Some("b"));
    assert_eq!(of(Some("wine"), None), None);
    assert_eq!(of(Some("wine"), Some("b")).as_deref(), Some("b"));
    let refused = |name, namespace| chosen(name, namespace).map(|_| ()).unwrap_err().to_string();
    for (name, namespace, expected) in [
        (
            None,
            None,
            "has several Rollouts (a/iris, b/iris, wine): name one with --name, or its namespace with -n",
        ),
        (Some("iris"), None, "has several Rollouts"),
        (Some("iris"), Some("c"), "has no such Rollout in namespace \"c\": there is a/iris, b/iris, wine"),
        (Some("nobody"), None, "has no Rollout \"nobody\": there is a/iris"),
    ] {
        let said = refused(name, namespace);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_is_in_place_of_a_rollout_is_said() {
    for (text, expected) in [
        ("", "has no Rollout of sluice.dev/v1alpha1: it is empty"),
        ("{apiVersion: sluice.dev/v1alpha1, kind: rollout}", "it has rollout of sluice.dev/v1alpha1"),
        ("{apiVersion: sluise.dev/v1alpha1, kind: Rollout}", "it has Rollout of sluise.dev/v1alpha1"),
        ("a: 1", "it has something without a kind"),
        ("kind: Rollout", "it has Rollout without an apiVersion"),
    ] {
        let failure = parse(text, Which::default(), "x.yaml").map(|_| ()).unwrap_err().to_string();
        assert!(failure.starts_with("x.yaml has no Rollout") && failure.contains(expected), "{failure}");
    }
}
