//! Rehearsals: a timeline, or the figures of many.

use std::time::Duration;

use sluice_core::{
    api::{ActionPhase, GoDuration},
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

/// What was decided and what people were answered, and how it ended.
pub fn timeline(name: &str, timeline: &Timeline, screen: &Screen) -> String {
    let mut lines = vec![Paint::Bold.on(screen.colour, &format!("{}, rehearsed", plain(name)))];
    let entries = entries(timeline);
    let times: Vec<String> = entries.iter().map(|entry| time(entry.at)).collect();
    let column = |cells: &mut dyn Iterator<Item = &String>| cells.map(|cell| width(cell)).max().unwrap_or(0);
    let first = column(&mut times.iter());
    let second = column(&mut entries.iter().map(|entry| &entry.what));
    for (at, entry) in times.iter().zip(&entries) {
        lines.push(format!("  {at:>first$}  {}  {}", pad(&entry.what, second), entry.came_of_it));
        let why = indented(&plain(entry.why), first + 4, screen);
        lines.extend(why.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
    }
    lines.push(String::new());
    lines.extend(wrap(&ended(timeline), screen.width));
    lines.join("\n") + "\n"
}

/// Something that happened.
struct Entry<'t> {
    at: Duration,
    what: String,
    came_of_it: String,
    why: &'t str,
}

/// All of it in order, at one time the decisions first.
fn entries(timeline: &Timeline) -> Vec<Entry<'_>> {
    let decisions = timeline.decisions.iter().map(|(at, decision)| {
        let came_of_it = if decision.from_weight == decision.weight {
            format!("{}%", decision.weight)
        } else {
            format!("{}% → {}%", decision.from_weight, decision.weight)
        };
        Entry { at: *at, what: format!("{:?}", decision.kind), came_of_it, why: &decision.message }
    });
    let replies = timeline.replies.iter().map(|reply| {
        let came_of_it = match reply.phase {
            ActionPhase::Refused => "refused",
            ActionPhase::Done => "nothing to do",
        };
        Entry {
            at: reply.at,
            what: format!("{:?}", reply.what),
            came_of_it: came_of_it.to_owned(),
            why: &reply.message,
        }
    });
    let mut entries: Vec<Entry<'_>> = decisions.chain(replies).collect();
    entries.sort_by_key(|entry| entry.at);
    entries
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
        format!("{}, rehearsed {} times", plain(name), thousands(runs)),
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
