//! What queries answer in a rehearsal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chance::{Chance, float};
use crate::{
    api::Share,
    judge::{Both, Counts, Measurement, Trouble, TroubleKind, scored},
};

/// What the query of a check answers: one number, or one for each arm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number or a map of canary, stable and spread is expected")]
pub enum Answer {
    /// The same about both.
    Same(f64),
    /// One number each; where a counter and its total are compared, the share of the requests that it counts.
    Each(Each),
}

/// What a query answers about each arm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Each {
    /// About the canary.
    pub canary: f64,
    /// About stable.
    pub stable: f64,
    /// How much answers vary from look to look where chance has a part in it: their standard deviation, as a share of
    /// the number. Without chance all are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "0%"))]
    pub spread: Option<Share>,
}

impl Answer {
    fn each(self) -> Each {
        match self {
            Self::Same(number) => Each { canary: number, stable: number, spread: None },
            Self::Each(each) => each,
        }
    }

    /// The number about the canary.
    pub fn about_the_canary(self) -> f64 {
        self.each().canary
    }

    /// Whether the numbers are numbers.
    pub fn is_finite(self) -> bool {
        let Each { canary, stable, .. } = self.each();
        canary.is_finite() && stable.is_finite()
    }

    /// Whether it is the same about both.
    pub fn is_the_same(self) -> bool {
        let Each { canary, stable, .. } = self.each();
        canary.total_cmp(&stable).is_eq()
    }

    /// What is said about stable, about both; it varies as it did.
    #[must_use]
    pub fn as_of_stable(self) -> Self {
        match self {
            Self::Same(number) => Self::Same(number),
            Self::Each(each) => Self::Each(Each { canary: each.stable, ..each }),
        }
    }

    /// A number of each arm; the trouble that a controller would have with numbers that cannot be compared.
    pub(super) fn scored(self, chance: &mut Chance) -> Result<Both, Trouble> {
        let Each { canary, stable, spread } = self.each();
        let spread = spread.map_or(0.0, Share::fraction);
        // Chance takes no number out of the range that it is in.
        let mut around = |number: f64| {
            if number < 0.0 { number } else { chance.around(number, number * spread).clamp(0.0, f64::MAX) }
        };
        let (canary, stable) = (around(canary), around(stable));
        scored(Ok(canary), Ok(stable))
    }

    /// How many of the requests of each arm a counter counts. `sort` tells its counts from others.
    pub(super) fn counted(
        self,
        chance: &mut Chance,
        sort: usize,
        canary: u64,
        stable: u64,
    ) -> Result<Both, Trouble> {
        let each = self.each();
        if let Some(below) = [each.canary, each.stable].into_iter().find(|share| *share < 0.0) {
            return Err(Trouble {
                kind: TroubleKind::BadQuery,
                message: format!(
                    "the counter has {below} of the requests: expected a share, as a counter is never below 0"
                ),
            });
        }
        let mut of = |sort: usize, requests: u64, share: f64| {
            let errors = chance.count(sort, float(requests) * share.clamp(0.0, 1.0)).min(requests);
            Counts { requests, errors, ..Counts::default() }
        };
        let canary = of(sort, canary, each.canary);
        let stable = of(sort + 1, stable, each.stable);
        Ok(Both::Counted(Measurement { stable, canary, ..Measurement::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(canary: f64, stable: f64, spread: &str) -> Answer {
        Answer::Each(Each { canary, stable, spread: spread.parse().ok() })
    }

    #[test]
    fn a_number_below_zero_is_trouble_and_a_spread_makes_none() {
        for answer in [each(-2.0, -1.0, "0%"), each(1.0, -0.1, "5%"), Answer::Same(-1.0)] {
            for seed in [None, Some(7)] {
                let trouble = answer.scored(&mut Chance::new(seed)).unwrap_err();
                assert_eq!(trouble.kind, TroubleKind::BadQuery, "{trouble}");
            }
        }
        let mut chance = Chance::new(Some(7));
        let mut at_zero = 0;
        for _ in 0..100 {
            let both = each(0.01, f64::MAX, "100%").scored(&mut chance);
            let Ok(Both::Scored { canary, stable }) = both else { panic!("{both:?}") };
            assert!((0.0..=f64::MAX).contains(&canary) && (0.0..=f64::MAX).contains(&stable), "{both:?}");
            at_zero += u32::from(canary <= 0.0);
        }
        assert!(at_zero > 5, "the spread goes below 0 in one case of six: {at_zero}");
    }

    #[test]
    fn a_counter_counts_no_less_than_nothing_and_no_more_than_all() {
        let count = |answer: Answer| answer.counted(&mut Chance::new(None), 0, 100, 100);
        assert_eq!(count(each(-0.1, 0.1, "0%")).unwrap_err().kind, TroubleKind::BadQuery);
        let Ok(Both::Counted(counted)) = count(each(1.5, 0.1, "0%")) else { panic!("no counts") };
        assert_eq!((counted.canary.errors, counted.stable.errors), (100, 10));
    }
}
