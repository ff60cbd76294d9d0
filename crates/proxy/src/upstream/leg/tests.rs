//! What oriel says to a proxy and makes of its answers, over streams in memory: the good ones, and
//! by table those that a broken or hostile proxy gives, in every chunking.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const VIA: &str = "Via: 1.1 oriel-0123456789abcdef\r\n";

fn hop(url: &str) -> Hop {
    Hop::new(&url.parse().unwrap(), None)
}

fn target() -> Target {
    Target::parse_with_port("a.example:8443").unwrap()
}

fn wires() -> (Replay, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (Replay::new(Wire::Memory(near)), far)
}

/// What comes of these answers, each written after one octet of the exchange or as many as there
/// are; then the proxy closes. The second value is what oriel said.
async fn exchange(
    url: &str,
    answers: &[&[u8]],
    piece: usize,
) -> (Result<Vec<u8>, Failure>, String) {
    let (mut wire, mut far) = wires();
    let mut said = Vec::new();
    let asked = async {
        let hop = hop(url);
        let limit = Duration::from_secs(5);
        let asked = hop
            .ask(&mut wire, &target(), Purpose::Tunnel, VIA, limit)
            .await;
        let mut rest = Vec::new();
        if asked.is_ok() {
            wire.read_to_end(&mut rest).await.unwrap();
        }
        drop(wire);
        asked.map(|()| rest)
    };
    let proxy = async {
        for answer in answers {
            // Each follows something that was said.
            let mut room = [0; 1024];
            let count = far.read(&mut room).await.unwrap_or(0);
            said.extend_from_slice(&room[..count]);
            for part in answer.chunks(piece) {
                // oriel may have had enough.
                let _written = far.write_all(part).await;
                tokio::task::yield_now().await;
            }
        }
        let _ended = far.shutdown().await;
        let _rest = far.read_to_end(&mut said).await;
    };
    let (asked, ()) = tokio::join!(asked, proxy);
    (asked, String::from_utf8_lossy(&said).into_owned())
}

/// A failure as `kind: text`, or the bytes that follow, in whatever pieces the answers come.
async fn check(url: &str, answers: &[&[u8]], expected: &str) {
    for piece in [1, 7, 64 * 1024] {
        let (asked, _said) = exchange(url, answers, piece).await;
        let got = match asked {
            Ok(rest) => format!("granted, then {:?}", String::from_utf8_lossy(&rest)),
            Err(failure) => {
                assert_eq!(failure.side, Side::Upstream);
                assert_eq!(failure.stage, Stage::UpstreamProxy);
                assert!(!failure.text.contains("secret"), "{failure:?}");
                format!("{}: {}", failure.kind.as_str(), failure.text)
            }
        };
        assert!(got.contains(expected), "{answers:?}: {got}");
    }
}

#[tokio::test]
async fn asks_an_http_proxy_by_connect() {
    let ok: &[&[u8]] = &[b"HTTP/1.1 200 Connection established\r\n\r\n"];
    let (asked, said) = exchange("http://p.example", ok, 1).await;
    asked.unwrap();
    assert_eq!(
        said,
        format!("CONNECT a.example:8443 HTTP/1.1\r\nHost: a.example:8443\r\n{VIA}\r\n")
    );
    let (asked, said) = exchange("http://me:secret@p.example", ok, 1).await;
    asked.unwrap();
    assert!(
        said.ends_with("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"),
        "{said}"
    );
}

#[tokio::test]
async fn what_follows_the_head_is_the_targets() {
    for (answer, expected) in [
        (
            "HTTP/1.1 200 OK\r\n\r\nSSH-2.0",
            "granted, then \"SSH-2.0\"",
        ),
        ("HTTP/1.0 200\r\nVia: x\r\n\r\nabc", "granted, then \"abc\""),
        // Whatever it says of a body (RFC 9110 section 9.3.6).
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "granted, then \"abc\"",
        ),
        (
            "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
            "granted, then \"\"",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nabc",
            "granted, then \"abc\"",
        ),
    ] {
        check("http://p.example", &[answer.as_bytes()], expected).await;
    }
}

#[tokio::test]
async fn answers_of_an_http_proxy_that_grant_nothing() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(80_000));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let long = format!("HTTP/1.1 500 {}\r\n\r\n", "x".repeat(1000));
    for (answer, expected) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
             proxy-authenticate: Negotiate\r\n\r\n",
            "upstream_proxy_unauthorized: the upstream proxy http://p.example:80 asks for \
             credentials (Basic, Negotiate), and none are set for it",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!",
            "upstream_proxy_denied: the upstream proxy http://p.example:80 answered CONNECT \
             a.example:8443 with 403 Forbidden",
        ),
        ("HTTP/1.1 403\r\n\r\n", "upstream_proxy_denied: "),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            "upstream_proxy_failed: ",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
            "upstream_proxy_failed: ",
        ),
        ("HTTP/1.1 101 Switching\r\n\r\n", "upstream_proxy_failed: "),
        ("", "closed the connection without an answer"),
        (
            "HTTP/1.1 200 OK\r\n",
            "closed the connection without an answer",
        ),
        ("SSH-2.0-x\r\n\r\n", "did not answer CONNECT in HTTP"),
        ("\u{5}\u{0}\r\n\r\n", "did not answer CONNECT in HTTP"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "did not answer CONNECT in HTTP"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "in HTTP",
        ),
        ("\r\n\r\n", "did not answer CONNECT in HTTP"),
        (&large, "larger than 64 KiB"),
        (&interim, "interim responses and nothing else"),
        (&long, &format!("500 {}", "x".repeat(80))),
    ] {
        check("http://p.example", &[answer.as_bytes()], expected).await;
    }
    let denied = b"HTTP/1.1 407 No\r\n\r\n";
    let expected = "upstream_proxy_unauthorized: the upstream proxy http://p.example:80 does not \
                    accept the credentials that are set for it";
    check("http://me:secret@p.example", &[denied], expected).await;
}

#[tokio::test]
async fn asks_a_socks_proxy_for_a_name() {
    let granted = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50SSH-2.0";
    let (asked, said) = exchange("socks5://p.example", &[b"\x05\x00", granted], 1).await;
    assert_eq!(asked.unwrap(), b"SSH-2.0");
    assert_eq!(
        said,
        "\u{5}\u{1}\u{0}\u{5}\u{1}\u{0}\u{3}\u{9}a.example \u{fffd}"
    );
    let url = "socks5://me:secret@p.example";
    let (asked, said) = exchange(url, &[b"\x05\x02", b"\x01\x00", granted], 1).await;
    asked.unwrap();
    assert!(
        said.starts_with("\u{5}\u{2}\u{0}\u{2}\u{1}\u{2}me\u{6}secret\u{5}\u{1}"),
        "{said:?}"
    );
    // A proxy that asks for nothing is told nothing.
    let (asked, said) = exchange(url, &[b"\x05\x00", granted], 1).await;
    asked.unwrap();
    assert!(!said.contains("secret"));
}

#[tokio::test]
async fn answers_of_a_socks_proxy_that_grant_nothing() {
    let with = "socks5://me:secret@p.example";
    let without = "socks5://p.example";
    let cases: &[(&str, &[&[u8]], &str)] = &[
        (without, &[b"\x05\xff"], "upstream_proxy_unauthorized: "),
        (
            without,
            &[b"\x05\x02"],
            "asks for credentials, and none are set",
        ),
        (with, &[b"\x05\xff"], "takes no user name and password"),
        (
            with,
            &[b"\x05\x02", b"\x01\x01"],
            "does not accept the credentials",
        ),
        (
            without,
            &[b"\x05\x00", b"\x05\x02\x00\x01"],
            "upstream_proxy_denied: ",
        ),
        (
            without,
            &[b"\x05\x00", b"\x05\x05\x00\x01"],
            "connection refused (SOCKS code 5)",
        ),
        (
            without,
            &[b"\x05\x00", b"\x05\xc8\x00\x01"],
            "upstream_proxy_failed: ",
        ),
        (
            without,
            &[b"\x05\x00", b"\x05\x00\x00\x09"],
            "did not answer in SOCKS 5",
        ),
        (
            without,
            &[b"\x05\x00", b"\x05\x00\x00\x01\x7f"],
            "in the middle of the SOCKS exchange",
        ),
        (without, &[b""], "in the middle of the SOCKS exchange"),
        (
            without,
            &[b"HTTP/1.1 400 Bad\r\n\r\n"],
            "did not answer in SOCKS 5",
        ),
        (without, &[b"\x04\x5a"], "did not answer in SOCKS 5"),
    ];
    for (url, answers, expected) in cases {
        check(url, answers, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_is_not_waited_for() {
    for url in ["http://p.example", "socks5://p.example"] {
        let (mut wire, _far) = wires();
        let limit = Duration::from_secs(5);
        let begun = tokio::time::Instant::now();
        let hop = hop(url);
        let asked = hop
            .ask(&mut wire, &target(), Purpose::Tunnel, VIA, limit)
            .await;
        let failure = asked.unwrap_err();
        assert_eq!(failure.kind, FailureKind::TimedOut);
        assert!(
            failure
                .text
                .ends_with("did not connect to a.example:8443 within 5 s")
        );
        assert_eq!(begun.elapsed(), limit);
    }
}

#[tokio::test]
async fn plain_requests_are_announced_one_by_one() {
    let limit = Duration::from_secs(5);
    let (mut wire, mut far) = wires();
    let (hop, target) = (hop("http://p.example"), target());
    let asked = hop.ask(&mut wire, &target, Purpose::Forward, VIA, limit);
    asked.await.unwrap();
    drop(wire);
    let mut said = Vec::new();
    far.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"");
}
