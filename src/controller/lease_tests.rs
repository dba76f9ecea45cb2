//! Leases between controllers on one in-memory API, in virtual time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chrono::{DateTime, Utc};
use sluice_lab::embedded::{Api as Embedded, Connection, Then, When};
use tokio::{task::JoinHandle, time::advance};

use super::*;

const DURATION: Duration = Duration::from_secs(15);

/// A replica that leads when it can.
struct Replica {
    connection: Connection,
    stop: CancellationToken,
    running: JoinHandle<()>,
    leads: Arc<AtomicUsize>,
}

/// Starts a replica; `leads` of all replicas count into `leaders` while they lead.
fn start(api: &Embedded, identity: &str, hours_ahead: i64, leaders: &Arc<AtomicUsize>) -> Replica {
    let connection = api.connect(identity);
    let utc: DateTime<Utc> = DateTime::UNIX_EPOCH + chrono::Duration::hours(500_000 + hours_ahead);
    let options = LeaseOptions {
        namespace: "default".into(),
        name: "sluice".into(),
        identity: identity.into(),
        duration: DURATION,
        clock: Clock::starting_at(utc),
    };
    let claim = Claim::new(connection.client(), options);
    let stop = CancellationToken::new();
    let leads = Arc::new(AtomicUsize::new(0));
    let (stopping, counted, leaders) = (stop.clone(), leads.clone(), leaders.clone());
    let running = tokio::spawn(async move {
        claim
            .while_held(stopping, |leadership, lost| {
                let (counted, leaders) = (counted.clone(), leaders.clone());
                async move {
                    assert!(leadership.held_until().is_some());
                    assert_eq!(leaders.fetch_add(1, Ordering::SeqCst), 0, "two lead at once");
                    counted.fetch_add(1, Ordering::SeqCst);
                    lost.cancelled().await;
                    leaders.fetch_sub(1, Ordering::SeqCst);
                }
            })
            .await;
    });
    Replica { connection, stop, running, leads }
}

impl Replica {
    fn led(&self) -> usize {
        self.leads.load(Ordering::SeqCst)
    }
}

/// Lets virtual time pass, in steps that are short beside every period of a lease.
async fn pass(seconds: u64) {
    for _ in 0..seconds * 4 {
        advance(Duration::from_millis(250)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_follows_at_once_when_it_stops() {
    let (api, leaders) = (Embedded::new(), Arc::default());
    let first = start(&api, "first", 0, &leaders);
    pass(1).await;
    let second = start(&api, "second", 0, &leaders);
    pass(60).await;
    assert_eq!((first.led(), second.led()), (1, 0));
    first.stop.cancel();
    first.running.await.unwrap();
    pass(4).await;
    assert_eq!(second.led(), 1);
}

#[tokio::test(start_paused = true)]
async fn clocks_an_hour_apart_cost_nobody_the_lease() {
    for hours_ahead in [-1, 1] {
        let (api, leaders) = (Embedded::new(), Arc::default());
        let first = start(&api, "first", hours_ahead, &leaders);
        pass(1).await;
        let second = start(&api, "second", 0, &leaders);
        pass(120).await;
        assert_eq!((first.led(), second.led()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_reach_the_api_stops_before_the_next_one_starts() {
    let (api, leaders) = (Embedded::new(), Arc::<AtomicUsize>::default());
    let first = start(&api, "first", 0, &leaders);
    pass(1).await;
    let second = start(&api, "second", 0, &leaders);
    pass(5).await;
    first.connection.faults().on(When::any(), Then::Hang);
    // That they never lead at the same time is asserted where they begin to.
    pass(26).await;
    assert_eq!((first.led(), second.led()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_crashed_is_followed_after_its_lease_has_run_out() {
    let (api, leaders) = (Embedded::new(), Arc::<AtomicUsize>::default());
    let first = start(&api, "first", 0, &leaders);
    pass(1).await;
    first.running.abort();
    leaders.store(0, Ordering::SeqCst);
    let second = start(&api, "second", 0, &leaders);
    pass(14).await;
    assert_eq!(second.led(), 0);
    pass(6).await;
    assert_eq!(second.led(), 1);
}
