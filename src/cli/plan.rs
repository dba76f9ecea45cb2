//! `sluice plan`: what a Rollout would do, before it does.

use std::io::Write;

use clap::Args;
use serde_json::Value;
use sluice_core::{
    HostNames, Predictor,
    api::Share,
    carrier::{self, ObjectName, World},
    machine,
    plan::Plan,
    simulate::{Arm, Ending, Scenario, simulate},
    target::{self, ServiceView},
    traffic::{Cluster, Setting, stamp::Stamp},
};

use super::{
    exit::Failure,
    manifest::{self, File, Manifest},
    output::write,
    view::{self, BadCanary, Changed, Screen, Traffic},
};

/// Shares of errors that a bad canary is rehearsed with where nobody says any.
const BAD: [&str; 3] = ["2%", "10%", "100%"];

/// Say what a Rollout would do: its steps, what they cost, and the VirtualServices at each
///
/// It needs no cluster. VirtualServices and Services in the same file are shown as they would be at each step.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The Rollout.
    #[command(flatten)]
    pub file: File,
    /// Requests a second, of all users
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
    pub rate: f64,
    /// The share of the requests that a step's match meets
    #[arg(long, value_name = "SHARE", default_value = "10%")]
    pub matching: Share,
    /// Say how many bad answers users get from a canary with this share of errors; may be given several times
    #[arg(long, value_name = "SHARE")]
    pub errors: Vec<Share>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 =
        text.parse().map_err(|_| "a number of requests a second is expected, like 100".to_owned())?;
    if (0.0..=1e9).contains(&rate) { Ok(rate) } else { Err("0 to 1000000000 is expected".to_owned()) }
}

/// Prints the plan.
pub fn run(args: &PlanArgs, screen: &Screen, out: &mut dyn Write) -> Result<(), Failure> {
    let manifest = manifest::read(&args.file)?;
    let namespace = manifest.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let plan = manifest.plan(&namespace)?;
    let bad = bad_canaries(args, &plan);
    let changed = changed(&manifest, &plan, &namespace)?;
    let traffic = Traffic { rate: args.rate, matching: args.matching };
    write(out, &view::plan(&manifest.name, &plan, traffic, &bad, &changed, screen))
}

/// What canaries that fail so often would cost, by a rehearsal with each.
fn bad_canaries(args: &PlanArgs, plan: &Plan) -> Vec<BadCanary> {
    let default = || BAD.iter().filter_map(|share| share.parse().ok()).collect();
    let shares: Vec<Share> = if args.errors.is_empty() { default() } else { args.errors.clone() };
    let rehearsed = shares.into_iter().map(|share| {
        let canary = Arm { errors: Some(share), ..Arm::default() };
        let scenario = Scenario { canary, matching: Some(args.matching), ..Scenario::of(args.rate) };
        let timeline = simulate(plan, &scenario, None);
        let stopped = match timeline.ending {
            Ending::Over { at, .. } => Some(at),
            Ending::Promoted | Ending::Held(_) => None,
        };
        BadCanary { share, stopped, users: timeline.users }
    });
    rehearsed.collect()
}

/// The VirtualServices in the file as they would be at each step; nothing where there are none.
fn changed(manifest: &Manifest, plan: &Plan, namespace: &str) -> Result<Vec<Changed>, Failure> {
    let named = |object: &Value| -> ObjectName {
        let field = |name: &str| object["metadata"][name].as_str().map(str::to_owned);
        (field("namespace").unwrap_or_else(|| namespace.to_owned()), field("name").unwrap_or_default())
    };
    let mut objects: Vec<(ObjectName, Value)> =
        of_kind(manifest, "VirtualService").map(|object| (named(&object), object)).collect();
    let planned =
        |name: &ObjectName| plan.routes.iter().any(|route| route.namespace == name.0 && route.name == name.1);
    objects.retain(|(name, _)| planned(name));
    // What is a SeldonDeployment's, or is generated, is in no file.
    if objects.is_empty() || manifest.spec.target.service.is_none() {
        return Ok(Vec::new());
    }
    for (_, object) in &mut objects {
        // One that nobody has read off a server has no version, and a patch is always made against one.
        object["metadata"]["resourceVersion"] = Value::from("0");
    }
    let services: Vec<(ObjectName, Vec<u16>)> =
        of_kind(manifest, "Service").map(|service| (named(&service), ports(&service))).collect();
    let ports_of = |home: &str, name: &str| {
        let found = services.iter().find(|((of, called), _)| of == home && called == name);
        found.map(|(_, ports)| ports.clone())
    };
    let refused = |refusal: machine::Refusal| Failure::Other(refusal.message);
    let service = |name: &str| ports_of(namespace, name).map(|ports| ServiceView { ports });
    let wanted = target::wanted(&manifest.spec, namespace, service).map_err(refused)?;
    let names = HostNames::default();
    let world = |objects: &[(ObjectName, Value)]| -> Result<Vec<Changed>, Failure> {
        let world = World {
            namespace,
            name: &manifest.name,
            virtual_services: objects.iter().map(|(name, object)| (name.clone(), object)).collect(),
            cluster: Cluster { names: &names, ports: &ports_of },
        };
        let stable = stable(&world, plan, &wanted, manifest)?;
        let pair = Setting { canary: Some(wanted.clone()), ..Setting::all_to(stable) };
        carrier::accept(&world, plan, Some(&pair), None, &[]).map_err(refused)?;
        (0..=plan.promotion()).map(|index| at_step(&world, plan, &pair, index)).collect()
    };
    world(&objects)
}

fn of_kind(manifest: &Manifest, kind: &'static str) -> impl Iterator<Item = Value> {
    manifest.others.iter().filter(move |object| object["kind"] == kind).cloned()
}

/// The one predictor that has traffic and is not the wanted one.
fn stable(
    world: &World<'_>,
    plan: &Plan,
    wanted: &Predictor,
    manifest: &Manifest,
) -> Result<Predictor, Failure> {
    let from = manifest.spec.target.service.as_ref().and_then(|service| service.from.as_deref());
    let seen =
        carrier::see(world, plan, Some(wanted), from).map_err(|refusal| Failure::Other(refusal.message))?;
    match seen.weighted.as_slice() {
        [stable] => Ok(stable.clone()),
        several => {
            let there: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::Other(format!(
                "the routes must have one predictor with traffic, which is stable: they have {}",
                if there.is_empty() { "none".to_owned() } else { there.join(", ") }
            )))
        }
    }
}

fn at_step(world: &World<'_>, plan: &Plan, pair: &Setting, index: usize) -> Result<Changed, Failure> {
    let setting = machine::with_step(pair.clone(), plan, index);
    let outlook = carrier::effects(world, plan, &setting, &Stamp::default());
    if let Some(obstacle) = outlook.obstacles.first() {
        return Err(Failure::Other(obstacle.to_string()));
    }
    let mut objects = Vec::new();
    for effect in outlook.effects {
        let Some(before) = world.virtual_services.get(&effect.object) else { continue };
        let mut after = (*before).clone();
        json_patch::patch(&mut after, &effect.patch)
            .map_err(|error| Failure::Other(format!("the difference cannot be applied: {error}")))?;
        objects.push((effect.object, (*before).clone(), after));
    }
    Ok(Changed { step: plan.step_name(index).to_owned(), objects })
}

fn ports(service: &Value) -> Vec<u16> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| u16::try_from(port["port"].as_u64()?).ok()).collect()
}
