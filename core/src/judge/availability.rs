//! Whether the metrics can be had: said once an outage and once a recovery, not at every look.
//!
//! A single look that fails is no news, a wrong password is. A source that is there and gone by turns, or that finds
//! another word for its trouble at every look, is said to be missing once. What is said becomes a condition and an Event,
//! so this is what bounds their number.

use std::time::Duration;

use super::{Look, Trouble, TroubleKind};

/// A source that may heal by itself is missing after so many looks in a row ...
const LOOKS: u32 = 3;
/// ... that lasted so long.
const OUTAGE: Duration = Duration::from_secs(10);
/// A source that answers has nothing to say for so long before that is news: Prometheus scrapes once a minute where
/// nobody told it otherwise, and a rate needs two scrapes.
const NO_DATA: Duration = Duration::from_mins(2);
/// After it was said that metrics are missing, that is not said again for so long, whatever happened in between.
const QUIET: Duration = Duration::from_mins(2);
/// How long one explanation stands before another one may take its place.
const EXPLAINED: Duration = Duration::from_mins(1);

/// What the looks so far say about the source of the metrics.
///
/// Times are those of a clock that never jumps, since any moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Availability {
    /// Looks in a row that were in trouble of any sort.
    trouble: Option<Row>,
    /// Looks in a row in which the source itself was to blame.
    outage: Option<Row>,
    /// Looks in a row with just this trouble.
    same: Option<(Trouble, Row)>,
    said: Option<Said>,
    /// When metrics were last said to be missing, and when the explanation was last given.
    missing_since: Option<Duration>,
    explained: Duration,
}

/// What is to be said about the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// They can be had.
    Available,
    /// They cannot, and why.
    Missing(Trouble),
}

/// Looks in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    looks: u32,
    since: Duration,
}

impl Row {
    fn grown(row: Option<Self>, now: Duration) -> Self {
        let row = row.unwrap_or(Self { looks: 0, since: now });
        Self { looks: row.looks.saturating_add(1), ..row }
    }

    fn lasts(self, now: Duration, limit: Duration) -> bool {
        self.looks >= LOOKS && now.saturating_sub(self.since) >= limit
    }
}

impl Availability {
    /// Takes in a look. `counts` says whether anybody needs the requests of the arms, or the answers of queries alone.
    pub fn saw(&mut self, look: &Look, counts: bool, now: Duration) {
        let Some(trouble) = worst(look, counts) else {
            let Self { missing_since, .. } = *self;
            *self = Self { said: Some(Said::Available), missing_since, ..Self::default() };
            return;
        };
        self.trouble = Some(Row::grown(self.trouble, now));
        self.outage = (trouble.kind != TroubleKind::NoData).then(|| Row::grown(self.outage, now));
        let same = self.same.take().filter(|(known, _)| *known == trouble).map(|(_, row)| row);
        let same = Row::grown(same, now);
        match &self.said {
            Some(Said::Missing(said)) => {
                let settled = same.lasts(now, OUTAGE) && now.saturating_sub(self.explained) >= EXPLAINED;
                if settled && *said != trouble {
                    self.explained = now;
                    self.said = Some(Said::Missing(trouble.clone()));
                }
            }
            Some(Said::Available) | None => {
                let quiet = self.missing_since.is_some_and(|since| now.saturating_sub(since) < QUIET);
                if !quiet && self.is_news(&trouble, now) {
                    (self.missing_since, self.explained) = (Some(now), now);
                    self.said = Some(Said::Missing(trouble.clone()));
                }
            }
        }
        self.same = Some((trouble, same));
    }

    fn is_news(&self, trouble: &Trouble, now: Duration) -> bool {
        needs_a_person(trouble.kind)
            || self.outage.is_some_and(|row| row.lasts(now, OUTAGE))
            || self.trouble.is_some_and(|row| row.lasts(now, NO_DATA))
    }

    /// What is to be said; nothing where the looks so far do not tell.
    pub fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }
}

/// Whether waiting does not help.
fn needs_a_person(kind: TroubleKind) -> bool {
    match kind {
        TroubleKind::Untrusted
        | TroubleKind::Refused
        | TroubleKind::BadQuery
        | TroubleKind::Misconfigured => true,
        TroubleKind::Baseline
        | TroubleKind::NoData
        | TroubleKind::Unavailable
        | TroubleKind::BadAnswer
        | TroubleKind::Partial => false,
    }
}

/// The trouble of a look that people should hear of first, with what was asked.
fn worst(look: &Look, counts: bool) -> Option<Trouble> {
    let of_counts = look.counts.as_ref().err().filter(|_| counts);
    let of_counts = of_counts.map(|trouble| (trouble, "requests of both arms".to_owned()));
    let of_queries =
        look.queries_in_trouble().map(|(check, trouble)| (trouble, format!("query of check {check}")));
    let troubles = of_counts.into_iter().chain(of_queries);
    let (trouble, asked) = troubles
        .filter(|(trouble, _)| trouble.kind != TroubleKind::Baseline)
        .min_by_key(|(trouble, _)| rank(trouble.kind))?;
    Some(Trouble { kind: trouble.kind, message: format!("{asked}: {trouble}") })
}

/// What explains the rest comes first: a source that does not let us in has no data either.
fn rank(kind: TroubleKind) -> u8 {
    match kind {
        TroubleKind::Misconfigured => 0,
        TroubleKind::Untrusted => 1,
        TroubleKind::Refused => 2,
        TroubleKind::Unavailable => 3,
        TroubleKind::BadAnswer => 4,
        TroubleKind::Partial => 5,
        TroubleKind::BadQuery => 6,
        TroubleKind::NoData => 7,
        TroubleKind::Baseline => 8,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::judge::Measurement;

    fn look(counts: Result<(), (TroubleKind, &str)>) -> Look {
        let trouble = |(kind, message): (TroubleKind, &str)| Trouble { kind, message: message.into() };
        let counts = counts.map(|()| Measurement::default()).map_err(trouble);
        Look::new(DateTime::UNIX_EPOCH, counts)
    }

    fn bad(kind: TroubleKind) -> Look {
        look(Err((kind, "trouble")))
    }

    /// What was said after each of the looks, one a second, where it is something else than before.
    fn changes(looks: impl IntoIterator<Item = Look>) -> Vec<(usize, Option<TroubleKind>)> {
        let mut availability = Availability::default();
        let mut changes = Vec::new();
        let mut before = None;
        for (second, look) in looks.into_iter().enumerate() {
            availability.saw(&look, true, Duration::from_secs(second as u64));
            let said = availability.said().cloned();
            if said != before {
                changes.push((
                    second,
                    match &said {
                        Some(Said::Missing(trouble)) => Some(trouble.kind),
                        Some(Said::Available) | None => None,
                    },
                ));
                before = said;
            }
        }
        changes
    }

    fn times(looks: usize, look: &Look) -> impl Iterator<Item = Look> + '_ {
        std::iter::repeat_n(look.clone(), looks)
    }

    #[test]
    fn an_outage_is_said_once_and_its_end_once() {
        let (good, gone) = (look(Ok(())), bad(TroubleKind::Unavailable));
        let looks = times(5, &good).chain(times(300, &gone)).chain(times(5, &good));
        assert_eq!(changes(looks), [(0, None), (15, Some(TroubleKind::Unavailable)), (305, None)]);
    }

    #[test]
    fn a_look_or_two_that_fail_are_no_news() {
        let (good, gone) = (look(Ok(())), bad(TroubleKind::Unavailable));
        let looks = times(5, &good).chain(times(2, &gone)).chain(times(5, &good));
        assert_eq!(changes(looks), [(0, None)]);
    }

    #[test]
    fn what_waiting_does_not_mend_is_said_at_once() {
        for kind in
            [TroubleKind::Untrusted, TroubleKind::Refused, TroubleKind::BadQuery, TroubleKind::Misconfigured]
        {
            assert_eq!(changes([look(Ok(())), bad(kind)]), [(0, None), (1, Some(kind))]);
        }
    }

    #[test]
    fn a_source_that_scrapes_slowly_has_data_enough() {
        let (good, none) = (look(Ok(())), bad(TroubleKind::NoData));
        let looks = (0..600).map(|second| if second % 60 == 0 { good.clone() } else { none.clone() });
        assert_eq!(changes(looks), [(0, None)]);
        let looks = times(1, &good).chain(times(300, &none)).chain(times(5, &good));
        assert_eq!(changes(looks), [(0, None), (121, Some(TroubleKind::NoData)), (301, None)]);
    }

    #[test]
    fn a_slow_scrape_does_not_make_news_of_a_single_failure() {
        let (none, gone) = (bad(TroubleKind::NoData), bad(TroubleKind::Unavailable));
        assert_eq!(changes(times(60, &none).chain(times(2, &gone)).chain(times(30, &none))), []);
    }

    #[test]
    fn by_turns_there_and_refused_is_said_at_most_every_two_minutes() {
        let (good, refused) = (look(Ok(())), bad(TroubleKind::Refused));
        let looks = (0..600).map(|second| if second % 2 == 0 { good.clone() } else { refused.clone() });
        let changes = changes(looks);
        let missing: Vec<usize> =
            changes.iter().filter(|(_, said)| said.is_some()).map(|(at, _)| *at).collect();
        assert_eq!(missing, [1, 121, 241, 361, 481]);
        assert_eq!(changes.len(), 2 * missing.len() + 1);
    }

    #[test]
    fn an_explanation_stands_while_others_come_and_go_and_yields_to_one_that_stays() {
        let (gone, html) = (bad(TroubleKind::Unavailable), bad(TroubleKind::BadAnswer));
        let by_turns = (0..300).map(|second| if second % 2 == 0 { gone.clone() } else { html.clone() });
        assert_eq!(changes(by_turns), [(10, Some(TroubleKind::Unavailable))]);
        let looks = times(20, &gone).chain(times(300, &html));
        assert_eq!(
            changes(looks),
            [(10, Some(TroubleKind::Unavailable)), (70, Some(TroubleKind::BadAnswer))]
        );
        let numbered = (0..300).map(|n| look(Err((TroubleKind::Unavailable, &*format!("request {n}")))));
        assert_eq!(changes(numbered), [(10, Some(TroubleKind::Unavailable))]);
    }

    #[test]
    fn what_nobody_needs_is_not_missed() {
        let mut availability = Availability::default();
        let mut one = bad(TroubleKind::Refused);
        availability.saw(&one, false, Duration::ZERO);
        assert_eq!(availability.said(), Some(&Said::Available));
        let trouble =
            Trouble { kind: TroubleKind::BadQuery, message: "metrics source default says: no".into() };
        one.queries.insert("accuracy".into(), Err(trouble));
        availability.saw(&one, false, Duration::from_secs(1));
        let Some(Said::Missing(said)) = availability.said() else { panic!("{availability:?}") };
        assert_eq!(said.message, "query of check accuracy: metrics source default says: no");
    }

    #[test]
    fn what_explains_the_rest_is_said() {
        let mut availability = Availability::default();
        let mut one = bad(TroubleKind::NoData);
        let trouble =
            Trouble { kind: TroubleKind::Untrusted, message: "metrics source default is nobody".into() };
        one.queries.insert("accuracy".into(), Err(trouble.clone()));
        availability.saw(&one, true, Duration::ZERO);
        assert!(matches!(availability.said(), Some(Said::Missing(said)) if said.kind == trouble.kind));
    }
}
