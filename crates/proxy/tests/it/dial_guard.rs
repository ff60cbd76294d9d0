//! Clients of other machines reach nothing private through the proxy, by whatever front they ask.

use std::net::SocketAddr;

use oriel_proxy::{Listener, ProxyConfig, ReverseTo};
use testbed::client::{Client, Request};
use testbed::upstream::{Protocols, Upstream};
use traffic::rules::gateway::{
    ClientCredentials, Gateway, GatewayAction, GatewayRoute, GatewayRoutes, GatewayToken,
    GatewayUrl,
};
use traffic::rules::pattern::HostPatterns;
use traffic::rules::private::{DialGuard, PrivateReach};
use traffic::rules::route::Unlisted;
use traffic::{FailureKind, Side};

use crate::running::{NAME, Running, any_port, authority_of, http, https, rules};
use crate::soon;

/// A proxy with a listener for this machine, and one behind a load balancer.
async fn running(change: impl FnOnce(&mut ProxyConfig)) -> (Running, SocketAddr) {
    let running = Running::with(|config| {
        let mut balanced: Listener = any_port();
        balanced.proxy_protocol = true;
        config.listeners = vec![any_port(), balanced];
        change(config);
    })
    .await;
    let balanced = running.control.addresses()[1].tcp().unwrap();
    (running, balanced)
}

/// A client that connects from elsewhere.
async fn stranger(balanced: SocketAddr) -> Client {
    let mut client = Client::connect(balanced).await.unwrap();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 6743\r\n";
    client.send(header).await.unwrap();
    client
}

async fn get(mut client: Client, upstream: &Upstream) -> (u16, String) {
    let url = format!("http://{}/bytes/7", authority_of(upstream));
    let answer = soon(client.request(&Request::get(&url).host("a"))).await;
    let answer = answer.unwrap();
    (answer.head.status, answer.text())
}

async fn connect(client: &mut Client, upstream: &Upstream) -> u16 {
    let authority = authority_of(upstream);
    let asked = Request::new("CONNECT", &authority).host(&authority);
    client.send(asked.to_bytes()).await.unwrap();
    soon(client.read_head()).await.unwrap().status
}

#[tokio::test]
async fn a_stranger_reaches_nothing_private_by_any_front() {
    let (plain, tls) = (http().await, https(Protocols::Both).await);
    let (running, balanced) = running(|config| {
        let closed = format!("{NAME}:{}", plain.address().port());
        config.rules = rules(&["*"], &[&closed], Unlisted::Tunnel);
    })
    .await;
    // What a client of this machine reached stays in the pool, and is not for strangers.
    assert_eq!(get(running.connect().await, &plain).await.0, 200);

    let (status, body) = get(stranger(balanced).await, &plain).await;
    assert_eq!(status, 403);
    assert!(
        body.contains("private_allow") && body.contains("loopback"),
        "{body}"
    );
    // A tunnel is refused before anything passes.
    assert_eq!(connect(&mut stranger(balanced).await, &plain).await, 403);
    // On an opened connection the first request is.
    let mut client = stranger(balanced).await;
    assert_eq!(connect(&mut client, &tls).await, 200);
    let config = running.client_config(&["h2", "http/1.1"]);
    soon(client.start_tls(NAME, config)).await.unwrap();
    let client = client.start_http2().await.unwrap();
    let request = http::Request::get(format!("https://{NAME}/bytes/7"));
    let request = request.body(bytes::Bytes::new()).unwrap();
    assert_eq!(
        soon(client.request(request)).await.unwrap().head.status,
        403
    );
    // SOCKS 5 says that its rules do not allow it.
    let mut client = stranger(balanced).await;
    let mut asked = vec![5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1];
    asked.extend(plain.address().port().to_be_bytes());
    client.send(asked).await.unwrap();
    let told = soon(client.read_to_end()).await.unwrap();
    assert_eq!(told[..4], [5, 0, 5, 2]);

    let flows = running.recorder.ended(5).await;
    for flow in &flows[1..] {
        let failure = flow.failure().0;
        let told = (failure.side, failure.kind);
        assert_eq!(told, (Side::Oriel, FailureKind::AddressDenied));
    }
    assert_eq!((plain.connection_count(), tls.connection_count()), (1, 0));
}

#[tokio::test]
async fn the_rules_say_who_reaches_what() {
    let upstream = http().await;
    let allowed = [authority_of(&upstream)];
    let range = ["127.0.0.0/8".to_owned(), "[::1]".to_owned()];
    for (private, allowed, local, strange) in [
        (PrivateReach::LocalClients, &[][..], 200, 403),
        (PrivateReach::Everybody, &[], 200, 200),
        (PrivateReach::Nobody, &[], 403, 403),
        (PrivateReach::Nobody, &allowed[..], 200, 200),
        (PrivateReach::Nobody, &range[..], 200, 200),
    ] {
        let (running, balanced) = running(|config| {
            let allowed = HostPatterns::parse(allowed).unwrap();
            config.dial_guard = DialGuard { private, allowed };
        })
        .await;
        let case = format!("{private:?} {allowed:?}");
        assert_eq!(
            get(running.connect().await, &upstream).await.0,
            local,
            "{case}"
        );
        let client = stranger(balanced).await;
        assert_eq!(get(client, &upstream).await.0, strange, "{case}");
    }
}

#[tokio::test]
async fn what_the_configuration_names_is_no_client_s_doing() {
    let upstream = http().await;
    let url = format!("http://{}/bytes/7", authority_of(&upstream));
    let gateway = Gateway {
        url: GatewayUrl::parse(&url, None).unwrap(),
        token: GatewayToken::None,
        client_credentials: ClientCredentials::Keep,
        request_id_field: None,
        direct: false,
    };
    let route = GatewayRoute {
        name: "a".to_owned(),
        hosts: HostPatterns::parse(&["a.example"]).unwrap(),
        methods: Vec::new(),
        paths: Vec::new(),
        action: GatewayAction::Send(Box::new(gateway)),
    };
    let to: ReverseTo = format!("http://{}", authority_of(&upstream))
        .parse()
        .unwrap();
    let (running, balanced) = running(|config| {
        config.gateways = GatewayRoutes::new(vec![route]);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut reverse = Listener::reverse(any, to);
        reverse.proxy_protocol = true;
        config.listeners.push(reverse);
    })
    .await;
    let mut client = stranger(balanced).await;
    let asked = Request::get("http://a.example/x").host("a.example");
    assert_eq!(soon(client.request(&asked)).await.unwrap().head.status, 200);
    let reverse = running.control.addresses()[2].tcp().unwrap();
    let mut client = stranger(reverse).await;
    let asked = Request::get("/bytes/7").host("a.example");
    assert_eq!(soon(client.request(&asked)).await.unwrap().head.status, 200);
}
