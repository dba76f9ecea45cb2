//! What queries answer in a rehearsal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chance::{Chance, float};
use crate::{
    api::Share,
    judge::{Both, Counts, Measurement},
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

    /// A number of each arm.
    pub(super) fn scored(self, chance: &mut Chance) -> Both {
        let Each { canary, stable, spread } = self.each();
        let spread = spread.map_or(0.0, Share::fraction);
        let mut around = |number: f64| chance.around(number, number * spread).max(0.0);
        Both::Scored { canary: around(canary), stable: around(stable) }
    }

    /// How many of the requests of each arm a counter counts. `sort` tells its counts from others.
    pub(super) fn counted(self, chance: &mut Chance, sort: usize, canary: u64, stable: u64) -> Both {
        let each = self.each();
        let mut of = |sort: usize, requests: u64, share: f64| {
            let errors = chance.count(sort, float(requests) * share.clamp(0.0, 1.0)).min(requests);
            Counts { requests, errors, ..Counts::default() }
        };
        let canary = of(sort, canary, each.canary);
        let stable = of(sort + 1, stable, each.stable);
        Both::Counted(Measurement { stable, canary, ..Measurement::default() })
    }
}
