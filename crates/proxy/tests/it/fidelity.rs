//! HTTP/1.1 through the proxy against HTTP/1.1 without it: what either end receives is the same,
//! byte for byte, but for what the rules of a hop name.

use testbed::client::{Client, Request};
use testbed::gate::Gate;
use testbed::script::Step;
use testbed::upstream::Upstream;

use crate::running::{NAME, Running, authority_of, http, scripted};
use crate::soon;

/// The ways from a client to its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    /// Plain HTTP inside CONNECT.
    Opened,
    /// TLS inside CONNECT.
    OpenedTls,
}

const WAYS: [Way; 3] = [Way::Direct, Way::Opened, Way::OpenedTls];

/// One request with its response, and what each becomes where a hop has to change it.
#[derive(Clone, Copy, Debug)]
struct Exchanged<'a> {
    request: &'a str,
    request_through: &'a str,
    response: &'a str,
    response_through: &'a str,
}

impl<'a> Exchanged<'a> {
    fn same(request: &'a str, response: &'a str) -> Self {
        Self {
            request,
            request_through: request,
            response,
            response_through: response,
        }
    }

    async fn check(self) {
        for way in WAYS {
            soon(self.check_way(way)).await;
        }
    }

    async fn check_way(self, way: Way) {
        let (request, response) = match way {
            Way::Direct => (self.request, self.response),
            Way::Opened | Way::OpenedTls => (self.request_through, self.response_through),
        };
        let script = vec![Step::Read(request.len()), Step::send(self.response)];
        let tls = way == Way::OpenedTls;
        let upstream = scripted(tls, vec![script]).await;
        let running = Running::start().await;
        let mut client = open(&running, &upstream, way).await;
        client.send(self.request).await.unwrap();
        let got = client.read_exact(response.len()).await.unwrap();
        assert_eq!(got.escape_ascii().to_string(), escaped(response), "{way:?}");
        let played = upstream.wait_for_scripts(1).await.remove(0);
        assert_eq!(
            played.received.escape_ascii().to_string(),
            escaped(request),
            "{way:?}"
        );
    }
}

fn escaped(text: &str) -> String {
    text.as_bytes().escape_ascii().to_string()
}

async fn open(running: &Running, upstream: &Upstream, way: Way) -> Client {
    match way {
        Way::Direct => Client::connect(upstream.address()).await.unwrap(),
        Way::Opened => running.through(upstream).await,
        Way::OpenedTls => running.through_tls(upstream, &["http/1.1"]).await,
    }
}

#[tokio::test]
async fn heads_keep_order_case_duplicates_and_white_space() {
    Exchanged::same(
        "GET /a%2Fb?q=[1]&q=%zz HTTP/1.1\r\naCCept:  */*\r\nHost: x.example\r\nX-A: 2\r\nx-a:1\t\r\nX-A:\r\n\r\n",
        "HTTP/1.1 200 All Is  Well\r\nset-cookie: a=1\r\nDate: x\r\nSet-Cookie: b=2\r\ncontent-LENGTH: 2\r\n\r\nok",
    )
    .check()
    .await;
}

#[tokio::test]
async fn chunk_sizes_extensions_and_trailers_pass_both_ways() {
    Exchanged::same(
        "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         0003;first=\"1\"\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\nx-sum:8\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n\
         1;ext\r\na\r\n02\r\nbc\r\n000;last\r\nX-T: end\r\n\r\n",
    )
    .check()
    .await;
}

#[tokio::test]
async fn bodies_with_a_length_pass() {
    Exchanged::same(
        "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 201\r\nContent-Length: 0\r\n\r\n",
    )
    .check()
    .await;
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head() {
    for (method, response) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"x\"\r\n\r\n",
        ),
    ] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        Exchanged::same(&request, response).check().await;
    }
}

#[tokio::test]
async fn interim_responses_pass_before_the_final_one() {
    Exchanged::same(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nlink: </b.js>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .check()
    .await;
}

#[tokio::test]
async fn what_concerns_one_hop_stays_on_it() {
    Exchanged {
        request: "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
                  Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers, gzip\r\nX: 1\r\n\r\n",
        request_through: "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
        response: "HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 2\r\nKeep-Alive: max=1\r\nContent-Length: 0\r\n\r\n",
        response_through: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    }
    .check()
    .await;
}

#[tokio::test]
async fn the_client_that_closes_is_told_so_and_its_upstream_is_not() {
    Exchanged {
        request: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        request_through: "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        response: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        response_through: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    }
    .check()
    .await;
}

#[tokio::test]
async fn a_client_of_http10_is_carried_line_by_line_too() {
    let sized = "HTTP/1.1 200 Fine\r\nset-COOKIE: a\r\nContent-Length: 2\r\nX-B:  1\r\n";
    Exchanged {
        request: "POST /a HTTP/1.0\r\nhOST: a\r\nX-a:1\r\nx-A: 2\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
        request_through: "POST /a HTTP/1.1\r\nhOST: a\r\nX-a:1\r\nx-A: 2\r\nContent-Length: 3\r\n\r\nabc",
        response: &format!("{sized}\r\nok"),
        response_through: &format!("{sized}Connection: close\r\n\r\nok"),
    }
    .check()
    .await;
    Exchanged {
        request: "GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
        request_through: "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        response: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                   HTTP/1.1 200 Fine\r\nX-B: 1\r\nTRANSFER-encoding: chunked\r\nx-b:2\r\n\r\n\
                   3;x\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        response_through: "HTTP/1.1 200 Fine\r\nX-B: 1\r\nx-b:2\r\nConnection: close\r\n\r\nabcde",
    }
    .check()
    .await;
}

#[tokio::test]
async fn a_request_of_http10_without_a_host_gets_one() {
    let script = vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 204 No Content\r\n\r\n"),
    ];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    client
        .send("GET /a HTTP/1.0\r\nX: 1\r\n\r\n")
        .await
        .unwrap();
    soon(client.read_response("GET")).await.unwrap();
    let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
    let host = authority_of(&upstream);
    let sent = format!("GET /a HTTP/1.1\r\nX: 1\r\nHost: {host}\r\n\r\n");
    assert_eq!(played.received.escape_ascii().to_string(), escaped(&sent));
}

#[tokio::test]
async fn chunks_for_a_client_of_http10_come_as_one_body_until_close() {
    let kilobytes = 3_000;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let response = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(kilobytes)
    );
    let next = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";
    let script = vec![
        Step::ReadHead,
        Step::send(&*response),
        Step::ReadHead,
        Step::send(next),
    ];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::start().await;
    let mut got = Vec::new();
    for _ in 0..2 {
        let mut client = running.through(&upstream).await;
        client
            .send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        got.push(soon(client.read_to_end()).await.unwrap());
    }
    let end = got[0].windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got[0].len() - end, kilobytes * 0x400);
    assert!(got[0][end..].iter().all(|byte| *byte == b'x'));
    // The upstream's connection was kept for the next one.
    assert!(got[1].ends_with(b"next"));
}

#[tokio::test]
async fn a_body_until_close_ends_with_the_connection() {
    for way in WAYS {
        let response = "HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall there is";
        let script = vec![Step::ReadHead, Step::send(response), Step::CloseWrite];
        let upstream = scripted(way == Way::OpenedTls, vec![script]).await;
        let running = Running::start().await;
        let mut client = open(&running, &upstream, way).await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let got = soon(client.read_to_end()).await.unwrap();
        let got = String::from_utf8_lossy(&got).replace("Connection: close\r\n", "");
        assert_eq!(got, response, "{way:?}");
    }
}

#[tokio::test]
async fn the_upstream_says_100_continue_and_not_the_proxy() {
    let asked = Gate::new();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let script = vec![
        Step::expect(head),
        Step::Wait(asked.clone()),
        Step::send("HTTP/1.1 100 Continue\r\n\r\n"),
        Step::expect("hello"),
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let upstream = scripted(true, vec![script]).await;
    let running = Running::start().await;
    let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
    client.send(head).await.unwrap();
    // The head is with the upstream, which has said nothing: neither must the proxy.
    running
        .recorder
        .told(|event| matches!(event, traffic::Event::UpstreamChosen { .. }))
        .await;
    let early = std::time::Duration::from_millis(30);
    assert!(
        tokio::time::timeout(early, client.read_some())
            .await
            .is_err()
    );
    asked.open();
    let interim = soon(client.read_head()).await.unwrap();
    assert_eq!(interim.raw, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await.unwrap();
    let response = soon(client.read_response("POST")).await.unwrap();
    assert_eq!(response.head.status, 200);
    let played = upstream.wait_for_scripts(1).await.remove(0);
    assert_eq!(played.failure, None);
}

#[tokio::test]
async fn a_final_status_instead_of_100_ends_the_request() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let refusal = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 3\r\n\r\nno\n";
    let script = vec![Step::expect(head), Step::send(refusal), Step::ReadToEnd];
    let upstream = scripted(false, vec![script]).await;
    let running = Running::start().await;
    let mut client = running.through(&upstream).await;
    client.send(head).await.unwrap();
    // The body never came, so neither connection can be used again, and the client is told.
    let told = refusal.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(soon(client.read_to_end()).await.unwrap(), told);
    let played = soon(upstream.wait_for_scripts(1)).await.remove(0);
    assert_eq!(played.received, head);
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    for path in [
        "/bytes/70000",
        "/chunked/50000?size=777",
        "/status/204",
        "/",
        "/trailers",
    ] {
        let request = Request::get(path).host(NAME);
        let response = soon(client.request(&request)).await.unwrap();
        assert!(response.head.status < 300, "{path}");
    }
    assert_eq!(upstream.connection_count(), 1);
    let flows = running.recorder.ended(5).await;
    assert!(flows.iter().all(super::recorder::FlowSeen::completed));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let post = Request::post("/upload", "x".repeat(40_000)).host(NAME);
    let requests = [
        Request::get("/bytes/30000").host(NAME),
        post,
        Request::get("/status/404").host(NAME),
        Request::get("/chunked/9").host(NAME),
    ];
    let responses = soon(client.pipeline(&requests)).await.unwrap();
    let statuses: Vec<u16> = responses
        .iter()
        .map(|response| response.head.status)
        .collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    assert_eq!(responses[0].body.seen, 30_000);
    let received = upstream.wait_for_requests(4).await;
    assert_eq!(received[1].body.seen, 40_000);
}

#[tokio::test]
async fn the_first_connection_is_kept_for_the_next_client() {
    let (upstream, running) = (http().await, Running::start().await);
    for _client in 0..3 {
        let mut client = running.through(&upstream).await;
        let request = Request::get("/").host(NAME);
        soon(client.request(&request)).await.unwrap();
    }
    assert_eq!(upstream.connection_count(), 1);
    assert_eq!(authority_of(&upstream).split(':').next(), Some(NAME));
}
