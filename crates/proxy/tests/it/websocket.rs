//! WebSockets pass byte for byte, and their messages are told.

use std::io;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use testbed::client::{Client, Http2Client, Request};
use testbed::script::{Played, Step};
use testbed::upstream::{Protocols, Upstream, UpstreamOptions, Version};
use testbed::websocket::{
    ACCEPT, BINARY, CLOSE, CONTINUATION, Frame, KEY, PING, PONG, TEXT, WebSocket,
};
use traffic::wire::websocket::{Close, Observation, Problem};
use traffic::{BodySize, FailureKind, FlowKind, Sender, Side};

use crate::recorder::FlowSeen;
use crate::running::{NAME, Running, authority_of, http, https, scripted, upstream_authority};
use crate::soon;

/// An upgrade as a client may write it: case, order and white space of its own.
fn upgrade() -> String {
    format!(
        "GET /chat?x=1 HTTP/1.1\r\nhost:a\r\nConnection: keep-alive, Upgrade\r\nX-Two: 2\r\n\
         upgrade: WebSocket\r\nSec-WebSocket-Key:  {KEY}\r\nSEC-WEBSOCKET-VERSION: 13\r\n\r\n"
    )
}

fn switching() -> String {
    format!(
        "HTTP/1.1 101 Of Course\r\nSec-WebSocket-Accept: {ACCEPT}\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\nX-One: 1\r\n\r\n"
    )
}

/// The client's bytes of these frames, as one would see them on the wire.
fn masked(frames: &[Frame]) -> Vec<u8> {
    let bytes = frames
        .iter()
        .map(|frame| frame.to_bytes(Some([1, 2, 3, 4])));
    bytes.collect::<Vec<_>>().concat()
}

fn unmasked(frames: &[Frame]) -> Vec<u8> {
    let bytes = frames.iter().map(|frame| frame.to_bytes(None));
    bytes.collect::<Vec<_>>().concat()
}

/// What a message says in short.
fn told(observed: &[Observation]) -> Vec<String> {
    let told = |observation: &Observation| match observation {
        Observation::Message(message) => format!(
            "{:?} {} {}/{} in {}{}",
            message.kind,
            String::from_utf8_lossy(message.payload.get(..20).unwrap_or(&message.payload)),
            message.payload_bytes,
            message.wire_bytes,
            message.frames,
            if message.complete { "" } else { ", cut" },
        ),
        Observation::Ping(payload) => format!("Ping {}", String::from_utf8_lossy(payload)),
        Observation::Pong(payload) => format!("Pong {}", String::from_utf8_lossy(payload)),
        Observation::Close(Close { code, reason }) => {
            format!("Close {code:?} {}", String::from_utf8_lossy(reason))
        }
        Observation::Note(problem) => format!("Note {problem:?}"),
    };
    observed.iter().map(told).collect()
}

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

/// A WebSocket of the general upstream through the proxy by HTTP/1.1.
async fn open(running: &Running, path: &str, fields: &[(&str, &str)]) -> (WebSocket, Upstream) {
    let upstream = https(Protocols::Both).await;
    let opened = open_by(Version::Http1, running, &upstream, path, fields).await;
    (opened.unwrap().0, upstream)
}

/// Compresses with one history (RFC 7692 section 7.2.1).
fn deflate(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(message.len() + 100);
    let flush = FlushCompress::Sync;
    compress
        .compress_vec(message, &mut deflated, flush)
        .unwrap();
    deflated.truncate(deflated.len() - 4);
    deflated
}

/// Sends compressed messages and a close frame.
async fn converse_deflated(socket: &mut WebSocket) {
    let mut compress = Compress::new(Compression::default(), false);
    for _ in 0..2 {
        let deflated = deflate(&mut compress, b"Hello Hello Hello");
        let frame = Frame::new(TEXT, deflated).compressed();
        socket.send(&frame).await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
    }
    let close = Frame::close(1000, "bye");
    socket.send(&close).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), Some(close));
    assert_eq!(soon(socket.read()).await.unwrap(), None);
}

/// Checks what is told of that.
fn check_deflated(flow: &FlowSeen) {
    assert!(flow.completed(), "{:?}", flow.outcome());
    assert_eq!(flow.started.kind, FlowKind::WebSocket);
    for sender in [Sender::Client, Sender::Upstream] {
        let told = told(&flow.observed(sender));
        assert_eq!(told.len(), 3, "{told:?}");
        for message in &told[..2] {
            assert!(
                message.starts_with("Text Hello Hello Hello 17/"),
                "{told:?}"
            );
        }
        assert_eq!(told[2], "Close Some(1000) bye");
    }
}

#[tokio::test]
async fn compressed_messages_are_told_inflated() {
    let running = Running::start().await;
    let fields = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    let (mut socket, _upstream) = open(&running, "/websocket", &fields).await;
    converse_deflated(&mut socket).await;
    drop(socket);
    let flow = running.recorder.only_flow().await;
    check_deflated(&flow);
    assert_eq!(
        flow.course(),
        "started upstream response streamed response-ended request-ended ended"
    );
}

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
async fn a_refusal_passes_as_it_is_and_the_connection_stays() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let ask = |path: &str| {
        Request::get(path)
            .host(NAME)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", KEY)
    };
    let response = soon(client.request(&ask("/websocket?refuse=403"))).await;
    let response = response.unwrap();
    assert_eq!(response.head.status, 403);
    assert_eq!(response.text(), "no websocket for you\n");
    let plain = soon(client.request(&ask("/bytes/3"))).await.unwrap();
    assert_eq!((plain.head.status, plain.body.seen), (200, 3));
    assert_eq!(upstream.connection_count(), 1);
    for flow in running.recorder.ended(2).await {
        assert!(flow.completed() && flow.started.kind == FlowKind::WebSocket);
        assert_eq!(flow.observed(Sender::Upstream), []);
    }
}

#[tokio::test]
async fn what_is_no_proper_upgrade_goes_on_without_it() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let flawed = Request::get("/echo")
        .host(NAME)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    let response = soon(client.request(&flawed)).await.unwrap();
    assert_eq!(response.head.status, 200);
    let mut with_body = Request::post("/echo", "body")
        .host(NAME)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY);
    with_body.method = "GET".to_owned();
    soon(client.request(&with_body)).await.unwrap();
    for received in upstream.wait_for_requests(2).await {
        assert_eq!(received.headers.get("upgrade"), None);
        assert_eq!(received.headers.get("connection"), None);
    }
    for flow in running.recorder.ended(2).await {
        assert_eq!(flow.started.kind, FlowKind::Http);
    }
}

/// What becomes of an answer to an upgrade.
async fn answered(answer: &str) -> (Bytes, FlowSeen) {
    let script = vec![Step::ReadHead, Step::send(answer), Step::CloseWrite];
    let (upstream, running) = (scripted(false, vec![script]).await, Running::start().await);
    let mut client = running.through(&upstream).await;
    client.send(upgrade()).await.unwrap();
    let got = soon(client.read_until("\r\n\r\n")).await.unwrap();
    drop(client);
    (got, running.recorder.only_flow().await)
}

#[tokio::test]
async fn a_switch_to_something_else_is_refused() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let (got, flow) = answered(answer).await;
        assert!(got.starts_with(b"HTTP/1.1 502 "), "{got:?}");
        let (failure, replied) = flow.failure();
        assert_eq!((failure.kind, replied), (FailureKind::Malformed, Some(502)));
    }
}

#[tokio::test]
async fn a_wrong_proof_passes_and_is_noted() {
    let answer = switching().replace(ACCEPT, "wrong");
    let (got, flow) = answered(&answer).await;
    assert_eq!(got, answer);
    assert_eq!(
        flow.observed(Sender::Upstream),
        [Observation::Note(Problem::AcceptWrong)]
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

/// An upstream, and how its HTTP/2 is.
async fn upstream(protocols: Protocols, extended_connect: bool) -> Upstream {
    let identity = upstream_authority().issue(&[NAME]);
    let mut options = UpstreamOptions::https(identity, protocols);
    options.extended_connect = extended_connect;
    Upstream::start(options).await.unwrap()
}

/// A client of HTTP/2 that knows the settings of its peer.
async fn http2(running: &Running, upstream: &Upstream) -> Http2Client {
    let client = running.through_tls(upstream, &["h2", "http/1.1"]).await;
    let client = client.start_http2().await.unwrap();
    let url = format!("https://{}/bytes/1", authority_of(upstream));
    let get = http::Request::get(url).body(Bytes::new()).unwrap();
    assert_eq!(soon(client.request(get)).await.unwrap().head.status, 200);
    client
}

/// Opens a WebSocket as a client of either version; with the connection that it is a stream of.
async fn open_by(
    version: Version,
    running: &Running,
    upstream: &Upstream,
    path: &str,
    fields: &[(&str, &str)],
) -> io::Result<(WebSocket, Option<Http2Client>)> {
    match version {
        Version::Http1 => {
            let client = running.through_tls(upstream, &["http/1.1"]).await;
            let fields = [&[("Host", NAME)], fields].concat();
            let socket = soon(client.start_websocket(path, &fields)).await?;
            Ok((socket, None))
        }
        Version::Http2 => {
            let url = format!("https://{}{path}", authority_of(upstream));
            let client = http2(running, upstream).await;
            let socket = soon(client.start_websocket(&url, fields)).await?;
            Ok((socket, Some(client)))
        }
    }
}

/// Where at least one side speaks HTTP/2: client, upstream, whether its HTTP/2 takes WebSockets, and
/// what carries it there.
const TURNED_OVER: [(Version, Protocols, bool, Version); 5] = [
    (Version::Http2, Protocols::Http2, true, Version::Http2),
    (Version::Http2, Protocols::Both, true, Version::Http2),
    (Version::Http2, Protocols::Both, false, Version::Http1),
    (Version::Http1, Protocols::Http2, true, Version::Http2),
    (Version::Http1, Protocols::Both, true, Version::Http1),
];

#[tokio::test]
async fn passes_over_each_version_of_http() {
    for (version, protocols, extended_connect, carried) in TURNED_OVER {
        let case = format!("{version:?} {protocols:?} {extended_connect}");
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let fields = [
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-protocol", "chat"),
        ];
        let socket = open_by(version, &running, &upstream, "/websocket?a=b", &fields).await;
        let (mut socket, _client) = socket.unwrap_or_else(|error| panic!("{case}: {error}"));
        let answer = socket.response.take().unwrap().headers;
        assert_eq!(answer.get("sec-websocket-protocol"), Some("chat"), "{case}");
        let expected = (version == Version::Http1).then_some(ACCEPT);
        assert_eq!(answer.get("sec-websocket-accept"), expected, "{case}");
        converse_deflated(&mut socket).await;
        drop(socket);

        let received = upstream.received().pop().unwrap();
        assert_eq!(
            (received.version, received.target.as_str()),
            (carried, "/websocket?a=b")
        );
        let field = |name| received.headers.get(name);
        assert_eq!(field("sec-websocket-version"), Some("13"), "{case}");
        assert_eq!(
            field("sec-websocket-extensions"),
            Some("permessage-deflate")
        );
        match carried {
            Version::Http1 => assert_eq!(received.method, "GET"),
            Version::Http2 => {
                assert_eq!(received.method, "CONNECT");
                assert_eq!(field(":protocol"), Some("websocket"));
                assert_eq!(field("sec-websocket-key"), None);
                assert_eq!(field("upgrade"), None);
            }
        }
        let flows = running
            .recorder
            .ended(1 + usize::from(version == Version::Http2))
            .await;
        check_deflated(flows.last().unwrap());
    }
}

#[tokio::test]
async fn a_refusal_passes_over_each_version_of_http() {
    for (version, protocols, extended_connect, _) in TURNED_OVER {
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let path = "/websocket?refuse=403";
        let refused = open_by(version, &running, &upstream, path, &[]).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("403"), "{error}");
        let flows = running
            .recorder
            .ended(1 + usize::from(version == Version::Http2))
            .await;
        let flow = flows.last().unwrap();
        assert!(flow.completed(), "{:?}", flow.outcome());
        assert_eq!(flow.started.kind, FlowKind::WebSocket);
        assert_eq!(flow.response_body(), b"no websocket for you\n");
    }
}

#[tokio::test]
async fn an_upstream_without_websockets_is_told_of() {
    for version in [Version::Http1, Version::Http2] {
        let upstream = upstream(Protocols::Http2, false).await;
        let running = Running::start().await;
        let refused = open_by(version, &running, &upstream, "/websocket", &[]).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("501"), "{error}");
        let flows = running
            .recorder
            .ended(1 + usize::from(version == Version::Http2))
            .await;
        let (failure, replied) = flows.last().unwrap().failure();
        assert_eq!(
            (failure.kind, replied),
            (FailureKind::Unsupported, Some(501))
        );
        assert!(failure.text.contains("no WebSockets"), "{}", failure.text);
    }
}

#[tokio::test]
async fn an_end_passes_over_each_version_of_http() {
    for (version, protocols, extended_connect, _) in TURNED_OVER {
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let socket = open_by(version, &running, &upstream, "/websocket", &[]).await;
        let (mut socket, _client) = socket.unwrap();
        let frame = Frame::new(BINARY, vec![7; 3_000_000]);
        // More than any window holds.
        let sent = frame.to_bytes(Some([0; 4]));
        soon(socket.send_bytes(sent)).await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
        socket.close_write().await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), None);
        let flows = running
            .recorder
            .ended(1 + usize::from(version == Version::Http2))
            .await;
        assert!(flows.last().unwrap().completed());
    }
}

#[tokio::test]
async fn a_client_that_goes_is_told_to_the_upstream() {
    for (version, protocols, extended_connect, _) in TURNED_OVER {
        let upstream = upstream(protocols, extended_connect).await;
        let running = Running::start().await;
        let socket = open_by(version, &running, &upstream, "/websocket", &[]).await;
        let (mut socket, _client) = socket.unwrap();
        socket
            .send(&Frame::new(TEXT, "a").unfinished())
            .await
            .unwrap();
        soon(socket.read()).await.unwrap().unwrap();
        drop(socket);
        let flows = running
            .recorder
            .ended(1 + usize::from(version == Version::Http2))
            .await;
        let flow = flows.last().unwrap();
        let told = told(&flow.observed(Sender::Client));
        assert_eq!(
            told,
            ["Note EndedEarly", "Text a 1/1 in 1, cut"],
            "{:?}",
            flow.outcome()
        );
    }
}

/// One of many WebSockets of one connection: a message larger than any window there and back, then
/// one of the ways to end.
async fn converse_and_end(client: &Http2Client, authority: &str, number: usize) {
    let path = match number % 4 {
        3 => "/websocket?close=4001",
        _ => "/websocket",
    };
    let url = format!("https://{authority}{path}");
    let mut socket = client.start_websocket(&url, &[]).await.unwrap();
    let message = Frame::new(BINARY, vec![7; 700_000]);
    let sent = message.to_bytes(Some([0; 4]));
    socket.send_bytes(sent.clone()).await.unwrap();
    let close = Frame::close(1000, "");
    match number % 4 {
        0 => {
            assert_eq!(socket.read().await.unwrap(), Some(message));
            socket.send(&close).await.unwrap();
            assert_eq!(socket.read().await.unwrap(), Some(close));
        }
        1 => {
            assert_eq!(socket.read().await.unwrap(), Some(message));
            socket.close_write().await.unwrap();
        }
        // Reset while the echo is on its way and a message goes up.
        2 => return socket.send_bytes(sent).await.unwrap(),
        _ => {
            let close = Frame::close(4001, "as you asked");
            assert_eq!(socket.read().await.unwrap(), Some(close.clone()));
            socket.send(&close).await.unwrap();
        }
    }
    assert_eq!(socket.read().await.unwrap(), None);
}

#[tokio::test]
async fn many_share_a_connection_however_they_end() {
    let (upstream, running) = (
        upstream(Protocols::Http2, true).await,
        Running::start().await,
    );
    let client = http2(&running, &upstream).await;
    let authority = authority_of(&upstream);
    let sockets = (0..12).map(|number| converse_and_end(&client, &authority, number));
    soon(futures_util::future::join_all(sockets)).await;
    for number in 0..8 {
        soon(converse_and_end(&client, &authority, number)).await;
    }
    assert_eq!(upstream.connection_count(), 1);
    let flows = running.recorder.ended(1 + 20).await;
    let broken = flows.iter().filter(|flow| !flow.completed()).count();
    assert_eq!(broken, 5, "those that the client reset");
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
