//! How many of something there are: exactly as many as expected, or drawn by chance.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Binomial, Distribution, Normal, Poisson};

/// How counts come about.
#[derive(Clone, Debug)]
pub(super) enum Chance {
    /// As expected; what is left of a whole one is carried over, by what it is of.
    None(Vec<f64>),
    /// Drawn.
    Drawn(Box<ChaCha8Rng>),
}

impl Chance {
    pub(super) fn new(seed: Option<u64>) -> Self {
        seed.map_or_else(
            || Self::None(Vec::new()),
            |seed| Self::Drawn(Box::new(ChaCha8Rng::seed_from_u64(seed))),
        )
    }

    /// So many of the sort `what` where `mean` are expected.
    pub(super) fn count(&mut self, what: usize, mean: f64) -> u64 {
        match self {
            Self::None(left) => {
                if left.len() <= what {
                    left.resize(what + 1, 0.0);
                }
                // A billionth more than nothing: a tenth, ten times, is one.
                let all = left[what] + mean + 1e-9;
                left[what] = all.fract() - 1e-9;
                whole(all)
            }
            // The distribution refuses what it cannot draw: nothing, and more than anybody has.
            Self::Drawn(random) => {
                Poisson::new(mean).map_or(0, |poisson| whole(poisson.sample(&mut **random)))
            }
        }
    }

    /// A number about `mean`, with this standard deviation.
    pub(super) fn around(&mut self, mean: f64, deviation: f64) -> f64 {
        match self {
            Self::None(_) => mean,
            Self::Drawn(random) => {
                Normal::new(mean, deviation).map_or(mean, |normal| normal.sample(&mut **random))
            }
        }
    }

    /// So many of `all` where each is one with this `probability`.
    pub(super) fn of(&mut self, all: u64, probability: f64) -> u64 {
        match self {
            Self::None(_) => whole(float(all) * probability + 1e-9).min(all),
            Self::Drawn(random) => Binomial::new(all, probability.clamp(0.0, 1.0))
                .map_or(0, |binomial| binomial.sample(&mut **random)),
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of a float saturates
fn whole(number: f64) -> u64 {
    number.floor() as u64
}

#[allow(clippy::cast_precision_loss)] // nobody counts that far
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
