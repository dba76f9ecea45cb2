//! Proxies: the ingress gateway, and that of a client.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::super::binaries::Component;
use super::super::folder::Folder;
use super::super::namespace::pod_address;
use super::super::process::Process;
use super::super::{Cluster, Error, Result, wait};
use super::bootstrap::{Node, bootstrap, sidecar};
use super::{Istio, answers};

/// A listener that istiod knows of is there within a second; a busy machine may take longer.
const LIMIT: Duration = Duration::from_mins(1);
const ADMIN: u16 = 15000;
/// Where a gateway takes requests. Without root ports need to be above 1024.
const ENTRY: u16 = 8090;

/// A running Envoy that istiod tells what to do. Dropping it ends it.
#[derive(Debug)]
pub struct Envoy {
    _process: Process,
    address: Ipv4Addr,
    proxy: Option<SocketAddr>,
    _folder: Folder,
}

impl Envoy {
    /// The ingress gateway: it listens at the ports of every `Gateway` with the selector `istio: ingressgateway`, at all
    /// addresses unless the Gateway's server has a `bind`. Without root the ports need to be above 1024.
    pub async fn gateway(istio: &Istio) -> Result<Self> {
        let address = pod_address();
        Self::start(istio, &Node::gateway(address), address, None).await
    }

    /// The proxy of a client in a namespace, which sends what comes at [`proxy`](Self::proxy) to the Service of the
    /// namespace that the header `host` names, by the VirtualServices of the mesh. `port` is the Services'.
    pub async fn client(cluster: &Cluster, istio: &Istio, namespace: &str, port: u16) -> Result<Self> {
        let address = pod_address();
        cluster.apply_yaml(&sidecar(namespace, address, port).to_string()).await?;
        let entry = SocketAddr::from((address, port));
        let envoy = Self::start(istio, &Node::client(namespace, address), address, Some(entry)).await?;
        envoy.listens_at(entry).await?;
        Ok(envoy)
    }

    async fn start(istio: &Istio, node: &Node, address: Ipv4Addr, proxy: Option<SocketAddr>) -> Result<Self> {
        let folder = Folder::new()?;
        let admin = SocketAddr::from((address, ADMIN));
        let path = folder.path().join("bootstrap.json");
        fs::write(&path, bootstrap(node, admin, istio.xds()).to_string())
            .map_err(Error::path("write", &path))?;
        let args = ["--config-path", "bootstrap.json", "--disable-hot-restart", "--log-level", "warning"];
        // More workers are more to share two processors.
        let args = args.into_iter().chain(["--concurrency", "2"]);
        let program = Component::Envoy;
        let mut process = Process::spawn(program.program(), &program.locate()?, args, folder.path())?;
        let ready = format!("http://{admin}/ready");
        process.ready(|| answers(&ready)).await?;
        Ok(Self { _process: process, address, proxy, _folder: folder })
    }

    /// The proxy's address among those of pods.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where its own metrics are, at the path `/stats/prometheus`.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from((self.address, ADMIN))
    }

    /// Where a client's proxy takes requests.
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.proxy
    }

    /// Where it takes requests as a gateway, once it is [open](Self::open).
    pub fn entry(&self) -> SocketAddr {
        SocketAddr::from((self.address, ENTRY))
    }

    /// Makes the Gateway `namespace/name`, for all hosts at its own address, and waits until it takes requests there.
    pub async fn open(&self, cluster: &Cluster, namespace: &str, name: &str) -> Result<SocketAddr> {
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{
                    "port": {"number": ENTRY, "name": "http", "protocol": "HTTP"},
                    "bind": self.address, "hosts": ["*"],
                }],
            },
        });
        cluster.apply_yaml(&gateway.to_string()).await?;
        self.listens_at(self.entry()).await?;
        Ok(self.entry())
    }

    /// Waits until something listens there, as a Gateway says.
    pub async fn listens_at(&self, address: SocketAddr) -> Result<()> {
        wait::until(LIMIT, format!("Envoy listens at {address}"), || TcpStream::connect(address))
            .await
            .map(drop)
    }

    /// A page of its admin interface.
    pub async fn page(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.admin());
        let failed = |error: reqwest::Error| Error::Istio(format!("{url}: {error}"));
        reqwest::get(&url).await.map_err(failed)?.text().await.map_err(failed)
    }

    /// Waits until it has a healthy endpoint of a Service, that is, until requests sent there are answered.
    pub async fn reaches(&self, namespace: &str, service: &str) -> Result<()> {
        wait::until(LIMIT, format!("Envoy has an endpoint of {namespace}/{service}"), || async {
            let page = self.page("/clusters").await.map_err(|error| error.to_string())?;
            let name = format!("|{service}.{namespace}.svc.cluster.local::");
            let lines: Vec<&str> =
                page.lines().filter(|line| line.starts_with("outbound|") && line.contains(&name)).collect();
            let healthy = lines.iter().any(|line| line.ends_with("::health_flags::healthy"));
            if healthy { Ok(()) } else { Err(lines.join("\n")) }
        })
        .await
    }

    /// What a route of it sends where at present, from what istiod has told it: by destination cluster
    /// (`outbound|<port>|<subset>|<host>`) the weights of the route of this name, in the order they have. Where a route is
    /// in several virtual hosts, in the first; an empty name is the first route without one.
    pub async fn weights(&self, host: &str, route: &str) -> Result<Vec<(String, u64)>> {
        let page = self.page("/config_dump?resource=dynamic_route_configs").await?;
        let dump: Value = serde_json::from_str(&page).map_err(|error| Error::Istio(error.to_string()))?;
        Ok(weights(&dump, host, route))
    }

    /// What it copies at present of the requests that a route takes, found as [`weights`](Self::weights) finds it: by
    /// destination cluster the percentage.
    pub async fn mirrors(&self, host: &str, route: &str) -> Result<Vec<(String, f64)>> {
        let page = self.page("/config_dump?resource=dynamic_route_configs").await?;
        let dump: Value = serde_json::from_str(&page).map_err(|error| Error::Istio(error.to_string()))?;
        Ok(mirrors(&dump, host, route))
    }

    /// The same of connections: of those to a port and, if that is given, for a host as clients name it (SNI).
    pub async fn connection_weights(&self, port: u16, sni: Option<&str>) -> Result<Vec<(String, u64)>> {
        let page = self.page("/config_dump?resource=dynamic_listeners").await?;
        let dump: Value = serde_json::from_str(&page).map_err(|error| Error::Istio(error.to_string()))?;
        Ok(connection_weights(&dump, port, sni))
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn weights(dump: &Value, host: &str, route: &str) -> Vec<(String, u64)> {
    named(dump, host, route).map(|found| divided(&found["route"])).unwrap_or_default()
}

fn mirrors(dump: &Value, host: &str, route: &str) -> Vec<(String, f64)> {
    let policies = named(dump, host, route).map(|found| items(&found["route"]["request_mirror_policies"]));
    let read = |policy: &Value| {
        let share = &policy["runtime_fraction"]["default_value"];
        // As protobuf has it, what is the default is left out.
        let of = match share["denominator"].as_str().unwrap_or("HUNDRED") {
            "MILLION" => 1e6,
            "TEN_THOUSAND" => 1e4,
            _ => 1e2,
        };
        let cluster = policy["cluster"].as_str().unwrap_or_default().to_owned();
        (cluster, 100.0 * share["numerator"].as_f64().unwrap_or(0.0) / of)
    };
    policies.into_iter().flatten().map(read).collect()
}

/// The route of a name in the first virtual host of a domain that has it.
fn named<'d>(dump: &'d Value, host: &str, route: &str) -> Option<&'d Value> {
    let configs = items(&dump["configs"]).flat_map(|config| items(&config["route_config"]["virtual_hosts"]));
    let hosts = configs.filter(|found| items(&found["domains"]).any(|domain| domain == host));
    let mut routes = hosts.flat_map(|found| items(&found["routes"]));
    routes.find(|found| found["name"].as_str().unwrap_or_default() == route)
}

/// What something that leads to one cluster, or to several by weight, sends where.
fn divided(action: &Value) -> Vec<(String, u64)> {
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match &action["cluster"] {
        Value::String(cluster) => vec![(cluster.clone(), 100)],
        _ => items(&action["weighted_clusters"]["clusters"])
            .map(|cluster| (name(&cluster["name"]), cluster["weight"].as_u64().unwrap_or(0)))
            .collect(),
    }
}

fn connection_weights(dump: &Value, port: u16, sni: Option<&str>) -> Vec<(String, u64)> {
    let listeners = items(&dump["configs"]).map(|config| &config["active_state"]["listener"]);
    let at_port = listeners.filter(|it| it["address"]["socket_address"]["port_value"] == port);
    let mut chains = at_port.flat_map(|listener| items(&listener["filter_chains"]));
    let takes = |chain: &&Value| {
        let mut names = items(&chain["filter_chain_match"]["server_names"]);
        sni.is_none_or(|sni| names.any(|name| name == sni))
    };
    let Some(chain) = chains.find(takes) else { return Vec::new() };
    let mut filters = items(&chain["filters"]).map(|filter| &filter["typed_config"]);
    filters.find_map(|filter| Some(divided(filter)).filter(|found| !found.is_empty())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn weights_are_read_from_what_envoy_has() {
        let routes = json!([
            {"name": "primary", "route": {"weighted_clusters": {"clusters": [
                {"name": "outbound|8000||iris-v1", "weight": 75}, {"name": "outbound|8000||iris-v2", "weight": 25},
            ]}}},
            {"name": "other", "route": {"cluster": "outbound|8000||iris-v1"}},
            {"route": {"cluster": "outbound|8000||iris-v3"}},
        ]);
        let hosts = json!([
            {"domains": ["b.example.com"], "routes": []},
            {"domains": ["a.example.com", "a.example.com:*"], "routes": routes},
        ]);
        let dump = json!({"configs": [{"route_config": {"virtual_hosts": hosts}}]});
        let of = |host, route| {
            weights(&dump, host, route).into_iter().map(|(_, weight)| weight).collect::<Vec<_>>()
        };
        assert_eq!(of("a.example.com", "primary"), [75, 25]);
        assert_eq!(of("a.example.com", "other"), [100]);
        assert_eq!(of("a.example.com", ""), [100]);
        assert_eq!(of("b.example.com", "primary"), [0; 0]);
    }

    #[test]
    fn copies_are_read_in_percent() {
        let policy = |cluster: &str, share: Value| json!({"cluster": cluster, "runtime_fraction": {"default_value": share}});
        let policies = json!([
            policy("outbound|8000||iris-v2", json!({"numerator": 125_000, "denominator": "MILLION"})),
            policy("outbound|8000||iris-v3", json!({"numerator": 100})),
        ]);
        let routes = json!([
            {"name": "primary", "route": {"cluster": "outbound|8000||iris-v1", "request_mirror_policies": policies}},
            {"name": "other", "route": {"cluster": "outbound|8000||iris-v1"}},
        ]);
        let hosts = json!([{"domains": ["a.example.com"], "routes": routes}]);
        let dump = json!({"configs": [{"route_config": {"virtual_hosts": hosts}}]});
        let of = |route| mirrors(&dump, "a.example.com", route);
        let expected = [("outbound|8000||iris-v2", 12.5), ("outbound|8000||iris-v3", 100.0)];
        assert_eq!(of("primary"), expected.map(|(cluster, percentage)| (cluster.to_owned(), percentage)));
        assert_eq!(of("other"), []);
    }

    #[test]
    fn weights_of_connections_are_those_of_a_listener() {
        let stats = json!({"typed_config": {"stat_prefix": "x"}});
        let to = |weights: [u64; 2]| {
            let [one, other] = weights.map(|weight| json!({"name": "outbound|9000||iris", "weight": weight}));
            json!({"typed_config": {"weighted_clusters": {"clusters": [one, other]}}})
        };
        let named = |name: &str| json!({"server_names": [name]});
        let chains = json!([
            {"filter_chain_match": named("a.example.com"), "filters": [stats, to([75, 25])]},
            {"filter_chain_match": named("b.example.com"), "filters": [to([90, 10])]},
        ]);
        let listener = |port: u16, chains: &Value| {
            json!({"active_state": {"listener": {
                "address": {"socket_address": {"port_value": port}}, "filter_chains": chains,
            }}})
        };
        let one = json!([{"filters": [{"typed_config": {"cluster": "outbound|9000||iris"}}]}]);
        let dump = json!({"configs": [listener(9100, &one), listener(9200, &chains)]});
        let of = |port, sni| {
            connection_weights(&dump, port, sni).into_iter().map(|(_, weight)| weight).collect::<Vec<_>>()
        };
        assert_eq!(of(9100, None), [100]);
        assert_eq!(of(9200, Some("b.example.com")), [90, 10]);
        assert_eq!(of(9200, Some("c.example.com")), [0; 0]);
        assert_eq!(of(9300, None), [0; 0]);
    }
}
