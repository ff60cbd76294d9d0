//! How much may go on at once, and what becomes of the rest: a whole 503 that says when to come
//! again, in both versions of HTTP.

use std::sync::Arc;

use bytes::Bytes;
use oriel_proxy::{InterceptHandler, ListenerTls, RawResponse};
use parking_lot::Mutex;
use testbed::client::{Http2Client, Request, Response};
use testbed::gate::Gate;
use testbed::upstream::Protocols;
use traffic::Host;

use crate::embedded::{Embedded, LetsPass};
use crate::running::{NAME, Running, any_port, authority_of, http, https};
use crate::soon;

fn get(path: &str) -> Request {
    Request::get(path).host(NAME)
}

/// Fails unless it is a whole refusal that invites to come again.
fn check_busy(response: &Response) {
    assert_eq!(response.head.status, 503, "{}", response.text());
    assert_eq!(response.head.headers.get("retry-after"), Some("1"));
    let length = response.head.headers.get("content-length").unwrap();
    assert_eq!(response.body.seen.to_string(), length);
    assert!(response.body.seen > 0 && response.body.broken.is_none());
}

async fn get_http2(client: &Http2Client, path: &str) -> Response {
    let request = http::Request::get(format!("https://{NAME}{path}"));
    let request = request.body(Bytes::new()).unwrap();
    soon(client.request(request)).await.unwrap()
}

async fn until(proxy: &Embedded, reached: impl Fn(&oriel_proxy::Metrics) -> bool) {
    soon(async {
        while !reached(&proxy.handle.metrics()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_flows_than_allowed_are_under_way() {
    let (plain, tls) = (http().await, https(Protocols::Both).await);
    let proxy = Embedded::start(LetsPass, |config| config.limits.max_concurrent_flows = 1).await;
    let (mut first, mut second) = (proxy.through(&plain).await, proxy.through(&plain).await);
    let third = proxy.through_tls(&tls, &["h2"]).await;
    let third = third.start_http2().await.unwrap();
    first.send(get("/hang").to_bytes()).await.unwrap();
    until(&proxy, |metrics| metrics.active_flows == 1).await;

    check_busy(&soon(second.request(&get("/"))).await.unwrap());
    check_busy(&get_http2(&third, "/").await);
    let mut connect = proxy.connect().await;
    let target = authority_of(&plain);
    let asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    connect.send(asked).await.unwrap();
    check_busy(&soon(connect.read_response("CONNECT")).await.unwrap());

    // The connections are as good as before.
    first.reset().unwrap();
    until(&proxy, |metrics| metrics.active_flows == 0).await;
    let response = soon(second.request(&get("/"))).await.unwrap();
    assert_eq!(response.head.status, 200);
    assert_eq!(get_http2(&third, "/").await.head.status, 200);
}

#[tokio::test]
async fn a_client_has_no_more_connections_than_allowed() {
    let upstream = http().await;
    let proxy = Embedded::start(LetsPass, |config| {
        config.limits.max_connections_per_client = 1;
    })
    .await;
    let mut first = proxy.through(&upstream).await;
    let url = format!("http://{}/", authority_of(&upstream));
    let asked = Request::get(&url).host("x");
    let mut second = proxy.connect().await;
    check_busy(&soon(second.request(&asked)).await.unwrap());
    let third = proxy.connect().await.start_http2().await.unwrap();
    let request = http::Request::get(&url).body(Bytes::new()).unwrap();
    check_busy(&soon(third.request(request)).await.unwrap());
    assert_eq!(proxy.handle.metrics().refused_connections, 2);

    assert_eq!(
        soon(first.request(&get("/"))).await.unwrap().head.status,
        200
    );
    drop(first);
    until(&proxy, |metrics| metrics.active_connections == 0).await;
    let mut fourth = proxy.connect().await;
    assert_eq!(soon(fourth.request(&asked)).await.unwrap().head.status, 200);
}

#[tokio::test]
async fn a_client_that_speaks_tls_to_the_proxy_hears_that_it_has_too_many_connections() {
    let running = Running::with(|config| {
        let names = vec![Host::parse(NAME).unwrap()];
        config.listeners = vec![any_port().with_tls(ListenerTls::Minted(names))];
        config.governor.connections_per_client_max = 1;
    })
    .await;
    let dial = async |protocol: &str| {
        let mut client = running.connect().await;
        let config = running.client_config(&[protocol]);
        soon(client.start_tls(NAME, config)).await.unwrap();
        client
    };
    let _first = dial("http/1.1").await;
    let mut second = dial("http/1.1").await;
    let asked = Request::get("http://a.example/").host("a.example");
    check_busy(&soon(second.request(&asked)).await.unwrap());
    let third = dial("h2").await.start_http2().await.unwrap();
    let request = http::Request::get("http://a.example/");
    let request = request.body(Bytes::new()).unwrap();
    check_busy(&soon(third.request(request)).await.unwrap());
    assert_eq!(running.control.metrics().refused_connections, 2);
    running.stop().await;
}

/// Keeps how much of the last response it was shown.
#[derive(Clone, Default)]
struct Shown {
    response: Arc<Mutex<Option<(usize, bool)>>>,
    told: Gate,
}

impl InterceptHandler for Shown {
    async fn on_response(&self, response: &RawResponse) {
        let shown = (response.body.len(), response.body_view.truncated);
        *self.response.lock() = Some(shown);
        self.told.open();
    }
}

#[tokio::test]
async fn no_more_bytes_are_held_than_allowed() {
    let (plain, tls) = (http().await, https(Protocols::Both).await);
    let proxy = Embedded::start(LetsPass, |config| {
        config.body.buffer_request_bodies = true;
        config.limits.max_held_bytes = 1000;
    })
    .await;
    for (size, fits) in [(1000, true), (1001, false)] {
        let mut client = proxy.through(&plain).await;
        let request = Request::post("/upload", vec![b'x'; size]).host(NAME);
        let response = soon(client.request(&request)).await.unwrap();
        match fits {
            true => assert_eq!(response.head.status, 200),
            false => check_busy(&response),
        }
        let client = proxy.through_tls(&tls, &["h2"]).await;
        let client = client.start_http2().await.unwrap();
        let request = http::Request::post(format!("https://{NAME}/upload"));
        let request = request.body(vec![b'x'; size].into()).unwrap();
        let response = soon(client.request(request)).await.unwrap();
        match fits {
            true => assert_eq!(response.head.status, 200),
            false => check_busy(&response),
        }
    }
    until(&proxy, |metrics| metrics.held_bytes == 0).await;
}

#[tokio::test]
async fn what_is_shown_of_a_response_is_cut_where_there_is_no_room() {
    let (upstream, shown) = (http().await, Shown::default());
    let proxy = Embedded::start(shown.clone(), |config| config.limits.max_held_bytes = 1000).await;
    let mut client = proxy.through(&upstream).await;
    let response = soon(client.request(&get("/bytes/5000"))).await.unwrap();
    assert_eq!(response.body.seen, 5000, "the wire is whole");
    soon(shown.told.wait()).await;
    let (size, truncated) = shown.response.lock().unwrap();
    assert!(size <= 1000 && truncated, "{size} {truncated}");
    until(&proxy, |metrics| metrics.held_bytes == 0).await;
}
