//! Routes below HTTP: connections are divided, by port or by the name that a client asks for, and nothing in them is looked
//! at. Each request of these users has a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};
use sluice_lab::real::tls::Identity;
use sluice_lab::real::{Answers, Users};

use crate::lab::Lab;
use crate::shares::{Observed, none_failed, share_is_over};
use crate::world::{IRIS, World, same};

/// Where the gateway takes connections of these tests: a port has one owner.
const TCP: u16 = 9101;
const TLS: u16 = 9102;

/// A Gateway with one server, and the VirtualService that takes its connections; both beside `world`.
async fn open(world: &World<'_>, server: Value, spec: Value) -> Result<SocketAddr> {
    let mut server = server;
    let port = server["port"]["number"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    server["bind"] = json!(world.shared.gateway.address());
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": IRIS},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    });
    world.create("networking.istio.io", "v1", &gateway).await?;
    let route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": IRIS}, "spec": spec,
    });
    world.create("networking.istio.io", "v1", &route).await?;
    let entry = SocketAddr::from((world.shared.gateway.address(), port));
    // Envoy listens there once something takes the connections.
    world.shared.gateway.listens_at(entry).await?;
    Ok(entry)
}

fn to_stable(port: u16) -> Value {
    json!([{"destination": {"host": "iris-v1", "port": {"number": port}}, "weight": 100}])
}

/// Promotes `iris-v2` while these users ask.
async fn promote(world: World<'_>, users: Answers, observed: Observed, routes: Value) -> Result<()> {
    let controller = world.controller()?;
    let steps = json!([World::step(30, 2000), World::step(100, 200)]);
    let mut rollout = world.rollout("v2", steps);
    rollout["spec"]["routes"] = routes;
    world.create_rollout(&rollout).await?;
    world.obeyed(&observed, "iris-v2", 100).await?;
    world.phase("Healthy", "Live").await?;
    same("what Envoy did", &observed.sequence("iris-v2"), &vec![0, 30, 100])?;
    share_is_over(&observed, &users, "iris-v2", 30, 2000)?;
    none_failed(&users.stop().await)?;
    world.end(controller)
}

pub async fn connections_to_a_port_are_divided_by_weight(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "tcp").await?;
    for version in ["v1", "v2"] {
        world.serve_on(&format!("{IRIS}-{version}"), version, &[], &[("tcp", 9000)]).await?;
    }
    world.scraped().await?;
    let server = json!({"port": {"number": TCP, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]});
    let spec = json!({
        "hosts": ["*"], "gateways": [IRIS],
        "tcp": [{"match": [{"port": TCP}], "route": to_stable(9000)}],
    });
    let entry = open(&world, server, spec).await?;
    let users = Users::infer(entry, &world.host(), IRIS).by_connection();
    world.routed_for(&users).await?;
    let (users, observed) = (users.rate(120.0).start(), Observed::of_connections(lab, TCP, None));
    promote(world, users, observed, json!([{"virtualService": IRIS, "tcp": [TCP]}])).await
}

pub async fn connections_for_a_name_are_divided_by_weight(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "tls").await?;
    let host = world.host();
    let identity = Identity::new(&host)?;
    for version in ["v1", "v2"] {
        world.serve_on(&format!("{IRIS}-{version}"), version, &[], &[("tls", 8443)]).await?;
        world.secure(version, &identity)?;
    }
    world.scraped().await?;
    let server = json!({
        "port": {"number": TLS, "name": "tls", "protocol": "TLS"}, "hosts": [host],
        "tls": {"mode": "PASSTHROUGH"},
    });
    let spec = json!({
        "hosts": [host], "gateways": [IRIS],
        "tls": [{"match": [{"port": TLS, "sniHosts": [host]}], "route": to_stable(8443)}],
    });
    let entry = open(&world, server, spec).await?;
    let users = Users::infer(entry, &host, IRIS).by_connection().secured(&identity)?;
    world.routed_for(&users).await?;
    let (users, observed) = (users.rate(120.0).start(), Observed::of_connections(lab, TLS, Some(&host)));
    promote(world, users, observed, json!([{"virtualService": IRIS, "tls": [host]}])).await
}
