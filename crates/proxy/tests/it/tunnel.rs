//! Bytes that pass unopened: exactly, both ways, with each side's end as it came, and counted.

use std::io;
use std::time::Duration;

use testbed::client::{Client, Request};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::pattern;
use traffic::rules::route::Unlisted;
use traffic::{FailureKind, FlowKind, Side};

use crate::running::{NAME, Running, authority_of, http, rules, scripted};
use crate::soon;

async fn running() -> Running {
    Running::with(|config| config.rules = rules(&[], &[], Unlisted::Tunnel)).await
}

fn octets(length: u64) -> Vec<u8> {
    pattern(0, length).flatten().collect()
}

#[tokio::test]
async fn bytes_and_half_closes_pass_both_ways() {
    let (up, down) = (octets(300_000), octets(200_001));
    let script = vec![Step::ReadToEnd, Step::send(&down), Step::CloseWrite];
    let upstream = scripted(false, vec![script]).await;
    let running = running().await;
    let mut client = running.through(&upstream).await;
    client.send(&up).await.unwrap();
    client.close_write().await.unwrap();
    assert_eq!(soon(client.read_to_end()).await.unwrap(), down);
    let played = upstream.wait_for_scripts(1).await.remove(0);
    assert_eq!(played.received, up);
    let flow = running.recorder.only_flow().await;
    assert!(flow.completed());
    assert_eq!(flow.started.kind, FlowKind::Tunnel);
    assert_eq!(flow.tunnelled(), Some((300_000, 200_001)));
}

#[tokio::test]
async fn an_upstream_may_end_first() {
    let script = vec![Step::send("bye"), Step::CloseWrite, Step::ReadToEnd];
    let upstream = scripted(false, vec![script]).await;
    let running = running().await;
    let mut client = running.through(&upstream).await;
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "bye");
    client.send("still here").await.unwrap();
    client.close_write().await.unwrap();
    let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
    assert_eq!(played.received, "still here");
    assert_eq!(
        running.recorder.only_flow().await.tunnelled(),
        Some((10, 3))
    );
}

#[tokio::test]
async fn a_large_transfer_is_exact() {
    const LENGTH: u64 = 48 * 1024 * 1024;
    let (upstream, running) = (http().await, running().await);
    let mut client = running.through(&upstream).await;
    let request = Request::get(&format!("/bytes/{LENGTH}")).host(NAME);
    let response = soon(client.request(&request)).await.unwrap();
    assert_eq!(response.body.seen, LENGTH);
    assert!(response.body.kept == octets(response.body.kept.len() as u64));
    drop(client);
    let (_, from_upstream) = running.recorder.only_flow().await.tunnelled().unwrap();
    assert_eq!(from_upstream, LENGTH + response.head.raw.len() as u64);
}

#[tokio::test]
async fn bytes_sent_with_the_connect_pass_too() {
    let script = vec![Step::expect("early"), Step::send("yes")];
    let upstream = scripted(false, vec![script]).await;
    let running = running().await;
    let mut client = running.connect().await;
    let connect = format!("CONNECT {} HTTP/1.1\r\n\r\nearly", authority_of(&upstream));
    client.send(connect).await.unwrap();
    soon(client.read_until("\r\n\r\n")).await.unwrap();
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "yes");
    drop(client);
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.tunnelled(), Some((5, 3)));
}

#[tokio::test]
async fn a_reset_of_the_upstream_is_a_reset_for_the_client() {
    // An orderly end would pass for the end of what was to come.
    let go = Gate::new();
    let script = vec![Step::send("half"), Step::Wait(go.clone()), Step::Reset];
    let upstream = scripted(false, vec![script]).await;
    let running = running().await;
    let mut client = running.through(&upstream).await;
    assert_eq!(soon(client.read_exact(4)).await.unwrap(), "half");
    go.open();
    let error = soon(client.read_to_end()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let flow = running.recorder.only_flow().await;
    let (failure, _) = flow.failure();
    assert_eq!(
        (failure.side, failure.kind),
        (Side::Upstream, FailureKind::Reset)
    );
    assert_eq!(flow.tunnelled(), Some((0, 4)));
}

#[tokio::test]
async fn a_reset_of_the_client_is_a_reset_for_the_upstream() {
    let upstream = scripted(
        false,
        vec![vec![Step::expect("x"), Step::send("y"), Step::ReadToEnd]],
    )
    .await;
    let running = running().await;
    let mut client = running.through(&upstream).await;
    client.send("x").await.unwrap();
    assert_eq!(soon(client.read_exact(1)).await.unwrap(), "y");
    client.reset().unwrap();
    let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
    assert_eq!(played.failure.map(|(step, _)| step), Some(2));
    let flow = running.recorder.only_flow().await;
    let (failure, _) = flow.failure();
    assert_eq!(
        (failure.side, failure.kind),
        (Side::Client, FailureKind::Reset)
    );
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_told_before_anything_passes() {
    let gone = http().await;
    let authority = authority_of(&gone);
    gone.stop().await;
    let running = running().await;
    let mut client: Client = running.connect().await;
    client
        .send(format!("CONNECT {authority} HTTP/1.1\r\n\r\n"))
        .await
        .unwrap();
    let response = soon(client.read_response("GET")).await.unwrap();
    assert_eq!(response.head.status, 502);
    let proxy_status = response.head.headers.get("proxy-status").unwrap();
    assert!(
        proxy_status.contains("connection_refused"),
        "{proxy_status}"
    );
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, FailureKind::Refused);
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_ended() {
    let upstream = scripted(false, vec![vec![Step::ReadToEnd]]).await;
    let running = Running::with(|config| {
        config.rules = rules(&[], &[], Unlisted::Tunnel);
        config.timeouts.idle_body = Duration::from_millis(50);
    })
    .await;
    let mut client = running.through(&upstream).await;
    let _ended = soon(client.read_to_end()).await;
    soon(upstream.wait_for_scripts(1)).await;
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, FailureKind::TimedOut);
    assert_eq!(flow.tunnelled(), Some((0, 0)));
}
