//! `sluice approve|promote|decide|abort|retry|pause|resume`: what a person asks for, and what became of it.
//!
//! Asking is creating a `RolloutAction`. What it is about, the revision and the step, is what the status said when the
//! person asked: if the rollout has moved on in between, the controller refuses.

use std::{pin::pin, time::Duration};

use clap::{Args, ValueEnum};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource, ResourceExt,
    api::{ObjectMeta, PostParams},
    core::Status,
    runtime::{
        WatchStreamExt,
        watcher::{self, watch_object},
    },
};
use sluice_core::{
    Predictor,
    api::{
        ActionPhase, Do, GoDuration, Rollout, RolloutAction, RolloutActionSpec, RolloutStatus, ServiceTarget,
    },
    machine::Stage,
};

use tokio::time::{Instant, sleep};

use super::{
    Session,
    exit::Failure,
    get, names,
    output::{self, Plain, write},
    view::{Listed, plain},
};

/// The label by which the actions of a Rollout are found.
const ROLLOUT_LABEL: &str = "sluice.dev/rollout";
/// A label's value is not longer.
const LONGEST_LABEL: usize = 63;
/// A server's admission policies know a kind within some 5 s.
const LEARNS_WITHIN: Duration = Duration::from_secs(15);
/// How long after a first try, and each next one.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// What the server makes a name of is not longer.
const LONGEST_PREFIX: usize = 58;

/// Whom to ask, and why.
#[derive(Clone, Debug, Args)]
pub struct AskArgs {
    /// Name of the Rollout
    #[arg(value_parser = names::object)]
    pub name: String,
    /// Why, for the record
    #[arg(short, long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
    /// How long to wait for the controller's answer; 0s not at all
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub wait: GoDuration,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Plain,
}

/// What to promote.
#[derive(Clone, Debug, Args)]
pub struct PromoteArgs {
    /// Pass all steps and gates that are left, not only the current one
    #[arg(long)]
    pub full: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Whom to decide for.
#[derive(Clone, Debug, Args)]
pub struct DecideArgs {
    /// Which of the two users are to have
    #[arg(long, value_enum)]
    pub winner: Winner,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Who wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Winner {
    /// All traffic goes back to stable; the canary is not tried again until a retry.
    Stable,
    /// The canary is promoted.
    Canary,
}

impl Winner {
    /// What is asked for.
    pub fn what(self) -> Do {
        match self {
            Self::Stable => Do::DecideStable,
            Self::Canary => Do::DecideCanary,
        }
    }
}

/// As long as the API takes it.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if length > 1024 {
        return Err(format!("{length} characters are too many: at most 1024 are kept"));
    }
    Ok(text.to_owned())
}

/// Asks for `what`, waits for the answer and prints it.
pub async fn act(session: &mut Session<'_>, what: Do, args: &AskArgs) -> Result<(), Failure> {
    let object = get::one(session, &get::api(session, false), &args.name).await?;
    let (meta, spec) = match Listed::from(&object) {
        Listed::Readable(rollout) => {
            (rollout.metadata.clone(), ask(&rollout, what).map_err(Failure::Refused)?)
        }
        // The brake works whatever is wrong with the status.
        Listed::Unreadable(_) if matches!(what, Do::Abort | Do::Pause) => {
            (object.metadata.clone(), about(&args.name, what, None, None))
        }
        Listed::Unreadable(unreadable) => return Err(unreadable.into()),
    };
    let spec = RolloutActionSpec { reason: args.reason.clone(), ..spec };
    let api: Api<RolloutAction> = Api::namespaced(session.client.clone(), &session.namespace);
    let params = PostParams { field_manager: Some("sluice-cli".to_owned()), ..PostParams::default() };
    let action = action(&args.name, &meta, spec);
    let created = create(session, &api, &params, &action).await?;
    if args.wait.0.is_zero() {
        return print(session, args, &created, &format!("{} was created", reference(&created)));
    }
    let answered = answer(session, &api, &created, args.wait).await?;
    report(session, args, &answered.unwrap_or(created))
}

/// Creates an action. A server that has just started, or just learnt of the kinds, lets no policy decide about them for some
/// seconds, and says so; a brake must not fail by that. Any other failure is said at once.
async fn create(
    session: &mut Session<'_>,
    api: &Api<RolloutAction>,
    params: &PostParams,
    action: &RolloutAction,
) -> Result<RolloutAction, Failure> {
    let limit = Instant::now() + LEARNS_WITHIN;
    let mut said = false;
    loop {
        let created = async {
            match api.create(params, action).await {
                Err(kube::Error::Api(status)) if is_still_learning(&status) && Instant::now() < limit => {
                    Ok(None)
                }
                created => created.map(Some),
            }
        };
        if let Some(created) = session.ask("RolloutAction", created).await? {
            return Ok(created);
        }
        if !said {
            writeln!(
                session.err,
                "The cluster is still learning about RolloutActions: trying again for {}s.",
                LEARNS_WITHIN.as_secs()
            )?;
            said = true;
        }
        sleep(TRY_AGAIN).await;
    }
}

/// Whether this is what the server's admission policies answer for kinds that they have not heard of yet.
fn is_still_learning(status: &Status) -> bool {
    status.code == 503
        && status.message.contains("There can be a delay between when CustomResourceDefinitions")
}

/// What to ask for, of what the status says is current, or why there is certainly nothing to ask for. What is
/// uncertain is the controller's to say.
///
/// Abort and pause name no step: a brake must not fail because the rollout has moved on by one.
pub fn ask(rollout: &Rollout, what: Do) -> Result<RolloutActionSpec, String> {
    let name = rollout.name_any();
    let status = rollout.status.clone().unwrap_or_default();
    let stands = if status.message.is_empty() { String::new() } else { format!(" ({})", status.message) };
    let in_flight = match &status.stage {
        Stage::Step(_) => status.canary.as_ref().map(Predictor::revision),
        Stage::Pending | Stage::Idle | Stage::StatusLost | Stage::Released => None,
    };
    let step = status.progress.as_ref().map(|progress| progress.number);
    match what {
        Do::Abort | Do::Pause => Ok(about(&name, what, in_flight, None)),
        Do::Approve | Do::Promote | Do::PromoteFull | Do::DecideStable | Do::DecideCanary => {
            match in_flight {
                Some(revision) => {
                    Ok(about(&name, what, Some(revision), step.filter(|_| what != Do::PromoteFull)))
                }
                None => Err(format!("nothing is in flight: {name} is {}{stands}", status.phase)),
            }
        }
        Do::Retry => wanted(rollout, &status).map(|revision| about(&name, what, Some(revision), None)),
        Do::Resume if status.pause.is_none() && rollout.spec.paused => {
            Err("it is paused by its spec: set spec.paused to false".to_owned())
        }
        Do::Resume if status.pause.is_none() => {
            Err(format!("{name} is not paused: it is {}{stands}", status.phase))
        }
        Do::Resume => {
            let seen = [&status.canary, &status.stable].into_iter().flatten().next();
            seen.map(|predictor| about(&name, what, Some(predictor.revision()), None))
                .ok_or_else(|| format!("{name} has neither a canary nor a stable yet"))
        }
    }
}

/// The revision that the spec wants. Its port may be left to the Service, which has only one then; whoever can be
/// tried again is known to the status, port included.
fn wanted(rollout: &Rollout, status: &RolloutStatus) -> Result<String, String> {
    let target =
        rollout.spec.target.service.as_ref().ok_or("the target is no Service: there is nothing to retry")?;
    let namespace = rollout.namespace().unwrap_or_default();
    let is_it = |predictor: &&Predictor| {
        let ServiceTarget { name, port, subset, from: _ } = target;
        predictor.namespace == namespace
            && predictor.service == *name
            && predictor.subset == *subset
            && port.is_none_or(|port| port == predictor.port)
    };
    let tried = status.outcomes.iter().rev().map(|outcome| &outcome.predictor);
    let known = status.canary.iter().chain(tried).chain(&status.known).chain(&status.stable).find(is_it);
    match (known, target.port) {
        (Some(predictor), _) => Ok(predictor.revision()),
        (None, Some(port)) => {
            Ok(Predictor { subset: target.subset.clone(), ..Predictor::new(namespace, &target.name, port) }
                .revision())
        }
        (None, None) => Err(format!("{} was never tried: there is nothing to retry", target.name)),
    }
}

fn about(rollout: &str, what: Do, revision: Option<String>, step: Option<u32>) -> RolloutActionSpec {
    RolloutActionSpec { rollout: rollout.to_owned(), what, revision, step, reason: None }
}

/// The object to create: bound to this very Rollout, and gone with it.
fn action(name: &str, rollout: &ObjectMeta, spec: RolloutActionSpec) -> RolloutAction {
    let prefix = format!("{name}-{}", word(spec.what));
    let prefix: String = prefix.chars().take(LONGEST_PREFIX - 1).collect();
    let owner = rollout.uid.clone().map(|uid| OwnerReference {
        api_version: Rollout::api_version(&()).into_owned(),
        kind: Rollout::kind(&()).into_owned(),
        name: name.to_owned(),
        uid,
        ..OwnerReference::default()
    });
    let label = (name.len() <= LONGEST_LABEL).then(|| (ROLLOUT_LABEL.to_owned(), name.to_owned()));
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", prefix.trim_end_matches(['-', '.']))),
        namespace: rollout.namespace.clone(),
        labels: label.map(|label| [label].into()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    RolloutAction { metadata, ..RolloutAction::new("", spec) }
}

fn word(what: Do) -> &'static str {
    match what {
        Do::Approve => "approve",
        Do::Promote => "promote",
        Do::PromoteFull => "promote-full",
        Do::DecideStable | Do::DecideCanary => "decide",
        Do::Abort => "abort",
        Do::Retry => "retry",
        Do::Pause => "pause",
        Do::Resume => "resume",
    }
}

/// The action with what became of it; none where that did not come in time.
async fn answer(
    session: &Session<'_>,
    api: &Api<RolloutAction>,
    created: &RolloutAction,
    wait: GoDuration,
) -> Result<Option<RolloutAction>, Failure> {
    let mut seen = pin!(watch_object(api.clone(), &created.name_any()).default_backoff());
    let answered = async {
        while let Some(event) = seen.next().await {
            let error = match event {
                Ok(Some(action)) if action.status.is_some() => return Ok(Some(action)),
                Ok(Some(_) | None) => continue,
                Err(error) => error,
            };
            // Who may ask but not look gets no better by trying again; everything else may.
            if let watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) = error
            {
                let failure = Failure::from_kube(&error, &session.cluster, "RolloutAction");
                if matches!(failure, Failure::Cluster(_)) {
                    return Err(failure);
                }
            }
        }
        Ok(None)
    };
    tokio::time::timeout(wait.0, answered).await.unwrap_or(Ok(None))
}

/// Prints what became of an action; anything but "done" is a failure.
fn report(session: &mut Session<'_>, args: &AskArgs, action: &RolloutAction) -> Result<(), Failure> {
    let outcome = match &action.status {
        None => Err(Failure::Unanswered { action: reference(action), waited: args.wait.0 }),
        Some(status) => {
            let message = status.message.clone().unwrap_or_else(|| format!("{:?}", status.phase));
            match status.phase {
                ActionPhase::Done => {
                    let decision =
                        status.decision.map_or_else(String::new, |seq| format!(" (decision {seq})"));
                    Ok(format!("{}: {message}{decision}", args.name))
                }
                ActionPhase::Refused => Err(Failure::Refused(format!("refused: {message}"))),
            }
        }
    };
    match outcome {
        Ok(text) => print(session, args, action, &text),
        Err(failure) => {
            if args.output != Plain::Text {
                print(session, args, action, "")?;
            }
            Err(failure)
        }
    }
}

fn print(
    session: &mut Session<'_>,
    args: &AskArgs,
    action: &RolloutAction,
    text: &str,
) -> Result<(), Failure> {
    let text = match args.output {
        Plain::Text => format!("{}\n", plain(text)),
        Plain::Json => output::json(&output::without_managed_fields(action))?,
        Plain::Yaml => output::yaml(&output::without_managed_fields(action))?,
        Plain::Name => format!("{}\n", reference(action)),
    };
    write(session.out, &text)
}

/// What `kubectl` takes as an argument.
fn reference(action: &RolloutAction) -> String {
    format!("rolloutaction.sluice.dev/{}", action.name_any())
}
