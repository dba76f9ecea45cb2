//! What becomes of one request, the same before both APIs.

use std::{borrow::Cow, future::pending, time::Duration};

use serde_json::Value;
use tokio::sync::watch::Sender;

use super::{Faults, Tamper, Target, Then};
use crate::embedded::Refusal;

/// What the faults leave of a request before it is carried out.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is to be carried out, and this is to be done to its answer.
    CarryOut(Afterwards),
    /// This is its answer.
    Refused(Refusal),
    /// Its connection breaks.
    Disconnected,
}

/// What is to be done to a request that is carried out, and to its answer.
#[derive(Debug, Default)]
pub(crate) struct Afterwards {
    delay: Duration,
    lose: bool,
    crash: bool,
    crash_answered: bool,
    as_of: Option<u64>,
    sent: Vec<Tamper>,
    told: Vec<Tamper>,
    late: Option<Late>,
}

/// A request that is late, until it was carried out.
#[derive(Debug)]
struct Late(Sender<u64>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.send_modify(|late| *late -= 1);
    }
}

impl Faults {
    /// Does to a request what strikes it. Does not return where it hangs or the client has crashed.
    pub(crate) async fn fate(&self, target: &Target<'_>) -> Fate {
        let mut afterwards = Afterwards::default();
        for fault in self.strike(target) {
            match fault {
                Then::Delay(time) => {
                    self.late.send_modify(|late| *late += 1);
                    afterwards.late = Some(Late(self.late.clone()));
                    tokio::time::sleep(time).await;
                }
                Then::DelayAnswer(time) => afterwards.delay += time,
                Then::LoseAnswer => afterwards.lose = true,
                Then::CrashAfter => afterwards.crash = true,
                Then::CrashAnswered => afterwards.crash_answered = true,
                Then::Tamper(tamper) => afterwards.sent.push(tamper),
                Then::TamperAnswer(tamper) => afterwards.told.push(tamper),
                Then::Old(version) => afterwards.as_of = Some(version),
                Then::CrashBefore => self.crash(),
                Then::Hang => return pending().await,
                Then::Refuse(refusal) => return Fate::Refused(refusal),
                Then::Disconnect => return Fate::Disconnected,
            }
            self.while_alive().await;
        }
        Fate::CarryOut(afterwards)
    }

    /// For ever, once the client has crashed.
    pub(crate) async fn while_alive(&self) {
        if self.has_crashed() {
            pending::<()>().await;
        }
    }
}

impl Afterwards {
    /// Lets an answer pass, or says what comes in its place.
    pub(crate) async fn pass<T>(self, faults: &Faults, answer: T) -> Result<T, Refusal> {
        drop(self.late);
        if self.crash {
            faults.crash();
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        faults.while_alive().await;
        if self.lose {
            return Err(Refusal::new(504, "Timeout", "the answer was lost on its way"));
        }
        if self.crash_answered {
            // The answer is on its way already; whatever the client does with it comes to nothing.
            faults.crash();
        }
        Ok(answer)
    }

    /// The version at which a list is told, where that is not the present one.
    pub(crate) fn as_of(&self) -> Option<u64> {
        self.as_of
    }

    /// The body of the request as the API sees it.
    pub(crate) fn sent<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        if self.sent.is_empty() {
            return body.into();
        }
        let mut changed: Value = serde_json::from_slice(body).unwrap_or_default();
        self.sent.iter().for_each(|tamper| tamper.change(&mut changed));
        changed.to_string().into_bytes().into()
    }

    /// Makes of the answer's body what the client is told.
    pub(crate) fn tell(&self, body: &mut Value) {
        self.told.iter().for_each(|tamper| tamper.change(body));
    }

    /// Whether [`tell`](Self::tell) makes anything else of it.
    pub(crate) fn lies(&self) -> bool {
        !self.told.is_empty()
    }
}
