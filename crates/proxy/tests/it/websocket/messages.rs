//! What a WebSocket carries passes octet for octet, and is told as messages.

use bytes::Bytes;
use testbed::client::Client;
use testbed::script::{Played, Step};
use testbed::upstream::{Upstream, Version};
use testbed::websocket::{BINARY, CONTINUATION, Frame, PING, PONG, TEXT};
use traffic::{BodySize, FlowKind, Sender};

use super::{masked, open, open_by, switching, told, unmasked, upgrade};
use crate::running::{Running, scripted};
use crate::soon;

/// What the upstream got and what the client got.
async fn converse(mut client: Client, upstream: &Upstream, frames: &[u8]) -> (Played, Bytes) {
    // The client does not wait for the answer: what comes early belongs to the WebSocket.
    let early = [upgrade().as_bytes(), &frames[..7]].concat();
    client.send(early).await.unwrap();
    let head = soon(client.read_until("\r\n\r\n")).await.unwrap();
    client.send(&frames[7..]).await.unwrap();
    let rest = soon(client.read_to_end()).await.unwrap();
    client.close_write().await.unwrap();
    let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
    (played, [head, rest].concat().into())
}

#[tokio::test]
async fn every_octet_is_the_one_that_was_sent() {
    let from_client = masked(&[
        Frame::new(TEXT, "Hel").unfinished(),
        Frame::new(PING, "are you there"),
        Frame::new(CONTINUATION, "lo"),
        Frame::new(3, "no such opcode"),
        Frame::new(BINARY, vec![8; 200_000]),
        Frame::close(4001, "done"),
    ]);
    let from_upstream = unmasked(&[
        Frame::new(PONG, "are you there"),
        Frame::new(BINARY, vec![7; 70_000]),
        Frame::close(4001, "done"),
    ]);
    for tls in [false, true] {
        let script = vec![
            Step::ReadHead,
            Step::send([switching().as_bytes(), &from_upstream[..20]].concat()),
            Step::read_until(&from_client[from_client.len() - 12..]),
            Step::send(&from_upstream[20..]),
            Step::CloseWrite,
            Step::ReadToEnd,
        ];
        let running = Running::start().await;
        let upstream = scripted(tls, vec![script.clone()]).await;
        let client = match tls {
            true => running.through_tls(&upstream, &["http/1.1"]).await,
            false => running.through(&upstream).await,
        };
        let (through, got_through) = converse(client, &upstream, &from_client).await;
        let upstream = scripted(false, vec![script]).await;
        let direct = Client::connect(upstream.address()).await.unwrap();
        let (direct, got_direct) = converse(direct, &upstream, &from_client).await;
        assert_eq!((through.failure, direct.failure), (None, None));
        assert!(through.received == direct.received);
        assert!(through.received.ends_with(&from_client));
        assert!(got_through == got_direct);
        assert!(got_direct.ends_with(&from_upstream));
        let flow = running.recorder.only_flow().await;
        assert!(flow.completed() && flow.started.kind == FlowKind::WebSocket);
        // Counted, and told as messages.
        let sizes = [&from_client, &from_upstream].map(|bytes| {
            Some(BodySize {
                seen: bytes.len() as u64,
                kept: 0,
            })
        });
        assert_eq!(<[_; 2]>::from(flow.sizes()), sizes);
        assert_eq!(
            told(&flow.observed(Sender::Client)),
            [
                "Ping are you there",
                "Text Hello 5/5 in 2",
                "Note ReservedOpcode",
                "Binary \u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\
                 \u{8}\u{8}\u{8}\u{8}\u{8}\u{8} 200000/200000 in 1",
                "Close Some(4001) done",
            ]
        );
    }
}

#[tokio::test]
async fn a_frame_that_announces_a_tebibyte_costs_nothing() {
    let script = vec![
        Step::ReadHead,
        Step::send(switching()),
        Step::ReadToEnd,
        Step::CloseWrite,
    ];
    let (upstream, running) = (scripted(true, vec![script]).await, Running::start().await);
    let (mut socket, _) = open_by(Version::Http1, &running, &upstream, "/", &[])
        .await
        .unwrap();
    let announced = Bytes::from_static(b"\x82\xff\0\0\x01\0\0\0\0\0\0\0\0\0data");
    socket.send_bytes(announced).await.unwrap();
    socket.close_write().await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), None);
    let flow = running.recorder.only_flow().await;
    assert_eq!(
        told(&flow.observed(Sender::Client)),
        ["Note EndedEarly", "Binary data 4/4 in 1, cut"]
    );
}

#[tokio::test]
async fn a_message_in_very_many_fragments_is_one_message() {
    const FRAGMENTS: usize = 400_000;
    let fragment = masked(&[Frame::new(CONTINUATION, "ab").unfinished()]);
    let sent = [
        masked(&[Frame::new(TEXT, "").unfinished()]),
        fragment.repeat(FRAGMENTS),
        masked(&[Frame::new(CONTINUATION, ""), Frame::close(1000, "")]),
    ]
    .concat();
    let script = vec![
        Step::ReadHead,
        Step::send(switching()),
        Step::ReadToEnd,
        Step::CloseWrite,
    ];
    let (upstream, running) = (scripted(false, vec![script]).await, Running::start().await);
    let mut client = running.through(&upstream).await;
    client.send(upgrade()).await.unwrap();
    soon(client.read_until("\r\n\r\n")).await.unwrap();
    soon(client.send(&sent)).await.unwrap();
    client.close_write().await.unwrap();
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "");
    let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
    assert!(played.received.ends_with(&sent));
    let flow = running.recorder.only_flow().await;
    assert_eq!(
        told(&flow.observed(Sender::Client)),
        [
            "Text abababababababababab 800000/800000 in 400002",
            "Close Some(1000) "
        ]
    );
}

#[tokio::test]
async fn of_a_message_no_more_is_told_than_of_a_body() {
    for (kept, expected) in [(0, "Text  5/5 in 1"), (2, "Text He 5/5 in 1")] {
        let running = Running::with(|config| config.body_bytes_kept = kept).await;
        let (mut socket, _upstream) = open(&running, "/websocket", &[]).await;
        socket.send(&Frame::new(TEXT, "Hello")).await.unwrap();
        soon(socket.read()).await.unwrap().unwrap();
        socket.close_write().await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), None);
        let flow = running.recorder.only_flow().await;
        assert_eq!(told(&flow.observed(Sender::Client)), [expected]);
    }
}
