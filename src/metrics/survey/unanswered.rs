//! What the queries of checks lack. A look compares what they say about both arms, and where it cannot, neither can this.

use sluice_core::judge::{Trouble, TroubleKind, comparable};

use super::{
    super::{
        Arm, Compared, Query, Question, check_template,
        prometheus::{self, Template},
    },
    Answered, Gap,
    gaps::of_trouble,
};

/// What is missing of what was answered.
pub(super) fn gaps(question: &Question<'_>, answers: &[Answered]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for query in question.queries {
        let alike = question.canary.and_then(|canary| alike(query, question, canary));
        for answered in answers.iter().filter(|answered| answered.check == query.check) {
            gaps.extend(of_the_canary(query, answered, question));
            if alike.is_none() {
                gaps.extend(of_stable(query, answered, question));
            }
        }
        gaps.extend(alike);
    }
    gaps
}

/// A comparison whose queries ask the same about both.
fn alike(query: &Query, question: &Question<'_>, canary: &Arm) -> Option<Gap> {
    let total = match query.compared.as_ref()? {
        Compared::Scores => None,
        Compared::Shares(total) => Some(Query { promql: total.clone(), ..query.clone() }),
    };
    let told_apart = |query: &Query| prometheus::tells_apart(question, &Template::from(query), canary);
    let trouble =
        [Some(query), total.as_ref()].into_iter().flatten().find_map(|one| told_apart(one).err())?;
    Some(Gap {
        what: trouble.message,
        advice: "name what their series differ in: two subsets of one Service have one {{canary.service}}"
            .to_owned(),
        matters: true,
    })
}

fn of_the_canary(query: &Query, answered: &Answered, question: &Question<'_>) -> Option<Gap> {
    if question.canary.is_none() && needs_a_canary(query, answered, question) {
        return Some(Gap {
            what: format!("check {}: its query is about the canary, and there is none now", query.check),
            advice: "ask again when there is one".to_owned(),
            matters: false,
        });
    }
    let answer = answered.answer.clone();
    let trouble = match query.compared {
        None => answer.err(),
        Some(_) => comparable(answer, "the canary").err(),
    };
    Some(missing(query, answered, &trouble?, question))
}

fn of_stable(query: &Query, answered: &Answered, question: &Question<'_>) -> Option<Gap> {
    let trouble = comparable(answered.stable.clone()?, "stable").err()?;
    let gap = missing(query, answered, &trouble, question);
    if gap.matters && trouble.kind == TroubleKind::NoData {
        let advice = "a comparison needs it about both: does the version that is stable export it?";
        return Some(Gap { advice: advice.to_owned(), ..gap });
    }
    Some(gap)
}

/// Whether the query can be asked, but for the canary that it names.
fn needs_a_canary(query: &Query, answered: &Answered, question: &Question<'_>) -> bool {
    let promql = match &query.compared {
        Some(Compared::Shares(total)) if answered.total => total.clone(),
        None | Some(Compared::Scores | Compared::Shares(_)) => query.promql.clone(),
    };
    let query = Query { promql, ..query.clone() };
    let filled = prometheus::filled(question, &Template::from(&query), None, question.now);
    check_template(&query.promql).is_ok() && filled.is_err()
}

fn missing(query: &Query, answered: &Answered, trouble: &Trouble, question: &Question<'_>) -> Gap {
    let gap = of_trouble(trouble, question);
    let gap = Gap { what: format!("check {}: {}", query.check, gap.what), ..gap };
    if trouble.kind == TroubleKind::NoData && counts_as_none(query, answered) {
        let advice =
            "until there is a series it counts as 0, as in a look: see its name if there should be one";
        return Gap { advice: advice.to_owned(), matters: false, ..gap };
    }
    gap
}

/// Whether a counter that is not there has nothing to count yet: the other predictor has it.
fn counts_as_none(query: &Query, answered: &Answered) -> bool {
    let is_a_part = matches!(query.compared, Some(Compared::Shares(_))) && !answered.total;
    is_a_part && (answered.answer.is_ok() || answered.stable.as_ref().is_some_and(Result::is_ok))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use chrono::Utc;
    use sluice_core::{Predictor, api::Profile, plan::MetricsPlan};

    use super::*;

    type Number = Result<f64, TroubleKind>;

    const SCORE: &str = r#"avg(model_accuracy{service="{{canary.service}}"})"#;
    const NOTHING: Number = Err(TroubleKind::NoData);

    fn query(promql: &str, compared: Option<Compared>) -> Query {
        Query { check: "accuracy".into(), promql: promql.into(), window: Duration::from_mins(1), compared }
    }

    fn shares() -> Query {
        let total = r#"answers_total{service="{{canary.service}}"}"#.to_owned();
        query(r#"wrong_total{service="{{canary.service}}"}"#, Some(Compared::Shares(total)))
    }

    fn answered(total: bool, canary: Number, stable: Option<Number>) -> Answered {
        let said = |number: Number| number.map_err(|kind| Trouble { kind, message: "no number".into() });
        Answered {
            check: "accuracy".into(),
            promql: String::new(),
            total,
            answer: said(canary),
            stable: stable.map(said),
        }
    }

    /// What is missing, with a mark before what a verdict can do without.
    fn missing_with(query: Query, canary: Option<Predictor>, answers: &[Answered]) -> Vec<String> {
        let labels = BTreeMap::new();
        let metrics = MetricsPlan::Source { name: "default".into(), profile: Profile::Istio, labels };
        let stable = Arm::of(Predictor::new("models", "iris-v1", 8000));
        let canary = canary.map(Arm::of);
        let now = Utc::now();
        let question = Question {
            now,
            rollout: "iris",
            namespace: "models",
            metrics: &metrics,
            stable: &stable,
            canary: canary.as_ref(),
            retiring: &[],
            limits: &[],
            queries: &[query],
            shadow: false,
            step_start: now,
            timeout: Duration::from_secs(20),
        };
        let mark = |gap: Gap| format!("{}{}", if gap.matters { "" } else { "? " }, gap.what);
        gaps(&question, answers).into_iter().map(mark).collect()
    }

    fn missing(query: Query, answers: &[Answered]) -> Vec<String> {
        missing_with(query, Some(Predictor::new("models", "iris-v2", 8000)), answers)
    }

    #[test]
    fn both_halves_of_a_comparison_are_missed() {
        let compared = |canary, stable| {
            missing(query(SCORE, Some(Compared::Scores)), &[answered(false, canary, Some(stable))])
        };
        assert_eq!(compared(Ok(0.9), Ok(0.9)), [""; 0]);
        assert_eq!(compared(Ok(0.9), NOTHING), ["check accuracy: about stable: no number"]);
        assert_eq!(compared(NOTHING, Ok(0.9)), ["check accuracy: about the canary: no number"]);
        assert_eq!(compared(NOTHING, Err(TroubleKind::BadQuery)).len(), 2);
        let negative = "the query answered -1 about stable: a comparison needs numbers of 0 or more";
        assert_eq!(compared(Ok(0.9), Ok(-1.0)), [format!("check accuracy: {negative}")]);
        assert!(compared(Ok(-1.0), Ok(0.9))[0].contains("answered -1 about the canary"));
    }

    #[test]
    fn a_limit_alone_takes_any_number_and_asks_about_one() {
        let limited = |number| missing(query(SCORE, None), &[answered(false, number, None)]);
        assert_eq!(limited(Ok(-1.0)), [""; 0]);
        assert_eq!(limited(NOTHING), ["check accuracy: no number"]);
    }

    #[test]
    fn a_query_that_says_the_same_of_both_is_missed_however_it_answers() {
        let subset = |name: &str| Predictor {
            subset: Some(name.to_owned()),
            ..Predictor::new("models", "iris-v1", 8000)
        };
        let both = answered(false, Ok(0.9), Some(Ok(0.9)));
        let found = missing_with(
            query(SCORE, Some(Compared::Scores)),
            Some(subset("v2")),
            std::slice::from_ref(&both),
        );
        assert!(
            found.len() == 1 && found[0].contains("check accuracy says the same of both predictors"),
            "{found:?}"
        );
        // One of two selectors is enough.
        let total = "answers_total".to_owned();
        let part = query(r#"wrong_total{service="{{canary.service}}"}"#, Some(Compared::Shares(total)));
        assert_eq!(missing(part, &[both]).len(), 1);
    }

    #[test]
    fn a_counter_that_one_predictor_has_nothing_to_count_with_yet_is_not_missed() {
        let all = |canary, stable| answered(true, canary, Some(stable));
        let part = |canary, stable| answered(false, canary, Some(stable));
        let found = missing(shares(), &[part(NOTHING, Ok(3.0)), all(Ok(5.0), Ok(100.0))]);
        assert_eq!(found, ["? check accuracy: about the canary: no number"]);
        // Where nobody has it, it may be called otherwise.
        let found = missing(shares(), &[part(NOTHING, NOTHING), all(Ok(5.0), Ok(100.0))]);
        assert!(found.len() == 2 && found.iter().all(|gap| gap.starts_with("check")), "{found:?}");
        let found = missing(shares(), &[part(Ok(0.0), Ok(3.0)), all(Ok(5.0), NOTHING)]);
        assert_eq!(found, ["check accuracy: about stable: no number"]);
    }

    #[test]
    fn a_canary_that_is_not_there_is_not_missed() {
        let nobody = Err(TroubleKind::Misconfigured);
        let answers = [answered(false, nobody, Some(Ok(0.9)))];
        let found = missing_with(query(SCORE, Some(Compared::Scores)), None, &answers);
        assert_eq!(found, ["? check accuracy: its query is about the canary, and there is none now"]);
        let answers = [answered(false, nobody, None)];
        assert_eq!(missing_with(query("{{nobody}}", None), None, &answers), ["check accuracy: no number"]);
    }
}
