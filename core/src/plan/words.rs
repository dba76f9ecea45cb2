//! What a check asks for, in words: the same on the record of a decision as in what the command shows.

use std::time::Duration;

use super::{PlannedCheck, Rule};
use crate::{
    api::{Direction, GoDuration, Share},
    judge::Indicator,
};

impl PlannedCheck {
    /// What it asks for, in words: `at most 1% of the requests fail`.
    pub fn in_words(&self) -> String {
        let compared = self.comparison().map(|(versus, indicator)| no_evidence(versus.max_ratio, indicator));
        let rules: Vec<String> = limit(&self.rule).into_iter().chain(compared).collect();
        rules.join("; ")
    }
}

/// What a comparison with stable must not show.
fn no_evidence(max_ratio: f64, indicator: Indicator) -> String {
    let as_often =
        if max_ratio > 1.0 { format!("{max_ratio} times as often as") } else { "more often than".to_owned() };
    let beyond = match indicator {
        Indicator::Errors => return format!("no evidence that it fails {as_often} stable"),
        Indicator::Latency => return format!("no evidence that it is slow {as_often} stable"),
        Indicator::Shares(Direction::MoreIsWorse) => "counter grows, as a share, to more than",
        Indicator::Shares(Direction::MoreIsBetter) => "counter grows, as a share, to less than",
        Indicator::Scores(Direction::MoreIsWorse, _) => "number is more than",
        Indicator::Scores(Direction::MoreIsBetter, _) => "number is less than",
    };
    let stable = match (indicator.direction(), max_ratio > 1.0) {
        (_, false) => "stable's".to_owned(),
        (Direction::MoreIsWorse, true) => format!("{max_ratio} times stable's"),
        (Direction::MoreIsBetter, true) => format!("stable's divided by {max_ratio}"),
    };
    format!("no evidence that its {beyond} {stable}")
}

fn limit(rule: &Rule) -> Option<String> {
    Some(match rule {
        Rule::Errors { max } => format!("at most {} of the requests fail", (*max)?),
        Rule::Latency { quantile, max } => {
            let limit = GoDuration(Duration::from_micros((*max)?.0));
            let slow = Share::new(1.0 - quantile).map_or_else(String::new, |share| share.to_string());
            format!("at most {slow} of the requests take longer than {limit}")
        }
        Rule::Query { min, max, .. } => match (min, max) {
            (Some(min), Some(max)) => format!("the query answers {min} to {max}"),
            (Some(min), None) => format!("the query answers at least {min}"),
            (None, Some(max)) => format!("the query answers at most {max}"),
            (None, None) => return None,
        },
    })
}
