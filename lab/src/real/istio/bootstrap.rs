//! What an Envoy is started with: who it is, and where istiod is. Everything else istiod tells it.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::SYSTEM;

/// Who a proxy is to istiod.
pub(super) struct Node {
    pub(super) id: String,
    pub(super) cluster: String,
    pub(super) metadata: Value,
}

impl Node {
    /// An ingress gateway: what Gateways with the selector `istio: ingressgateway` are about.
    pub(super) fn gateway(address: Ipv4Addr) -> Self {
        Self {
            id: format!("router~{address}~gateway.{SYSTEM}~{SYSTEM}.svc.cluster.local"),
            cluster: "istio-ingressgateway".to_owned(),
            metadata: json!({
                "NAMESPACE": SYSTEM, "CLUSTER_ID": "Kubernetes", "LABELS": {"istio": "ingressgateway"},
            }),
        }
    }

    /// The proxy of a client, known to istiod by a label. It redirects nothing to itself, so it has no listener for what
    /// comes in, which would wait for certificates.
    pub(super) fn client(namespace: &str, address: Ipv4Addr) -> Self {
        Self {
            id: format!("sidecar~{address}~client.{namespace}~{namespace}.svc.cluster.local"),
            cluster: format!("client.{namespace}"),
            metadata: json!({
                "NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes", "INTERCEPTION_MODE": "NONE",
                "LABELS": {(CLIENT): address.to_string()},
            }),
        }
    }
}

/// The label that tells one client's proxy from others.
const CLIENT: &str = "lab-client";

/// What makes a client's proxy listen at one port of its own address, and nowhere else: by itself it would listen at the
/// ports of all Services on 127.0.0.1, as every other client's proxy.
pub(super) fn sidecar(namespace: &str, address: Ipv4Addr, port: u16) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"namespace": namespace, "name": format!("{CLIENT}-{address}")},
        "spec": {
            "workloadSelector": {"labels": {(CLIENT): address.to_string()}},
            "egress": [{
                "bind": address, "captureMode": "NONE", "hosts": ["./*"],
                "port": {"number": port, "protocol": "HTTP", "name": "http"},
            }],
        },
    })
}

/// The name of the one cluster that is not istiod's to tell.
const XDS: &str = "xds-grpc";

/// The bootstrap configuration of an Envoy.
pub(super) fn bootstrap(node: &Node, admin: SocketAddr, xds: (Ipv4Addr, u16)) -> Value {
    let by_ads = json!({"ads": {}, "resource_api_version": "V3"});
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "node": {"id": node.id, "cluster": node.cluster, "metadata": node.metadata},
        "admin": {"address": socket(&admin.ip().to_string(), admin.port())},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": XDS}}],
            },
            "cds_config": by_ads,
            "lds_config": by_ads,
        },
        "static_resources": {"clusters": [{
            "name": XDS,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                (options): {
                    "@type": format!("type.googleapis.com/{options}"),
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "load_assignment": {
                "cluster_name": XDS,
                "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": socket(&xds.0.to_string(), xds.1)}},
                ]}],
            },
        }]},
    })
}

fn socket(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_a_router_of_the_system_namespace() {
        let node = Node::gateway(Ipv4Addr::new(10, 244, 1, 7));
        assert_eq!(node.id, "router~10.244.1.7~gateway.istio-system~istio-system.svc.cluster.local");
        assert_eq!(node.metadata["LABELS"]["istio"], "ingressgateway");
    }

    #[test]
    fn a_client_is_a_sidecar_that_redirects_nothing() {
        let address = Ipv4Addr::new(10, 244, 1, 8);
        let node = Node::client("models", address);
        assert_eq!(node.id, "sidecar~10.244.1.8~client.models~models.svc.cluster.local");
        assert_eq!(node.metadata["INTERCEPTION_MODE"], "NONE");
        let selected = sidecar("models", address, 8000);
        assert_eq!(selected["spec"]["workloadSelector"]["labels"], node.metadata["LABELS"]);
    }
}
