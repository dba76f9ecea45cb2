//! What becomes of one request, the same before both APIs.

use std::{future::pending, time::Duration};

use bytes::Bytes;
use tokio::sync::watch::Sender;

use super::{Faults, Tamper, Target, Then};
use crate::embedded::Refusal;

/// What the faults leave of a request before it is carried out.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is to be carried out, in the form that is left of it, and this is to be done to its answer.
    CarryOut(Afterwards),
    /// This is its answer.
    Refused(Refusal),
    /// Its connection breaks.
    Disconnected,
}

/// What is left to do to a request when it is carried out, and to its answer afterwards.
#[derive(Debug, Default)]
pub(crate) struct Afterwards {
    delay: Duration,
    lose: bool,
    crash: bool,
    crash_answered: bool,
    as_of: Option<u64>,
    request: Vec<Tamper>,
    answer: Vec<Tamper>,
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
                Then::Old(version) => afterwards.as_of = Some(version),
                Then::Tamper(tamper) => afterwards.request.push(tamper),
                Then::TamperAnswer(tamper) => afterwards.answer.push(tamper),
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
    /// The body that the API is to see.
    pub(crate) fn request(&self, body: Bytes) -> Bytes {
        self.request.iter().fold(body, |body, tamper| tamper.rewrite(&body))
    }

    /// The version as of which a list is to be answered, if not now.
    pub(crate) fn as_of(&self) -> Option<u64> {
        self.as_of
    }

    /// The body that the client is to see.
    pub(crate) fn answer(&self, body: Bytes) -> Bytes {
        self.answer.iter().fold(body, |body, tamper| tamper.rewrite(&body))
    }

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
}
