//! What becomes of one request, the same before both APIs.

use std::{future::pending, time::Duration};

use tokio::sync::watch::Sender;

use super::{Faults, Target, Then};
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

/// What is left to do to an answer after the request was carried out.
#[derive(Debug, Default)]
pub(crate) struct Afterwards {
    delay: Duration,
    lose: bool,
    crash: bool,
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
        Ok(answer)
    }
}
