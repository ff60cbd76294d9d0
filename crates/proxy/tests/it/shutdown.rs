//! A stop: what is idle ends at once, what runs may finish, what does not is cut and told.

use std::io;
use std::time::Duration;

use testbed::client::Request;
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::Protocols;
use traffic::Event;

use crate::running::{NAME, Running, authority_of, http, https, in_halves, scripted};
use crate::soon;

fn response_started(event: &Event) -> bool {
    matches!(event, Event::ResponseStarted { .. })
}

#[tokio::test]
async fn idle_connections_end_at_once() {
    let (plain, tls, running) = (
        http().await,
        https(Protocols::Both).await,
        Running::start().await,
    );
    let mut silent = running.connect().await;
    let mut idle = running.through(&plain).await;
    let request = Request::get("/").host(NAME);
    soon(idle.request(&request)).await.unwrap();
    let http2 = running.through_tls(&tls, &["h2"]).await;
    let http2 = http2.start_http2().await.unwrap();
    let begun = tokio::time::Instant::now();
    let (drained, _) = running.stop().await;
    assert_eq!(drained.connections_cut, 0);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(soon(silent.read_to_end()).await.unwrap(), "");
    assert_eq!(soon(idle.read_to_end()).await.unwrap(), "");
    soon(http2.closed()).await.unwrap();
}

#[tokio::test]
async fn who_has_just_connected_is_answered() {
    let (plain, running) = (http().await, Running::start().await);
    let mut fresh = running.connect().await;
    let mut tunnelled = running.through(&plain).await;
    running.ask_to_stop();
    soon(until_nobody_listens(&running)).await;
    let url = format!("http://{}/bytes/7", authority_of(&plain));
    for (client, target) in [(&mut fresh, &*url), (&mut tunnelled, "/bytes/7")] {
        let answer = soon(client.request(&Request::get(target).host("a"))).await;
        let answer = answer.unwrap();
        assert_eq!((answer.head.status, answer.text().len()), (200, 7));
        assert_eq!(soon(client.read_to_end()).await.unwrap(), "");
    }
    let (drained, _) = running.stop().await;
    assert_eq!(drained.connections_cut, 0);
}

/// The listener is gone once a stop is under way.
async fn until_nobody_listens(running: &Running) {
    while testbed::client::Client::connect(running.address)
        .await
        .is_ok()
    {}
}

#[tokio::test]
async fn a_running_flow_may_finish() {
    let (half, rest) = (Gate::new(), Gate::new());
    let upstream = scripted(false, vec![in_halves(&half, &rest)]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    soon(client.read_until("ha")).await.unwrap();
    running.ask_to_stop();
    soon(until_nobody_listens(&running)).await;
    rest.open();
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "lf");
    let (drained, recorder) = running.stop().await;
    assert_eq!(drained.connections_cut, 0);
    assert!(recorder.only_flow().await.completed());
}

#[tokio::test]
async fn what_does_not_finish_is_cut_and_told() {
    let stuck = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"),
        Step::ReadToEnd,
    ];
    let upstream = scripted(false, vec![stuck]).await;
    let running = Running::with(|config| config.timeouts.drain = Duration::from_millis(50)).await;
    let mut client = running.through(&upstream).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    running.recorder.told(response_started).await;
    let (drained, recorder) = running.stop().await;
    assert_eq!(drained.connections_cut, 1);
    let flow = recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    assert_eq!(
        failure.kind,
        traffic::FailureKind::ShuttingDown,
        "{}",
        failure.text
    );
    assert_eq!((failure.side, replied), (traffic::Side::Oriel, None));
    let response = soon(client.read_response("GET")).await.unwrap();
    assert_eq!(response.body.broken, Some(io::ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn a_tunnel_that_is_cut_keeps_its_counts() {
    let upstream = scripted(false, vec![vec![Step::send("SSH-2.0-x"), Step::ReadToEnd]]).await;
    let running = Running::with(|config| {
        config.timeouts.drain = Duration::from_millis(50);
    })
    .await;
    let mut client = running.through(&upstream).await;
    client.send("\0\0\0").await.unwrap();
    soon(client.read_exact(9)).await.unwrap();
    let (drained, recorder) = running.stop().await;
    assert_eq!(drained.connections_cut, 1);
    let flow = recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, traffic::FailureKind::ShuttingDown);
    assert_eq!(flow.tunnelled(), Some((3, 9)));
    let error = soon(client.read_to_end()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_body_until_close_that_is_cut_does_not_end_in_order() {
    for version in ["1.1", "1.0"] {
        let stuck = vec![
            Step::ReadHead,
            Step::send("HTTP/1.1 200 OK\r\n\r\nha"),
            Step::ReadToEnd,
        ];
        let upstream = scripted(false, vec![stuck]).await;
        let drain = Duration::from_millis(50);
        let running = Running::with(|config| config.timeouts.drain = drain).await;
        let mut client = running.through(&upstream).await;
        client
            .send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"))
            .await
            .unwrap();
        soon(client.read_until("ha")).await.unwrap();
        let (drained, _) = running.stop().await;
        assert_eq!(drained.connections_cut, 1);
        let error = soon(client.read_to_end()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
