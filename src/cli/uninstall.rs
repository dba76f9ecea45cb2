//! `sluice uninstall`: Rollouts go before their controller and their kinds do.
//!
//! Every Rollout that moved traffic has a finalizer, by which the controller gives the routes back before it goes. Where
//! the controller went first, nobody takes it off any more, and the deletion of a Rollout, of its namespace or of the
//! kinds hangs. So this deletes Rollouts while the controller runs, and can take the finalizer off without it.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use sluice_core::{
    Predictor,
    api::{FINALIZER, GoDuration, Rollout},
};
use tokio::time::{Instant, sleep};

use super::{
    Session,
    exit::Failure,
    get,
    output::write,
    view::{Listed, plain},
};

/// How often it is looked whether they are gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a write that somebody else was quicker than is tried.
const TRIES: usize = 10;

/// Delete Rollouts, so that the controller and the kinds can go
#[derive(Clone, Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub struct UninstallArgs {
    /// Those of all namespaces, whatever else says one
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The controller does not run: take its finalizer off and leave the routes as they are
    #[arg(long)]
    pub without_controller: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// How long to wait until they are gone
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub wait: GoDuration,
}

/// Deletes all Rollouts, once a person has seen which and what becomes of their routes. `confirmed` asks that person.
pub async fn uninstall(
    session: &mut Session<'_>,
    args: &UninstallArgs,
    confirmed: impl FnOnce(&mut Session<'_>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let rollouts = get::all(session, &get::api(session, args.all_namespaces)).await?;
    if rollouts.is_empty() {
        let place = if args.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {:?}", session.namespace)
        };
        write(session.out, &format!("There are no Rollouts in {place}.\n"))?;
        return next(session, args);
    }
    let mut text = "These Rollouts go:\n".to_owned();
    for rollout in &rollouts {
        text += &format!("  {}: {}\n", named(rollout), fate(rollout, args.without_controller));
    }
    write(session.out, &text)?;
    if args.dry_run {
        return write(session.out, "Nothing was done: this is a dry run.\n");
    }
    if !args.yes && !confirmed(session)? {
        return Err(Failure::Refused("nothing was done".to_owned()));
    }
    for rollout in &rollouts {
        delete(session, rollout).await?;
        if args.without_controller {
            take_finalizer_off(session, rollout).await?;
        }
    }
    until_gone(session, args, &rollouts).await?;
    next(session, args)
}

/// Asks the person at the terminal; where there is none, nobody can say yes.
pub fn at_terminal(session: &mut Session<'_>) -> Result<bool, Failure> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(Failure::Refused("nothing was done: nobody can be asked here, so say --yes".to_owned()));
    }
    write!(session.err, "Delete them? [y/N] ")?;
    session.err.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn named(rollout: &DynamicObject) -> String {
    format!("{}/{}", rollout.namespace().unwrap_or_default(), rollout.name_any())
}

fn is_held(rollout: &DynamicObject) -> bool {
    rollout.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// What becomes of a Rollout's routes.
fn fate(rollout: &DynamicObject, without_controller: bool) -> String {
    if !is_held(rollout) {
        return "moved no traffic".to_owned();
    }
    if rollout.data["spec"]["expose"].is_object() {
        return "its generated VirtualService goes with it: nobody is served by that any more".to_owned();
    }
    let status = match Listed::from(rollout) {
        Listed::Readable(rollout) => rollout.status,
        Listed::Unreadable(_) => None,
    };
    let Some(status) = status else {
        let routes = if without_controller { "stay as they are" } else { "go back to stable" };
        return format!("its routes {routes}");
    };
    let short = |predictor: &Option<Predictor>| {
        plain(&predictor.as_ref().map_or_else(|| "stable".to_owned(), Predictor::short))
    };
    let stable = short(&status.stable);
    match (without_controller, status.weight) {
        (_, 0) => format!("{stable} keeps all traffic"),
        (false, weight) => {
            format!("all traffic goes back to {stable}, {weight}% of it from {}", short(&status.canary))
        }
        (true, weight) => {
            format!("its routes stay as they are, with {weight}% for {}", short(&status.canary))
        }
    }
}

fn api(session: &Session<'_>, rollout: &DynamicObject) -> Api<DynamicObject> {
    let namespace = rollout.namespace().unwrap_or_default();
    Api::namespaced_with(session.client.clone(), &namespace, &ApiResource::erase::<Rollout>(&()))
}

/// Deletes just this one, and not another one of its name that was created meanwhile.
async fn delete(session: &Session<'_>, rollout: &DynamicObject) -> Result<(), Failure> {
    let preconditions = Preconditions { uid: rollout.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let (api, name) = (api(session, rollout), rollout.name_any());
    match session.ask("Rollout", api.delete(&name, &params)).await {
        Ok(_) | Err(Failure::Missing(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn take_finalizer_off(session: &Session<'_>, rollout: &DynamicObject) -> Result<(), Failure> {
    let (api, name) = (api(session, rollout), rollout.name_any());
    for _ in 0..TRIES {
        let Some(current) = session.ask("Rollout", api.get_opt(&name)).await? else { return Ok(()) };
        if current.uid() != rollout.uid() || !is_held(&current) {
            return Ok(());
        }
        let mut finalizers = current.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let patch = json!({
            "metadata": { "resourceVersion": current.resource_version(), "finalizers": finalizers },
        });
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = async {
            match api.patch(&name, &params, &patch).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(error),
            }
        };
        if session.ask("Rollout", patched).await? {
            return Ok(());
        }
    }
    Err(Failure::Other(format!("somebody else keeps writing the Rollout {}", named(rollout))))
}

async fn until_gone(
    session: &mut Session<'_>,
    args: &UninstallArgs,
    rollouts: &[DynamicObject],
) -> Result<(), Failure> {
    let limit = Instant::now() + args.wait.0;
    let mut waiting: Vec<&DynamicObject> = rollouts.iter().collect();
    loop {
        let there = get::all(session, &get::api(session, args.all_namespaces)).await?;
        let there: BTreeSet<_> = there.iter().filter_map(ResourceExt::uid).collect();
        let (left, gone): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|rollout| rollout.uid().is_some_and(|uid| there.contains(&uid)));
        for rollout in gone {
            write(session.out, &format!("{} is gone\n", named(rollout)))?;
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= limit {
            let rollouts = left.iter().map(|rollout| named(rollout)).collect();
            return Err(Failure::StillThere { rollouts, waited: args.wait.0 });
        }
        waiting = left;
        sleep(LOOK_EVERY).await;
    }
}

/// What is left to do for whoever uninstalls.
fn next(session: &mut Session<'_>, args: &UninstallArgs) -> Result<(), Failure> {
    if !args.all_namespaces || args.dry_run {
        return Ok(());
    }
    writeln!(
        session.err,
        "The controller can go, and then the kinds: kubectl delete -k deploy; kubectl delete -k crds"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_generated_route_it_is_said_that_it_goes() {
        let rollout = |expose: serde_json::Value| {
            let object = json!({
                "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
                "metadata": {"name": "iris", "finalizers": [FINALIZER]}, "spec": {"expose": expose},
            });
            serde_json::from_value::<DynamicObject>(object).unwrap()
        };
        assert!(fate(&rollout(json!({})), false).contains("generated VirtualService goes with it"));
        assert!(fate(&rollout(json!(null)), false).contains("go back to stable"));
    }
}
