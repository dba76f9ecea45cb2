//! What a Rollout is measured by, as it is right now.

use std::time::Duration;

use chrono::SecondsFormat;
use serde_json::{Value, json};
use sluice_core::{
    Predictor,
    api::GoDuration,
    judge::{Bound, Counts, Trouble},
    plan::{MetricsPlan, PlannedCheck, Rule},
};

use super::{
    Screen,
    checks::rule,
    detail::{indented, title},
    text::{Paint, pad, plain, share, thousands, width},
};
use crate::metrics::{Answered, Seen, Survey};

/// What was found out about a Rollout's metrics.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Its name.
    pub rollout: String,
    /// Its namespace.
    pub namespace: String,
    /// Where its numbers come from.
    pub metrics: MetricsPlan,
    /// Stable, and the canary where there is one or will be.
    pub predictors: Vec<Predictor>,
    /// Its checks.
    pub checks: Vec<PlannedCheck>,
    /// What was found.
    pub survey: Survey,
}

/// What is called what in an arm's line.
const ARMS: [&str; 2] = ["stable", "canary"];

/// What a check can make of the bounds that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// A bucket ends at the limit.
    Exact,
    /// The limit lies between these.
    Between(Option<Bound>, Option<Bound>),
    /// There are no buckets.
    Nowhere,
}

impl Examined {
    fn counts(&self) -> [Option<&Counts>; 2] {
        let counts = self.survey.counts.as_ref().ok();
        [counts.map(|counts| &counts.stable), counts.map(|counts| &counts.canary)]
    }

    /// What the query of a check gave; two things where a counter and its total are compared.
    fn answers(&self, check: &PlannedCheck) -> impl Iterator<Item = &Answered> {
        self.survey.answers.iter().filter(|answered| answered.check == check.name)
    }

    /// Where a limit lies among the bounds that all histograms have.
    fn at(&self, limit: Bound) -> At {
        let histograms = self.survey.arms.iter().filter(|seen| seen.histograms > 0);
        let common = histograms.map(|seen| seen.bounds.clone()).reduce(|common, bounds| &common & &bounds);
        match common {
            None => At::Nowhere,
            Some(bounds) if bounds.is_empty() => At::Nowhere,
            Some(bounds) if bounds.contains(&limit) => At::Exact,
            Some(bounds) => {
                At::Between(bounds.range(..limit).next_back().copied(), bounds.range(limit..).next().copied())
            }
        }
    }

    /// Everything, for programs.
    pub fn as_json(&self) -> Value {
        let survey = &self.survey;
        let source = match &self.metrics {
            MetricsPlan::Source { name, .. } => json!({"source": name}),
            MetricsPlan::Scrape { port, path, .. } => json!({"scrape": {"port": port, "path": path}}),
        };
        let arms = self.predictors.iter().zip(ARMS).zip(self.counts()).zip(&survey.arms);
        let arms: Vec<Value> = arms
            .map(|(((predictor, role), counts), seen)| {
                json!({
                    "role": role, "revision": predictor.revision(), "counted": counts,
                    "counters": seen.counters, "reporters": seen.reporters, "histograms": seen.histograms,
                    "nativeHistograms": seen.native,
                })
            })
            .collect();
        let gaps: Vec<Value> = survey
            .gaps
            .iter()
            .map(|gap| json!({"what": gap.what, "advice": gap.advice, "matters": gap.matters}))
            .collect();
        json!({
            "rollout": self.rollout, "namespace": self.namespace, "profile": survey.profile, "from": source,
            "since": survey.since.to_rfc3339_opts(SecondsFormat::Millis, true),
            "until": survey.until.to_rfc3339_opts(SecondsFormat::Millis, true),
            "asked": survey.asked, "arms": arms, "missing": gaps,
            "trouble": survey.counts.as_ref().err().map(ToString::to_string),
            "checks": self.checks.iter().map(|check| self.check_as_json(check)).collect::<Vec<_>>(),
        })
    }

    fn check_as_json(&self, check: &PlannedCheck) -> Value {
        let mut object = json!({"name": check.name, "rule": rule(check)});
        match &check.rule {
            Rule::Errors { .. } => object["indicator"] = json!("errors"),
            Rule::Latency { max, .. } => {
                object["indicator"] = json!("latency");
                if let Some(limit) = max {
                    object["limitMicros"] = json!(limit);
                    object["bound"] = match self.at(*limit) {
                        At::Exact => json!("exact"),
                        At::Between(lower, higher) => json!({"between": [lower, higher]}),
                        At::Nowhere => Value::Null,
                    };
                }
            }
            Rule::Query { .. } => {
                object["indicator"] = json!("query");
                let (totals, answers): (Vec<_>, Vec<_>) =
                    self.answers(check).partition(|answered| answered.total);
                let shown = |answered: &Answered| {
                    let number = |answer: &Result<f64, Trouble>| answer.as_ref().ok().copied();
                    json!({
                        "promql": answered.promql,
                        "answer": number(&answered.answer),
                        "stable": answered.stable.as_ref().and_then(number),
                    })
                };
                if let (Some(answered), Value::Object(object)) = (answers.first(), &mut object) {
                    let Value::Object(fields) = shown(answered) else { return Value::Null };
                    object.extend(fields);
                }
                if let Some(total) = totals.first() {
                    object["total"] = shown(total);
                }
            }
        }
        object
    }
}

/// All of it for people.
pub fn examined(examined: &Examined, screen: &Screen) -> String {
    let sections = [
        head(examined, screen),
        arms(examined, screen),
        checks(examined, screen),
        asked(&examined.survey, screen),
        missing(&examined.survey, screen),
    ];
    let shown: Vec<String> =
        sections.into_iter().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n")).collect();
    shown.join("\n\n") + "\n"
}

fn head(examined: &Examined, screen: &Screen) -> Vec<String> {
    let from = match &examined.metrics {
        MetricsPlan::Source { name, .. } => format!("source {name}"),
        MetricsPlan::Scrape { .. } => "the pods themselves".to_owned(),
    };
    let Survey { profile, since, until, .. } = &examined.survey;
    let mut remark = format!("profile {profile}, from {from}");
    if since < until {
        let reach = GoDuration((*until - *since).to_std().unwrap_or_default());
        remark = format!("{remark}, the last {reach}");
    }
    let name = format!("{} in {}", plain(&examined.rollout), plain(&examined.namespace));
    let mut lines = vec![Paint::Bold.on(screen.colour, &name)];
    lines.extend(indented(&plain(&remark), 2, screen));
    lines
}

/// A line for each arm.
fn arms(examined: &Examined, screen: &Screen) -> Vec<String> {
    let rows: Vec<[String; 5]> = examined
        .predictors
        .iter()
        .zip(ARMS)
        .zip(examined.counts())
        .zip(&examined.survey.arms)
        .map(|(((predictor, role), counts), seen)| {
            let (requests, failed) = match counts {
                None => ("-".to_owned(), "-".to_owned()),
                Some(counts) => (thousands(counts.requests), failed(counts)),
            };
            [role.to_owned(), requests, failed, series(seen), plain(&predictor.to_string())]
        })
        .collect();
    let titles = ["ARM", "REQUESTS", "FAILED", "SERIES", "PREDICTOR"];
    let column =
        |index: usize| rows.iter().map(|row| width(&row[index])).max().unwrap_or(0).max(width(titles[index]));
    let joined = |cells: [&str; 5]| {
        let padded: Vec<String> =
            cells.iter().enumerate().map(|(index, cell)| pad(cell, column(index))).collect();
        format!("  {}", padded.join("  ").trim_end())
    };
    let mut lines = vec![Paint::Dim.on(screen.colour, &joined(titles))];
    lines.extend(rows.iter().map(|row| joined(row.each_ref().map(String::as_str))));
    lines
}

fn failed(counts: &Counts) -> String {
    match counts.requests {
        0 => "-".to_owned(),
        requests => format!("{} ({})", thousands(counts.errors), share(counts.errors, requests)),
    }
}

fn series(seen: &Seen) -> String {
    if seen.counters == 0 {
        return "none".to_owned();
    }
    let native = if seen.native { " native" } else { "" };
    let histograms = if seen.histograms == 0 {
        String::new()
    } else {
        format!(", {}{native} histogram{}", seen.histograms, if seen.histograms == 1 { "" } else { "s" })
    };
    format!("{}{histograms} of {}", seen.counters, seen.reporters)
}

/// What each check makes of it.
fn checks(examined: &Examined, screen: &Screen) -> Vec<String> {
    if examined.checks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![title("CHECKS", "", screen)];
    for check in &examined.checks {
        lines.extend(indented(&format!("{}: {}", plain(&check.name), rule(check)), 2, screen));
        for line in finds(examined, check) {
            lines.extend(indented(&plain(&line), 4, screen));
        }
    }
    lines
}

fn finds(examined: &Examined, check: &PlannedCheck) -> Vec<String> {
    match &check.rule {
        Rule::Errors { .. } | Rule::Latency { max: None, .. } => Vec::new(),
        Rule::Latency { max: Some(limit), .. } => latency(examined, *limit),
        Rule::Query { .. } => examined.answers(check).flat_map(answers).collect(),
    }
}

/// What a query answers, about both where they are compared.
fn answers(answered: &Answered) -> Vec<String> {
    let what = if answered.total { "in all: " } else { "" };
    let number = |answer: &Result<f64, Trouble>| match answer {
        Ok(number) => number.to_string(),
        Err(trouble) => trouble.to_string(),
    };
    let canary = number(&answered.answer);
    match &answered.stable {
        Some(stable) => vec![format!("{what}canary {canary}"), format!("{what}stable {}", number(stable))],
        None if answered.answer.is_ok() => vec![format!("answers {canary}")],
        None => vec![canary],
    }
}

fn latency(examined: &Examined, limit: Bound) -> Vec<String> {
    let (bounds, words) = match examined.at(limit) {
        At::Nowhere => return vec!["there is no histogram to tell".to_owned()],
        At::Exact => (vec![limit], "is a bound of the histograms".to_owned()),
        At::Between(lower, higher) => {
            let bounds: Vec<Bound> = lower.into_iter().chain(higher).collect();
            let neighbours: Vec<String> = bounds.iter().map(|bound| time(*bound)).collect();
            let words =
                format!("is no bound of the histograms: it is judged by {}", neighbours.join(" and "));
            (bounds, words)
        }
    };
    let mut lines = vec![format!("{} {words}", time(limit))];
    for ((_, role), counts) in examined.predictors.iter().zip(ARMS).zip(examined.counts()) {
        let Some(counts) = counts.filter(|counts| counts.requests > 0) else { continue };
        let slower: Vec<String> = bounds
            .iter()
            .filter_map(|bound| {
                let slow = *counts.slower.get(bound)?;
                let part = share(slow, counts.requests);
                Some(format!(
                    "{} of {} ({part}) took longer than {}",
                    thousands(slow),
                    thousands(counts.requests),
                    time(*bound)
                ))
            })
            .collect();
        if !slower.is_empty() {
            lines.push(format!("{role}: {}", slower.join(", ")));
        }
    }
    lines
}

fn time(bound: Bound) -> String {
    GoDuration(Duration::from_micros(bound.0)).to_string()
}

fn asked(survey: &Survey, screen: &Screen) -> Vec<String> {
    if survey.asked.is_empty() && survey.answers.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![title("ASKED", "", screen)];
    let queries = survey.answers.iter().map(|answered| &answered.promql);
    for question in survey.asked.iter().chain(queries) {
        lines.extend(indented(&plain(question), 2, screen));
    }
    lines
}

fn missing(survey: &Survey, screen: &Screen) -> Vec<String> {
    if survey.gaps.is_empty() {
        return vec![Paint::Green.on(screen.colour, "Nothing is missing.")];
    }
    let mut lines = vec![title("MISSING", "", screen)];
    for gap in &survey.gaps {
        let (mark, paint) = if gap.matters { ("✗", Paint::Red) } else { ("?", Paint::Yellow) };
        let what = indented(&plain(&gap.what), 4, screen).join("\n");
        lines.push(format!("  {} {}", paint.on(screen.colour, mark), what.trim_start()));
        let advice = indented(&plain(&gap.advice), 4, screen);
        lines.extend(advice.into_iter().map(|line| Paint::Dim.on(screen.colour, &line)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use chrono::DateTime;
    use insta::assert_snapshot;
    use sluice_core::{
        api,
        judge::{Measurement, Trouble, TroubleKind},
        plan::Plan,
    };

    use super::*;
    use crate::{
        cli::view::fixtures::screen,
        metrics::{Answered, Gap},
    };

    fn examined_one() -> Examined {
        let spec = json!({
            "target": {"service": {"name": "iris-v2", "port": 8000}}, "routes": [{"virtualService": "iris"}],
            "steps": [{"weight": 5}],
            "checks": [
                {"name": "errors", "errors": {"max": "1%"}},
                {"name": "p99", "latency": {"quantile": 0.99, "max": "250ms"}},
                {"name": "p95", "latency": {"quantile": 0.95, "max": "300ms"}},
                {"name": "accuracy", "query": {"promql": "avg(accuracy)", "min": 0.9}},
            ],
        });
        let plan = Plan::new(&serde_json::from_value(spec).unwrap(), "models").unwrap();
        let counts = |requests, errors, slower: [u64; 3]| Counts {
            requests,
            errors,
            slower: [250_000, 300_000, 500_000]
                .map(Bound)
                .into_iter()
                .zip(slower)
                .filter(|(bound, _)| bound.0 != 300_000)
                .collect(),
        };
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        let seen = Seen {
            counters: 3,
            reporters: 2,
            histograms: 2,
            native: false,
            bounds: BTreeSet::from([Bound(250_000), Bound(500_000)]),
        };
        let trouble = Trouble {
            kind: TroubleKind::NoData,
            message: "metrics source default gave an empty vector: expected one number".to_owned(),
        };
        Examined {
            rollout: "iris".into(),
            namespace: "models".into(),
            metrics: MetricsPlan::Source { name: "default".into(), profile: api::Profile::Istio, labels: BTreeMap::new() },
            predictors: vec![Predictor::new("models", "iris-v1", 8000), Predictor::new("models", "iris-v2", 8000)],
            checks: plan.checks,
            survey: Survey {
                profile: "istio",
                since: at(-300),
                until: at(0),
                asked: vec![r#"{__name__=~"istio_request_duration_milliseconds|istio_request_duration_milliseconds_bucket|istio_requests_total",reporter="source"}[300s]"#.into()],
                counts: Ok(Measurement { stable: counts(123_456, 120, [3_000, 0, 17]), canary: counts(640, 13, [40, 0, 2]), retiring: BTreeMap::new() }),
                arms: vec![seen.clone(), seen],
                answers: vec![Answered { check: "accuracy".into(), promql: "avg(accuracy)".into(), total: false, answer: Err(trouble), stable: None }],
                gaps: vec![Gap {
                    what: "check accuracy: metrics source default gave an empty vector: expected one number".into(),
                    advice: "see that requests reach the predictor, and that it is scraped".into(),
                    matters: true,
                }],
            },
        }
    }

    #[test]
    fn at_80_columns_everything_is_there_and_nothing_is_longer() {
        let text = examined(&examined_one(), &screen(80));
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        assert_snapshot!(text);
    }

    #[test]
    fn on_a_pipe_no_line_is_broken_and_programs_get_whole_numbers() {
        let mut found = examined_one();
        found.survey.gaps.clear();
        let text = examined(&found, &screen(None));
        assert!(text.ends_with("Nothing is missing.\n") && text.contains(&found.survey.asked[0]), "{text}");
        let object = found.as_json();
        assert_eq!(object["arms"][1]["counted"]["requests"], 640);
        assert_eq!(object["checks"][1]["bound"], "exact");
        assert_eq!(object["checks"][2]["bound"], json!({"between": [250_000, 500_000]}));
        assert_eq!(object["checks"][3]["answer"], Value::Null);
        assert_eq!((&object["from"]["source"], &object["trouble"]), (&json!("default"), &Value::Null));
    }

    #[test]
    fn a_survey_that_found_nothing_out_says_why() {
        let mut found = examined_one();
        let trouble = Trouble {
            kind: TroubleKind::Unavailable,
            message: "metrics source default cannot be asked".into(),
        };
        found.survey.counts = Err(trouble);
        found.survey.arms = vec![Seen::default(), Seen::default()];
        found.survey.answers.clear();
        let text = examined(&found, &screen(80));
        assert!(text.contains("stable  -") && text.contains("there is no histogram to tell"), "{text}");
        assert_eq!(found.as_json()["trouble"], "metrics source default cannot be asked");
    }
}
