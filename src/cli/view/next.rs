//! What a person can do next, as commands that can be typed as they stand.

use kube::ResourceExt;
use sluice_core::{
    api::{Phase, Reason, Rollout, RolloutStatus},
    target::StableField,
};

use super::{
    Screen,
    detail::{indented, title},
    steps::in_flight,
    text::{Paint, pad, width},
};

/// Something to do: a command of ours and what it does, or something else in a sentence.
enum Step {
    Command(&'static str, String),
    Sentence(String),
}

pub(super) fn section(rollout: &Rollout, status: &RolloutStatus, screen: &Screen) -> Vec<String> {
    let steps = steps(rollout, status);
    if steps.is_empty() {
        return Vec::new();
    }
    let name = rollout.name_any();
    let commands: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Command(verb, _) => command(verb, &name, screen),
            Step::Sentence(_) => String::new(),
        })
        .collect();
    let longest = commands.iter().map(|command| width(command)).max().unwrap_or(0);
    let mut lines = vec![title("WHAT YOU CAN DO", "", screen)];
    for (step, command) in steps.iter().zip(&commands) {
        match step {
            Step::Sentence(sentence) => lines.extend(indented(sentence, 2, screen)),
            Step::Command(_, what) => {
                let fits = screen.width.is_none_or(|columns| 2 + longest + 2 + width(what) <= columns);
                if fits {
                    let command = Paint::Cyan.on(screen.colour, &pad(command, longest));
                    lines.push(format!("  {command}  {what}"));
                } else {
                    lines.push(format!("  {}", Paint::Cyan.on(screen.colour, command)));
                    lines.extend(indented(what, 6, screen));
                }
            }
        }
    }
    lines
}

fn command(verb: &str, name: &str, screen: &Screen) -> String {
    // `promote --full NAME` reads worse than the option at the end.
    match verb.split_once(' ') {
        Some((verb, option)) => format!("{} {verb} {name} {option}", screen.program),
        None => format!("{} {verb} {name}", screen.program),
    }
}

fn steps(rollout: &Rollout, status: &RolloutStatus) -> Vec<Step> {
    let say = |text: &str| Step::Sentence(text.to_owned());
    let run = |verb, text: &str| Step::Command(verb, text.to_owned());
    let abort = || run("abort", "all traffic back to stable");
    let pass = || run("promote", "pass this step without waiting for the rest of it");
    let step =
        status.progress.as_ref().map_or_else(String::new, |progress| format!("step {}", progress.number));
    match status.phase {
        Phase::Pending => pending(rollout, status),
        Phase::Healthy | Phase::Unknown => Vec::new(),
        Phase::Progressing | Phase::Promoting if in_flight(status).is_none() => Vec::new(),
        Phase::Progressing => vec![run("pause", "stop every increase"), pass(), abort()],
        Phase::Promoting => vec![abort()],
        Phase::Waiting => match status.reason {
            Some(Reason::WaitingForApproval) => {
                vec![Step::Command("approve", format!("open the gate of {step}")), abort()]
            }
            Some(Reason::WaitingForDecision) => vec![
                run("decide --winner canary", "make the canary stable"),
                run("decide --winner stable", "all traffic back to stable, which is no failure"),
            ],
            Some(Reason::Frozen) => {
                let end = "It goes on when whoever may ends the freeze: `thaw`, with -A for the cluster.";
                std::iter::once(say(end)).chain(in_flight(status).map(|_| abort())).collect()
            }
            Some(Reason::Paused | Reason::Inconclusive) if rollout.spec.paused && status.pause.is_none() => {
                vec![say("Set spec.paused to false to go on."), abort()]
            }
            Some(Reason::Paused | Reason::Inconclusive) => vec![run("resume", "go on"), abort()],
            Some(Reason::NoEvidence) => vec![
                say("See that requests reach the canary, and that the metrics source answers."),
                run("promote", "pass this step without evidence"),
                abort(),
            ],
            Some(_) | None if in_flight(status).is_some() => vec![abort()],
            Some(_) | None => Vec::new(),
        },
        Phase::RolledBack => vec![
            say(
                "A new revision in spec.target starts a new rollout; this one is not tried again unless asked:",
            ),
            run("retry", "try the same revision again from the first step"),
        ],
        Phase::Stalled => match status.reason {
            Some(Reason::StatusLost) => vec![run("retry", "try the wanted revision from the first step")],
            Some(Reason::StableNotReady) => vec![say("Bring a ready endpoint of stable back.")],
            Some(Reason::NotReadyInTime) => {
                vec![say("It goes on by itself once the canary has a ready endpoint."), abort()]
            }
            Some(_) | None => vec![run("retry", "try again from the first step"), abort()],
        },
    }
}

/// What would make the spec acceptable.
fn pending(rollout: &Rollout, status: &RolloutStatus) -> Vec<Step> {
    let sentence = match status.reason {
        Some(Reason::AmbiguousStable) => {
            let field = StableField::of(&rollout.spec);
            let what = field.what();
            let sentence = format!("Name the {what} that is stable in {field}: the route does not tell.");
            return vec![Step::Sentence(sentence)];
        }
        Some(Reason::TargetNotFound) => "Create the Service that spec.target names, or name another one.",
        Some(Reason::VirtualServiceNotFound | Reason::RouteNotFound) => {
            "Create the route that spec.routes names, or name another one."
        }
        Some(Reason::NotAllowed) => {
            "Ask the owner of the VirtualService for the annotation sluice.dev/allow-from."
        }
        Some(Reason::NotDelegated) => {
            "Let the VirtualService by which users come in delegate to the one that has this Rollout's name."
        }
        Some(Reason::RouteTaken) => {
            "Give the route to one Rollout only: delete the other, or take the route out of it."
        }
        Some(Reason::KindsOutdated) => {
            "Update the kinds in the cluster: kubectl apply --server-side -k crds of the controller's version."
        }
        Some(Reason::InvalidSpec | Reason::Unsupported | Reason::InvalidQuery | Reason::UnknownSource) => {
            "Mend the spec as said above."
        }
        Some(_) | None => return Vec::new(),
    };
    vec![Step::Sentence(sentence.to_owned())]
}
