//! Numbers of the status that are read back as they were written: in whole millionths, because a decimal fraction is not
//! always the float that it was made from, and a memory is compared with `==`.

use serde::{Deserialize, Serialize};

const SCALE: f64 = 1e6;

/// A number in whole millionths; what is too large or too small is the largest or smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fixed(i64);

impl Fixed {
    /// The nearest one; 0 for what is no number.
    #[allow(clippy::cast_possible_truncation)] // a cast of a float saturates
    pub fn new(number: f64) -> Self {
        let scaled = number * SCALE;
        // What `round` does to a number with a fraction, without a call for each.
        Self((scaled + 0.5_f64.copysign(scaled)) as i64)
    }

    /// The number.
    #[allow(clippy::cast_precision_loss)] // as exact as the sum that it is of
    pub fn get(self) -> f64 {
        self.0 as f64 / SCALE
    }

    /// Adds a number.
    pub fn add(&mut self, number: f64) {
        self.0 = self.0.saturating_add(Self::new(number).0);
    }
}
