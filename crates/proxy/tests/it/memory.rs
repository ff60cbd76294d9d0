//! A gigabyte passes within TLS, and the memory of the process does not grow with it. Client and
//! upstream are in the same process, so their buffers count too.

use bytes::Bytes;
use testbed::client::{Client, Http2Client, Http2Stream, Request};
use testbed::upstream::{Protocols, Upstream, pattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use traffic::Sender;
use traffic::wire::limits::MESSAGE_BYTES_KEPT;
use traffic::wire::websocket::Observation;

use crate::running::{NAME, Running, authority_of, https};

/// What passes.
const LENGTH: u64 = 1 << 30;
/// What passes before: keys, tables and the first buffers are made once.
const WARMING: u64 = 32 << 20;
/// By how much the most that the process ever held may have grown. The upstream of an upload over
/// HTTP/1.1 takes half of it, whatever the length: it keeps 16 MiB of the body and 16 MiB as framed.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                           Upgrade: websocket\r\n\
                           Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Set where a test runs alone in a process of its own, whose memory is its own.
const ALONE: &str = "ORIEL_TEST_ALONE";

/// Runs `pass` with both lengths in a process of its own and compares what it held at most.
async fn check(test: &str, pass: impl AsyncFn(u64)) {
    if std::env::var_os(ALONE).is_some() {
        pass(WARMING).await;
        let before = resident_bytes_max();
        pass(LENGTH).await;
        let grown = resident_bytes_max() - before;
        assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");
        return;
    }
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("memory::{test}")])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

/// The most that this process ever held in memory (proc(5), `VmHWM`).
fn resident_bytes_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() * 1024
}

async fn http1(running: &Running, upstream: &Upstream) -> Client {
    running.through_tls(upstream, &["http/1.1"]).await
}

async fn http2(running: &Running, upstream: &Upstream) -> Http2Client {
    let client = running.through_tls(upstream, &["h2"]).await;
    client.start_http2().await.unwrap()
}

#[tokio::test]
async fn a_download_over_http1() {
    check("a_download_over_http1", async |length| {
        let upstream = https(Protocols::Http1).await;
        let running = Running::start().await;
        let mut client = http1(&running, &upstream).await;
        let request = Request::get(&format!("/bytes/{length}")).host(NAME);
        client.send(request.to_bytes()).await.unwrap();
        client.read_head().await.unwrap();
        let mut left = length;
        while left > 0 {
            let piece = client.read_some().await.unwrap();
            assert!(!piece.is_empty(), "the body was cut");
            left -= piece.len() as u64;
        }
    })
    .await;
}

#[tokio::test]
async fn a_download_over_http2() {
    check("a_download_over_http2", async |length| {
        let upstream = https(Protocols::Http2).await;
        let running = Running::start().await;
        let client = http2(&running, &upstream).await;
        let url = format!("https://{}/bytes/{length}", authority_of(&upstream));
        let get = http::Request::get(url).body(()).unwrap();
        let stream = client.open(get, true).await.unwrap();
        let mut body = stream.response.await.unwrap().into_body();
        let mut left = length;
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            left -= piece.len() as u64;
        }
        assert_eq!(left, 0);
    })
    .await;
}

#[tokio::test]
async fn an_upload_over_http1() {
    check("an_upload_over_http1", async |length| {
        let upstream = https(Protocols::Http1).await;
        let running = Running::start().await;
        let mut client = http1(&running, &upstream).await;
        let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.send(head).await.unwrap();
        for piece in pattern(0, length) {
            client.send(piece).await.unwrap();
        }
        let response = client.read_response("POST").await.unwrap();
        assert_eq!(response.text(), format!("{{\"received\":{length}}}"));
    })
    .await;
}

#[tokio::test]
async fn an_upload_over_http2() {
    check("an_upload_over_http2", async |length| {
        let upstream = https(Protocols::Http2).await;
        let running = Running::start().await;
        let client = http2(&running, &upstream).await;
        let url = format!("https://{}/upload", authority_of(&upstream));
        let post = http::Request::post(url).body(()).unwrap();
        let mut stream = client.open(post, false).await.unwrap();
        for piece in pattern(0, length) {
            send(&mut stream, piece).await;
        }
        stream.body.send_data(Bytes::new(), true).unwrap();
        let response = stream.read_response().await.unwrap();
        assert_eq!(response.text(), format!("{{\"received\":{length}}}"));
    })
    .await;
}

/// One frame that announces a tebibyte, as far as the test goes.
#[tokio::test]
async fn a_frame_without_end() {
    check("a_frame_without_end", async |length| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let mut upstream = JoinSet::new();
        upstream.spawn(discard(listener));
        let kept = MESSAGE_BYTES_KEPT as u64;
        let running = Running::with(|config| config.body_bytes_kept = kept).await;
        let mut client = Client::connect_through(running.address, &authority)
            .await
            .unwrap();
        client.send(UPGRADE).await.unwrap();
        client.read_until("\r\n\r\n").await.unwrap();
        let header = b"\x82\xff\0\0\x01\0\0\0\0\0mask";
        client.send(header).await.unwrap();
        for piece in pattern(0, length) {
            client.send(piece).await.unwrap();
        }
        client.close_write().await.unwrap();
        assert_eq!(client.read_to_end().await.unwrap(), "");
        let discarded = upstream.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(discarded, header.len() as u64 + length);
        let flow = running.recorder.only_flow().await;
        let observed = flow.observed(Sender::Client);
        let Some(Observation::Message(message)) = observed.last() else {
            panic!("{observed:?}");
        };
        assert_eq!(message.payload.len(), MESSAGE_BYTES_KEPT);
        assert_eq!((message.payload_bytes, message.complete), (length, false));
    })
    .await;
}

/// Opens a WebSocket, takes what comes and keeps none of it; says how much it was.
async fn discard(listener: TcpListener) -> std::io::Result<u64> {
    let (mut stream, _) = listener.accept().await?;
    let mut room = vec![0; 64 * 1024];
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    stream.write_all(SWITCHING).await?;
    let mut seen = 0;
    loop {
        match stream.read(&mut room).await? {
            0 => return Ok(seen),
            length => seen += length as u64,
        }
    }
}

/// Sends as the other side takes it.
async fn send(stream: &mut Http2Stream, mut data: Bytes) {
    while !data.is_empty() {
        stream.body.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|cx| stream.body.poll_capacity(cx)).await;
        let part = capacity.unwrap().unwrap().min(data.len());
        stream.body.send_data(data.split_to(part), false).unwrap();
    }
}
