use serde_json::{Value, json};

use super::*;

type Change = fn(&mut Value);

const ADDRESS: &str = "10.1.2.3";

fn predictor() -> Predictor {
    Predictor::new("models", "iris", 8000)
}

/// The pod of the Service `iris`, with what a test changes about it.
fn pod(change: impl FnOnce(&mut Value)) -> SeenPod {
    let mut pod = json!({
        "metadata": {"name": "iris-0", "uid": "u", "labels": {"app": "iris", "version": "2"}},
        "spec": {"containers": []},
        "status": {
            "phase": "Running", "podIP": ADDRESS, "startTime": "2026-03-14T15:09:26Z",
            "podIPs": [{"ip": ADDRESS}, {"ip": "fd00::3"}],
        },
    });
    change(&mut pod);
    SeenPod::of(serde_json::from_value(pod).unwrap(), Instant::now())
}

fn verify(address: &str, seen: &SeenPod, selector: &Value) -> Result<(), Trouble> {
    let selector: Option<Labels> = serde_json::from_value(selector.clone()).unwrap();
    let predictor = predictor();
    let about = About { predictor: &predictor, address: address.parse().unwrap(), pod: "iris-0" };
    about.verify("u", seen, seen.whole.as_ref().unwrap(), selector.as_ref())
}

#[test]
fn a_pod_of_the_service_is_asked_at_each_of_its_addresses() {
    let selector = json!({"app": "iris"});
    for address in [ADDRESS, "fd00::3", "fd00:0::0:3"] {
        assert_eq!(verify(address, &pod(|_| ()), &selector), Ok(()), "{address}");
    }
    assert_eq!(pod(|_| ()).whole.unwrap().started.unwrap().to_rfc3339(), "2026-03-14T15:09:26+00:00");
}

#[test]
fn an_address_that_is_not_one_of_a_pod_of_the_service_is_not_asked() {
    let selector = json!({"app": "iris"});
    let changes: [(Change, &str); 8] = [
        (|pod| pod["spec"]["hostNetwork"] = json!(true), "iris-0 has its node's"),
        (
            |pod| pod["status"]["podIPs"] = json!([{"ip": "10.1.2.4"}]),
            "an address of Pod iris-0, which has others",
        ),
        // What the kubelet wrote counts, and no other field.
        (|pod| pod["status"]["podIPs"] = json!(null), "an address of Pod iris-0"),
        (|pod| pod["status"]["phase"] = json!("Succeeded"), "a running Pod, and iris-0 is not"),
        (|pod| pod["status"]["phase"] = json!("Failed"), "a running Pod"),
        (|pod| pod["status"] = json!(null), "a running Pod"),
        (
            |pod| pod["metadata"]["labels"] = json!({"app": "other"}),
            "a Pod that the Service selects, which iris-0 is not",
        ),
        (|pod| pod["metadata"]["uid"] = json!("v"), "which was replaced by another"),
    ];
    for (change, expected) in changes {
        let trouble = verify(ADDRESS, &pod(change), &selector).unwrap_err();
        let begin =
            "10.1.2.3 is not scraped, which an EndpointSlice names for Service models/iris: expected ";
        assert!(trouble.message.starts_with(begin) && trouble.message.contains(expected), "{trouble}");
    }
    for address in ["169.254.169.254", "127.0.0.1", "::1", "::ffff:10.1.2.3"] {
        assert!(verify(address, &pod(|_| ()), &selector).is_err(), "{address}");
    }
    for selector in [json!(null), json!({})] {
        let trouble = verify(ADDRESS, &pod(|_| ()), &selector).unwrap_err();
        assert!(trouble.message.contains("it has no selector"), "{trouble}");
    }
}

#[test]
fn a_slice_has_to_say_whose_address_it_is() {
    let endpoint = |target: Value| -> Option<Claimed> {
        let endpoint = json!({"addresses": [ADDRESS], "targetRef": target});
        Claimed::by(&serde_json::from_value(endpoint).unwrap())
    };
    let of = |kind: &str, namespace: &str| {
        endpoint(json!({"kind": kind, "namespace": namespace, "name": "iris-0", "uid": "u"}))
    };
    for (namespace, address, claimed, expected) in [
        ("models", ADDRESS, None, "a targetRef with the name and the uid of a Pod"),
        ("models", ADDRESS, endpoint(json!({"kind": "Pod", "name": "iris-0"})), "the uid of a Pod"),
        ("models", ADDRESS, of("Node", "models"), "found the Node models/iris-0"),
        ("models", ADDRESS, of("Pod", "bank"), "found the Pod bank/iris-0"),
        ("models", "metadata.google.internal", of("Pod", "models"), "the IP address of a pod"),
        ("other", ADDRESS, of("Pod", "models"), "a Service of namespace other"),
    ] {
        let trouble = claim(namespace, &predictor(), address, claimed.as_ref()).unwrap_err();
        assert!(trouble.message.contains(expected), "{trouble}");
    }
    let ours = of("Pod", "models");
    assert!(claim("models", &predictor(), ADDRESS, ours.as_ref()).is_ok());
}
