//! Rehearsals: a timeline, or the figures of many.

use std::time::Duration;

use sluice_core::{
    api::GoDuration,
    simulate::{Ending, Held, Tally, Timeline},
};

use super::{
    Screen,
    detail::indented,
    text::{Paint, pad, plain, share, thousands, width, wrap},
};

/// How a rehearsal ended, in a word, and why.
pub fn outcome(ending: &Ending) -> (String, Option<String>) {
    match ending {
        Ending::Promoted => ("Promoted".to_owned(), None),
        Ending::Over { outcome, reason, .. } => (format!("{outcome:?}"), Some(reason.to_string())),
        Ending::Held(Held { phase, reason, .. }) => {
            ("Held".to_owned(), Some(reason.map_or_else(|| phase.to_string(), |reason| reason.to_string())))
        }
    }
}

/// What was decided, and how it ended.
pub fn timeline(name: &str, timeline: &Timeline, screen: &Screen) -> String {
    let mut lines = vec![Paint::Bold.on(screen.colour, &format!("{name}, rehearsed"))];
    let times: Vec<String> = timeline.decisions.iter().map(|(at, _)| time(*at)).collect();
    let kinds: Vec<String> =
        timeline.decisions.iter().map(|(_, decision)| format!("{:?}", decision.kind)).collect();
    let column = |cells: &[String]| cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
    let (first, second) = (column(&times), column(&kinds));
    for ((at, kind), (_, decision)) in times.iter().zip(&kinds).zip(&timeline.decisions) {
        let weight = if decision.from_weight == decision.weight {
            format!("{}%", decision.weight)
        } else {
            format!("{}% → {}%", decision.from_weight, decision.weight)
        };
        lines.push(format!("  {at:>first$}  {}  {weight}", pad(kind, second)));
        let why = indented(&plain(&decision.message), first + 4, screen);
        lines.extend(why.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
    }
    lines.push(String::new());
    lines.extend(wrap(&ended(timeline), screen.width));
    lines.join("\n") + "\n"
}

fn ended(timeline: &Timeline) -> String {
    let at = time(timeline.at);
    let ended = match &timeline.ending {
        Ending::Promoted => format!("Promoted after {at}."),
        Ending::Over { outcome, reason, at } => format!("{outcome:?} after {}: {reason}.", time(*at)),
        Ending::Held(held) => {
            format!("Not ended when the scenario was, after {at}: {}, {}.", held.phase, plain(&held.message))
        }
    };
    let users = timeline.users;
    let bad = if users.requests == 0 {
        String::new()
    } else {
        format!(" ({})", share(users.errors, users.requests))
    };
    format!(
        "{ended} Users got {} answers of the canary, {} of them bad{bad}.",
        thousands(users.requests),
        thousands(users.errors)
    )
}

/// To the second: a rehearsal is no more exact than its looks.
pub(super) fn time(time: Duration) -> String {
    GoDuration(Duration::from_secs(time.as_secs())).to_string()
}

/// The figures of many rehearsals; of a `healthy` canary every rollback is a false one.
pub fn tally(name: &str, tally: &Tally, healthy: bool) -> String {
    let runs = tally.runs();
    let rolled_back = tally.rolled_back() as u64;
    let (from, to) = tally.interval(rolled_back);
    let line = |what: &str, count: u64| {
        format!("  {} {} ({})", pad(what, 16), thousands(count), share(count, runs.max(1)))
    };
    let mut lines = vec![
        format!("{name}, rehearsed {} times", thousands(runs)),
        line("promoted", tally.promoted),
        line("rolled back", rolled_back),
        line("ended otherwise", tally.over - rolled_back),
        line("not ended", tally.held),
        format!(
            "  With 95% confidence {:.2}% to {:.2}% of such rollouts are rolled back.",
            from * 100.0,
            to * 100.0
        ),
    ];
    if healthy {
        lines.push(
            "  The canary is never worse than stable: each of these rollbacks is a false one.".to_owned(),
        );
    }
    if let (Some(half), Some(most)) = (tally.time_to_rollback(0.5), tally.time_to_rollback(0.95)) {
        lines.push(format!("  Half of the rollbacks came within {}, 95% within {}.", time(half), time(most)));
    }
    lines.push(format!(
        "  Users got {} bad answers of the canary in a rollout, on average.",
        thousands(tally.errors / runs.max(1))
    ));
    lines.join("\n") + "\n"
}
