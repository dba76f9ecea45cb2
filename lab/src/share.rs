//! A share of events, dealt out evenly instead of by chance: 5% of 1,000 is exactly 50.

const WHOLE: u64 = 1_000_000;

/// Says which events belong to the share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    per_million: u64,
    owed: u64,
}

impl Share {
    /// A share between 0 and 1, kept to a millionth; what is outside counts as the nearer end.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped and rounded before
    pub(crate) fn new(share: f64) -> Self {
        Self { per_million: (share.clamp(0.0, 1.0) * 1_000_000.0).round() as u64, owed: 0 }
    }

    /// Whether the next event belongs to it.
    pub(crate) fn next(&mut self) -> bool {
        self.owed += self.per_million;
        let due = self.owed >= WHOLE;
        if due {
            self.owed -= WHOLE;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_over_a_thousand() {
        for (share, expected) in [(0.0, 0), (0.001, 1), (0.05, 50), (0.333, 333), (1.0, 1000), (7.0, 1000)] {
            let mut dealt = Share::new(share);
            assert_eq!((0..1000).filter(|_| dealt.next()).count(), expected, "{share}");
        }
    }
}
