//! Requests that go to a gateway in the place of their upstream: what the gateway is asked, what
//! stays behind, and what is recorded.

use bytes::Bytes;
use oriel_proxy::{Credentials, Listener, ProxyConfig};
use testbed::client::{Client, Request, Response};
use testbed::script::Step;
use testbed::upstream::{Protocols, Received, Upstream};
use traffic::rules::gateway::{
    ClientCredentials, Gateway, GatewayAction, GatewayRoute, GatewayRoutes, GatewayToken,
    GatewayUrl, PathPattern,
};
use traffic::rules::pattern::HostPatterns;
use traffic::{Event, FailureKind, Rerouted};

use crate::recorder::FlowSeen;
use crate::running::{NAME, Running, any_port, authority_of, http, https, scripted};
use crate::soon;

const LOGIN: &str = "Proxy-Authorization: Basic YW55Om91ci10b2tlbg==\r\n";

/// What the gateway of these tests answers to the paths that it is asked for.
const OF_GATEWAY: u16 = 404;

fn to(scheme: &str, upstream: &Upstream) -> Gateway {
    let url = format!(
        "{scheme}://{}/api/{{provider}}{{path}}",
        authority_of(upstream)
    );
    Gateway {
        url: GatewayUrl::parse(&url, Some("anthropic")).unwrap(),
        token: GatewayToken::OfLogin {
            field: "authorization".to_owned(),
        },
        client_credentials: ClientCredentials::Drop,
        request_id_field: Some("x-request-id".to_owned()),
        direct: false,
    }
}

fn route(paths: &[&str], action: GatewayAction) -> GatewayRoute {
    let paths = paths.iter().map(|path| PathPattern::parse(path).unwrap());
    GatewayRoute {
        name: "a route".to_owned(),
        hosts: HostPatterns::parse(&["*"]).unwrap(),
        methods: Vec::new(),
        paths: paths.collect(),
        action,
    }
}

fn sends(gateway: Gateway) -> GatewayRoute {
    route(&["/v1/*"], GatewayAction::Send(Box::new(gateway)))
}

/// A proxy that wants a login, with these routes.
async fn running(routes: Vec<GatewayRoute>, change: impl FnOnce(&mut ProxyConfig)) -> Running {
    Running::with(|config| {
        let mut listener: Listener = any_port();
        listener.admission = Some(Credentials::new("any", "our-token").into());
        config.listeners = vec![listener];
        config.gateways = GatewayRoutes::new(routes);
        change(config);
    })
    .await
}

/// Asks for an upstream's connection, as who may, and speaks TLS on it where there is an ALPN.
async fn connect(running: &Running, upstream: &Upstream, alpn: Option<&[&str]>) -> Client {
    let mut client = running.connect().await;
    let authority = authority_of(upstream);
    let asked = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{LOGIN}\r\n");
    client.send(asked).await.unwrap();
    soon(client.read_until("\r\n\r\n")).await.unwrap();
    if let Some(alpn) = alpn {
        let config = running.client_config(alpn);
        soon(client.start_tls(NAME, config)).await.unwrap();
    }
    client
}

fn rerouted(flow: &FlowSeen) -> Vec<Rerouted> {
    let told = flow.events.iter().filter_map(|event| match event {
        Event::Rerouted(told) => Some(Rerouted::clone(told)),
        _ => None,
    });
    told.collect()
}

/// What holds of each request that came to the gateway, however it came.
fn check(received: &Received, told: &Rerouted, gateway: &Upstream, scheme: &str) {
    let field = |name| received.headers.all(name).collect::<Vec<_>>();
    assert_eq!(received.path(), "/api/anthropic/v1/messages");
    assert_eq!(received.query("beta"), Some("1"));
    assert_eq!(field("authorization"), ["Bearer our-token"]);
    assert_eq!(field("x-api-key"), [""; 0]);
    assert_eq!(field("proxy-authorization"), [""; 0]);
    assert_eq!(field("x-kept"), ["yes"]);
    let host = authority_of(gateway);
    let named: Vec<_> = [field("host"), field(":authority")].concat();
    assert_eq!(named, [&*host]);
    let id = told.request_id.as_deref().unwrap();
    assert_eq!(field("x-request-id"), [id]);
    assert_eq!(told.route, "a route");
    let url = format!("{scheme}://{host}/api/anthropic/v1/messages?beta=1");
    assert_eq!(told.url, url);
}

#[tokio::test]
async fn a_request_goes_to_the_gateway_in_every_version() {
    for (asked, protocols) in [
        (&["http/1.1"][..], Protocols::Http1),
        (&["http/1.1"], Protocols::Http2),
        (&["h2", "http/1.1"], Protocols::Http1),
        (&["h2", "http/1.1"], Protocols::Http2),
    ] {
        let meant = https(Protocols::Both).await;
        let gateway = https(protocols).await;
        let running = running(vec![sends(to("https", &gateway))], |_| ()).await;
        let client = connect(&running, &meant, Some(asked)).await;
        // The gateway speaks for the host it stands for: HTTP/2 is offered if it does.
        let spoken = client.wire().unwrap().alpn().map(<[u8]>::to_vec);
        let answer = match spoken.as_deref() {
            Some(b"h2") => post_http2(client, &authority_of(&meant)).await,
            _ => post_http1(client, &authority_of(&meant)).await,
        };
        assert_eq!(answer.head.status, OF_GATEWAY, "{asked:?} {protocols:?}");
        let received = gateway.wait_for_requests(1).await.remove(0);
        let flow = running.recorder.only_flow().await;
        let told = rerouted(&flow);
        assert_eq!(told.len(), 1);
        check(&received, &told[0], &gateway, "https");
        // The record says what the client asked for.
        assert_eq!(flow.started.target.to_string(), authority_of(&meant));
        assert_eq!(meant.request_count(), 0);
    }
}

async fn post_http1(mut client: Client, host: &str) -> Response {
    let request = Request::post("/v1/messages?beta=1", "hello")
        .host(host)
        .header("X-Api-Key", "of the client")
        .header("Authorization", "Bearer of the client")
        .header("X-Request-Id", "spoofed")
        .header("X-Kept", "yes");
    soon(client.request(&request)).await.unwrap()
}

async fn post_http2(client: Client, host: &str) -> Response {
    let client = client.start_http2().await.unwrap();
    let request = http::Request::post(format!("https://{host}/v1/messages?beta=1"))
        .header("x-api-key", "of the client")
        .header("authorization", "Bearer of the client")
        .header("x-request-id", "spoofed")
        .header("x-request-id", "twice")
        .header("x-kept", "yes")
        .body(Bytes::from_static(b"hello"))
        .unwrap();
    soon(client.request(request)).await.unwrap()
}

#[tokio::test]
async fn all_else_of_a_request_stays_as_it_came() {
    let answer = "HTTP/1.1 200 Fine\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n";
    let gateway = scripted(
        false,
        vec![vec![Step::read_until("END"), Step::send(answer)]],
    )
    .await;
    let meant = http().await;
    let running = running(vec![sends(to("http", &gateway))], |_| ()).await;
    let mut client = connect(&running, &meant, None).await;
    let sent = "POST /v1/a%2Fb//c?x=%zz HTTP/1.1\r\nx-FIRST:1\r\nhOST: a.example\r\nCookie: a=b\r\n\
         aUTHORIZATION:  mine\r\nX-b: 2\r\nx-B:3\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nEND\r\n";
    client.send(sent).await.unwrap();
    let answered = soon(client.read_head()).await.unwrap();
    assert_eq!(answered.status, 200);
    let played = soon(gateway.wait_for_scripts(1)).await.remove(0);
    let received = String::from_utf8_lossy(&played.received).into_owned();
    let id = received
        .split("x-request-id: ")
        .nth(1)
        .unwrap()
        .split('\r')
        .next()
        .unwrap();
    assert_eq!(id.len(), 36);
    let host = authority_of(&gateway);
    let expected = format!(
        "POST /api/anthropic/v1/a%2Fb//c?x=%zz HTTP/1.1\r\nx-FIRST:1\r\nhOST: {host}\r\n\
         aUTHORIZATION: Bearer our-token\r\nX-b: 2\r\nx-B:3\r\nTransfer-Encoding: chunked\r\n\
         x-request-id: {id}\r\n\r\n3;e\r\nEND\r\n"
    );
    assert_eq!(received, expected);
}

#[tokio::test]
async fn clients_may_bring_their_own_keys() {
    let (meant, gateway) = (http().await, http().await);
    let gateways = [
        (
            GatewayToken::OfLogin {
                field: "x-our-token".to_owned(),
            },
            "our-token",
        ),
        (
            GatewayToken::Shared {
                field: "x-our-token".to_owned(),
                token: "shared".to_owned().into(),
            },
            "shared",
        ),
    ];
    for (count, (token, said)) in (1..).zip(gateways) {
        let gateway_route = Gateway {
            token,
            client_credentials: ClientCredentials::Keep,
            request_id_field: None,
            ..to("http", &gateway)
        };
        let running = running(vec![sends(gateway_route)], |_| ()).await;
        // Plain HTTP, asked of the proxy itself.
        let mut client = running.connect().await;
        let url = format!("http://{}/v1/x", authority_of(&meant));
        let request = Request::get(&url)
            .host("a")
            .header("Proxy-Authorization", "Basic YW55Om91ci10b2tlbg==")
            .header("Authorization", "Bearer mine")
            .header("X-Our-Token", "spoofed");
        let answer = soon(client.request(&request)).await.unwrap();
        assert_eq!(answer.head.status, OF_GATEWAY);
        let received = gateway.wait_for_requests(count).await.pop().unwrap();
        assert_eq!(received.headers.get("authorization"), Some("Bearer mine"));
        assert_eq!(
            received.headers.all("x-our-token").collect::<Vec<_>>(),
            [said]
        );
        assert_eq!(received.headers.get("proxy-authorization"), None);
    }
    assert_eq!(meant.request_count(), 0);
}

#[tokio::test]
async fn a_key_in_the_query_stays_behind_with_those_in_fields() {
    let (meant, gateway) = (http().await, http().await);
    let asked = "/v1/x?alt=sse&key=mine&%61ccess_token=mine&q=%20";
    for (count, client_credentials, expected) in [
        (2_u8, ClientCredentials::Drop, "/v1/x?alt=sse&q=%20"),
        (4, ClientCredentials::Keep, asked),
    ] {
        let gateway_route = Gateway {
            client_credentials,
            ..to("http", &gateway)
        };
        let running = running(vec![sends(gateway_route)], |_| ()).await;
        let mut http1 = connect(&running, &meant, None).await;
        soon(http1.request(&Request::get(asked).host("a")))
            .await
            .unwrap();
        let http2 = connect(&running, &meant, None).await;
        let http2 = http2.start_http2().await.unwrap();
        let get = http::Request::get(format!("http://{NAME}{asked}"));
        soon(http2.request(get.body(Bytes::new()).unwrap()))
            .await
            .unwrap();
        for flow in running.recorder.ended(2).await {
            let told = rerouted(&flow).pop().unwrap();
            assert!(told.url.ends_with(expected), "{}", told.url);
        }
        for received in gateway
            .wait_for_requests(count.into())
            .await
            .split_off(usize::from(count) - 2)
        {
            assert!(received.target.ends_with(expected), "{}", received.target);
        }
    }
}

#[tokio::test]
async fn what_no_route_names_goes_where_it_was_meant_to() {
    let (meant, gateway) = (http().await, http().await);
    let running = running(vec![sends(to("http", &gateway))], |_| ()).await;
    let mut client = connect(&running, &meant, None).await;
    let get = |path: &str| {
        Request::get(path)
            .host("a")
            .header("Authorization", "Bearer mine")
    };
    soon(client.request(&get("/bytes/1"))).await.unwrap();
    soon(client.request(&get("/v1/x"))).await.unwrap();
    soon(client.request(&get("/bytes/2"))).await.unwrap();
    let seen = meant.wait_for_requests(2).await;
    assert_eq!(seen[0].headers.get("authorization"), Some("Bearer mine"));
    assert_eq!((meant.request_count(), gateway.request_count()), (2, 1));
}

#[tokio::test]
async fn a_route_may_refuse_and_none_lets_a_path_climb() {
    let (meant, gateway) = (http().await, http().await);
    let routes = vec![
        route(&["/v1/files*"], GatewayAction::Refuse),
        sends(to("http", &gateway)),
    ];
    let running = running(routes, |_| ()).await;
    let mut client = connect(&running, &meant, None).await;
    for (path, told) in [
        ("/v1/files/7", "lets none pass"),
        ("/v1/%66iles", "lets none pass"),
        ("//v1//files/7", "lets none pass"),
        ("/v1/./files/7", "read in two ways"),
        ("/x/../v1/files/7", "read in two ways"),
        ("/x/..%2fv1/files/7", "read in two ways"),
        ("/v1/../../admin", "`..`"),
        ("/v1/%2e%2e/%2e%2e/admin", "`..`"),
    ] {
        let answer = soon(client.request(&Request::get(path).host("a")))
            .await
            .unwrap();
        assert_eq!(answer.head.status, 403, "{path}");
        assert!(answer.text().contains(told), "{}", answer.text());
    }
    for flow in running.recorder.ended(8).await {
        assert_eq!(flow.failure().0.kind, FailureKind::RequestBlocked);
    }
    assert_eq!((meant.request_count(), gateway.request_count()), (0, 0));
}

#[tokio::test]
async fn the_host_itself_need_not_be_there() {
    // Its port was given back to the system.
    let gone = http().await;
    let nowhere = authority_of(&gone);
    gone.stop().await;
    let gateway = https(Protocols::Both).await;
    let running = running(vec![sends(to("https", &gateway))], |_| ()).await;
    let mut client = running.connect().await;
    let asked = format!("CONNECT {nowhere} HTTP/1.1\r\nHost: {nowhere}\r\n{LOGIN}\r\n");
    client.send(asked).await.unwrap();
    soon(client.read_until("\r\n\r\n")).await.unwrap();
    let config = running.client_config(&["h2", "http/1.1"]);
    soon(client.start_tls(NAME, config)).await.unwrap();
    assert_eq!(post_http2(client, &nowhere).await.head.status, OF_GATEWAY);
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_told_to_those_who_are_sent_there() {
    let (meant, gateway) = (https(Protocols::Both).await, https(Protocols::Both).await);
    let running = running(vec![sends(to("https", &gateway))], |_| ()).await;
    gateway.stop().await;
    let mut client = connect(&running, &meant, Some(&["http/1.1"])).await;
    for (path, status) in [("/bytes/7", 200), ("/v1/messages", 502), ("/bytes/7", 200)] {
        let request = Request::get(path).host(NAME);
        let answer = soon(client.request(&request)).await.unwrap();
        assert_eq!(answer.head.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_websocket_goes_to_the_gateway_too() {
    let (meant, gateway) = (http().await, https(Protocols::Both).await);
    let whole = Gateway {
        url: GatewayUrl::parse(&format!("https://{}", authority_of(&gateway)), None).unwrap(),
        ..to("https", &gateway)
    };
    let to_websocket = Gateway {
        url: GatewayUrl::parse(
            &format!("https://{}/websocket", authority_of(&gateway)),
            None,
        )
        .unwrap(),
        ..whole
    };
    let running = running(vec![sends(to_websocket)], |_| ()).await;
    let mut client = connect(&running, &meant, None).await;
    client
        .send(
            "GET /v1/realtime HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = soon(client.read_head()).await.unwrap();
    assert_eq!(answer.status, 101);
    let received = gateway.wait_for_requests(1).await.remove(0);
    assert_eq!(
        received.headers.get("authorization"),
        Some("Bearer our-token")
    );
}
