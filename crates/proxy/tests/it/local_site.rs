//! A host that the proxy answers for itself, by every way that leads to it.

use std::sync::Arc;

use bytes::Bytes;
use oriel_proxy::{Listener, LocalResponse, LocalSite, ProxyConfig};
use testbed::client::{Client, Request};
use traffic::Host;
use traffic::rules::route::Unlisted;

use crate::running::{Running, http, rules};
use crate::soon;

/// No such name is delegated: a test that dialled it would fail.
const SITE: &str = "pages.invalid";

fn site(config: &mut ProxyConfig) {
    let page = |body: &'static str| LocalResponse {
        status: 200,
        headers: [("content-type", "text/plain")]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect(),
        body: Bytes::from_static(body.as_bytes()),
    };
    let site = LocalSite::new(Host::parse(SITE).unwrap())
        .with_page("/", page("home"))
        .with_page("/a?b=1", page("with a query"));
    config.local_site = Some(Arc::new(site));
    // What the rules say of it does not matter.
    config.rules = rules(&[], &[], Unlisted::Block);
}

#[tokio::test]
async fn http1_is_answered_in_every_form_on_one_connection() {
    let running = Running::with(site).await;
    let mut client = running.connect().await;
    for (method, target, status, body) in [
        ("GET", "http://pages.invalid/", 200, "home"),
        (
            "GET",
            "http://PAGES.invalid:8080/a?b=1",
            200,
            "with a query",
        ),
        ("GET", "/", 200, "home"),
        ("HEAD", "/", 200, ""),
        ("GET", "/other", 404, "there is no such page\n"),
        ("DELETE", "/", 405, "only GET and HEAD\n"),
        ("GET", "/a?b=1", 200, "with a query"),
    ] {
        let request = Request::new(method, target).host(SITE);
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.head.status, status, "{method} {target}");
        assert_eq!(response.text(), body, "{method} {target}");
        let headers = &response.head.headers;
        if method == "HEAD" {
            assert_eq!(headers.get("content-length"), Some("4"));
        }
        assert_eq!(headers.get("allow").is_some(), status == 405);
    }
    let post = Request::post("/", "a body that nobody reads").host(SITE);
    let response = soon(client.request(&post)).await.unwrap();
    assert_eq!(response.head.status, 405);
    assert_eq!(response.head.headers.get("connection"), Some("close"));
    assert!(running.recorder.events().is_empty(), "it is no flow");
}

#[tokio::test]
async fn http2_is_answered_too() {
    let running = Running::with(site).await;
    let client = running.connect().await.start_http2().await.unwrap();
    for (method, status, body) in [
        ("GET", 200, "home"),
        ("HEAD", 200, ""),
        ("PUT", 405, "only GET and HEAD\n"),
    ] {
        let request = http::Request::builder().method(method);
        let request = request.uri(format!("http://{SITE}/")).body(Bytes::new());
        let response = soon(client.request(request.unwrap())).await.unwrap();
        assert_eq!(
            (response.head.status, response.text().as_str()),
            (status, body)
        );
    }
    assert!(running.recorder.events().is_empty(), "it is no flow");
}

#[tokio::test]
async fn a_tunnel_to_it_ends_here() {
    let running = Running::with(site).await;
    let through = |port: u16| async move {
        let authority = format!("{SITE}:{port}");
        soon(Client::connect_through(running.address, &authority))
            .await
            .unwrap()
    };
    let mut client = through(80).await;
    let request = Request::get("/").host(SITE);
    assert_eq!(soon(client.request(&request)).await.unwrap().text(), "home");
    for alpn in ["http/1.1", "h2"] {
        let mut client = through(443).await;
        let config = running.client_config(&[alpn]);
        soon(client.start_tls(SITE, config)).await.unwrap();
        let text = match alpn {
            "h2" => {
                let client = client.start_http2().await.unwrap();
                let request = http::Request::get(format!("https://{SITE}/")).body(Bytes::new());
                soon(client.request(request.unwrap())).await.unwrap().text()
            }
            _ => soon(client.request(&request)).await.unwrap().text(),
        };
        assert_eq!(text, "home", "{alpn}");
    }
    assert!(running.recorder.events().is_empty(), "it is no flow");
    // Something else is passed to nobody.
    let mut client = through(80).await;
    client.send("SSH-2.0-x\r\n").await.unwrap();
    assert!(soon(client.read_to_end()).await.unwrap().is_empty());
    let flow = running.recorder.only_flow().await;
    assert_eq!(flow.failure().0.kind, traffic::FailureKind::Blocked);
}

#[tokio::test]
async fn a_reverse_listener_has_no_such_host() {
    let upstream = http().await;
    let to = format!("http://{}", upstream.address()).parse().unwrap();
    let running = Running::with(|config| {
        site(config);
        config.listeners = vec![Listener::reverse(config.listeners[0].address.clone(), to)];
    })
    .await;
    let mut client = running.connect().await;
    let request = Request::get("/bytes/7").host(SITE);
    assert_eq!(soon(client.request(&request)).await.unwrap().body.seen, 7);
}
