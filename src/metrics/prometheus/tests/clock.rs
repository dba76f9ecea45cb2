//! A source whose clock is not the controller's: nothing that it says is evidence, and its message says why.

use std::sync::atomic::Ordering;

use super::{counters::requests, *};

#[tokio::test]
async fn a_source_whose_clock_is_off_gives_no_number_and_one_message() {
    let fake = Fake::start().await;
    let one =
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}"#;
    fake.answers(|seen| json(StatusCode::OK, if seen.query() == "x" { one } else { VECTOR }));
    let mut asker = Asker::new(&fake).querying("x");
    // Each at a time of its own: what was answered for one is not asked again.
    for (second, ahead, expected) in [
        (0, 30, "metrics source default has a clock that is more than 10 seconds ahead of the controller's"),
        (20, -300, "metrics source default has a clock that is more than a minute behind the controller's"),
        (40, 3605, "metrics source default has a clock that is more than an hour ahead of the controller's"),
    ] {
        fake.ahead.store(ahead, Ordering::SeqCst);
        let look = asker.look(second).await;
        let counts = look.counts.unwrap_err();
        let query = look.queries["accuracy"].clone().unwrap_err();
        for trouble in [counts, query] {
            assert_eq!(trouble.kind, TroubleKind::Unavailable, "{trouble}");
            assert!(trouble.message.starts_with(expected), "{trouble}");
        }
    }
    fake.ahead.store(2, Ordering::SeqCst);
    assert_eq!(asker.look(60).await.queries["accuracy"], Ok(1.0));
}

#[tokio::test]
async fn what_was_counted_while_the_clocks_were_apart_is_not_lost() {
    let fake = Fake::start().await;
    let mut asker = Asker::new(&fake);
    let points = [(-10, 5.0), (10, 25.0), (15, 30.0)];
    let [first, second, third] =
        [1, 2, 3].map(|newest| matrix(&[requests("iris-v2", "200", &points[..newest])]));
    fake.says(200, "application/json", &first);
    assert_eq!(asker.look(0).await.counts.unwrap_err().kind, TroubleKind::Baseline);
    fake.says(200, "application/json", &second);
    fake.ahead.store(3600, Ordering::SeqCst);
    assert_eq!(asker.look(11).await.counts.unwrap_err().kind, TroubleKind::Unavailable);
    fake.ahead.store(0, Ordering::SeqCst);
    fake.says(200, "application/json", &third);
    assert_eq!(asker.look(16).await.counts.unwrap().canary.requests, 25);
}
