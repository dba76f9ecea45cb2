//! What can be found, each under a name that stays.

use serde::{Serialize, Serializer};

use super::Severity;

/// A sort of finding. Its name is part of the output: scripts go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// There are no steps.
    NoSteps,
    /// Many users are the first to meet the canary.
    LargeFirstStep,
    /// Nothing keeps a step from ending at once.
    StepWithoutEnd,
    /// A weight is smaller than the one before.
    FallingWeight,
    /// Users who were bound to an arm are bound anew.
    UsersDrawnAnew,
    /// No check acts.
    NoCheck,
    /// All checks compare with stable.
    NoLimit,
    /// One failed request is enough for a rollback.
    SingleError,
    /// A latency limit is no bound of the histogram.
    LimitBetweenBuckets,
    /// Numbers may hardly differ.
    DifferenceTooSmall,
    /// A share of counts is compared as a number.
    ShareAsNumber,
    /// A window has not two scrapes in it.
    ShortWindow,
    /// Something in the spec means nothing.
    WithoutMeaning,
    /// A step could end before a check has the requests that it needs.
    StepTooShort,
    /// Requests that are needed never come.
    RequestsOutOfReach,
    /// A proof that is asked for never comes.
    ProofOutOfReach,
    /// A field is wrong.
    Invalid,
    /// A field asks for what this version does not do.
    Unsupported,
    /// A field that this version does not know.
    UnknownField,
}

impl Code {
    /// Every one, those of steps first and mistakes last.
    pub const ALL: [Self; 19] = [
        Self::NoSteps,
        Self::LargeFirstStep,
        Self::StepWithoutEnd,
        Self::FallingWeight,
        Self::UsersDrawnAnew,
        Self::NoCheck,
        Self::NoLimit,
        Self::SingleError,
        Self::LimitBetweenBuckets,
        Self::DifferenceTooSmall,
        Self::ShareAsNumber,
        Self::ShortWindow,
        Self::WithoutMeaning,
        Self::StepTooShort,
        Self::RequestsOutOfReach,
        Self::ProofOutOfReach,
        Self::Invalid,
        Self::Unsupported,
        Self::UnknownField,
    ];

    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSteps => "no-steps",
            Self::LargeFirstStep => "large-first-step",
            Self::StepWithoutEnd => "step-without-end",
            Self::FallingWeight => "falling-weight",
            Self::UsersDrawnAnew => "users-drawn-anew",
            Self::NoCheck => "no-check",
            Self::NoLimit => "no-limit",
            Self::SingleError => "single-error",
            Self::LimitBetweenBuckets => "limit-between-buckets",
            Self::DifferenceTooSmall => "difference-too-small",
            Self::ShareAsNumber => "share-as-number",
            Self::ShortWindow => "short-window",
            Self::WithoutMeaning => "without-meaning",
            Self::StepTooShort => "step-too-short",
            Self::RequestsOutOfReach => "requests-out-of-reach",
            Self::ProofOutOfReach => "proof-out-of-reach",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::UnknownField => "unknown-field",
        }
    }

    /// How bad it is at worst.
    pub fn severity(self) -> Severity {
        match self {
            Self::Invalid | Self::Unsupported | Self::UnknownField => Severity::Mistake,
            Self::NoSteps
            | Self::LargeFirstStep
            | Self::StepWithoutEnd
            | Self::FallingWeight
            | Self::UsersDrawnAnew
            | Self::NoCheck
            | Self::NoLimit
            | Self::SingleError
            | Self::LimitBetweenBuckets
            | Self::DifferenceTooSmall
            | Self::ShareAsNumber
            | Self::ShortWindow
            | Self::WithoutMeaning
            | Self::StepTooShort
            | Self::RequestsOutOfReach
            | Self::ProofOutOfReach => Severity::Risk,
        }
    }

    /// Whether it is about how many requests there are: a risk where that was said, a note what to check where it was not.
    pub fn needs_the_rate(self) -> bool {
        matches!(self, Self::StepTooShort | Self::RequestsOutOfReach | Self::ProofOutOfReach)
    }

    /// What is found, and why it matters.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NoSteps => {
                "There are no steps: as soon as the canary has a ready endpoint all users are its users."
            }
            Self::LargeFirstStep => {
                "The first users of the canary are more than 20% of all, and no step with a match or a mirror comes before \
                 them. Whatever is wrong with it, they find it."
            }
            Self::StepWithoutEnd => {
                "There are no checks, and the step has neither `for` nor `minRequests` nor `approve`: it ends as soon as its \
                 traffic is in place, and nobody could have seen anything."
            }
            Self::FallingWeight => {
                "The canary gets less than in the step before. That is seldom meant, and who met it may meet stable again."
            }
            Self::UsersDrawnAnew => {
                "A step binds users to an arm by the hash in a header, and a later one does not, or by another header: who met \
                 the canary may meet stable."
            }
            Self::NoCheck => {
                "There is no check, or all are advisory: only lost endpoints or a person take a bad canary out of traffic."
            }
            Self::NoLimit => {
                "All checks compare with stable, and none has a limit. On little traffic a comparison takes long, and where \
                 stable is bad too it says nothing. With `--rate` a canary that fails on 10% of its answers is rehearsed \
                 against a stable that fails on 1%, and this is found only if it gets through its first step with users."
            }
            Self::SingleError => {
                "No request may fail, in any look: a single one rolls the canary back, whoever's fault it is."
            }
            Self::LimitBetweenBuckets => {
                "The limit is no bound of the histogram's buckets as the profile's proxies or servers come. How many requests \
                 between the two bounds were slower is not known: a canary that is near the limit is `Inconclusive` for ever."
            }
            Self::DifferenceTooSmall => {
                "Numbers are compared that may differ by less than 0.5%. The comparison finds any lasting difference in the \
                 end, also one that nobody minds."
            }
            Self::ShareAsNumber => {
                "A query divides one counter's rate by another's, and its numbers are compared, which is done by their median. That \
                 is another one of few requests than of many: where one request in 200 counts, three of four windows with 50 requests have none, and hardly one with 950. A canary that \
                 is exactly as good as stable is rolled back, or one that is worse goes through."
            }
            Self::ShortWindow => {
                "A limit, or a function of a query that needs two samples, like `rate`, reaches back less than two scrapes of a \
                 Prometheus that scrapes every 15 seconds, so that some looks have nothing new in them and some queries no \
                 answer. A comparison of errors or latencies without a limit has no window."
            }
            Self::WithoutMeaning => {
                "It is allowed, and does nothing where it is: somebody expected something of it."
            }
            Self::StepTooShort => {
                "When its `for` has passed, a check of the step has not the requests yet that it needs (`minRequests`), so the \
                 step lasts longer than it says. Requests count from when the traffic has settled, and after the check's `lag`."
            }
            Self::RequestsOutOfReach => {
                "The requests that a check or a step needs do not come within `for` and `inconclusive.limit`: each rollout ends \
                 without evidence, and does what `inconclusive.then` says."
            }
            Self::ProofOutOfReach => {
                "A comparison has `prove`, and even of a canary that is exactly as good as stable the proof does not come within \
                 `for` and `inconclusive.limit`. Both are rehearsed with 1% errors, and without any: where neither fails there is \
                 nothing to compare, and the proof never comes. Only you know whether your service has errors, so that is a \
                 note."
            }
            Self::Invalid => {
                "A field is out of range, contradicts another one, or is missing. The controller refuses the Rollout."
            }
            Self::Unsupported => {
                "The API has it, and this version does not do it yet. The controller refuses the Rollout."
            }
            Self::UnknownField => {
                "This version does not know the field: it is misspelt, or from a later version. The API server drops \
                 it, and the controller refuses the Rollout where it finds it."
            }
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoSteps => "Begin with a small weight.",
            Self::LargeFirstStep => "Begin with 20% or less, with a match, or with a mirror.",
            Self::StepWithoutEnd => {
                "Say how long it lasts (`for`), how many requests it needs (`minRequests`), or who ends it (`approve`)."
            }
            Self::FallingWeight => "Let weights grow, unless that is what you want.",
            Self::UsersDrawnAnew => "Say the same `sticky` in all steps from there on.",
            Self::NoCheck => "Add a check on errors, at least.",
            Self::NoLimit => "Put a limit (`max`) beside the comparison, loose enough for a bad day.",
            Self::SingleError => {
                "Allow a share above 0%, or ask for several looks in a row (`consecutiveFailures`)."
            }
            Self::LimitBetweenBuckets => {
                "Take one of the two bounds, or give the histogram a bucket at the limit."
            }
            Self::DifferenceTooSmall => "Say which difference you would mind (`maxRatio`).",
            Self::ShareAsNumber => {
                "Select the two counters with `promql` and `total`: then both are counted, and compared as shares."
            }
            Self::ShortWindow => {
                "Make `interval`, the check's `window` or the range longer, or scrape the predictors (`metrics.scrape`)."
            }
            Self::WithoutMeaning => "Take it away, or mend it.",
            Self::StepTooShort => {
                "Make the step longer or its weight larger. A smaller `minRequests` is quicker, and more often wrong."
            }
            Self::RequestsOutOfReach => {
                "Make the step longer, its weight larger, or `inconclusive.limit` longer; or ask for fewer requests."
            }
            Self::ProofOutOfReach => {
                "Make the step longer, its weight larger, or `inconclusive.limit` longer; raise `clearRatio`, or leave `prove` out. \
                 For a service without errors use a limit in place of `prove`."
            }
            Self::Invalid | Self::Unsupported | Self::UnknownField => "Mend it: nothing starts before.",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
