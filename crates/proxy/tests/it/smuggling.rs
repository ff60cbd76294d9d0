//! Requests that two readers could understand in two ways: refused with a reason, and nothing of
//! them, nor of what follows them, reaches an upstream.

use testbed::client::Client;

use crate::running::{Running, authority_of, http, https};
use crate::soon;
use testbed::upstream::Protocols;
use traffic::{Event, FailureKind};

/// A request that would be a second one for a reader who sees the first end early.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// What stands after a request line, and the status it gets.
fn shapes() -> Vec<(String, u16)> {
    let mut shapes: Vec<(String, u16)> = [
        "Host: HOST\r\nHost: HOST\r\n\r\n",
        "Accept: x\r\n\r\n",
        "Host: HOST\r\nX: 1\r\n folded\r\n\r\n",
        "Host: HOST\r\nX: 1\rY: 2\r\n\r\n",
        "Host: HOST\r\nX: 1\nY: 2\r\n\r\n",
        "Host: HOST\r\nX: 1\n\r\n",
        "Host: HOST\r\nX: 1\n\n",
        "Host: HOST\r\nX: \0\r\n\r\n",
        "Host: HOST\r\nX : 1\r\n\r\n",
        "Host: HOST\r\nContent-Length: +5\r\n\r\n",
        "Host: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "Host: HOST\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "Host: HOST\r\nContent-Length: 5, 5\r\n\r\n",
        "Host: HOST\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "Host: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Host: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        "Host: HOST\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        "Host: HOST\r\nTransfer-Encoding: chun\u{212a}ed\r\n\r\n0\r\n\r\n",
        "Host: HOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Host: HOST\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    ]
    .map(|lines| (format!("POST / HTTP/1.1\r\n{lines}"), 400))
    .into();
    let long = "x".repeat(40 * 1024);
    let fields = "X: y\r\n".repeat(300);
    shapes.extend([
        (
            "POST / HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            400,
        ),
        ("POST / HTTP/1.2\r\nHost: HOST\r\n\r\n".to_owned(), 505),
        (format!("GET /{long} HTTP/1.1\r\nHost: HOST\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n"), 431),
        (
            format!("GET / HTTP/1.1\r\nHost: HOST\r\nX: {long}{long}\r\n\r\n"),
            431,
        ),
    ]);
    shapes
}

async fn check(client: &mut Client, text: &str, status: u16) {
    let shown: String = text.escape_debug().take(120).collect();
    client.send(format!("{text}{SMUGGLED}")).await.unwrap();
    let response = soon(client.read_response("POST")).await.expect(&shown);
    assert_eq!(response.head.status, status, "{shown}: {}", response.text());
    assert!(response.text().starts_with("oriel: "), "{shown}");
    assert_eq!(
        response.head.headers.get("connection"),
        Some("close"),
        "{shown}"
    );
    // What follows is not answered: nobody knows where it begins.
    assert_eq!(soon(client.read_to_end()).await.unwrap(), "", "{shown}");
}

#[tokio::test]
async fn nothing_ambiguous_reaches_an_upstream_from_the_front() {
    let (upstream, running) = (http().await, Running::start().await);
    let host = authority_of(&upstream);
    for (text, status) in shapes() {
        let mut client = running.connect().await;
        check(&mut client, &text.replace("HOST", &host), status).await;
    }
    assert_eq!(upstream.connection_count(), 0);
    assert!(running.recorder.flows().is_empty());
}

#[tokio::test]
async fn nothing_ambiguous_reaches_an_upstream_from_an_opened_connection() {
    let running = Running::start().await;
    let (plain, tls) = (http().await, https(Protocols::Http1).await);
    for (text, status) in shapes() {
        let mut client = running.through(&plain).await;
        check(&mut client, &text.replace("HOST", "a"), status).await;
        let mut client = running.through_tls(&tls, &["http/1.1"]).await;
        check(&mut client, &text.replace("HOST", "a"), status).await;
    }
    assert_eq!(plain.connection_count() + tls.connection_count(), 0);
}

#[tokio::test]
async fn a_chunked_body_that_breaks_its_framing_ends_both_connections() {
    for body in [
        "10000000000000000\r\n",
        "5\r\nhelloX",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "0\r\nX: 1\r\n y\r\n\r\n",
    ] {
        let (upstream, running) = (http().await, Running::start().await);
        let mut client = running.through(&upstream).await;
        let head = "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client
            .send(format!("{head}{body}{SMUGGLED}"))
            .await
            .unwrap();
        let response = soon(client.read_response("POST")).await.unwrap();
        assert_eq!(response.head.status, 400, "{body:?}");
        assert_eq!(soon(client.read_to_end()).await.unwrap(), "", "{body:?}");
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.failure().0.kind, FailureKind::Malformed);
        assert_eq!(upstream.request_count(), 0, "{body:?}");
    }
}

#[tokio::test]
async fn an_ambiguous_response_is_not_passed_on() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nX: 1\rY: 2\nContent-Length: 0\n\n",
        "\nHTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
    ] {
        use crate::running::scripted;
        use testbed::script::Step;
        let script = vec![Step::ReadHead, Step::send(response), Step::ReadToEnd];
        let upstream = scripted(false, vec![script]).await;
        let running = Running::start().await;
        let mut client = running.through(&upstream).await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let got = soon(client.read_response("GET")).await.unwrap();
        assert_eq!(got.head.status, 502, "{response:?}");
        // The upstream's connection is not used again.
        soon(upstream.wait_for_scripts(1)).await;
    }
}

#[tokio::test]
async fn bytes_after_a_response_are_not_the_next_answer() {
    use crate::running::scripted;
    use testbed::script::Step;
    let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let honest = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
    let first = vec![Step::ReadHead, Step::send(surplus), Step::ReadToEnd];
    let second = vec![Step::ReadHead, Step::send(honest)];
    let upstream = scripted(false, vec![first, second]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    let request = testbed::client::Request::get("/").host("a");
    assert_eq!(soon(client.request(&request)).await.unwrap().text(), "ok");
    assert_eq!(soon(client.request(&request)).await.unwrap().text(), "good");
}

#[tokio::test]
async fn a_response_head_with_bare_line_feeds_reaches_the_client_with_crlf() {
    use crate::running::scripted;
    use testbed::script::Step;
    const FIRST: &str = "HTTP/1.1 200 OK\nX-A: 1\r\nContent-Length: 3\n\na\nb";
    const SECOND: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\n\n2\nok\r\n0\r\n\r\n";
    let script = vec![
        Step::ReadHead,
        Step::send(FIRST),
        Step::ReadHead,
        Step::send(SECOND),
        Step::ReadToEnd,
    ];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(request).await.unwrap();
    let got = "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 3\r\n\r\na\nb";
    assert_eq!(soon(client.read_until(got)).await.unwrap(), got);
    // A chunk's size ended by LF alone has no one reading, whatever the head is like.
    client.send(request).await.unwrap();
    let cut = soon(client.read_response("GET")).await.unwrap();
    assert!(cut.whole().is_err());
    let flows = running.recorder.ended(2).await;
    let kept = flows[0].events.iter().find_map(|event| match event {
        Event::ResponseStarted { head, .. } => Some(head.text.clone()),
        _ => None,
    });
    // The record has what came.
    let came = FIRST.strip_suffix("a\nb").unwrap();
    assert_eq!(kept.unwrap(), came);
    assert_eq!(flows[1].failure().0.kind, FailureKind::Malformed);
}
