//! What is missing, and what to do about it: a look says that there is no data, and this says why.

use std::collections::BTreeSet;

use sluice_core::{
    Predictor,
    judge::{Trouble, TroubleKind},
    plan::MetricsPlan,
};
use tokio::time::Instant;

use super::{
    super::{
        Arm, Metrics, Question,
        counters::Reading,
        exposition::Labels,
        named,
        profiles::{Group, Profile},
        prometheus::{self, Related},
    },
    Survey, unanswered,
};

/// Label sets that are shown of those that exist.
const SHOWN: usize = 3;

/// Something that a Rollout could not be judged without, or that is odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What is there and what is not.
    pub what: String,
    /// What can be done.
    pub advice: String,
    /// Without it a check of the Rollout has no evidence.
    pub matters: bool,
}

/// Trouble as a gap.
pub(super) fn of_trouble(trouble: &Trouble, question: &Question<'_>) -> Gap {
    let scrapes = matches!(question.metrics, MetricsPlan::Scrape { .. });
    let advice = match trouble.kind {
        TroubleKind::Unavailable if scrapes => {
            "is the port the one that serves metrics, and does a NetworkPolicy or strict mTLS keep it from you? Addresses of pods \
             are often reachable inside the cluster alone: run the command in the controller's pod"
        }
        TroubleKind::Unavailable => {
            "is it up? A Service's name is often reachable inside the cluster alone: run the command in the controller's pod, or \
             forward a port"
        }
        TroubleKind::Refused => {
            "see the source's token, password, headers or clientCertificate; for pods, a policy of the mesh"
        }
        TroubleKind::Untrusted => {
            "see caFile and clientCertificate of the source, the host name in its url, and what has expired"
        }
        TroubleKind::BadAnswer if scrapes => "see spec.metrics.scrape.port and path",
        TroubleKind::BadAnswer => {
            "see the url of the source: it may lead to a login page, a proxy or a redirect"
        }
        TroubleKind::Partial => "a store behind the source is down: see its warnings",
        TroubleKind::BadQuery => "see the query: it must answer one number, without warnings",
        TroubleKind::Misconfigured => {
            "give --prometheus or --config as the controller has it, and see spec.metrics"
        }
        TroubleKind::NoData | TroubleKind::Baseline => {
            "see that requests reach the predictor, and that it is scraped"
        }
    };
    Gap { what: trouble.to_string(), advice: advice.to_owned(), matters: true }
}

impl Metrics {
    /// What a survey lacks.
    pub(super) async fn gaps(
        &self,
        question: &Question<'_>,
        profile: &Profile,
        survey: &Survey,
        in_flight: bool,
        deadline: Instant,
    ) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let judged = named(question);
        for ((_, arm, _), seen) in judged.iter().zip(&survey.arms) {
            let is_canary = question.canary.is_some_and(|canary| canary.predictor == arm.predictor);
            let expected = in_flight || !is_canary;
            if seen.counters == 0 {
                let gap = match question.metrics {
                    MetricsPlan::Source { .. } => self.unseen(question, profile, arm, deadline).await,
                    MetricsPlan::Scrape { .. } => {
                        not_exposed(question, profile, &arm.predictor, arm.pods.len())
                    }
                };
                gaps.push(Gap { matters: gap.matters && expected, ..gap });
            } else if seen.histograms == 0 && !question.limits.is_empty() {
                gaps.push(no_histogram(profile, &arm.predictor));
            }
        }
        gaps.extend(idle(question, survey));
        gaps.extend(unanswered::gaps(question, &survey.answers));
        gaps
    }

    /// Why a source has no series about a predictor: by those that it has.
    async fn unseen(&self, question: &Question<'_>, profile: &Profile, arm: &Arm, deadline: Instant) -> Gap {
        let predictor = &arm.predictor;
        let Ok(server) = self.server(question.metrics) else {
            return no_metric(profile, predictor);
        };
        let mut others = BTreeSet::new();
        for group in &profile.groups {
            match prometheus::related(server, question, group, arm, deadline).await {
                Err(trouble) => return of_trouble(&trouble, question),
                Ok(found) => {
                    if let Some(gap) = other_labels(question, group, arm, &found) {
                        return gap;
                    }
                    others.extend(found.into_iter().map(|related| shown(&related.labels)));
                }
            }
        }
        if others.is_empty() {
            no_metric(profile, predictor)
        } else {
            other_predictors(profile, predictor, &others)
        }
    }
}

fn requests(profile: &Profile) -> String {
    let names: Vec<_> = profile.groups.iter().flat_map(|group| &group.sets).map(|set| set.requests).collect();
    names.join(" or ")
}

fn no_metric(profile: &Profile, predictor: &Predictor) -> Gap {
    Gap {
        what: format!(
            "no series about {predictor}, and none of {} about anybody in its namespace",
            requests(profile)
        ),
        advice: format!("profile {} needs {}", profile.name, profile.needs),
        matters: true,
    }
}

fn other_predictors(profile: &Profile, predictor: &Predictor, others: &BTreeSet<String>) -> Gap {
    let first: Vec<_> = others.iter().take(SHOWN).map(String::as_str).collect();
    let more = others.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Gap {
        what: format!("no series about {predictor}; there are others, labelled {}{more}", first.join(", ")),
        advice: format!(
            "has it been asked anything yet? If so, its labels are others: profiles.{}.labels in the controller's \
             configuration says which carry a predictor's names",
            profile.name
        ),
        matters: true,
    }
}

/// There are series about the predictor, and they lack a label that is asked for.
fn other_labels(question: &Question<'_>, group: &Group, arm: &Arm, found: &[Related]) -> Option<Gap> {
    let about = |related: &&Related| group.arms.whose(&related.labels, [arm].into_iter()).is_some();
    let ours: Vec<&Related> = found.iter().filter(about).collect();
    let differs = |(label, value): (&String, &String)| {
        let values: BTreeSet<&str> =
            ours.iter().map(|related| related.labels.get(label).map_or("", String::as_str)).collect();
        (!ours.is_empty() && !values.contains(value.as_str())).then(|| {
            let values: Vec<_> = values.into_iter().map(|value| format!("{value:?}")).collect();
            (label.clone(), value.clone(), values.join(", "))
        })
    };
    let (label, value, values) =
        question.labels().iter().find_map(differs).or_else(|| group.fixed.iter().find_map(differs))?;
    let whose = if question.labels().contains_key(&label) {
        format!("spec.metrics.labels asks for {label}={value:?}")
    } else {
        format!(
            "the profile asks for {label}={value:?}; `match` in the controller's configuration can change that"
        )
    };
    Some(Gap {
        what: format!("the series about {} have {label}={values}, and none has {value:?}", arm.predictor),
        advice: whose,
        matters: true,
    })
}

fn not_exposed(question: &Question<'_>, profile: &Profile, predictor: &Predictor, pods: usize) -> Gap {
    let MetricsPlan::Scrape { port, path, .. } = question.metrics else {
        return no_metric(profile, predictor);
    };
    if pods == 0 {
        return Gap {
            what: format!("there is no ready pod behind {predictor}"),
            advice: "see its pods and the Service's selector".to_owned(),
            matters: true,
        };
    }
    Gap {
        what: format!(
            "the pods of {predictor} answer on port {port}{path}, and expose no {}",
            requests(profile)
        ),
        advice: format!(
            "have they been asked anything yet? If so, this is another program's port: profile {} needs {}",
            profile.name, profile.needs
        ),
        matters: true,
    }
}

fn no_histogram(profile: &Profile, predictor: &Predictor) -> Gap {
    let names: Vec<_> = profile.groups.iter().flat_map(|group| &group.sets).map(|set| set.latency).collect();
    Gap {
        what: format!("requests of {predictor} are counted, and no latency is: no {}", names.join(" or ")),
        advice: "is the histogram dropped on the way, by metric_relabel_configs or the mesh's telemetry?"
            .to_owned(),
        matters: true,
    }
}

/// Arms whose counters did not move.
fn idle(question: &Question<'_>, survey: &Survey) -> Vec<Gap> {
    let Ok(counts) = &survey.counts else { return Vec::new() };
    let arms = named(question).into_iter().zip(&survey.arms).zip([&counts.stable, &counts.canary]);
    let idle = arms.filter(|((_, seen), counts)| seen.counters > 0 && counts.requests == 0);
    idle.map(|(((_, arm, _), _), _)| Gap {
        what: format!("no request of {} was counted in that time", arm.predictor),
        advice: "without requests there is no evidence: see that some reach it".to_owned(),
        matters: false,
    })
    .collect()
}

/// Arms that are recorded twice, and by whom.
pub(super) fn doubled(reading: &Reading, question: &Question<'_>) -> Vec<Gap> {
    let doubled = named(question).into_iter().filter_map(|(revision, arm, _)| {
        let of_arm = reading.doubles.iter().filter(|(double, _)| double.arm == revision);
        let by: BTreeSet<&str> =
            of_arm.flat_map(|(double, kept)| [&*double.reporter, &*kept.reporter]).collect();
        let by: Vec<_> = by.into_iter().take(SHOWN).collect();
        (!by.is_empty()).then(|| Gap {
            what: format!(
                "requests of {} are recorded more than once, by {}",
                arm.predictor,
                by.join(" and ")
            ),
            advice: "each counts once all the same; see which of the scrape jobs, or of the servers, can go"
                .to_owned(),
            matters: false,
        })
    });
    doubled.collect()
}

fn shown(labels: &Labels) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .filter(|(label, value)| *label != "__name__" && !value.is_empty())
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
