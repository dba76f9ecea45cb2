//! `sluice plan`: what a Rollout would do, before it does.

pub(super) mod routes;

use std::{io::Write, path::PathBuf};

use clap::{ArgGroup, Args};
use sluice_core::{
    api::{Finish, Share},
    machine::Refusal,
    plan::{Load, Plan},
    simulate::{Errors, tried, without_people},
};

use super::{
    Session,
    exit::Failure,
    get,
    manifest::{self, File, Manifest},
    names,
    objects::Objects,
    output::write,
    view::{self, BadCanary, Screen},
};

/// Shares of errors that a bad canary is rehearsed with where nobody says any.
const BAD: [&str; 3] = ["2%", "10%", "100%"];

/// Say what a Rollout would do: its steps, what they cost, and the VirtualServices at each
///
/// With -f it needs no cluster: VirtualServices and Services in the same file are shown as they would be at each step. With
/// --cluster those of the cluster are, and what the controller would refuse is said with its reason. NAME plans a Rollout
/// that is in the cluster already.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("rollout or file").required(true).args(["rollout", "file"])))]
pub struct PlanArgs {
    /// A Rollout of the cluster, in place of a file
    #[arg(value_name = "NAME", conflicts_with = "file", value_parser = names::no_file)]
    pub rollout: Option<String>,
    /// The file with the Rollout, and what else it needs; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Which of several Rollouts in it
    #[arg(long, value_name = "NAME", requires = "file")]
    pub name: Option<String>,
    /// The namespace of the command line.
    #[arg(skip)]
    pub namespace: Option<String>,
    /// Plan with the objects of the cluster, and not with those in the file
    #[arg(long, requires = "file")]
    pub cluster: bool,
    /// Requests a second, of all users
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate, allow_negative_numbers = true)]
    pub rate: f64,
    /// The share of the requests that a step's match meets
    #[arg(long, value_name = "SHARE", default_value = "10%")]
    pub matching: Share,
    /// Say when a canary with this share of errors is stopped, if nothing else is wrong with it, and how many bad answers
    /// users get until then; may be given several times
    #[arg(long, value_name = "SHARE")]
    pub errors: Vec<Share>,
}

impl PlanArgs {
    /// Whether a cluster is asked: only where the command line says so.
    pub fn asks_a_cluster(&self) -> bool {
        self.cluster || self.rollout.is_some()
    }

    fn manifest(&self) -> Result<Option<Manifest>, Failure> {
        let Some(file) = &self.file else { return Ok(None) };
        let (name, namespace) = (self.name.clone(), self.namespace.clone());
        manifest::read(&File { file: file.clone(), name, namespace }).map(Some)
    }
}

/// Reads a number of requests a second.
///
/// # Errors
/// What is none, or more than anybody has.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 =
        text.parse().map_err(|_| "a number of requests a second is expected, like 100".to_owned())?;
    if (0.0..=1e9).contains(&rate) { Ok(rate) } else { Err("0 to 1000000000 is expected".to_owned()) }
}

/// Prints the plan of a file, without a cluster.
pub fn run(args: &PlanArgs, screen: &Screen, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(manifest) = args.manifest()? else {
        return Err(Failure::Other("-f FILE is expected".to_owned()));
    };
    let namespace = manifest.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let plan = manifest.plan(&namespace)?;
    let invalid = |mistakes: Vec<String>| {
        let name = format!("{:?}", manifest.name);
        if mistakes.is_empty() { Ok(()) } else { Err(Failure::Invalid { name, mistakes }) }
    };
    let lacking = Objects::not_in_file(&manifest, &plan, &namespace);
    invalid(lacking.iter().map(ToString::to_string).collect())?;
    let objects = Objects::of_file(&manifest, &plan, &namespace);
    // What is a SeldonDeployment's is in no file, and routes need not be.
    let are_there = !objects.virtual_services.is_empty() && manifest.spec.target.service.is_some();
    let routes = if are_there { routes::along(&objects, &plan, &manifest.spec) } else { Ok(Vec::new()) };
    if let Err(refusal) = &routes {
        invalid(vec![refusal.message.clone()])?;
    }
    let changed = routes.unwrap_or_default();
    write(out, &text(args, &manifest.name, &plan, &changed, screen))
}

/// Prints the plan on a cluster's objects: of a Rollout that is there, or of one in a file.
pub async fn in_cluster(session: &mut Session<'_>, args: &PlanArgs) -> Result<(), Failure> {
    let (name, namespace, spec, own) = if let Some(manifest) = args.manifest()? {
        let namespace = manifest.namespace.clone().unwrap_or_else(|| session.namespace.clone());
        // Mistakes are said before anything is asked.
        manifest.plan(&namespace)?;
        session.namespace.clone_from(&namespace);
        let own = match get::rollout(session, &manifest.name).await {
            Ok(own) => Some(own),
            Err(Failure::NoSuchRollout { .. }) => None,
            Err(failure) => return Err(failure),
        };
        (manifest.name, namespace, manifest.spec, own)
    } else {
        let name = args.rollout.clone().unwrap_or_default();
        let own = get::rollout(session, &name).await?;
        (name, session.namespace.clone(), own.spec.clone(), Some(own))
    };
    let invalid = |problems: String| Failure::Refused(format!("the Rollout {name:?} is invalid: {problems}"));
    sluice_core::plan::target(&spec).map_err(|errors| invalid(errors.to_string()))?;
    let plan = Plan::named(&spec, &namespace, &name).map_err(|errors| invalid(errors.to_string()))?;
    let objects = Objects::of_cluster(session, (&namespace, &name), &spec, &plan, own.as_ref()).await?;
    for remark in objects.cluster.iter().flat_map(|around| &around.remarks) {
        writeln!(session.err, "note: {}", view::plain(remark))?;
    }
    let routes = routes::along(&objects, &plan, &spec);
    let changed = routes.as_deref().unwrap_or_default();
    write(session.out, &text(args, &name, &plan, changed, &session.screen))?;
    match routes {
        Ok(_) => Ok(()),
        Err(Refusal { reason, message }) => {
            Err(Failure::Refused(format!("the controller would not accept it: {reason}: {message}")))
        }
    }
}

fn text(args: &PlanArgs, name: &str, plan: &Plan, changed: &[view::Changed], screen: &Screen) -> String {
    let load = Load { rate: args.rate, matching: args.matching };
    view::plan(name, plan, load, &bad_canaries(args, plan, load), changed, screen)
}

/// What canaries that fail so often would cost, by a rehearsal with each, in which nobody has to be waited for: of a rollout
/// that a person decides, until it is decided.
fn bad_canaries(args: &PlanArgs, plan: &Plan, load: Load) -> Vec<BadCanary> {
    let default = || BAD.iter().filter_map(|share| share.parse().ok()).collect();
    let shares: Vec<Share> = if args.errors.is_empty() { default() } else { args.errors.clone() };
    let finish = match plan.finish {
        Finish::Promote => Finish::Promote,
        Finish::KeepStable | Finish::Wait => Finish::KeepStable,
    };
    let alone = Plan { finish, ..without_people(plan) };
    let rehearsed = |share| {
        let errors = Errors { stable: None, canary: Some(share) };
        BadCanary { share, timeline: tried(&alone, load, errors) }
    };
    shares.into_iter().map(rehearsed).collect()
}
