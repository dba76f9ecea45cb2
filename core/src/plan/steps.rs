//! Steps, with ramps expanded.

use std::{fmt, time::Duration};

use super::{
    MOST_STEPS, PlanErrors,
    matches::{self, PlannedMatch},
};
use crate::api::{Beside, Given, Percent, Ramp, Step, StickyCookie};

/// One traffic setting and what must hold before the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedStep {
    /// The user's name for it, or its number.
    pub name: String,
    /// Where it stands, like `spec.steps[1]`.
    pub path: String,
    /// The canary's share of the pair's requests in percent, 0 to 100; 0 where it gets something beside it.
    pub weight: u8,
    /// Requests that go to the canary whatever the weight.
    pub matches: Vec<PlannedMatch>,
    /// What the canary gets beside its weight, to be compared and written down.
    pub beside: Beside,
    /// What keeps a client on the arm that the weight gave it.
    pub sticky: Option<PlannedSticky>,
    /// How long it lasts at least.
    pub lasts: Duration,
    /// Requests that the canary must have answered in it.
    pub min_requests: u64,
    /// Whether a person's approval ends it.
    pub approve: bool,
}

/// What keeps a client on one arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedSticky {
    /// A cookie that both arms set.
    Cookie(StickyCookie),
    /// The request header of this name, in lower case, which carries a hash of the user.
    Header(String),
}

/// In words, like `cookie arm`.
impl fmt::Display for PlannedSticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie(cookie) => write!(f, "cookie {}", cookie.name),
            Self::Header(name) => write!(f, "header {name}"),
        }
    }
}

impl PlannedStep {
    /// What the canary gets.
    pub fn given(&self) -> Given {
        Given { weight: self.weight, beside: self.beside.clone() }
    }

    /// Whether the canary answers nobody and only gets copies.
    pub fn is_shadow(&self) -> bool {
        !self.given().has_users()
    }
}

pub(super) fn expand(steps: &[Step], errors: &mut PlanErrors) -> Vec<PlannedStep> {
    let mut planned = Vec::new();
    // What follows is refused as a whole, and a ramp can be a hundred of them.
    for (index, step) in steps.iter().enumerate().take(MOST_STEPS) {
        let path = format!("spec.steps[{index}]");
        let is_setting = step.weight.is_some() || step.mirror.is_some() || !step.matches.is_empty();
        match &step.ramp {
            Some(_) if is_setting => {
                errors.invalid(&path, "a ramp stands alone: leave out weight, mirror and match");
            }
            Some(_) if step.sticky.as_ref().is_some_and(|sticky| sticky.cookie.is_some()) => {
                errors.invalid(
                    &format!("{path}.sticky.cookie"),
                    "a cookie is of one weight, and a ramp has several: header is expected beside a ramp",
                );
            }
            Some(ramp) => expand_ramp(step, ramp, &path, &mut planned, errors),
            None if is_setting => {
                let setting = setting(step, &path, errors);
                push(&mut planned, step, PlannedStep { path, approve: step.approve, ..setting });
            }
            None => errors.invalid(&path, "a setting is expected: weight, mirror, match or a ramp"),
        }
    }
    planned
}

/// What the canary gets in a step that is no ramp.
fn setting(step: &Step, path: &str, errors: &mut PlanErrors) -> PlannedStep {
    let weight = step.weight.map_or(0, |weight| percent(weight, 1, &format!("{path}.weight"), errors));
    let mirror = step.mirror.map_or(Percent::default(), |mirror| {
        let exact = Percent::of(mirror).filter(|percent| !percent.is_nothing());
        exact.unwrap_or_else(|| {
            let problem = format!("{mirror} is out of range: 0.0001 to 100 is expected, in ten-thousandths");
            errors.invalid(&format!("{path}.mirror"), problem);
            Percent::ALL
        })
    });
    let matches = matches::plan(&step.matches, path, errors);
    let beside = Beside { matches: matches::words(&matches), mirror };
    if step.sticky.is_some() && step.weight.is_none() {
        errors.invalid(
            &format!("{path}.sticky"),
            "it keeps clients on the arm that a weight gave them: weight is expected beside it",
        );
    }
    let sticky = sticky(step, path, errors);
    let lasts = step.lasts.unwrap_or_default().0;
    PlannedStep { weight, matches, beside, sticky, lasts, ..PlannedStep::default() }
}

fn sticky(step: &Step, path: &str, errors: &mut PlanErrors) -> Option<PlannedSticky> {
    let sticky = step.sticky.as_ref()?;
    let path = format!("{path}.sticky");
    match (&sticky.cookie, &sticky.header) {
        (Some(cookie), None) => {
            refuse_cookie(cookie, &path, errors);
            Some(PlannedSticky::Cookie(cookie.clone()))
        }
        (None, Some(header)) => {
            matches::refuse_header(header, &format!("{path}.header"), errors);
            Some(PlannedSticky::Header(header.clone()))
        }
        (Some(_), Some(_)) | (None, None) => {
            errors.invalid(&path, "exactly one of cookie and header is expected");
            None
        }
    }
}

fn refuse_cookie(cookie: &StickyCookie, path: &str, errors: &mut PlanErrors) {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if !(1..=63).contains(&cookie.name.len()) || !cookie.name.bytes().all(fits) {
        let problem =
            format!("{:?} is no name of a cookie: letters, digits, -, _ and . are expected", cookie.name);
        errors.invalid(&format!("{path}.cookie.name"), problem);
    }
    if cookie.ttl.is_some_and(|ttl| ttl.0 < Duration::from_secs(1)) {
        errors.invalid(&format!("{path}.cookie.ttl"), "a second at least is expected");
    }
}

fn expand_ramp(
    step: &Step,
    ramp: &Ramp,
    path: &str,
    planned: &mut Vec<PlannedStep>,
    errors: &mut PlanErrors,
) {
    if step.lasts.is_some() {
        errors.invalid(&format!("{path}.for"), "a ramp has ramp.every in place of for");
    }
    let from = percent(ramp.from, 1, &format!("{path}.ramp.from"), errors);
    let to = percent(ramp.to, 1, &format!("{path}.ramp.to"), errors);
    let by = percent(ramp.by, 1, &format!("{path}.ramp.by"), errors);
    if from > to {
        errors.invalid(&format!("{path}.ramp"), format!("a ramp goes up: from {from} is above to {to}"));
        return;
    }
    let sticky = sticky(step, path, errors);
    let mut weight = from;
    loop {
        // A gate on a ramp is one gate, behind its last weight.
        let approve = step.approve && weight == to;
        let setting = PlannedStep {
            path: path.to_owned(),
            weight,
            sticky: sticky.clone(),
            lasts: ramp.every.0,
            approve,
            ..PlannedStep::default()
        };
        push(planned, step, setting);
        if weight >= to {
            return;
        }
        weight = weight.saturating_add(by.max(1)).min(to);
    }
}

fn push(planned: &mut Vec<PlannedStep>, step: &Step, setting: PlannedStep) {
    let number = planned.len() + 1;
    let name = match (&step.name, &step.ramp) {
        (Some(name), Some(_)) => format!("{name}-{}", setting.weight),
        (Some(name), None) => name.clone(),
        (None, _) => number.to_string(),
    };
    planned.push(PlannedStep { name, min_requests: step.min_requests.unwrap_or(0), ..setting });
}

/// `value` as a percentage of at least `least`; an error and the nearest percentage where it is none.
fn percent(value: i32, least: u8, path: &str, errors: &mut PlanErrors) -> u8 {
    match u8::try_from(value) {
        Ok(percent) if (least..=100).contains(&percent) => percent,
        Ok(_) | Err(_) => {
            errors.invalid(path, format!("{value} is out of range: {least} to 100 is expected"));
            least
        }
    }
}
