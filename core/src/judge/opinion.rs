//! What a check thinks of one look.

use super::{Trouble, TroubleKind, Verdict};
use crate::api::{ArmRecord, EffectRecord};

/// What a check thinks of one look, before it is known whether the look before was as bad.
pub(super) struct Opinion {
    pub(super) verdict: Verdict,
    /// Whether this look is one that counts in a row of failures: it brought something new, and enough of it.
    pub(super) counts: bool,
    pub(super) message: String,
    /// What the canary and stable answered.
    pub(super) arms: Option<(ArmRecord, ArmRecord)>,
    pub(super) value: Option<f64>,
    /// How the canary compares with stable, where that was asked.
    pub(super) effect: Option<EffectRecord>,
    /// Whether a step may end on this although the verdict is Inconclusive: there is no evidence of harm, and no more was
    /// asked for.
    pub(super) suffices: bool,
}

impl Opinion {
    /// What a limit says.
    pub(super) fn limit(verdict: Verdict, message: String) -> Self {
        Self { verdict, counts: true, ..Self::unknown(message) }
    }

    /// Nobody knows.
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            counts: false,
            message: message.into(),
            arms: None,
            value: None,
            effect: None,
            suffices: false,
        }
    }

    /// The look gave no number.
    pub(super) fn trouble(trouble: &Trouble) -> Self {
        match trouble.kind {
            TroubleKind::Baseline => Self::unknown("the first look only reads the counters"),
            TroubleKind::NoData
            | TroubleKind::Unavailable
            | TroubleKind::Refused
            | TroubleKind::Untrusted
            | TroubleKind::BadAnswer
            | TroubleKind::Partial
            | TroubleKind::BadQuery
            | TroubleKind::Misconfigured => Self::unknown(trouble.to_string()),
        }
    }
}
