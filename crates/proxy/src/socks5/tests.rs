//! What a client of SOCKS is answered, octet by octet, with the two ends in memory.

use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use traffic::{ClientAddress, Side, Stage};

use super::*;
use crate::admission::{Credentials, Gatekeeper};
use crate::stream::Wire;

const LIMIT: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"\x05\x01\x00\x03\x09a.example\x01\xbb";

fn ends() -> (DuplexStream, Replay) {
    let (client, ours) = duplex(4096);
    (client, Replay::new(Wire::Memory(ours)))
}

/// Sends all at once, ends the client's side, and says what was answered and what came of it.
async fn check(said: &[&[u8]], keeper: Option<&Gatekeeper>, answered: &[u8], expected: &str) {
    let (mut client, mut wire) = ends();
    client.write_all(&said.concat()).await.unwrap();
    client.shutdown().await.unwrap();
    let address = ClientAddress::Tcp(([192, 0, 2, 1], 1).into());
    let door = keeper.map(|keeper| Door {
        keeper,
        client: address,
    });
    let result = read_request(&mut wire, door, LIMIT).await;
    drop(wire);
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, answered, "{said:?}");
    let result = match result {
        Ok((target, _login)) => target.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(result.contains(expected), "{said:?}: {result}");
}

#[tokio::test(start_paused = true)]
async fn without_credentials_everybody_is_served() {
    let hello = b"\x05\x02\x02\x00";
    check(&[hello, REQUEST], None, b"\x05\x00", "a.example:443").await;
    check(&[b"\x05\x01\x02"], None, b"\x05\xff", "no way").await;
    let ipv4 = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50";
    check(&[hello, ipv4], None, b"\x05\x00", "127.0.0.1:80").await;
    let ipv6 = std::net::Ipv6Addr::LOCALHOST.octets();
    let ipv6: [&[u8]; 4] = [hello, b"\x05\x01\x00\x04", &ipv6, b"\x00\x50"];
    check(&ipv6, None, b"\x05\x00", "[::1]:80").await;
}

#[tokio::test(start_paused = true)]
async fn with_credentials_only_who_knows_them_is_served() {
    let known = Credentials::new("me", "secret").into();
    let known = Gatekeeper::new(&known, &Arc::default(), &Arc::default());
    let known = Some(&known);
    let hello = b"\x05\x02\x00\x02";
    let right: [&[u8]; 3] = [hello, b"\x01\x02me\x06secret", REQUEST];
    check(&right, known, b"\x05\x02\x01\x00", "a.example:443").await;
    for wrong in [
        &b"\x01\x02me\x06secreT"[..],
        b"\x01\x02mE\x06secret",
        b"\x01\x02me\x05secre",
        b"\x01\x00\x00",
        // No UTF-8.
        b"\x01\x02me\x01\xff",
    ] {
        let said = [hello, wrong, REQUEST];
        check(&said, known, b"\x05\x02\x01\x01", "is not admitted").await;
    }
    check(&[b"\x05\x01\x00"], known, b"\x05\xff", "no way").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_supported_is_told() {
    let hello = b"\x05\x01\x00";
    for (request, code, expected) in [
        (
            &b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"[..],
            7,
            "command 2",
        ),
        (b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", 7, "command 3"),
        (b"\x05\x01\x00\x09", 8, "type 9"),
        (b"\x04\x01", 1, "0x04"),
    ] {
        let answered = [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        check(&[hello, request], None, &answered, expected).await;
    }
    let version_4 = b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00";
    check(&[version_4], None, &VERSION_4_REJECTED, "SOCKS 4").await;
}

#[tokio::test(start_paused = true)]
async fn half_a_conversation_ends() {
    for said in [&b"\x05"[..], b"\x05\x02\x00", b""] {
        check(&[said], None, b"", "ended the connection").await;
    }
    let said: [&[u8]; 2] = [b"\x05\x01\x00", b"\x05\x01"];
    check(&said, None, b"\x05\x00", "ended the connection").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_waited_for_once() {
    let (mut client, mut wire) = ends();
    let asking = read_request(&mut wire, None, LIMIT);
    let dripping = async {
        // Octet by octet: none of them begins the wait anew.
        client.write_all(&[5, 200]).await.unwrap();
        for _ in 0..8 {
            client.write_all(&[1]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (result, ()) = tokio::join!(asking, dripping);
    assert!(matches!(result, Err(NoRequest::TimedOut)), "{result:?}");
}

#[test]
fn failures_have_their_codes() {
    let code = |kind| {
        let failure = Failure {
            side: Side::Upstream,
            stage: Stage::Dial,
            kind,
            text: String::new(),
        };
        reply_to(&failure).code()
    };
    for (kind, expected) in [
        (FailureKind::Blocked, 2),
        (FailureKind::Loop, 2),
        (FailureKind::PortNotAllowed, 2),
        (FailureKind::NameNotResolved, 4),
        (FailureKind::Unreachable, 4),
        (FailureKind::Refused, 5),
        (FailureKind::TimedOut, 6),
        (FailureKind::Io, 1),
    ] {
        assert_eq!(code(kind), expected, "{kind:?}");
    }
}
