//! A scene and a gateway behave alike on both: what the demo shows on one is what happens on the other.

use serde_json::json;
use sluice_lab::{
    gateway::{Gateway, Load},
    scene::{Scene, Served, eventually},
};

use crate::world::{LIMIT, World};

tests![
    weights_are_obeyed_to_the_request,
    a_change_of_weights_is_obeyed_soon,
    a_pod_that_is_not_ready_gets_no_requests,
    replicas_share_the_requests_of_their_service,
    yaml_of_any_kinds_is_applied_and_applied_again,
];

struct Stage {
    scene: Scene,
    gateway: Gateway,
    host: String,
    v1: Served,
    v2: Served,
}

async fn stage(world: &World, v1: u32, v2: u32) -> Stage {
    let scene = world.scene().await;
    let first = scene.serve("iris-v1", "iris", "v1").await.unwrap();
    let second = scene.serve("iris-v2", "iris", "v2").await.unwrap();
    let host = format!("{}.example.com", world.namespace);
    scene.virtual_service("iris", &host, &[("iris-v1", Some(v1)), ("iris-v2", Some(v2))]).await.unwrap();
    let gateway = Gateway::start(&world.client);
    gateway.synced().await;
    let stage = Stage { scene, gateway, host, v1: first, v2: second };
    // EndpointSlices come a little later on a real cluster.
    stage
        .until("both are reached", |stage| async move {
            let ready = |service| stage.gateway.ready_endpoints(&world.namespace, service);
            ready("iris-v1") == 1 && ready("iris-v2") == 1
        })
        .await;
    stage
}

impl Stage {
    async fn until<'a, F: Future<Output = bool>>(&'a self, what: &str, look: impl Fn(&'a Self) -> F) {
        let look = || async { if look(self).await { Ok(()) } else { Err("not yet") } };
        eventually(LIMIT, what, look).await.unwrap();
    }

    async fn send(&self, count: u64) -> (u64, u64) {
        let report = Load::infer(&self.host, "iris").count(count).run(&self.gateway).await;
        (report.by("iris-v1"), report.by("iris-v2"))
    }
}

async fn weights_are_obeyed_to_the_request(world: World) {
    let stage = stage(&world, 90, 10).await;
    assert_eq!(stage.send(200).await, (180, 20));
    assert_eq!((stage.v1.predictor.served().total(), stage.v2.predictor.served().total()), (180, 20));
}

async fn a_change_of_weights_is_obeyed_soon(world: World) {
    let stage = stage(&world, 100, 0).await;
    assert_eq!(stage.send(10).await, (10, 0));
    let services = crate::world::virtual_services(&world);
    let patch = json!([
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 75},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 25},
    ]);
    let changed = crate::world::json_patch(&services, "iris", patch).await.unwrap();
    let obeyed = |stage: &Stage| stage.gateway.obeys(&world.namespace, "iris");
    let now = |stage| std::future::ready(obeyed(stage) == changed.metadata.resource_version);
    stage.until("the gateway obeys", now).await;
    assert_eq!(stage.send(100).await, (75, 25));
}

async fn a_pod_that_is_not_ready_gets_no_requests(world: World) {
    let stage = stage(&world, 0, 100).await;
    stage.scene.set_ready(&stage.v2.pod, false).await.unwrap();
    let none =
        |stage: &Stage| std::future::ready(stage.gateway.ready_endpoints(&world.namespace, "iris-v2") == 0);
    stage.until("nobody is ready", none).await;
    assert_eq!(stage.send(3).await, (0, 0));
    assert_eq!(stage.gateway.delivered_to(&world.namespace, "iris-v2").by_code, [(503, 3)].into());
}

async fn replicas_share_the_requests_of_their_service(world: World) {
    let stage = stage(&world, 100, 0).await;
    let more = stage.scene.replica("iris-v1", "1", "iris", "v1").await.unwrap();
    let two =
        |stage: &Stage| std::future::ready(stage.gateway.ready_endpoints(&world.namespace, "iris-v1") == 2);
    stage.until("two are ready", two).await;
    stage.send(10).await;
    assert_eq!((stage.v1.predictor.served().total(), more.predictor.served().total()), (5, 5));
    stage.scene.delete_pod(&more.pod).await.unwrap();
    let one =
        |stage: &Stage| std::future::ready(stage.gateway.ready_endpoints(&world.namespace, "iris-v1") == 1);
    stage.until("one is left", one).await;
}

async fn yaml_of_any_kinds_is_applied_and_applied_again(world: World) {
    let scene = world.scene().await;
    let yaml = |weight: u32| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{weight: '{weight}'}}\n---\n\
             apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {{name: iris}}\n\
             spec: {{hosts: [b], http: [{{name: primary, route: [{{destination: {{host: a}}, weight: {weight}}}]}}]}}\n"
        )
    };
    for weight in [100, 50] {
        let applied = scene.apply_yaml(&yaml(weight)).await.unwrap();
        assert_eq!(applied.len(), 2);
        let read = crate::world::virtual_services(&world).get("iris").await.unwrap();
        assert_eq!(read.data["spec"]["http"][0]["route"][0]["weight"], weight);
    }
    let wrong = scene.apply_yaml("apiVersion: v1\nkind: Nothing\nmetadata: {name: a}\n").await.unwrap_err();
    assert!(wrong.to_string().contains("Nothing"), "{wrong}");
}
