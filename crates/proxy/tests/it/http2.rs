//! HTTP/2 on both sides: streams side by side, flow control from end to end, resets, goodbyes,
//! and what a client must not do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Method, Request, Response, StatusCode, Uri};
use testbed::client::{Http2Client, Http2Stream};
use testbed::gate::Gate;
use testbed::upstream::{Protocols, Upstream, pattern};
use tokio::task::JoinSet;
use traffic::{Event, FailureKind, Side, Stage};

use crate::http2_peer::{Http2Peer, Streams};
use crate::running::{NAME, Running, authority_of, http, https};
use crate::soon;

fn get(path: &str) -> Request<Bytes> {
    Request::get(format!("https://{NAME}{path}"))
        .body(Bytes::new())
        .unwrap()
}

fn head(path: &str) -> Request<()> {
    get(path).map(|_| ())
}

async fn connected(running: &Running, upstream: &Upstream) -> Http2Client {
    let client = running.through_tls(upstream, &["h2"]).await;
    client.start_http2().await.unwrap()
}

#[tokio::test]
async fn streams_run_side_by_side() {
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let client = Arc::new(connected(&running, &upstream).await);
    let mut requests = JoinSet::new();
    for length in (0..100_000).step_by(2500) {
        let client = Arc::clone(&client);
        requests.spawn(async move {
            let response = client.request(get(&format!("/bytes/{length}"))).await;
            (length, response.unwrap())
        });
    }
    let responses = soon(requests.join_all()).await;
    assert_eq!(responses.len(), 40);
    for (length, response) in responses {
        let expected: Vec<u8> = pattern(0, length).flatten().collect();
        assert!(response.body.kept == expected, "{length}");
    }
    assert_eq!(upstream.connection_count(), 1);
    let flows = running.recorder.ended(40).await;
    assert!(flows.iter().all(crate::recorder::FlowSeen::completed));
}

#[tokio::test]
async fn a_stream_that_is_not_read_stops_itself_only() {
    const LENGTH: u64 = 24 * 1024 * 1024;
    let upstream = https(Protocols::Both).await;
    let running = Running::with(|config| config.body_bytes_kept = LENGTH).await;
    let client = connected(&running, &upstream).await;
    let unread = client.open(head(&format!("/bytes/{LENGTH}")), true).await;
    let unread: Http2Stream = unread.unwrap();
    for _other in 0..10 {
        let other = soon(client.request(get("/bytes/200000"))).await.unwrap();
        assert_eq!(other.body.seen, 200_000);
    }
    // What the proxy took of it is what the windows on both sides and its own buffer allow.
    let taken = running.recorder.flows().remove(0).response_body().len();
    assert!(taken < 4 * 1024 * 1024, "{taken}");
    let response = soon(unread.read_response()).await.unwrap();
    assert_eq!((response.body.seen, response.body.broken), (LENGTH, None));
}

#[tokio::test]
async fn an_upload_that_is_not_read_stops_itself_only() {
    let go = Gate::new();
    let asked = go.clone();
    let peer =
        Http2Peer::start(move |streams: Streams| serve_uploads(streams, asked.clone())).await;
    let running = Running::with(|config| config.body_bytes_kept = 1 << 30).await;
    let client = peer.connect(&running).await;
    let post = Request::post(format!("https://{NAME}/unread"))
        .body(())
        .unwrap();
    let mut unread = client.open(post, false).await.unwrap();
    let mut sent = 0;
    let data = Bytes::from(vec![b'x'; 64 * 1024]);
    // Sends until the windows are full, which they are when nothing is granted any more.
    loop {
        unread.body.reserve_capacity(data.len());
        let granted = std::future::poll_fn(|cx| unread.body.poll_capacity(cx));
        match tokio::time::timeout(Duration::from_millis(100), granted).await {
            Ok(Some(Ok(capacity))) => {
                let piece = data.slice(..capacity.min(data.len()));
                sent += piece.len();
                unread.body.send_data(piece, false).unwrap();
            }
            Err(_) => break,
            Ok(other) => unreachable!("{other:?}"),
        }
        assert!(sent < 16 * 1024 * 1024, "nothing holds the upload back");
    }
    // It has not stopped another stream of the same two connections.
    let other = soon(client.request(get("/other"))).await.unwrap();
    assert_eq!(other.head.status, 200);
    go.open();
    unread.body.send_data(Bytes::new(), true).unwrap();
    let response = soon(unread.read_response()).await.unwrap();
    assert_eq!(response.text(), sent.to_string());
}

/// Reads the body of `/unread` only once the gate is open, and answers how long it was.
async fn serve_uploads(mut streams: Streams, go: Gate) {
    let mut running = JoinSet::new();
    while let Some((request, mut respond)) = streams.next().await {
        let go = go.clone();
        running.spawn(async move {
            let mut body = request.into_body();
            let mut seen = 0;
            if !body.is_end_stream() {
                go.wait().await;
            }
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                seen += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            let text = Bytes::from(seen.to_string());
            stream.send_data(text, true).unwrap();
        });
    }
}

#[tokio::test]
async fn a_reset_of_the_upstream_reaches_the_client_with_its_code() {
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let client = connected(&running, &upstream).await;
    for reason in [
        Reason::CANCEL,
        Reason::REFUSED_STREAM,
        Reason::ENHANCE_YOUR_CALM,
    ] {
        let code = u32::from(reason);
        let early = client
            .open(head(&format!("/reset?code={code}")), true)
            .await;
        let error = soon(early.unwrap().response).await.unwrap_err();
        assert_eq!(error.reason(), Some(reason));
    }
    for flow in running.recorder.ended(3).await {
        let (failure, replied) = flow.failure();
        assert_eq!(
            (failure.side, failure.kind),
            (Side::Upstream, FailureKind::Reset)
        );
        assert_eq!(replied, None);
    }
    // The connections are as good as before.
    assert_eq!(
        soon(client.request(get("/bytes/3")))
            .await
            .unwrap()
            .body
            .seen,
        3
    );
    assert_eq!(upstream.connection_count(), 1);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_body_comes_after_what_was_sent() {
    let (peer, seen) = Http2Peer::breaking_off(Reason::INTERNAL_ERROR).await;
    let running = Running::start().await;
    let client = peer.connect(&running).await;
    let stream = client.open(head("/"), true).await.unwrap();
    let mut body = soon(stream.response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "half");
    seen.open();
    let error = soon(body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, FailureKind::Reset);
    assert_eq!(flow.response_body(), b"half");
}

#[tokio::test]
async fn a_client_that_has_all_it_was_promised_was_served() {
    // curl closes a stream with the last octet of its Content-Length.
    for (promised, completed) in [(4, true), (5, false)] {
        let peer = Http2Peer::start(move |mut streams: Streams| async move {
            let (_request, mut respond) = streams.next().await.unwrap();
            let head = Response::builder().header("content-length", promised);
            let head = head.body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            stream
                .send_data(Bytes::from_static(b"full"), false)
                .unwrap();
            while streams.next().await.is_some() {}
        })
        .await;
        let running = Running::start().await;
        let client = peer.connect(&running).await;
        let mut stream = client.open(head("/"), true).await.unwrap();
        let mut body = soon(stream.response).await.unwrap().into_body();
        assert_eq!(soon(body.data()).await.unwrap().unwrap(), "full");
        stream.body.send_reset(Reason::STREAM_CLOSED);
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.completed(), completed, "{promised} octets promised");
        assert_eq!(flow.response_body(), b"full");
    }
}

#[tokio::test]
async fn a_reset_of_the_client_reaches_the_upstream_with_its_code() {
    for responds in [false, true] {
        let (sender, mut resets) = tokio::sync::mpsc::channel(1);
        let peer = Http2Peer::start(move |mut streams: Streams| {
            let sender = sender.clone();
            async move {
                let mut all = JoinSet::new();
                while let Some((request, mut respond)) = streams.next().await {
                    let sender = sender.clone();
                    all.spawn(async move {
                        let _body = request.into_body();
                        let reason = if responds {
                            let mut stream =
                                respond.send_response(Response::new(()), false).unwrap();
                            stream.send_data(Bytes::from_static(b"x"), false).unwrap();
                            std::future::poll_fn(|cx| stream.poll_reset(cx)).await
                        } else {
                            std::future::poll_fn(|cx| respond.poll_reset(cx)).await
                        };
                        sender.send(reason.unwrap()).await.unwrap();
                    });
                }
            }
        })
        .await;
        let running = Running::start().await;
        let client = peer.connect(&running).await;
        let mut stream = client.open(head("/"), false).await.unwrap();
        if responds {
            let response = soon(&mut stream.response).await.unwrap();
            soon(response.into_body().data()).await.unwrap().unwrap();
        } else {
            let chosen = |event: &Event| matches!(event, Event::UpstreamChosen { .. });
            running.recorder.told(chosen).await;
        }
        stream.body.send_reset(Reason::NO_ERROR);
        let got = soon(resets.recv()).await.unwrap();
        assert_eq!(got, Reason::NO_ERROR, "{responds}");
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.failure().0.side, Side::Client);
    }
}

#[tokio::test]
async fn an_upstream_that_says_goodbye_is_replaced() {
    // Each connection says that it is going away with its first request. What is opened before
    // that is known is served still.
    let peer = Http2Peer::start(|mut streams: Streams| async move {
        while let Some((_request, mut respond)) = streams.next().await {
            streams.go_away();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"bye"), true).unwrap();
        }
    })
    .await;
    let running = Running::start().await;
    let client = peer.connect(&running).await;
    for _request in 0..20 {
        let response = soon(client.request(get("/"))).await.unwrap();
        assert_eq!(response.text(), "bye");
    }
    assert!(peer.connections() >= 2);
}

#[tokio::test]
async fn trailers_and_interim_responses_pass_both_ways() {
    let peer = Http2Peer::start(|mut streams: Streams| async move {
        let mut all = JoinSet::new();
        while let Some((request, mut respond)) = streams.next().await {
            all.spawn(async move {
                let mut body = request.into_body();
                while body.data().await.is_some() {}
                let mut trailers = body.trailers().await.unwrap().unwrap();
                let mut hints = Response::new(());
                *hints.status_mut() = StatusCode::EARLY_HINTS;
                hints.headers_mut().insert("link", "</a>".parse().unwrap());
                respond.send_informational(hints).unwrap();
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"x"), false).unwrap();
                trailers.insert("x-own", "2".parse().unwrap());
                stream.send_trailers(trailers).unwrap();
            });
        }
    })
    .await;
    let running = Running::start().await;
    let client = peer.connect(&running).await;
    let post = Request::post(format!("https://{NAME}/")).body(()).unwrap();
    let mut stream = client.open(post, false).await.unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    stream
        .body
        .send_data(Bytes::from_static(b"data"), false)
        .unwrap();
    stream.body.send_trailers(trailers).unwrap();
    let response = soon(stream.read_response()).await.unwrap();
    assert_eq!(response.interim[0].status, 103);
    assert_eq!(response.interim[0].headers.get("link"), Some("</a>"));
    assert_eq!(response.body.trailers.get("x-sum"), Some("1"));
    assert_eq!(response.body.trailers.get("x-own"), Some("2"));
    let flow = running.recorder.only_flow().await;
    assert_eq!(
        flow.course(),
        "started upstream request-data request-ended informational response response-data response-ended ended"
    );
}

#[tokio::test]
async fn a_body_that_differs_from_its_content_length_is_no_whole_message() {
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let client = connected(&running, &upstream).await;
    for (length, data) in [("10", "short"), ("2", "too long")] {
        let post = Request::post(format!("https://{NAME}/upload")).header("content-length", length);
        let mut stream = client.open(post.body(()).unwrap(), false).await.unwrap();
        stream.body.send_data(Bytes::from(data), true).unwrap();
        let refused = match soon(stream.response).await {
            Ok(response) => response.status() == 400,
            Err(error) => error.reason() == Some(Reason::PROTOCOL_ERROR),
        };
        assert!(refused, "{length}");
    }
    assert_eq!(upstream.request_count(), 0);
    // And from the upstream.
    let cut = client
        .open(head("/truncate?size=1000"), true)
        .await
        .unwrap();
    // A reset may overtake the head.
    let whole = soon(cut.read_response())
        .await
        .and_then(testbed::client::Response::whole);
    whole.unwrap_err();
    let flows = running.recorder.ended(3).await;
    assert!(!flows.last().unwrap().completed());
}

#[tokio::test]
async fn a_head_request_has_no_body() {
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let client = connected(&running, &upstream).await;
    let mut request = get("/bytes/500");
    *request.method_mut() = Method::HEAD;
    let response = soon(client.request(request)).await.unwrap();
    assert_eq!(response.head.headers.get("content-length"), Some("500"));
    assert_eq!(response.body.seen, 0);
}

#[tokio::test]
async fn a_client_that_resets_all_it_opens_is_sent_away() {
    // CVE-2023-44487: each stream costs the client two frames and the proxy a request.
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let client = connected(&running, &upstream).await;
    let mut opened = 0;
    let sent_away = async {
        while let Ok(mut stream) = client.open(head("/hang"), true).await {
            // Otherwise the client's own queue would swallow both frames.
            tokio::task::yield_now().await;
            stream.body.send_reset(Reason::CANCEL);
            opened += 1;
            assert!(opened < 100_000, "nothing holds it back");
        }
    };
    soon(sent_away).await;
    // The goodbye may be lost to the reset of the connection it says goodbye to.
    let error = soon(client.closed()).await.unwrap_err();
    assert!(
        error.is_io() || error.reason() == Some(Reason::ENHANCE_YOUR_CALM),
        "{error:?}"
    );
    let burst = u64::from(oriel_proxy::limits::HTTP2_RESETS_BURST);
    let reached = upstream.request_count();
    assert!(reached <= burst + 100, "{reached} of {opened}");
    // Others are served.
    let other = connected(&running, &upstream).await;
    assert_eq!(
        soon(other.request(get("/bytes/3")))
            .await
            .unwrap()
            .body
            .seen,
        3
    );
}

#[tokio::test]
async fn the_proxy_itself_speaks_http2_in_clear() {
    let (upstream, running) = (http().await, Running::start().await);
    let client = running.connect().await.start_http2().await.unwrap();
    let url = format!("http://{}/bytes/9", authority_of(&upstream));
    let request = Request::get(&url).body(Bytes::new()).unwrap();
    assert_eq!(soon(client.request(request)).await.unwrap().body.seen, 9);
    for (url, status) in [
        (format!("http://{}/", running.address), 508),
        (format!("http://localhost:{}/", running.address.port()), 508),
    ] {
        let request = Request::get(&url).body(Bytes::new()).unwrap();
        let response = soon(client.request(request)).await.unwrap();
        assert_eq!(response.head.status, status, "{url}");
        assert!(response.head.headers.get("proxy-status").is_some());
    }
}

/// A tunnel to this upstream on a stream of a connection to the proxy itself, as a pipe.
pub(crate) async fn connect_stream(
    client: &Http2Client,
    authority: &str,
) -> Result<tokio::io::DuplexStream, u16> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::builder().authority(authority).build().unwrap();
    let stream = client.open(request, false).await.unwrap();
    let response = soon(stream.response).await.unwrap();
    if response.status() != 200 {
        return Err(response.status().as_u16());
    }
    Ok(crate::http2_peer::as_pipe(
        stream.body,
        response.into_body(),
    ))
}

#[tokio::test]
async fn tls_runs_within_connect_over_http2() {
    let (upstream, running) = (https(Protocols::Both).await, Running::start().await);
    let outer = running.connect().await.start_http2().await.unwrap();
    for alpn in ["http/1.1", "h2"] {
        let pipe = connect_stream(&outer, &authority_of(&upstream))
            .await
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(running.client_config(&[alpn]));
        let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
        let mut tls = soon(connector.connect(name, pipe)).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        if alpn == "h2" {
            let (sender, connection) = h2::client::handshake(tls).await.unwrap();
            let mut driver = JoinSet::new();
            driver.spawn(connection);
            let mut sender = soon(sender.ready()).await.unwrap();
            let (response, _) = sender.send_request(head("/bytes/100000"), true).unwrap();
            let mut body = soon(response).await.unwrap().into_body();
            let mut seen = 0;
            while let Some(data) = soon(body.data()).await {
                let length = data.unwrap().len();
                body.flow_control().release_capacity(length).unwrap();
                seen += length;
            }
            assert_eq!(seen, 100_000);
        } else {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let text = "GET /bytes/100000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            tls.write_all(text.as_bytes()).await.unwrap();
            let mut all = Vec::new();
            soon(tls.read_to_end(&mut all)).await.unwrap();
            let expected: Vec<u8> = pattern(0, 100_000).flatten().collect();
            assert!(all.ends_with(&expected));
        }
    }
    let flows = running.recorder.ended(2).await;
    assert!(flows.iter().all(crate::recorder::FlowSeen::completed));
}

#[tokio::test]
async fn connect_over_http2_is_refused_as_over_http1() {
    let upstream = http().await;
    let running = Running::with(|config| {
        config.connect_ports =
            oriel_proxy::ConnectPorts::Only(vec![443, upstream.address().port()]);
    })
    .await;
    let client = running.connect().await.start_http2().await.unwrap();
    for (authority, status) in [
        (format!("localhost:{}", running.address.port()), 508),
        ("localhost:444".to_owned(), 403),
        ("localhost".to_owned(), 400),
    ] {
        let refused = connect_stream(&client, &authority).await.unwrap_err();
        assert_eq!(refused, status, "{authority}");
    }
}

#[tokio::test]
async fn a_tunnel_on_a_stream_keeps_its_half_closes() {
    use testbed::script::Step;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let down: Vec<u8> = pattern(0, 300_000).flatten().collect();
    let script = vec![Step::ReadToEnd, Step::send(&down), Step::CloseWrite];
    let upstream = crate::running::scripted(false, vec![script]).await;
    let running = Running::start().await;
    let client = running.connect().await.start_http2().await.unwrap();
    let mut pipe = connect_stream(&client, &authority_of(&upstream))
        .await
        .unwrap();
    pipe.write_all(b"\0binary").await.unwrap();
    pipe.shutdown().await.unwrap();
    let mut all = Vec::new();
    soon(pipe.read_to_end(&mut all)).await.unwrap();
    assert!(all == down);
    let flow = running.recorder.only_flow().await;
    assert!(flow.completed());
    assert_eq!(flow.tunnelled(), Some((7, 300_000)));
}

#[tokio::test]
async fn a_burst_shares_one_dial_and_its_failure() {
    let limit = Duration::from_secs(1);
    let silent = vec![vec![testbed::script::Step::ReadToEnd]; 3];
    let upstream = crate::running::scripted(false, silent).await;
    let running = Running::with(|config| config.timeouts.tls = limit).await;
    let client = running.connect().await.start_http2().await.unwrap();
    let url = format!("https://{}/", authority_of(&upstream));
    let request = Request::get(&url).body(Bytes::new()).unwrap();
    let begun = tokio::time::Instant::now();
    let responses = soon(async {
        tokio::join!(
            client.request(request.clone()),
            client.request(request.clone()),
            client.request(request.clone()),
        )
    })
    .await;
    for response in [responses.0, responses.1, responses.2] {
        assert_eq!(response.unwrap().head.status, 504);
    }
    assert!(begun.elapsed() < 2 * limit, "{:?}", begun.elapsed());
    assert_eq!(upstream.connection_count(), 1);
}

#[tokio::test]
async fn a_stream_that_is_reset_does_not_keep_its_dial() {
    use testbed::script::Step;
    let dialled = Gate::new();
    let script = vec![Step::Read(1), Step::Open(dialled.clone()), Step::ReadToEnd];
    let upstream = crate::running::scripted(false, vec![script]).await;
    let running = Running::start().await;
    let client = running.connect().await.start_http2().await.unwrap();
    let url = format!("https://{}/", authority_of(&upstream));
    let request = Request::get(&url).body(()).unwrap();
    let mut stream = soon(client.open(request, true)).await.unwrap();
    soon(dialled.wait()).await;
    stream.body.send_reset(Reason::CANCEL);
    soon(upstream.wait_for_scripts(1)).await;
    let flow = running.recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    assert_eq!((failure.side, replied), (Side::Client, None));
    assert_eq!(failure.kind, FailureKind::Reset);
}

#[tokio::test]
async fn downloads_that_nobody_reads_do_not_stop_another() {
    const STALLED: usize = 32;
    /// What a stream may send before anybody reads.
    const WINDOW_BYTES: usize = 512 * 1024;
    let (full, mut filled) = tokio::sync::mpsc::channel(STALLED);
    let peer = Http2Peer::start(move |mut streams: Streams| {
        let full = full.clone();
        async move {
            let mut held = JoinSet::new();
            while let Some((request, mut respond)) = streams.next().await {
                let small = request.uri().path() == "/small";
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                if small {
                    body.send_data(Bytes::from_static(b"small"), true).unwrap();
                    continue;
                }
                let full = full.clone();
                held.spawn(async move {
                    let mut left = WINDOW_BYTES;
                    while left > 0 {
                        body.reserve_capacity(left);
                        let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                        let granted = granted.unwrap().unwrap().min(left);
                        body.send_data(vec![b'x'; granted].into(), false).unwrap();
                        left -= granted;
                    }
                    full.send(()).await.unwrap();
                    // It is held open until the client goes.
                    let _reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
                });
            }
        }
    })
    .await;
    let running = Running::start().await;
    let client = peer.connect_tls(&running, "h2").await;
    let mut settings = h2::client::Builder::new();
    settings.initial_connection_window_size(16 * 1024 * 1024);
    let wire = client.into_wire().unwrap();
    let client = Http2Client::start_with(wire, &settings).await.unwrap();
    let mut stalled = Vec::new();
    for _stream in 0..STALLED {
        let opened = soon(client.open(head("/large"), true)).await.unwrap();
        stalled.push(soon(opened.response).await.unwrap());
    }
    for _stream in 0..STALLED {
        soon(filled.recv()).await.unwrap();
    }
    let response = soon(client.request(get("/small"))).await.unwrap();
    assert_eq!(response.text(), "small");
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_client_that_stops_reading_leaves_the_connection_to_the_others() {
    // Long enough for the other client on a machine that is busy.
    let idle = Duration::from_secs(1);
    let whole = vec![b'x'; 32 * 1024 * 1024];
    for alpn in ["h2", "http/1.1"] {
        let running = Running::with(|config| config.timeouts.idle_body = idle).await;
        let body = Bytes::from(whole.clone());
        let peer = Http2Peer::start(move |mut streams: Streams| {
            let body = body.clone();
            async move {
                let mut open = Vec::new();
                while let Some((request, mut respond)) = streams.next().await {
                    let response = respond.send_response(Response::new(()), false);
                    let mut stream = response.unwrap();
                    let short = request.uri().path() == "/short";
                    let body = if short { body.slice(..5) } else { body.clone() };
                    stream.send_data(body, true).unwrap();
                    open.push(stream);
                }
            }
        });
        let peer = peer.await;
        let mut stuck = peer.connect_tls(&running, alpn).await;
        let _unread = match alpn {
            "h2" => {
                let client = stuck.start_http2().await.unwrap();
                let get = Request::get(format!("https://{NAME}/long"))
                    .body(())
                    .unwrap();
                let stream = client.open(get, true).await.unwrap();
                let response = soon(stream.response).await.unwrap();
                Ok((client, response))
            }
            _ => {
                stuck
                    .send(format!("GET /long HTTP/1.1\r\nHost: {NAME}\r\n\r\n"))
                    .await
                    .unwrap();
                Err(stuck)
            }
        };
        let flow = running.recorder.only_flow().await;
        let (failure, _) = flow.failure();
        let what = (failure.side, failure.stage, failure.kind);
        let expected = (Side::Client, Stage::Response, FailureKind::TimedOut);
        assert_eq!(what, expected, "{alpn}: {}", failure.text);
        let connections = peer.connections();
        let other = peer.connect(&running).await;
        let get = Request::get(format!("https://{NAME}/short")).body(Bytes::new());
        let answer = soon(other.request(get.unwrap())).await.unwrap();
        assert_eq!(answer.body.seen, 5);
        assert_eq!(peer.connections(), connections, "{alpn}");
    }
}

#[tokio::test]
async fn a_client_that_stops_its_body_is_told_so() {
    let idle = Duration::from_millis(100);
    for tls in [true, false] {
        let running = Running::with(|config| config.timeouts.idle_body = idle).await;
        let upstream = match tls {
            true => https(Protocols::Both).await,
            false => http().await,
        };
        let (client, scheme) = match tls {
            true => (connected(&running, &upstream).await, "https"),
            false => {
                let client = running.through(&upstream).await;
                (client.start_http2().await.unwrap(), "http")
            }
        };
        let request = Request::post(format!("{scheme}://{NAME}/upload"));
        let opened = client.open(request.body(()).unwrap(), false).await;
        let mut stream = opened.unwrap();
        let piece = Bytes::from_static(b"half");
        stream.body.send_data(piece, false).unwrap();
        let response = soon(stream.response).await.unwrap();
        assert_eq!(response.status(), 408);
        let flow = running.recorder.only_flow().await;
        let (failure, replied) = flow.failure();
        let expected = (Side::Client, FailureKind::TimedOut, Some(408));
        assert_eq!((failure.side, failure.kind, replied), expected);
    }
}
