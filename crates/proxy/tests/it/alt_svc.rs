//! Offers of HTTP/3, which a client would follow past the proxy.

use oriel_proxy::ProxyConfig;
use testbed::client::{Request, Response};
use testbed::upstream::Protocols;
use traffic::Event;
use traffic::rules::pattern::HostPatterns;

use crate::running::{NAME, Running, https};
use crate::soon;

const HTTP3: &str = r#"h3=":443"; ma=86400, h3-29=":443""#;
const HTTP2: &str = r#"h2="near.example:443"; ma=60"#;

/// Asks with a client and an upstream of these versions.
async fn ask(
    client: &str,
    upstream: Protocols,
    path: &str,
    change: impl FnOnce(&mut ProxyConfig),
) -> (Running, Response) {
    let upstream = https(upstream).await;
    let running = Running::with(change).await;
    let mut connection = running.through_tls(&upstream, &[client]).await;
    // A field of a request has no say in it.
    let hint = ("X-HTTP3-Passthrough", "1");
    let response = if client == "h2" {
        let connection = connection.start_http2().await.unwrap();
        let request = http::Request::get(format!("https://{NAME}{path}"));
        let request = request.header(hint.0, hint.1).body(bytes::Bytes::new());
        soon(connection.request(request.unwrap())).await.unwrap()
    } else {
        let request = Request::get(path).host(NAME).header(hint.0, hint.1);
        soon(connection.request(&request)).await.unwrap()
    };
    (running, response)
}

fn offers(response: &Response) -> Vec<&str> {
    response.head.headers.all("alt-svc").collect()
}

#[tokio::test]
async fn offers_of_http3_stay_behind_and_are_recorded() {
    for (client, upstream) in [
        ("http/1.1", Protocols::Http1),
        ("http/1.1", Protocols::Http2),
        ("h2", Protocols::Both),
    ] {
        let (running, mixed) = ask(client, upstream, "/alt-svc", |_| ()).await;
        assert_eq!(offers(&mixed), [HTTP2], "{client} {upstream:?}");
        let flow = running.recorder.only_flow().await;
        let head = flow.events.iter().find_map(|event| match event {
            Event::ResponseStarted { head, .. } => Some(head.clone()),
            _ => None,
        });
        let text = String::from_utf8_lossy(&head.unwrap().text).into_owned();
        assert!(text.contains(HTTP3) && text.contains(HTTP2), "{text}");

        let (_running, only) = ask(client, upstream, "/alt-svc/h3", |_| ()).await;
        assert_eq!(offers(&only), ["clear"], "{client} {upstream:?}");
    }
}

#[tokio::test]
async fn offers_stay_where_the_configuration_says_so() {
    let off = |config: &mut ProxyConfig| config.alt_svc.strip = false;
    let passed = |config: &mut ProxyConfig| {
        config.alt_svc.http3_passthrough = HostPatterns::parse(&[NAME]).unwrap();
    };
    let elsewhere = |config: &mut ProxyConfig| {
        config.alt_svc.http3_passthrough = HostPatterns::parse(&["other.example"]).unwrap();
    };
    for client in ["http/1.1", "h2"] {
        let path = "/alt-svc/h3";
        let (_running, response) = ask(client, Protocols::Both, path, off).await;
        assert_eq!(offers(&response), [HTTP3], "{client}");
        let (_running, response) = ask(client, Protocols::Both, path, passed).await;
        assert_eq!(offers(&response), [HTTP3], "{client}");
        let (_running, response) = ask(client, Protocols::Both, path, elsewhere).await;
        assert_eq!(offers(&response), ["clear"], "{client}");
    }
}
