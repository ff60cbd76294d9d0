//! The other ways in: SOCKS 5 on the port of the proxy, credentials, reverse listeners, TLS on a
//! listener, and the PROXY protocol before everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use h2::ext::Protocol;
use oriel_proxy::tls::identity::Identity;
use oriel_proxy::{
    Admission, ConnectPorts, Credentials, Listener, ListenerTls, Login, ReverseTo, Verifier,
    VerifierError,
};
use testbed::client::{Client, Request, Response};
use testbed::script::Step;
use testbed::upstream::{Protocols, Upstream};
use tokio::io::AsyncReadExt as _;
use traffic::rules::private::PrivateReach;
use traffic::rules::route::Unlisted;
use traffic::{FailureKind, FlowKind, Front, Host, NoTls, ProxyDirection};

use crate::running::{NAME, Running, any_port, authority_of, http, https, rules, scripted};
use crate::soon;

/// The greeting without credentials, and a request for this name.
fn socks(name: &str, port: u16) -> Vec<u8> {
    let mut said = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    said.extend_from_slice(name.as_bytes());
    said.extend_from_slice(&port.to_be_bytes());
    said
}

/// Says it and reads the answers to greeting and request; gives the code of the latter.
async fn ask_socks(mut client: Client, name: &str, port: u16) -> (Client, u8) {
    client.send(socks(name, port)).await.unwrap();
    let mut wire = client.into_wire().unwrap();
    let mut answer = [0; 12];
    soon(wire.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[..3], [5, 0, 5], "{answer:?}");
    (Client::on(wire), answer[3])
}

async fn through_socks(running: &Running, upstream: &Upstream) -> Client {
    let port = upstream.address().port();
    let (client, code) = ask_socks(running.connect().await, NAME, port).await;
    assert_eq!(code, 0);
    client
}

/// An engine with this listener alone.
async fn at(listener: Listener) -> Running {
    Running::with(|config| config.listeners = vec![listener]).await
}

/// Asks for this URL in HTTP/2.
async fn get_http2(client: Client, url: &str) -> Response {
    let http2 = client.start_http2().await.unwrap();
    let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
    soon(http2.request(request)).await.unwrap()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn to(scheme: &str, upstream: &Upstream) -> ReverseTo {
    format!("{scheme}://{}", authority_of(upstream))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn socks_leads_where_connect_does() {
    let (plain, tls) = (http().await, https(Protocols::Both).await);
    let running = Running::start().await;
    let get = Request::get("/bytes/7").host(NAME);
    let mut client = through_socks(&running, &plain).await;
    assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 7);
    let mut client = through_socks(&running, &tls).await;
    let config = running.client_config(&["http/1.1"]);
    soon(client.start_tls(NAME, config)).await.unwrap();
    assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 7);
    for flow in running.recorder.ended(2).await {
        assert_eq!(flow.started.kind, FlowKind::Http);
        assert_eq!(flow.started.connection.front, Front::Socks5);
    }
}

#[tokio::test]
async fn socks_leads_through_a_tunnel() {
    let upstream = http().await;
    let tunnels = |config: &mut oriel_proxy::ProxyConfig| {
        config.rules = rules(&[], &[], Unlisted::Tunnel);
    };
    let running = Running::with(tunnels).await;
    let mut client = through_socks(&running, &upstream).await;
    let get = Request::get("/bytes/300000").host(NAME);
    assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 300_000);
    drop(client);
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.started.kind, FlowKind::Tunnel);
    assert_eq!(flow.started.target.to_string(), authority_of(&upstream));
    let asked = format!("CONNECT {} SOCKS/5", authority_of(&upstream));
    assert_eq!(flow.started.head.start_line(), asked.as_bytes());
}

#[tokio::test]
async fn socks_is_told_why_not() {
    let refusing = std::net::TcpListener::bind(loopback()).unwrap();
    let port = refusing.local_addr().unwrap().port();
    drop(refusing);
    let running = Running::with(|config| {
        config.rules = rules(&[], &[], Unlisted::Tunnel);
        config.connect_ports = ConnectPorts::Only(vec![port]);
    });
    let running = running.await;
    for (name, port, code, kind) in [
        (NAME, port, 5, FailureKind::Refused),
        (NAME, 9, 2, FailureKind::PortNotAllowed),
        (NAME, running.address.port(), 2, FailureKind::Loop),
    ] {
        let (mut client, told) = ask_socks(running.connect().await, name, port).await;
        assert_eq!(told, code, "{kind:?}");
        assert_eq!(soon(client.read_to_end()).await.unwrap(), "");
    }
    let flows = running.recorder.ended(3).await;
    let told: Vec<_> = flows.iter().map(|flow| flow.failure()).collect();
    for ((failure, replied), kind) in told.into_iter().zip([
        FailureKind::Refused,
        FailureKind::PortNotAllowed,
        FailureKind::Loop,
    ]) {
        // SOCKS has codes, but no status.
        assert_eq!((failure.kind, replied), (kind, None));
    }
}

#[tokio::test]
async fn who_does_not_know_the_password_is_not_served() {
    let upstream = http().await;
    let mut listener = any_port();
    let credentials = Admission::from(Credentials::new("me", "secret"));
    listener.admission = Some(credentials.realm("a realm"));
    let running = at(listener).await;
    let url = format!("http://{}/bytes/7", authority_of(&upstream));
    // "me:secret" and "me:wrong".
    let (right, wrong) = ("Basic bWU6c2VjcmV0", "Basic bWU6d3Jvbmc=");
    let get = || Request::get(&url).host("a");
    for (request, status) in [
        (get(), 407),
        (get().header("Proxy-Authorization", wrong), 407),
        (get().header("Proxy-Authorization", right), 200),
        (
            Request::new("CONNECT", &authority_of(&upstream)).host("a"),
            407,
        ),
    ] {
        let mut client = running.connect().await;
        client.send(request.to_bytes()).await.unwrap();
        let answer = soon(client.read_response("GET")).await.unwrap();
        assert_eq!(answer.head.status, status, "{request:?}");
        let challenge = answer.head.headers.get("proxy-authenticate");
        let realm = "Basic realm=\"a realm\", charset=\"UTF-8\"";
        assert_eq!(challenge, (status == 407).then_some(realm));
    }
    // A WebSocket in clear.
    for login in [None, Some(wrong)] {
        let mut request = get()
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        if let Some(login) = login {
            request = request.header("Proxy-Authorization", login);
        }
        let mut client = running.connect().await;
        let answer = soon(client.request(&request)).await.unwrap();
        assert_eq!(answer.head.status, 407, "{login:?}");
    }
    let answer = get_http2(running.connect().await, &url).await;
    assert_eq!(answer.head.status, 407);
    check_http2_connect(&running, &authority_of(&upstream), wrong).await;
    let mut client = running.connect().await;
    client.send([5, 1, 0]).await.unwrap();
    assert_eq!(soon(client.read_to_end()).await.unwrap(), [5, 255][..]);
    let seen = upstream.wait_for_requests(1).await;
    assert!(seen[0].headers.get("proxy-authorization").is_none());
}

/// CONNECT on a stream of the proxy itself is refused with a challenge; one that asks for a WebSocket
/// (RFC 8441) is none that the proxy has allowed there, and is reset before anybody is asked.
async fn check_http2_connect(running: &Running, authority: &str, wrong: &str) {
    for login in [None, Some(wrong)] {
        for protocol in [None, Some(Protocol::from_static("websocket"))] {
            let uri = match protocol {
                Some(_) => format!("http://{authority}/"),
                None => authority.to_owned(),
            };
            let mut head = http::Request::connect(uri).body(()).unwrap();
            if let Some(login) = login {
                let login = login.parse().unwrap();
                head.headers_mut().insert("proxy-authorization", login);
            }
            let extended = protocol.is_some();
            if let Some(protocol) = protocol {
                head.extensions_mut().insert(protocol);
            }
            let client = running.connect().await.start_http2().await.unwrap();
            let answer = match client.open(head, false).await {
                Ok(stream) => soon(stream.response).await,
                Err(_not_allowed) => continue,
            };
            match (answer, extended) {
                (Ok(answer), _) => {
                    assert_eq!(answer.status(), 407, "{login:?}");
                    let challenge = &answer.headers()["proxy-authenticate"];
                    assert!(challenge.as_bytes().starts_with(b"Basic realm="));
                }
                (Err(error), extended) => assert!(extended && error.is_reset(), "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn every_front_asks_and_lets_in_who_says_it_rightly() {
    let plain = http().await;
    let tls = https(Protocols::Both).await;
    let mut listener = any_port();
    listener.admission = Some(Credentials::new("me", "secret").into());
    let running = at(listener).await;

    // A tunnel that is opened: what is inside need not say it again, and it goes no further.
    let mut client = through_as_me(&running, &tls, "http/1.1").await;
    let get = Request::get("/bytes/7").host(NAME);
    assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 7);

    // HTTP/2 in clear.
    let client = running.connect().await.start_http2().await.unwrap();
    let url = format!("http://{}/bytes/7", authority_of(&plain));
    let request = |login: Option<&str>| {
        let mut request = http::Request::get(&url).body(bytes::Bytes::new()).unwrap();
        if let Some(login) = login {
            let login = login.parse().unwrap();
            request.headers_mut().insert("proxy-authorization", login);
        }
        request
    };
    for (login, status) in [
        (None, 407),
        (Some("Basic bWU6d3Jvbmc="), 407),
        (Some("Basic bWU6c2VjcmV0"), 200),
    ] {
        let answer = soon(client.request(request(login))).await.unwrap();
        assert_eq!(answer.head.status, status, "{login:?}");
    }

    // SOCKS 5.
    let mut client = running.connect().await;
    client
        .send(b"\x05\x01\x02\x01\x02me\x06secret".to_vec())
        .await
        .unwrap();
    let said = soon(client.read_exact(4)).await.unwrap();
    assert_eq!(said, b"\x05\x02\x01\x00"[..]);

    for upstream in [&plain, &tls] {
        let seen = upstream.wait_for_requests(1).await;
        assert!(seen[0].headers.get("proxy-authorization").is_none());
    }
}

/// Admits everybody until it is told otherwise.
#[derive(Clone, Debug, Default)]
struct Revocable {
    revoked: Arc<AtomicBool>,
}

impl Verifier for Revocable {
    fn verify<'a>(&'a self, _: &'a Login) -> BoxFuture<'a, Result<bool, VerifierError>> {
        let admitted = !self.revoked.load(Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(admitted)))
    }
}

#[tokio::test]
async fn a_login_that_is_right_no_more_begins_no_requests_inside_what_it_opened() {
    let upstream = https(Protocols::Both).await;
    // Until when a yes holds that was said just now.
    for (kept_for, status) in [(Duration::ZERO, 407), (Duration::from_secs(3600), 200)] {
        let verifier = Revocable::default();
        let mut listener = any_port();
        listener.admission = Some(Admission::by(verifier.clone()).kept_for(kept_for));
        let running = at(listener).await;
        let mut http1 = through_as_me(&running, &upstream, "http/1.1").await;
        let http2 = through_as_me(&running, &upstream, "h2").await;
        let http2 = http2.start_http2().await.unwrap();
        let get = Request::get("/bytes/7").host(NAME);
        let get_http2 = || {
            let get = http::Request::get(format!("https://{NAME}/bytes/7"));
            http2.request(get.body(bytes::Bytes::new()).unwrap())
        };
        assert_eq!(soon(http1.request(&get)).await.unwrap().head.status, 200);
        assert_eq!(soon(get_http2()).await.unwrap().head.status, 200);
        verifier.revoked.store(true, Ordering::Relaxed);
        let answer = soon(http1.request(&get)).await.unwrap();
        assert_eq!(answer.head.status, status);
        let answer = soon(get_http2()).await.unwrap();
        assert_eq!(answer.head.status, status);
        if status == 407 {
            // So that the client asks for the connection anew, and says who it is.
            assert_eq!(soon(http1.read_to_end()).await.unwrap(), "");
        }
    }
}

/// A connection that is opened, by the login `me:secret`.
async fn through_as_me(running: &Running, upstream: &Upstream, alpn: &str) -> Client {
    let mut client = running.connect().await;
    let asked = connect_as(upstream, "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n");
    client.send(asked).await.unwrap();
    soon(client.read_until("\r\n\r\n")).await.unwrap();
    let config = running.client_config(&[alpn]);
    soon(client.start_tls(NAME, config)).await.unwrap();
    client
}

/// A CONNECT with these fields.
fn connect_as(upstream: &Upstream, fields: &str) -> String {
    let authority = authority_of(upstream);
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

#[tokio::test]
async fn who_guesses_is_told_to_wait_whatever_front_it_takes() {
    let mut listener = any_port();
    listener.admission = Some(Credentials::new("me", "secret").into());
    let running = at(listener).await;
    let wrong = "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nProxy-Authorization: Basic bWU6d3Jvbmc=\r\n\r\n";
    let mut told = Vec::new();
    for _ in 0..11 {
        let mut client = running.connect().await;
        client.send(wrong).await.unwrap();
        let answer = soon(client.read_response("GET")).await.unwrap();
        told.push(answer.head.status);
        let retry = answer.head.headers.get("retry-after").map(str::to_owned);
        assert_eq!(retry.as_deref(), (told.len() == 11).then_some("60"));
    }
    assert_eq!(told, [[407; 10].as_slice(), &[429]].concat());
    let mut client = running.connect().await;
    client
        .send(b"\x05\x01\x02\x01\x02me\x06secret".to_vec())
        .await
        .unwrap();
    let said = soon(client.read_to_end()).await.unwrap();
    assert_eq!(said, b"\x05\x02\x01\x01"[..]);
    let metrics = running.control.metrics();
    assert_eq!((metrics.refused_logins, metrics.barred_logins), (10, 2));
}

#[tokio::test]
async fn a_reverse_listener_changes_the_host_alone() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for target in ["/a?b", "http://oriel.example:1/a?b"] {
        let upstream = scripted(false, vec![vec![Step::ReadHead, Step::send(answer)]]).await;
        let running = at(Listener::reverse(loopback(), to("http", &upstream))).await;
        let mut client = running.connect().await;
        let asked =
            format!("GET {target} HTTP/1.1\r\nA: 1\r\nhost: oriel.example:1\r\nB: 2\r\n\r\n");
        client.send(asked).await.unwrap();
        let answer = soon(client.read_response("GET")).await.unwrap();
        assert_eq!(answer.head.status, 200);
        let played = upstream.wait_for_scripts(1).await.remove(0);
        let host = authority_of(&upstream);
        let sent = format!("GET /a?b HTTP/1.1\r\nA: 1\r\nhost: {host}\r\nB: 2\r\n\r\n");
        assert_eq!(played.received, sent);
        let flow = running.recorder.only_flow().await;
        let front = flow.started.connection.front;
        assert_eq!(front, Front::Reverse);
        assert_eq!(front.direction(), ProxyDirection::Reverse);
        assert_eq!(flow.started.target.to_string(), host);
    }
}

#[tokio::test]
async fn a_reverse_listener_speaks_what_its_client_speaks() {
    let upstream = https(Protocols::Both).await;
    let to = to("https", &upstream);
    let names = vec![Host::parse(NAME).unwrap()];
    let tls = Listener::reverse(loopback(), to.clone()).with_tls(ListenerTls::Minted(names));
    let plain = Listener::reverse(loopback(), to);
    let running = Running::with(|config| config.listeners = vec![plain, tls]).await;
    let addresses = running.control.addresses().to_vec();
    let get = Request::get("/bytes/7").host("anything.example");

    let mut client = running.connect().await;
    assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 7);
    let url = "http://anything.example/bytes/7";
    let answer = get_http2(running.connect().await, url).await;
    assert_eq!(answer.body.seen, 7);
    for protocol in ["http/1.1", "h2"] {
        let mut client = Client::connect(addresses[1].tcp().unwrap()).await.unwrap();
        let config = running.client_config(&[protocol]);
        soon(client.start_tls(NAME, config)).await.unwrap();
        assert_eq!(client.wire().unwrap().alpn(), Some(protocol.as_bytes()));
        let answer = match protocol {
            "h2" => get_http2(client, "https://anything.example/bytes/7").await,
            _ => soon(client.request(&get)).await.unwrap(),
        };
        assert_eq!(answer.body.seen, 7);
    }
    let flows = running.recorder.ended(4).await;
    for (flow, has_tls) in flows.iter().zip([false, false, true, true]) {
        assert_eq!(flow.started.connection.front, Front::Reverse);
        assert_eq!(flow.started.connection.tls.is_ok(), has_tls);
        assert_eq!(flow.started.connection.hello.is_some(), has_tls);
    }
    for request in upstream.wait_for_requests(4).await {
        let host = request
            .headers
            .get("host")
            .or_else(|| request.headers.get(":authority"));
        assert!(
            host.is_none_or(|host| host == authority_of(&upstream)),
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn a_reverse_listener_leads_neither_elsewhere_nor_to_itself() {
    let upstream = http().await;
    let reverse = Listener::reverse(loopback(), to("http", &upstream));
    let running = at(reverse).await;
    let mut client = running.connect().await;
    client
        .send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        .await
        .unwrap();
    let answer = soon(client.read_response("GET")).await.unwrap();
    assert_eq!(answer.head.status, 501);

    let free = std::net::TcpListener::bind(loopback()).unwrap();
    let own = free.local_addr().unwrap();
    drop(free);
    let itself = format!("http://{own}").parse().unwrap();
    let running = at(Listener::reverse(own, itself)).await;
    let mut client = running.connect().await;
    let get = Request::get("/").host("a");
    assert_eq!(soon(client.request(&get)).await.unwrap().head.status, 508);
}

#[tokio::test]
async fn a_proxy_is_reached_by_tls() {
    let (plain, tls) = (http().await, https(Protocols::Both).await);
    let minted = crate::running::upstream_authority().issue(&[NAME]);
    let given = Identity::from_pem(minted.chain_pem(), minted.key_pem());
    let listener = any_port().with_tls(ListenerTls::Given(given.unwrap()));
    let running = at(listener).await;
    let trusted = |alpn: &[&str]| {
        let root = crate::running::upstream_authority().certificate();
        testbed::authority::client_config(&[root], alpn)
    };
    let url = format!("http://{}/bytes/7", authority_of(&plain));
    let mut client = running.connect().await;
    soon(client.start_tls(NAME, trusted(&["http/1.1"])))
        .await
        .unwrap();
    let get = Request::get(&url).host("a");
    assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 7);

    // TLS within TLS: what is inside is opened with oriel's own authority.
    let mut client = running.connect().await;
    soon(client.start_tls(NAME, trusted(&[]))).await.unwrap();
    let host = authority_of(&tls);
    let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.send(connect).await.unwrap();
    assert_eq!(soon(client.read_head()).await.unwrap().status, 200);
    let config = running.client_config(&["h2"]);
    soon(client.start_tls(NAME, config)).await.unwrap();
    let answer = get_http2(client, &format!("https://{host}/bytes/7")).await;
    assert_eq!(answer.body.seen, 7);

    let mut client = running.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let nothing = soon(client.read_to_end()).await.unwrap_or_default();
    assert_eq!(nothing, "", "who speaks no TLS is not answered");
    let flows = running.recorder.ended(2).await;
    assert_eq!(flows.len(), 2);
    let outer = flows[0].started.connection.tls.as_ref().unwrap();
    assert_eq!(outer.alpn.as_deref(), Some("http/1.1"));
    let inner = flows[1].started.connection.tls.as_ref().unwrap();
    assert_eq!(inner.alpn.as_deref(), Some("h2"));
}

#[tokio::test]
async fn a_load_balancer_says_where_the_client_is() {
    let upstream = http().await;
    let mut listener = any_port();
    listener.proxy_protocol = true;
    let running = Running::with(|config| {
        config.listeners = vec![listener];
        // The upstream is on loopback, and the client is said to be elsewhere.
        config.dial_guard.private = PrivateReach::Everybody;
        config.attribution = Some(Duration::from_secs(1));
    });
    let running = running.await;
    let url = format!("http://{}/bytes/7", authority_of(&upstream));
    let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    version_2.extend_from_slice(&[192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 80]);
    for header in [
        &b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n"[..],
        &version_2,
    ] {
        let mut client = running.connect().await;
        client.send(header.to_vec()).await.unwrap();
        let get = Request::get(&url).host("a");
        assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 7);
    }
    let mut local = running.connect().await;
    local.send("PROXY UNKNOWN\r\n").await.unwrap();
    soon(local.request(&Request::get(&url).host("a")))
        .await
        .unwrap();
    let flows = running.recorder.ended(3).await;
    for flow in &flows[..2] {
        let connection = &flow.started.connection;
        assert_eq!(connection.client_address.to_string(), "192.0.2.7:12345");
        assert!(connection.process.is_none(), "it is not this machine's");
        assert_eq!(connection.tls, Err(NoTls::PlainHttp));
    }
    let local = &flows[2].started.connection;
    assert!(local.client_address.to_string().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn without_its_header_a_connection_is_closed() {
    let mut listener = any_port();
    listener.proxy_protocol = true;
    let running = Running::with(|config| {
        config.listeners = vec![listener];
        config.timeouts.head = Duration::from_millis(300);
    });
    let running = running.await;
    for said in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROXY TCP4 nowhere\r\n",
        "PROXY TCP4 1",
        "",
    ] {
        let mut client = running.connect().await;
        client.send(said).await.unwrap();
        // A close with unread bytes may be a reset.
        let answered = soon(client.read_to_end()).await.unwrap_or_default();
        assert_eq!(answered, "", "{said}");
    }
    assert!(running.recorder.flows().is_empty());

    // Where it is not asked for, it is not understood: nobody can say to be somebody else.
    let running = Running::start().await;
    let mut client = running.connect().await;
    client
        .send("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n\r\n")
        .await
        .unwrap();
    let answer = soon(client.read_response("GET")).await.unwrap();
    assert_eq!(answer.head.status, 505, "it is read as HTTP");
}
