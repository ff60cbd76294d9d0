//! What is asked of the proxy itself: CONNECT, absolute-form and origin-form, and what it says no
//! to.

use oriel_proxy::ConnectPorts;
use testbed::client::{Client, Request, Response};
use testbed::script::Step;
use traffic::rules::route::Unlisted;
use traffic::{FailureKind, Front, Side};

use crate::running::{NAME, Running, authority_of, http, rules, scripted};
use crate::soon;

async fn ask(running: &Running, text: &str, method: &str) -> Response {
    let mut client = running.connect().await;
    client.send(text).await.unwrap();
    soon(client.read_response(method)).await.unwrap()
}

/// Asks for a CONNECT and gives the answer in full.
async fn ask_connect(running: &Running, authority: &str) -> Response {
    let text = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    // A refusal has a body; the reader's rule for CONNECT would not matter.
    ask(running, &text, "GET").await
}

fn check_refused(response: &Response, status: u16, said: &str) {
    assert_eq!(response.head.status, status, "{}", response.text());
    assert!(response.text().contains(said), "{}", response.text());
    let proxy_status = response.head.headers.get("proxy-status").unwrap();
    assert!(proxy_status.starts_with("oriel; error="), "{proxy_status}");
}

#[tokio::test]
async fn absolute_form_becomes_origin_form_with_the_host_of_the_url() {
    let port_of = |script| async { scripted(false, vec![script]).await };
    for (target, sent) in [("/a?b=c", "/a?b=c"), ("", "/"), ("?q", "/?q"), ("/*", "/*")] {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let upstream = port_of(vec![Step::ReadHead, Step::send(answer)]).await;
        let running = Running::start().await;
        let host = authority_of(&upstream);
        let text = format!(
            "GET http://{host}{target} HTTP/1.1\r\nA: 1\r\nhost:  other.example\r\nB: 2\r\nProxy-Connection: keep-alive\r\n\r\n"
        );
        assert_eq!(ask(&running, &text, "GET").await.head.status, 200);
        let played = upstream.wait_for_scripts(1).await.remove(0);
        let expected = format!("GET {sent} HTTP/1.1\r\nA: 1\r\nhost: {host}\r\nB: 2\r\n\r\n");
        assert_eq!(played.received, expected);
        let flow = running.recorder.only_flow().await;
        assert_eq!(flow.started.connection.front, Front::AbsoluteForm);
    }
}

#[tokio::test]
async fn origin_form_goes_to_the_host_field() {
    let (upstream, running) = (http().await, Running::start().await);
    let host = authority_of(&upstream);
    let text = format!("GET /bytes/7 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(ask(&running, &text, "GET").await.body.seen, 7);
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.started.connection.front, Front::OriginForm);
    assert_eq!(flow.started.target.to_string(), host);
}

#[tokio::test]
async fn options_asks_about_the_server_as_a_whole() {
    for form in ["OPTIONS * HTTP/1.1", "OPTIONS http://HOST HTTP/1.1"] {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let upstream = scripted(false, vec![vec![Step::ReadHead, Step::send(answer)]]).await;
        let running = Running::start().await;
        let host = authority_of(&upstream);
        let line = form.replace("HOST", &host);
        let text = format!("{line}\r\nHost: {host}\r\n\r\n");
        assert_eq!(ask(&running, &text, "OPTIONS").await.head.status, 200);
        let played = upstream.wait_for_scripts(1).await.remove(0);
        let expected = format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(played.received, expected, "{form}");
    }
}

#[tokio::test]
async fn requests_to_several_hosts_share_one_client_connection() {
    let (one, two, running) = (http().await, http().await, Running::start().await);
    let mut client = running.connect().await;
    for upstream in [&one, &two, &one] {
        let url = format!("http://{}/bytes/3", authority_of(upstream));
        let request = Request::get(&url).host("ignored.example");
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.body.seen, 3);
    }
    assert_eq!((one.request_count(), two.request_count()), (2, 1));
    assert_eq!(one.connection_count(), 1);
}

#[tokio::test]
async fn a_port_outside_the_list_is_refused() {
    let upstream = http().await;
    let running = Running::with(|config| {
        config.connect_ports = ConnectPorts::Only(vec![443, 80]);
    })
    .await;
    let authority = authority_of(&upstream);
    let response = ask_connect(&running, &authority).await;
    check_refused(&response, 403, "proxy.connect_ports");
    let flow = running.recorder.only_flow().await;
    let (failure, replied) = flow.failure();
    assert_eq!(failure.kind, FailureKind::PortNotAllowed);
    assert_eq!(replied, Some(403));
    assert_eq!(upstream.connection_count(), 0);
}

#[tokio::test]
async fn the_proxy_never_connects_to_itself() {
    let admin = http().await;
    let running = Running::with(|config| config.own_addresses = vec![admin.address()]).await;
    for port in [running.address.port(), admin.address().port()] {
        for host in [
            "127.0.0.1",
            "localhost",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "LOCALHOST.",
        ] {
            let authority = format!("{host}:{port}");
            check_refused(
                &ask_connect(&running, &authority).await,
                508,
                "oriel itself",
            );
            let text = format!("GET http://{authority}/ HTTP/1.1\r\nHost: x\r\n\r\n");
            check_refused(&ask(&running, &text, "GET").await, 508, "oriel itself");
            let text = format!("GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            check_refused(&ask(&running, &text, "GET").await, 508, "oriel itself");
        }
    }
    assert_eq!(admin.connection_count(), 0);
}

#[tokio::test]
async fn a_blocked_host_is_refused_in_every_form() {
    let upstream = http().await;
    let running = Running::with(|config| {
        config.rules = rules(&["api.example"], &[], Unlisted::Block);
    })
    .await;
    let authority = authority_of(&upstream);
    check_refused(
        &ask_connect(&running, &authority).await,
        403,
        "is blocked by",
    );
    let text = format!("GET http://{authority}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    check_refused(&ask(&running, &text, "GET").await, 403, "is blocked by");
    let flows = running.recorder.ended(2).await;
    for flow in flows {
        assert_eq!(flow.failure().0.kind, FailureKind::Blocked);
        assert_eq!(flow.failure().0.side, Side::Oriel);
    }
    assert_eq!(upstream.connection_count(), 0);
}

#[tokio::test]
async fn a_connect_without_a_proper_target_is_refused() {
    let running = Running::start().await;
    for authority in [
        "localhost",
        "localhost:0",
        "localhost:65536",
        "localhost:http",
        ":443",
        "user@localhost:443",
        "[::1:443",
        "[]:443",
        "http://localhost:443",
        "/",
        "exa%6dple:443",
    ] {
        let response = ask_connect(&running, authority).await;
        assert_eq!(response.head.status, 400, "{authority}");
        assert!(response.text().starts_with("oriel: "), "{authority}");
    }
    let text = "CONNECT localhost:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    check_refused(&ask(&running, text, "GET").await, 400, "no body");
}

#[tokio::test]
async fn a_request_that_names_no_proper_target_is_refused() {
    let running = Running::start().await;
    for (text, said) in [
        ("GET / HTTP/1.0\r\n\r\n", "names no host"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "empty"),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "ftp"),
        (
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "neither a path nor a URL",
        ),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "empty"),
        (
            "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "user information",
        ),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
        ("GET http://a#b HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
        ("GET http://a/x?y#z HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
        ("GET http://a#@b/ HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
        ("OPTIONS *#b HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
    ] {
        let response = ask(&running, text, "GET").await;
        check_refused(&response, 400, said);
    }
}

#[tokio::test]
async fn what_a_reply_quotes_is_inert() {
    let running = Running::start().await;
    let text = "GET http://<script>alert(1)</script>\u{202e}/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let response = ask(&running, text, "GET").await;
    assert_eq!(response.head.status, 400);
    let headers = &response.head.headers;
    assert_eq!(
        headers.get("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(headers.get("x-content-type-options"), Some("nosniff"));
    assert!(!response.text().contains('\u{202e}'));
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_on_an_opened_connection() {
    let (upstream, other, running) = (http().await, http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    let url = format!("http://{}/", authority_of(&other));
    let request = Request::get(&url).host(NAME);
    let response = soon(client.request(&request)).await.unwrap();
    check_refused(&response, 400, "on a connection to");
    assert_eq!(other.connection_count() + upstream.connection_count(), 0);
}

#[tokio::test]
async fn a_fragment_is_refused_on_an_opened_connection() {
    let (upstream, running) = (http().await, Running::start().await);
    let host = authority_of(&upstream);
    for target in [
        "/a#b".to_owned(),
        format!("http://{host}/a#b"),
        format!("http://{host}#b"),
    ] {
        let mut client = running.through(&upstream).await;
        let request = Request::get(&target).host(&host);
        let response = soon(client.request(&request)).await.unwrap();
        check_refused(&response, 400, "fragment");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn connect_inside_an_opened_connection_is_refused() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client: Client = running.through(&upstream).await;
    let text = format!(
        "CONNECT {} HTTP/1.1\r\nHost: a\r\n\r\n",
        authority_of(&upstream)
    );
    client.send(text).await.unwrap();
    let response = soon(client.read_response("GET")).await.unwrap();
    check_refused(&response, 501, "CONNECT inside");
}

#[tokio::test]
async fn connect_may_say_that_it_has_no_body() {
    let (upstream, running) = (http().await, Running::start().await);
    let host = authority_of(&upstream);
    for (length, status) in [(0, 200), (1, 400)] {
        let mut client = running.connect().await;
        client
            .send(format!(
                "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
            ))
            .await
            .unwrap();
        let answer = soon(client.read_head()).await.unwrap();
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_client_that_sends_only_empty_lines_is_refused() {
    let (upstream, running) = (http().await, Running::start().await);
    let host = authority_of(&upstream);
    for (count, status) in [(16, 200), (17, 400)] {
        let mut client = running.connect().await;
        let lines = "\r\n".repeat(count);
        client
            .send(format!("{lines}GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await
            .unwrap();
        let response = soon(client.read_response("GET")).await.unwrap();
        assert_eq!(response.head.status, status, "{count}");
    }
}
