//! How many requests there are, and who answers them.

use crate::api::{Given, Share};

/// What users send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests a second, of all users.
    pub rate: f64,
    /// The share of them that a step's `match` meets.
    pub matching: Share,
}

impl Load {
    /// Requests a second by who answers them, while the canary gets `given`.
    pub fn divided(self, given: &Given) -> Divided {
        Divided::of(self.rate, self.matching.fraction(), given)
    }
}

/// Requests by who answers them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divided {
    /// Users' requests that stable answers.
    pub stable: f64,
    /// Users' requests that the canary answers.
    pub canary: f64,
    /// Copies of stable's that the canary gets.
    pub copies: f64,
}

impl Divided {
    /// How `requests` users' requests, of which the share `matching` meets a match, are divided while the canary gets `given`.
    pub fn of(requests: f64, matching: f64, given: &Given) -> Self {
        let matched = if given.beside.matches.is_empty() { 0.0 } else { requests * matching };
        let rest = requests - matched;
        let weighted = rest * f64::from(given.weight) / 100.0;
        let stable = rest - weighted;
        Self { stable, canary: matched + weighted, copies: stable * given.beside.mirror.fraction() }
    }

    /// What checks see of the canary: copies count there.
    pub fn seen_of_canary(self) -> f64 {
        self.canary + self.copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Beside, Percent};

    #[test]
    fn requests_are_divided_as_a_setting_says() {
        let given = |weight, matches: &[&str], mirror| Given {
            weight,
            beside: Beside {
                matches: matches.iter().map(|one| (*one).to_owned()).collect(),
                mirror: Percent::of(mirror).unwrap(),
            },
        };
        for (given, stable, canary, copies) in [
            (given(25, &[], 0.0), 75.0, 25.0, 0.0),
            (given(0, &["beta"], 0.0), 90.0, 10.0, 0.0),
            (given(50, &["beta"], 0.0), 45.0, 55.0, 0.0),
            (given(0, &[], 50.0), 100.0, 0.0, 50.0),
        ] {
            assert_eq!(Divided::of(100.0, 0.1, &given), Divided { stable, canary, copies }, "{given}");
        }
    }
}
