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

    /// The proxy of a client that is told of it: an HTTP proxy at a port of 127.0.0.1. It redirects nothing to itself, so
    /// it has no listener for what comes in, which would wait for certificates.
    pub(super) fn client(namespace: &str, address: Ipv4Addr, port: u16) -> Self {
        Self {
            id: format!("sidecar~{address}~client.{namespace}~{namespace}.svc.cluster.local"),
            cluster: format!("client.{namespace}"),
            metadata: json!({
                "NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes", "LABELS": {"app": "client"},
                "INTERCEPTION_MODE": "NONE", "HTTP_PROXY_PORT": port.to_string(),
            }),
        }
    }
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
        let node = Node::client("models", Ipv4Addr::new(10, 244, 1, 8), 15002);
        assert_eq!(node.id, "sidecar~10.244.1.8~client.models~models.svc.cluster.local");
        assert_eq!(node.metadata["INTERCEPTION_MODE"], "NONE");
        assert_eq!(node.metadata["HTTP_PROXY_PORT"], "15002");
    }
}
