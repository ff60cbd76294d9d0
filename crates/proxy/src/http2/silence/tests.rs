//! When a silent peer is asked, and when it is given up, on a clock that is set forward.

use std::cell::RefCell;
use std::time::Duration;

use super::*;

/// When a peer is asked within an hour, in seconds, and whether it is given up.
async fn asked(
    streams: usize,
    received: &AtomicU64,
    answers: impl Fn(usize) -> bool,
) -> (Vec<u64>, bool) {
    let began = Instant::now();
    let times = RefCell::new(Vec::new());
    let streams = AtomicUsize::new(streams);
    let ask = || {
        times.borrow_mut().push(began.elapsed().as_secs());
        let answered = answers(times.borrow().len());
        if answered {
            received.fetch_add(17, Ordering::Relaxed);
        }
        std::future::ready(answered)
    };
    let lost = until_lost(received, &streams, ask);
    let lost = tokio::time::timeout(Duration::from_secs(700), lost).await;
    (times.take(), lost.is_ok())
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_lost() {
    let received = AtomicU64::new(5);
    assert_eq!(asked(1, &received, |_| false).await, (vec![30], true));
}

#[tokio::test(start_paused = true)]
async fn who_answers_is_asked_seldom() {
    let received = AtomicU64::new(5);
    let times = vec![30, 330, 630];
    assert_eq!(asked(1, &received, |_| true).await, (times, false));
    let only_once = |count| count == 1;
    let received = AtomicU64::new(5);
    assert_eq!(asked(1, &received, only_once).await, (vec![30, 330], true));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_streams_or_sends_is_not_asked() {
    let received = AtomicU64::new(5);
    assert_eq!(asked(0, &received, |_| false).await, (vec![], false));
    let sends = async {
        loop {
            tokio::time::sleep(Duration::from_secs(20)).await;
            received.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = sends => {}
        asked = asked(1, &received, |_| false) => assert_eq!(asked, (vec![], false)),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_instead_of_the_answer_is_a_sign_of_life() {
    let received = AtomicU64::new(5);
    let streams = AtomicUsize::new(1);
    let came = || {
        received.fetch_add(1, Ordering::Relaxed);
        std::future::ready(false)
    };
    let lost = until_lost(&received, &streams, came);
    assert!(
        tokio::time::timeout(Duration::from_secs(3600), lost)
            .await
            .is_err()
    );
}
