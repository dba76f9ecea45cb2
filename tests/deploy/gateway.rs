//! The Gateway of Seldon's page.

use serde_json::json;

use crate::{resources, yaml};

#[test]
fn the_gateway_is_the_one_that_generated_routes_name_by_default() {
    let gateway = yaml("deploy/gateway/gateway.yaml");
    assert_eq!(
        (&gateway["apiVersion"], &gateway["kind"]),
        (&json!("networking.istio.io/v1"), &json!("Gateway"))
    );
    let metadata = &gateway["metadata"];
    assert_eq!(
        (&metadata["namespace"], &metadata["name"]),
        (&json!("istio-system"), &json!("seldon-gateway"))
    );
    let spec = json!({
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    });
    assert_eq!(gateway["spec"], spec);
    assert_eq!(resources("deploy/gateway/kustomization.yaml"), ["gateway.yaml"]);
}
