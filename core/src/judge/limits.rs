//! Absolute rules: the canary against a limit, over a window of time.

use std::fmt;

use super::{
    Bound, Look, Verdict,
    opinion::Opinion,
    window::Window,
    words::{duration, percent, ratio, ratio_beside},
};
use crate::api::Share;

/// Bad requests of the canary and of stable.
pub(super) type Bad = (u64, u64);

/// At most `max` of the requests may fail.
pub(super) fn errors(max: Share, window: &Window) -> (Bad, Opinion) {
    let bad = (window.canary.errors, window.stable.errors);
    let breached = exceeds(bad.0, window.canary.requests, max.fraction());
    let message = format!(
        "{} of the canary's requests failed, at most {max} may; stable: {}",
        ratio_beside(max.fraction(), bad.0, window.canary.requests),
        ratio(bad.1, window.stable.requests)
    );
    (bad, Opinion::limit(verdict(breached), message))
}

/// At most `1 - quantile` of the requests may take longer than `max`.
pub(super) fn latency(quantile: f64, max: Bound, window: &Window) -> (Bad, Opinion) {
    let allowed = 1.0 - quantile;
    let of_stable = |bound: Bound| window.stable.slower_than(bound).unwrap_or(0);
    let say = |bound: Bound, bad: u64| {
        let stable = of_stable(bound);
        let than = fmt::from_fn(|f| {
            if bound == max { Ok(()) } else { write!(f, " take longer than {}", duration(max)) }
        });
        let message = format!(
            "{} of the canary's requests took longer than {}, at most {} may{than}; stable: {}",
            ratio_beside(allowed, bad, window.canary.requests),
            duration(bound),
            percent(allowed),
            ratio(stable, window.stable.requests)
        );
        ((bad, stable), message)
    };
    let breached = |bad: u64| exceeds(bad, window.canary.requests, allowed);
    if let Some(bad) = window.canary.slower_than(max) {
        let (both, message) = say(max, bad);
        return (both, Opinion::limit(verdict(breached(bad)), message));
    }
    // The limit lies between two buckets: what is slower than the next higher bound is slower than the limit, and
    // what is not slower than the next lower one is not.
    if let Some((bound, bad)) = window.canary.above(max).filter(|(_, bad)| breached(*bad)) {
        let (both, message) = say(bound, bad);
        return (both, Opinion::limit(Verdict::Fail, message));
    }
    if let Some((bound, bad)) = window.canary.below(max).filter(|(_, bad)| !breached(*bad)) {
        let (both, message) = say(bound, bad);
        return (both, Opinion::limit(Verdict::Pass, message));
    }
    let known: Vec<String> = window.canary.bounds().map(|bound| duration(bound).to_string()).collect();
    let message = format!(
        "the histogram has no bucket at {}, and its neighbours ({}) do not tell",
        duration(max),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    );
    ((0, 0), Opinion::limit(Verdict::Inconclusive, message))
}

/// The query's number must lie between `min` and `max`.
pub(super) fn queried(name: &str, min: Option<f64>, max: Option<f64>, look: &Look) -> Opinion {
    let value = match look.queries.get(name) {
        None => return Opinion::unknown("the query was not asked"),
        Some(Err(trouble)) => return Opinion::trouble(trouble),
        Some(Ok(value)) if !value.is_finite() => {
            return Opinion::unknown(format!("the query answered {value}, which is no number to judge"));
        }
        Some(Ok(value)) => *value,
    };
    let (breached, message) = match (min, max) {
        (Some(min), _) if value < min => {
            (true, format!("the query answered {value}, at least {min} is expected"))
        }
        (_, Some(max)) if value > max => {
            (true, format!("the query answered {value}, at most {max} is expected"))
        }
        _ => (false, format!("the query answered {value}, within its limits")),
    };
    Opinion { value: Some(value), ..Opinion::limit(verdict(breached), message) }
}

fn verdict(breached: bool) -> Verdict {
    if breached { Verdict::Fail } else { Verdict::Pass }
}

/// Whether `bad` of `all` is more than `share`. Exactly at the limit passes, also where the limit has no exact float.
#[allow(clippy::cast_precision_loss)]
fn exceeds(bad: u64, all: u64, share: f64) -> bool {
    bad as f64 > share * all as f64 * (1.0 + 1e-12)
}
