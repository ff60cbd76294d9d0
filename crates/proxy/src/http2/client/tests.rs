//! A peer in memory that says nothing, on a clock that is set forward.

use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use traffic::Timestamp;

use super::*;
use crate::stream::{Replay, Wire};

/// A connection to a peer in memory.
async fn connect(ours: DuplexStream, tasks: &Tasks) -> Http2Upstream {
    let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    let facts = UpstreamFacts {
        proxy: None,
        address: ([127, 0, 0, 1], 1).into(),
        local_address: ([127, 0, 0, 1], 2).into(),
        dial_started_at: Timestamp(0),
        connected_at: Timestamp(0),
        tls_done_at: None,
        tls: None,
        version: None,
    };
    let transport = Transport::Plain(Replay::new(Wire::Memory(ours)));
    let timeouts = Timeouts::default();
    Http2Upstream::connect(transport, Arc::new(facts), permit, &timeouts, tasks)
        .await
        .unwrap()
}

/// Asks, and says how long it took until it is known that no answer comes, if within ten minutes.
async fn ask(upstream: &Http2Upstream) -> Option<Duration> {
    let (mut sender, _guard, _reused) = upstream.begin();
    let request = http::Request::get("https://a/").body(()).unwrap();
    let (response, _body) = sender.send_request(request, true).unwrap();
    let began = Instant::now();
    let failed = tokio::time::timeout(Duration::from_secs(600), response).await;
    failed.ok().map(|response| {
        assert!(response.is_err());
        began.elapsed()
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_went_dead_is_given_up() {
    let (ours, _theirs) = tokio::io::duplex(64 * 1024);
    let tasks = Tasks::default();
    let upstream = connect(ours, &tasks).await;
    assert_eq!(ask(&upstream).await, Some(Duration::from_secs(60)));
    assert!(!upstream.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_only_takes_its_time_is_waited_for() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let tasks = Tasks::default();
    tasks.spawn("peer", async move {
        let mut connection = h2::server::handshake(theirs).await.unwrap();
        let mut taken = Vec::new();
        while let Some(Ok(stream)) = connection.accept().await {
            taken.push(stream);
        }
    });
    let upstream = connect(ours, &tasks).await;
    assert_eq!(ask(&upstream).await, None);
    assert!(upstream.is_open());
}
