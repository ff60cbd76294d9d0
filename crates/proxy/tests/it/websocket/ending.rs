//! How WebSockets end.

use std::io;

use bytes::Bytes;
use testbed::script::Step;
use testbed::upstream::Version;
use testbed::websocket::{CLOSE, Frame, TEXT};
use traffic::{FailureKind, Sender, Side};

use super::{open, open_by, switching, told, unmasked, upgrade};
use crate::running::{NAME, Running, scripted};
use crate::soon;

#[tokio::test]
async fn a_close_code_of_the_upstream_passes() {
    let running = Running::start().await;
    let (mut socket, _upstream) = open(&running, "/websocket?close=4001", &[]).await;
    socket.send(&Frame::new(TEXT, "bye")).await.unwrap();
    let close = soon(socket.read()).await.unwrap();
    assert_eq!(close, Some(Frame::close(4001, "as you asked")));
    socket.send(&Frame::new(CLOSE, "")).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), None);
    drop(socket);
    let flow = running.recorder.only_flow().await;
    assert_eq!(
        told(&flow.observed(Sender::Upstream)),
        ["Close Some(4001) as you asked"]
    );
    assert_eq!(
        told(&flow.observed(Sender::Client)),
        ["Text bye 3/3 in 1", "Close None "]
    );
}

#[tokio::test]
async fn an_end_passes_while_the_other_direction_goes_on() {
    let script = vec![
        Step::ReadHead,
        Step::send(switching()),
        Step::ReadToEnd,
        Step::send(unmasked(&[Frame::new(TEXT, "late")])),
        Step::CloseWrite,
    ];
    let (upstream, running) = (scripted(true, vec![script]).await, Running::start().await);
    let (mut socket, _) = open_by(Version::Http1, &running, &upstream, "/", &[])
        .await
        .unwrap();
    socket.close_write().await.unwrap();
    let late = soon(socket.read()).await.unwrap();
    assert_eq!(late, Some(Frame::new(TEXT, "late")));
    assert_eq!(soon(socket.read()).await.unwrap(), None);
    assert!(running.recorder.only_flow().await.completed());
}

#[tokio::test]
async fn a_reset_passes_as_a_reset() {
    let script = vec![
        Step::ReadHead,
        Step::send([switching().as_bytes(), b"\x81\x05Hel"].concat()),
        Step::Read(4),
        Step::Reset,
    ];
    let (upstream, running) = (scripted(false, vec![script]).await, Running::start().await);
    let mut client = running.through(&upstream).await;
    client.send(upgrade()).await.unwrap();
    soon(client.read_until("Hel")).await.unwrap();
    client.send(b"1234").await.unwrap();
    let error = soon(client.read_to_end()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let flow = running.recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    assert_eq!(
        (failure.side, failure.kind, replied),
        (Side::Upstream, FailureKind::Reset, None)
    );
    assert_eq!(
        told(&flow.observed(Sender::Upstream)),
        ["Note EndedEarly", "Text Hel 3/3 in 1, cut"]
    );
}

#[tokio::test]
async fn who_hangs_up_after_the_goodbyes_has_missed_nothing() {
    let close = Frame::close(1000, "");
    let script = vec![
        Step::ReadHead,
        Step::send(switching()),
        Step::Read(8),
        Step::send(unmasked(std::slice::from_ref(&close))),
        Step::Read(1),
        Step::Reset,
    ];
    let (upstream, running) = (scripted(false, vec![script]).await, Running::start().await);
    let client = running.through(&upstream).await;
    let mut socket = soon(client.start_websocket("/", &[("Host", NAME)]))
        .await
        .unwrap();
    socket.send(&close).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), Some(close));
    // Against the rules; it has the upstream end with a reset.
    socket.send_bytes(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), None);
    assert!(running.recorder.only_flow().await.completed());
}

#[tokio::test]
async fn a_websocket_that_outlives_the_drain_is_cut() {
    let running = Running::with(|config| {
        config.timeouts.drain = std::time::Duration::from_millis(50);
    })
    .await;
    let (mut socket, _upstream) = open(&running, "/websocket", &[]).await;
    running.ask_to_stop();
    // It serves as long as it may.
    let frame = Frame::new(TEXT, "still here");
    socket.send(&frame).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
    let (drained, recorder) = running.stop().await;
    assert_eq!(drained.connections_cut, 1);
    assert!(soon(socket.read()).await.is_err());
    let flow = recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, FailureKind::ShuttingDown);
}

#[tokio::test]
async fn a_silent_websocket_times_out() {
    let running = Running::with(|config| {
        config.timeouts.idle_body = std::time::Duration::from_millis(100);
    })
    .await;
    let (mut socket, _upstream) = open(&running, "/websocket", &[]).await;
    assert!(soon(socket.read()).await.is_err());
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, FailureKind::TimedOut);
}
