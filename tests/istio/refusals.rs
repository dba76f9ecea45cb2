//! Bad input while users are served: each is refused for a reason that names what is wrong, and nothing moves. Each mistake
//! is made twice: in a Rollout that is new, and by an edit of the one whose route has the users.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_lab::real::{Answers, wait};
use tokio::time::Instant;

use crate::controller::Controller;
use crate::generated::{exposed, predictor, seldon_deployment, service, users_of_it};
use crate::lab::{CONTROLLER, GATEWAY, LIMIT, Lab};
use crate::modes::{all_by, answered};
use crate::shares::{Observed, none_failed};
use crate::world::{IRIS, World, same};

/// The Rollout that is made with a mistake, and what else is made for it.
const OTHER: &str = "other";
/// So many users are answered after a refusal before it counts that nothing moved.
const ANSWERS: usize = 60;

/// A mistake and what is said about it.
struct Mistake {
    name: &'static str,
    what: What,
    says: Says,
}

enum What {
    /// Merged into the spec of a Rollout that is right.
    Spec(fn() -> Value),
    /// The predictors of the SeldonDeployment whose predictor `main` is wanted.
    Predictors(fn() -> Value),
}

/// Who refuses it, with all of these in the message.
enum Says {
    Server(&'static [&'static str]),
    Controller(&'static str, &'static [&'static str]),
}

/// Where Sluice generates the route.
const GENERATED: &[Mistake] = &[
    Mistake {
        name: "a Gateway that does not exist",
        what: What::Spec(|| json!({"expose": {"gateways": ["istio-system/nowhere"]}})),
        says: Says::Controller(
            "GatewayNotFound",
            &["spec.expose.gateways: ", "there is no Gateway nowhere in namespace istio-system"],
        ),
    },
    Mistake {
        name: "three retries in letters",
        what: What::Spec(|| json!({"annotations": {"seldon.io/istio-retries": "three"}})),
        says: Says::Controller(
            "InvalidSpec",
            &["spec.annotations[seldon.io/istio-retries]: ", "\"three\" is not the number of retries"],
        ),
    },
    Mistake {
        name: "a TLS mode of another kind",
        what: What::Spec(|| json!({"annotations": {"seldon.io/istio-tls-mode": "STRICT"}})),
        says: Says::Controller(
            "InvalidSpec",
            &["spec.annotations[seldon.io/istio-tls-mode]: ", "\"STRICT\" is no TLS mode"],
        ),
    },
    Mistake {
        name: "traffic that adds up to 90",
        what: What::Predictors(|| {
            json!([model("main", json!({"traffic": 60})), model("green", json!({"traffic": 30}))])
        }),
        says: Says::Controller(
            "InvalidTarget",
            &["SeldonDeployment ", "adds up to 90 (main 60, green 30): 100 is expected"],
        ),
    },
    Mistake {
        name: "a predictor that is missing",
        what: What::Spec(
            || json!({"target": {"service": null, "seldonDeployment": {"name": IRIS, "predictor": "blue"}}}),
        ),
        says: Says::Controller(
            "TargetNotFound",
            &["spec.target.seldonDeployment.predictor: ", "has no predictor \"blue\", only main, green"],
        ),
    },
    Mistake {
        name: "a shadow of nobody",
        what: What::Predictors(|| json!([model("main", json!({"shadow": true}))])),
        says: Says::Controller(
            "InvalidTarget",
            &["SeldonDeployment ", "predictor main is a shadow and there is no other one"],
        ),
    },
];

/// Where the route is a person's.
const OWN: &[Mistake] = &[
    Mistake {
        name: "more copies than requests",
        what: What::Spec(|| json!({"steps": [{"mirror": 101, "for": "1s"}]})),
        says: Says::Server(&["spec.steps[0].mirror: ", "101", "should be less than or equal to 100"]),
    },
    Mistake {
        name: "a match that takes all",
        what: What::Spec(|| json!({"steps": [{"match": [{}], "for": "1s"}]})),
        says: Says::Server(&[
            "spec.steps[0].match[0]: ",
            "a match without conditions would take all requests",
        ]),
    },
    Mistake {
        name: "a match that every request meets",
        what: What::Spec(|| json!({"steps": [{"match": [{"uri": {"prefix": "/"}}], "for": "1s"}]})),
        says: Says::Controller("InvalidSpec", &["spec.steps[0].match[0]: it would take all requests"]),
    },
    Mistake {
        name: "a subset that no DestinationRule has",
        what: What::Spec(|| json!({"target": {"service": {"name": "iris-v2", "subset": "v9"}}})),
        says: Says::Controller(
            "SubsetNotFound",
            &["subset \"v9\" of Service ", "iris-v2 is in no DestinationRule"],
        ),
    },
];

/// A predictor of a SeldonDeployment.
fn model(name: &str, traffic: Value) -> Value {
    let mut predictor = traffic;
    predictor["name"] = json!(name);
    predictor["graph"] = json!({"name": "classifier", "modelUri": format!("gs://models/iris-{name}")});
    predictor
}

/// A live route, its users, and what must stay as it is.
struct Live<'a> {
    world: World<'a>,
    controller: Controller,
    users: Answers,
    observed: Observed,
    /// The canary's Service: nobody is to be sent there.
    canary: &'static str,
    /// A Rollout like the live one, for the mistakes.
    other: Value,
    before: State,
}

/// What users' requests depend on, who was asked, and what the controller wrote.
#[derive(Debug, Default, PartialEq)]
struct State {
    /// The resourceVersions of routes and rules, by kind and name.
    versions: BTreeMap<String, String>,
    /// Writes to anything but Rollouts and Events.
    written: usize,
    /// Requests to the canary, copies included.
    asked: u64,
}

pub async fn mistakes_about_a_generated_route_move_nothing(lab: &Arc<Lab>) -> Result<()> {
    let mut world = World::empty(lab, "mistakes-generated").await?;
    seldon_deployment(&mut world, json!({"traffic": 0})).await?;
    let controller = world.controller()?;
    let expose = json!({"hosts": [world.host()], "gateways": [GATEWAY]});
    world.create_rollout(&exposed(&world, predictor("main"), expose.clone())).await?;
    let users = users_of_it(&world).await?.rate(100.0).start();
    let observed = Observed::of_route(lab, &world.host(), "http");
    // It would take the very same requests.
    let mut other = exposed(&world, service("iris-green"), expose);
    other["spec"]["expose"]["prefix"] = json!(format!("/seldon/{}/{IRIS}/", world.namespace));
    let live = Live::of(world, controller, users, observed, "iris-green", other).await?;
    live.refuses(GENERATED).await
}

pub async fn mistakes_about_a_persons_route_move_nothing(lab: &Arc<Lab>) -> Result<()> {
    let world = World::new(lab, "mistakes-own").await?;
    let controller = world.controller()?;
    let steps = json!([{"weight": 50, "for": "1s"}]);
    world.create_rollout(&world.rollout("v1", steps.clone())).await?;
    let users = world.users().rate(100.0).start();
    let observed = world.observe(lab);
    let mut route = world.virtual_service();
    route["metadata"]["name"] = json!(OTHER);
    route["spec"]["hosts"] = json!([format!("{OTHER}.{}", world.host())]);
    world.create("networking.istio.io", "v1", &route).await?;
    let mut other = world.rollout("v2", steps);
    other["spec"]["routes"][0]["virtualService"] = json!(OTHER);
    let live = Live::of(world, controller, users, observed, "iris-v2", other).await?;
    live.refuses(OWN).await
}

impl<'a> Live<'a> {
    async fn of(
        world: World<'a>,
        controller: Controller,
        users: Answers,
        observed: Observed,
        canary: &'static str,
        mut other: Value,
    ) -> Result<Self> {
        other["metadata"]["name"] = json!(OTHER);
        world.phase("Healthy", "Live").await?;
        answered(&users, Instant::now(), 2 * ANSWERS).await?;
        let mut live = Self { world, controller, users, observed, canary, other, before: State::default() };
        live.before = live.state().await?;
        Ok(live)
    }

    async fn refuses(self, mistakes: &[Mistake]) -> Result<()> {
        for mistake in mistakes {
            let what = || format!("{}, in a new Rollout", mistake.name);
            self.refuses_a_new_one(mistake).await.with_context(what)?;
            let what = || format!("{}, by an edit", mistake.name);
            self.refuses_an_edit(mistake).await.with_context(what)?;
        }
        same("what Envoy did", &self.observed.sequence(self.canary), &vec![0])?;
        let answers = self.users.stop().await;
        none_failed(&answers)?;
        all_by("users, always", &answers, "iris-v1")?;
        println!("{} mistakes, {} requests, none failed", 2 * mistakes.len(), answers.len());
        self.world.end(self.controller)
    }

    async fn refuses_a_new_one(&self, mistake: &Mistake) -> Result<()> {
        let (since, mut bad) = (Instant::now(), self.other.clone());
        match &mistake.what {
            What::Spec(change) => json_patch::merge(&mut bad["spec"], &change()),
            What::Predictors(predictors) => {
                let deployment = json!({
                    "apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment",
                    "metadata": {"name": OTHER}, "spec": {"predictors": predictors()},
                });
                self.world.create("machinelearning.seldon.io", "v1", &deployment).await?;
                bad["spec"]["target"] = json!({"seldonDeployment": {"name": OTHER, "predictor": "main"}});
            }
        }
        let bad: DynamicObject = serde_json::from_value(bad)?;
        let answer = self.world.rollouts().create(&PostParams::default(), &bad).await;
        match mistake.says {
            Says::Server(parts) => says(&the_refusal(answer)?, parts)?,
            Says::Controller(reason, parts) => {
                answer.context("the server took it")?;
                self.is_refused(OTHER, reason, parts).await?;
            }
        }
        self.nothing_moved(since).await?;
        self.forget_the_other().await?;
        self.nothing_moved(since).await
    }

    async fn refuses_an_edit(&self, mistake: &Mistake) -> Result<()> {
        let since = Instant::now();
        let (objects, change) = match &mistake.what {
            What::Spec(change) => (self.world.rollouts(), change()),
            What::Predictors(predictors) => (self.deployments(), json!({"predictors": predictors()})),
        };
        let right = objects.get(IRIS).await?.data["spec"].clone();
        let edit = Patch::Merge(json!({"spec": change}));
        let answer = objects.patch(IRIS, &PatchParams::default(), &edit).await;
        match mistake.says {
            Says::Server(parts) => {
                says(&the_refusal(answer)?, parts)?;
                same("the spec", &objects.get(IRIS).await?.data["spec"], &right)?;
            }
            Says::Controller(reason, parts) => {
                answer.context("the server took it")?;
                self.is_refused(IRIS, reason, parts).await?;
            }
        }
        self.nothing_moved(since).await?;
        // As it was, and accepted again.
        let back = json!([{"op": "replace", "path": "/spec", "value": right}]);
        let back = Patch::Json::<()>(serde_json::from_value(back)?);
        objects.patch(IRIS, &PatchParams::default(), &back).await?;
        self.accepted(IRIS, "True", "Accepted").await?;
        self.world.phase("Healthy", "Live").await?;
        self.nothing_moved(since).await
    }

    /// The Rollout says that it is refused, for this reason, with all of these in the message.
    async fn is_refused(&self, name: &str, reason: &str, parts: &[&str]) -> Result<()> {
        let condition = self.accepted(name, "False", reason).await?;
        says(condition["message"].as_str().unwrap_or_default(), parts)
    }

    /// Waits until a Rollout's condition `Accepted` is this, and returns it.
    async fn accepted(&self, name: &str, status: &str, reason: &str) -> Result<Value> {
        let what = format!("{}: {name} has Accepted={status} ({reason})", self.world.namespace);
        let rollouts = self.world.rollouts();
        let seen = wait::until(LIMIT, what, || async {
            let rollout = rollouts.get(name).await.map_err(|error| error.to_string())?;
            let conditions = rollout.data["status"]["conditions"].as_array().into_iter().flatten();
            let condition = conditions.clone().find(|one| one["type"] == "Accepted").cloned();
            let condition = condition.ok_or_else(|| "there is no such condition yet".to_owned())?;
            let is = condition["status"] == status && condition["reason"] == reason;
            if is { Ok(condition) } else { Err(condition.to_string()) }
        });
        Ok(seen.await?)
    }

    /// Users have been answered well by stable, and nothing that they depend on was written.
    async fn nothing_moved(&self, since: Instant) -> Result<()> {
        answered(&self.users, Instant::now(), ANSWERS).await?;
        let answers = self.users.between(since, Instant::now());
        none_failed(&answers)?;
        all_by("users", &answers, "iris-v1")?;
        same("routes, rules and writes", &self.state().await?, &self.before)
    }

    async fn state(&self) -> Result<State> {
        let mut versions = BTreeMap::new();
        let rules = self.world.api("networking.istio.io", "v1", "DestinationRule");
        for (kind, objects) in [("VirtualService", self.world.virtual_services()), ("DestinationRule", rules)]
        {
            for object in objects.list(&ListParams::default()).await?.items {
                let name = object.metadata.name.unwrap_or_default();
                versions
                    .insert(format!("{kind} {name}"), object.metadata.resource_version.unwrap_or_default());
            }
        }
        let mut writes = self.world.audit.writes_of(CONTROLLER)?;
        writes.retain(|write| {
            let reports = ["rollouts", "events"].contains(&write.resource.as_str());
            write.namespace == self.world.namespace && !reports
        });
        let asked = self.world.predictor("v2").served().total();
        Ok(State { versions, written: writes.len(), asked })
    }

    fn deployments(&self) -> Api<DynamicObject> {
        self.world.api("machinelearning.seldon.io", "v1", "SeldonDeployment")
    }

    async fn forget_the_other(&self) -> Result<()> {
        for objects in [self.world.rollouts(), self.deployments()] {
            if objects.get_opt(OTHER).await?.is_none() {
                continue;
            }
            objects.delete(OTHER, &DeleteParams::default()).await?;
            wait::until(LIMIT, format!("{}: {OTHER} is gone", self.world.namespace), || async {
                match objects.get_opt(OTHER).await {
                    Ok(None) => Ok(()),
                    Ok(Some(object)) => Err(format!("{:?}", object.metadata.finalizers)),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// What the server said of a write that it refused.
fn the_refusal(answer: kube::Result<DynamicObject>) -> Result<String> {
    match answer {
        Err(kube::Error::Api(status)) => {
            same("the server's answer", &status.code, &422)?;
            Ok(status.message)
        }
        Err(error) => Err(error.into()),
        Ok(object) => Err(anyhow!("it was taken: {:?}", object.data)),
    }
}

fn says(message: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(message.contains(part), "{message:?} lacks {part:?}");
    }
    Ok(())
}
